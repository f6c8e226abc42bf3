//! Neighbours that an overlay chooses, for meshes of hundreds and thousands of nodes.
//!
//! The plugin [`Overlay`] keeps a node connected to a few others, whom an engine chooses
//! (HyParView, as `iroh-gossip` runs it), instead of to as many as it finds.

mod address;
mod bucket;
mod engine;
mod fill;
mod guard;
mod ids;
mod joiner;
mod known;
mod link;
mod meter;
mod mirror;
mod node;
mod own;
mod pending;
mod places;
mod rejoin;
mod seeds;
mod settings;
mod state;
mod stats;
mod task;

use std::fmt;
use std::future::ready;

use coalescent_core::{Plugin, Registrar};

pub use self::guard::{MAX_ROUND, MAX_TTL};
pub use self::joiner::{HEAL_EVERY, MIX_EVERY, MIX_FIRST, RETRY, RETRY_MAX, START_WITHIN};
pub use self::known::{KNOWN_PER_TOPIC, MAX_KNOWN, MAX_KNOWN_IN_ALL};
pub use self::link::{
    IDLE, JOIN_EVERY, JOINS_AT_ONCE, LEAVE, LEFT, MESSAGE_EVERY, MESSAGES_AT_ONCE,
};
pub use self::mirror::{CHANNEL, MAX_CONTROL, MAX_DATA, MAX_IDS, MAX_PEERS, OVERHEAD};
pub use self::node::FAULT;
use self::node::Shared;
pub use self::pending::{MAX_DIALS, MAX_FAILURES, MAX_MESSAGES, MAX_TARGETS, TELL_AFTER};
pub use self::places::{FORCED_EVERY, ID_EVERY, IDS_AT_ONCE, KEPT, YOUNG};
pub use self::rejoin::ALONE_FOR;
use self::settings::Settings;
pub use self::settings::{ACTIVE, PASSIVE};
pub use self::stats::OverlayStats;
use crate::macros::no_layer;

/// Keeps a node connected to a few others, whom an overlay chooses.
#[derive(Clone, Default)]
#[must_use = "it chooses nobody until it is added to an app, with `with`"]
pub struct Overlay {
    settings: Settings,
}

impl Overlay {
    /// Makes an overlay with 5 neighbours a node.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many neighbours this node has. Default: 5. It should be the same for all nodes.
    pub fn active(mut self, neighbours: usize) -> Self {
        self.settings.active = neighbours.max(1);
        self
    }

    /// Sets how many other nodes are remembered, to be asked when a neighbour is lost. Default: 30.
    pub fn passive(mut self, nodes: usize) -> Self {
        self.settings.passive = nodes.max(1);
        self
    }

    /// Makes the choices repeatable, for simulations.
    #[doc(hidden)]
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = Some(seed);
        self
    }
}

impl Plugin for Overlay {
    fn register(&self, app: &mut Registrar) {
        let shared = Shared::new(self.settings.clone());
        app.insert(shared.clone());
        let on = shared.clone();
        app.channel(CHANNEL, move |peer, payload| {
            on.heard(&peer, &payload);
            ready(())
        });
        app.contacts(CHANNEL);
        let on = shared.clone();
        app.on_contact(move |peer| on.connected(peer));
        let on = shared.clone();
        app.on_contact_end(move |peer| on.disconnected(peer));
        let on = shared.clone();
        app.on_connect(move |peer| {
            on.connected(&peer);
            ready(())
        });
        let on = shared.clone();
        app.on_disconnect(move |peer| {
            on.disconnected(&peer);
            ready(())
        });
        let on = shared.clone();
        app.on_start(move |mesh| {
            on.start(&mesh);
            ready(())
        });
        let on = shared.clone();
        app.on_shutdown(move |_| {
            on.quit();
            ready(())
        });
        app.spawn(move |_| shared.run());
    }
}

no_layer!(Overlay);

impl fmt::Debug for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overlay").finish_non_exhaustive()
    }
}

/// What an overlay adds to a [`Mesh`](coalescent_core::Mesh) and its [`Peers`](coalescent_core::Peers).
pub trait OverlayExt: crate::sealed::AsPeers {
    /// Returns what the overlay of this node counts; `None` if it has none.
    fn overlay(&self) -> Option<OverlayStats>;
}

impl<T: crate::sealed::AsPeers> OverlayExt for T {
    fn overlay(&self) -> Option<OverlayStats> {
        self.as_peers().get_shared::<Shared>()?.stats()
    }
}
