//! The streams that `meshcat` is given: in which mode they are, how they begin, and when they are
//! read.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use support::{Cat, DEADLINE, Line};

/// Does what a program that shares the stream may have done.
fn set_non_blocking(stream: &impl AsFd) {
    let flags = fcntl_getfl(stream).expect("its flags");
    fcntl_setfl(stream, flags | OFlags::NONBLOCK).expect("other flags");
}

/// A node on `lines`, made by the command, and its only peer.
fn plain(options: &str, change: impl FnOnce(&mut std::process::Command)) -> (Cat, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("its address");
    let options = format!("--seed {addr} --wire lines --events {options}");
    let mut command = Cat::command(&options);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    change(&mut command);
    let cat = Cat::start_command(&mut command);
    (cat, accept(&listener))
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (socket, _) = listener.accept().expect("a dial");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    socket
}

#[test]
fn a_stdin_that_does_not_block_is_waited_for() {
    let (pipe, pipe_end) = std::io::pipe().expect("a pipe");
    let (socket, socket_end) = UnixStream::pair().expect("a pair of sockets");
    let ends: [(OwnedFd, OwnedFd); 2] = [
        (pipe.into(), pipe_end.into()),
        (socket.into(), socket_end.into()),
    ];
    for (stdin, end) in ends {
        set_non_blocking(&stdin);
        let (mut cat, peer) = plain("--once", |command| {
            command.stdin(stdin);
        });
        let mut end = File::from(end);
        let mut lines = BufReader::new(peer).lines();
        // Each time it has found nothing more to read, sooner or later.
        for n in 0..50 {
            writeln!(end, "{n}").expect("it is read");
            let line = lines.next().expect("a line").expect("no reset");
            assert_eq!(line, n.to_string());
        }
        drop((end, lines));
        assert_eq!(cat.left().sent, 50);
    }
}

#[test]
fn a_stdout_that_does_not_block_is_waited_for() {
    let (mut end, stdout) = UnixStream::pair().expect("a pair of sockets");
    end.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    set_non_blocking(&stdout);
    let (mut cat, mut peer) = plain("", |command| {
        command.stdout(OwnedFd::from(stdout));
    });
    let sent: String = (0..200_000).map(|n| format!("{n:031}\n")).collect();
    let length = sent.len();
    let bytes = sent.clone();
    let writer = thread::spawn(move || peer.write_all(bytes.as_bytes()).map(|()| peer));
    let mut heard = vec![0; length];
    for piece in heard.chunks_mut(64 * 1024) {
        // A reader's pace, so that it has no room most of the time.
        thread::sleep(Duration::from_millis(1));
        end.read_exact(piece).expect("all of it");
    }
    assert!(heard == sent.as_bytes());
    drop(writer.join().expect("no panic").expect("all is taken"));
    assert_eq!(cat.stop().delivered, 200_000);
    let reports = cat.process().stderr().all();
    assert!(reports.iter().all(|line| !line.contains("cannot write")));
}

#[test]
fn a_stderr_that_does_not_block_is_waited_for() {
    let (pipe, stderr) = std::io::pipe().expect("a pipe");
    set_non_blocking(&stderr);
    let (stdin, mut end) = std::io::pipe().expect("a pipe");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("its address");
    let options = format!("--seed {addr} --wire lines --events --codec json --once");
    let mut command = Cat::command(&options);
    command.stdin(stdin).stdout(Stdio::null()).stderr(stderr);
    let mut child = command.spawn().expect("it starts");
    drop(command);
    let peer = accept(&listener);
    // Reports of more than fits a pipe, of which nobody reads any before the last is made.
    let bad = 20_000;
    end.write_all("no message {\n".repeat(bad).as_bytes())
        .and_then(|()| end.write_all(b"end\n"))
        .expect("it is read");
    drop(end);
    let mut lines = BufReader::new(peer).lines();
    let line = lines.next().expect("a line").expect("no reset");
    assert!(line.contains("\"end\""), "{line}");
    drop(lines);
    let (mut reports, mut missed, mut stats) = (0, 0, 0);
    for line in BufReader::new(pipe).lines() {
        let line = line.expect("it is text");
        let line = Line::parse(&line).unwrap_or_else(|| panic!("a line is cut: {line}"));
        if line.is("error") && line.text("error").contains("of stdin is not sent") {
            reports += 1;
        } else if line.is("missed") {
            missed += line.number("events");
        } else if line.is("stats") {
            stats += 1;
        }
    }
    // What was left out for want of room is counted, with the other events that were.
    assert!(reports >= 4096, "{reports}");
    assert!(reports + missed >= bad as u64, "{reports} and {missed}");
    assert!(reports + missed < bad as u64 + 10, "{reports} and {missed}");
    assert_eq!(stats, 1);
    assert_eq!(child.wait().expect("it ended").code(), Some(1));
}

/// Sends bytes in pieces of this size, and returns the lines that a peer gets of them.
fn lines_of(options: &str, bytes: &[u8], piece: usize) -> String {
    let (stdin, mut end) = std::io::pipe().expect("a pipe");
    let (mut cat, mut peer) = plain(&format!("--once {options}"), |command| {
        command.stdin(stdin);
    });
    for piece in bytes.chunks(piece) {
        end.write_all(piece).expect("it is read");
    }
    drop(end);
    let mut heard = String::new();
    peer.read_to_string(&mut heard).expect("text, and an end");
    drop(peer);
    cat.left();
    heard
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_line() {
    for piece in [1, 2, 100] {
        let heard = lines_of("", "\u{feff}one\n\u{feff}two\n".as_bytes(), piece);
        assert_eq!(heard, "one\n\u{feff}two\n");
        let heard = lines_of("--max-frame 3", "\u{feff}one".as_bytes(), piece);
        assert_eq!(heard, "one\n");
        let heard = lines_of("--codec json", "\u{feff}one 1\n".as_bytes(), piece);
        assert_eq!(heard, "{\"type\":\"one\",\"body\":1}\n");
        assert_eq!(lines_of("", "\u{feff}".as_bytes(), piece), "");
        assert_eq!(lines_of("", "\u{feff}\n".as_bytes(), piece), "");
        // Half of one is none.
        let (stdin, mut end) = std::io::pipe().expect("a pipe");
        end.write_all(b"\xef\xbb\n").expect("it has room");
        drop(end);
        let (mut cat, mut peer) = plain("--once", |command| {
            command.stdin(stdin);
        });
        let mut heard = Vec::new();
        peer.read_to_end(&mut heard).expect("an end");
        drop(peer);
        assert_eq!(heard, b"\xef\xbb\n");
        cat.left();
    }
}

#[test]
fn a_type_that_begins_with_a_byte_order_mark_is_written_so_that_it_stays_one() {
    for codec in ["json", "msgpack"] {
        let options = format!("--codec {codec}");
        let first = Cat::listen(&options);
        let mut second = Cat::dial(&first.addr(), &options);
        let line = "\"\u{feff}beep\" 1";
        second.say(line);
        first.hear(line);
        second.say("\"\\ufeffbeep\" 2");
        first.hear("\"\u{feff}beep\" 2");
        second.say("\u{feff}beep 3");
        second.error("line 3 of stdin is not sent");
        second.say("beep\u{feff} 4");
        first.hear("beep\u{feff} 4");
    }
}

#[test]
fn numbers_that_a_codec_would_change_are_reported_and_not_sent() {
    let lines = [
        ("a 18446744073709551615", true),
        ("a 18446744073709551616", false),
        ("a -9223372036854775808", true),
        ("a {\"deep\":[-9223372036854775809]}", false),
        ("a 1e+300", true),
        ("a 1e400", false),
        ("end 0", true),
    ];
    for codec in ["msgpack", "json"] {
        let options = format!("--codec {codec}");
        let first = Cat::listen(&options);
        let mut second = Cat::dial(&first.addr(), &options);
        let mut expected = Vec::new();
        for (number, (line, kept)) in (1..).zip(lines) {
            second.say(line);
            if kept || codec == "json" {
                expected.push(line.to_owned());
            } else {
                second.error(&format!("line {number} of stdin is not sent"));
            }
        }
        first.hear("end 0");
        assert_eq!(first.heard(), expected, "{codec}");
        let stats = second.stop();
        assert_eq!(stats.sent, expected.len() as u64, "{codec}");
    }
}

#[test]
fn stdin_waits_for_so_many_peers() {
    let mut cat = Cat::listen("--wire lines --peers 2");
    cat.say("one");
    let mut peers: Vec<_> = (0..2)
        .map(|_| {
            let peer = TcpStream::connect(cat.addr()).expect("it listens");
            peer.set_read_timeout(Some(DEADLINE)).expect("a timeout");
            cat.connected();
            peer
        })
        .collect();
    // So the first of them gets the first line too.
    for peer in &mut peers {
        let mut line = [0; 4];
        peer.read_exact(&mut line).expect("a line");
        assert_eq!(&line, b"one\n");
    }
    drop(peers);
    cat.disconnected();
    cat.disconnected();
    // Later one is enough.
    let mut peer = TcpStream::connect(cat.addr()).expect("it listens");
    peer.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    cat.connected();
    cat.say("two");
    let mut line = [0; 4];
    peer.read_exact(&mut line).expect("a line");
    assert_eq!(&line, b"two\n");
    drop(peer);
    cat.stop();
}
