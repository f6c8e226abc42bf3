//! What passes messages on, and the nodes that are made for it.

use bytes::Bytes;
use coalescent::wire::NodeId;
use coalescent::{App, AppExt, Error, Mesh};
use coalescent_layers::SmartRelay;
use coalescent_layers::overlay::Overlay;
use serde::{Deserialize, Serialize};

use super::network::{Host, PORT, ip};

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
}

impl Relay {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Fixed, Self::Overlay];

    /// Returns its name in options and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Overlay => "overlay",
        }
    }

    /// Returns the one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|relay| relay.name() == name)
    }

    /// Whether what is heard comes from the read side of the mesh.
    pub(super) const fn reads_the_mesh(self) -> bool {
        matches!(self, Self::Fixed | Self::Overlay)
    }
}

/// A node that runs.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) mesh: Mesh,
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
        let app = App::new()
            .transport(host)
            .allow_plaintext()
            .seeds(seeds.map(|seed| format!("{}:{PORT}", ip(*seed))));
        let address = format!("{}:{PORT}", ip(number));
        let overlay = || Overlay::new().seed(seed.wrapping_mul(1_000_003) ^ number as u64);
        let mesh: Result<Mesh, Error> = match relay {
            Relay::Fixed => {
                let app = app.min_peers(FIXED).with(SmartRelay::new());
                app.listen(address).await
            }
            Relay::Overlay => {
                let app = app.with(overlay()).with(SmartRelay::new());
                app.listen(address).await
            }
        };
        Some(Self { mesh: mesh.ok()? })
    }

    /// Sends a message to all.
    pub(super) async fn publish(&self, payload: Bytes) {
        // What is not sent is missed, and counted so.
        let _ = self.mesh.broadcast_payload(payload).await;
    }

    /// How many neighbours it has.
    pub(super) fn degree(&self) -> usize {
        self.mesh.peers().len()
    }

    /// Its neighbours.
    pub(super) fn neighbours(&self) -> Vec<NodeId> {
        let peers = self.mesh.peers().list();
        peers.iter().filter_map(|peer| peer.node_id()).collect()
    }
}
