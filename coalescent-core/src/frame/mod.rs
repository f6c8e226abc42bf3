//! What travels through a peer's stack.

mod pool;

pub(crate) use pool::fall_idle;

pub use crate::outbox::Flow;

pub(crate) mod call;
pub(crate) mod in_flight;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use call as current;
use http::Extensions;
use in_flight::ReadBatch;
use tokio::time::Instant;

use crate::message::Message;
use crate::node::peer::Peer;
use crate::reason::DropReason;
use crate::wire::{Head, Kind};

/// One frame that a peer sent: its payload, where it came from, and what the layers learn of it.
///
/// Cheap to clone: the payload is a reference-counted slice of the buffer it was read into.
///
/// A layer that rewrites what peers say uses [`set_payload`](Frame::set_payload); a relay further
/// in passes on what was set.
///
/// ```
/// use coalescent_core::Frame;
///
/// fn boop(mut frame: Frame) -> Frame {
///     let text = String::from_utf8_lossy(frame.payload()).replace("beep", "boop");
///     frame.set_payload(text);
///     frame
/// }
/// ```
pub struct Frame(
    /// Taken out only as the frame is dropped.
    Option<Box<Inner>>,
);

/// What a frame is. Boxed, since it goes from layer to layer by value: a pointer is moved in a
/// register, and what it points to is written once. The box is used again for a frame to come.
struct Inner {
    /// What it has in common with the frames that came with it. Taken out only as the frame is
    /// dropped.
    arrival: Option<Arc<ReadBatch>>,
    kind: Kind,
    /// The frame's number in its connection.
    seq: u64,
    /// Where the payload stands in what was read.
    start: u32,
    end: u32,
    /// Which of the connection's calls it is handled in.
    slot: u16,
    ttl: u8,
    /// Whether layers have added any of what follows.
    added: bool,
    message: Option<Message>,
    /// The payload that was put in the place of the frame's own.
    payload: Option<Bytes>,
    extensions: Extensions,
}

/// What a relay asks of the connection that read a frame; see [`Frame::relay`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relay {
    /// What to do about peers that have no room.
    pub flow: Flow,
    /// Whether frames that were sent to this node alone are passed on too, as broadcasts of its
    /// own.
    pub direct: bool,
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
    /// The number of a frame whose call is over.
    const LATE: u64 = u64::MAX;

    /// Makes the frame `seq` of a connection, handled in its call `slot`; its payload is `payload`
    /// of what arrived.
    #[inline]
    pub(crate) fn new(
        arrival: Arc<ReadBatch>,
        head: &Head,
        payload: Range<usize>,
        slot: usize,
        seq: u64,
    ) -> Self {
        // A block is bounded by what a socket gives at once and by the frame limit, at most 1 GiB
        // each.
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let mut inner = Inner::take();
        inner.arrival = Some(arrival);
        inner.kind = head.kind;
        inner.seq = seq;
        inner.start = place(payload.start);
        inner.end = place(payload.end);
        inner.slot = u16::try_from(slot).unwrap_or(u16::MAX);
        inner.ttl = head.ttl;
        Self(Some(inner))
    }

    /// Makes the frame of a block that stands there at `offset`, after its call.
    #[inline]
    pub(crate) fn of_block(arrival: Arc<ReadBatch>, offset: usize, head: &Head) -> Self {
        let payload = head.payload();
        let payload = offset + payload.start..offset + payload.end;
        // No place that its connection looks at, and no number: whatever is asked for now is late.
        Self::new(arrival, head, payload, usize::MAX, Self::LATE)
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

    /// For what layers add.
    #[inline]
    fn adding(&mut self) -> &mut Inner {
        let inner = self.inner_mut();
        inner.added = true;
        inner
    }

    #[inline]
    fn arrival(&self) -> &Arc<ReadBatch> {
        match &self.inner().arrival {
            Some(arrival) => arrival,
            None => unreachable!("it is taken out only in `drop`"),
        }
    }

    /// The peer that sent this frame to this node. With relays in between, not its author.
    #[inline]
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.arrival().link.peer()
    }

    /// When the frame was read from its socket: one instant for all that one read brought.
    #[inline]
    #[must_use]
    pub fn arrived(&self) -> Instant {
        self.arrival().at
    }

    /// The frame's bytes, without what its wire puts around them.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        match self.rewritten() {
            Some(payload) => payload,
            None => self
                .arrival()
                .bytes
                .get(self.place_of_payload())
                .unwrap_or_default(),
        }
    }

    /// The frame's bytes, to be kept, without copying them.
    ///
    /// They are a slice of the buffer that the connection read, and keep all of it alive: copy what
    /// is to be kept for long.
    #[inline]
    #[must_use]
    pub fn payload_bytes(&self) -> Bytes {
        match self.rewritten() {
            Some(payload) => payload.clone(),
            None => self.arrival().bytes.slice(self.place_of_payload()),
        }
    }

    /// The payload that a layer put in the place of the frame's own.
    #[inline]
    fn rewritten(&self) -> Option<&Bytes> {
        self.inner().payload.as_ref()
    }

    #[inline]
    fn place_of_payload(&self) -> Range<usize> {
        let inner = self.inner();
        inner.start as usize..inner.end as usize
    }

    /// Puts other bytes in the payload's place, for the layers further in and for relays there.
    ///
    /// A [`Message`] parsed from the old payload is forgotten.
    pub fn set_payload(&mut self, payload: impl Into<Bytes>) {
        let payload = payload.into();
        let inner = self.adding();
        inner.payload = Some(payload);
        inner.message = None;
    }

    /// Takes the payload out, as the last owner of the frame; as
    /// [`payload_bytes`](Frame::payload_bytes).
    #[must_use]
    pub fn into_payload(mut self) -> Bytes {
        let rewritten = self.inner_mut().payload.take();
        rewritten.unwrap_or_else(|| self.payload_bytes())
    }

    /// What kind of frame stood on the wire.
    #[inline]
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.inner().kind
    }

    /// Whether the sender waits for a reply to this frame.
    #[inline]
    #[must_use]
    pub fn is_request(&self) -> bool {
        matches!(self.kind(), Kind::Request { .. })
    }

    /// Whether the frame is for every node: a broadcast, or any frame of a wire that has no other.
    #[must_use]
    pub fn is_broadcast(&self) -> bool {
        matches!(self.kind(), Kind::Broadcast { .. } | Kind::Plain)
    }

    /// The number that tells this broadcast from others of equal bytes, where its wire has one.
    #[inline]
    #[must_use]
    pub fn nonce(&self) -> Option<u64> {
        match self.kind() {
            Kind::Broadcast { nonce } => Some(nonce),
            _ => None,
        }
    }

    /// How many more nodes may hear of this frame, one after another: as received, before this
    /// node's relay lowers it. 0 on wires that have none.
    #[inline]
    #[must_use]
    pub fn ttl(&self) -> u8 {
        self.inner().ttl
    }

    /// The message in the payload, once the courier has parsed it.
    #[inline]
    #[must_use]
    pub fn message(&self) -> Option<&Message> {
        self.inner().message.as_ref()
    }

    /// Attaches the message parsed from the payload. This is the courier's part.
    pub fn set_message(&mut self, message: Message) {
        self.adding().message = Some(message);
    }

    /// Values that layers attach for the layers further in, one of each type.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.inner().extensions
    }

    /// Values that layers attach for the layers further in, to change them.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.adding().extensions
    }

    /// Asks the connection that read this frame to pass it on to all other peers.
    ///
    /// This decides; the connection does it, together with the frames around this one, when the
    /// stack has seen them, and it is the connection that waits for room. Asking twice for the same
    /// frame, or for a clone of it, while it is being handled passes it on once.
    ///
    /// Returns whether the frame can be passed on: a request never is, a frame that was sent to
    /// this node alone only with [`Relay::direct`], a broadcast not when its [`ttl`](Frame::ttl) is
    /// used up.
    ///
    /// A frame whose call has ended (a layer kept it) is handed on at once, and dropped, and
    /// counted, for peers that have no room.
    #[inline]
    pub fn relay(&self, relay: Relay) -> bool {
        let inner = self.inner();
        let passes = passes(inner.kind, inner.ttl, relay.direct);
        if passes {
            let (link, seq) = self.place();
            if inner.payload.is_some() || !current::mark(link, seq, relay.flow) {
                self.relay_slowly(relay.flow);
            }
        }
        passes
    }

    /// Marks a frame to be relayed that has another payload now, or that is not being called here.
    fn relay_slowly(&self, flow: Flow) {
        let (link, seq) = self.place();
        let rewritten = self.rewritten();
        if rewritten.is_some() {
            current::shared(link, seq);
        } else if current::mark(link, seq, flow) {
            return;
        }
        let link = &self.arrival().link;
        if !link.mark(self.inner().slot.into(), seq, flow, rewritten) {
            link.relay_late(self, &self.payload_bytes());
        }
    }

    /// What was decided about passing this frame on.
    #[cfg(feature = "test-util")]
    pub(crate) fn mark(&self) -> Option<in_flight::RelayDecision> {
        self.arrival()
            .link
            .marked(self.inner().slot.into(), self.inner().seq)
    }

    /// What tells this frame from all others that are handled at the time.
    #[inline]
    pub(crate) fn place(&self) -> (usize, u64) {
        (self.arrival().link.place(), self.inner().seq)
    }

    /// How many bytes a layer put in the place of the frame's own.
    pub(crate) fn rewritten_len(&self) -> usize {
        self.rewritten().map_or(0, Bytes::len)
    }

    /// Whether it is as it was read, with nothing added.
    #[inline]
    pub(crate) fn is_pristine(&self) -> bool {
        !self.inner().added
    }

    /// Waits until no frame that came before this one is on its way to the read side.
    pub(crate) async fn unstaged(&self) {
        self.arrival().link.unstaged().await;
    }

    /// Which buffer the frame was read into, and how many bytes it keeps alive by that.
    pub(crate) fn pinned(&self) -> ((usize, u64), usize) {
        let arrival = self.arrival();
        let buffer = (arrival.link.place(), arrival.buffer);
        (buffer, arrival.buffer_len.max(arrival.bytes.len()))
    }

    /// Counts this frame as one that had arrived before.
    #[inline]
    pub fn count_duplicate(&self) {
        self.peer().counters().add_duplicate();
    }

    /// Counts this frame as dropped, once, for the peer that sent it: a relay refuses it, so that
    /// it is neither handled nor passed on.
    #[cold]
    pub fn count_refused(&self) {
        self.peer().dropped(DropReason::Refused, 1);
    }
}

impl Clone for Frame {
    fn clone(&self) -> Self {
        let (link, seq) = self.place();
        if !current::shared(link, seq) {
            self.arrival().link.share(self.inner().slot.into(), seq);
        }
        let inner = self.inner();
        let mut clone = Inner::take();
        clone.arrival.clone_from(&inner.arrival);
        clone.kind = inner.kind;
        clone.seq = inner.seq;
        clone.start = inner.start;
        clone.end = inner.end;
        clone.slot = inner.slot;
        clone.ttl = inner.ttl;
        if inner.added {
            clone.added = true;
            clone.message.clone_from(&inner.message);
            clone.payload.clone_from(&inner.payload);
            clone.extensions.clone_from(&inner.extensions);
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

impl Inner {
    /// An empty one: that of a frame that was dropped before, where there is one.
    #[inline]
    fn take() -> Box<Self> {
        pool::take().unwrap_or_else(Self::empty)
    }

    #[cold]
    fn empty() -> Box<Self> {
        Box::new(Self {
            arrival: None,
            kind: Kind::Nothing,
            seq: 0,
            start: 0,
            end: 0,
            slot: 0,
            ttl: 0,
            added: false,
            message: None,
            payload: None,
            extensions: Extensions::new(),
        })
    }

    /// Empties it, and keeps it for a frame to come.
    #[inline]
    fn put(mut self: Box<Self>) {
        if self.seq != Frame::LATE
            && let Some(arrival) = &self.arrival
        {
            let link = arrival.link.place();
            let seq = self.seq;
            current::dropped(link, seq, &mut self.arrival);
        }
        self.arrival = None;
        if self.added {
            self.clear();
        }
        pool::put(self);
    }

    /// Drops what layers have added, which may be anything.
    fn clear(&mut self) {
        self.added = false;
        self.message = None;
        self.payload = None;
        self.extensions.clear();
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
