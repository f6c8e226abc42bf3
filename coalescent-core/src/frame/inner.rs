//! The boxed part of a frame, and how its box is reused.

use std::sync::Arc;

use bytes::Bytes;
use http::Extensions;

use super::derived::Derived;
use super::held::Held;
use super::in_flight::ReadBatch;
use super::{Frame, call, pool};
use crate::message::Message;
use crate::wire::Kind;

/// The fields of a [`Frame`].
///
/// They are boxed because a frame is passed from layer to layer by value: a pointer moves in a
/// register, and what it points to is written once. The box comes from a [`pool`].
pub(super) struct Inner {
    /// The read that brought the frame. `None` only while the box is not part of a frame.
    pub(super) batch: Option<Arc<ReadBatch>>,
    pub(super) kind: Kind,
    /// The number of the frame in its connection, or [`Frame::LATE`].
    pub(super) seq: u64,
    /// The payload's range in the bytes of the read batch.
    pub(super) start: u32,
    pub(super) end: u32,
    /// The slot of the call that handles the frame; see
    /// [`InFlight`](super::in_flight::InFlight).
    pub(super) slot: u16,
    pub(super) ttl: u8,
    /// Whether layers have set any of the fields below, which must be cleared then.
    pub(super) added: bool,
    /// Whether the frame was handed in: no relay passes it on.
    pub(super) handed: bool,
    pub(super) message: Option<Message>,
    /// The payload that a layer has put in place of the received one.
    pub(super) payload: Option<Bytes>,
    pub(super) extensions: Extensions,
    /// Set if the frame was [derived](Frame::derive) from another one.
    pub(super) derived: Option<Arc<Derived>>,
    /// Set while a relay further out waits for a verdict.
    pub(super) held: Option<Held>,
}

impl Inner {
    /// Takes a cleared box from the pool, or allocates one.
    #[inline]
    pub(super) fn take() -> Box<Self> {
        pool::take().unwrap_or_else(Self::allocate)
    }

    #[cold]
    fn allocate() -> Box<Self> {
        Box::new(Self {
            batch: None,
            kind: Kind::Nothing,
            seq: 0,
            start: 0,
            end: 0,
            slot: 0,
            ttl: 0,
            added: false,
            handed: false,
            message: None,
            payload: None,
            extensions: Extensions::new(),
            derived: None,
            held: None,
        })
    }

    /// Clears the box, and returns it to the pool.
    #[inline]
    pub(super) fn put(mut self: Box<Self>) {
        if self.seq != Frame::LATE
            && let Some(batch) = &self.batch
        {
            let connection = batch.in_flight.place();
            let seq = self.seq;
            call::note_dropped(connection, seq, &mut self.batch);
        }
        self.batch = None;
        if self.added {
            self.clear_added();
        }
        pool::put(self);
    }

    /// Drops the fields that layers have set, whose values may be anything.
    fn clear_added(&mut self) {
        self.added = false;
        self.handed = false;
        self.message = None;
        self.payload = None;
        self.extensions.clear();
        self.derived = None;
        self.held = None;
    }
}
