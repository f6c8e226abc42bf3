//! Peers of the Node original among themselves: that the harness works, and that they do on the
//! wire what `tests/npm/README.md` says of them.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::json;
use support::{DEADLINE, NpmPeer, npm_ready};

#[test]
fn a_courier_message_arrives_at_another_peer() {
    if !npm_ready() {
        return;
    }
    let listener = NpmPeer::start(&["--use", "courier,router", "--route", "ping=pong"]);
    let mut dialer = NpmPeer::start(&["--use", "courier", "--seed", &listener.addr()]);
    dialer.wait("peerConnected");

    dialer.command(r#"broadcast ping {"time":1}"#);

    assert_eq!(listener.wait_message("ping"), json!({ "time": 1 }));
    assert_eq!(
        listener.wait("routed").field("message")["body"],
        json!({ "time": 1 })
    );
    assert_eq!(dialer.wait_message("pong"), json!({ "time": 1 }));
}

#[test]
fn a_relay_passes_on_what_only_its_neighbour_said() {
    if !npm_ready() {
        return;
    }
    let first = NpmPeer::start(&["--use", "courier"]);
    let mut last = NpmPeer::start(&["--use", "courier"]);
    let (a, b) = (first.addr(), last.addr());
    let middle = NpmPeer::start(&["--use", "tattletale,courier", "--seed", &a, "--seed", &b]);
    middle.wait("peerConnected");
    middle.wait("peerConnected");

    last.command("broadcast beep");

    assert_eq!(first.wait_message("beep"), json!({}));
    assert_eq!(middle.wait_message("beep"), json!({}));
}

#[test]
fn the_courier_writes_one_object_a_line() {
    if !npm_ready() {
        return;
    }
    let mut peer = NpmPeer::start(&["--use", "courier"]);
    let mut socket = TcpStream::connect(peer.addr()).expect("the peer listens");
    socket
        .set_read_timeout(Some(DEADLINE))
        .expect("a timeout can be set");
    peer.wait("peerConnected");

    peer.command(r#"broadcast beep {"sound":"boop"}"#);
    let mut line = String::new();
    BufReader::new(&socket)
        .read_line(&mut line)
        .expect("a line");
    assert_eq!(line, "{\"type\":\"beep\",\"body\":{\"sound\":\"boop\"}}\n");

    socket
        .write_all(b"not json\n{\"type\":\"a\",\"bo")
        .expect("a write");
    socket
        .write_all(b"dy\":1,\"headers\":{}}\r\n\n{\"type\":\"b\"}\n")
        .expect("a write");
    assert_eq!(peer.wait_message("a"), json!(1));
    assert_eq!(peer.wait_message("b"), json!({}));
}

#[test]
fn without_a_courier_a_peer_reads_bytes() {
    if !npm_ready() {
        return;
    }
    let listener = NpmPeer::start(&[]);
    let mut dialer = NpmPeer::start(&["--seed", &listener.addr()]);
    dialer.wait("peerConnected");

    dialer.command("writeln beep boop");

    listener.wait_text("beep boop\n");
}
