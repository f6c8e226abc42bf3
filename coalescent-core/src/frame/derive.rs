//! Frames that layers make of the frame that they were called with.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::derived::{Derived, DerivedRelay};
use super::{Flow, Frame, call};
use crate::node::outgoing::{copy_if_small, relay_late};
use crate::wire::Kind;

impl Frame {
    /// Makes a frame of its own out of a part of this one, or out of what a layer has made of it.
    ///
    /// A layer that splits a frame calls its inner service with one derived frame for each part;
    /// [`set_payload`](Frame::set_payload) on clones would not do, since all clones of a frame are
    /// the same frame to relays, which pass it on once. A derived frame
    ///
    /// - has the same peer, arrival, and [extensions](Frame::extensions), but no
    ///   [`message`](Frame::message),
    /// - is for relays further in another broadcast, with a [`nonce`](Frame::nonce) that this node
    ///   has drawn, and with the [`ttl`](Frame::ttl) of this frame, so that frames derived from
    ///   derived frames come to an end,
    /// - is of the same [`kind`](Frame::kind) otherwise: what was sent to this node alone stays so,
    /// - does not answer for this frame: a relay further out that waits for a
    ///   [verdict](Frame::judge) hears of it only from this frame and its clones,
    /// - belongs to the same request, if this frame is one: the layer gets a
    ///   [`Reply`](crate::Reply) for each, and returns the one that the peer gets, such as the
    ///   first ([`Reply::or`](crate::Reply::or)).
    ///
    /// This frame itself goes on only if the layer passes it on as well.
    ///
    /// ```
    /// use coalescent::{Frame, test_util, wire::Kind};
    ///
    /// let frame = test_util::frame(Kind::Broadcast { nonce: 7 }, "one\ntwo");
    /// let lines: Vec<Frame> = frame
    ///     .payload_bytes()
    ///     .split(|byte| *byte == b'\n')
    ///     .map(|line| frame.derive(line.to_vec()))
    ///     .collect();
    /// assert_eq!(lines[1].payload(), b"two");
    /// assert_ne!(lines[0].nonce(), lines[1].nonce());
    /// ```
    ///
    /// # In a mesh with circles
    ///
    /// Every node that runs the layer derives frames of its own, which other nodes cannot tell from
    /// new ones. So a layer that derives belongs outside of a relay only where each frame comes one
    /// way, or where only one node derives. Elsewhere put it inside of the relay: the frame is
    /// relayed as it came, and each node derives for itself.
    ///
    /// # How they are counted
    ///
    /// A relay that passes a derived frame on, or counts it as a duplicate or as refused, makes it
    /// count as received too. The first one takes the place of this frame, unless this frame is
    /// relayed itself. So for each target, received = relayed + duplicates + dropped + withheld, as
    /// without derived frames. A derived frame that is relayed by a task other than the
    /// connection's (such as behind a buffer), is passed on at once, and dropped for peers without
    /// room, which is counted.
    #[must_use = "it is lost unless the inner service is called with it"]
    pub fn derive(&self, payload: impl Into<Bytes>) -> Self {
        let mut derived = self.clone();
        let kind = match self.kind() {
            Kind::Broadcast { .. } => Kind::Broadcast {
                nonce: self.peer().node().next_nonce(),
            },
            kind => kind,
        };
        let inner = derived.added();
        inner.kind = kind;
        inner.message = None;
        inner.payload = Some(payload.into());
        inner.derived = Some(std::sync::Arc::default());
        inner.held = None;
        derived
    }

    pub(super) fn derived(&self) -> Option<&Derived> {
        self.inner().derived.as_deref()
    }

    /// Relays the frame if it is a derived one. Returns whether it is.
    pub(super) fn relay_derived(&self, flow: Flow, rewritten: Option<&Bytes>) -> bool {
        let Some(derived) = self.derived() else {
            return false;
        };
        if derived.relayed.swap(true, Ordering::Relaxed) {
            return true;
        }
        self.count_derived();
        let batch = self.read_batch();
        let (connection, seq) = self.key();
        let payload = self.bytes_or(rewritten);
        let payload = copy_if_small(payload, &batch.bytes, batch.bytes_kept_alive());
        let relay = DerivedRelay {
            kind: self.kind(),
            ttl: self.ttl(),
            payload,
            flow,
        };
        if let Some(late) = call::relay_derived(connection, seq, relay) {
            let from = batch.in_flight.peer();
            relay_late(
                from,
                late.kind,
                late.ttl,
                &late.payload,
                batch.bytes_kept_alive(),
            );
        }
        true
    }

    /// Counts the frame as received if it is a derived one that is not counted yet.
    pub(super) fn count_derived(&self) {
        let Some(derived) = self.derived() else {
            return;
        };
        if derived.counted.swap(true, Ordering::Relaxed) {
            return;
        }
        let inner = self.inner();
        let in_flight = &self.read_batch().in_flight;
        if !in_flight.note_derived(inner.slot.into(), inner.seq) {
            self.peer().counters().add_received(1);
        }
    }
}
