use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use crate::{DEADLINE, Process, example};

/// The web example, and where it is.
pub struct Web {
    pub process: Process,
    pub url: String,
    /// Where it accepts peers on the native wire.
    pub mesh: String,
}

/// The head of a request for a WebSocket.
pub const WEBSOCKET: &str = "GET /mesh HTTP/1.1\nHost: {host}\nConnection: keep-alive, Upgrade\nUpgrade: websocket\n\
                                    Sec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

impl Web {
    /// Starts one with these options, parted by spaces, in addition to those that say where it is.
    #[track_caller]
    pub fn start(options: &str) -> Self {
        let process = Process::spawn(
            "web",
            Command::new(example("web"))
                .args(["--http", "127.0.0.1:0", "--listen", "127.0.0.1:0"])
                .args(options.split_whitespace())
                .env("NO_COLOR", "1")
                .env("RUST_LOG", "info"),
        );
        let url = process.wait_stdout("its address", |line| Some(line.to_owned()));
        let mesh = process.wait_stderr("the mesh's address", |line| {
            let (_, addr) = line.split_once("listening addr=")?;
            Some(addr.to_owned())
        });
        Self { process, url, mesh }
    }

    pub fn authority(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    #[track_caller]
    pub fn connect(&self) -> TcpStream {
        self.connect_from(0)
    }

    /// Connects from another address of this machine: 127.0.0.N, or any where that is 0.
    #[track_caller]
    pub fn connect_from(&self, n: u8) -> TcpStream {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        if n > 0 {
            let from = SocketAddr::from(([127, 0, 0, n], 0));
            socket.bind(&from.into()).expect("an address of loopback");
        }
        let addr: SocketAddr = self.authority().parse().expect("an address");
        socket.connect(&addr.into()).expect("it listens");
        let socket = TcpStream::from(socket);
        socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        socket
    }

    /// Sends a request's head, and reads the head of the answer.
    pub fn exchange(&self, socket: &mut TcpStream, head: &str) -> std::io::Result<String> {
        let head = head.replace("{host}", self.authority());
        let head = head.replace('\n', "\r\n");
        write!(socket, "{head}\r\n\r\n")?;
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") {
            socket.read_exact(&mut byte)?;
            answer.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Sends a request's head on a new connection, and reads the head of the answer.
    #[track_caller]
    pub fn ask(&self, head: &str) -> String {
        let mut socket = self.connect();
        self.exchange(&mut socket, head).expect("an answer")
    }

    #[track_caller]
    pub fn status(&self, head: &str) -> u16 {
        let answer = self.ask(head);
        answer[9..12].parse().expect("a status")
    }

    /// Joins as a browser does, from 127.0.0.N; `None` where it is turned away.
    #[track_caller]
    pub fn join_from(&self, n: u8) -> Option<TcpStream> {
        let mut socket = self.connect_from(n);
        let asks = format!("{WEBSOCKET}\nOrigin: http://{{host}}");
        let answer = self.exchange(&mut socket, &asks).ok()?;
        answer.starts_with("HTTP/1.1 101").then_some(socket)
    }
}

/// A binary message of a WebSocket, as a browser sends it, if its random mask came out as zero.
pub fn binary_message(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("it is short");
    let length = match length {
        0..126 => vec![0x80 | length as u8],
        _ => [&[0x80 | 126][..], &length.to_be_bytes()].concat(),
    };
    [&[0x82], &length[..], &[0; 4], bytes].concat()
}
