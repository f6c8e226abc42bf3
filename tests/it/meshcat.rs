//! `meshcat` from outside: lines, messages and bytes, from stdin to the peers and from them to
//! stdout.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use support::{Cat, DEADLINE};

/// A listener and one that has dialled it, with the same options.
fn pair(options: &str) -> (Cat, Cat) {
    let first = Cat::listen(options);
    let second = Cat::dial(&first.addr(), options);
    first.connected();
    (first, second)
}

/// A peer of plain bytes.
fn plain(cat: &Cat) -> TcpStream {
    let socket = TcpStream::connect(cat.addr()).expect("it listens");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    cat.connected();
    socket
}

fn read(socket: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    socket.read_exact(&mut bytes).expect("so many bytes");
    bytes
}

#[test]
fn each_line_is_a_frame_and_each_frame_a_line() {
    for wire in ["native", "lines"] {
        let (mut first, mut second) = pair(&format!("--wire {wire}"));
        second.process().write(b"one\n  two  \n\xc3\xb6\n");
        first.hear("one");
        first.hear("  two  ");
        first.hear("ö");
        // The last line counts without its newline.
        second.process().write(b"unfinished");
        second.process().close_stdin();
        first.hear("unfinished");
        // Peers talk back also after that.
        first.say("back");
        second.hear("back");
        let stats = second.stop();
        assert_eq!((stats.sent, stats.received), (4, 1), "{wire}");
        assert_eq!(first.stop().received, 4, "{wire}");
    }
}

#[test]
fn an_empty_line_is_a_frame_where_the_wire_has_a_place_for_it() {
    let (first, mut second) = pair("--wire native");
    second.process().write(b"a\n\nb\n");
    first.hear("b");
    assert_eq!(first.heard(), ["a", "", "b"]);

    let (first, mut second) = pair("--wire lines");
    second.process().write(b"a\n\nb\n");
    first.hear("b");
    assert_eq!(first.heard(), ["a", "b"]);
}

#[test]
fn lines_of_any_bytes_pass_unchanged() {
    let mut line: Vec<u8> = (0..=255).filter(|byte| *byte != b'\n').collect();
    line.push(b'\n');
    let mut native = Cat::listen("--wire native");
    let lines = Cat::listen("--wire lines --relay none");
    let mut socket = plain(&lines);
    let mut lines = lines;
    lines.process().write(&line);
    assert_eq!(read(&mut socket, line.len()), line);

    // Through the native wire and out again, as hex, since a line of these bytes is no text.
    let mut sender = Cat::dial(&native.addr(), "--wire native --once");
    sender.process().write(&line);
    sender.process().close_stdin();
    sender.left();
    let text = String::from_utf8_lossy(&line[..line.len() - 1]).into_owned();
    native.hear(&text);
    assert_eq!(native.stop().received, 1);
}

#[test]
fn raw_bytes_pass_unchanged_both_ways() {
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n * 7 % 256) as u8).collect();
    let mut cat = Cat::listen("--wire raw --max-frame 1000");
    let mut socket = plain(&cat);
    cat.process().write(&bytes);
    assert!(read(&mut socket, bytes.len()) == bytes);

    // No newline is added.
    socket.write_all(b"no newline, ").expect("a write");
    socket.write_all(b"but now\n").expect("a write");
    cat.hear("no newline, but now");
}

#[test]
fn a_line_over_the_limit_is_reported_and_not_sent() {
    let (first, mut second) = pair("--max-frame 10");
    second.say("0123456789a");
    second.say("0123456789");
    first.hear("0123456789");
    second.error("line 1 of stdin is not sent");
    assert_eq!(first.heard(), ["0123456789"]);
    assert_eq!(second.stop().sent, 1);
}

#[test]
fn a_message_that_would_end_its_line_early_is_reported_and_not_sent() {
    let (first, mut second) = pair("--wire lines --codec msgpack");
    second.process().write(b"a 1\nb \"\\n\"\nc 2\n");
    first.hear("c 2");
    second.error("line 2 of stdin is not sent");
    assert_eq!(first.heard(), ["a 1", "c 2"]);
    let stats = second.stop();
    assert_eq!((stats.sent, stats.dropped), (2, 0));
}

#[test]
fn a_peer_whose_line_is_over_the_limit_is_closed() {
    let cat = Cat::listen("--wire lines --max-frame 10");
    let mut socket = plain(&cat);
    socket
        .write_all(b"0123456789\n0123456789a\n")
        .expect("a write");
    cat.hear("0123456789");
    cat.disconnected();
    assert_eq!(socket.read(&mut [0; 1]).expect("an end, no reset"), 0);
    assert_eq!(cat.heard(), ["0123456789"]);
}

#[test]
fn messages_are_lines_of_a_type_and_json() {
    for codec in ["msgpack", "json"] {
        let (first, mut second) = pair(&format!("--codec {codec}"));
        let lines = [
            (r#"beep {"sound": "boop"}"#, r#"beep {"sound":"boop"}"#),
            ("nothing", "nothing null"),
            (r#""nothing else""#, r#""nothing else" null"#),
            (r#""" 1"#, r#""" 1"#),
            (r#""a b" [1,  2.5, true]"#, r#""a b" [1,2.5,true]"#),
            (r#""q\"uote" "x""#, r#""q\"uote" "x""#),
            (r#""\u0000\n" {}"#, r#""\u0000\n" {}"#),
            ("größe \"ü\"", "größe \"ü\""),
            ("\ta 1", ""),
            ("beep {", ""),
            ("beep 1 2", ""),
            ("\"open 1", ""),
            ("end 0", "end 0"),
        ];
        for (typed, _) in lines {
            second.say(typed);
        }
        first.hear("end 0");
        // An object left out reads as {} where Node's courier would have it so.
        let written = |line: &&str| !line.is_empty();
        let expected: Vec<_> = lines
            .iter()
            .map(|(_, line)| *line)
            .filter(written)
            .collect();
        let heard: Vec<_> = first.heard();
        assert_eq!(heard, expected, "{codec}");
        for number in [9, 10, 11, 12] {
            second.error(&format!("line {number} of stdin is not sent"));
        }
        let stats = second.stop();
        assert_eq!(stats.sent, 9, "{codec}");
    }
}

#[test]
fn what_is_no_message_is_an_error_and_not_written() {
    let cat = Cat::listen("--wire lines --codec json");
    let mut socket = plain(&cat);
    socket
        .write_all(b"not json\n\xff\n{\"type\":\"a\",\"body\":1}\n")
        .expect("a write");
    cat.hear("a 1");
    cat.error("");
    cat.error("");
    assert_eq!(cat.heard(), ["a 1"]);
}

#[test]
fn replies_answer_one_type_with_another() {
    for codec in ["msgpack", "json"] {
        let options = format!("--codec {codec} --reply ping=pong --reply \"a=b\"=\"c=d\"");
        let first = Cat::listen(&options);
        let mut second = Cat::dial(&first.addr(), &format!("--codec {codec}"));
        second.say(r#"other 0"#);
        second.say(r#"ping {"time":1}"#);
        second.say(r#"a=b 2"#);
        second.hear(r#"pong {"time":1}"#);
        second.hear("c=d 2");
        // What is answered is written too.
        first.hear("other 0");
        first.hear(r#"ping {"time":1}"#);
        first.hear("a=b 2");
        assert_eq!(second.stop().received, 2, "{codec}");
    }
}

#[test]
fn quiet_writes_no_frames_and_relays_them() {
    let mut middle = Cat::listen("--quiet");
    let first = Cat::dial(&middle.addr(), "");
    let mut last = Cat::dial(&middle.addr(), "");
    middle.connected();
    middle.connected();
    last.say("beep");
    first.hear("beep");
    let stats = middle.stop();
    assert_eq!((stats.delivered, stats.relayed), (1, 1));
    assert_eq!(middle.heard(), Vec::<String>::new());
}

#[test]
fn rate_limits_each_peer_by_itself() {
    let cat = Cat::listen("--wire lines --rate 5 --relay none");
    let mut fast = plain(&cat);
    let mut other = plain(&cat);
    let start = std::time::Instant::now();
    for n in 0..16 {
        fast.write_all(format!("fast {n}\n").as_bytes())
            .expect("a write");
    }
    cat.hear("fast 4");
    other.write_all(b"other\n").expect("a write");
    cat.hear("other");
    assert!(!cat.heard().contains(&"fast 15".to_owned()));
    // 16 frames are four periods, of which the first has no wait. All arrive: they wait, and are
    // not lost.
    cat.hear("fast 15");
    assert!(
        start.elapsed() >= Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
}

/// How much of stdin may be on its way to a peer that does not read: the outbox, two of meshcat's
/// chunks and its line, and what the system's socket buffers hold.
const ON_ITS_WAY: u64 = 16 * 1024 * 1024;

#[test]
fn stdin_waits_for_the_first_peer_and_then_for_the_peers() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stdin-waits");
    let line = format!("{}\n", "x".repeat(1023));
    let total = 48 * 1024;
    std::fs::write(&path, line.repeat(total)).expect("a file");
    let mut file = File::open(&path).expect("a file");
    // The process shares the place in the file with this handle, which so shows what it has read.
    let stdin = file.try_clone().expect("a second handle");
    let mut command = Cat::command("--listen 127.0.0.1:0 --wire lines --events");
    let cat = Cat::listen_command(command.stdin(stdin));
    let mut at = || file.stream_position().expect("a place");
    assert_eq!(at(), 0);

    let mut socket = plain(&cat);
    let mut read = 0;
    let mut most = 0;
    let mut piece = vec![0; 64 * 1024];
    while read < (total * 1024) as u64 {
        // Waits until it has read on, or what it may is used up.
        let ahead = at() - read;
        most = most.max(ahead);
        assert!(ahead <= ON_ITS_WAY, "{ahead} bytes are on their way");
        let count = socket.read(&mut piece).expect("more lines");
        assert_ne!(count, 0);
        read += count as u64;
    }
    assert_eq!(at(), (total * 1024) as u64);
    assert!(most > 0);
    let _ = std::fs::remove_file(path);
}

#[test]
fn what_nobody_took_before_all_left_goes_to_the_next_that_comes() {
    // Many lines and few, long ones, are put together in different ways.
    for size in [100, 3000] {
        let total: u64 = 24 * 1024 * 1024 / size;
        let width = size as usize - 1;
        let line = |n: u64| format!("{n:0>width$}\n");
        let name = format!("stdin-left-{size}");
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let text: String = (0..total).map(line).collect();
        std::fs::write(&path, text).expect("a file");
        let mut file = File::open(&path).expect("a file");
        let stdin = file.try_clone().expect("a second handle");
        let mut command = Cat::command("--listen 127.0.0.1:0 --wire lines --events --once");
        let mut cat = Cat::listen_command(command.stdin(stdin));

        let first = plain(&cat);
        // Until the first has no room for more, most likely: it is right at any time.
        let mut places = vec![0; 20];
        while places.iter().any(|place| *place != places[0]) || places[0] == 0 {
            std::thread::sleep(Duration::from_millis(5));
            places.remove(0);
            places.push(file.stream_position().expect("a place"));
        }
        drop(first);
        cat.disconnected();

        let mut next = plain(&cat);
        let mut heard = String::new();
        next.read_to_string(&mut heard).expect("lines, and an end");
        let count = heard.len() as u64 / size;
        let rest: String = (total - count..total).map(line).collect();
        assert!(heard == rest, "not all lines from one on, in their order");
        cat.error("frames were dropped");
        let stats = cat.left_with(1);
        assert!(stats.dropped > 0, "the first left with an empty outbox");
        assert_eq!(
            stats.sent + stats.dropped,
            total,
            "each line is for one of them"
        );
        let _ = std::fs::remove_file(path);
    }
}

#[test]
fn a_broken_stdout_is_reported_once_and_the_node_goes_on_relaying() {
    let mut middle = Cat::listen_with_stdout("", Stdio::piped());
    drop(middle.process().take_stdout());
    let first = Cat::dial(&middle.addr(), "");
    let mut last = Cat::dial(&middle.addr(), "");
    for n in 0..200 {
        last.say(&n.to_string());
        first.hear(&n.to_string());
    }
    middle.error("cannot write to stdout");
    assert_eq!(middle.stop().relayed, 200);
    let reports = middle.process().stderr().all();
    let reports = reports
        .iter()
        .filter(|line| line.contains("cannot write to stdout"));
    assert_eq!(reports.count(), 1);
}

#[test]
fn a_full_disk_is_reported_once_and_the_node_goes_on_relaying() {
    let full = std::fs::File::options().write(true).open("/dev/full");
    let full = full.expect("this system has /dev/full");
    let mut middle = Cat::listen_with_stdout("", full.into());
    let first = Cat::dial(&middle.addr(), "");
    let mut last = Cat::dial(&middle.addr(), "");
    for n in 0..50 {
        last.say(&n.to_string());
        first.hear(&n.to_string());
    }
    assert_eq!(middle.stop().relayed, 50);
    let errors = middle.process().stderr().all();
    let errors = errors
        .iter()
        .filter(|line| line.contains("cannot write to stdout"));
    assert_eq!(errors.count(), 1);
}

#[test]
fn a_listener_that_is_no_peer_is_dialled_again() {
    // The seed's address is taken by somebody who closes each connection.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("its address").to_string();
    let cat = Cat::start(&format!("--seed {addr}"));
    for _ in 0..2 {
        drop(listener.accept().expect("a dial"));
    }
    cat.error("");
    drop(listener);
    let back = Cat::start(&format!("--listen {addr}"));
    back.connected();
    cat.connected();
}
