//! What is done with bytes that may be anything: a function for each decoder, and one for a whole
//! connection.
//!
//! A target panics if the bytes break a promise; an error is no failure. Each has a corpus of valid
//! inputs, to make others of.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use coalescent::codec::{Codec, Format, MAX_DEPTH};
use coalescent::connection::{self, ConnectionInfo};
use coalescent::identity::PublicKey;
use coalescent::wire::{
    HELLO_MAX, Hello, Kind, LinesCodec, NativeCodec, NodeId, Packet, Status, Wire, decode_reason,
};
use coalescent::{Address, Config, Frame, Message, Peers, Reply};
use coalescent_layers::discovery::book::{BOOK_CAPACITY, BOOK_FILE_MAX, Group, Table};
use coalescent_layers::discovery::exchange::{
    ExchangeMessage, MAX_ADDRESS, MAX_ADDRESSES, MAX_MESSAGE,
};
use coalescent_layers::streams::{MAX_NAME, MAX_REASON, Opener, StreamFrame, StreamId};
use coalescent_layers::{Courier, SmartRelay};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::codec::{Decoder, Encoder};
use tower::{Layer, service_fn};

/// One thing to try bytes on.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&[u8]),
    pub(crate) corpus: fn() -> Vec<Vec<u8>>,
    /// Whether a run takes microseconds, or about a thousand times as long.
    pub(crate) quick: bool,
}

/// All targets.
pub(crate) const TARGETS: &[Target] = &[
    target("native", native, native_corpus),
    target("lines", lines, lines_corpus),
    target("hello", hello, hello_corpus),
    target("msgpack", msgpack, msgpack_corpus),
    target("json", json, json_corpus),
    target("body", body, body_corpus),
    target("text", text, text_corpus),
    target("peers", peers, peers_corpus),
    target("overlay", overlay, overlay_corpus),
    target("streams", streams, streams_corpus),
    target("book", book, book_corpus),
    Target {
        name: "connection",
        run: connection,
        corpus: connection_corpus,
        quick: false,
    },
];

const fn target(name: &'static str, run: fn(&[u8]), corpus: fn() -> Vec<Vec<u8>>) -> Target {
    Target {
        name,
        run,
        corpus,
        quick: true,
    }
}

/// Runs the target of this name on one input.
#[allow(dead_code, reason = "for drivers that know only a name")]
pub(crate) fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("a target").run)(input);
}

/// The largest frame that the decoders take here: small, so that the inputs meet the limit.
const MAX_FRAME: usize = 600;

/// Decodes all there is, and says how it ended; the buffer may never be more than the input and one
/// frame.
fn decode_all<D>(codec: &mut D, parts: &[&[u8]]) -> (Vec<Packet>, bool)
where
    D: Decoder<Item = Packet>,
{
    let total: usize = parts.iter().map(|part| part.len()).sum();
    let mut buffer = BytesMut::new();
    let mut packets = Vec::new();
    for part in parts {
        buffer.extend_from_slice(part);
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(_) => return (packets, false),
            }
            assert!(packets.len() <= total, "frames come out of nothing");
        }
        assert!(
            buffer.capacity() <= 2 * (total + MAX_FRAME) + 1024,
            "a claim reserved memory"
        );
    }
    (packets, true)
}

/// The native wire: frames are the same however the bytes are cut, and encode to what they were.
fn native(input: &[u8]) {
    let established = input.first().is_some_and(|byte| byte % 2 == 0);
    let input = input.get(1..).unwrap_or_default();
    let codec = || {
        let mut codec = NativeCodec::new(MAX_FRAME);
        if established {
            codec.established();
        }
        codec
    };
    let (whole, fine) = decode_all(&mut codec(), &[input]);
    let (left, right) = input.split_at(input.len() / 2);
    assert_eq!(
        decode_all(&mut codec(), &[left, right]),
        (whole.clone(), fine),
        "in two parts"
    );
    let mut again = BytesMut::new();
    for packet in &whole {
        let limit = match packet.kind {
            Kind::Hello => HELLO_MAX,
            _ => MAX_FRAME,
        };
        assert!(packet.payload.len() <= limit, "over the limit");
        // All statuses that are not known are read as this one.
        let failed = matches!(
            packet.kind,
            Kind::Reply {
                status: Status::Failed,
                ..
            }
        );
        if failed || matches!(packet.kind, Kind::Unknown(_) | Kind::Nothing) {
            return;
        }
        if codec().encode(packet.clone(), &mut again).is_err() {
            return;
        }
    }
    assert!(
        input.starts_with(&again),
        "frames encode to other bytes than they came from: {whole:?}"
    );
}

/// The wire of lines: what comes out holds no newline, and nothing of it is lost.
fn lines(input: &[u8]) {
    let (whole, fine) = decode_all(&mut LinesCodec::new(MAX_FRAME), &[input]);
    let (left, right) = input.split_at(input.len() / 2);
    let halves = decode_all(&mut LinesCodec::new(MAX_FRAME), &[left, right]);
    assert_eq!(halves, (whole.clone(), fine), "in two parts");
    for packet in &whole {
        assert!(packet.payload.len() <= MAX_FRAME, "over the limit");
        assert!(!packet.payload.contains(&b'\n') && !packet.payload.is_empty());
    }
    if fine {
        let ends = input.split(|byte| *byte == b'\n').rev().skip(1);
        let expected = ends
            .filter(|line| !line.is_empty() && *line != b"\r")
            .count();
        assert_eq!(whole.len(), expected);
    }
}

/// An introduction that is understood is understood again when it is passed on.
fn hello(input: &[u8]) {
    if let Ok(hello) = Hello::decode(input)
        && let Ok(again) = hello.encode()
    {
        assert_eq!(Hello::decode(&again).ok(), Some(hello));
    }
}

fn msgpack(input: &[u8]) {
    envelope(&Codec::msgpack(), &Codec::json(), input);
}

fn json(input: &[u8]) {
    envelope(&Codec::json(), &Codec::msgpack(), input);
}

/// A message that is understood says the same after it was encoded, and can be looked at in every
/// way.
fn envelope(codec: &Codec, other: &Codec, input: &[u8]) {
    let payload = Bytes::copy_from_slice(input);
    let shallow = codec.clone().max_depth(3).decode(&payload);
    let Ok(message) = codec.decode(&payload) else {
        assert!(shallow.is_err(), "less depth allowed more");
        return;
    };
    look_at(&message);
    let again = codec
        .encode(&message)
        .expect("what was decoded can be encoded");
    let same = codec
        .decode(&again)
        .expect("what was encoded can be decoded");
    assert_eq!(message.kind(), same.kind());
    if codec.format() == Format::Json && input.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        // What could not stand on a line is written without its whitespace.
        assert_eq!(message.body_value().ok(), same.body_value().ok());
        assert!(!again.contains(&b'\n'));
    } else {
        assert_eq!(message.body_bytes(), same.body_bytes());
    }
    if let Ok(translated) = other.encode(&message) {
        let translated = other
            .decode(&translated)
            .expect("what was encoded can be decoded");
        assert_eq!(message.kind(), translated.kind());
        look_at(&translated);
    }
}

fn look_at(message: &Message) {
    let value = message.body_value();
    let text = message.body_to_json_string();
    if let Ok(text) = &text {
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
        assert!(is_json, "no JSON: {text}");
    }
    if value.is_ok() {
        assert!(text.is_ok(), "a value and no text: {value:?}");
    }
    let _ = message.body::<Vec<u64>>();
    let _ = message.body::<String>();
    for key in message.headers().take(8) {
        let _ = message.header::<serde_json::Value>(&key);
    }
}

/// A body by itself, in either format: how deep it is, and as text.
fn body(input: &[u8]) {
    let (first, rest) = input.split_first().unwrap_or((&0, &[]));
    let format = if first % 2 == 0 {
        Format::MessagePack
    } else {
        Format::Json
    };
    let message = Message::encoded("kind", format, Bytes::copy_from_slice(rest));
    look_at(&message);
    for codec in [Codec::msgpack(), Codec::json(), Codec::json().max_depth(2)] {
        if let Ok(payload) = codec.encode(&message) {
            codec
                .decode(&payload)
                .expect("what was encoded can be decoded");
        }
    }
}

/// What is read from short texts: addresses, node ids, names of wires, reasons.
fn text(input: &[u8]) {
    let _ = decode_reason(input);
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Ok(address) = text.parse::<Address>() {
        let shown = address.to_string();
        assert_eq!(
            shown.parse::<Address>().ok(),
            Some(address),
            "{text:?} is shown as {shown:?}"
        );
    }
    if let Ok(node) = text.parse::<NodeId>() {
        assert_eq!(node.to_string().parse::<NodeId>().ok(), Some(node));
    }
    let _ = text.parse::<Wire>();
}

/// A message of the peer exchange that is understood holds to its limits, and says the same after
/// it was encoded.
fn peers(input: &[u8]) {
    let Ok(message) = ExchangeMessage::decode(input) else {
        return;
    };
    assert!(input.len() <= MAX_MESSAGE);
    match &message {
        ExchangeMessage::Ask(count) => assert!(*count <= MAX_ADDRESSES),
        ExchangeMessage::Tell(told) => {
            assert!(told.len() <= MAX_ADDRESSES);
            let fits = |address: &Address| address.to_string().len() <= MAX_ADDRESS;
            assert!(told.iter().all(fits), "an address grew over the limit");
        }
        _ => {}
    }
    let again = message.encode();
    assert_eq!(ExchangeMessage::decode(&again), Ok(message));
}

/// Whatever strangers say, the engine of the overlay sends messages that its like understand, and
/// has no more neighbours than it is to have.
fn overlay(input: &[u8]) {
    let _ = coalescent_layers::overlay::dry::run(input);
}

/// A frame of streams that is understood holds to its limits, and is the same when it was encoded.
fn streams(input: &[u8]) {
    let Ok(frame) = StreamFrame::decode(Bytes::copy_from_slice(input)) else {
        return;
    };
    match &frame {
        StreamFrame::Open { name, .. } => assert!((1..=MAX_NAME).contains(&name.len())),
        StreamFrame::Reset { reason, .. } => assert!(reason.len() <= MAX_REASON),
        _ => {}
    }
    assert_eq!(frame.encode(), input);
}

/// The file of an address book, as it is and with the checksum that it should have: what is read
/// is bounded, stands in its places, and is the same when it is written and read again.
fn book(input: &[u8]) {
    look_at_book(input);
    if let Some(end) = input.windows(5).rposition(|part| part == b"\nsum ") {
        look_at_book(&Table::with_checksum(&input[..=end]));
    }
}

fn look_at_book(input: &[u8]) {
    let Ok(mut table) = Table::decode(input, 1) else {
        return;
    };
    assert!(table.len() <= BOOK_CAPACITY && table.tried_len() <= table.len());
    let written = table.encode();
    assert!(written.len() <= BOOK_FILE_MAX);
    let again = Table::decode(&written, 1).expect("what was written can be read");
    assert_eq!(again.encode(), written);
    for seconds in [0, 1_800_000_000, u32::MAX.into()] {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        if let Some(picked) = table.pick(now, |_| true) {
            table.dialled_ok(&picked, now);
        }
        if let Some(asked) = table.feeler(now, |_| true) {
            table.dial_failed(&asked, now);
        }
        assert!(table.tellable(now).count() <= table.len());
    }
}

/// A whole connection with relay and courier: whatever the peer says, it ends when the peer has
/// ended.
fn connection(input: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut config = Config::default();
        config.max_frame = MAX_FRAME;
        let peers = Peers::new(config);
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let (choice, bytes) = input.split_first().unwrap_or((&0, &[]));
        let wire = match choice % 8 {
            0 => Wire::lines(),
            1 => Wire::raw(),
            _ => Wire::native(),
        };
        let courier = if choice & 8 == 0 {
            Courier::new()
        } else {
            Courier::json()
        };
        let echo = service_fn(|frame: Frame| async move {
            Ok::<_, Infallible>(match frame.message() {
                Some(message) => Reply::Message(message.clone()),
                None => Reply::None,
            })
        });
        let stack = SmartRelay::new().capacity(64).layer(courier.layer(echo));
        let socket = ConnectionInfo::inbound().wire(wire);
        let node = peers.clone();
        let serving =
            tokio::spawn(async move { connection::serve(ours, stack, &node, socket).await });
        let (mut read, mut write) = tokio::io::split(&mut theirs);
        let talk = async {
            let _ = write.write_all(bytes).await;
            let _ = write.shutdown().await;
        };
        let mut said = Vec::new();
        let listen = async { drop(read.read_to_end(&mut said).await) };
        let both = async { tokio::join!(talk, listen) };
        let ended = tokio::time::timeout(Duration::from_secs(300), both).await;
        assert!(ended.is_ok(), "the connection did not end with its peer");
        let served = tokio::time::timeout(Duration::from_secs(300), serving).await;
        let _ = served.expect("it ends").expect("no panic");
        assert!(peers.is_empty(), "a peer that is gone is connected");
        let stats = peers.stats();
        assert!(
            stats.duplicates + stats.delivered <= stats.received,
            "{stats:?}"
        );
    });
}

fn encoded(packets: &[Packet]) -> Vec<u8> {
    let mut codec = NativeCodec::new(1024 * 1024);
    codec.established();
    let mut bytes = BytesMut::new();
    for packet in packets {
        codec
            .encode(packet.clone(), &mut bytes)
            .expect("a small frame");
    }
    bytes.to_vec()
}

fn packet(kind: Kind, payload: impl Into<Bytes>) -> Packet {
    Packet::new(kind, payload)
}

/// Always the same, so that a seed says everything.
fn a_node() -> NodeId {
    "000102030405060708090a0b0c0d0e0f"
        .parse()
        .expect("a node id")
}

fn a_hello(listen: Option<&str>) -> Hello {
    let hello = Hello::new(a_node(), "").agent("generated");
    match listen {
        Some(listen) => hello
            .listen(listen)
            .seen(listen)
            .max(1 << 20)
            .channels(["peers/1"]),
        None => hello,
    }
}

fn frames() -> Vec<Packet> {
    let message = Codec::msgpack()
        .encode_body("beep", &["boop"])
        .expect("a message");
    let text = Codec::json()
        .encode_body("beep", &["boop"])
        .expect("a message");
    vec![
        packet(Kind::Data, message.clone()),
        packet(Kind::Broadcast { nonce: 7 }, message.clone()),
        packet(Kind::Broadcast { nonce: 7 }, text.clone()),
        packet(Kind::Request { id: 1 }, message),
        packet(Kind::Request { id: 2 }, text),
        packet(
            Kind::Reply {
                id: 1,
                status: Status::Ok,
            },
            "reply",
        ),
        packet(Kind::Cancel { id: 1 }, ""),
        packet(Kind::Channel { index: 1 }, "beep"),
        packet(Kind::Ping, "12345678"),
        packet(Kind::Pong, "12345678"),
        packet(Kind::Data, vec![b'x'; 300]),
    ]
}

fn with_first(first: u8, rest: Vec<u8>) -> Vec<u8> {
    let mut bytes = vec![first];
    bytes.extend(rest);
    bytes
}

fn native_corpus() -> Vec<Vec<u8>> {
    let mut corpus: Vec<_> = frames()
        .into_iter()
        .map(|frame| with_first(0, encoded(&[frame])))
        .collect();
    corpus.push(with_first(0, encoded(&frames())));
    let greeting = packet(Kind::Hello, a_hello(None).encode().expect("a hello"));
    corpus.push(with_first(1, encoded(std::slice::from_ref(&greeting))));
    corpus.push(with_first(
        0,
        encoded(&[packet(Kind::Bye, "good night"), packet(Kind::Data, "")]),
    ));
    corpus
}

fn lines_corpus() -> Vec<Vec<u8>> {
    let texts = [
        "one\ntwo\r\n\n\r\nthree\n",
        "{\"type\":\"beep\",\"body\":{}}\n",
        "\r\r\n",
        "no end",
    ];
    let mut corpus: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    corpus.push([vec![b'x'; MAX_FRAME], vec![b'\n']].concat());
    corpus.push([vec![b'x'; MAX_FRAME], b"\r\nmore\n".to_vec()].concat());
    corpus
}

/// Joins, walks, answers, announcements and goodbyes, each of several nodes.
fn overlay_corpus() -> Vec<Vec<u8>> {
    let address = b"\x01\x0b127.0.0.1:7";
    let mut named = vec![9; 16];
    named.extend([0; 16]);
    named.extend(address);
    let mut me = vec![1];
    me.extend([0; 31]);
    let with = |head: &[u8], tail: &[&[u8]]| {
        let mut message = head.to_vec();
        tail.iter().for_each(|part| message.extend(*part));
        message
    };
    let messages = [
        with(&[0, 0], &[address]),
        with(&[0, 1], &[&named, &[6]]),
        with(&[0, 2], &[&me, &[1], &me, address, &[0]]),
        with(&[0, 3], &[&[1], &named]),
        with(&[0, 4, 0], &[address]),
        with(&[0, 4, 1, 0], &[]),
        with(&[0, 5, 1, 0], &[]),
        with(&[1, 0], &[&[3; 32], &[2, 4, 4], &[0, 1]]),
        with(&[1, 1], &[]),
        with(&[1, 2, 1], &[&[3; 32], &[1]]),
        with(&[1, 3, 1], &[&[3; 32], &[1]]),
    ];
    let frame = |speaker: u8, message: &[u8]| {
        let mut frame = vec![speaker, message.len() as u8];
        frame.extend(message);
        frame
    };
    let one = messages.iter().map(|message| frame(0, message));
    let of_all = |message: &Vec<u8>| (0..8).flat_map(|speaker| frame(speaker, message)).collect();
    let all: Vec<u8> = messages
        .iter()
        .flat_map(|message| frame(1, message))
        .collect();
    one.chain(messages.iter().map(of_all))
        .chain([all])
        .collect()
}

fn peers_corpus() -> Vec<Vec<u8>> {
    let id = "0123456789abcdef".repeat(4);
    let texts = [
        "198.51.100.7:1337",
        "[2001:db8::7%eth0]:1",
        "Seed.Example.com:65535",
        &format!("{id}@[::ffff:127.0.0.1]:80"),
    ];
    let told = texts.map(|text| text.parse().expect("an address"));
    [
        ExchangeMessage::Ask(0),
        ExchangeMessage::Ask(MAX_ADDRESSES),
        ExchangeMessage::Tell(Vec::new()),
        ExchangeMessage::Tell(told.to_vec()),
        ExchangeMessage::Tell(vec![told[0].clone(); MAX_ADDRESSES]),
    ]
    .iter()
    .map(|message| message.encode().to_vec())
    .collect()
}

fn streams_corpus() -> Vec<Vec<u8>> {
    let ids = [
        (Opener::Sender, 1),
        (Opener::Receiver, 300),
        (Opener::Receiver, u32::MAX >> 1),
    ];
    let ids = ids.map(|(opener, number)| StreamId { opener, number });
    let mut frames = vec![StreamFrame::Places { streams: 7 }];
    for name in ["f", "file", &"x".repeat(MAX_NAME)] {
        frames.push(StreamFrame::Open {
            stream: ids[0],
            credit: 256 * 1024,
            name: name.to_owned(),
        });
    }
    for stream in ids {
        frames.push(StreamFrame::End { stream });
        frames.push(StreamFrame::Credit { stream, bytes: 1 });
        frames.push(StreamFrame::Data {
            stream,
            bytes: Bytes::from_static(b"some bytes"),
        });
        for reason in ["", "no \u{fc}", &"x".repeat(MAX_REASON)] {
            let reason = reason.to_owned();
            frames.push(StreamFrame::Reset { stream, reason });
        }
    }
    frames.iter().map(|frame| frame.encode().to_vec()).collect()
}

fn hello_corpus() -> Vec<Vec<u8>> {
    [a_hello(None), a_hello(Some("example.com:1337"))]
        .iter()
        .map(|hello| hello.encode().expect("a hello").to_vec())
        .collect()
}

fn values() -> Vec<serde_json::Value> {
    use serde_json::json;
    let mut deep = json!(1);
    for _ in 0..MAX_DEPTH - 2 {
        deep = json!([deep]);
    }
    vec![
        json!(null),
        json!({}),
        json!([1, -1, 0.5, u64::MAX, i64::MIN, 1e300]),
        json!({ "a": { "b": [true, false, null] }, "": "héllo \u{1F600} \"\\\n\u{0}" }),
        json!("x".repeat(300)),
        json!(vec![0; 70]),
        deep,
    ]
}

fn messages(codec: &Codec) -> Vec<Vec<u8>> {
    let mut corpus = Vec::new();
    for value in values() {
        let plain = Message::new("beep", &value);
        let with_headers = plain
            .clone()
            .with_header("id", &7)
            .with_header("from", &"me");
        for message in [plain, with_headers] {
            corpus.push(codec.encode(&message).expect("a message").to_vec());
        }
    }
    corpus
}

fn msgpack_corpus() -> Vec<Vec<u8>> {
    let mut corpus = messages(&Codec::msgpack());
    // Extensions, bytes, and a map whose keys are no strings.
    corpus.push(b"\x93\xa1a\xc0\xd6\xff\x00\x00\x00\x01".to_vec());
    corpus.push(b"\x93\xa1a\xc0\xc4\x03\x01\x02\x03".to_vec());
    corpus.push(
        b"\x93\xa1a\xc0\x82\x01\x02\xc0\x93\xc2\xc3\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00".to_vec(),
    );
    corpus
}

fn json_corpus() -> Vec<Vec<u8>> {
    let mut corpus = messages(&Codec::json());
    let odd =
        r#" { "body" : 1 , "x" : [ ] , "type" : "\u0061\ud83d\ude00" , "body" : { "a" : 1E+5 } } "#;
    corpus.push(odd.as_bytes().to_vec());
    corpus
}

fn body_corpus() -> Vec<Vec<u8>> {
    let mut corpus = Vec::new();
    for value in values() {
        corpus.push(with_first(
            0,
            Message::new("", &value).body_bytes().to_vec(),
        ));
        corpus.push(with_first(1, value.to_string().into_bytes()));
    }
    corpus
}

fn text_corpus() -> Vec<Vec<u8>> {
    let mut texts: Vec<String> = [
        "127.0.0.1:1337",
        "[::1]:80",
        "example.com:65535",
        "[fe80::1%eth0]:1",
        "native",
    ]
    .map(String::from)
    .to_vec();
    texts.push(a_node().to_string());
    texts.push(format!("{}@example.com:1337", "ab".repeat(32)));
    texts.into_iter().map(String::into_bytes).collect()
}

fn book_corpus() -> Vec<Vec<u8>> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let texts = [
        "198.51.100.7:1337",
        "[2001:db8::7]:80",
        "seed.example.org:65535",
        "[fe80::1%eth0]:1",
    ];
    let mut table = Table::new([7; 16], 1);
    let mut corpus = vec![table.encode()];
    for (number, text) in texts.iter().enumerate() {
        let address: Address = text.parse().expect("an address");
        let address = address.with_id(PublicKey::from_bytes([9; 32]).ok().filter(|_| number == 0));
        table.heard(&address, &Group::of(&address), now);
        corpus.push(table.encode());
        table.dialled_ok(&address, now);
        table.set_anchors([address]);
        corpus.push(table.encode());
    }
    corpus
}

fn connection_corpus() -> Vec<Vec<u8>> {
    let greeting = packet(
        Kind::Hello,
        a_hello(Some("127.0.0.1:9")).encode().expect("a hello"),
    );
    let mut all = vec![greeting.clone()];
    all.extend(frames());
    let mut corpus = vec![with_first(2, encoded(&all)), with_first(10, encoded(&all))];
    for frame in frames() {
        corpus.push(with_first(2, encoded(&[greeting.clone(), frame])));
    }
    corpus.push(with_first(
        2,
        encoded(&[greeting, packet(Kind::Bye, "good night")]),
    ));
    corpus.push(with_first(
        8,
        b"{\"type\":\"beep\",\"body\":{}}\n{\"type\":\"beep\"}\nno\n".to_vec(),
    ));
    corpus.push(with_first(1, b"raw bytes".to_vec()));
    corpus
}
