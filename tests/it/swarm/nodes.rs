//! A swarm of whole nodes in one process, on an internet in memory.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use coalescent::{App, AppExt, Config, Discovery, Mesh, SmartRelay};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::internet::Internet;
use tempfile::TempDir;
use tokio::time::Instant;

/// The port that every node listens at.
pub(crate) const PORT: u16 = 1337;

/// How often a condition is looked at, in simulated time.
const LOOK: Duration = Duration::from_millis(250);

/// Nodes with addresses of their own, each with its book in a file.
pub(crate) struct Swarm {
    pub(crate) internet: Internet,
    pub(crate) rng: StdRng,
    books: TempDir,
    nodes: Vec<Option<Mesh>>,
    /// How many outbound peers each node wants.
    pub(crate) min_peers: usize,
    begun: std::time::Instant,
}

impl Swarm {
    /// An empty swarm. `COALESCENT_SIM_SEED` chooses another one than `seed`.
    ///
    /// What is done to the nodes follows the seed; their own random numbers do not.
    pub(crate) fn new(seed: u64) -> Self {
        let seed = std::env::var("COALESCENT_SIM_SEED")
            .map_or(seed, |seed| seed.parse().expect("a number"));
        println!("COALESCENT_SIM_SEED={seed}");
        Self {
            internet: Internet::new(),
            rng: StdRng::seed_from_u64(seed),
            books: tempfile::tempdir().expect("a folder for the books"),
            nodes: Vec::new(),
            min_peers: Config::default().min_peers,
            begun: std::time::Instant::now(),
        }
    }

    /// A swarm of so many nodes, which all have the first `seeds` of them as their seeds.
    pub(crate) async fn of(seed: u64, nodes: usize, seeds: usize) -> Self {
        let mut swarm = Self::new(seed);
        swarm.grow(nodes, seeds).await;
        swarm
    }

    /// Adds so many nodes, which all have the first `seeds` of them as their seeds.
    pub(crate) async fn grow(&mut self, nodes: usize, seeds: usize) {
        let seeds: Vec<usize> = (0..seeds).collect();
        for _ in 0..nodes {
            self.add(&seeds).await;
        }
    }

    /// Where a node is: each in another /16.
    pub(crate) fn ip(node: usize) -> IpAddr {
        let [a, b] = u16::try_from(node)
            .expect("not so many nodes")
            .to_be_bytes();
        Ipv4Addr::new(40 + a, b, 7, 1).into()
    }

    pub(crate) fn book(&self, node: usize) -> PathBuf {
        self.books.path().join(format!("{node}.book"))
    }

    /// Starts one more node, which knows these.
    pub(crate) async fn add(&mut self, seeds: &[usize]) -> usize {
        let node = self.nodes.len();
        self.nodes.push(None);
        self.start(node, seeds).await;
        node
    }

    /// Starts a node that is not running, with its book and these seeds.
    pub(crate) async fn start(&mut self, node: usize, seeds: &[usize]) {
        let ip = Self::ip(node);
        let seeds = seeds.iter().filter(|seed| **seed != node);
        let app = App::new()
            .transport(self.internet.host(ip))
            .allow_plaintext()
            .min_peers(self.min_peers)
            .seeds(seeds.map(|seed| format!("{}:{PORT}", Self::ip(*seed))))
            .plugin(Discovery::new().book(self.book(node)))
            .with(SmartRelay::new());
        let mesh = app.listen(format!("{ip}:{PORT}")).await;
        self.nodes[node] = Some(mesh.expect("a node that starts"));
    }

    /// Ends a node without warning.
    pub(crate) async fn kill(&mut self, node: usize) {
        if let Some(mesh) = self.nodes[node].take() {
            mesh.abort().await;
        }
    }

    /// Ends a node as a user does.
    pub(crate) async fn stop(&mut self, node: usize) {
        if let Some(mesh) = self.nodes[node].take() {
            mesh.shutdown().await;
        }
    }

    pub(crate) fn mesh(&self, node: usize) -> &Mesh {
        self.nodes[node].as_ref().expect("a running node")
    }

    /// The nodes that run.
    pub(crate) fn alive(&self) -> Vec<usize> {
        let nodes = self.nodes.iter().enumerate();
        nodes
            .filter_map(|(node, mesh)| mesh.is_some().then_some(node))
            .collect()
    }

    /// Picks one of the nodes that run.
    pub(crate) fn any(&mut self) -> usize {
        let alive = self.alive();
        alive[self.rng.random_range(0..alive.len())]
    }

    /// The sets of running nodes that can reach each other.
    pub(crate) fn islands(&self) -> Vec<Vec<usize>> {
        let alive = self.alive();
        let ids: Vec<_> = alive.iter().map(|node| self.mesh(*node).id()).collect();
        let mut island: Vec<usize> = (0..alive.len()).collect();
        for (at, node) in alive.iter().enumerate() {
            for peer in self.mesh(*node).peers().list().iter() {
                let other = ids.iter().position(|id| Some(*id) == peer.node_id());
                let Some(other) = other else { continue };
                let (from, to) = (island[at], island[other]);
                island
                    .iter_mut()
                    .filter(|i| **i == from)
                    .for_each(|i| *i = to);
            }
        }
        let mut islands: Vec<Vec<usize>> = Vec::new();
        for root in 0..alive.len() {
            let members = (0..alive.len()).filter(|at| island[*at] == root);
            let members: Vec<usize> = members.map(|at| alive[at]).collect();
            if !members.is_empty() {
                islands.push(members);
            }
        }
        islands
    }

    /// Whether all running nodes can reach each other, and each has at least so many peers.
    pub(crate) fn is_whole(&self, peers: usize) -> bool {
        let enough = |node: &usize| self.mesh(*node).peers().len() >= peers;
        self.islands().len() <= 1 && self.alive().iter().all(enough)
    }

    /// Waits, in simulated time, until the condition holds. Returns how long that took.
    pub(crate) async fn until(
        &self,
        what: &str,
        limit: Duration,
        condition: impl Fn(&Self) -> bool,
    ) -> Duration {
        let start = Instant::now();
        while !condition(self) {
            let waited = start.elapsed();
            assert!(
                waited < limit,
                "not within {limit:?}: {what}; {}",
                self.state()
            );
            tokio::time::sleep(LOOK).await;
        }
        let took = start.elapsed();
        println!("{what}: {took:.1?}; {}", self.state());
        took
    }

    /// Lets one node speak, and waits until every other has heard it, once.
    pub(crate) async fn hears_all(&self, from: usize) {
        let others = self.alive().into_iter().filter(|node| *node != from);
        let mut readers: Vec<_> = others.map(|node| self.mesh(node).reader()).collect();
        let sent = self
            .mesh(from)
            .broadcast_payload(format!("from {from}"))
            .await
            .expect("a short payload");
        assert_eq!(sent.dropped, 0);
        for reader in &mut readers {
            let frame = tokio::time::timeout(Duration::from_secs(10), reader.next_frame()).await;
            let frame = frame.expect("everybody hears it").expect("a running mesh");
            assert_eq!(frame.payload(), format!("from {from}").as_bytes());
        }
    }

    /// A line for people: who is connected, how many dials there were, and the time it took.
    fn state(&self) -> String {
        let alive = self.alive();
        let peers: Vec<usize> = alive.iter().map(|n| self.mesh(*n).peers().len()).collect();
        format!(
            "{} nodes in {} islands, {} to {} peers, {} dials so far, {:.1?} of real time",
            alive.len(),
            self.islands().len(),
            peers.iter().min().unwrap_or(&0),
            peers.iter().max().unwrap_or(&0),
            self.internet.dials(),
            self.begun.elapsed(),
        )
    }
}
