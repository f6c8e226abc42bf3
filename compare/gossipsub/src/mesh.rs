//! Many nodes in one process, each with a socket of its own, connected as a random graph.
//!
//! The graph is a random tree with random links added, as in the mesh of the other systems; all of
//! its links are in the gossipsub mesh. Random nodes publish, and every other node has to hear each
//! message once.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::flow::{numbered, payload};
use crate::node::{Node, QUEUE, Shape};
use crate::options::Options;
use crate::report::{Failed, PATIENCE, cpu_seconds, print};
use crate::star::unless_one_fails;

/// What the nodes share.
#[derive(Default)]
struct Progress {
    /// How many nodes forward to all their neighbours.
    ready: AtomicUsize,
    deliveries: AtomicU64,
}

/// Floods all messages through the graph, and measures it.
pub(crate) async fn run(options: &Options) -> Result<(), Failed> {
    let mut random = Random(options.seed);
    let links = graph(options.nodes, options.degree, &mut random);
    let mut nodes = Vec::new();
    let mut ports = Vec::new();
    for _ in 0..options.nodes {
        let mut node = Node::new(Shape::Mesh, options.tls)?;
        node.subscribe()?;
        ports.push(node.listen().await?);
        nodes.push(node);
    }

    let progress = Arc::new(Progress::default());
    let mut tasks = JoinSet::new();
    let mut publishers = Vec::new();
    for (index, node) in nodes.into_iter().enumerate() {
        let dialled = links
            .iter()
            .filter(|link| link.0 == index)
            .map(|link| ports[link.1])
            .collect();
        let neighbours = links
            .iter()
            .filter(|link| link.0 == index || link.1 == index)
            .count();
        let (publisher, publishes) = mpsc::unbounded_channel();
        publishers.push(publisher);
        tasks.spawn(take_part(
            node,
            dialled,
            neighbours,
            publishes,
            options.clone(),
            Arc::clone(&progress),
        ));
    }

    let measured = async {
        let all_ready = async {
            while progress.ready.load(Ordering::Relaxed) < options.nodes {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, all_ready)
            .await
            .map_err(|_| "the mesh is not connected in time")?;
        // Whatever connecting has left to do.
        sleep(options.warmup).await;

        let hearers = options.nodes as u64 - 1;
        let window = options.window.unwrap_or(QUEUE as u64).min(QUEUE as u64);
        let all = options.messages * hearers;
        let (cpu, begin) = (cpu_seconds(), Instant::now());
        let mut sent = 0;
        let mut moved = (0, Instant::now());
        loop {
            let deliveries = progress.deliveries.load(Ordering::Relaxed);
            while sent < options.messages && sent < deliveries / hearers + window {
                publishers[random.below(options.nodes)].send(sent)?;
                sent += 1;
            }
            if deliveries >= all {
                break;
            }
            if deliveries > moved.0 {
                moved = (deliveries, Instant::now());
            } else if moved.1.elapsed() > PATIENCE {
                return Err(format!("{deliveries} of {all} messages have arrived").into());
            }
            sleep(Duration::from_millis(1)).await;
        }
        Ok::<_, Failed>((all, begin.elapsed(), cpu_seconds() - cpu))
    };
    let (deliveries, time, cpu) = unless_one_fails(&mut tasks, measured).await?;
    print(&json!({
        "deliveries": deliveries,
        "seconds": time.as_secs_f64(),
        "cpu_seconds": cpu,
    }));
    Ok(())
}

/// Connects a node, then publishes what it is told to, and counts what it hears.
async fn take_part(
    mut node: Node,
    dialled: Vec<u16>,
    neighbours: usize,
    mut publishes: mpsc::UnboundedReceiver<u64>,
    options: Options,
    progress: Arc<Progress>,
) -> Result<Infallible, Failed> {
    for port in dialled {
        node.connect(port).await?;
    }
    while node.meshed() < neighbours {
        node.next().await;
    }
    progress.ready.fetch_add(1, Ordering::Relaxed);
    let mut heard = vec![false; options.messages as usize];
    loop {
        tokio::select! {
            message = node.heard() => {
                let (_, number) = numbered(&message?).ok_or("this is no payload")?;
                let heard = heard.get_mut(number as usize).ok_or("nobody has sent this")?;
                if std::mem::replace(heard, true) {
                    return Err(format!("a node has heard message {number} twice").into());
                }
                progress.deliveries.fetch_add(1, Ordering::Relaxed);
            }
            Some(number) = publishes.recv() => {
                if !node.publish(payload(0, number, options.size))? {
                    return Err("the queues of a publisher are full".into());
                }
            }
        }
    }
}

/// The links of a random connected graph, with so many for each node on average.
fn graph(nodes: usize, degree: usize, random: &mut Random) -> BTreeSet<(usize, usize)> {
    let mut order: Vec<usize> = (0..nodes).collect();
    for index in (1..nodes).rev() {
        order.swap(index, random.below(index + 1));
    }
    let link = |a: usize, b: usize| (a.min(b), a.max(b));
    let mut links: BTreeSet<_> = (1..nodes)
        .map(|index| link(order[index], order[random.below(index)]))
        .collect();
    let wanted = (nodes * degree / 2).min(nodes * (nodes - 1) / 2);
    while links.len() < wanted {
        let (a, b) = (random.below(nodes), random.below(nodes));
        if a != b {
            links.insert(link(a, b));
        }
    }
    links
}

/// SplitMix64: the same graph for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        (word % end as u64) as usize
    }
}
