//! Many nodes in one process, each with a socket of its own, that connect each other.
//!
//! The topology is HyParView's and not a graph that is given to it: each node joins by way of one
//! that was chosen at random from those before it, and keeps up to `--degree` links. Plumtree sends
//! each message along a tree, and only its name along the other links. Random nodes publish, and
//! every other node has to hear each message once.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use iroh_gossip::api::GossipSender;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::flow::{numbered, payload};
use crate::node::{BACKLOG, Heard, Node, Place};
use crate::options::Options;
use crate::report::{Failed, PATIENCE, cpu_seconds, print};
use crate::star::unless_one_fails;

/// What the nodes share.
struct Progress {
    /// How many nodes have heard the first node.
    ready: AtomicUsize,
    /// For each node, how many messages it has heard or published itself.
    passed: Vec<AtomicU64>,
}

impl Progress {
    /// How many messages the node that is the furthest behind knows of.
    fn least(&self) -> u64 {
        let passed = self
            .passed
            .iter()
            .map(|passed| passed.load(Ordering::Relaxed));
        passed.min().unwrap_or(0)
    }
}

/// Sends all messages through the nodes, and measures it.
pub(crate) async fn run(options: &Options) -> Result<(), Failed> {
    let mut random = Random(options.seed);
    let mut nodes: Vec<Node> = Vec::new();
    let mut senders = Vec::new();
    let mut tasks = JoinSet::new();
    let progress = Arc::new(Progress {
        ready: AtomicUsize::new(0),
        passed: (0..options.nodes).map(|_| AtomicU64::new(0)).collect(),
    });
    for index in 0..options.nodes {
        let node = Node::new(&Place::Anywhere(options.degree)).await?;
        let known = (index > 0).then(|| nodes[random.below(index)].addr());
        let known = known
            .inspect(|known| node.learn(known.clone()))
            .map(|known| known.id);
        let (sender, heard) = node.join(known).await?;
        nodes.push(node);
        senders.push(sender);
        let (messages, progress) = (options.messages, Arc::clone(&progress));
        tasks.spawn(listen(index, heard, messages, progress));
    }
    let measured = measure(options, &mut random, &senders, &progress);
    let (time, cpu) = unless_one_fails(&mut tasks, measured).await?;
    print(&json!({
        "deliveries": options.messages * (options.nodes as u64 - 1),
        "seconds": time.as_secs_f64(),
        "cpu_seconds": cpu,
    }));
    Ok(())
}

async fn measure(
    options: &Options,
    random: &mut Random,
    senders: &[GossipSender],
    progress: &Progress,
) -> Result<(Duration, f64), Failed> {
    // Probes are payloads of a publisher of their own.
    let probing = async {
        for number in 0.. {
            if progress.ready.load(Ordering::Relaxed) == options.nodes - 1 {
                break;
            }
            senders[0]
                .broadcast(payload(1, number, options.size))
                .await?;
            sleep(Duration::from_millis(20)).await;
        }
        Ok::<_, Failed>(())
    };
    timeout(PATIENCE, probing)
        .await
        .map_err(|_| "the mesh is not connected in time")??;
    // Whatever connecting has left to do.
    sleep(options.warmup).await;

    let window = options.window.unwrap_or(BACKLOG).min(BACKLOG);
    let (cpu, begin) = (cpu_seconds(), Instant::now());
    let mut sent = 0;
    let mut moved = (0, Instant::now());
    loop {
        let least = progress.least();
        if least == options.messages {
            return Ok((begin.elapsed(), cpu_seconds() - cpu));
        }
        while sent < options.messages && sent < least + window {
            let publisher = random.below(options.nodes);
            progress.passed[publisher].fetch_add(1, Ordering::Relaxed);
            senders[publisher]
                .broadcast(payload(0, sent, options.size))
                .await?;
            sent += 1;
        }
        if least > moved.0 {
            moved = (least, Instant::now());
        } else if moved.1.elapsed() > PATIENCE {
            let all = options.messages;
            return Err(format!("a node has heard {least} of {all} messages").into());
        }
        sleep(Duration::from_millis(1)).await;
    }
}

/// Counts what a node hears.
async fn listen(
    index: usize,
    mut heard: Heard,
    messages: u64,
    progress: Arc<Progress>,
) -> Result<Infallible, Failed> {
    let mut known = vec![false; messages as usize];
    let mut ready = false;
    loop {
        match numbered(&heard.next().await?).ok_or("this is no payload")? {
            (0, number) => {
                let known = known
                    .get_mut(number as usize)
                    .ok_or("nobody has sent this")?;
                if std::mem::replace(known, true) {
                    return Err(format!("a node has heard message {number} twice").into());
                }
                progress.passed[index].fetch_add(1, Ordering::Relaxed);
            }
            _ if !ready => {
                ready = true;
                progress.ready.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

/// SplitMix64: the same choices for the same seed, everywhere.
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
