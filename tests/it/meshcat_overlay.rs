//! `meshcat --overlay` from outside: what it goes with, and raw sockets that mean no good.

#[cfg(feature = "overlay")]
use std::io::{Read, Write};
#[cfg(feature = "overlay")]
use std::net::TcpStream;
use std::process::Stdio;
#[cfg(feature = "overlay")]
use std::thread::sleep;
#[cfg(feature = "overlay")]
use std::time::{Duration, Instant};

#[cfg(feature = "overlay")]
use bytes::{Bytes, BytesMut};
#[cfg(feature = "overlay")]
use coalescent::NodeId;
#[cfg(feature = "overlay")]
use coalescent::wire::{Hello, Kind, NativeCodec, Packet};
#[cfg(feature = "overlay")]
use rand::rngs::StdRng;
#[cfg(feature = "overlay")]
use rand::{Rng, SeedableRng};
use support::Cat;
#[cfg(feature = "overlay")]
use support::DEADLINE;
#[cfg(feature = "overlay")]
use tokio_util::codec::Encoder;

/// Runs a command line that cannot be used, and returns what it says.
fn unusable(options: &str) -> String {
    let mut command = Cat::command(options);
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{options}: {text}");
    assert_eq!(text.lines().count(), 1, "{options}: {text}");
    text
}

#[test]
#[cfg(not(feature = "overlay"))]
fn names_the_feature_that_is_not_built_in() {
    let text = unusable("--listen 127.0.0.1:0 --overlay");
    assert!(text.contains("--features overlay"), "{text}");
}

#[test]
#[cfg(feature = "overlay")]
fn other_wires_have_no_overlay() {
    for wire in ["lines", "raw"] {
        let text = unusable(&format!("--listen 127.0.0.1:0 --overlay --wire {wire}"));
        assert!(text.contains(&format!("leave out --wire {wire}")), "{text}");
    }
    let text = unusable("--overlay");
    assert!(text.contains("nobody to talk to"), "{text}");
}

#[test]
#[cfg(feature = "overlay")]
fn peers_that_know_no_overlay_are_ordinary() {
    let mut plain = Cat::listen("");
    let mut seed = Cat::listen(&format!("--overlay --seed {}", plain.addr()));
    plain.connected();
    seed.connected();
    let mut other = Cat::listen(&format!("--overlay --seed {}", seed.addr()));
    let mut dials = Cat::dial(&other.addr(), "");
    // Each with the one before, by a connection of either kind.
    seed.connected();
    other.connected();
    other.connected();
    dials.say("from one");
    for cat in [&plain, &seed, &other] {
        cat.hear("from one");
    }
    plain.say("from the other");
    for cat in [&seed, &other, &dials] {
        cat.hear("from the other");
    }
    for cat in [&mut plain, &mut seed, &mut other, &mut dials] {
        assert_eq!(cat.stop().dropped, 0);
    }
}

#[test]
#[cfg(feature = "overlay")]
fn finds_others_through_a_seed_and_says_so() {
    let mut seed = Cat::listen("--overlay");
    let options = format!("--overlay --seed {}", seed.addr());
    let (mut first, mut last) = (Cat::listen(&options), Cat::listen(&options));
    for cat in [&seed, &first, &last] {
        cat.connected();
        cat.connected();
    }
    // One of the two has dialled the other.
    let addrs = [first.addr(), last.addr()];
    let mut cats = [&mut first, &mut last];
    let told = cats.iter_mut().flat_map(|cat| cat.process().stderr().all());
    let told: Vec<_> = told.filter(|line| line.contains("discovered")).collect();
    assert!(!told.is_empty());
    for line in &told {
        assert!(line.contains(r#""source":"overlay""#), "{line}");
        assert!(addrs.iter().any(|addr| line.contains(addr)), "{line}");
    }
    // The seed is not needed any more.
    seed.process().signal("KILL");
    first.say("still here");
    last.hear("still here");
    first.stop();
    last.stop();
}

#[test]
#[cfg(feature = "overlay")]
fn bounds_of_peers_hold() {
    let mut hub = Cat::listen("--overlay --max-inbound 2 --max-peers 1");
    let options = format!("--overlay --seed {}", hub.addr());
    let mut others: Vec<_> = (0..5).map(|_| Cat::listen(&options)).collect();
    // Those that find no place at the hub find one at each other.
    others[4].connected();
    let start = Instant::now();
    let (speaker, rest) = others.split_last_mut().expect("five of them");
    let heard_all = |cats: &[Cat], hub: &Cat| {
        let mut cats = cats.iter().chain([hub]);
        cats.all(|cat| !cat.heard().is_empty())
    };
    while !heard_all(rest, &hub) {
        assert!(start.elapsed() < DEADLINE, "somebody stays apart");
        speaker.say("hello");
        sleep(Duration::from_millis(50));
    }
    let (mut inbound, mut outbound) = (0i32, 0i32);
    let (mut directions, lines) = (Vec::new(), hub.process().stderr().all());
    for line in lines.iter().filter_map(|line| support::Line::parse(line)) {
        if line.is("peer_connected") {
            let is_in = line.text("direction") == "inbound";
            directions.push((line.text("addr").to_owned(), is_in));
            *(if is_in { &mut inbound } else { &mut outbound }) += 1;
        } else if line.is("peer_disconnected") {
            let addr = line.text("addr");
            if let Some(at) = directions.iter().position(|(of, _)| of == addr) {
                let (_, is_in) = directions.swap_remove(at);
                *(if is_in { &mut inbound } else { &mut outbound }) -= 1;
            }
        }
        assert!(inbound <= 2 && outbound <= 1, "{}", lines.join("\n"));
    }
    hub.stop();
}

#[test]
#[cfg(feature = "overlay")]
fn comes_back_by_its_book_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let book = |name: &str| format!("--overlay --book {}", directory.path().join(name).display());
    let mut seed = Cat::listen("--overlay");
    let stays = Cat::listen(&format!("{} --seed {}", book("stays"), seed.addr()));
    let mut leaves = Cat::listen(&format!("{} --seed {}", book("leaves"), seed.addr()));
    for cat in [&stays, &leaves] {
        cat.connected();
        cat.connected();
    }
    leaves.stop();
    seed.process().signal("KILL");
    let mut back = Cat::listen(&book("leaves"));
    back.connected();
    let mut stays = stays;
    stays.say("welcome");
    back.hear("welcome");
    back.stop();
    stays.stop();
}

/// The number of the mesh itself, among topics, in the network without a name: the BLAKE3 hash of
/// `coalescent/topic/1` and a zero byte.
#[cfg(feature = "overlay")]
const TOPIC: [u8; 32] = [
    0x8f, 0x26, 0x02, 0x90, 0x8e, 0xf3, 0x59, 0x4f, 0xde, 0x21, 0x87, 0x72, 0xaf, 0xb4, 0xb0, 0xd9,
    0x50, 0x65, 0xbf, 0xdc, 0x4e, 0x12, 0x07, 0x94, 0x62, 0x44, 0x1e, 0x15, 0x27, 0x3a, 0xd2, 0xfe,
];

/// The kinds of messages, with the part of the engine that they are for.
#[cfg(feature = "overlay")]
const JOIN: [u8; 2] = [0, 0];
#[cfg(feature = "overlay")]
const SHUFFLE: [u8; 2] = [0, 2];
#[cfg(feature = "overlay")]
const IHAVE: [u8; 2] = [1, 3];

#[cfg(feature = "overlay")]
fn message(kind: [u8; 2], rest: &[u8]) -> Vec<u8> {
    [&TOPIC[..], &kind, rest].concat()
}

/// Names invented peers at invented addresses.
#[cfg(feature = "overlay")]
fn invented(rng: &mut StdRng, origin: &[u8; 32]) -> Vec<u8> {
    let mut rest = origin.to_vec();
    rest.push(16);
    for _ in 0..16 {
        let mut id = [0; 32];
        rng.fill(&mut id[..16]);
        let addr = format!("127.0.0.1:{}", rng.random_range(20_000..30_000));
        rest.extend(id);
        rest.extend([1, u8::try_from(addr.len()).expect("short")]);
        rest.extend(addr.bytes());
    }
    rest.push(0);
    message(SHUFFLE, &rest)
}

/// A socket that has introduced itself as a node that knows the channel.
#[cfg(feature = "overlay")]
struct Hand {
    socket: TcpStream,
    node: NodeId,
}

#[cfg(feature = "overlay")]
impl Hand {
    fn new(addr: &str) -> Self {
        let socket = TcpStream::connect(addr).expect("it listens");
        socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let node = NodeId::random();
        let mut hand = Self { socket, node };
        let mut hello = Hello::new(node, "");
        hello.channels = vec!["overlay/1".to_owned()];
        let hello = hello.encode().expect("short names");
        hand.send(Kind::Hello, hello);
        hand
    }

    fn id(&self) -> [u8; 32] {
        let mut id = [0; 32];
        id[..16].copy_from_slice(self.node.as_bytes());
        id
    }

    /// Sends a frame, if the other side still takes any.
    fn send(&mut self, kind: Kind, payload: impl Into<Bytes>) {
        let mut codec = NativeCodec::new(usize::MAX);
        codec.established();
        let mut bytes = BytesMut::new();
        codec
            .encode(Packet::new(kind, payload), &mut bytes)
            .expect("a frame");
        let _ = self.socket.write_all(&bytes);
    }

    fn say(&mut self, message: Vec<u8>) {
        self.send(Kind::Channel { index: 0 }, message);
    }

    /// Waits until the other side has closed the connection.
    #[track_caller]
    fn await_cut(mut self) {
        let mut bytes = [0; 4096];
        loop {
            match self.socket.read(&mut bytes) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
                Err(error) => panic!("it is still connected: {error}"),
            }
        }
    }
}

#[test]
#[cfg(feature = "overlay")]
fn hostile_peers_lose_their_connection_and_others_keep_theirs() {
    let mut node = Cat::listen("--overlay");
    let addr = node.addr();
    let options = format!("--overlay --seed {addr}");
    let mut others: Vec<_> = (0..4).map(|_| Cat::listen(&options)).collect();
    for _ in 0..4 {
        node.connected();
    }
    let memory = node.process().peak_memory();
    let mut rng = StdRng::seed_from_u64(1);

    // What is no message, or one that no honest node sends.
    let mut junk = vec![0; 300];
    rng.fill(&mut junk[..]);
    let whole = invented(&mut rng, &[0; 32]);
    let faults = [
        junk,
        vec![],
        TOPIC.to_vec(),
        message([9, 9], &[]),
        whole[..whole.len() - 1].to_vec(),
        [&message(JOIN, &[0])[..], &[0]].concat(),
        message(SHUFFLE, &[0xff; 100]),
        message(IHAVE, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        message(IHAVE, &[0xff; 60_000]),
        vec![0xff; 1_000_000],
    ];
    for fault in faults {
        let mut hand = Hand::new(&addr);
        for _ in 0..6 {
            hand.say(fault.clone());
        }
        hand.await_cut();
    }
    // What is no frame.
    let mut hand = Hand::new(&addr);
    let _ = hand.socket.write_all(&[0xff; 64]);
    hand.await_cut();

    // Peers that are invented by the thousand, by many hands and by one.
    let mut hands = Vec::new();
    for _ in 0..300 {
        let mut hand = Hand::new(&addr);
        hand.say(message(JOIN, &[0]));
        let id = hand.id();
        for _ in 0..10 {
            hand.say(invented(&mut rng, &id));
        }
        hands.push(hand);
        if hands.len() > 50 {
            hands.remove(0);
        }
    }
    let mut hand = Hand::new(&addr);
    let id = hand.id();
    for _ in 0..2000 {
        hand.say(invented(&mut rng, &id));
    }
    // As many ids of payloads that nobody has.
    for _ in 0..1000 {
        let mut rest = vec![100];
        for _ in 0..100 {
            let id: [u8; 32] = rng.random();
            rest.extend(id);
            rest.push(0);
        }
        hand.say(message(IHAVE, &rest));
    }

    // All the time, and after it, the others hear each other and the node.
    others[0].say("still here");
    node.hear("still here");
    node.say("so am I");
    for other in &others {
        other.hear("so am I");
    }
    for other in &others[1..] {
        other.hear("still here");
    }
    drop((hand, hands));
    let grown = node.process().peak_memory().saturating_sub(memory);
    assert!(grown < 16 * 1024 * 1024, "{grown} bytes more");
    let told = node.process().stderr().all();
    let dials = told.iter().filter(|line| line.contains("discovered"));
    assert!(dials.count() < 100);
    for other in &mut others {
        other.stop();
    }
    node.stop();
}
