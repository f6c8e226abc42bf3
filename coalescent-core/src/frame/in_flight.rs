//! What a connection shares with the frames it has read.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::frame::{Flow, Frame};
use crate::node::outgoing::relay_late;
use crate::node::peer::Peer;
use crate::wire::Wire;

/// What the frames of one read have in common.
#[derive(Debug)]
pub(crate) struct ReadBatch {
    /// The connection that read them.
    pub(crate) link: Arc<InFlight>,
    /// The frames, one after another.
    pub(crate) bytes: Bytes,
    /// The number of the buffer that `bytes` is a slice of, and the size of that buffer.
    pub(crate) buffer: u64,
    pub(crate) buffer_len: usize,
    /// When they were read.
    pub(crate) at: Instant,
}

/// A connection, as its frames know it.
pub(crate) struct InFlight {
    peer: Peer,
    slots: Box<[Slot]>,
    /// Whether frames are staged for the read side, which those that others bring there must not
    /// overtake.
    staging: AtomicBool,
    /// Wakes those that wait for that.
    unstaged: Notify,
}

/// Whether the frame that is handled in one of the connection's calls is to be relayed.
///
/// The layer that decides may run in another task than the connection, so the two agree on one
/// number: the frame's, shifted left by two, and one of the states below.
#[derive(Debug, Default)]
struct Slot {
    mark: AtomicU64,
    /// The payload that a layer put in place of the frame's own, and the number of that frame.
    rewritten: Mutex<Option<Bytes>>,
    has_rewritten: AtomicU64,
    /// The number of the frame that was cloned elsewhere.
    shared: AtomicU64,
    /// The number of the frame that is counted as lost, since its connection has ended.
    lost: AtomicU64,
}

const OPEN: u64 = 0;
const CLOSED: u64 = 1;
const WAIT: u64 = 2;
const DROP: u64 = 3;

/// What a layer decided about a frame: to relay it like this, with this payload where a layer put
/// another in place of its own.
pub(crate) type RelayDecision = (Flow, Option<Bytes>);

impl InFlight {
    pub(crate) fn new(peer: Peer, slots: usize) -> Self {
        Self {
            peer,
            slots: (0..slots.max(1)).map(|_| Slot::default()).collect(),
            staging: AtomicBool::new(false),
            unstaged: Notify::new(),
        }
    }

    /// Tells whether frames are staged.
    pub(crate) fn set_staging(&self, staging: bool) {
        self.staging.store(staging, Ordering::Release);
        if !staging {
            self.unstaged.notify_waiters();
        }
    }

    /// Waits until no frames are staged.
    pub(crate) async fn unstaged(&self) {
        loop {
            let unstaged = self.unstaged.notified();
            if !self.staging.load(Ordering::Acquire) {
                return;
            }
            unstaged.await;
        }
    }

    #[inline]
    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(crate) fn wire(&self) -> &Wire {
        self.peer.wire()
    }

    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// What tells this connection from all others that there are.
    #[inline]
    pub(crate) fn place(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Marks a frame to be relayed. Returns false where its call has ended, so that nobody looks
    /// any more.
    ///
    /// For frames that are not being called in this thread; see [`current`](super::current).
    pub(crate) fn mark(
        &self,
        slot: usize,
        seq: u64,
        flow: Flow,
        rewritten: Option<&Bytes>,
    ) -> bool {
        let Some(slot) = self.slots.get(slot) else {
            return false;
        };
        let open = seq << 2 | OPEN;
        let state = match flow {
            Flow::Wait => WAIT,
            Flow::Drop => DROP,
        };
        if let Some(payload) = rewritten {
            if slot.mark.load(Ordering::Acquire) != open {
                return slot.is_marked(seq);
            }
            *slot
                .rewritten
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(payload.clone());
            slot.has_rewritten.store(seq, Ordering::Release);
        }
        let marked = seq << 2 | state;
        slot.mark
            .compare_exchange(open, marked, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
            || slot.is_marked(seq)
    }

    /// Lets the frame `seq` be marked, in the place of the one before.
    #[inline]
    pub(crate) fn open(&self, slot: usize, seq: u64) {
        if let Some(slot) = self.slots.get(slot) {
            slot.mark.store(seq << 2 | OPEN, Ordering::Release);
        }
    }

    /// Whether nobody has marked the frame `seq`, or cloned it, but where it is called.
    #[inline]
    pub(crate) fn is_untouched(&self, slot: usize, seq: u64) -> bool {
        self.slots.get(slot).is_some_and(|slot| {
            slot.mark.load(Ordering::Acquire) == seq << 2 | OPEN
                && slot.shared.load(Ordering::Acquire) != seq
        })
    }

    /// Notes that the frame `seq` was cloned, elsewhere than where it is called.
    pub(crate) fn share(&self, slot: usize, seq: u64) {
        if let Some(slot) = self.slots.get(slot)
            && slot.mark.load(Ordering::Acquire) >> 2 == seq
        {
            slot.shared.store(seq, Ordering::Release);
        }
    }

    /// The frame `seq` is over, and nobody has a hold of it any more: there is nothing to agree on.
    #[inline]
    pub(crate) fn shut(&self, slot: usize, seq: u64) {
        if let Some(slot) = self.slots.get(slot) {
            slot.mark.store(seq << 2 | CLOSED, Ordering::Release);
        }
    }

    /// What was decided about the frame `seq` so far.
    pub(crate) fn marked(&self, slot: usize, seq: u64) -> Option<RelayDecision> {
        self.slots.get(slot)?.take(seq)
    }

    /// What was decided about the frame `seq`; from now on, deciding is too late.
    pub(crate) fn close(&self, slot: usize, seq: u64) -> Option<RelayDecision> {
        let slot = self.slots.get(slot)?;
        // The common case of a relay needs no locked instruction here.
        if !slot.is_marked(seq) {
            let closed = seq << 2 | CLOSED;
            let open = seq << 2 | OPEN;
            if slot
                .mark
                .compare_exchange(open, closed, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
            {
                return None;
            }
        }
        slot.take(seq)
    }

    /// Closes the frame `seq` as [`close`](InFlight::close) does. Where nothing was decided about
    /// it, it is counted as lost, and so a clone of it is not relayed later.
    pub(crate) fn close_for_ever(&self, slot: usize, seq: u64) -> Option<RelayDecision> {
        // Before it is closed: whoever finds it closed looks here.
        self.slots.get(slot)?.lost.store(seq, Ordering::Release);
        self.close(slot, seq)
    }

    /// Whether the frame `seq` is counted as lost.
    pub(crate) fn is_lost(&self, slot: usize, seq: u64) -> bool {
        let slot = self.slots.get(slot);
        slot.is_some_and(|slot| slot.lost.load(Ordering::Acquire) == seq)
    }

    /// Relays a frame whose call has ended: at once, and dropped where there is no room.
    pub(crate) fn relay_late(&self, frame: &Frame, payload: &Bytes) {
        let (_, buffer_len) = frame.pinned();
        relay_late(&self.peer, frame.kind(), frame.ttl(), payload, buffer_len);
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight")
            .field("peer", self.peer.id())
            .finish_non_exhaustive()
    }
}

impl Slot {
    fn is_marked(&self, seq: u64) -> bool {
        let mark = self.mark.load(Ordering::Acquire);
        mark >> 2 == seq && matches!(mark & 3, WAIT | DROP)
    }

    fn take(&self, seq: u64) -> Option<RelayDecision> {
        let mark = self.mark.load(Ordering::Acquire);
        if mark >> 2 != seq {
            return None;
        }
        let flow = match mark & 3 {
            WAIT => Flow::Wait,
            DROP => Flow::Drop,
            _ => return None,
        };
        let rewritten = if self.has_rewritten.load(Ordering::Acquire) == seq {
            self.rewritten
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take()
        } else {
            None
        };
        Some((flow, rewritten))
    }
}
