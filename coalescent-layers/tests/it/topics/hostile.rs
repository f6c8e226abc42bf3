//! Neighbours that break the rules of topics.

use std::time::Duration;

use coalescent_core::connection::ConnectionInfo;
use coalescent_core::wire::{Hello, Kind};
use coalescent_core::{AppExt, Mesh, Peer};
use coalescent_layers::overlay::YOUNG;
use coalescent_layers::overlay::topic::FORWARD_GRACE;
use coalescent_layers::{MeshOverlayExt, Overlay, Topic};
use futures_util::SinkExt;
use support::{ByHand, packet, soon, until};
use tokio::io::DuplexStream;
use tokio::time::{Instant, sleep, timeout};

use super::nodes::{Nodes, next};

type Key = [u8; 32];

/// Kinds of messages about payloads.
const PRUNE: u8 = 1;
const GRAFT: u8 = 2;

fn topic_id(name: &str) -> Key {
    let bytes = [b"coalescent/topic/1\0".as_slice(), name.as_bytes()].concat();
    *blake3::hash(&bytes).as_bytes()
}

fn message(topic: &Key, kind: u8, fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = [topic.as_slice(), &[1, kind]].concat();
    fields
        .iter()
        .for_each(|field| bytes.extend_from_slice(field));
    bytes
}

/// A payload of up to 127 bytes, nonce included.
fn gossip(topic: &Key, id: &Key, content: &[u8], hops: u8) -> Vec<u8> {
    message(topic, 0, &[id, &[content.len() as u8], content, &[0, hops]])
}

fn graft(topic: &Key, id: &Key) -> Vec<u8> {
    message(topic, 2, &[&[1], id, &[0]])
}

fn ihave(topic: &Key, ids: &[Key]) -> Vec<u8> {
    let mut bytes = message(topic, 3, &[&[ids.len() as u8]]);
    for id in ids {
        bytes.extend_from_slice(id);
        bytes.push(0);
    }
    bytes
}

/// An id that belongs to no payload.
fn random(number: u32) -> Key {
    *blake3::hash(&number.to_be_bytes()).as_bytes()
}

/// A neighbour by hand, in one topic.
struct Hostile {
    by_hand: ByHand<DuplexStream>,
    peer: Peer,
    topic: Key,
}

impl Hostile {
    /// Becomes a neighbour of `mesh` in a topic.
    async fn join(mesh: &Mesh, name: &str) -> Self {
        let (near, far) = tokio::io::duplex(1 << 20);
        let mut by_hand = ByHand::new(near);
        let hello = Hello::new(by_hand.node, "").channels(["overlay/1"]);
        let greet = async {
            by_hand.send(Kind::Hello, hello.encode().unwrap()).await;
            assert_eq!(by_hand.recv().await.unwrap().kind, Kind::Hello);
        };
        let (adopted, ()) = tokio::join!(mesh.adopt(far, ConnectionInfo::inbound()), greet);
        let mut hostile = Self {
            by_hand,
            peer: adopted.unwrap(),
            topic: topic_id(name),
        };
        let join = [hostile.topic.as_slice(), &[0, 0, 0]].concat();
        hostile.say(join).await;
        hostile
    }

    /// Says something on the channel. Returns whether it is still listened to.
    async fn say(&mut self, message: Vec<u8>) -> bool {
        let packet = packet(Kind::Channel { index: 0 }, message);
        self.by_hand.framed.feed(packet).await.is_ok()
    }

    async fn flush(&mut self) {
        let _ = self.by_hand.framed.flush().await;
    }

    /// Reads what comes, so that nobody waits for it.
    async fn read_all(&mut self) {
        while let Ok(Some(_)) = timeout(Duration::from_millis(50), self.by_hand.recv()).await {}
    }

    async fn until_neighbour(&mut self, topic: &Topic) {
        self.flush().await;
        let peer = self.peer.clone();
        until("it is a neighbour", || topic.neighbours().contains(&peer)).await;
        self.read_all().await;
    }

    /// Reads what comes until a payload `last` is there. Returns whether a payload
    /// `other` came before.
    async fn comes_before(&mut self, other: &[u8], last: &[u8]) -> bool {
        let mut came = false;
        loop {
            let payload = self.by_hand.recv().await.unwrap().payload;
            let has = |content: &[u8]| payload.windows(content.len()).any(|part| part == content);
            came |= has(other);
            if has(last) {
                return came;
            }
        }
    }

    /// Reads what comes until a message about payloads of this kind is there.
    async fn until_told(&mut self, kind: u8) {
        let told = async {
            loop {
                let packet = self.by_hand.recv().await.unwrap();
                if packet.payload.get(32..34) == Some(&[1, kind]) {
                    return;
                }
            }
        };
        soon("it is told", told).await;
    }

    async fn until_cut(&mut self) {
        self.flush().await;
        soon("it is cut", self.peer.closed()).await;
    }
}

/// Two honest nodes in the topic `a`, and a neighbour of the first by hand.
async fn start(tree: bool) -> (Nodes, Vec<Topic>, Hostile) {
    let nodes = Nodes::start(2, |_, app, overlay: Overlay| {
        app.with(if tree {
            overlay.tree("a")
        } else {
            overlay.topic("a")
        })
    })
    .await;
    let topics = nodes.subscribe("a", 0..2).await;
    let mut hostile = Hostile::join(&nodes.meshes[0], "a").await;
    hostile.until_neighbour(&topics[0]).await;
    (nodes, topics, hostile)
}

/// The honest nodes go on.
async fn goes_on(topics: &mut [Topic]) {
    for number in 0..10_u8 {
        topics[0].publish(vec![number]).await.unwrap();
        while next(&mut topics[1]).await != [number] {}
        topics[1].publish(vec![number]).await.unwrap();
        while next(&mut topics[0]).await != [number] {}
    }
}

#[tokio::test(start_paused = true)]
async fn an_honest_payload_by_hand_is_taken() {
    for tree in [false, true] {
        let (_nodes, mut topics, mut hostile) = start(tree).await;
        let content = b"8 bytes:by hand";
        let id = *blake3::hash(content).as_bytes();
        for _ in 0..3 {
            let topic = hostile.topic;
            hostile.say(gossip(&topic, &id, content, 0)).await;
        }
        hostile.flush().await;
        for topic in &mut topics {
            assert_eq!(next(topic).await, b"by hand");
        }
        assert_eq!(topics[0].stats().copies, 2);
        // A neighbour in a topic alone is no peer of the mesh.
        assert!(hostile.peer.is_contact());
        goes_on(&mut topics).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_payload_with_anothers_id_is_a_fault() {
    for tree in [false, true] {
        let (_nodes, mut topics, mut hostile) = start(tree).await;
        let topic = hostile.topic;
        for number in 0..6 {
            hostile
                .say(gossip(&topic, &random(number), b"8 bytes:false", 0))
                .await;
        }
        hostile.until_cut().await;
        assert_eq!(topics[0].stats().received, 0);
        goes_on(&mut topics).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_payload_without_room_for_a_nonce_is_a_fault() {
    let (_nodes, mut topics, mut hostile) = start(false).await;
    let topic = hostile.topic;
    for number in 0..6_u8 {
        let content = [number; 7];
        let id = *blake3::hash(&content).as_bytes();
        hostile.say(gossip(&topic, &id, &content, 0)).await;
    }
    hostile.until_cut().await;
    goes_on(&mut topics).await;
}

#[tokio::test(start_paused = true)]
async fn payloads_that_have_come_too_far_are_passed_over() {
    let (_nodes, mut topics, mut hostile) = start(false).await;
    let topic = hostile.topic;
    let content = b"8 bytes:far";
    let id = *blake3::hash(content).as_bytes();
    // 300 hops, as a varint.
    let far = message(
        &topic,
        0,
        &[&id, &[content.len() as u8], content, &[0, 0xac, 0x02]],
    );
    hostile.say(far).await;
    hostile.flush().await;
    goes_on(&mut topics).await;
    assert_eq!(topics[0].stats().received, 10);
    assert!(hostile.peer.is_connected());
}

#[tokio::test(start_paused = true)]
async fn payloads_of_unknown_topics_are_passed_over_and_by_the_thousand_a_fault() {
    let (nodes, mut topics, mut hostile) = start(false).await;
    let unknown = topic_id("unknown");
    let content = b"8 bytes:unknown";
    let id = *blake3::hash(content).as_bytes();
    for _ in 0..1000 {
        hostile.say(gossip(&unknown, &id, content, 0)).await;
    }
    hostile.flush().await;
    goes_on(&mut topics).await;
    assert!(hostile.peer.is_connected());
    assert!(nodes.meshes[0].overlay().unwrap().refused() >= 1000);
    for _ in 0..30_000 {
        if !hostile.say(gossip(&unknown, &id, content, 0)).await {
            break;
        }
    }
    hostile.until_cut().await;
    goes_on(&mut topics).await;
}

#[tokio::test(start_paused = true)]
async fn storms_of_prunes_and_grafts_end_and_cost_nobody_else() {
    let (_nodes, mut topics, mut hostile) = start(true).await;
    topics[0].publish(vec![7; 1000]).await.unwrap();
    // Of the payload that it was sent, it knows the id.
    let sent = loop {
        let packet = hostile.by_hand.recv().await.unwrap();
        if packet.payload.len() > 1000 && packet.kind == (Kind::Channel { index: 0 }) {
            break packet.payload;
        }
    };
    let id: Key = sent[34..66].try_into().unwrap();
    let topic = hostile.topic;
    for round in 0..50_000_u32 {
        let storm = match round % 3 {
            0 => message(&topic, 1, &[]),
            1 => graft(&topic, &id),
            _ => graft(&topic, &random(round)),
        };
        if !hostile.say(storm).await {
            break;
        }
        if round % 1000 == 0 {
            hostile.flush().await;
        }
    }
    hostile.until_cut().await;
    goes_on(&mut topics).await;
    assert!(topics[0].stats().dropped == 0);
}

/// It would have itself left out of a branch of the tree that was just asked for.
#[tokio::test(start_paused = true)]
async fn who_has_announced_a_payload_is_not_sent_it() {
    let (nodes, mut topics, mut announcer) = start(true).await;
    let mut sender = Hostile::join(&nodes.meshes[0], "a").await;
    sender.until_neighbour(&topics[0]).await;
    let topic = sender.topic;
    let contents = [b"8 bytes:announced", b"8 bytes:forgotten"];
    let ids = contents.map(|content| *blake3::hash(content).as_bytes());
    announcer.say(ihave(&topic, &ids[..1])).await;
    announcer.flush().await;
    // So the announcement has arrived, and the link is one of the tree.
    announcer.until_told(GRAFT).await;
    for (id, content) in ids.iter().zip(contents) {
        sender.say(gossip(&topic, id, content, 0)).await;
    }
    sender.flush().await;
    for content in contents {
        assert_eq!(next(&mut topics[1]).await, content[8..]);
    }
    let [announced, other] = contents;
    assert!(!announcer.comes_before(announced, other).await);
    goes_on(&mut topics).await;
}

/// A node with five neighbours, of which three may have to give way.
#[tokio::test(start_paused = true)]
async fn a_branch_of_the_tree_gives_way_last() {
    for leaf in 0..3 {
        let (nodes, topics, _first) = start(true).await;
        let mut others = Vec::new();
        for _ in 0..3 {
            let mut other = Hostile::join(&nodes.meshes[0], "a").await;
            other.until_neighbour(&topics[0]).await;
            others.push(other);
        }
        let topic = others[0].topic;
        let content = b"8 bytes:a copy";
        let id = *blake3::hash(content).as_bytes();
        // All but one become branches again: they ask, or are asked.
        for (number, other) in others.iter_mut().enumerate() {
            if number == 1 {
                for _ in 0..2 {
                    other.say(gossip(&topic, &id, content, 0)).await;
                }
                other.flush().await;
                other.until_told(PRUNE).await;
            } else {
                other.say(message(&topic, PRUNE, &[])).await;
            }
            if number != leaf && number == 2 {
                other.say(graft(&topic, &id)).await;
            } else if number != leaf {
                other.say(ihave(&topic, &[random(0)])).await;
                other.flush().await;
                other.until_told(GRAFT).await;
            }
            other.flush().await;
        }
        sleep(YOUNG).await;
        let mut newcomer = Hostile::join(&nodes.meshes[0], "a").await;
        newcomer.until_neighbour(&topics[0]).await;
        let neighbours = topics[0].neighbours();
        for (number, other) in others.iter().enumerate() {
            assert_eq!(neighbours.contains(&other.peer), number != leaf, "{number}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn announcements_of_what_is_not_there_end() {
    let (nodes, mut topics, mut hostile) = start(true).await;
    let topic = hostile.topic;
    let mut asked = 0;
    'flood: for round in 0..3000_u32 {
        let ids: Vec<_> = (0..100).map(|at| random(round * 100 + at)).collect();
        if !hostile.say(ihave(&topic, &ids)).await {
            break;
        }
        if round % 100 == 0 {
            hostile.flush().await;
            while let Ok(packet) = timeout(Duration::from_millis(1), hostile.by_hand.recv()).await {
                match packet {
                    Some(packet) => asked += usize::from(packet.payload.get(33) == Some(&2)),
                    None => break 'flood,
                }
            }
        }
    }
    hostile.until_cut().await;
    assert!(asked < 20_000, "{asked}");
    sleep(Duration::from_secs(30)).await;
    goes_on(&mut topics).await;
    assert!(nodes.meshes[0].overlay().unwrap().refused() > 0);
}

#[tokio::test(start_paused = true)]
async fn who_is_no_neighbour_is_not_heard() {
    let nodes = Nodes::start(2, |_, app, overlay| app.with(overlay)).await;
    let mut topics = nodes.subscribe("a", 0..2).await;
    let mut hostile = Hostile::join(&nodes.meshes[0], "b").await;
    let content = b"8 bytes:stranger";
    let id = *blake3::hash(content).as_bytes();
    hostile.say(gossip(&topic_id("a"), &id, content, 0)).await;
    hostile.flush().await;
    goes_on(&mut topics).await;
    assert_eq!(topics[0].stats().received, 10);
}

#[tokio::test(start_paused = true)]
async fn a_neighbour_that_does_not_read_loses_for_itself_alone() {
    for tree in [false, true] {
        let (_nodes, mut topics, hostile) = start(tree).await;
        let began = Instant::now();
        let payloads = 1000;
        for number in 0..payloads {
            topics[1].publish(vec![number as u8; 4096]).await.unwrap();
            assert_eq!(next(&mut topics[0]).await.len(), 4096);
        }
        // It is waited for once.
        assert!(began.elapsed() < 2 * FORWARD_GRACE, "{:?}", began.elapsed());
        let stats = topics[0].stats();
        assert!(stats.dropped > 100 && stats.dropped < payloads, "{stats:?}");
        assert!(hostile.peer.stats().channel_dropped >= stats.dropped);
        goes_on(&mut topics[..]).await;
    }
}
