//! The node: the state that all of its connections share.
//!
//! | file | role |
//! |---|---|
//! | `mod` | [`Peers`], the public handle, and `Node`, what it points to |
//! | `roster`, `join`, `departure` | who is connected; how a peer comes, and how it leaves |
//! | `contact` | contacts: peers with whom only channels are shared |
//! | `standing` | newcomers that claim to be a connected peer |
//! | `peer` | [`Peer`], the handle to one peer |
//! | `broadcast`, `payload` | what this node sends to all peers |
//! | `outgoing`, `by_wire` | what a payload is on a wire, and grouping peers by wire |
//! | `request` | a peer as a tower service |
//! | `event`, `changes` | what is told to the application |
//! | `report`, `throttle` | which events and log lines are told, and how many |
//! | `patience` | who was too slow before |
//! | `bans` | who has misbehaved, and is not let in for a while |
//! | `layered` | which layers the stack has, for the text of errors |
//! | `hooks` | what plugins run when peers come and go, and when a dial has ended |
//! | `suggestion` | addresses that are suggested for dialling |
//! | `channel` | frames between the plugins of two nodes |

pub(crate) mod bans;
mod broadcast;
pub(crate) mod by_wire;
pub(crate) mod changes;
pub(crate) mod channel;
mod contact;
mod departure;
pub mod event;
pub(crate) mod hooks;
mod join;
pub(crate) mod layered;
pub(crate) mod outgoing;
mod patience;
pub(crate) mod payload;
pub(crate) mod peer;
mod report;
pub(crate) mod request;
mod roster;
pub(crate) mod standing;
pub(crate) mod suggestion;
pub(crate) mod throttle;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use bans::Judge;
use broadcast::RunBuffers;
pub use broadcast::{BATCH, PAYLOAD_COST, Sent};
pub(crate) use broadcast::{KEPT_RUNS, RUN_BYTES};
use bytes::Bytes;
use event::Events;
use hooks::Hooks;
use http::Extensions;
use patience::Remembered;
pub(crate) use patience::{Culprit, Penance};
use rand::Rng;
pub(crate) use roster::Refusal;
use standing::place::Place;
pub(crate) use standing::{Joined, StandBy, Standing, Token, as_token};
use throttle::Reports;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::message::TopicName;
use crate::node::peer::handle::LinkId;
use crate::node::peer::{Peer, PeerId};
use crate::stats::Stats;
use crate::stats::meter::Meter;
use crate::transport::identity::PublicKey;
use crate::wire::NodeId;

/// A handle to the peers of one node, and to the state they share: the options, the events, and the
/// values that plugins keep. Cheap to clone.
///
/// An [`App`](crate::App) makes one and runs it as a [`Mesh`](crate::Mesh). Without an app, make
/// one here, and pass it to [`connection::serve`](crate::connection::serve) with each connection.
///
/// ```
/// # use coalescent::{App, transport::Memory};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let network = Memory::new();
/// # let alice = App::new().transport(network.clone()).listen("alice:1").await?;
/// # let bob = App::new().transport(network).start().await?;
/// bob.connect("alice:1").await?;
/// let peers = bob.peers();
/// let ids: Vec<_> = peers.list().iter().filter_map(|peer| peer.node_id()).collect();
/// assert_eq!(ids, [alice.id()]);
/// assert_eq!(peers.broadcast_payload("beep").await?.queued, 1);
/// peers.flushed().await;
/// assert_eq!(peers.stats().sent, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Peers(Arc<Node>);

/// The state that all connections of one node share.
pub(crate) struct Node {
    config: Config,
    /// The number that this process chose for itself.
    id: NodeId,
    /// The public key that this node proves to have, if it has one.
    key: OnceLock<PublicKey>,
    hooks: Hooks,
    /// The values that plugins and the application share, one of each type.
    extensions: RwLock<Extensions>,
    events: event::Sender,
    /// Which log lines and error events are told.
    reports: Reports,
    meter: Meter,
    /// Who is connected. Locked before the links of a peer.
    roster: Mutex<Roster>,
    /// Who was too slow lately.
    slow: Mutex<Remembered>,
    /// Who has misbehaved lately.
    judge: Judge,
    /// The buffers that batches of broadcasts are coalesced in.
    run_buffers: RunBuffers,
    /// The number of the next connection.
    links: AtomicU64,
    /// The nonce of the next broadcast.
    nonce: AtomicU64,
    /// The tasks that a mesh waits for when it ends.
    tasks: TaskTracker,
    /// Cancelled when the mesh waits for them no longer: connections are dropped without draining.
    cut: CancellationToken,
    /// Where a mesh runs its tasks.
    runtime: OnceLock<Handle>,
}

/// The peers of a node, by the number of the connection that each came with.
#[derive(Default)]
struct Roster {
    /// The connected peers.
    peers: BTreeMap<u64, Peer>,
    /// The connected contacts, which are no peers yet.
    contacts: BTreeMap<u64, Peer>,
    /// The connected peers and contacts that have introduced themselves.
    by_id: HashMap<PeerId, u64>,
    /// Newcomers that claim to be a connected peer.
    standing: Vec<Arc<Place>>,
    /// The connected peers as a list, made when it is asked for: copying it at each join would
    /// cost memory that grows with the square of the number of peers. `None` after a change.
    list: Option<Arc<[Peer]>>,
    /// The peers and contacts between the first and the second step of their departure.
    leaving: BTreeMap<u64, Peer>,
    /// The counters of the peers that have left.
    departed: Stats,
    /// Set when the node begins to shut down: from then on connections are refused.
    closed: Option<Closed>,
}

/// The state of a node that shuts down.
struct Closed {
    /// The peers that were connected when it began. A frame that is relayed to one of them after
    /// it has left is counted as dropped.
    targets: Arc<[Peer]>,
    /// When all connections must have ended.
    deadline: Instant,
}

impl Peers {
    /// Creates a node without an app, with these options.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self::with_hooks(config, Hooks::default(), Extensions::new(), false)
    }

    /// Creates a node with the hooks and shared values of plugins. With `keep_events` the first
    /// reader of the events gets those before it too; see [`Sender::new`](event::Sender::new).
    pub(crate) fn with_hooks(
        config: Config,
        hooks: Hooks,
        extensions: Extensions,
        keep_events: bool,
    ) -> Self {
        let config = config.bounded();
        let mut rng = hooks.rng();
        Self(Arc::new(Node {
            judge: Judge::new(&config),
            config,
            id: NodeId::from_bytes(rng.random()),
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
            nonce: AtomicU64::new(rng.random()),
            tasks: TaskTracker::new(),
            cut: CancellationToken::new(),
            runtime: OnceLock::new(),
        }))
    }

    pub(crate) fn from_node(node: Arc<Node>) -> Self {
        Self(node)
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.0
    }

    /// Returns the number that this process chose for itself; peers on the native wire know it by
    /// this number.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.0.id
    }

    /// Returns the options.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Returns the topics that plugins have declared, each once; see
    /// [`Registrar::topic`](crate::Registrar::topic).
    #[must_use]
    pub fn topics(&self) -> &[TopicName] {
        &self.0.hooks.topics
    }

    /// Returns the connected peers, each once, in the order in which they connected.
    #[must_use]
    pub fn list(&self) -> Arc<[Peer]> {
        self.0.list()
    }

    /// Returns the number of connected peers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.roster().peers.len()
    }

    /// Returns whether no peer is connected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Finds a connected peer by its id. On wires without a handshake several peers can share a
    /// key; this finds the oldest.
    #[must_use]
    pub fn find(&self, id: &PeerId) -> Option<Peer> {
        self.0
            .roster()
            .peers
            .values()
            .find(|peer| peer.id() == id)
            .cloned()
    }

    /// Returns the events from now on. The first reader of a mesh also gets the last ones before
    /// it.
    #[must_use]
    pub fn events(&self) -> Events {
        self.0.events.subscribe()
    }

    /// Returns the events from now on, without being the first reader.
    pub(crate) fn events_from_now(&self) -> Events {
        self.0.events.listen()
    }

    /// Returns the sum of the counters of all peers and contacts, including those that have left.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let roster = self.0.roster();
        let contacts = roster.contacts.values();
        let all = roster.peers.values().chain(contacts);
        let all = all.chain(roster.leaving.values());
        all.fold(roster.departed, |sum, peer| sum + peer.stats())
    }

    /// Shares a value with everyone who has a handle to the peers, one of each type. Returns the
    /// value that it replaces.
    pub fn set_shared<T: Clone + Send + Sync + 'static>(&self, value: T) -> Option<T> {
        self.0
            .extensions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(value)
    }

    /// Returns a clone of a shared value.
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
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn id(&self) -> NodeId {
        self.id
    }

    /// Returns the public key that this node proves to have, if it has one.
    pub(crate) fn key(&self) -> Option<PublicKey> {
        self.key.get().copied()
    }

    /// Sets the public key that this node proves to have.
    pub(crate) fn set_key(&self, key: PublicKey) {
        let _ = self.key.set(key);
    }

    pub(crate) fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    pub(crate) fn cut(&self) -> &CancellationToken {
        &self.cut
    }

    /// Notes that a mesh runs on the current runtime.
    pub(crate) fn run_here(&self) {
        let _ = self.runtime.set(Handle::current());
    }

    fn run_buffers(&self) -> &RunBuffers {
        &self.run_buffers
    }

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

    /// Returns the number for a new connection.
    pub(crate) fn next_link(&self) -> LinkId {
        LinkId(self.links.fetch_add(1, Relaxed))
    }

    /// Returns the nonce for a broadcast.
    pub(crate) fn next_nonce(&self) -> u64 {
        self.next_nonces(1)
    }

    /// Draws `count` consecutive nonces, and returns the first.
    fn next_nonces(&self, count: u64) -> u64 {
        self.nonce.fetch_add(count, Relaxed)
    }

    /// Gives back the unused nonces from `first` up to `end`, unless others have been drawn since.
    /// So consecutive broadcasts have nonces without gaps, which relays remember in less memory.
    fn return_nonces(&self, first: u64, end: u64) {
        let _ = self.nonce.compare_exchange(end, first, Relaxed, Relaxed);
    }

    /// Returns whether a hook wants to know what this node sends.
    fn is_announced(&self) -> bool {
        !self.hooks.broadcast.is_empty()
    }

    /// Tells the hooks what this node is about to send: a broadcast with this nonce, or, without a
    /// nonce, a frame on wires that have none.
    fn announce(&self, nonce: Option<u64>, payload: &Bytes) {
        for hook in &self.hooks.broadcast {
            hook(nonce, payload);
        }
    }

    fn slow(&self) -> MutexGuard<'_, Remembered> {
        self.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what is held against a peer that connects now because it was too slow before.
    fn penance(&self, culprit: Option<Culprit>) -> Option<Penance> {
        self.slow()
            .penance(culprit?, self.config.patience, Instant::now())
    }

    /// Notes how much of its patience a peer has used up that leaves by itself.
    pub(crate) fn spent(&self, peer: &Peer, spent: Duration) {
        if let (false, Some(culprit)) = (spent.is_zero(), peer.culprit()) {
            self.slow()
                .spent(culprit, spent, self.config.patience, Instant::now());
        }
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

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
