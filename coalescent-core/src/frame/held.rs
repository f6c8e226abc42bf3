//! Frames that a relay holds back until a layer further in has judged them.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::verdict::Verdict;
use crate::node::peer::Peer;
use crate::outbox::Flow;

/// The verdict about a frame, for the relay that waits for it; see
/// [`Frame::hold`](crate::Frame::hold).
///
/// The first verdict stands.
#[derive(Clone)]
pub struct Held(Arc<Shared>);

struct Shared {
    /// The number of the verdict; 0 while there is none.
    verdict: AtomicU64,
    /// How the frame is relayed once it is accepted, and whether it is if it was sent to this node
    /// alone. `None` if the relay sees to that itself.
    relay: Option<(Flow, bool)>,
    /// The payload that a layer further out than the relay has put in place of the received one.
    payload: Option<Bytes>,
    /// The sender of a derived frame that could be relayed. Of other frames, their connection
    /// counts what is withheld.
    derived_from: Option<Peer>,
    /// What another relay, further out, waits for.
    outer: Option<Held>,
    /// Wakes the call in which the relay waits.
    waker: Mutex<Option<Waker>>,
}

impl Held {
    /// Opens a verdict.
    pub(super) fn new(
        relay: Option<(Flow, bool)>,
        payload: Option<Bytes>,
        derived_from: Option<Peer>,
        outer: Option<Self>,
    ) -> Self {
        Self(Arc::new(Shared {
            verdict: AtomicU64::new(0),
            relay,
            payload,
            derived_from,
            outer,
            waker: Mutex::new(None),
        }))
    }

    /// Returns how the frame is relayed once it is accepted, and with which payload, if a layer had
    /// put one in place of the received one.
    pub(super) fn relay(&self) -> Option<((Flow, bool), Option<&Bytes>)> {
        Some((self.0.relay?, self.0.payload.as_ref()))
    }

    /// Returns what another relay, further out, waits for.
    pub(super) fn outer(&self) -> Option<&Self> {
        self.0.outer.as_ref()
    }

    /// Returns the verdict, if there is one already.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        Verdict::from_bits(self.0.verdict.load(Acquire))
    }

    /// Returns the verdict. If there is none yet, `otherwise` is the verdict from now on: what a
    /// relay does when the call ends.
    pub fn verdict_or(&self, otherwise: Verdict) -> Verdict {
        match self.settle(otherwise) {
            Ok(()) => otherwise,
            Err(before) => before,
        }
    }

    /// Waits for the verdict. The task is woken when a layer judges the frame, from any task.
    pub fn poll_verdict(&self, cx: &mut Context<'_>) -> Poll<Verdict> {
        if let Some(verdict) = self.verdict() {
            return Poll::Ready(verdict);
        }
        {
            let mut waker = self.waker();
            match &mut *waker {
                Some(known) => known.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
        }
        // It may have come before the waker was there.
        self.verdict().map_or(Poll::Pending, Poll::Ready)
    }

    /// Makes this the verdict, or returns the one before.
    pub(super) fn settle(&self, verdict: Verdict) -> Result<(), Verdict> {
        let Shared {
            verdict: standing,
            derived_from,
            ..
        } = &*self.0;
        if let Err(before) = standing.compare_exchange(0, verdict.to_bits(), AcqRel, Acquire) {
            return Err(Verdict::from_bits(before).unwrap_or(Verdict::Ignore));
        }
        if let Some(peer) = derived_from
            && verdict != Verdict::Accept
        {
            peer.counters().add_withheld(1);
        }
        Ok(())
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        let waker = &self.0.waker;
        waker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wake(&self) {
        let waker = self.waker().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("verdict", &self.verdict())
            .field("relay", &self.0.relay)
            .finish_non_exhaustive()
    }
}
