//! Peers that mean no good: they lose their connection, or gain nothing.

use std::time::Duration;

use bytes::Bytes;
use coalescent_core::transport::Memory;
use coalescent_core::{App, AppExt, Mesh, Peer, Plugin, Registrar};
use coalescent_layers::overlay::{
    CHANNEL, KEPT, MAX_KNOWN, MESSAGE_EVERY, MESSAGES_AT_ONCE, OverlayStats, PASSIVE,
};
use coalescent_layers::{MeshOverlayExt, Overlay};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::until;
use tokio::time::sleep;

use super::swarm::Swarm;

/// A plugin that lists the channel, and heeds nothing that comes on it.
struct Mute;

impl Plugin for Mute {
    fn register(&self, app: &mut Registrar) {
        app.channel(CHANNEL, |_: Peer, _: Bytes| std::future::ready(()));
    }
}

/// A node that says what it likes.
struct Hand {
    mesh: Mesh,
    peer: Peer,
}

impl Hand {
    async fn new(network: &Memory, node: &Mesh) -> Self {
        let app = App::new().transport(network.clone()).plugin(Mute);
        let mesh = app.listen("hand:0").await.unwrap();
        let addr = node.local_addrs()[0].to_string();
        let peer = mesh.connect(&addr).await.unwrap();
        Self { mesh, peer }
    }

    /// Says something, if it is still heard.
    async fn say(&self, bytes: Vec<u8>) {
        let _ = self.peer.send_on(CHANNEL, bytes).await;
    }

    fn id(&self) -> [u8; 32] {
        id(*self.mesh.id().as_bytes())
    }
}

fn id(node: [u8; 16]) -> [u8; 32] {
    let mut id = [0; 32];
    id[..16].copy_from_slice(&node);
    id
}

/// The beginning of a message of the mesh itself: whether it is of the broadcast, and its kind.
fn head(broadcast: u8, kind: u8) -> Vec<u8> {
    let mut bytes = blake3::hash(b"coalescent/topic/1\0").as_bytes().to_vec();
    bytes.extend([broadcast, kind]);
    bytes
}

/// A join of a node that does not say where it is.
fn join() -> Vec<u8> {
    let mut bytes = head(0, 0);
    bytes.push(0);
    bytes
}

/// A walk that names invented peers.
fn walk(origin: [u8; 32], rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = head(0, 2);
    bytes.extend(origin);
    bytes.push(16);
    for _ in 0..16 {
        bytes.extend(id(rng.random()));
        let data = format!("127.0.0.1:{}", rng.random_range(20_000..60_000));
        bytes.push(1);
        bytes.push(data.len() as u8);
        bytes.extend(data.bytes());
    }
    bytes.push(0);
    bytes
}

async fn node(network: &Memory) -> Mesh {
    let overlay = Overlay::new().seed(1);
    let app = App::new().transport(network.clone()).with(overlay);
    app.listen("node:0").await.unwrap()
}

fn stats(node: &Mesh) -> OverlayStats {
    node.overlay().unwrap()
}

fn refused(node: &Mesh, why: &str) -> u64 {
    let stats = stats(node);
    let mut reasons = stats.refused_by_reason();
    reasons.find(|(reason, _)| *reason == why).unwrap().1
}

/// Waits until what was said was handled: nothing more is heard of it.
async fn quiet() {
    sleep(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn who_sends_no_messages_loses_its_connection() {
    let network = Memory::new();
    let node = node(&network).await;
    let mut rng = StdRng::seed_from_u64(1);
    let huge = |kind| {
        let mut bytes = head(0, kind);
        bytes.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
        bytes
    };
    let mut long = head(1, 3);
    long.extend([0xff; 5000]);
    let whole = walk([0; 32], &mut rng);
    let mut junk = vec![0; 300];
    rng.fill(&mut junk[..]);
    let mut behind = join();
    behind.push(0);
    for bytes in [
        junk,
        whole[..100].to_vec(),
        huge(3),
        huge(2),
        long,
        behind,
        vec![],
    ] {
        let hand = Hand::new(&network, &node).await;
        for _ in 0..6 {
            hand.say(bytes.clone()).await;
        }
        until("it is disconnected", || !hand.peer.is_connected()).await;
    }
    assert!(stats(&node).faults >= 6 * 7);
    assert_eq!(stats(&node).neighbours, 0);
}

#[tokio::test(start_paused = true)]
async fn ids_of_unknown_payloads_are_not_remembered() {
    let network = Memory::new();
    let node = node(&network).await;
    let hand = Hand::new(&network, &node).await;
    let mut rng = StdRng::seed_from_u64(1);
    for _ in 0..1000 {
        let mut bytes = head(1, 3);
        bytes.push(100);
        for _ in 0..100 {
            let id: [u8; 32] = rng.random();
            bytes.extend(id);
            bytes.push(0);
        }
        hand.say(bytes).await;
    }
    quiet().await;
    // What exceeds the rate of messages is passed over unread.
    assert!(refused(&node, "stranger") >= u64::from(MESSAGES_AT_ONCE));
    assert_eq!(refused(&node, "stranger") + refused(&node, "rate"), 1000);
    assert_eq!(stats(&node).taken, 0);
}

#[tokio::test(start_paused = true)]
async fn invented_peers_take_little_memory_and_few_dials() {
    let network = Memory::new();
    let node = node(&network).await;
    let hand = Hand::new(&network, &node).await;
    hand.say(join()).await;
    until("it is a neighbour", || stats(&node).neighbours == 1).await;
    let mut rng = StdRng::seed_from_u64(1);
    for _ in 0..1000 {
        hand.say(walk(hand.id(), &mut rng)).await;
        sleep(Duration::from_millis(10)).await;
    }
    let stats = stats(&node);
    assert!(
        stats.known <= MAX_KNOWN && stats.passive <= PASSIVE,
        "{stats:?}"
    );
    // 10 s: what the budget of the mesh allows, and no more.
    assert!(stats.dialled <= 8 + 10 + 8, "{stats:?}");
    let most = u64::from(MESSAGES_AT_ONCE) + 10_000 / MESSAGE_EVERY.as_millis() as u64;
    assert!(stats.taken <= most + 2, "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_told_costs_the_budget_also_when_nobody_is_connected() {
    let network = Memory::new();
    let node = node(&network).await;
    let hand = Hand::new(&network, &node).await;
    hand.say(join()).await;
    until("it is a neighbour", || stats(&node).neighbours == 1).await;
    let mut rng = StdRng::seed_from_u64(1);
    for _ in 0..4 {
        hand.say(walk(hand.id(), &mut rng)).await;
    }
    until("it has told of many", || stats(&node).passive == PASSIVE).await;
    hand.mesh.abort().await;
    until("nobody is left", || stats(&node).connections == 0).await;
    // What is dialled at once is over by now.
    sleep(Duration::from_secs(10)).await;
    let before = stats(&node).failed;
    sleep(Duration::from_secs(10)).await;
    let failed = stats(&node).failed - before;
    assert!((5..=11).contains(&failed), "{failed} in 10 s");
}

#[tokio::test(start_paused = true)]
async fn an_invented_origin_is_not_answered() {
    let network = Memory::new();
    let node = node(&network).await;
    let hand = Hand::new(&network, &node).await;
    let mut rng = StdRng::seed_from_u64(1);
    for _ in 0..50 {
        let origin = id(rng.random());
        hand.say(walk(origin, &mut rng)).await;
    }
    quiet().await;
    assert_eq!(refused(&node, "nobody"), 50);
    assert_eq!(stats(&node).dialled, 0);
}

#[tokio::test(start_paused = true)]
async fn many_names_do_not_drive_out_honest_neighbours() {
    let mut swarm = Swarm::new(4);
    swarm.start(6, 1).await;
    sleep(Duration::from_secs(60)).await;
    let node = swarm.nodes()[0].mesh.clone();
    let honest: Vec<_> = node.peers().list().iter().cloned().collect();
    assert_eq!(honest.len(), 5);
    let mut hands = Vec::new();
    for _ in 0..22 {
        let hand = Hand::new(&swarm.network, &node).await;
        hand.say(join()).await;
        hands.push(hand);
    }
    quiet().await;
    let left = |honest: &[Peer]| honest.iter().filter(|peer| peer.is_connected()).count();
    assert!(left(&honest) >= 3, "{} of 5 are left", left(&honest));
    // However long they try, honest nodes stay connected to the rest.
    for _ in 0..60 {
        for hand in &hands {
            hand.say(join()).await;
        }
        sleep(Duration::from_secs(1)).await;
    }
    assert!(KEPT > 0 && refused(&node, "forced") > 0);
    swarm.all_hear(1).await;
}

/// Floods a node in all ways at once, and returns how many bytes more it holds then.
fn memory_after(messages: usize) -> i64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let network = Memory::new();
    let (node, hand) = runtime.block_on(async {
        let node = node(&network).await;
        let hand = Hand::new(&network, &node).await;
        hand.say(join()).await;
        until("it is a neighbour", || stats(&node).neighbours == 1).await;
        (node, hand)
    });
    let info = allocation_counter::measure(|| {
        runtime.block_on(async {
            let mut rng = StdRng::seed_from_u64(1);
            for number in 0..messages {
                let mut bytes = match number % 4 {
                    0 => walk(hand.id(), &mut rng),
                    1 => join(),
                    2 => walk(id(rng.random()), &mut rng),
                    _ => head(1, 3),
                };
                if number % 4 == 3 {
                    bytes.push(1);
                    bytes.extend(rng.random::<[u8; 32]>());
                    bytes.push(0);
                }
                hand.say(bytes).await;
                sleep(Duration::from_millis(20)).await;
            }
        });
    });
    assert_eq!(stats(&node).faults, 0);
    runtime.block_on(async { node.abort().await });
    info.bytes_current
}

#[test]
fn what_a_peer_says_takes_bounded_memory() {
    let some = memory_after(2_000);
    let many = memory_after(20_000);
    assert!(some < 96 * 1024, "{some} bytes");
    // Ten times as much makes no more of it but the addresses that were dialled, once a second: the
    // core remembers some thousands, so as to tell of each once.
    assert!(many < some + 40 * 1024, "{some} and {many} bytes");
}

#[test]
fn a_mesh_that_has_ended_is_freed() {
    let round = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut swarm = Swarm::new(7);
            swarm.start(10, 1).await;
            sleep(Duration::from_secs(20)).await;
            // Half of them without a word, the others with one.
            swarm.kill(5).await;
            for node in swarm.nodes() {
                node.mesh.shutdown().await;
            }
        });
    };
    round();
    let left = allocation_counter::measure(round).bytes_current;
    assert!(left < 20 * 1024, "{left} bytes");
}
