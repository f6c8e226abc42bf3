//! Thirty nodes in one process, over loopback TCP, in a random connected mesh: what each says is
//! delivered exactly once to all others. `COALESCENT_SIM_SEED` chooses another mesh.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use coalescent::{App, AppExt, Mesh};
use coalescent_layers::SmartRelay;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::timeout;

const NODES: usize = 30;
const MESSAGES: usize = 500;

/// Connections beyond those that a tree of all nodes has: what makes the circles.
const EXTRA: usize = 45;

const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_500_messages_is_delivered_once_to_each_of_30_nodes() {
    let seed =
        std::env::var("COALESCENT_SIM_SEED").map_or(30, |seed| seed.parse().expect("a number"));
    println!("COALESCENT_SIM_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut nodes: Vec<Mesh> = Vec::new();
    for _ in 0..NODES {
        let app = App::new().min_peers(0).with(SmartRelay::new());
        nodes.push(app.listen("127.0.0.1:0").await.expect("a free port"));
    }
    let mut edges: Vec<(usize, usize)> = (1..NODES)
        .map(|node| (node, rng.random_range(0..node)))
        .collect();
    while edges.len() < NODES - 1 + EXTRA {
        let (a, b) = (rng.random_range(0..NODES), rng.random_range(0..NODES));
        if a > b && !edges.contains(&(a, b)) {
            edges.push((a, b));
        }
    }
    for &(from, to) in &edges {
        let addr = nodes[to].local_addrs()[0].to_string();
        nodes[from]
            .connect(&addr)
            .await
            .expect("a node that listens");
    }
    let degree = |node| {
        edges
            .iter()
            .filter(|&&(a, b)| a == node || b == node)
            .count()
    };
    for (node, mesh) in nodes.iter().enumerate() {
        timeout(DEADLINE, async {
            while mesh.peers().len() < degree(node) {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("all connections");
    }

    let senders: Vec<usize> = (0..MESSAGES).map(|_| rng.random_range(0..NODES)).collect();
    let mut readers: Vec<_> = nodes.iter().map(Mesh::reader).collect();
    let mut reading = JoinSet::new();
    for (node, mut reader) in readers.drain(..).enumerate() {
        let expected = senders.iter().filter(|&&sender| sender != node).count();
        reading.spawn(async move {
            let mut counts: HashMap<Bytes, u32> = HashMap::new();
            let all = timeout(DEADLINE, async {
                while counts.len() < expected {
                    let frame = reader.next_frame().await.expect("a running mesh");
                    *counts.entry(frame.into_payload()).or_default() += 1;
                }
            });
            let in_time = all.await.is_ok();
            // The reader comes back, to look for what comes after the last of them.
            (node, counts, expected, in_time, reader)
        });
    }
    for (number, &sender) in senders.iter().enumerate() {
        let sent = nodes[sender]
            .broadcast_payload(format!("message {number} of {sender}"))
            .await
            .unwrap();
        assert_eq!((sent.queued, sent.dropped), (degree(sender), 0));
    }
    let mut done = Vec::new();
    while let Some(read) = reading.join_next().await {
        done.push(read.expect("a reader"));
    }
    let mut stats = coalescent::Stats::default();
    for mesh in &nodes {
        stats += mesh.shutdown().await;
    }
    for (node, counts, expected, in_time, mut reader) in done {
        assert!(in_time, "node {node} got {} of {expected}", counts.len());
        assert!(
            counts.values().all(|&count| count == 1),
            "node {node} got copies: {counts:?}"
        );
        assert!(
            reader.next_frame().await.is_none(),
            "node {node} got one too many"
        );
        for (number, &sender) in senders.iter().enumerate() {
            let message = Bytes::from(format!("message {number} of {sender}"));
            assert_eq!(
                counts.contains_key(&message),
                sender != node,
                "node {node}, {message:?}"
            );
        }
    }
    assert_eq!(stats.dropped, 0);
    assert_eq!(stats.delivered, (MESSAGES * (NODES - 1)) as u64);
    // All that was written has arrived somewhere, and was either delivered or known as a copy.
    assert_eq!(stats.received, stats.sent + stats.relayed);
    assert_eq!(stats.received, stats.delivered + stats.duplicates);
    println!("{stats:?}");
}
