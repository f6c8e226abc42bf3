//! How `meshcat` ends: `--once`, signals, and an address that it cannot take, from outside.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use support::{Cat, DEADLINE, Process};

/// How many lines are sent, each of this many bytes: 20 MiB.
const LINES: usize = 20 * 1024;
const LINE: usize = 1024;

fn lines() -> String {
    let mut all = String::with_capacity(LINES * LINE);
    for n in 0..LINES {
        all.push_str(&format!("{n:0width$}\n", width = LINE - 1));
    }
    all
}

/// Accepts a peer whose bytes are read here.
fn accept(listener: &TcpListener) -> TcpStream {
    let (socket, _) = listener.accept().expect("a dial");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    socket
}

#[test]
fn once_leaves_when_all_of_stdin_is_flushed_to_a_peer_that_reads_slowly() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("its address");
    let mut cat = Cat::start(&format!("--seed {addr} --wire lines --once"));
    let mut socket = accept(&listener);
    let sent = lines();
    let mut stdin = cat.process().take_stdin();
    let bytes = sent.clone();
    let writer = thread::spawn(move || {
        std::io::Write::write_all(&mut stdin, bytes.as_bytes()).expect("it is read");
    });

    let (mut received, mut piece) = (Vec::new(), vec![0; 128 * 1024]);
    loop {
        match socket.read(&mut piece).expect("no reset") {
            0 => break,
            count => received.extend_from_slice(&piece[..count]),
        }
        // A reader's pace, not a wait: some 60 MB a second at the most.
        thread::sleep(Duration::from_millis(2));
    }
    writer.join().expect("all of it is read");

    assert!(received == sent.as_bytes(), "{} bytes", received.len());
    let stats = cat.left();
    assert_eq!(stats.sent, LINES as u64);
    assert_eq!(stats.dropped, 0);
}

#[test]
fn a_stdout_that_blocks_holds_back_the_peers_and_not_memory() {
    let mut receiver = Cat::listen_with_stdout("", Stdio::piped());
    let mut sender = Cat::dial(&receiver.addr(), "--once");
    let before = receiver.process().peak_memory();
    let sent = lines();
    let mut stdin = sender.process().take_stdin();
    let bytes = sent.clone();
    let (begun, half) = std::sync::mpsc::channel();
    let writer = thread::spawn(move || {
        // Half of an outbox: beyond that, whoever waits for room may have to until half is free
        // again.
        let (first, rest) = bytes.as_bytes().split_at(2 * 1024 * 1024);
        std::io::Write::write_all(&mut stdin, first).expect("it is read");
        begun.send(()).expect("somebody waits");
        std::io::Write::write_all(&mut stdin, rest).expect("it is read");
    });
    half.recv_timeout(DEADLINE)
        .expect("the first part is taken");
    assert!(sender.process().is_running());

    let mut stdout = receiver.process().take_stdout();
    let length = sent.len();
    let (all, read) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut received = vec![0; length];
        let result = stdout.read_exact(&mut received);
        // Nobody waits any more where it took too long.
        let _ = all.send(result.map(|()| received));
    });
    let received = read.recv_timeout(DEADLINE).unwrap_or_else(|_| {
        let told = [
            receiver.process().transcript(),
            sender.process().transcript(),
        ];
        panic!("not all of it came: {told:#?}");
    });
    let received = received.expect("all of it");
    assert!(received == sent.as_bytes());
    writer.join().expect("all of it is read");
    sender.left();
    let grown = receiver.process().peak_memory() - before;
    assert!(grown < 24 * 1024 * 1024, "grew by {grown} bytes");
    let stats = receiver.stop();
    assert_eq!(stats.delivered, LINES as u64);
}

/// A node with some 2 MB queued for a peer that has read nothing.
fn stuck() -> (Cat, TcpStream, String) {
    // One peer, so that `wait_refused` makes none.
    let mut cat = Cat::listen("--wire lines --max-inbound 1");
    let socket = TcpStream::connect(cat.addr()).expect("it listens");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    cat.connected();
    let mut sent = lines();
    sent.truncate(10 * 1024 * 1024);
    let mut stdin = cat.process().take_stdin();
    let bytes = sent.clone();
    thread::spawn(move || {
        // It leaves before it has read all.
        let _ = std::io::Write::write_all(&mut stdin, bytes.as_bytes());
    });
    (cat, socket, sent)
}

/// Waits until nobody accepts there any more, which is the first that a node does when told to
/// leave.
fn wait_refused(addr: &str) {
    let end = Instant::now() + DEADLINE;
    while TcpStream::connect(addr).is_ok() {
        assert!(Instant::now() < end, "it still accepts");
    }
}

#[test]
fn a_signal_flushes_what_is_queued_and_says_goodbye() {
    for signal in ["TERM", "INT", "HUP"] {
        let (mut cat, mut socket, sent) = stuck();
        let mut begin = vec![0; LINE];
        socket.read_exact(&mut begin).expect("a line");
        cat.process().signal(signal);
        wait_refused(&cat.addr());
        assert!(cat.process().is_running());
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).expect("an end, no reset");
        begin.extend_from_slice(&rest);
        assert!(sent.as_bytes().starts_with(&begin));
        assert_eq!(begin.last(), Some(&b'\n'), "the last line is whole");
        let stats = cat.left();
        assert_eq!(stats.sent, (begin.len() / LINE) as u64);
        assert_eq!(stats.dropped, 0);
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (mut cat, mut socket, _) = stuck();
    socket.read_exact(&mut [0; LINE]).expect("a line");
    cat.process().signal("INT");
    wait_refused(&cat.addr());
    assert!(cat.process().is_running());
    let start = Instant::now();
    cat.process().signal("INT");
    let status = cat.process().wait_exit();
    assert_ne!(status.code(), Some(0));
    // Far below the 10 s that flushing may take.
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn once_that_never_connected_has_failed() {
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = nobody.local_addr().expect("its address");
    drop(nobody);
    for (extra, status) in [("--once", 1), ("", 0)] {
        let mut cat = Cat::start(&format!("--seed {addr} {extra}"));
        cat.error("cannot connect");
        cat.process().close_stdin();
        cat.process().signal("TERM");
        cat.left_with(status);
        if status == 1 {
            cat.error("too few peers");
        }
    }
}

#[test]
fn once_that_was_told_to_leave_before_the_end_of_stdin_has_failed() {
    for signal in ["TERM", "INT", "HUP"] {
        let mut first = Cat::listen("");
        let mut second = Cat::dial(&first.addr(), "--once");
        second.say("one");
        first.hear("one");
        second.process().signal(signal);
        assert_eq!(second.left_with(1).sent, 1);
        second.error("not read to its end");
        first.stop();
    }
}

#[test]
fn once_says_which_lines_were_not_sent_and_has_failed() {
    let mut first = Cat::listen("--codec json");
    let mut second = Cat::dial(&first.addr(), "--codec json --once");
    second.say("a 1");
    second.say("b {");
    second.say("c 3");
    second.process().close_stdin();
    first.hear("a 1");
    first.hear("c 3");
    assert_eq!(second.left_with(1).sent, 2);
    second.error("line 2 of stdin is not sent");
    second.error("1 of its lines were not sent");
    let last = second.process().stderr().all();
    let last = last.last().expect("an event");
    assert!(last.contains("\"stats\""), "{last}");

    // The same in words, where nobody asked for events.
    let mut plain = Process::spawn(
        "meshcat",
        Cat::command(&format!("--seed {} --codec json --once", first.addr()))
            .env("RUST_LOG", "off"),
    );
    plain.writeln("b {");
    plain.close_stdin();
    assert_eq!(plain.wait_exit().code(), Some(1));
    plain.wait_stderr("what was not sent", |line| {
        line.starts_with("meshcat: not all of stdin was written: ")
            .then_some(())
    });
    first.stop();
}

#[test]
fn once_whose_stdin_cannot_be_read_has_failed() {
    let mut first = Cat::listen("");
    let directory = std::fs::File::open("/").expect("a directory");
    let options = format!("--seed {} --once --events", first.addr());
    let mut command = Cat::command(&options);
    let mut second = Cat::start_command(command.stdin(directory).stdout(Stdio::null()));
    second.error("cannot read stdin");
    assert_eq!(second.left_with(1).sent, 0);
    second.error("not read to its end");
    first.stop();
}

#[test]
fn once_with_all_of_stdin_written_has_not_failed() {
    for stdin in ["", "a", "a\n", "\n\n", "\u{feff}"] {
        for wire in ["native", "lines", "raw"] {
            let mut first = Cat::listen(&format!("--wire {wire}"));
            let mut second = Cat::dial(&first.addr(), &format!("--wire {wire} --once"));
            second.process().write(stdin.as_bytes());
            second.process().close_stdin();
            assert_eq!(second.left().dropped, 0);
            first.stop();
        }
    }
}

#[test]
fn a_peer_is_told_goodbye() {
    let mut first = Cat::listen("");
    let second = Cat::dial(&first.addr(), "");
    first.connected();
    first.stop();
    let reason = second.disconnected();
    assert!(
        reason.text("reason").starts_with("the peer left: "),
        "{}",
        reason.0
    );
}

#[test]
fn an_address_that_cannot_be_taken_is_status_1() {
    let taken = Cat::listen("");
    for extra in [&[][..], &["--events"]] {
        let addr = taken.addr();
        let mut command = Cat::command(&format!("--listen {addr}"));
        let output = command.args(extra).stdin(Stdio::null()).output();
        let output = output.expect("it runs");
        let (code, text) = (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr),
        );
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(&addr), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}
