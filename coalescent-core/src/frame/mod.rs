//! Frames: what a connection calls a peer's stack with.
//!
//! - [`Frame`] (this file) is a pointer to [`inner`], whose boxes come from a [`pool`].
//! - [`in_flight`] holds what a frame shares: with the frames of the same read (`ReadBatch`), and
//!   with its connection, from any thread (`InFlight`).
//! - [`derive`] and [`derived`] hold what layers make of a frame.
//! - [`verdict`], [`held`] and [`judge`] hold what layers say about a frame to a relay that waits
//!   for it.
//! - [`call`] holds what a frame shares with its connection while that calls the stack with it, on
//!   the same thread.

#[cfg(feature = "tls")]
mod author;
pub(crate) mod call;
mod derive;
mod derived;
mod held;
pub(crate) mod in_flight;
mod inner;
mod judge;
mod pool;
mod verdict;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
pub(crate) use derived::DerivedRelay;
pub use held::Held;
use http::Extensions;
use in_flight::ReadBatch;
use inner::Inner;
pub(crate) use pool::fall_idle;
use tokio::time::Instant;
pub use verdict::Verdict;

use crate::message::Message;
use crate::node::outgoing::relay_late;
use crate::node::peer::Peer;
pub use crate::outbox::Flow;
use crate::reason::DropReason;
use crate::wire::{Head, Kind};

/// A frame that a peer has sent: its payload, the peer, and what layers have attached to it.
///
/// A frame is cheap to clone: its payload is a reference-counted slice of the buffer that it was
/// read into.
///
/// A layer can replace the payload with [`set_payload`](Frame::set_payload). Layers further in then
/// see the new payload, and a relay further in passes it on.
///
/// ```
/// use coalescent::Frame;
///
/// fn boop(mut frame: Frame) -> Frame {
///     let text = String::from_utf8_lossy(frame.payload()).replace("beep", "boop");
///     frame.set_payload(text);
///     frame
/// }
/// ```
pub struct Frame(
    /// `None` only while the frame is being dropped.
    Option<Box<Inner>>,
);

/// How a frame is passed on to other peers; see [`Frame::relay`].
///
/// ```
/// use coalescent::{Flow, Frame, Relay};
///
/// fn pass_on(frame: &Frame) -> bool {
///     frame.relay(Relay::new(Flow::Drop).direct(true))
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Relay {
    /// What happens if a peer's outbox is full.
    pub flow: Flow,
    /// Whether frames that were sent to this node alone are passed on too, as new broadcasts of
    /// this node.
    pub direct: bool,
}

impl Relay {
    /// Passes broadcasts on, and leaves frames that were sent to this node alone where they are.
    #[inline]
    #[must_use]
    pub const fn new(flow: Flow) -> Self {
        Self {
            flow,
            direct: false,
        }
    }

    /// Sets whether frames that were sent to this node alone are passed on too. Default: false.
    #[inline]
    #[must_use]
    pub const fn direct(mut self, direct: bool) -> Self {
        self.direct = direct;
        self
    }
}

/// Whether a frame of this kind and ttl can be passed on to other peers: a request never, a frame
/// that was sent to this node alone only if `direct`, a broadcast only if its ttl allows another
/// hop.
#[inline]
pub(crate) fn passes(kind: Kind, ttl: u8, direct: bool) -> bool {
    match kind {
        Kind::Broadcast { .. } => ttl > 1,
        Kind::Plain => true,
        Kind::Data => direct,
        _ => false,
    }
}

impl Frame {
    /// The number of a frame that was built after its call: it has no slot, and no scope.
    const LATE: u64 = u64::MAX;

    /// Makes the frame `seq` of a connection, which the call in `slot` handles. `payload` is its
    /// range in the bytes of the read batch.
    #[inline]
    pub(crate) fn new(
        batch: Arc<ReadBatch>,
        head: &Head,
        payload: Range<usize>,
        slot: usize,
        seq: u64,
    ) -> Self {
        // A block holds at most what one socket read gives, or one frame: 1 GiB at most.
        let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let mut inner = Inner::take();
        inner.batch = Some(batch);
        inner.kind = head.kind;
        inner.seq = seq;
        inner.start = offset(payload.start);
        inner.end = offset(payload.end);
        inner.slot = u16::try_from(slot).unwrap_or(u16::MAX);
        inner.ttl = head.ttl;
        Self(Some(inner))
    }

    /// Makes the frame at `offset` of a block, after the call for it has ended.
    #[inline]
    pub(crate) fn of_block(batch: Arc<ReadBatch>, offset: usize, head: &Head) -> Self {
        let payload = head.payload();
        let payload = offset + payload.start..offset + payload.end;
        // No slot has this number, so a relay decision about this frame is known to be late.
        Self::new(batch, head, payload, usize::MAX, Self::LATE)
    }

    /// Notes that a plugin has handed the frame in, with these extensions.
    #[cold]
    pub(crate) fn set_handed(&mut self, extensions: Extensions) {
        let inner = self.added();
        inner.handed = true;
        inner.extensions = extensions;
    }

    #[inline]
    fn inner(&self) -> &Inner {
        match &self.0 {
            Some(inner) => inner,
            None => unreachable!("it is taken out only in `drop`"),
        }
    }

    #[inline]
    fn inner_mut(&mut self) -> &mut Inner {
        match &mut self.0 {
            Some(inner) => inner,
            None => unreachable!("it is taken out only in `drop`"),
        }
    }

    /// Gives access to the fields that layers set, and notes that they must be cleared.
    #[inline]
    fn added(&mut self) -> &mut Inner {
        let inner = self.inner_mut();
        inner.added = true;
        inner
    }

    /// Returns the read that brought this frame.
    #[inline]
    pub(crate) fn read_batch(&self) -> &Arc<ReadBatch> {
        match &self.inner().batch {
            Some(batch) => batch,
            None => unreachable!("it is taken out only in `drop`"),
        }
    }

    /// Returns the peer that sent this frame to this node. If other nodes relayed the frame, that
    /// is the last of them, not the author.
    #[inline]
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.read_batch().in_flight.peer()
    }

    /// Returns when the frame was read from its socket. All frames of one read have the same
    /// instant.
    #[inline]
    #[must_use]
    pub fn arrived(&self) -> Instant {
        self.read_batch().at
    }

    /// Returns the payload: the frame's bytes without the framing of its wire.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        match self.rewritten() {
            Some(payload) => payload,
            None => self
                .read_batch()
                .bytes
                .get(self.payload_range())
                .unwrap_or_default(),
        }
    }

    /// Returns the payload as `Bytes`, without copying it.
    ///
    /// The result is a slice of the connection's read buffer and keeps the whole buffer alive. Copy
    /// what you keep for long.
    #[inline]
    #[must_use]
    pub fn payload_bytes(&self) -> Bytes {
        self.bytes_or(self.rewritten())
    }

    /// Returns the payload that a layer has set, or the received one.
    #[inline]
    fn bytes_or(&self, rewritten: Option<&Bytes>) -> Bytes {
        match rewritten {
            Some(payload) => payload.clone(),
            None => self.read_batch().bytes.slice(self.payload_range()),
        }
    }

    /// Returns the payload that a layer has put in place of the received one, if any.
    #[inline]
    fn rewritten(&self) -> Option<&Bytes> {
        self.inner().payload.as_ref()
    }

    #[inline]
    fn payload_range(&self) -> Range<usize> {
        let inner = self.inner();
        inner.start as usize..inner.end as usize
    }

    /// Replaces the payload, for the layers further in and for relays among them.
    ///
    /// This removes the [`Message`] that was parsed from the old payload.
    pub fn set_payload(&mut self, payload: impl Into<Bytes>) {
        let payload = payload.into();
        let inner = self.added();
        inner.payload = Some(payload);
        inner.message = None;
    }

    /// Consumes the frame and returns its payload, without copying it; see
    /// [`payload_bytes`](Frame::payload_bytes).
    #[must_use]
    pub fn into_payload(mut self) -> Bytes {
        let rewritten = self.inner_mut().payload.take();
        rewritten.unwrap_or_else(|| self.payload_bytes())
    }

    /// Returns the kind of the frame on its wire.
    #[inline]
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.inner().kind
    }

    /// Returns whether the sender waits for a reply to this frame.
    #[inline]
    #[must_use]
    pub fn is_request(&self) -> bool {
        matches!(self.kind(), Kind::Request { .. })
    }

    /// Returns whether the frame is meant for every node: a broadcast, or any frame of a wire that
    /// has no frame kinds.
    #[must_use]
    pub fn is_broadcast(&self) -> bool {
        matches!(self.kind(), Kind::Broadcast { .. } | Kind::Plain)
    }

    /// Returns the number that distinguishes this broadcast from others with the same payload, or
    /// `None` if its wire has no such number.
    #[inline]
    #[must_use]
    pub fn nonce(&self) -> Option<u64> {
        match self.kind() {
            Kind::Broadcast { nonce } => Some(nonce),
            _ => None,
        }
    }

    /// Returns how many more hops the frame may make, as received: this node's relay has not
    /// lowered it yet. 0 on wires without a ttl.
    #[inline]
    #[must_use]
    pub fn ttl(&self) -> u8 {
        self.inner().ttl
    }

    /// Returns the message in the payload, if the courier has parsed it.
    #[inline]
    #[must_use]
    pub fn message(&self) -> Option<&Message> {
        self.inner().message.as_ref()
    }

    /// Attaches the message that was parsed from the payload. The courier calls this.
    pub fn set_message(&mut self, message: Message) {
        self.added().message = Some(message);
    }

    /// Returns the values that layers attach for layers further in, at most one of each type.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.inner().extensions
    }

    /// Returns the values that layers attach for layers further in, to change them.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.added().extensions
    }

    /// Takes out the value of this type that layers or plugins have attached.
    #[inline]
    pub(crate) fn take_extension<T: Send + Sync + 'static>(&mut self) -> Option<T> {
        if self.is_pristine() {
            return None;
        }
        self.inner_mut().extensions.remove()
    }

    /// Asks the connection that read this frame to pass it on to all other peers.
    ///
    /// This method only decides. The connection passes the frame on, together with the frames
    /// around it, after the stack has seen them, and it is the connection that waits for room.
    /// Calling this repeatedly for a frame, or for its clones, while the frame is being handled
    /// passes it on once.
    ///
    /// Returns whether the frame can be passed on. A request cannot, a frame that was sent to this
    /// node alone only with [`Relay::direct`], and a broadcast only if its [`ttl`](Frame::ttl) is
    /// above 1.
    ///
    /// A relay that is to wait for what layers further in think of the frame [holds it
    /// back](Frame::hold) instead.
    ///
    /// If the frame's call has ended already (because a layer kept the frame), it is passed on at
    /// once, and dropped for peers without room, which is counted.
    #[inline]
    pub fn relay(&self, relay: Relay) -> bool {
        self.relay_as(relay, self.rewritten())
    }

    /// Relays the frame with the received payload, or the one that a layer has put in its place.
    #[inline]
    fn relay_as(&self, relay: Relay, rewritten: Option<&Bytes>) -> bool {
        let passes = self.passes(relay.direct);
        if passes {
            let (connection, seq) = self.key();
            if rewritten.is_some() || !call::decide(connection, seq, relay.flow) {
                self.relay_slowly(relay.flow, rewritten);
            }
        }
        passes
    }

    /// Returns whether the frame can be relayed.
    #[inline]
    fn passes(&self, direct: bool) -> bool {
        let inner = self.inner();
        passes(inner.kind, inner.ttl, direct && !inner.handed)
    }

    /// Decides to relay a frame that this thread is not calling, or whose payload was replaced:
    /// the call scope has no room for a payload.
    fn relay_slowly(&self, flow: Flow, rewritten: Option<&Bytes>) {
        if self.relay_derived(flow, rewritten) {
            return;
        }
        let (connection, seq) = self.key();
        if rewritten.is_some() {
            call::note_shared(connection, seq);
        } else if call::decide(connection, seq, flow) {
            return;
        }
        let in_flight = &self.read_batch().in_flight;
        let slot = usize::from(self.inner().slot);
        if !in_flight.decide(slot, seq, flow, rewritten) && !in_flight.is_lost(slot, seq) {
            // The call has ended: the frame is relayed at once, and dropped for peers without room.
            let buffer_len = self.read_batch().bytes_kept_alive();
            let payload = self.bytes_or(rewritten);
            relay_late(
                in_flight.peer(),
                self.kind(),
                self.ttl(),
                &payload,
                buffer_len,
            );
        }
    }

    /// Returns the relay decision about this frame, if there is one outside of the call scope.
    #[cfg(feature = "test-util")]
    pub(crate) fn decision(&self) -> Option<in_flight::RelayDecision> {
        let inner = self.inner();
        let in_flight = &self.read_batch().in_flight;
        in_flight.decision(inner.slot.into(), inner.seq)
    }

    /// Identifies this frame among all that are being handled: its connection, by the address of
    /// the `InFlight`, and its number there. Clones share it.
    #[inline]
    pub(crate) fn key(&self) -> (usize, u64) {
        (self.read_batch().in_flight.place(), self.inner().seq)
    }

    /// Returns the length of the payload that a layer has set, or 0.
    pub(crate) fn rewritten_len(&self) -> usize {
        self.rewritten().map_or(0, Bytes::len)
    }

    /// Whether no layer has changed the frame.
    #[inline]
    pub(crate) fn is_pristine(&self) -> bool {
        !self.inner().added
    }

    /// Counts this frame as a duplicate of one that had arrived before.
    #[inline]
    pub fn count_duplicate(&self) {
        if !self.is_pristine() {
            self.count_derived();
        }
        self.peer().counters().add_duplicate();
    }

    /// Counts this frame as dropped, once, for the peer that sent it. Call it if a relay refuses
    /// the frame, which is then neither handled nor passed on.
    #[cold]
    pub fn count_refused(&self) {
        self.count_derived();
        self.peer().dropped(DropReason::Refused, 1);
    }
}

impl Clone for Frame {
    fn clone(&self) -> Self {
        let inner = self.inner();
        let (connection, seq) = self.key();
        if !call::note_shared(connection, seq) {
            let in_flight = &self.read_batch().in_flight;
            in_flight.share(inner.slot.into(), seq);
        }
        let mut clone = Inner::take();
        clone.batch.clone_from(&inner.batch);
        clone.kind = inner.kind;
        clone.seq = inner.seq;
        clone.start = inner.start;
        clone.end = inner.end;
        clone.slot = inner.slot;
        clone.ttl = inner.ttl;
        if inner.added {
            clone.added = true;
            clone.handed = inner.handed;
            clone.message.clone_from(&inner.message);
            clone.payload.clone_from(&inner.payload);
            clone.extensions.clone_from(&inner.extensions);
            clone.derived.clone_from(&inner.derived);
            clone.held.clone_from(&inner.held);
        }
        Self(Some(clone))
    }
}

impl Drop for Frame {
    #[inline]
    fn drop(&mut self) {
        if let Some(inner) = self.0.take() {
            inner.put();
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("peer", self.peer().id())
            .field("kind", &self.kind())
            .field("ttl", &self.ttl())
            .field("bytes", &self.payload().len())
            .field("message", &self.message().map(Message::kind))
            .finish_non_exhaustive()
    }
}
