//! Many nodes with an overlay.

use std::time::Duration;

use bytes::Bytes;
use coalescent_core::transport::Memory;
use coalescent_core::{App, AppExt, Mesh, MeshReader};
use coalescent_layers::{MeshOverlayExt, Overlay, SmartRelay};
use tokio::time::timeout;

/// A node, and what it hears.
pub(crate) struct Node {
    pub(crate) mesh: Mesh,
    pub(crate) reader: MeshReader,
}

/// The nodes of one network.
pub(crate) struct Swarm {
    pub(crate) network: Memory,
    seed: u64,
    nodes: Vec<Node>,
    sent: u32,
}

impl Swarm {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            network: Memory::new(),
            seed,
            nodes: Vec::new(),
            sent: 0,
        }
    }

    /// Starts so many nodes, of which the first are the seeds.
    pub(crate) async fn start(&mut self, count: usize, seeds: usize) {
        for number in self.nodes.len()..count {
            let first = self.nodes.iter().take(seeds);
            let seeds: Vec<_> = first
                .map(|node| node.mesh.local_addrs()[0].to_string())
                .collect();
            let overlay = Overlay::new().seed(self.seed * 1_000_000 + number as u64);
            let app = App::new().transport(self.network.clone()).seeds(seeds);
            let app = app.with(overlay).with(SmartRelay::new());
            let mesh = app.listen("node:0").await.unwrap();
            let reader = mesh.reader();
            self.nodes.push(Node { mesh, reader });
        }
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Kills so many nodes at once, without a word.
    pub(crate) async fn kill(&mut self, count: usize) {
        let all = std::mem::take(&mut self.nodes);
        let every = all.len() / count;
        let mut dead = 0;
        for (number, node) in all.into_iter().enumerate() {
            if number % every == 0 && dead < count {
                dead += 1;
                let _ = node.mesh.abort().await;
            } else {
                self.nodes.push(node);
            }
        }
    }

    /// Broadcasts from one node, and checks that every other hears it.
    pub(crate) async fn all_hear(&mut self, from: usize) {
        self.sent += 1;
        let payload = Bytes::from(self.sent.to_be_bytes().to_vec());
        let sent = self.nodes[from].mesh.broadcast_payload(payload.clone());
        assert!(sent.await.unwrap().queued > 0);
        let mut missed = Vec::new();
        for (number, node) in self.nodes.iter_mut().enumerate() {
            if number == from {
                continue;
            }
            let heard = timeout(Duration::from_secs(5), node.reader.next_frame()).await;
            match heard {
                Ok(Some(frame)) => assert_eq!(frame.payload(), &payload),
                _ => missed.push(number),
            }
        }
        assert!(missed.is_empty(), "{} missed it: {missed:?}", missed.len());
    }

    /// Checks that no node has many peers, and none has none.
    pub(crate) fn degrees_are_few(&self) {
        let mut degrees: Vec<_> = self
            .nodes
            .iter()
            .map(|node| node.mesh.peers().len())
            .collect();
        degrees.sort_unstable();
        let few = degrees.iter().all(|degree| (1..=8).contains(degree));
        let stats = self.nodes[0].mesh.overlay();
        assert!(few, "{degrees:?}, {stats:?}");
    }
}
