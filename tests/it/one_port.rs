//! The example of one port: peers and browsers find their way by the first byte.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use coalescent::App;
use support::{DEADLINE, Process, example, soon};

/// Asks for the page, and returns its text.
fn ask(addr: &str) -> String {
    let mut socket = TcpStream::connect(addr).expect("it listens");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    socket
        .write_all(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    answer
}

#[tokio::test]
async fn peers_and_browsers_share_a_port() {
    let process = Process::spawn(
        "one_port",
        Command::new(example("one_port")).arg("127.0.0.1:0"),
    );
    let addr = process.wait_stdout("its address", |line| Some(line.to_owned()));
    assert!(ask(&addr).ends_with("0 peers\n"));

    let mesh = App::new().start().await.expect("it starts");
    let peer = soon("a peer", mesh.connect(&addr)).await.expect("a peer");
    process.wait_stderr("the peer", |line| {
        line.ends_with("is connected").then_some(())
    });
    let answer = ask(&addr);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("1 peers\n"), "{answer}");
    assert!(peer.is_connected());

    // What is neither is an error of its own connection.
    let mut other = TcpStream::connect(&addr).expect("it listens");
    other
        .write_all(&[0, 0, 0, 2, 0xff, 0xff])
        .expect("it reads");
    process.wait_stderr("no peer", |line| line.starts_with("no peer").then_some(()));
    assert!(peer.is_connected());
    assert!(ask(&addr).ends_with("1 peers\n"));
}
