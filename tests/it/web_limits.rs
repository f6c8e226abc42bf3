//! What browsers and strangers may take of the web example: frames, time and connections.

use std::io::{Read, Write};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use coalescent::wire::{Kind, NativeCodec, NodeId, Packet};
use support::{DEADLINE, Process, Web, binary_message, example, hello, packet};
use tokio_util::codec::Encoder;

/// Puts a frame into a message of a WebSocket.
fn message(packet: Packet) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    let mut codec = NativeCodec::new(1024);
    codec.encode(packet, &mut bytes).expect("a small frame");
    binary_message(&bytes)
}

#[test]
fn browsers_that_say_too_much_do_not_hold_up_what_servers_pass_on() {
    const BROWSERS: usize = 5;
    const EACH: usize = 200;
    let first = Web::start("");
    let second = Web::start(&format!("--seed {}", first.mesh));
    let cat = Process::spawn(
        "meshcat",
        Command::new(example("meshcat")).args([
            "--seed",
            &second.mesh,
            "--codec",
            "json",
            "--events",
        ]),
    );
    cat.wait_stderr("its peer", |line| {
        line.contains("peer_connected").then_some(())
    });
    first.process.wait_stderr("the other server", |line| {
        line.contains("connected").then_some(())
    });

    let start = Instant::now();
    let browsers: Vec<_> = (0..BROWSERS)
        .map(|browser| {
            let mut socket = first.join_from(0).expect("a place");
            thread::spawn(move || {
                let introduction = packet(Kind::Hello, hello(NodeId::random(), ""));
                socket
                    .write_all(&message(introduction))
                    .expect("it is read");
                for n in 0..EACH {
                    let text = format!(
                        r#"{{"type":"chat","body":{{"handle":"{browser}","text":"{n}"}}}}"#
                    );
                    let said = packet(Kind::Broadcast { nonce: n as u64 }, text);
                    socket.write_all(&message(said)).expect("it is read");
                }
                socket
            })
        })
        .collect();
    let all = |lines: &[&str]| {
        let said = lines.iter().filter(|line| line.starts_with("chat "));
        said.count() == BROWSERS * EACH
    };
    cat.stdout()
        .wait_until(DEADLINE, all)
        .expect("all that browsers said");
    let took = start.elapsed();
    // A browser's second hundred takes a second. Over one link they would all wait for one another,
    // for 9 s.
    assert!(took >= Duration::from_secs(1), "{took:?}");
    assert!(took < Duration::from_secs(6), "{took:?}");
    for browser in browsers {
        drop(browser.join().expect("no panic"));
    }
}

#[test]
fn a_request_that_does_not_come_costs_its_connection() {
    let web = Web::start("");
    let host = web.authority();
    let begun = [
        String::new(),
        "GET /".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\n"),
        // One that was answered, and none after it.
        format!("GET /page.css HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    ];
    let sockets = begun.map(|begun| {
        let mut socket = web.connect();
        socket.write_all(begun.as_bytes()).expect("it reads");
        socket
    });
    for mut socket in sockets {
        let mut answer = Vec::new();
        // It is cut, and perhaps told why; the time for that is the socket's.
        let end = socket.read_to_end(&mut answer);
        assert!(end.is_ok(), "still open after {DEADLINE:?}: {end:?}");
    }
    assert_eq!(web.status("GET / HTTP/1.1\nHost: {host}"), 200);
}

#[test]
fn one_address_does_not_take_all_places() {
    let web = Web::start("--connections 3 --per-address 2");
    let mut first = vec![web.join_from(1), web.join_from(1)];
    assert!(first.iter().all(Option::is_some));
    assert!(web.join_from(1).is_none(), "a third of one address");
    let other = web.join_from(2);
    assert!(other.is_some(), "the place that is left");
    assert!(web.join_from(3).is_none(), "a fourth in all");
    // Who leaves makes room.
    first.pop();
    let end = Instant::now() + DEADLINE;
    while web.join_from(1).is_none() {
        assert!(Instant::now() < end, "its place is not free again");
    }
}
