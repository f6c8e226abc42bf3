//! What crosses, and how often, over an engine in memory, on paused time.

use std::collections::BTreeMap;
use std::time::Duration;

use coalescent::transport::Memory;
use coalescent_bridge::{Bridge, Stats};
use tokio::time::sleep;

use crate::bus::{Bus, OnBus};
use crate::support::{Node, once, until};

/// Longer than anything that crosses takes.
const SETTLED: Duration = Duration::from_secs(10);

/// Two meshes of two bridges and a node each, which have only the bus in common.
struct Two {
    bus: Bus,
    stats: Vec<Stats>,
    /// Three of the one mesh, then three of the other; the first two of each have a bridge.
    nodes: Vec<Node>,
}

impl Two {
    async fn start() -> Self {
        let bus = Bus::default();
        let (mut stats, mut nodes) = (Vec::new(), Vec::new());
        for mesh in ["a", "b"] {
            let network = Memory::new();
            let addr = |number: usize| format!("{mesh}:{}", number + 1);
            for number in 0..3 {
                let seeds: Vec<_> = (0..number).map(addr).collect();
                let seeds: Vec<_> = seeds.iter().map(String::as_str).collect();
                let bridge = (number < 2).then(|| Bridge::new(bus.engine()));
                stats.extend(bridge.as_ref().map(Bridge::stats));
                nodes.push(Node::start(&network, &addr(number), &seeds, bridge).await);
            }
        }
        for (number, node) in nodes.iter().enumerate() {
            let bridges = usize::from(number % 3 < 2);
            node.mesh.connected(2 + bridges).await.unwrap();
        }
        Self { bus, stats, nodes }
    }

    /// Checks that each node hears each of `texts` once, but its own.
    async fn each_once(&mut self, texts: &[String]) {
        for (number, node) in self.nodes.iter_mut().enumerate() {
            let own = format!(" of {number}");
            let others = once(texts.iter().filter(|text| !text.ends_with(&own)));
            assert_eq!(node.heard(others.len()).await, others, "node {number}");
        }
        sleep(SETTLED).await;
        for (number, node) in self.nodes.iter_mut().enumerate() {
            assert_eq!(node.rest(), BTreeMap::new(), "node {number} hears more");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_message_appears_once_on_each_side() {
    let mut two = Two::start().await;
    let mut texts = Vec::new();
    for round in 0..20 {
        for (number, node) in two.nodes.iter().enumerate() {
            texts.push(format!("{round} of {number}"));
            node.say(texts.last().unwrap()).await;
        }
    }
    two.each_once(&texts).await;
    assert_eq!(
        two.bus.said().into_keys().collect::<Vec<_>>(),
        once(&texts).into_keys().collect::<Vec<_>>()
    );
    // Each by the bridges of its own mesh. One of the other may hear it there, from its neighbour,
    // before the bus tells it.
    let bridges = two.stats.len();
    assert!(two.bus.said().values().all(|&times| times <= bridges));
    assert!(two.stats.iter().all(|stats| stats.lost() == 0));
}

#[tokio::test(start_paused = true)]
async fn equal_payloads_are_different_messages() {
    let mut two = Two::start().await;
    for _ in 0..3 {
        two.nodes[2].say("tick").await;
    }
    let three = BTreeMap::from([("tick".to_owned(), 3)]);
    assert_eq!(two.nodes[5].heard(3).await, three);
}

#[tokio::test(start_paused = true)]
async fn what_came_from_the_engine_does_not_go_back() {
    let mut two = Two::start().await;
    two.bus.publish(Some(7), "from outside");
    two.bus.publish(Some(7), "from outside");
    two.bus.publish(None, "without a nonce");
    let texts = ["from outside", "without a nonce"].map(str::to_owned);
    two.each_once(&texts).await;
    assert_eq!(two.bus.said(), BTreeMap::new(), "it goes round in a circle");
}

#[tokio::test(start_paused = true)]
async fn what_went_to_the_engine_does_not_come_back() {
    let bus = Bus::default();
    let bridge = Bridge::new(bus.engine());
    let stats = bridge.stats();
    let mut node = Node::start(&Memory::new(), "a:1", &[], bridge).await;
    node.mesh.connected(1).await.unwrap();
    node.say("echo").await;
    bus.publish(None, "the end");
    assert_eq!(node.heard(1).await, once(["the end"]));
    until("it is said", || bus.said() == once(["echo"])).await;
    sleep(SETTLED).await;
    assert_eq!((stats.said(), stats.entered()), (1, 1));
}

/// A nonce can be guessed, as those of a node come one after another.
#[tokio::test(start_paused = true)]
async fn who_guesses_a_nonce_keeps_nothing_from_crossing() {
    let mut two = Two::start().await;
    two.nodes[2].say("first").await;
    until("it is said", || two.bus.nonce("first").is_some()).await;
    let nonce = two.bus.nonce("first").unwrap();
    for guess in nonce..nonce + 1000 {
        two.bus.publish(Some(guess), "junk");
    }
    sleep(SETTLED).await;
    two.nodes[2].say("second").await;
    until("it is said", || two.bus.nonce("second").is_some()).await;
    let guessed = two.bus.nonce("second").unwrap();
    assert!((nonce..nonce + 1000).contains(&guessed));
    let heard = two.nodes[5].heard(1002).await;
    assert_eq!(heard["second"], 1);
}

#[tokio::test(start_paused = true)]
async fn what_has_no_nonce_may_be_said_again_later() {
    let bus = Bus::default();
    let mut node = Node::start(&Memory::new(), "a:1", &[], Bridge::new(bus.engine())).await;
    node.mesh.connected(1).await.unwrap();
    for _ in 0..3 {
        bus.publish(None, "tick");
        assert_eq!(node.heard(1).await, once(["tick"]));
        // Relays forget it.
        sleep(Duration::from_secs(300)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn answers_its_node() {
    let bus = Bus::default();
    let node = Node::start(&Memory::new(), "a:1", &[], Bridge::new(bus.engine())).await;
    node.mesh.connected(1).await.unwrap();
    let peer = node.mesh.peers().list()[0].clone();
    let begun = tokio::time::Instant::now();
    assert!(peer.request_payload("anything").await.is_err());
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "it does not answer"
    );
    sleep(Duration::from_secs(3600)).await;
    assert!(peer.is_connected(), "it does not answer pings");
}

#[tokio::test(start_paused = true)]
async fn makes_its_connection_to_the_node_again() {
    let bus = Bus::default();
    let node = Node::start(&Memory::new(), "a:1", &[], Bridge::new(bus.engine())).await;
    node.mesh.connected(1).await.unwrap();
    let peer = node.mesh.peers().list()[0].clone();
    peer.disconnect("a test");
    peer.closed().await;
    node.mesh.connected(1).await.unwrap();
    node.say("again").await;
    until("it crosses", || bus.said() == once(["again"])).await;
}

#[cfg(feature = "topics")]
#[tokio::test(start_paused = true)]
async fn a_topic_crosses_and_nothing_else_does() {
    use coalescent::{App, AppExt, MeshOverlayExt, Overlay};

    use crate::support::count;

    let bus = Bus::default();
    let (mut bridges, mut nodes) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        // Two bridges, and two nodes that publish and read.
        let network = Memory::new();
        for number in 0..4 {
            let bridge = (number < 2).then(|| Bridge::<OnBus>::new(bus.engine()).topic("prices"));
            let app = App::new().transport(network.clone()).seeds(["first:1"]);
            let app = app.plugin(bridge).with(Overlay::new());
            let node = app.listen(format!("first:{}", number + 1)).await.unwrap();
            let other = node.topic("other").unwrap();
            match number {
                0 | 1 => bridges.push((other, node)),
                _ => nodes.push((node.topic("prices").unwrap(), other, node)),
            }
        }
    }
    for (topic, ..) in &nodes {
        let neighbours = tokio::time::timeout(SETTLED * 6, topic.connected(1)).await;
        neighbours.unwrap().unwrap();
    }
    sleep(SETTLED * 2).await;
    let mut texts = Vec::new();
    for round in 0..20 {
        for (number, (topic, ..)) in nodes.iter().enumerate() {
            texts.push(format!("{round} of {number}"));
            topic.publish(texts.last().unwrap().clone()).await.unwrap();
        }
    }
    nodes[2].1.publish("stays here").await.unwrap();
    let _ = nodes[2].2.broadcast_payload("stays here").await.unwrap();
    bus.publish(None, "from outside");
    sleep(SETTLED).await;
    assert!(bus.said().keys().eq(once(&texts).keys()));
    assert!(bus.said().values().all(|&times| times <= 2));
    texts.push("from outside".to_owned());
    for (number, (topic, ..)) in nodes.iter_mut().enumerate() {
        let mut heard = BTreeMap::new();
        while let Some(frame) = topic.try_recv() {
            count(&mut heard, &frame.payload_bytes());
        }
        let own = format!(" of {number}");
        assert_eq!(
            heard,
            once(texts.iter().filter(|text| !text.ends_with(&own)))
        );
    }
}
