//! Whole nodes in one process.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use coalescent::Mesh;
use coalescent::wire::NodeId;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};
use support::internet::Internet;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::ledger::{Heard, Ledger};
use super::relay::{Node, Relay, ip};

/// How often it is looked whether the swarm is one, in simulated time.
const LOOK: Duration = Duration::from_millis(250);

/// How long no delivery may happen until what is missing is missed, in simulated time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Nodes that run, or have run, on one network.
#[derive(Debug)]
pub(super) struct Swarm {
    pub(super) network: Internet,
    pub(super) relay: Relay,
    pub(super) rng: StdRng,
    seed: u64,
    nodes: Vec<Option<Node>>,
    /// Which part of the network a node is in. All are in part 0 unless it is split.
    part: Vec<usize>,
    ledger: Ledger,
    /// Who sends if one does.
    speaker: Option<usize>,
    /// How long it took, from the last start, kill or heal, until the swarm was whole.
    pub(super) whole_after: Option<Duration>,
    changed: Instant,
}

/// Who sends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Senders {
    One,
    Any,
}

/// Messages that are sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sending {
    pub(super) messages: usize,
    /// The time between two of them. Zero sends as fast as the sender's neighbours take it.
    pub(super) every: Duration,
    pub(super) size: usize,
    pub(super) senders: Senders,
}

/// What all nodes that run have counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Messages, copies included.
    pub(super) arrived: u64,
    /// Messages that were not passed on to somebody for want of room.
    pub(super) dropped: u64,
    /// Bytes received.
    pub(super) bytes: u64,
    /// Frames of plugins that were dropped.
    pub(super) channel_dropped: u64,
}

impl Counts {
    /// What was counted since then, by nodes that ran all the time.
    fn since(self, before: Self) -> Self {
        Self {
            arrived: self.arrived.saturating_sub(before.arrived),
            dropped: self.dropped.saturating_sub(before.dropped),
            bytes: self.bytes.saturating_sub(before.bytes),
            channel_dropped: self.channel_dropped.saturating_sub(before.channel_dropped),
        }
    }
}

/// What became of messages, and what they cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) heard: Heard,
    /// What all nodes counted meanwhile.
    pub(super) counts: Counts,
    pub(super) cpu: Duration,
    /// How long it took, in simulated time.
    pub(super) took: Duration,
    /// The bytes of a message.
    pub(super) size: usize,
}

impl Swarm {
    pub(super) fn new(relay: Relay, latency: Range<u64>, seed: u64) -> Self {
        Self {
            network: Internet::with_latency(latency, seed),
            relay,
            rng: StdRng::seed_from_u64(seed),
            seed,
            nodes: Vec::new(),
            part: Vec::new(),
            ledger: Ledger::default(),
            speaker: None,
            whole_after: None,
            changed: Instant::now(),
        }
    }

    /// Starts one more node, which knows these.
    pub(super) async fn add(&mut self, seeds: &[usize]) {
        let number = self.nodes.len();
        let node = Node::start(
            self.relay,
            self.network.host(ip(number)),
            number,
            self.seed,
            seeds,
        )
        .await;
        let Some(node) = node else {
            panic!("node {number} does not start");
        };
        node.listen(number, self.ledger.clone());
        self.nodes.push(Some(node));
        self.part.push(0);
        self.changes();
    }

    fn changes(&mut self) {
        self.changed = Instant::now();
        self.whole_after = None;
    }

    /// Ends nodes without warning, all at once.
    pub(super) async fn kill(&mut self, nodes: &[usize]) {
        let mut ending = JoinSet::new();
        for node in nodes {
            if let Some(node) = self.nodes[*node].take() {
                ending.spawn(async move { node.mesh.abort().await });
            }
        }
        while ending.join_next().await.is_some() {}
        self.changes();
    }

    /// Moves nodes to a part of the network of their own.
    pub(super) fn split(&mut self, nodes: &[usize]) {
        for node in nodes {
            self.part[*node] = 1;
        }
        self.network.split(1, nodes.iter().map(|node| ip(*node)));
        self.changes();
    }

    pub(super) fn heal(&mut self) {
        self.part.fill(0);
        self.network.heal();
        self.changes();
    }

    fn mesh(&self, node: usize) -> Option<&Mesh> {
        let node = self.nodes.get(node)?.as_ref()?;
        Some(&node.mesh)
    }

    /// The nodes that run.
    pub(super) fn alive(&self) -> Vec<usize> {
        let nodes = self.nodes.iter().enumerate();
        nodes
            .filter_map(|(node, running)| running.is_some().then_some(node))
            .collect()
    }

    /// Picks some of the nodes that run.
    pub(super) fn some(&mut self, count: usize) -> Vec<usize> {
        self.alive()
            .into_iter()
            .choose_multiple(&mut self.rng, count)
    }

    /// The sum of what all nodes that run have counted.
    pub(super) fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for node in self.nodes.iter().flatten() {
            let (arrived, dropped) = node.arrived();
            let stats = node.mesh.stats();
            sum.arrived += arrived;
            sum.dropped += dropped;
            sum.bytes += stats.bytes_received;
            sum.channel_dropped += stats.channel_dropped;
        }
        sum
    }

    /// The number of neighbours of each node that runs.
    pub(super) fn degrees(&self) -> Vec<usize> {
        let nodes = self.nodes.iter().flatten();
        nodes.map(Node::degree).collect()
    }

    /// How many sets of nodes there are that can reach each other.
    pub(super) fn islands(&self) -> usize {
        fn root(above: &mut [usize], mut at: usize) -> usize {
            while above[at] != at {
                above[at] = above[above[at]];
                at = above[at];
            }
            at
        }
        let alive = self.alive();
        let ids: HashMap<NodeId, usize> = alive
            .iter()
            .filter_map(|node| Some((self.mesh(*node)?.id(), *node)))
            .collect();
        let mut above: Vec<usize> = (0..self.nodes.len()).collect();
        let mut islands = alive.len();
        for node in alive {
            for peer in self.nodes[node].iter().flat_map(Node::neighbours) {
                let Some(other) = ids.get(&peer) else {
                    continue;
                };
                let (a, b) = (root(&mut above, node), root(&mut above, *other));
                if a != b {
                    above[a] = b;
                    islands -= 1;
                }
            }
        }
        islands
    }

    /// Notes when the swarm has become one.
    fn look(&mut self) {
        let split = self.part.iter().any(|part| *part > 0);
        if self.whole_after.is_none() && !split && self.islands() <= 1 {
            self.whole_after = Some(self.changed.elapsed());
        }
    }

    /// Lets simulated time pass.
    pub(super) async fn pass(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            sleep_until(end.min(Instant::now() + LOOK)).await;
            self.look();
        }
    }

    /// Waits until the swarm is one, at most so long.
    pub(super) async fn become_whole(&mut self, limit: Duration) {
        let end = Instant::now() + limit;
        while self.whole_after.is_none() && Instant::now() < end {
            self.pass(LOOK).await;
        }
    }

    /// Sends messages, and waits until all have arrived or nothing comes any more.
    pub(super) async fn send(&mut self, sending: Sending) -> Sent {
        let (first, began) = (self.ledger.sent(), Instant::now());
        let (counts, cpu) = (self.counts(), cpu_time());
        let mut sender = self.speaker();
        let mut due = began;
        let mut receivers = self.receivers(sender);
        for _ in 0..sending.messages {
            if matches!(sending.senders, Senders::Any) {
                sender = self.some(1)[0];
                receivers = self.receivers(sender);
            }
            let payload = self.ledger.send(sending.size, receivers.iter().copied());
            let node = self.nodes[sender].as_ref();
            // A tree waits as long as it has no neighbour, and that may be for ever.
            let _ = match node {
                Some(node) => timeout(PATIENCE, node.publish(payload)).await,
                None => Ok(()),
            };
            if !sending.every.is_zero() {
                due += sending.every;
                self.pass(due.saturating_duration_since(Instant::now()))
                    .await;
            }
        }
        let mut seen = self.ledger.deliveries();
        let mut since = Instant::now();
        loop {
            let heard = self.ledger.since(first);
            let now = self.ledger.deliveries();
            if now > seen {
                (seen, since) = (now, Instant::now());
            }
            if heard.heard >= heard.expected || since.elapsed() >= PATIENCE {
                break;
            }
            sleep(LOOK).await;
        }
        Sent {
            heard: self.ledger.since(first),
            counts: self.counts().since(counts),
            cpu: cpu_time().saturating_sub(cpu),
            took: began.elapsed(),
            size: sending.size,
        }
    }

    /// The node that sends if one does: the same one as long as it runs.
    fn speaker(&mut self) -> usize {
        let running = self.speaker.filter(|node| self.nodes[*node].is_some());
        let speaker = running.unwrap_or_else(|| self.some(1)[0]);
        *self.speaker.insert(speaker)
    }

    /// Who should hear a sender: all that run in its part of the network.
    fn receivers(&self, sender: usize) -> Vec<usize> {
        let mut alive = self.alive();
        alive.retain(|node| *node != sender && self.part[*node] == self.part[sender]);
        alive
    }

    /// How often a node got what it had before.
    pub(super) fn heard_twice(&self) -> u64 {
        self.ledger.odd()
    }

    /// A random number of those that follow from the seed.
    pub(super) fn random(&mut self, range: Range<usize>) -> usize {
        self.rng.random_range(range)
    }

    /// Ends all nodes.
    pub(super) async fn end(mut self) {
        let alive = self.alive();
        self.kill(&alive).await;
    }
}

/// The CPU time that this process has used.
pub(super) fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(time.tv_sec.unsigned_abs(), nanos)
}
