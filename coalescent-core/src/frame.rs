//! What travels through a peer's stack.

use crate::connection::{Link, Ticket};
use crate::message::Message;
use crate::peer::Peer;
use crate::wire::Kind;
use bytes::Bytes;
use http::Extensions;
use std::fmt;
use std::sync::Arc;

/// One frame that a peer sent: its payload, where it came from, and what the layers learn of it.
///
/// Cheap to clone: the payload is a reference-counted slice of the buffer it was read into.
///
/// A layer that rewrites what peers say uses [`set_payload`](Frame::set_payload); a relay further in
/// passes on what was set.
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
#[derive(Clone)]
pub struct Frame {
    link: Arc<Link>,
    payload: Bytes,
    message: Option<Message>,
    extensions: Extensions,
    kind: Kind,
    ttl: u8,
    rewritten: bool,
    ticket: Ticket,
}

/// How a relay treats a peer that has no room for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Waits, and so holds back the frame's source: nothing is lost. For trees and stars only, since
    /// in a mesh with circles two nodes can wait for one another.
    Wait,
    /// Waits for a short grace ([`Config::relay_grace`](crate::Config::relay_grace)), then drops the
    /// frame for that peer alone, and counts it. Cannot freeze, whatever the mesh looks like.
    Drop,
}

/// What a relay asks of the connection that read a frame; see [`Frame::relay`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relay {
    /// What to do about peers that have no room.
    pub flow: Flow,
    /// Whether frames that were sent to this node alone are passed on too, as broadcasts of its own.
    pub direct: bool,
}

impl Frame {
    pub(crate) fn new(
        link: Arc<Link>,
        kind: Kind,
        ttl: u8,
        payload: Bytes,
        ticket: Ticket,
    ) -> Self {
        Self {
            link,
            payload,
            message: None,
            extensions: Extensions::new(),
            kind,
            ttl,
            rewritten: false,
            ticket,
        }
    }

    /// The peer that sent this frame to this node. With relays in between, not its author.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.link.peer()
    }

    /// The frame's bytes, without what its wire puts around them.
    ///
    /// They are a slice of the buffer that the connection read, and keep all of it alive: copy what is
    /// to be kept for long.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Puts other bytes in the payload's place, for the layers further in and for relays there.
    ///
    /// A [`Message`] parsed from the old payload is forgotten.
    pub fn set_payload(&mut self, payload: impl Into<Bytes>) {
        self.payload = payload.into();
        self.message = None;
        self.rewritten = true;
    }

    /// Takes the payload out, as the last owner of the frame.
    #[must_use]
    pub fn into_payload(self) -> Bytes {
        self.payload
    }

    /// What kind of frame stood on the wire.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether the sender waits for a reply to this frame.
    #[must_use]
    pub fn is_request(&self) -> bool {
        matches!(self.kind, Kind::Request { .. })
    }

    /// Whether the frame is for every node: a broadcast, or any frame of a wire that has no other.
    #[must_use]
    pub fn is_broadcast(&self) -> bool {
        matches!(self.kind, Kind::Broadcast { .. } | Kind::Plain)
    }

    /// The number that tells this broadcast from others of equal bytes, where its wire has one.
    #[must_use]
    pub fn nonce(&self) -> Option<u64> {
        match self.kind {
            Kind::Broadcast { nonce } => Some(nonce),
            _ => None,
        }
    }

    /// How many more nodes may hear of this frame, one after another: as received, before this
    /// node's relay lowers it. 0 on wires that have none.
    #[must_use]
    pub fn ttl(&self) -> u8 {
        self.ttl
    }

    /// The message in the payload, once the courier has parsed it.
    #[must_use]
    pub fn message(&self) -> Option<&Message> {
        self.message.as_ref()
    }

    /// Attaches the message parsed from the payload. This is the courier's part.
    pub fn set_message(&mut self, message: Message) {
        self.message = Some(message);
    }

    /// Values that layers attach for the layers further in, one of each type.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Values that layers attach for the layers further in, to change them.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }

    /// Asks the connection that read this frame to pass it on to all other peers.
    ///
    /// This decides; the connection does it, together with the frames around this one, when the
    /// stack has seen them, and it is the connection that waits for room. Asking twice for the same
    /// frame, or for a clone of it, passes it on once.
    ///
    /// Returns whether the frame can be passed on: a request never is, a frame that was sent to this
    /// node alone only with [`Relay::direct`], a broadcast not when its [`ttl`](Frame::ttl) is used up.
    ///
    /// A frame whose call has ended (a layer kept it) is handed on at once, and dropped, and counted,
    /// for peers that have no room.
    pub fn relay(&self, relay: Relay) -> bool {
        let passes = match self.kind {
            Kind::Broadcast { .. } => self.ttl > 1,
            Kind::Plain => true,
            Kind::Data => relay.direct,
            _ => false,
        };
        if passes {
            let rewritten = self.rewritten.then_some(&self.payload);
            if !self.link.mark(self.ticket, relay.flow, rewritten) {
                self.link
                    .relay_late(self.kind, self.ttl, &self.payload, self.ticket);
            }
        }
        passes
    }

    /// What was decided about passing this frame on.
    #[cfg(feature = "test-util")]
    pub(crate) fn mark(&self) -> Option<crate::connection::Mark> {
        self.link.marked(self.ticket.slot, self.ticket.seq)
    }

    /// Which buffer the frame was read into.
    pub(crate) fn origin(&self) -> (u64, u64) {
        (self.peer().serial(), self.ticket.block)
    }

    /// How many bytes the frame keeps alive.
    pub(crate) fn pins(&self) -> usize {
        self.ticket.pins.max(self.payload.len())
    }

    /// Counts this frame as one that had arrived before.
    pub fn count_duplicate(&self) {
        self.peer().counters().add_duplicate();
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("peer", self.peer().id())
            .field("kind", &self.kind)
            .field("ttl", &self.ttl)
            .field("bytes", &self.payload.len())
            .field("message", &self.message.as_ref().map(Message::kind))
            .finish_non_exhaustive()
    }
}
