//! The roster: the peers that are connected, and what they share.

mod broadcast;
pub(crate) mod by_wire;
pub(crate) mod changes;
pub mod event;
pub(crate) mod hooks;
pub(crate) mod outgoing;
mod patience;
pub(crate) mod payload;
pub(crate) mod peer;
mod report;
pub(crate) mod request;
mod roster;
pub(crate) mod standing;
pub(crate) mod throttle;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use broadcast::RunBuffers;
pub use broadcast::{BATCH, PAYLOAD_COST, Sent};
pub(crate) use broadcast::{KEPT_RUNS, RUN_BYTES};
use event::Events;
use hooks::Hooks;
use http::Extensions;
use patience::Remembered;
pub(crate) use patience::{Culprit, Penance};
use report::Reports;
pub(crate) use roster::{Joined, Refusal};
pub(crate) use standing::{StandBy, Standing, Token, as_token};
use tokio::time::Instant;

use crate::config::Config;
use crate::node::changes::PeerChanges;
use crate::node::peer::{Peer, PeerId};
use crate::stats::Stats;
use crate::stats::meter::Meter;
use crate::wire::NodeId;

/// The peers of one node, with what they share: the options, the events, the read side, and values
/// that plugins keep. Cheap to clone.
///
/// An [`App`](crate::App) makes one and runs it as a [`Mesh`](crate::Mesh). Without an app, make
/// one here, and give it to [`connection::serve`](crate::connection::serve) with each connection.
#[derive(Clone)]
pub struct Peers(Arc<Node>);

/// All that the connections of one node have in common.
pub(crate) struct Node {
    config: Config,
    id: NodeId,
    /// The key that this node proves to have, where it has one.
    key: OnceLock<[u8; 32]>,
    hooks: Hooks,
    extensions: RwLock<Extensions>,
    events: event::Sender,
    reports: Reports,
    meter: Meter,
    roster: Mutex<Roster>,
    slow: Mutex<Remembered>,
    /// What many broadcasts at once are put together in.
    run_buffers: RunBuffers,
    links: AtomicU64,
    nonce: AtomicU64,
}

/// What is fixed once a node begins to leave.
struct Closed {
    /// The peers it had then. What is relayed to one of them that has been let go is counted as
    /// dropped.
    targets: Arc<[Peer]>,
    /// When all of it must be over.
    deadline: Instant,
}

#[derive(Default)]
struct Roster {
    peers: BTreeMap<u64, Peer>,
    /// Those who have introduced themselves.
    by_id: HashMap<PeerId, u64>,
    /// Newcomers that say they are one of the peers.
    standing: Vec<Arc<standing::Place>>,
    /// The peers as a list, made when it is asked for: copying it at each join would cost memory
    /// that grows with the square of the peers.
    list: Option<Arc<[Peer]>>,
    /// Those who are leaving, and the counters of those who left.
    leaving: BTreeMap<u64, Peer>,
    departed: Stats,
    /// Set when the node begins to leave: from then on connections are refused.
    closed: Option<Closed>,
}

impl Peers {
    /// Makes a node without an app, with these options.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self::with_hooks(config, Hooks::default(), Extensions::new(), false)
    }

    pub(crate) fn with_hooks(
        config: Config,
        hooks: Hooks,
        extensions: Extensions,
        keep_events: bool,
    ) -> Self {
        Self(Arc::new(Node {
            config: config.bounded(),
            id: NodeId::random(),
            key: OnceLock::new(),
            hooks,
            extensions: RwLock::new(extensions),
            events: event::Sender::new(keep_events),
            reports: Reports::default(),
            meter: Meter::new(),
            roster: Mutex::new(Roster::default()),
            slow: Mutex::default(),
            run_buffers: RunBuffers::default(),
            links: AtomicU64::new(1),
            nonce: AtomicU64::new(rand::random()),
        }))
    }

    pub(crate) fn from_node(node: Arc<Node>) -> Self {
        Self(node)
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.0
    }

    /// The number this running application chose for itself; peers on the native wire know it by
    /// this.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.0.id
    }

    /// The options.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The connected peers, each once, in the order in which they came.
    #[must_use]
    pub fn list(&self) -> Arc<[Peer]> {
        self.0.list()
    }

    /// How many peers are connected.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.roster().peers.len()
    }

    /// Whether no peer is connected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Finds a connected peer by its id. On wires without a handshake several peers can share a
    /// key; this finds the oldest.
    #[must_use]
    pub fn get(&self, id: &PeerId) -> Option<Peer> {
        self.0
            .roster()
            .peers
            .values()
            .find(|peer| peer.id() == id)
            .cloned()
    }

    /// What happens from now on; of a mesh, for the first reader, from the beginning.
    #[must_use]
    pub fn events(&self) -> Events {
        self.0.events.subscribe()
    }

    /// The peers that are connected now, and then those that come and go, each once.
    ///
    /// Unlike [`events`](Peers::events), a reader that is slow misses no peer: it learns later of
    /// those who are connected still, and not of those who came and went meanwhile.
    #[must_use]
    pub fn changes(&self) -> PeerChanges {
        PeerChanges::new(self.clone())
    }

    /// The events from now on, without being the first reader.
    pub(crate) fn events_from_now(&self) -> Events {
        self.0.events.listen()
    }

    /// The counters of all peers, of those who left too.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let roster = self.0.roster();
        let all = roster.peers.values().chain(roster.leaving.values());
        all.fold(roster.departed, |sum, peer| sum + peer.stats())
    }

    /// Shares a value with everyone who has the peers, one of each type. Returns the value that it
    /// replaces.
    pub fn set_shared<T: Clone + Send + Sync + 'static>(&self, value: T) -> Option<T> {
        self.0
            .extensions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(value)
    }

    /// Gets a clone of a shared value.
    #[must_use]
    pub fn get_shared<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.0
            .extensions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get()
            .cloned()
    }
}

impl Node {
    /// Returns a clone of the shared value of type `T`, which `make` makes if there is none.
    pub(crate) fn get_or_share<T: Clone + Send + Sync + 'static>(
        &self,
        make: impl FnOnce() -> T,
    ) -> T {
        let mut extensions = self
            .extensions
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        extensions.get_or_insert_with(make).clone()
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers")
            .field("node", &self.0.id)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
