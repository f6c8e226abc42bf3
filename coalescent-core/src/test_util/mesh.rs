//! In-memory meshes of many nodes.

use std::ops::Index;

use tokio::time::timeout;

use super::recorder::Recorder;
use super::topology;
use super::wait::{DEADLINE, settle};
use crate::app::App;
use crate::error::report;
use crate::mesh::Mesh;
use crate::node::peer::Peer;
use crate::stack::PeerLayer;
use crate::stats::Stats;
use crate::transport::Memory;

/// A builder of an in-memory mesh whose nodes are connected in a given topology.
///
/// Use it on paused time (`#[tokio::test(start_paused = true)]`): there timeouts, windows and
/// backoffs elapse immediately, and [`settled`](Nodes::settled) is exact.
///
/// ```
/// use coalescent::test_util::MemoryMesh;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let nodes = MemoryMesh::new(3).line().start(|_, app| app).await;
/// let mut heard = nodes.recorder(1);
///
/// let _ = nodes[0].broadcast_payload("beep").await.unwrap();
///
/// assert_eq!(heard.expect_frame().await.payload(), b"beep");
/// // Nobody relays, so node 2 receives nothing.
/// nodes.settled().await;
/// assert_eq!(nodes[2].stats().received, 0);
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "no node runs until `start` is called"]
pub struct MemoryMesh {
    nodes: usize,
    edges: Vec<(usize, usize)>,
}

impl MemoryMesh {
    /// Prepares a mesh of this many nodes, connected in a line.
    pub fn new(nodes: usize) -> Self {
        Self {
            nodes,
            edges: topology::line(nodes),
        }
    }

    /// Connects each node to the next one.
    pub fn line(self) -> Self {
        let edges = topology::line(self.nodes);
        self.edges(edges)
    }

    /// Connects each node to the next one, and the last to the first.
    pub fn ring(self) -> Self {
        let edges = topology::ring(self.nodes);
        self.edges(edges)
    }

    /// Connects each node to node 0.
    pub fn star(self) -> Self {
        let edges = topology::star(self.nodes);
        self.edges(edges)
    }

    /// Connects each node to every other.
    pub fn full(self) -> Self {
        let edges = topology::full(self.nodes);
        self.edges(edges)
    }

    /// Connects the nodes at random into one mesh. The same seed yields the same mesh.
    pub fn random(self, seed: u64) -> Self {
        let edges = topology::random(self.nodes, seed);
        self.edges(edges)
    }

    /// Connects these pairs of nodes. The first of each pair dials the second.
    pub fn edges(mut self, edges: impl IntoIterator<Item = (usize, usize)>) -> Self {
        self.edges = edges.into_iter().collect();
        self
    }

    /// Starts the nodes and connects them. `build` receives the number of each node and an [`App`]
    /// on the in-memory network, and adds the layers.
    ///
    /// Create layers that share state, such as relays, in `build`, so that each node has its own.
    ///
    /// # Panics
    ///
    /// Panics if a node cannot be started, or if two nodes cannot be connected.
    pub async fn start<L, F>(self, mut build: F) -> Nodes
    where
        L: PeerLayer,
        F: FnMut(usize, App) -> App<L>,
    {
        let network = Memory::new();
        let mut meshes = Vec::with_capacity(self.nodes);
        for node in 0..self.nodes {
            let app = App::new()
                .transport(network.clone())
                .max_inbound(self.nodes.max(1));
            match build(node, app).listen("node:0").await {
                Ok(mesh) => meshes.push(mesh),
                Err(error) => panic!("node {node} does not start: {}", report(&error)),
            }
        }
        let nodes = Nodes { meshes };
        for (a, b) in self.edges {
            nodes.connect(a, b).await;
        }
        nodes
    }
}

/// The running nodes of a [`MemoryMesh`]. `nodes[0]` is the [`Mesh`] of the first node.
///
/// They run until this value is dropped.
#[derive(Clone, Debug)]
pub struct Nodes {
    meshes: Vec<Mesh>,
}

impl Nodes {
    /// Returns the number of nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.meshes.len()
    }

    /// Returns whether there are no nodes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.meshes.is_empty()
    }

    /// Returns an iterator over the nodes, in the order of their numbers.
    pub fn iter(&self) -> std::slice::Iter<'_, Mesh> {
        self.meshes.iter()
    }

    /// Connects node `a` to node `b`, and waits until both know each other. Returns `a`'s handle of
    /// `b`.
    ///
    /// # Panics
    ///
    /// Panics if they cannot be connected.
    pub async fn connect(&self, a: usize, b: usize) -> Peer {
        let addr = match self[b].local_addrs().first() {
            Some(addr) => addr.to_string(),
            None => panic!("node {b} listens nowhere"),
        };
        let peer = match self[a].connect(&addr).await {
            Ok(peer) => peer,
            Err(error) => panic!("node {a} can't connect to node {b}: {}", report(&error)),
        };
        let mut changes = self[b].peers().changes();
        while self.find(b, a).is_none() {
            match timeout(DEADLINE, changes.next()).await {
                Ok(Some(_)) => {}
                _ => panic!("node {b} does not know of node {a} within {DEADLINE:?}"),
            }
        }
        peer
    }

    /// Returns node `a`'s handle of node `b`.
    ///
    /// # Panics
    ///
    /// Panics if they are not connected.
    #[must_use]
    pub fn peer(&self, a: usize, b: usize) -> Peer {
        match self.find(a, b) {
            Some(peer) => peer,
            None => panic!("node {a} is not connected to node {b}"),
        }
    }

    fn find(&self, a: usize, b: usize) -> Option<Peer> {
        let id = self[b].peers().node_id();
        let list = self[a].peers().list();
        list.iter().find(|peer| peer.node_id() == Some(id)).cloned()
    }

    /// Disconnects nodes `a` and `b`, and waits until both know.
    ///
    /// # Panics
    ///
    /// Panics if they are not connected.
    pub async fn disconnect(&self, a: usize, b: usize) {
        let (here, there) = (self.peer(a, b), self.peer(b, a));
        here.disconnect("disconnected by the test");
        here.closed().await;
        there.closed().await;
    }

    /// Records the frames that reach the read side of one node; see [`Recorder::of`].
    #[must_use]
    pub fn recorder(&self, node: usize) -> Recorder {
        Recorder::of(&self[node])
    }

    /// Records the frames that reach the read side of each node.
    #[must_use]
    pub fn recorders(&self) -> Vec<Recorder> {
        self.iter().map(Recorder::of).collect()
    }

    /// Returns the sum of the counters of all nodes.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.iter()
            .fold(Stats::default(), |sum, mesh| sum + mesh.stats())
    }

    /// Waits until no frame is in transit, neither in a node nor between nodes.
    ///
    /// Exact on paused time, which advances only when no task has anything to do. Does not wait for
    /// handlers that sleep.
    pub async fn settled(&self) {
        settle(self.iter().map(Mesh::peers)).await;
    }

    /// Shuts all nodes down, and returns the sum of their counters.
    pub async fn shutdown(self) -> Stats {
        for mesh in self.iter() {
            mesh.shutdown().await;
        }
        self.stats()
    }
}

impl Index<usize> for Nodes {
    type Output = Mesh;

    fn index(&self, node: usize) -> &Mesh {
        match self.meshes.get(node) {
            Some(mesh) => mesh,
            None => panic!("there is no node {node}: there are {}", self.len()),
        }
    }
}

impl<'a> IntoIterator for &'a Nodes {
    type Item = &'a Mesh;
    type IntoIter = std::slice::Iter<'a, Mesh>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
