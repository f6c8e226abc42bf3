//! WebSockets with who means harm: bytes by hand, against a listener, the service for upgrades, and
//! a dialling node.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use coalescent::upgrade::{Upgrade, WebSocket};
use coalescent::websocket::Ws;
use coalescent::{App, Mesh};
use support::{soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const HEAD: &str = "GET /mesh HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// The largest frame of the mesh that is attacked, in bytes.
const MAX_FRAME: usize = 1000;

fn app() -> App {
    App::new().transport(Ws::new()).max_frame(MAX_FRAME)
}

/// A mesh with an honest peer, behind a listener of its own and behind a web server.
struct Attacked {
    mesh: Mesh,
    honest: Mesh,
    addrs: [SocketAddr; 2],
}

impl Attacked {
    async fn start(app: App) -> Self {
        let mesh = app.listen("ws://127.0.0.1:0/mesh").await.unwrap();
        let address = mesh.local_addresses()[0].clone();
        let upgrade = Upgrade::new(&mesh)
            .remote_addr(|_| Some(SocketAddr::from(([127, 0, 0, 1], 7))))
            .websocket(WebSocket::native());
        let site = Router::new().route_service("/mesh", upgrade);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addrs = [
            address.socket_addr().unwrap(),
            listener.local_addr().unwrap(),
        ];
        tokio::spawn(async move { axum::serve(listener, site).await.unwrap() });
        let seeds = [address.to_string()];
        let honest = self::app().seeds(seeds).start().await.unwrap();
        soon("a peer", honest.connected(1)).await.unwrap();
        soon("a peer", mesh.connected(1)).await.unwrap();
        Self {
            mesh,
            honest,
            addrs,
        }
    }

    /// The honest peer is the only one, has not been disturbed, and is heard.
    async fn goes_on(&self) {
        until("the others are gone", || self.mesh.peers().len() == 1).await;
        let mut heard = self.mesh.reader();
        let sent = self.honest.broadcast_payload("still here").await;
        assert_eq!(sent.unwrap().queued, 1);
        let frame = soon("it is heard", heard.next_frame()).await.unwrap();
        assert_eq!(frame.payload(), b"still here");
    }
}

/// Opens a WebSocket by hand.
async fn open(addr: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    socket.write_all(HEAD.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon("an answer", socket.read_u8()).await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    socket
}

/// Reads until the other end hangs up, however it does so.
async fn read_to_end(socket: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A connection that is reset is at its end too.
    let _ = soon("its end", socket.read_to_end(&mut bytes)).await;
    bytes
}

/// A frame of a client, whose mask changes nothing. `length` is what it claims to have.
fn frame(first: u8, length: u64, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match length {
        0..126 => frame.push(0x80 | length as u8),
        126..0x1_0000 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&length.to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

#[tokio::test]
async fn frames_that_break_the_rules_cost_their_sender_alone() {
    let attacked = Attacked::start(app()).await;
    let all = |frames: &[Vec<u8>]| frames.concat();
    let part = |first| frame(first, 1000, &[0; 1000]);
    for (what, bytes, code) in [
        ("no mask", vec![0x82, 1, 0], 1002),
        ("a compressed message", frame(0xc2, 1, &[0]), 1002),
        ("a reserved kind", frame(0x83, 1, &[0]), 1002),
        ("text", frame(0x81, 1, b"x"), 1003),
        ("nothing is continued", frame(0x80, 1, &[0]), 1002),
        (
            "a message within a message",
            all(&[frame(0x02, 1, &[0]), frame(0x82, 1, &[0])]),
            1002,
        ),
        ("a large ping", frame(0x89, 200, &[0; 200]), 1002),
        ("half a ping", frame(0x09, 1, &[0]), 1002),
        ("2^63 - 1 bytes", frame(0x82, u64::MAX >> 1, &[]), 1009),
        ("2^64 - 1 bytes", frame(0x82, u64::MAX, &[]), 1009),
        ("a ping of 2^32 bytes", frame(0x89, 1 << 32, &[]), 1009),
    ] {
        for addr in attacked.addrs {
            let mut socket = open(addr).await;
            // It may hang up before all is written.
            let _ = socket.write_all(&bytes).await;
            let answer = read_to_end(&mut socket).await;
            // In front of it may be the introduction of the mesh.
            let told = answer.windows(4).any(|frame| {
                frame[0] == 0x88 && frame[1] < 126 && frame[2..] == u16::to_be_bytes(code)
            });
            assert!(told, "{what}: {answer:x?}");
        }
    }
    // Who leaves in the middle of a head, of a message, or of one of several frames.
    for bytes in [
        &[0x82, 0x80 | 127, 0][..],
        &frame(0x82, 100, &[0; 50]),
        &all(&[frame(0x02, 1, &[0]), frame(0x88, 2, &[3, 232])]),
        &frame(0x88, 1, &[3]),
        // Too large in pieces: what is left unread may cost it the reason.
        &all(&[vec![part(0x02)], vec![part(0x00); 80]].concat()),
    ] {
        for addr in attacked.addrs {
            let mut socket = open(addr).await;
            let _ = socket.write_all(bytes).await;
            let _ = socket.shutdown().await;
            read_to_end(&mut socket).await;
        }
    }
    attacked.goes_on().await;
}

#[tokio::test]
async fn floods_end_with_the_time_for_the_handshake() {
    let app = app().configure(|config| config.handshake_timeout = Duration::from_millis(500));
    let attacked = Attacked::start(app).await;
    // Without end, and without reading what is answered.
    for flood in [
        frame(0x89, 125, &[0; 125]),
        frame(0x8a, 0, &[]),
        frame(0x82, 0, &[]),
        [frame(0x02, 0, &[]), frame(0x80, 0, &[])].concat(),
    ] {
        let flood = flood.repeat(100);
        for addr in attacked.addrs {
            let mut socket = open(addr).await;
            let flooding = async { while socket.write_all(&flood).await.is_ok() {} };
            soon("it is cut off", flooding).await;
        }
    }
    attacked.goes_on().await;
}

#[tokio::test]
async fn heads_without_an_end_keep_nobody_out() {
    let attacked = Attacked::start(app().configure(|config| {
        config.handshake_timeout = Duration::from_millis(500);
        config.max_pending = 4;
    }))
    .await;
    let addr = attacked.addrs[0];
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut socket = TcpStream::connect(addr).await.unwrap();
        socket.write_all(b"GET /mesh HTTP").await.unwrap();
        slow.push(socket);
    }
    let other = app().start().await.unwrap();
    let address = format!("ws://{addr}/mesh");
    soon("a peer", other.connect(&address)).await.unwrap();
    other.shutdown().await;
    for mut socket in slow {
        let answer = read_to_end(&mut socket).await;
        assert!(answer.starts_with(b"HTTP/1.1 503 "), "{answer:?}");
    }
    // A huge one, in one line, in many, and byte by byte.
    for line in ["x".repeat(8192), "x: y\r\n".repeat(1000), "x".to_owned()] {
        let mut socket = TcpStream::connect(addr).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let writing = async {
            let _ = socket.write_all(b"GET /mesh HTTP/1.1\r\n").await;
            while socket.write_all(line.as_bytes()).await.is_ok() {}
        };
        soon("it is cut off", writing).await;
    }
    attacked.goes_on().await;
}

#[tokio::test]
async fn who_finds_no_place_is_told_so_in_http() {
    let attacked = Attacked::start(app().max_inbound(1)).await;
    // It may be told before it has asked.
    let mut socket = TcpStream::connect(attacked.addrs[0]).await.unwrap();
    let answer = String::from_utf8(read_to_end(&mut socket).await).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(head.contains("\r\nRetry-After: 10"), "{head}");
    assert!(
        head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())),
        "{answer}"
    );
    // As HTTP, or as a goodbye in a WebSocket, if the request was there already.
    let other = app().start().await.unwrap();
    for addr in attacked.addrs {
        let address = format!("ws://{addr}/mesh");
        let connecting = other.connect(&address);
        let error = soon("an answer", connecting).await.unwrap_err();
        let text = error.report().to_string();
        assert!(error.is_busy() || text.contains("503 "), "{text}");
    }
    attacked.goes_on().await;
}

#[tokio::test]
async fn a_name_that_leads_here_does_not_make_a_page_one_of_this_server() {
    let mesh = App::new().start().await.unwrap();
    let upgrade = Upgrade::new(&mesh)
        .remote_addr(|_| Some(SocketAddr::from(([127, 0, 0, 1], 7))))
        .websocket(WebSocket::native())
        .hosts(["site.example"]);
    let site = Router::new().route_service("/mesh", upgrade);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, site).await.unwrap() });
    for (host, status) in [
        ("site.example:80", "101"),
        ("127.0.0.1:80", "101"),
        ("evil.example:80", "403"),
    ] {
        let asked = format!("Host: {host}\r\nOrigin: http://{host}");
        let mut socket = TcpStream::connect(addr).await.unwrap();
        let head = HEAD.replace("Host: here", &asked);
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        let reading = socket.read_exact(&mut answer);
        soon("an answer", reading).await.unwrap();
        assert_eq!(&answer[9..], status.as_bytes(), "{host}");
    }
}

/// What a hostile server writes once it is asked, and again and again after that.
struct Server {
    answer: fn(&str) -> Vec<u8>,
    again: Vec<u8>,
}

impl Server {
    async fn start(self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match socket.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => return,
                    }
                }
                let head = String::from_utf8(head).unwrap();
                let key = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(": ")?;
                    name.eq_ignore_ascii_case("sec-websocket-key")
                        .then_some(value)
                });
                let _ = socket.write_all(&(self.answer)(key.unwrap())).await;
                while !self.again.is_empty() && socket.write_all(&self.again).await.is_ok() {}
            }
        });
        addr
    }
}

fn opened(key: &str) -> Vec<u8> {
    let accept = derive_accept_key(key.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .into()
}

#[tokio::test]
async fn a_hostile_server_is_one_error_in_bounded_time() {
    let app = app().configure(|config| {
        config.connect_timeout = Duration::from_secs(2);
        config.handshake_timeout = Duration::from_secs(2);
    });
    let mesh = app.start().await.unwrap();
    let server = |answer, again: &[u8]| Server {
        answer,
        again: again.to_vec(),
    };
    let nothing = |_: &str| Vec::new();
    let masked = frame(0x82, 1, &[0]);
    for (what, server) in [
        ("another key", server(|_| opened("other"), &[])),
        (
            "an extension",
            server(
                |key| {
                    let answer = String::from_utf8(opened(key)).unwrap();
                    let extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
                    answer
                        .replace("\r\n\r\n", &format!("\r\n{extension}"))
                        .into()
                },
                &[0xc2, 1, 0],
            ),
        ),
        ("a head without an end", server(nothing, b"x: y\r\n")),
        ("a line without an end", server(nothing, &[b'x'; 4096])),
        (
            "a redirection",
            server(
                |_| b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\n\r\n".to_vec(),
                &[],
            ),
        ),
        ("masks", server(opened, &masked)),
        ("text", server(opened, &[0x81, 1, b'x'])),
        ("a compressed message", server(opened, &[0xc2, 1, 0])),
        (
            "2^63 bytes",
            server(opened, &[0x82, 127, 128, 0, 0, 0, 0, 0, 0, 0]),
        ),
        ("pings", server(opened, &[0x89, 0])),
        ("pieces of nothing", server(opened, &[0x02, 0, 0x80, 0])),
        ("a close", server(opened, &[0x88, 0])),
    ] {
        let addr = server.start().await;
        let address = format!("ws://{addr}/");
        let connecting = mesh.connect(&address);
        let error = soon("its end", connecting).await.unwrap_err();
        let error = error.report().to_string();
        assert!(error.contains(&addr.to_string()), "{what}: {error}");
        assert!(!error.contains('\n'), "{what}: {error}");
    }
    assert!(mesh.peers().is_empty());
}
