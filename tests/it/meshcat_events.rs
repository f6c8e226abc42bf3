//! The events of `meshcat` and the numbers it ends with, from outside.

use std::io::{Read, Write};
use std::net::TcpStream;

use coalescent::wire::{Hello, NodeId};
use support::{Cat, DEADLINE, Line, Stats};

/// Text that would clear a terminal, forge a line of events, turn the reading direction, and never
/// end.
fn hostile(length: usize) -> String {
    let begin = "\u{1b}[2J\r\n{\"event\":\"forged\"}\u{202e}\u{0}\"\\";
    let rest = "x".repeat(length - begin.chars().count());
    format!("{begin}{rest}")
}

/// Every line is one object with an event, and what a peer said is short and cannot do any harm.
fn check(cat: &mut Cat) {
    for text in cat.process().stderr().all() {
        let line = Line::parse(&text).unwrap_or_else(|| panic!("no event: {text:?}"));
        assert!(!line.is("forged"), "{text}");
        let harmless = |c: char| !c.is_control() && c != '\u{202e}';
        assert!(text.chars().all(harmless), "{text:?}");
    }
}

fn short(text: &str) {
    let count = text.chars().count();
    assert!(count <= 64, "{count} characters: {text:?}");
    let harmless = |c: char| !c.is_control() && c != '\u{202e}';
    assert!(text.chars().all(harmless), "{text:?}");
}

fn frame(kind: u8, fields: &[u8]) -> Vec<u8> {
    let length = u32::try_from(fields.len() + 2).expect("it is short");
    [&length.to_be_bytes()[..], &[kind, 0], fields].concat()
}

fn hello(agent: &str) -> Vec<u8> {
    let hello = Hello::new(NodeId::random(), "");
    let bytes = hello.encode().expect("it is short").to_vec();
    // The agent is empty text, which is one byte, to be made 16-bit text.
    let at = bytes.windows(6).position(|part| part == b"agent\xa0");
    let at = at.expect("the agent is there") + 5;
    let length = u16::try_from(agent.len())
        .expect("it is short")
        .to_be_bytes();
    let text = [&[0xda], &length[..], agent.as_bytes()].concat();
    frame(0x10, &[&bytes[..at], &text, &bytes[at + 1..]].concat())
}

fn socket(cat: &Cat) -> TcpStream {
    let socket = TcpStream::connect(cat.addr()).expect("it listens");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    socket
}

#[test]
fn events_have_their_fields() {
    let mut first = Cat::listen("");
    let mut second = Cat::start(&format!("--seed {}", first.addr()));
    let (inbound, outbound) = (first.connected(), second.connected());
    assert_eq!(inbound.text("direction"), "inbound");
    assert_eq!(outbound.text("direction"), "outbound");
    assert_eq!(outbound.text("addr"), first.addr());
    assert!(inbound.text("addr").starts_with("127.0.0.1:"));
    assert_ne!(inbound.text("peer"), outbound.text("peer"));

    second.stop();
    let gone = first.disconnected();
    assert_eq!(gone.text("peer"), inbound.text("peer"));
    assert_eq!(gone.text("addr"), inbound.text("addr"));
    assert!(gone.text("reason").contains("left"), "{}", gone.0);
    first.stop();
    check(&mut first);
    check(&mut second);
    let events = first.process().stderr().all();
    let names: Vec<_> = events.iter().filter_map(|text| Line::parse(text)).collect();
    let names: Vec<_> = names.iter().map(|line| line.text("event")).collect();
    assert_eq!(
        names,
        ["listening", "peer_connected", "peer_disconnected", "stats"]
    );
}

#[test]
fn an_error_names_its_peer_or_none() {
    let cat = Cat::listen("--codec json");
    let mut other = Cat::dial(&cat.addr(), "");
    let peer = cat.connected().text("peer").to_owned();
    other.say("no message");
    assert_eq!(cat.error("").text("peer"), peer);

    let addr = cat.addr();
    drop(cat);
    let cat = Cat::start(&format!("--seed {addr}"));
    assert!(cat.error(&addr).field("peer").is_null());
}

#[test]
fn who_breaks_the_protocol_is_told_of_and_not_banned_on_loopback() {
    let mut cat = Cat::listen("");
    for _ in 0..2 {
        let mut socket = socket(&cat);
        socket.write_all(&hello("")).expect("a write");
        let peer = cat.connected().text("peer").to_owned();
        socket.write_all(&hello("")).expect("a write");
        let banned = cat.process().wait_stderr_event("banned");
        assert_eq!(banned.text("peer"), peer);
        assert!(banned.text("addr").starts_with("127.0.0.1:"));
        assert!(banned.text("reason").contains("HELLO"), "{}", banned.0);
        assert_eq!(banned.number("seconds"), 0);
    }
    cat.stop();
    check(&mut cat);
}

#[test]
fn what_a_peer_says_of_itself_is_escaped_and_short() {
    let mut cat = Cat::listen("");
    // The longest that a HELLO can hold, and one that is as long as is allowed.
    for length in [900, 100] {
        let mut socket = socket(&cat);
        socket.write_all(&hello(&hostile(length))).expect("a write");
        let connected = cat.connected();
        short(connected.text("agent"));
        let said = [frame(0x13, hostile(200).as_bytes())].concat();
        socket.write_all(&said).expect("a write");
        short(cat.disconnected().text("reason"));
    }
    cat.stop();
    check(&mut cat);
}

#[test]
fn what_is_no_message_is_quoted_escaped_and_short() {
    let mut cat = Cat::listen("--wire lines --codec json");
    let mut peer = socket(&cat);
    // A string, and no object: what reads it says so, and of which string.
    let text = hostile(1000)
        .replace(['\r', '\n'], "")
        .replace(['\0', '\u{1b}', '\\', '"'], "");
    peer.write_all(format!("\"\\u001b{text}\"\n").as_bytes())
        .expect("a write");
    let error = cat.error("no").text("error").to_owned();
    assert!(error.contains("not a message"), "{error}");
    assert!(error.matches('x').count() <= 64, "{error}");
    check(&mut cat);
    cat.stop();
}

#[test]
fn a_goodbye_that_is_too_long_is_not_shown() {
    let mut cat = Cat::listen("");
    let mut socket = socket(&cat);
    socket.write_all(&hello("honest")).expect("a write");
    cat.connected();
    socket
        .write_all(&frame(0x13, hostile(1000).as_bytes()))
        .expect("a write");
    let gone = cat.disconnected();
    let reason = gone.text("reason");
    assert!(reason.starts_with("protocol error"), "{reason}");
    assert!(!reason.contains("forged"), "{reason}");
    cat.stop();
    check(&mut cat);
}

#[test]
fn what_is_refused_at_the_handshake_is_an_error_that_is_escaped() {
    let mut cat = Cat::listen("--network ours");
    let mut other = Cat::start(&format!("--seed {} --network theirs", cat.addr()));
    cat.error("");
    other.error("");
    let mut socket = socket(&cat);
    socket
        .write_all(&frame(0x13, hostile(200).as_bytes()))
        .expect("a write");
    short(
        cat.error("")
            .text("error")
            .rsplit(": ")
            .next()
            .expect("the end"),
    );
    let _ = socket.read(&mut [0; 1024]);
    assert_eq!(cat.stop(), Stats::default());
    check(&mut cat);
    other.stop();
    check(&mut other);
}

#[test]
fn the_numbers_of_three_in_a_line_are_exact() {
    for relay in ["smartrelay", "tattletale"] {
        let relay = format!("--relay {relay}");
        let mut middle = Cat::listen(&relay);
        let mut first = Cat::dial(&middle.addr(), &relay);
        let mut last = Cat::dial(&middle.addr(), &relay);
        middle.connected();
        middle.connected();
        for n in 0..10 {
            first.say(&format!("first {n}"));
        }
        for n in 0..5 {
            last.say(&format!("last {n}"));
        }
        middle.say("middle");
        for cat in [&first, &middle] {
            cat.hear("last 4");
        }
        for cat in [&last, &middle] {
            cat.hear("first 9");
        }
        first.hear("middle");
        last.hear("middle");
        let numbers = |received, sent, relayed| Stats {
            received,
            delivered: received,
            sent,
            relayed,
            ..Stats::default()
        };
        assert_eq!(first.stop(), numbers(6, 10, 0), "{relay}");
        assert_eq!(last.stop(), numbers(11, 5, 0), "{relay}");
        assert_eq!(middle.stop(), numbers(15, 2, 15), "{relay}");
    }
}

#[test]
fn a_circle_counts_each_frame_once_as_delivered() {
    let mut cats = vec![Cat::listen(""), Cat::listen("")];
    let seeds = format!("--seed {} --seed {}", cats[0].addr(), cats[1].addr());
    let second = Cat::listen(&seeds);
    let third = Cat::listen(&format!("{seeds} --seed {}", second.addr()));
    cats.extend([second, third]);
    for (cat, peers) in cats.iter().zip([2, 2, 3, 3]) {
        for _ in 0..peers {
            cat.connected();
        }
    }
    for n in 0..20 {
        cats[0].say(&n.to_string());
    }
    for cat in &cats[1..] {
        cat.hear("19");
    }
    let stats: Vec<_> = cats.iter_mut().map(Cat::stop).collect();
    assert_eq!(stats[0].sent, 40);
    assert_eq!(stats[0].delivered, 0);
    for (cat, stats) in cats.iter().zip(&stats).skip(1) {
        assert_eq!(cat.heard().len(), 20);
        assert_eq!((stats.delivered, stats.sent, stats.dropped), (20, 0, 0));
        assert_eq!(stats.received, stats.delivered + stats.duplicates);
    }
    // Whatever was written arrived, as nobody left before.
    let received: u64 = stats.iter().map(|stats| stats.received).sum();
    let written: u64 = stats.iter().map(|stats| stats.sent + stats.relayed).sum();
    assert!(received <= written, "{stats:?}");
}
