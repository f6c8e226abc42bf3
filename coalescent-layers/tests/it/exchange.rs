//! The peer exchange between single nodes, in memory and on paused time.
//!
//! In these tests one side speaks the channel by hand, and no node dials what it learns.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use coalescent_core::connection::ConnectionInfo;
use coalescent_core::transport::Memory;
use coalescent_core::wire::{Hello, Kind};
use coalescent_core::{
    Address, App, AppExt, DisconnectReason, Event, Mesh, Peer, Plugin, Registrar,
};
use coalescent_layers::discovery::book::{AddressBook, Book};
use coalescent_layers::discovery::exchange::{
    ASK_EVERY, CHANNEL, Exchange, ExchangeMessage, FAULT, MAX_ADDRESSES, SAME_FOR, SAME_FROM,
    TAKE_EVERY,
};
use support::until;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// Only failing tests wait so long.
const DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);

/// A plugin that hands what comes on the channel to the test.
struct ByHand(mpsc::UnboundedSender<(Peer, ExchangeMessage)>);

impl Plugin for ByHand {
    fn register(&self, app: &mut Registrar) {
        let heard = self.0.clone();
        app.channel(CHANNEL, move |peer: Peer, payload: Bytes| {
            let message = ExchangeMessage::decode(&payload).expect("a message");
            // The test may have heard enough.
            let _ = heard.send((peer, message));
            std::future::ready(())
        });
    }
}

/// A node that speaks the channel by hand.
struct Hand {
    mesh: Mesh,
    heard: mpsc::UnboundedReceiver<(Peer, ExchangeMessage)>,
}

impl Hand {
    async fn new(network: &Memory) -> Self {
        let (sender, heard) = mpsc::unbounded_channel();
        let app = App::new().transport(network.clone()).plugin(ByHand(sender));
        let mesh = app.listen("hand:0").await.unwrap();
        Self { mesh, heard }
    }

    async fn next(&mut self) -> (Peer, ExchangeMessage) {
        let next = timeout(DEADLINE, self.heard.recv()).await;
        next.expect("a message in time").expect("the node runs")
    }

    async fn next_ask(&mut self) -> Peer {
        match self.next().await {
            (peer, ExchangeMessage::Ask(MAX_ADDRESSES)) => peer,
            (_, other) => panic!("no ask: {other:?}"),
        }
    }

    async fn ask(&mut self, peer: &Peer, count: usize) -> Vec<Address> {
        say(peer, &ExchangeMessage::Ask(count)).await;
        match self.next().await {
            (_, ExchangeMessage::Tell(told)) => told,
            (_, other) => panic!("no answer: {other:?}"),
        }
    }
}

/// A node with the exchange.
struct Node {
    mesh: Mesh,
    book: Book,
}

impl Node {
    /// Starts a node that may dial everything.
    async fn new(network: &Memory) -> Self {
        Self::of(network, App::new().allow_plaintext()).await
    }

    async fn of(network: &Memory, app: App) -> Self {
        let book = Book::new();
        let app = app.transport(network.clone());
        let app = app.plugin(Exchange::new(&book)).max_inbound(1000);
        // Of what it learns it dials none but to look who is there.
        let keeper = AddressBook::new().with_book(book.clone());
        let app = app.plugin(keeper).min_peers(0);
        let mesh = app.listen("node:0").await.unwrap();
        Self { mesh, book }
    }

    fn knows(&self, address: &Address) -> bool {
        self.book.update(|table, _| table.contains(address))
    }
}

async fn say(peer: &Peer, message: &ExchangeMessage) {
    peer.send_on(CHANNEL, message.encode()).await.unwrap();
}

async fn connect(from: &Mesh, to: &Mesh) -> Peer {
    from.connect(&to.local_addrs()[0].to_string())
        .await
        .unwrap()
}

/// Addresses on the internet, in a network of their own each.
fn addresses(numbers: impl IntoIterator<Item = usize>) -> Vec<Address> {
    let address = |number: usize| {
        let (a, b) = (20 + number / 200, number % 200);
        format!("{a}.{b}.1.1:9").parse().unwrap()
    };
    numbers.into_iter().map(address).collect()
}

/// Waits until a node knows an address.
async fn learns(node: &Node, address: &Address) {
    let learned = async {
        while !node.knows(address) {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let learned = timeout(Duration::from_secs(60), learned).await;
    assert!(learned.is_ok(), "{address} was not learned");
}

#[tokio::test(start_paused = true)]
async fn a_dialled_peer_is_asked_at_once_and_every_ten_minutes() {
    let network = Memory::new();
    let (node, mut hand) = (Node::new(&network).await, Hand::new(&network).await);
    let start = Instant::now();
    connect(&node.mesh, &hand.mesh).await;
    for turn in 0..4 {
        let peer = hand.next_ask().await;
        assert_eq!(start.elapsed(), turn * ASK_EVERY);
        say(&peer, &ExchangeMessage::Tell(addresses([turn as usize]))).await;
    }
    // Who does not answer is not asked again.
    hand.next_ask().await;
    let more = timeout(10 * ASK_EVERY, hand.heard.recv()).await;
    assert!(more.is_err(), "asked again: {more:?}");
}

#[tokio::test(start_paused = true)]
async fn an_inbound_peer_is_answered_and_never_asked() {
    let network = Memory::new();
    let (node, mut hand) = (Node::new(&network).await, Hand::new(&network).await);
    let peer = connect(&hand.mesh, &node.mesh).await;
    for _ in 0..20 {
        assert!(hand.ask(&peer, MAX_ADDRESSES).await.is_empty());
    }
    let asked = timeout(10 * ASK_EVERY, hand.heard.recv()).await;
    assert!(asked.is_err(), "asked: {asked:?}");
    // To ask often is no fault.
    assert!(peer.is_connected());
    assert_eq!(peer.stats().dropped, 0);
}

#[tokio::test(start_paused = true)]
async fn where_inbound_peers_listen_is_told_to_others() {
    let network = Memory::new();
    let node = Node::new(&network).await;
    let mut hands = Vec::new();
    // Those that the book has no place for are told while they are connected.
    for _ in 0..5 {
        let hand = Hand::new(&network).await;
        let peer = connect(&hand.mesh, &node.mesh).await;
        hands.push((hand, peer));
        let (hand, peer) = hands.last_mut().unwrap();
        // Once there is an answer, the node knows the peer.
        hand.ask(peer, 0).await;
    }
    let listening = hands.iter().map(|(hand, _)| hand.mesh.local_addrs()[0]);
    let known: HashSet<Address> = listening.map(|addr| addr.try_into().unwrap()).collect();
    for (hand, peer) in &mut hands {
        let own: Address = hand.mesh.local_addrs()[0].try_into().unwrap();
        let told: HashSet<_> = hand.ask(peer, MAX_ADDRESSES).await.into_iter().collect();
        assert_eq!(told.len(), known.len().div_ceil(2));
        assert!(told.is_subset(&known) && !told.contains(&own));
    }
}

#[tokio::test(start_paused = true)]
async fn what_listens_elsewhere_is_not_told_before_a_dial_has_shown_it() {
    let network = Memory::new();
    let (node, mut hand) = (Node::new(&network).await, Hand::new(&network).await);
    let elsewhere = App::new().transport(network.clone());
    let elsewhere = elsewhere.advertise("elsewhere:7").start().await.unwrap();
    connect(&elsewhere, &node.mesh).await;
    let address: Address = "elsewhere:7".parse().unwrap();
    learns(&node, &address).await;
    let peer = connect(&hand.mesh, &node.mesh).await;
    assert!(hand.ask(&peer, 64).await.is_empty());
    node.book
        .update(|table, now| table.dialled_ok(&address, now));
    assert_eq!(hand.ask(&peer, 64).await, [address]);
}

#[tokio::test(start_paused = true)]
async fn what_a_node_may_not_dial_is_not_kept() {
    let network = Memory::new();
    let node = Node::of(&network, App::new()).await;
    let mut hand = Hand::new(&network).await;
    let id = "1".repeat(64);
    let told = ["20.1.1.1:9", &format!("{id}@127.0.0.1:8"), "127.0.0.1:9"];
    let told = told.map(|text| text.parse::<Address>().unwrap());
    connect(&node.mesh, &hand.mesh).await;
    let peer = hand.next_ask().await;
    say(&peer, &ExchangeMessage::Tell(told.to_vec())).await;
    learns(&node, &told[2]).await;
    assert!(!node.knows(&told[0]) && !node.knows(&told[1]));

    // Neither is it if it says so itself.
    let elsewhere = App::new().transport(network.clone());
    let elsewhere = elsewhere.advertise("20.1.1.2:9").start().await.unwrap();
    let peer = connect(&elsewhere, &node.mesh).await;
    until("it is known", || node.mesh.peers().len() == 2).await;
    peer.disconnect("enough");
    until("it has gone", || node.mesh.peers().len() == 1).await;
    assert!(!node.knows(&"20.1.1.2:9".parse().unwrap()));
}

/// Joins a peer that has dialled the node and claims to see it at this address.
async fn join_who_sees(mesh: &Mesh, seen: &str) -> support::ByHand<DuplexStream> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let mut peer = support::ByHand::new(near);
    let hello = Hello::new(peer.node, "").agent("a liar").seen(seen);
    let hello = hello.encode().unwrap();
    let introduce = async {
        peer.send(Kind::Hello, hello).await;
        peer.recv().await.expect("a hello")
    };
    let (_, joined) = tokio::join!(introduce, mesh.adopt(far, ConnectionInfo::inbound()));
    joined.expect("a peer");
    peer
}

#[tokio::test(start_paused = true)]
async fn an_inbound_peer_cannot_hide_an_address_by_what_it_sees() {
    let network = Memory::new();
    let (node, mut hand) = (Node::new(&network).await, Hand::new(&network).await);
    let port = node.mesh.local_addrs()[0].port();
    let honest: Address = format!("20.1.1.1:{port}").parse().unwrap();
    let _liar = join_who_sees(&node.mesh, "20.1.1.1:5").await;
    connect(&node.mesh, &hand.mesh).await;
    let peer = hand.next_ask().await;
    say(&peer, &ExchangeMessage::Tell(vec![honest.clone()])).await;
    learns(&node, &honest).await;
}

fn without_hands(mut told: Vec<Address>) -> Vec<Address> {
    told.retain(|address| !address.ip().is_some_and(|ip| ip.is_loopback()));
    told
}

#[tokio::test(start_paused = true)]
async fn all_get_the_same_answer_for_ten_minutes() {
    let network = Memory::new();
    let node = Node::new(&network).await;
    let known = addresses(0..400);
    for address in &known {
        node.book
            .update(|table, now| table.dialled_ok(address, now));
    }
    let kept = node.book.tellable();
    assert!(kept.len() > 2 * SAME_FROM, "{}", kept.len());
    let mut first = None;
    for _ in 0..5 {
        let mut hand = Hand::new(&network).await;
        let peer = connect(&hand.mesh, &node.mesh).await;
        for _ in 0..3 {
            // Those of the hands are left out, since each is not told its own.
            let told = without_hands(hand.ask(&peer, MAX_ADDRESSES).await);
            let half = kept.len().div_ceil(2).min(MAX_ADDRESSES);
            assert!((1..=half).contains(&told.len()), "{}", told.len());
            assert_eq!(first.get_or_insert(told.clone()), &told);
            let few = without_hands(hand.ask(&peer, 5).await);
            assert_eq!(few, told[..few.len()]);
        }
        sleep(SAME_FOR / 10).await;
    }
    sleep(SAME_FOR).await;
    let mut hand = Hand::new(&network).await;
    let peer = connect(&hand.mesh, &node.mesh).await;
    let other = without_hands(hand.ask(&peer, MAX_ADDRESSES).await);
    assert_ne!(first, Some(other));
}

#[tokio::test(start_paused = true)]
async fn of_one_peer_64_addresses_are_taken_and_then_one_every_ten_seconds() {
    let network = Memory::new();
    let (node, mut hand) = (Node::new(&network).await, Hand::new(&network).await);
    connect(&node.mesh, &hand.mesh).await;
    let mut numbers = 0..100_000;
    let mut told = HashSet::new();
    let start = Instant::now();
    for _ in 0..30 {
        let peer = hand.next_ask().await;
        let some = addresses(numbers.by_ref().take(MAX_ADDRESSES));
        told.extend(some.iter().cloned());
        say(&peer, &ExchangeMessage::Tell(some)).await;
        sleep(Duration::from_secs(1)).await;
        let taken = told.iter().filter(|told| node.knows(told)).count();
        let most = 64 + start.elapsed().as_secs() / TAKE_EVERY.as_secs();
        assert!(taken as u64 <= most, "{taken} taken of {}", told.len());
        assert!(peer.is_connected());
    }
    // One source reaches 8 buckets of 16 places.
    assert!((64..=128).contains(&node.book.len()), "{}", node.book.len());
}

/// Makes sure that `node` disconnects a peer for its faults, after exactly six of them, and has
/// learned nothing of them.
async fn is_disconnected(node: &Node, peer: &Peer, faults: &[Bytes]) {
    let mut events = node.mesh.events();
    for fault in faults.iter().cycle().take(5) {
        peer.send_on(CHANNEL, fault.clone()).await.unwrap();
    }
    sleep(Duration::from_secs(1)).await;
    assert!(peer.is_connected(), "after a weight of {}", 5 * FAULT);
    peer.send_on(CHANNEL, faults[0].clone()).await.unwrap();
    let closed = timeout(DEADLINE, peer.closed()).await;
    closed.expect("disconnected");
    let reason = async {
        loop {
            if let Event::PeerDisconnected { reason, .. } = events.next().await.unwrap() {
                return reason;
            }
        }
    };
    let reason = timeout(DEADLINE, reason).await.expect("disconnected");
    assert!(matches!(reason, DisconnectReason::Penalized(_)), "{reason}");
    for told in bad_addresses() {
        assert!(!node.knows(&told), "{told} was kept");
    }
}

/// What is told by messages that are faults.
fn bad_addresses() -> Vec<Address> {
    addresses(200..203)
}

#[tokio::test(start_paused = true)]
async fn what_breaks_the_rules_is_a_fault_and_six_disconnect() {
    let network = Memory::new();
    let tell = ExchangeMessage::Tell(bad_addresses()).encode();
    let [head @ .., _] = &tell[..] else {
        unreachable!()
    };
    // The last digit of the last port is none.
    let no_address = [head, b"x"].concat();
    let bytes_behind = [&tell[..], b"x"].concat();
    let text = bad_addresses()[0].to_string();
    let mut too_many = b"\x92\xa4tell\xdc\0\x41".to_vec();
    for _ in 0..65 {
        too_many.push(0xa0 | text.len() as u8);
        too_many.extend_from_slice(text.as_bytes());
    }
    let junk = [no_address, bytes_behind, too_many, Vec::new()].map(Bytes::from);

    // Not asked for, since it is inbound.
    let (node, hand) = (Node::new(&network).await, Hand::new(&network).await);
    let peer = connect(&hand.mesh, &node.mesh).await;
    is_disconnected(&node, &peer, std::slice::from_ref(&tell)).await;

    let (node, hand) = (Node::new(&network).await, Hand::new(&network).await);
    let peer = connect(&hand.mesh, &node.mesh).await;
    is_disconnected(&node, &peer, &junk).await;

    // A dialled peer that answers, and goes on telling.
    let (node, mut hand) = (Node::new(&network).await, Hand::new(&network).await);
    connect(&node.mesh, &hand.mesh).await;
    let peer = hand.next_ask().await;
    let answer = addresses(5..6);
    say(&peer, &ExchangeMessage::Tell(answer.clone())).await;
    learns(&node, &answer[0]).await;
    is_disconnected(&node, &peer, &[tell]).await;

    let (node, mut hand) = (Node::new(&network).await, Hand::new(&network).await);
    connect(&node.mesh, &hand.mesh).await;
    let peer = hand.next_ask().await;
    is_disconnected(&node, &peer, &junk).await;
}

#[tokio::test(start_paused = true)]
async fn peers_without_the_exchange_are_left_alone() {
    let network = Memory::new();
    let node = Node::new(&network).await;
    let other = App::new().transport(network.clone());
    let other = other.listen("other:0").await.unwrap();
    let peer = connect(&node.mesh, &other).await;
    sleep(2 * ASK_EVERY).await;
    assert!(peer.is_connected());
    assert_eq!(peer.stats().channel_sent, 0);
}
