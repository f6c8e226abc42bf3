//! Bridges over an engine in memory, on paused time.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use coalescent::Event;
use coalescent::transport::Memory;
use coalescent_bridge::engine::{Carried, Heard, Said};
use coalescent_bridge::{Bridge, HELD_COST, RETURN};
use futures_core::Stream;
use futures_sink::Sink;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::support::{Node, count, once, until};

/// An engine without a server: whoever is connected hears what is said. Cheap to clone.
#[derive(Clone, Default)]
struct Bus(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    listeners: Vec<mpsc::UnboundedSender<Heard>>,
    is_away: bool,
    /// Swallows what is said next, so many times.
    loses: usize,
    messages: BTreeMap<String, usize>,
}

impl Bus {
    fn engine(&self) -> OnBus {
        let (send, heard) = mpsc::unbounded_channel();
        let mut inner = self.0.lock().unwrap();
        if !inner.is_away {
            send.send(Heard::Up).unwrap();
        }
        inner.listeners.push(send);
        OnBus {
            bus: self.clone(),
            heard,
        }
    }

    fn set_away(&self, is_away: bool) {
        let mut inner = self.0.lock().unwrap();
        inner.is_away = is_away;
        let heard = if is_away { Heard::Down } else { Heard::Up };
        inner.tell(&heard);
    }

    /// Publishes as somebody who is no bridge.
    fn publish(&self, text: &str) {
        let mut inner = self.0.lock().unwrap();
        inner.tell(&Heard::Message {
            nonce: None,
            payload: Bytes::copy_from_slice(text.as_bytes()),
        });
    }

    /// Returns how often each message was said by bridges.
    fn said(&self) -> BTreeMap<String, usize> {
        self.0.lock().unwrap().messages.clone()
    }
}

impl Inner {
    fn tell(&mut self, heard: &Heard) {
        self.listeners
            .retain(|listener| listener.send(heard.clone()).is_ok());
    }
}

struct OnBus {
    bus: Bus,
    heard: mpsc::UnboundedReceiver<Heard>,
}

impl Stream for OnBus {
    type Item = Heard;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Heard>> {
        self.heard.poll_recv(cx)
    }
}

impl Sink<Said> for OnBus {
    type Error = std::io::Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, said: Said) -> Result<(), Self::Error> {
        let mut inner = self.bus.0.lock().unwrap();
        match said {
            Said::Message(Carried { payload, .. }) if payload == "unspeakable" => {
                return Err(std::io::Error::other("no"));
            }
            Said::Message(Carried { nonce, payload }) => {
                if inner.is_away || inner.loses > 0 {
                    inner.loses = inner.loses.saturating_sub(1);
                    return Ok(());
                }
                count(&mut inner.messages, &payload);
                let nonce = Some(nonce);
                inner.tell(&Heard::Message { nonce, payload });
            }
            Said::Note(note) if !inner.is_away => inner.tell(&Heard::Note(note)),
            _ => {}
        }
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }
}

/// Longer than any bridge holds back what is not its turn.
const SETTLED: Duration = Duration::from_secs(10);

/// Two meshes of two bridges and a node each, which have only the bus in common.
struct Two {
    bus: Bus,
    bridges: Vec<Bridge<OnBus>>,
    /// Three of the one mesh, then three of the other; the first two of each have a bridge.
    nodes: Vec<Node>,
}

impl Two {
    async fn start() -> Self {
        let bus = Bus::default();
        let (mut bridges, mut nodes) = (Vec::new(), Vec::new());
        for mesh in ["a", "b"] {
            let network = Memory::new();
            let addr = |number: usize| format!("{mesh}:{}", number + 1);
            for number in 0..3 {
                let seeds: Vec<_> = (0..number).map(addr).collect();
                let seeds: Vec<_> = seeds.iter().map(String::as_str).collect();
                let bridge = (number < 2).then(|| Bridge::new(bus.engine()).group(mesh));
                bridges.extend(bridge.clone());
                nodes.push(Node::start(&network, &addr(number), &seeds, bridge).await);
            }
        }
        for (number, node) in nodes.iter().enumerate() {
            let bridges = usize::from(number % 3 < 2);
            node.mesh.connected(2 + bridges).await.unwrap();
        }
        sleep(SETTLED).await;
        Self {
            bus,
            bridges,
            nodes,
        }
    }

    /// Says a message at each node, and returns all of them.
    async fn say(&self, round: &str) -> Vec<String> {
        let mut texts = Vec::new();
        for (number, node) in self.nodes.iter().enumerate() {
            let text = format!("{round} of {number}");
            node.say(&*text).await;
            texts.push(text);
        }
        texts
    }

    /// Checks that each node hears each of `texts` once, but its own.
    async fn each_once(&mut self, texts: &[String]) {
        for (number, node) in self.nodes.iter_mut().enumerate() {
            let own = format!(" of {number}");
            let others = texts.iter().filter(|text| !text.ends_with(&own));
            let others = once(others);
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
    let texts = two.say("first").await;
    two.each_once(&texts).await;
    assert_eq!(two.bus.said(), once(&texts));
    assert!(two.bridges.iter().all(|bridge| bridge.stats().lost() == 0));
}

#[tokio::test(start_paused = true)]
async fn equal_payloads_are_different_messages() {
    let mut two = Two::start().await;
    for _ in 0..3 {
        two.nodes[2].say("tick").await;
    }
    let three = BTreeMap::from([("tick".to_owned(), 3)]);
    assert_eq!(two.nodes[5].heard(3).await, three);
    assert_eq!(two.bus.said(), three);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_bridge_is_heard_once_too() {
    let mut two = Two::start().await;
    two.bus.publish("from outside");
    two.bus.publish("from outside");
    let twice = BTreeMap::from([("from outside".to_owned(), 2)]);
    for node in &mut two.nodes {
        assert_eq!(node.heard(2).await, twice);
    }
    sleep(SETTLED).await;
    for node in &mut two.nodes {
        assert_eq!(node.rest(), BTreeMap::new());
    }
    assert_eq!(two.bus.said(), BTreeMap::new(), "it goes round in a circle");
}

#[tokio::test(start_paused = true)]
async fn another_bridge_takes_over() {
    let mut two = Two::start().await;
    // The first bridge of each mesh falls silent without a word.
    two.nodes.remove(3).mesh.abort().await;
    two.nodes.remove(0).mesh.abort().await;
    two.nodes[1].say("still here").await;
    assert_eq!(two.nodes[3].heard(1).await, once(["still here"]));
    two.bus.publish("from outside");
    for node in &mut two.nodes {
        assert_eq!(node.heard(1).await.len(), 1);
    }
    assert_eq!(two.bus.said(), once(["still here"]));
}

#[tokio::test(start_paused = true)]
async fn what_is_said_while_the_engine_is_away_crosses_later() {
    let mut two = Two::start().await;
    two.bus.set_away(true);
    let mut texts = two.say("early").await;
    // Longer than bridges take each other to be there without hearing of them.
    sleep(SETTLED * 6).await;
    texts.extend(two.say("late").await);
    two.bus.set_away(false);
    two.each_once(&texts).await;
    assert_eq!(two.bus.said(), once(&texts));
}

#[tokio::test(start_paused = true)]
async fn what_the_engine_loses_is_said_again() {
    let mut two = Two::start().await;
    two.bus.0.lock().unwrap().loses = 2;
    two.nodes[2].say("twice lost").await;
    assert_eq!(two.nodes[5].heard(1).await, once(["twice lost"]));
    sleep(SETTLED).await;
    assert_eq!(two.nodes[5].rest(), BTreeMap::new());
}

#[tokio::test(start_paused = true)]
async fn what_has_no_room_is_dropped_counted_and_reported() {
    let bus = Bus::default();
    bus.set_away(true);
    let bridge = Bridge::new(bus.engine()).hold(10 * (HELD_COST + 4));
    let network = Memory::new();
    let node = Node::start(&network, "a:1", &[], bridge.clone()).await;
    let mut events = node.mesh.events();
    node.mesh.connected(1).await.unwrap();
    for number in 0..25 {
        node.say(format!("{number:04}")).await;
    }
    until("15 are dropped", || bridge.stats().dropped == 15).await;
    let reported = async {
        loop {
            if let Some(Event::Error { error, .. }) = events.next().await
                && error.is_plugin()
            {
                return error.to_string();
            }
        }
    };
    let reported = reported.await;
    assert!(
        reported.contains("have not crossed the bridge"),
        "{reported}"
    );
    bus.set_away(false);
    until("the first ten cross", || bus.said().len() == 10).await;
    assert!(bus.said().contains_key("0009"));
    node.say("next").await;
    until("there is room again", || bus.said().contains_key("next")).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_engine_cannot_carry_costs_nothing_else() {
    let bus = Bus::default();
    let bridge = Bridge::new(bus.engine());
    let network = Memory::new();
    let node = Node::start(&network, "a:1", &[], bridge.clone()).await;
    node.mesh.connected(1).await.unwrap();
    node.say("unspeakable").await;
    node.say("fine").await;
    until("the other one crosses", || bus.said() == once(["fine"])).await;
    assert_eq!(bridge.stats().refused, 1);
}

#[tokio::test(start_paused = true)]
async fn too_large_for_the_mesh_costs_nothing_else() {
    let bus = Bus::default();
    let bridge = Bridge::new(bus.engine());
    let mut node = Node::start(&Memory::new(), "a:1", &[], bridge.clone()).await;
    node.mesh.connected(1).await.unwrap();
    sleep(RETURN).await;
    bus.publish(&"x".repeat(2 * 1024 * 1024));
    bus.publish("fine");
    assert_eq!(node.heard(1).await, once(["fine"]));
    assert_eq!(bridge.stats().refused, 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_leaves_says_all_it_has() {
    let bus = Bus::default();
    let bridge = Bridge::new(bus.engine());
    let node = Node::start(&Memory::new(), "a:1", &[], bridge.clone()).await;
    node.mesh.connected(1).await.unwrap();
    sleep(RETURN).await;
    for number in 0..1000 {
        node.say(number.to_string()).await;
    }
    let stats = node.mesh.shutdown().await;
    assert!(bus.said() == once(0..1000), "{} are said", bus.said().len());
    assert_eq!((stats.dropped, bridge.stats().lost()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn makes_its_connection_to_the_node_again() {
    let bus = Bus::default();
    let bridge = Bridge::new(bus.engine());
    let node = Node::start(&Memory::new(), "a:1", &[], bridge).await;
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
    use coalescent::{App, AppExt, Overlay, OverlayExt};

    let bus = Bus::default();
    let mut nodes = Vec::new();
    for mesh in ["a", "b"] {
        // Two bridges, and two nodes that publish and read.
        let network = Memory::new();
        for number in 0..4 {
            let bridge = || Bridge::new(bus.engine()).group(mesh).topic("prices");
            let app = App::new().transport(network.clone()).seeds(["first:1"]);
            let app = app.plugin((number < 2).then(bridge)).with(Overlay::new());
            let node = app.listen(format!("first:{}", number + 1)).await.unwrap();
            if number >= 2 {
                nodes.push((
                    node.topic("prices").unwrap(),
                    node.topic("other").unwrap(),
                    node,
                ));
            } else {
                nodes.push((
                    node.topic("else").unwrap(),
                    node.topic("other").unwrap(),
                    node,
                ));
            }
        }
    }
    let speakers = [2, 3, 6, 7];
    for number in speakers {
        let neighbours = nodes[number].0.connected(1);
        tokio::time::timeout(SETTLED * 6, neighbours)
            .await
            .unwrap()
            .unwrap();
    }
    sleep(SETTLED * 2).await;
    let mut texts = Vec::new();
    for round in 0..20 {
        for number in speakers {
            let text = format!("{round} of {number}");
            nodes[number].0.publish(text.clone()).await.unwrap();
            texts.push(text);
        }
    }
    nodes[2].1.publish("stays here").await.unwrap();
    let _ = nodes[2].2.broadcast_payload("stays here").await.unwrap();
    bus.publish("from outside");
    texts.push("from outside".to_owned());
    sleep(SETTLED).await;
    for number in speakers {
        let mut heard = BTreeMap::new();
        while let Some(frame) = nodes[number].0.try_recv() {
            count(&mut heard, &frame.payload_bytes());
        }
        let own = format!(" of {number}");
        assert_eq!(
            heard,
            once(texts.iter().filter(|text| !text.ends_with(&own)))
        );
    }
    texts.pop();
    assert_eq!(bus.said(), once(&texts));
}
