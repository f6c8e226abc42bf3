//! One peer's handle.

mod fitting;
pub(crate) mod handle;
mod id;
pub(crate) mod requests;

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use handle::{ConnectionHandle, Quiesced};
use http::Extensions;
pub(crate) use id::Endpoint;
pub use id::PeerId;
use requests::Requests;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::Error;
use crate::node::event::Event;
use crate::node::standing::YOUNG;
use crate::node::{Culprit, Node, Peers, Penance};
use crate::outbox::{Chunk, Count, Outbox, Refused};
use crate::reason::{DisconnectReason, DropReason};
use crate::stats::{Counters, Stats};
use crate::transport::Direction;
use crate::wire::{Framing, Kind, NodeId, Wire, WireCodec, WireError};

/// Drops are reported at most this often for a peer.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// A handle to one connected peer. Cheap to clone.
///
/// It stays valid, but useless, after the peer has gone. Two handles are equal when they are of the
/// same stay of the same peer: a peer that comes back is another.
#[derive(Clone)]
pub struct Peer(Arc<Inner>);

struct Inner {
    node: Arc<Node>,
    serial: u64,
    id: PeerId,
    node_id: Option<NodeId>,
    agent: Option<String>,
    listen: Option<String>,
    max_payload: Option<usize>,
    wire: Wire,
    origin: Mutex<Endpoint>,
    links: Mutex<Links>,
    outbox: Outbox,
    /// For frames that are not made of a payload and what stands around it. Made when it is
    /// needed.
    encoder: Mutex<Option<Box<WireCodec>>>,
    requests: Requests,
    counters: Arc<Counters>,
    /// In nanoseconds; 0 where none was measured.
    round_trip: AtomicU64,
    unreported: AtomicU64,
    reported: Mutex<Reported>,
    extensions: Mutex<Extensions>,
    gone: OnceLock<DisconnectReason>,
    left: Notify,
    since: Instant,
    penance: Option<Penance>,
}

/// What was told of dropped frames.
#[derive(Debug, Default)]
struct Reported {
    last: Option<Instant>,
    /// Whether the node has taken this peer's counters into its own.
    departed: bool,
}

/// The connections to one peer: nearly always one. There can be two for a moment, when both nodes
/// dialled each other at the same time.
#[derive(Default)]
pub(crate) struct Links {
    /// Those that may carry what is written to the peer; the first does.
    pub(crate) usable: Vec<Arc<ConnectionHandle>>,
}

/// What a connection has learned of its peer before it joins the roster.
#[derive(Clone, Debug)]
pub(crate) struct Introduction {
    pub(crate) key: Option<[u8; 32]>,
    pub(crate) node_id: Option<NodeId>,
    pub(crate) agent: Option<String>,
    pub(crate) listen: Option<String>,
    pub(crate) max_payload: Option<usize>,
    pub(crate) wire: Wire,
    pub(crate) origin: Endpoint,
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
        Self(Arc::new(Inner {
            serial: link.id().0,
            id,
            node_id: intro.node_id,
            agent: intro.agent,
            listen: intro.listen,
            max_payload: intro.max_payload,
            wire: intro.wire,
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
            requests: Requests::default(),
            counters,
            round_trip: AtomicU64::new(0),
            unreported: AtomicU64::new(0),
            reported: Mutex::default(),
            extensions: Mutex::new(Extensions::new()),
            gone: OnceLock::new(),
            left: Notify::new(),
            since: Instant::now(),
            penance: node.penance(Culprit::of(intro.key, intro.origin.addr)),
            node,
        }))
    }

    /// What tells this peer from others.
    #[must_use]
    pub fn id(&self) -> &PeerId {
        &self.0.id
    }

    /// The address of the peer's end of the connection, where there is one.
    #[must_use]
    pub fn addr(&self) -> Option<SocketAddr> {
        self.origin().addr
    }

    /// Which side made the connection.
    #[must_use]
    pub fn direction(&self) -> Direction {
        self.origin().direction
    }

    /// What the peer says it is, on wires with a handshake. The text is the peer's own.
    #[must_use]
    pub fn agent(&self) -> Option<&str> {
        self.0.agent.as_deref()
    }

    /// Where the peer says that others can dial it, as `host:port`. The text is the peer's own.
    #[must_use]
    pub fn listen_addr(&self) -> Option<&str> {
        self.0.listen.as_deref()
    }

    /// The largest payload that the peer says it takes, in bytes, on wires with a handshake; `None`
    /// where it says nothing.
    ///
    /// It is sent nothing larger: sending such a payload to it alone is an error, and what is for
    /// all is dropped for it, and counted as [`DropReason::TooLarge`].
    #[must_use]
    pub fn max_payload(&self) -> Option<usize> {
        self.0.max_payload
    }

    /// How frames stand on the connection to this peer.
    #[must_use]
    pub fn wire(&self) -> &Wire {
        &self.0.wire
    }

    /// The node's peers, this one among them while it is connected.
    #[must_use]
    pub fn peers(&self) -> Peers {
        Peers::from_node(Arc::clone(&self.0.node))
    }

    /// Whether the peer can still be written to.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.gone.get().is_none()
    }

    /// The counters of this peer.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.counters.snapshot()
    }

    /// How long the peer took to answer the last ping. `None` where it has answered none: only a
    /// peer that has been silent is asked, and only on wires with a handshake.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        match self.0.round_trip.load(Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    /// How many bytes wait to be written to this peer, with what keeping them costs.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.0.outbox.used()
    }

    /// Keeps a value with this peer for as long as it is connected: the state of a hook or a layer.
    /// It is dropped after the hooks for a peer that was disconnected have run, so that it may know
    /// the peer. Returns the value of the same type that it replaces.
    pub fn set<T: Clone + Send + Sync + 'static>(&self, value: T) -> Option<T> {
        lock(&self.0.extensions).insert(value)
    }

    /// Gets a clone of a value that was kept with [`set`](Peer::set).
    #[must_use]
    pub fn get<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        lock(&self.0.extensions).get().cloned()
    }

    /// Queues `payload` for this peer alone, waiting for room. Relays leave it alone.
    ///
    /// That it is queued does not say that it arrives; see [`flushed`](Peer::flushed) for when it
    /// has been written.
    ///
    /// # Errors
    ///
    /// [`is_closed`](Error::is_closed) where the peer is gone, [`is_encode`](Error::is_encode)
    /// where the payload does not fit its wire, or is larger than
    /// [`max_payload`](Peer::max_payload).
    ///
    /// # Cancel safety
    ///
    /// When dropped before it is done, nothing was queued.
    pub async fn send_payload(&self, payload: impl Into<Bytes>) -> Result<(), Error> {
        self.send_kind(Kind::Data, payload.into()).await
    }

    /// Queues `payload` for this peer alone, if there is room for it now.
    ///
    /// # Errors
    ///
    /// [`is_full`](Error::is_full) where there is no room, and as for
    /// [`send_payload`](Peer::send_payload).
    pub fn try_send_payload(&self, payload: impl Into<Bytes>) -> Result<(), Error> {
        let chunk = self
            .encode_own(Kind::Data, payload.into())
            .map_err(Error::encode)?;
        match self.0.outbox.try_push(&[chunk]) {
            Ok(_) => Ok(()),
            Err(Refused::Full) => Err(Error::full()),
            Err(Refused::Closed) => Err(Error::closed()),
        }
    }

    /// Sends `payload` as a request, and waits for its reply, at most
    /// [`Config::request_timeout`](crate::Config::request_timeout).
    ///
    /// Many requests may be in flight; replies come in any order. A handler may ask the peer whose
    /// frame it is handling.
    ///
    /// # Errors
    ///
    /// [`is_refused`](Error::is_refused) where the peer's wire has no requests,
    /// [`is_encode`](Error::is_encode) where the payload is larger than the frame limit or
    /// [`max_payload`](Peer::max_payload), [`is_timeout`](Error::is_timeout),
    /// [`is_no_answer`](Error::is_no_answer) where nothing on the other side answered,
    /// [`is_failed`](Error::is_failed) where answering failed there,
    /// [`is_closed`](Error::is_closed) where the peer is gone, or goes.
    ///
    /// # Cancel safety
    ///
    /// When dropped before it is done, the peer is told that nobody waits any more.
    pub async fn request_payload(&self, payload: impl Into<Bytes>) -> Result<Bytes, Error> {
        self.check_requests()?;
        let limit = self.0.node.config().request_timeout;
        let begun = Instant::now();
        let mut reply = self.0.requests.open(self);
        let wait = async {
            self.send_kind(Kind::Request { id: reply.id() }, payload.into())
                .await?;
            reply.set_asked();
            reply.wait().await
        };
        let result = match tokio::time::timeout(limit, wait).await {
            Ok(result) => result,
            Err(_) => Err(Error::request_timeout(limit)),
        };
        let meter = self.0.node.meter();
        meter.request(result.is_ok(), begun.elapsed());
        result
    }

    /// Waits until all that is queued for this peer now has been written to its socket, or dropped.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing changes by waiting.
    pub async fn flushed(&self) {
        self.0.outbox.flushed().await;
    }

    /// Disconnects the peer: writes what is queued (at most [`Config::drain`](crate::Config::drain)
    /// long), tells it `reason`, and closes.
    pub fn disconnect(&self, reason: impl Into<String>) {
        self.stop(&DisconnectReason::Disconnected(reason.into()));
    }

    /// Waits until the peer is no longer connected, and says why.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing changes by waiting.
    pub async fn closed(&self) -> DisconnectReason {
        loop {
            let left = self.0.left.notified();
            if let Some(reason) = self.0.gone.get() {
                return reason.clone();
            }
            left.await;
        }
    }

    /// Whether the peer can be asked, now and later, and if not, why.
    pub(crate) fn check_ready(&self) -> Result<(), Error> {
        self.check_requests()?;
        if self.0.outbox.is_closed() {
            return Err(Error::closed());
        }
        Ok(())
    }

    fn check_requests(&self) -> Result<(), Error> {
        if !self.0.wire.has_handshake() {
            return Err(Error::unsupported(
                "requests need the native wire: this peer's wire has no place for a reply",
            ));
        }
        Ok(())
    }

    async fn send_kind(&self, kind: Kind, payload: Bytes) -> Result<(), Error> {
        let chunk = self.encode_own(kind, payload).map_err(Error::encode)?;
        self.0
            .outbox
            .push(&[chunk], &mut 0)
            .await
            .map_err(|_| Error::closed())
    }

    /// Puts `payload` into a frame of this node's own, for this peer alone.
    pub(crate) fn encode_own(&self, kind: Kind, payload: Bytes) -> Result<Chunk, WireError> {
        self.check_size(kind, payload.len())?;
        self.encode(kind, self.own_ttl(kind), payload, Count::OWN)
    }

    /// What stands around `payload` in a frame of this node's own, for this peer alone, where that
    /// can be said.
    pub(crate) fn framing_own(
        &self,
        kind: Kind,
        payload: &[u8],
    ) -> Result<Option<Framing>, WireError> {
        self.check_size(kind, payload.len())?;
        self.framing(kind, self.own_ttl(kind), payload)
    }

    /// The largest payload that may be sent to this peer, in bytes.
    #[inline]
    pub(crate) fn limit(&self) -> usize {
        let own = self.0.node.config().max_frame;
        self.0.max_payload.map_or(own, |max| own.min(max))
    }

    fn check_size(&self, kind: Kind, len: usize) -> Result<(), WireError> {
        match self.0.max_payload {
            Some(max) if len > max && !kind.is_control() => Err(WireError::too_large_for_peer(max)),
            _ => Ok(()),
        }
    }

    /// Whether there are payloads that this node sends, and this peer does not take.
    #[inline]
    fn takes_less(&self) -> bool {
        self.limit() < self.0.node.config().max_frame
    }

    /// What this peer takes of frames that were made for all peers of its wire, and how many it
    /// does not take.
    pub(crate) fn fitting<'a>(&self, chunks: &'a [Chunk]) -> (Cow<'a, [Chunk]>, u64) {
        if self.takes_less() {
            fitting::fitting(chunks, self.limit())
        } else {
            (Cow::Borrowed(chunks), 0)
        }
    }

    /// Puts what this peer takes of `chunks` into its outbox, as [`Outbox::try_push`]; the rest is
    /// dropped, and counted.
    #[inline]
    pub(crate) fn try_push_fitting(&self, chunks: &[Chunk]) -> Result<usize, Refused> {
        if !self.takes_less() {
            return self.0.outbox.try_push(chunks);
        }
        let mut taken = 0;
        // One by one, so that no more than one is there a second time.
        for chunk in chunks {
            let (some, others) = self.fitting(std::slice::from_ref(chunk));
            match self.0.outbox.try_push(&some) {
                Ok(_) => {}
                Err(Refused::Full) if taken > 0 => break,
                Err(refused) => return Err(refused),
            }
            self.dropped(DropReason::TooLarge, others);
            taken += 1;
        }
        Ok(taken)
    }

    /// Puts what this peer takes of `chunks` into its outbox, waiting for room, as
    /// [`Outbox::push`]; the rest is dropped, and counted.
    ///
    /// # Cancel safety
    ///
    /// What was dealt with before stays so; `progress` says how many chunks that is.
    pub(crate) async fn push_fitting(
        &self,
        chunks: &[Chunk],
        progress: &mut usize,
    ) -> Result<(), Refused> {
        if !self.takes_less() {
            return self.0.outbox.push(chunks, progress).await;
        }
        while let Some(chunk) = chunks.get(*progress) {
            let (some, others) = self.fitting(std::slice::from_ref(chunk));
            self.0.outbox.push(&some, &mut 0).await?;
            self.dropped(DropReason::TooLarge, others);
            *progress += 1;
        }
        Ok(())
    }

    fn own_ttl(&self, kind: Kind) -> u8 {
        if kind.is_control() {
            0
        } else {
            self.0.node.config().ttl
        }
    }

    /// Puts `payload` into a frame of this peer's wire, whichever peer it is for.
    pub(crate) fn encode(
        &self,
        kind: Kind,
        ttl: u8,
        payload: Bytes,
        count: Count,
    ) -> Result<Chunk, WireError> {
        if let Some(mut framing) = self.framing(kind, ttl, &payload)? {
            if count.relayed > 0 {
                framing.keep_carriage_return(&payload);
            }
            return Ok(Chunk {
                framing,
                body: payload,
                count,
            });
        }
        let mut encoder = lock(&self.0.encoder);
        let encoder = encoder.get_or_insert_with(|| {
            let mut encoder = self.0.wire.codec(self.0.node.config().max_frame);
            encoder.established();
            Box::new(encoder)
        });
        let mut whole = BytesMut::new();
        encoder.encode(kind, ttl, &payload, &mut whole)?;
        Ok(Chunk::verbatim(whole.freeze(), count))
    }

    /// What stands around `payload` in a frame of this peer's wire, where that can be said.
    pub(crate) fn framing(
        &self,
        kind: Kind,
        ttl: u8,
        payload: &[u8],
    ) -> Result<Option<Framing>, WireError> {
        let max_frame = self.0.node.config().max_frame;
        self.0.wire.framing(max_frame, kind, ttl, payload)
    }

    pub(crate) fn serial(&self) -> u64 {
        self.0.serial
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.0.node
    }

    pub(crate) fn node_id(&self) -> Option<NodeId> {
        self.0.node_id
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.0.outbox
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Tells the node's meter what this peer has counted since the last time.
    pub(crate) fn tell_meter(&self) {
        self.0.counters.tell(self.0.node.meter());
    }

    /// Notes how long the peer took to answer a ping.
    pub(crate) fn answered(&self, after: Duration) {
        let nanos = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.0.round_trip.store(nanos, Relaxed);
        self.0.node.meter().round_trip(after);
    }

    pub(crate) fn requests(&self) -> &Requests {
        &self.0.requests
    }

    pub(crate) fn origin(&self) -> Endpoint {
        *lock(&self.0.origin)
    }

    pub(crate) fn set_origin(&self, origin: Endpoint) {
        *lock(&self.0.origin) = origin;
    }

    /// Whom it is held against if it is slow.
    pub(crate) fn culprit(&self) -> Option<Culprit> {
        let key = match self.0.id {
            PeerId::Key(key) => Some(key),
            _ => None,
        };
        Culprit::of(key, self.origin().addr)
    }

    /// What was held against it when it came.
    pub(crate) fn penance(&self) -> Option<Penance> {
        self.0.penance
    }

    /// Whether it is waited for as any other: it was not too slow a while ago.
    pub(crate) fn is_trusted(&self) -> bool {
        let patience = self.0.node.config().patience;
        let penance = self.0.penance;
        penance.is_none_or(|penance| penance.is_over(patience, Instant::now()))
    }

    /// Whether it has become connected so lately that another connection to it may have been made
    /// at the same time.
    pub(crate) fn is_young(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.0.since) < YOUNG
    }

    pub(crate) fn links(&self) -> MutexGuard<'_, Links> {
        lock(&self.0.links)
    }

    /// Tells all connections to this peer to end, for `reason`.
    pub(crate) fn stop(&self, reason: &DisconnectReason) {
        let links = self.links().usable.clone();
        for link in links {
            link.end(reason.clone());
        }
    }

    /// Tells the connections to this peer to read no more, and to handle what they have read.
    pub(crate) fn quiesce(&self, quiesced: &Quiesced) {
        for link in &self.links().usable {
            link.quiesce(quiesced.clone());
        }
    }

    /// Counts `frames` as dropped, and reports it unless that was done a moment ago.
    pub(crate) fn dropped(&self, reason: DropReason, frames: u64) {
        if frames == 0 {
            return;
        }
        let now = Instant::now();
        let mut reported = lock(&self.0.reported);
        self.0.counters.add_dropped(frames);
        self.0.node.meter().dropped(reason, frames);
        self.0.unreported.fetch_add(frames, Relaxed);
        let departed = reported.departed;
        let lately = reported.last.is_some_and(|last| now - last < REPORT_EVERY);
        if self.is_connected() && lately {
            return;
        }
        reported.last = Some(now);
        drop(reported);
        if departed {
            // Others may find only now that they waited in vain for room here.
            self.0.node.dropped_late(frames);
        }
        self.report_dropped(reason);
    }

    /// Reports the dropped frames that no event has told of yet.
    pub(crate) fn report_dropped(&self, reason: DropReason) {
        let frames = self.0.unreported.swap(0, Relaxed);
        if frames > 0 {
            self.0.node.emit(Event::Dropped {
                peer: self.clone(),
                reason,
                frames,
            });
        }
    }

    /// Drops the values that were kept with this peer.
    pub(crate) fn forget(&self) {
        // Not under the lock: they may know this peer.
        let kept = std::mem::take(&mut *lock(&self.0.extensions));
        drop(kept);
    }

    /// The counters, for the node to keep. What is dropped from now on is told to it.
    pub(crate) fn depart(&self) -> Stats {
        let mut reported = lock(&self.0.reported);
        reported.departed = true;
        self.stats()
    }

    /// The peer is gone: drops what it did not get, fails what waits for it.
    pub(crate) fn leave(&self, reason: &DisconnectReason) {
        let _ = self.0.gone.set(reason.clone());
        self.0.outbox.close();
        let lost = self.0.outbox.clear();
        self.0.requests.fail_all();
        self.0.left.notify_waiters();
        self.dropped(DropReason::Disconnected, lost.total());
        self.report_dropped(DropReason::Disconnected);
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
            .field("addr", &origin.addr)
            .field("direction", &origin.direction)
            .field("wire", &self.0.wire)
            .field("connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
