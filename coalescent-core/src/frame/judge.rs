//! How a relay holds a frame back, and how layers further in judge it.

use super::held::Held;
use super::verdict::Verdict;
use super::{Frame, Relay, call};

/// What a peer is told whose frame was rejected.
const REJECTED: &str = "a frame was rejected";

impl Frame {
    /// Holds the frame back, instead of [relaying](Frame::relay) it: it is relayed, with its
    /// payload as it is now, as soon as a layer further in [accepts](Frame::accept) it. For relays.
    ///
    /// The relay keeps the result, and calls [`Held::verdict_or`] when the call of its inner
    /// service has ended, or is dropped: what nobody has accepted until then is not relayed. A
    /// broadcast that is not relayed for that reason is counted as
    /// [`withheld`](crate::Stats::withheld).
    ///
    /// ```
    /// use coalescent::wire::Kind;
    /// use coalescent::{Flow, Relay, Verdict, test_util};
    ///
    /// let mut frame = test_util::frame(Kind::Broadcast { nonce: 7 }, "beep");
    /// let held = frame.hold(Relay::new(Flow::Drop));
    /// assert!(test_util::relayed(&frame).is_none());
    ///
    /// assert!(frame.accept());
    ///
    /// assert!(test_util::relayed(&frame).is_some());
    /// assert_eq!(held.verdict(), Some(Verdict::Accept));
    /// ```
    pub fn hold(&mut self, relay: Relay) -> Held {
        self.hold_for(relay, Some(relay))
    }

    /// Lets layers further in judge the frame, which the relay itself passes on, or not, when they
    /// are done. For relays that wait for the rest of the stack; see [`hold`](Frame::hold).
    pub fn watch(&mut self, relay: Relay) -> Held {
        self.hold_for(relay, None)
    }

    fn hold_for(&mut self, relay: Relay, on_accept: Option<Relay>) -> Held {
        let passes = self.passes(relay.direct);
        let mut derived_from = None;
        if self.derived().is_some() {
            self.count_derived();
            derived_from = passes.then(|| self.peer().clone());
        } else if passes {
            self.note_held();
        }
        let payload = self.rewritten().cloned();
        let inner = self.added();
        let outer = inner.held.take();
        let on_accept = on_accept.map(|Relay { flow, direct }| (flow, direct));
        let held = Held::new(on_accept, payload, derived_from, outer);
        inner.held = Some(held.clone());
        held
    }

    /// Has the connection count the frame as withheld, unless a relay passes it on.
    fn note_held(&self) {
        let (connection, seq) = self.key();
        if !call::note_held(connection, seq) {
            let slot = self.inner().slot;
            self.read_batch().in_flight.note_held(slot.into(), seq);
        }
    }

    /// Judges whether this frame is passed on, for the relay further out that waits for it.
    ///
    /// On [`Accept`](Verdict::Accept) the frame is relayed at once, before this node has handled
    /// it, with its payload as the relay has seen it. On any other verdict it is not relayed;
    /// whether it is handled here is up to the layer that calls this. A
    /// [`Reject`](Verdict::Reject) is held against the peer that sent the frame, and against those
    /// that sent copies of it in the meantime, if the relay knows copies.
    ///
    /// The first verdict about a frame and its clones stands, from whatever task it comes; that of
    /// a call that ends without one is `Ignore`.
    ///
    /// Returns whether a relay waits for a verdict: `SmartRelay` or `Tattletale`, if there is a
    /// `Validate` in the app, or if it is built with `validated` or `relay_after`. The latter
    /// relays when the rest of the stack is done with the frame, if none of the layers has
    /// withheld it. Other relays have decided already, and can't take that back.
    pub fn judge(&self, verdict: Verdict) -> bool {
        let mut held = self.inner().held.as_ref();
        let waits = held.is_some();
        let mut counts = !waits;
        if !waits && verdict != Verdict::Accept && self.derived().is_none() && self.passes(false) {
            // A relay further in will not get it.
            self.note_held();
        }
        while let Some(one) = held {
            if one.settle(verdict).is_ok() {
                counts = true;
                if verdict == Verdict::Accept
                    && let Some(((flow, direct), payload)) = one.relay()
                {
                    self.relay_as(Relay { flow, direct }, payload);
                }
                one.wake();
            }
            held = one.outer();
        }
        if let (true, Verdict::Reject(weight)) = (counts, verdict) {
            self.peer().penalize(weight, REJECTED);
        }
        waits
    }

    /// Has the relay that waits for a verdict pass the frame on; see [`judge`](Frame::judge).
    pub fn accept(&self) -> bool {
        self.judge(Verdict::Accept)
    }

    /// Declares that this frame, and its clones, are not to be passed on to other peers. It is no
    /// error, and nobody pays for it; see [`judge`](Frame::judge).
    pub fn withhold(&self) -> bool {
        self.judge(Verdict::Ignore)
    }

    /// Lets go of the verdict, which the read side has no use for.
    pub(crate) fn let_go(&mut self) {
        if self.is_pristine() {
            return;
        }
        let inner = self.inner_mut();
        if inner.held.take().is_some() {
            inner.added = inner.handed
                || inner.message.is_some()
                || inner.payload.is_some()
                || inner.derived.is_some()
                || !inner.extensions.is_empty();
        }
    }
}

#[cfg(all(test, feature = "test-util"))]
#[path = "judge_tests.rs"]
mod tests;
