//! What passes messages on, and the nodes that are made for it.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use coalescent::wire::{Kind, NodeId};
use coalescent::{App, AppExt, Config, Error, Mesh};
use coalescent_layers::{MeshOverlayExt, Overlay, SmartRelay, Topic};
use serde::{Deserialize, Serialize};
use support::internet::Host;

use super::ledger::Ledger;

/// The port that every node listens at.
const PORT: u16 = 1337;

/// How many others a node of the fixed kind dials.
pub(super) const FIXED: usize = 5;

/// What passes messages on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Relay {
    /// `SmartRelay` on connections that are given: each node dials five random others, and keeps
    /// dialling these.
    Fixed,
    /// `SmartRelay` on the neighbours that the overlay chooses.
    Overlay,
    /// A tree on these neighbours, as a topic has one.
    Tree,
}

impl Relay {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Fixed, Self::Overlay, Self::Tree];

    /// Returns its name in options and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Overlay => "overlay",
            Self::Tree => "tree",
        }
    }

    /// Returns the one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|relay| relay.name() == name)
    }
}

/// The topic of the tree.
const TOPIC: &str = "thousands";

/// A node that runs.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) mesh: Mesh,
    /// Where it speaks and listens, if that is not the mesh itself.
    topic: Option<Topic>,
}

impl Node {
    /// Starts a node. `None` if it cannot listen.
    pub(super) async fn start(
        relay: Relay,
        host: Host,
        number: usize,
        seed: u64,
        seeds: &[usize],
    ) -> Option<Self> {
        let seeds = seeds.iter().filter(|seed| **seed != number);
        let seed = seed.wrapping_mul(1_000_003) ^ number as u64;
        let app = App::new()
            .repeatable(seed)
            .transport(host)
            .allow_plaintext()
            .seeds(seeds.map(|seed| format!("{}:{PORT}", ip(*seed))));
        let address = format!("{}:{PORT}", ip(number));
        let overlay = || Overlay::new().seed(seed);
        let mesh: Result<Mesh, Error> = match relay {
            Relay::Fixed => {
                let app = app.min_peers(FIXED).with(SmartRelay::new());
                app.listen(address).await
            }
            Relay::Overlay => {
                let app = app.with(overlay()).with(SmartRelay::new());
                app.listen(address).await
            }
            Relay::Tree => app.with(overlay().tree(TOPIC)).listen(address).await,
        };
        let mesh = mesh.ok()?;
        let topic = match relay {
            Relay::Tree => Some(mesh.topic(TOPIC).ok()?),
            Relay::Fixed | Relay::Overlay => None,
        };
        Some(Self { mesh, topic })
    }

    /// Tells the ledger of all that this node hears, as long as it runs.
    pub(super) fn listen(&self, number: usize, ledger: Ledger) {
        let mut topic = self.topic.clone();
        let mut reader = self.mesh.reader();
        tokio::spawn(async move {
            let reader = topic.as_mut().map_or(&mut reader, Topic::reader);
            let ttl = Config::default().ttl;
            while let Some(frames) = reader.next_frames().await {
                let frames: Vec<_> = frames.collect();
                let heard = frames.iter().map(|frame| {
                    // Frames of a topic do not tell how far they came.
                    let hops = matches!(frame.kind(), Kind::Broadcast { .. })
                        .then(|| 1 + ttl.saturating_sub(frame.ttl()));
                    (frame.payload(), hops.unwrap_or(0))
                });
                ledger.hear(number, heard);
            }
        });
    }

    /// Sends a message to all.
    pub(super) async fn publish(&self, payload: Bytes) {
        // What is not sent is missed, and counted so.
        match &self.topic {
            Some(topic) => drop(topic.publish(payload).await),
            None => drop(self.mesh.broadcast_payload(payload).await),
        }
    }

    /// How many neighbours it has.
    pub(super) fn degree(&self) -> usize {
        match &self.topic {
            Some(topic) => topic.neighbours().len(),
            None => self.mesh.peers().len(),
        }
    }

    /// The messages that have arrived, copies of them included, and those that were dropped.
    pub(super) fn arrived(&self) -> (u64, u64) {
        let stats = self.mesh.stats();
        self.topic
            .as_ref()
            .map_or((stats.received, stats.dropped), |topic| {
                let counts = topic.stats();
                (
                    counts.received + counts.copies,
                    counts.dropped + counts.unread,
                )
            })
    }

    /// Its neighbours.
    pub(super) fn neighbours(&self) -> Vec<NodeId> {
        let peers = match &self.topic {
            Some(topic) => topic.neighbours(),
            None => self.mesh.peers().list(),
        };
        peers.iter().filter_map(coalescent::Peer::node_id).collect()
    }
}

/// Returns where a node is: each in another /16, so that nobody counts them as of one network.
///
/// # Panics
///
/// Panics if there are more than 20,000 nodes.
pub(super) fn ip(node: usize) -> IpAddr {
    assert!(node < 20_000, "there are not so many networks");
    let [.., a, b] = node.to_be_bytes();
    Ipv4Addr::new(20 + a, b, 7, 1).into()
}
