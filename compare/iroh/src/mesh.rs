//! Many nodes in one process, each with a socket of its own, that connect each other.
//!
//! HyParView makes the topology, not a graph that is given to it: each node joins through one
//! chosen at random from those before it, and keeps up to `--degree` links. Plumtree sends each
//! message along a tree, and only its id along the other links.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Duration;

use common::flow::{numbered, payload};
use common::mesh::{Mesh, flood};
use common::options::Options;
use common::star::{Tasks, unless_one_fails};
use common::{Failed, PATIENCE};
use iroh_gossip::api::GossipSender;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::{sleep, timeout};

use crate::node::{BACKLOG, Heard, Node, Place};

/// The publisher that messages of the flood name.
const FLOOD: usize = 0;
/// The publisher that the probes before them name.
const PROBE: usize = 1;

/// The state that the nodes share.
struct Progress {
    /// Nodes that have received a probe.
    ready: AtomicUsize,
    /// For each node, the messages that it has received.
    received: Vec<AtomicU64>,
}

/// The nodes, as the flood sees them.
struct Nodes {
    senders: Vec<GossipSender>,
    /// For each node, the messages that it has published.
    published: Vec<u64>,
    size: usize,
    progress: Arc<Progress>,
}

impl Mesh for Nodes {
    const IN_FLIGHT: u64 = BACKLOG;

    async fn publish(&mut self, node: usize, number: u64) -> Result<(), Failed> {
        self.published[node] += 1;
        let message = payload(FLOOD, number, self.size);
        Ok(self.senders[node].broadcast(message.into()).await?)
    }

    fn delivered(&self) -> u64 {
        let received = self.progress.received.iter();
        received.map(|received| received.load(Relaxed)).sum()
    }

    /// Counts by the node that is the furthest behind: its application loses messages if it is
    /// behind by more than [`BACKLOG`].
    fn arrived(&self, _: u64) -> u64 {
        let received = self.progress.received.iter();
        let known = received
            .zip(&self.published)
            .map(|(received, published)| received.load(Relaxed) + published);
        known.min().unwrap_or(0)
    }
}

/// Sends all messages through the nodes.
pub(crate) async fn run(options: &Options) -> Result<(), Failed> {
    let mut random = SmallRng::seed_from_u64(options.seed);
    let mut nodes: Vec<Node> = Vec::new();
    let mut senders = Vec::new();
    let mut tasks = Tasks::new();
    let progress = Arc::new(Progress {
        ready: AtomicUsize::new(0),
        received: (0..options.nodes).map(|_| AtomicU64::new(0)).collect(),
    });
    for index in 0..options.nodes {
        let node = Node::new(&Place::Anywhere(options.degree)).await?;
        let known = (index > 0).then(|| nodes[random.random_range(0..index)].addr());
        let known = known
            .inspect(|known| node.learn(known.clone()))
            .map(|known| known.id);
        let (sender, heard) = node.join(known).await?;
        nodes.push(node);
        senders.push(sender);
        let (messages, progress) = (options.messages, Arc::clone(&progress));
        tasks.spawn(listen(index, heard, messages, progress));
    }
    let flooded = async {
        let probed = probe(options, &senders[0], &progress);
        timeout(PATIENCE, probed)
            .await
            .map_err(|_| "the mesh is not connected in time")??;
        // Connecting may have left work to do.
        sleep(options.warmup).await;
        let mut nodes = Nodes {
            published: vec![0; senders.len()],
            senders,
            size: options.size,
            progress,
        };
        flood(options, &mut nodes).await
    };
    unless_one_fails(&mut tasks, flooded).await
}

/// Sends from the first node until all others receive.
async fn probe(options: &Options, first: &GossipSender, progress: &Progress) -> Result<(), Failed> {
    for number in 0.. {
        if progress.ready.load(Relaxed) == options.nodes - 1 {
            break;
        }
        let message = payload(PROBE, number, options.size);
        first.broadcast(message.into()).await?;
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Counts what a node receives.
async fn listen(
    index: usize,
    mut heard: Heard,
    messages: u64,
    progress: Arc<Progress>,
) -> Result<Infallible, Failed> {
    let mut known = vec![false; messages as usize];
    let mut ready = false;
    loop {
        match numbered(&heard.next().await?)? {
            (FLOOD, number) => {
                let known = known
                    .get_mut(number as usize)
                    .ok_or("nobody has sent this")?;
                if std::mem::replace(known, true) {
                    return Err(format!("a node has heard message {number} twice").into());
                }
                progress.received[index].fetch_add(1, Relaxed);
            }
            _ if !ready => {
                ready = true;
                progress.ready.fetch_add(1, Relaxed);
            }
            _ => {}
        }
    }
}
