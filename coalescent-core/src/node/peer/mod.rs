//! The handle to one peer.

pub(crate) mod budget;
mod drops;
mod encode;
mod faults;
mod fitting;
mod hand_in;
mod handed;
pub(crate) mod handle;
pub(crate) mod handling;
mod id;
mod offer;
pub(crate) mod requests;
pub(crate) mod seat;
mod send;
mod stage;

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use budget::Budget;
pub(crate) use handed::HandedFrame;
use handed::HandedIn;
pub use handed::{HANDED_COST, HANDED_IN};
use handle::{ConnectionHandle, Quiesced};
use http::Extensions;
pub use id::PeerId;
pub(crate) use id::{Endpoint, Introduction};
use requests::Requests;
use stage::Stage;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::node::channel::PeerChannels;
use crate::node::{Culprit, Node, Peers, Penance};
use crate::outbox::Outbox;
use crate::reason::{DisconnectReason, Goodbye};
use crate::stats::{Counters, Stats};
use crate::transport::Direction;
use crate::transport::address::Address;
use crate::wire::{NodeId, Wire, WireCodec};

/// A handle to one connected peer. Cheap to clone.
///
/// After the peer disconnects, operations on the handle fail. Two handles are equal if they belong
/// to the same stay of the same peer: a peer that comes back is another one.
///
/// # Answering
///
/// A handler should not wait for room to send to the peer whose message it handles, as
/// [`send_payload`](Peer::send_payload) does. As long as many handlers wait, nothing more is read
/// of the peer. If the peer's handlers wait for this node in the same way, neither side reads what
/// the other is to write, and after [`Config::patience`](crate::Config::patience) the connection
/// ends with [`DisconnectReason::MutualWait`]. The same holds for what handlers return as answers
/// to plain messages, which nobody limits. Instead,
///
/// - have the peer [ask](Peer::request_payload), and return the [`Reply`](crate::Reply). Requests
///   and replies do not end a connection like this, whoever asks whom: the requests in flight are
///   limited by [`REQUEST_WINDOW`](crate::REQUEST_WINDOW), to what the other side has room for, and
///   replies are always read. Handlers may ask back; each does so once without waiting for others.
///   If they ask back in turn, what all of them ask shares one window, and if that is too small, or
///   more than [`MAX_CONCURRENCY`](crate::config::MAX_CONCURRENCY) wait, they fail after
///   [`Config::request_timeout`](crate::Config::request_timeout);
/// - or send what may be lost with [`try_send_payload`](Peer::try_send_payload), which does not
///   wait;
/// - or spawn a task that sends, and bound how many there are.
///
/// A handler of a request may ask back. A handler of a message may too, but messages are not
/// limited like requests: those that the peer has sent meanwhile stand before its reply, and if
/// they are more than [`Config::read_ahead`](crate::Config::read_ahead) holds, the reply is not
/// reached. Let the peer send them as requests, or spawn what asks back.
///
/// # Example
///
/// ```
/// # use coalescent::{App, transport::Memory};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let network = Memory::new();
/// # let alice = App::new().transport(network.clone()).listen("alice:1").await?;
/// # let bob = App::new().transport(network).start().await?;
/// let mut heard = alice.reader();
/// let peer = bob.connect("alice:1").await?;
/// peer.send_payload("only for alice").await?;
/// let frame = heard.next_frame().await.ok_or("the mesh has ended")?;
/// assert_eq!(frame.payload(), b"only for alice");
///
/// let back = frame.peer();                // bob, as alice sees him
/// assert_eq!(back.node_id(), Some(bob.id()));
/// back.disconnect("enough of this");
/// let reason = peer.closed().await;
/// assert_eq!(reason.to_string(), "the peer left: disconnected: enough of this");
/// assert!(peer.send_payload("wait").await.unwrap_err().is_closed());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Peer(Arc<Inner>);

struct Inner {
    node: Arc<Node>,
    /// The number of the connection that the peer came with.
    serial: u64,
    id: PeerId,
    node_id: Option<NodeId>,
    agent: Option<String>,
    listen: Option<String>,
    seen: Option<SocketAddr>,
    max_payload: Option<usize>,
    wire: Wire,
    /// Whether it is a contact, or a peer.
    stage: Stage,
    /// The other end of the connection that carries what is written to the peer.
    origin: Mutex<Endpoint>,
    links: Mutex<Links>,
    outbox: Outbox,
    /// Encodes frames for wires that have no framing. Made when it is first needed.
    encoder: Mutex<Option<Box<WireCodec>>>,
    /// The channels that both sides know, if there are any.
    channels: Option<Box<PeerChannels>>,
    /// What plugins have handed in to the peer's stack.
    handed: HandedIn,
    /// What the peer may still do wrong.
    budget: Mutex<Budget>,
    requests: Requests,
    /// How many handlers of the peer's frames wait for room to send to it.
    stuck: AtomicUsize,
    counters: Arc<Counters>,
    /// The last round trip in nanoseconds; 0 if none was measured.
    round_trip: AtomicU64,
    /// Dropped frames that no event has told of yet.
    unreported: AtomicU64,
    reported: Mutex<Reported>,
    /// Values that hooks and layers keep with the peer, one of each type.
    extensions: Mutex<Extensions>,
    /// Why the peer is gone. Set by step 2 of its [departure](crate::node::departure).
    gone: OnceLock<DisconnectReason>,
    /// Wakes tasks that wait until the peer is gone.
    left: Notify,
    since: Instant,
    /// What is held against the peer because it was too slow before.
    penance: Option<Penance>,
}

/// What has been reported of dropped frames.
#[derive(Debug, Default)]
struct Reported {
    /// When the last event was told.
    last: Option<Instant>,
    /// Whether the node has taken over the peer's counters. Under one lock with them, so that each
    /// dropped frame is in exactly one sum.
    handed_over: bool,
}

/// The connections to one peer: nearly always one. There can be two for a moment, if both nodes
/// dialled each other at the same time.
#[derive(Default)]
pub(crate) struct Links {
    /// The connections that may carry what is written to the peer; the first one does.
    pub(crate) usable: Vec<Arc<ConnectionHandle>>,
}

impl Peer {
    pub(crate) fn new(node: Arc<Node>, intro: Introduction, link: &Arc<ConnectionHandle>) -> Self {
        let config = node.config();
        let id = match (intro.key, intro.node_id) {
            (Some(key), _) => PeerId::Key(key),
            (None, Some(node_id)) => PeerId::Node(node_id),
            (None, None) => PeerId::Connection(link.id().0),
        };
        let counters = Arc::new(Counters::default());
        let budget = node.budget(&intro);
        let stage = Stage::new(node.role(&intro.channels));
        Self(Arc::new(Inner {
            serial: link.id().0,
            id,
            node_id: intro.node_id,
            agent: intro.agent,
            listen: intro.listen,
            seen: intro.seen,
            max_payload: intro.max_payload,
            wire: intro.wire,
            penance: node.penance(Culprit::of(intro.key, intro.origin.addr)),
            stage,
            origin: Mutex::new(intro.origin),
            links: Mutex::new(Links {
                usable: vec![Arc::clone(link)],
            }),
            outbox: Outbox::new(
                config.outbox,
                link.id().0,
                node.meter().queued(),
                Arc::clone(&counters),
            ),
            encoder: Mutex::new(None),
            channels: PeerChannels::new(&node.hooks().channel_names(), &intro.channels),
            handed: HandedIn::default(),
            budget: Mutex::new(budget),
            requests: Requests::new(intro.max_payload),
            stuck: AtomicUsize::new(0),
            counters,
            round_trip: AtomicU64::new(0),
            unreported: AtomicU64::new(0),
            reported: Mutex::default(),
            extensions: Mutex::new(Extensions::new()),
            gone: OnceLock::new(),
            left: Notify::new(),
            since: Instant::now(),
            node,
        }))
    }

    /// Returns the identity of the peer.
    #[must_use]
    pub fn id(&self) -> &PeerId {
        &self.0.id
    }

    /// Returns the address of the peer's end of the connection, if the transport has addresses.
    #[must_use]
    pub fn addr(&self) -> Option<SocketAddr> {
        lock(&self.0.origin).addr
    }

    /// Returns where the peer's end of the connection is, with its scheme, as far as the transport
    /// tells: the address that was dialled, if its scheme is not `tcp`; of a peer that came over a
    /// transport without socket addresses, its key, or else the address of the listener; or the
    /// [socket address](Peer::addr).
    #[must_use]
    pub fn address(&self) -> Option<Address> {
        let origin = self.origin();
        match (origin.place, origin.addr) {
            (Some(place), _) => Some(Address::clone(&place)),
            (None, Some(addr)) => addr.try_into().ok(),
            (None, None) => None,
        }
    }

    /// Returns which side made the connection.
    #[must_use]
    pub fn direction(&self) -> Direction {
        lock(&self.0.origin).direction
    }

    /// Returns the program that the peer says it is, on wires with a handshake. The text comes from
    /// the peer.
    #[must_use]
    pub fn agent(&self) -> Option<&str> {
        self.0.agent.as_deref()
    }

    /// Returns the number that the peer's process chose for itself, on wires with a handshake.
    /// Nothing proves it.
    #[must_use]
    pub fn node_id(&self) -> Option<NodeId> {
        self.0.node_id
    }

    /// Returns where the peer says that others can dial it, as `host:port`. The text comes from the
    /// peer.
    ///
    /// If the peer says only at which port it listens, the host is the IP address at which this
    /// node sees it: the one that was dialled, or the one that it came from.
    #[must_use]
    pub fn listen_addr(&self) -> Option<&str> {
        self.0.listen.as_deref()
    }

    /// Returns the address at which the peer says it sees this node. It comes from the peer, and is
    /// what a NAT made of this node's own address.
    #[must_use]
    pub fn seen_addr(&self) -> Option<SocketAddr> {
        self.0.seen
    }

    /// Returns the largest payload that the peer says it takes, in bytes, on wires with a
    /// handshake; `None` if it says nothing.
    ///
    /// It is sent nothing larger: to send such a payload to it alone is an error, and a broadcast
    /// is dropped for it, and counted as
    /// [`DropReason::TooLarge`](crate::DropReason::TooLarge).
    #[must_use]
    pub fn max_payload(&self) -> Option<usize> {
        self.0.max_payload
    }

    /// Returns the wire of the connection to this peer.
    #[must_use]
    pub fn wire(&self) -> &Wire {
        &self.0.wire
    }

    /// Returns the node's peers, this one among them while it is connected.
    #[must_use]
    pub fn peers(&self) -> Peers {
        Peers::from_node(Arc::clone(&self.0.node))
    }

    /// Returns whether the peer can still be written to.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.gone.get().is_none()
    }

    /// Returns the counters of this peer.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.counters.snapshot()
    }

    /// Returns how long the peer took to answer the last ping. `None` if it has answered none: only
    /// a peer that has been silent is pinged, and only on wires with a handshake.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        match self.0.round_trip.load(Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    /// Returns how many bytes are queued for this peer, including the cost of keeping them.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.0.outbox.used()
    }

    /// Keeps a value with this peer for as long as it is connected: the state of a hook or a layer.
    /// Returns the value of the same type that it replaces.
    ///
    /// The value is dropped after the hooks for a disconnected peer have run, so it may own the
    /// peer.
    ///
    /// ```
    /// #[derive(Clone, Debug, PartialEq)]
    /// struct Nick(&'static str);
    ///
    /// # use coalescent::{App, transport::Memory};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let network = Memory::new();
    /// # let alice = App::new().transport(network.clone()).listen("alice:1").await?;
    /// # let bob = App::new().transport(network).start().await?;
    /// let peer = bob.connect("alice:1").await?;
    /// peer.set(Nick("al"));
    /// assert_eq!(bob.peers().list()[0].get(), Some(Nick("al")));
    /// # drop(alice);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set<T: Clone + Send + Sync + 'static>(&self, value: T) -> Option<T> {
        lock(&self.0.extensions).insert(value)
    }

    /// Returns a clone of a value that was kept with [`set`](Peer::set).
    #[must_use]
    pub fn get<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        lock(&self.0.extensions).get().cloned()
    }

    /// Disconnects the peer: writes what is queued, for at most
    /// [`Config::drain`](crate::Config::drain), tells the peer `reason`, and closes the connection.
    pub fn disconnect(&self, reason: impl Into<Goodbye>) {
        let reason: Goodbye = reason.into();
        self.stop(&DisconnectReason::Disconnected(reason.into()));
    }

    /// Waits until the peer is no longer connected, and returns why.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: waiting changes nothing.
    pub async fn closed(&self) -> DisconnectReason {
        loop {
            let left = self.0.left.notified();
            if let Some(reason) = self.0.gone.get() {
                return reason.clone();
            }
            left.await;
        }
    }
}

/// What the rest of the crate asks of a peer.
impl Peer {
    pub(crate) fn serial(&self) -> u64 {
        self.0.serial
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.0.node
    }

    #[inline]
    pub(crate) fn stage(&self) -> &Stage {
        &self.0.stage
    }

    #[inline]
    pub(in crate::node) fn channels(&self) -> Option<&PeerChannels> {
        self.0.channels.as_deref()
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.0.outbox
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    pub(crate) fn requests(&self) -> &Requests {
        &self.0.requests
    }

    /// Returns when the peer joined.
    pub(crate) fn since(&self) -> Instant {
        self.0.since
    }

    pub(crate) fn origin(&self) -> Endpoint {
        lock(&self.0.origin).clone()
    }

    pub(crate) fn set_origin(&self, origin: Endpoint) {
        *lock(&self.0.origin) = origin;
    }

    pub(crate) fn links(&self) -> MutexGuard<'_, Links> {
        lock(&self.0.links)
    }

    /// Adds what this peer has counted since the last call to the node's meter.
    pub(crate) fn tell_meter(&self) {
        self.0.counters.tell(self.0.node.meter());
    }

    /// Notes how long the peer took to answer a ping.
    pub(crate) fn answered(&self, after: Duration) {
        let nanos = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.0.round_trip.store(nanos, Relaxed);
        self.0.node.meter().round_trip(after);
    }

    /// Returns against whom it is held if the peer is slow.
    pub(crate) fn culprit(&self) -> Option<Culprit> {
        Culprit::of(self.0.id.key(), self.addr())
    }

    /// Returns what was held against the peer when it joined.
    pub(crate) fn penance(&self) -> Option<Penance> {
        self.0.penance
    }

    /// Returns whether broadcasts wait for the peer like for any other: it was not too slow a while
    /// ago.
    pub(crate) fn is_trusted(&self) -> bool {
        let patience = self.0.node.config().patience;
        let penance = self.0.penance;
        penance.is_none_or(|penance| penance.is_over(patience, Instant::now()))
    }

    /// Tells all connections to this peer to end, for `reason`.
    pub(crate) fn stop(&self, reason: &DisconnectReason) {
        let links = self.links().usable.clone();
        for link in links {
            link.end(reason.clone());
        }
    }

    /// Has the connections to this peer look for work that another connection has left.
    pub(crate) fn wake(&self) {
        for link in &self.links().usable {
            link.wake();
        }
    }

    /// Tells the connections to this peer to read no more, and to handle what they have read.
    pub(crate) fn quiesce(&self, quiesced: &Quiesced) {
        for link in &self.links().usable {
            link.quiesce(quiesced.clone());
        }
    }
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Peer {}

impl std::hash::Hash for Peer {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.serial.hash(state);
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.origin();
        f.debug_struct("Peer")
            .field("id", &format_args!("{}", self.0.id))
            .field("addr", &origin.shown().map(tracing::field::display))
            .field("direction", &origin.direction)
            .field("wire", &self.0.wire)
            .field("connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
