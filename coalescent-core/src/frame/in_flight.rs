//! What a frame shares with the rest of its read, and with its connection, from any thread.
//!
//! # Who stores whether a frame is relayed
//!
//! A frame is passed on at most once, however often layers ask for it. Three places take part in
//! this, each with one owner:
//!
//! 1. **`CallOutcome`**, in the [call scope](super::call): written by [`Frame::relay`] on the
//!    thread that is calling the stack with the frame. This is the usual case, and costs a plain
//!    store.
//! 2. **`Slot::decision`**, here: written by [`Frame::relay`] in all other cases, which are another
//!    thread, a call that is pending between two polls, and a frame whose payload was replaced (the
//!    outcome has no room for a payload). This costs atomics.
//! 3. **`relayed`** of a pending call, in the connection: written by the connection alone when it
//!    acts on a decision before the call has ended, so that it ignores a decision that it finds
//!    later. It is not a decision but the record that one was carried out, and is not shared.
//!
//! The connection merges the first two. After each poll it takes the outcome, and looks into the
//! slot unless the outcome says that nobody else can have decided. They cannot be one place: the
//! slot alone would cost a locked instruction for each frame, and the outcome alone cannot be
//! reached from other threads.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::node::peer::Peer;
use crate::outbox::Flow;
use crate::wire::Wire;

/// What the frames of one block share.
#[derive(Debug)]
pub(crate) struct ReadBatch {
    /// What they share with the connection that read them.
    pub(crate) in_flight: Arc<InFlight>,
    /// The bytes of the frames, one after another.
    pub(crate) bytes: Bytes,
    /// The number, in its connection, of the buffer that `bytes` is a slice of.
    pub(crate) buffer: u64,
    /// The size of that buffer, in bytes.
    pub(crate) buffer_len: usize,
    /// When they were read.
    pub(crate) at: Instant,
}

/// A read buffer, by its connection and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BufferId(usize, u64);

impl ReadBatch {
    pub(crate) fn buffer_id(&self) -> BufferId {
        BufferId(self.in_flight.place(), self.buffer)
    }

    /// Returns how many bytes each frame of this read keeps alive: the whole buffer.
    pub(crate) fn bytes_kept_alive(&self) -> usize {
        self.buffer_len.max(self.bytes.len())
    }
}

/// The part of a connection that the frames it has read refer to.
///
/// It has a [`Slot`] for each call that the connection runs at a time, and tells frames that reach
/// the inbox from elsewhere whether earlier frames are still on their way.
pub(crate) struct InFlight {
    peer: Peer,
    first: Slot,
    /// The slots behind the first, made when calls first overlap.
    more: OnceLock<Box<[Slot]>>,
    slots: usize,
    /// Whether the connection holds frames for the read side that are not in its queue yet. Frames
    /// that get there without the connection must not overtake them.
    staging: AtomicBool,
    /// Notified when `staging` becomes false.
    unstaged: Notify,
}

/// The relay decision about the frame that one of the connection's calls handles.
///
/// The layer that decides may run in another task than the connection.
#[derive(Debug, Default)]
struct Slot {
    /// The number of the frame, shifted left by two, and one of the four states below.
    decision: AtomicU64,
    /// The payload to relay in place of the received one.
    rewritten: Mutex<Option<Bytes>>,
    /// The number of the frame that `rewritten` belongs to.
    has_rewritten: AtomicU64,
    /// The number of the frame that was last cloned outside of the call scope.
    shared: AtomicU64,
    /// The number of the frame, shifted left by [`DERIVED_BITS`], and how many frames derived from
    /// it relays have decided about.
    derived: AtomicU64,
    /// The number of the frame that is counted as lost, since its connection has ended.
    lost: AtomicU64,
    /// The number of the frame that is relayed only if a layer accepts it, where the call scope
    /// does not say so.
    held: AtomicU64,
}

/// How many bits the number of derived frames has. A frame has fewer bytes than that, and a
/// connection fewer frames than the other bits can count.
const DERIVED_BITS: u32 = 24;

/// Nobody has decided about the frame.
const OPEN: u64 = 0;
/// The connection has stopped looking: a decision comes too late.
const CLOSED: u64 = 1;
/// The frame is relayed, waiting for room.
const WAIT: u64 = 2;
/// The frame is relayed, and dropped for peers without room.
const DROP: u64 = 3;

/// A relay's decision about a frame: how to pass it on, and the payload that a layer has put in
/// place of the received one.
pub(crate) type RelayDecision = (Flow, Option<Bytes>);

impl InFlight {
    pub(crate) fn new(peer: Peer, slots: usize) -> Self {
        Self {
            peer,
            first: Slot::default(),
            more: OnceLock::new(),
            slots: slots.max(1),
            staging: AtomicBool::new(false),
            unstaged: Notify::new(),
        }
    }

    /// Sets whether the connection holds frames for the read side.
    pub(crate) fn set_staging(&self, staging: bool) {
        self.staging.store(staging, Ordering::Release);
        if !staging {
            self.unstaged.notify_waiters();
        }
    }

    /// Waits until the connection holds no frames for the read side.
    pub(crate) async fn until_unstaged(&self) {
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

    /// Returns the number of slots.
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    #[inline]
    fn slot(&self, slot: usize) -> Option<&Slot> {
        match slot.checked_sub(1) {
            None => Some(&self.first),
            Some(behind) => self.more.get()?.get(behind),
        }
    }

    #[cold]
    fn make_slots(&self) -> &[Slot] {
        let make = || (1..self.slots).map(|_| Slot::default()).collect();
        self.more.get_or_init(make)
    }

    /// Returns the address of this value, which identifies the connection as long as it lives.
    #[inline]
    pub(crate) fn place(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Decides to relay the frame `seq`; the first decision stands. Returns `false` if the frame's
    /// call has ended, so that the connection will not look any more.
    ///
    /// If this thread is calling the frame, use [`call::decide`](super::call::decide).
    pub(super) fn decide(
        &self,
        slot: usize,
        seq: u64,
        flow: Flow,
        rewritten: Option<&Bytes>,
    ) -> bool {
        let Some(slot) = self.slot(slot) else {
            return false;
        };
        let open = seq << 2 | OPEN;
        let state = match flow {
            Flow::Wait => WAIT,
            Flow::Drop => DROP,
        };
        if let Some(payload) = rewritten {
            if slot.decision.load(Ordering::Acquire) != open {
                return slot.is_decided(seq);
            }
            *slot.rewritten() = Some(payload.clone());
            slot.has_rewritten.store(seq, Ordering::Release);
        }
        let decided = seq << 2 | state;
        slot.decision
            .compare_exchange(open, decided, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
            || slot.is_decided(seq)
    }

    /// Gives the slot to the frame `seq`, about which may be decided from now on.
    #[inline]
    pub(crate) fn open(&self, slot: usize, seq: u64) {
        if slot > 0 && self.more.get().is_none() {
            self.make_slots();
        }
        if let Some(slot) = self.slot(slot) {
            slot.decision.store(seq << 2 | OPEN, Ordering::Release);
        }
    }

    /// Whether the frame `seq` was neither decided about nor cloned outside of the call scope.
    #[inline]
    pub(crate) fn is_untouched(&self, slot: usize, seq: u64) -> bool {
        self.slot(slot).is_some_and(|slot| {
            slot.decision.load(Ordering::Acquire) == seq << 2 | OPEN
                && slot.shared.load(Ordering::Acquire) != seq
        })
    }

    /// Records that the frame `seq` was cloned outside of the call scope.
    pub(super) fn share(&self, slot: usize, seq: u64) {
        if let Some(slot) = self.slot(slot)
            && slot.decision.load(Ordering::Acquire) >> 2 == seq
        {
            slot.shared.store(seq, Ordering::Release);
        }
    }

    /// Notes that a relay has decided about a frame derived from the frame `seq`. Returns `false`
    /// if the call of that frame has ended.
    pub(super) fn note_derived(&self, slot: usize, seq: u64) -> bool {
        let Some(slot) = self.slot(slot) else {
            return false;
        };
        let decision = slot.decision.load(Ordering::Acquire);
        if decision >> 2 != seq || decision & 3 == CLOSED {
            return false;
        }
        let add = |derived: u64| {
            let known = derived >> DERIVED_BITS == seq;
            Some(if known { derived } else { seq << DERIVED_BITS } + 1)
        };
        let _ = slot
            .derived
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
        true
    }

    /// Returns about how many frames derived from the frame `seq` relays have decided.
    pub(crate) fn derived(&self, slot: usize, seq: u64) -> u64 {
        let derived = self
            .slot(slot)
            .map_or(0, |slot| slot.derived.load(Ordering::Acquire));
        if derived >> DERIVED_BITS == seq {
            derived & ((1 << DERIVED_BITS) - 1)
        } else {
            0
        }
    }

    /// Records that the frame `seq` is relayed only if a layer accepts it.
    pub(crate) fn note_held(&self, slot: usize, seq: u64) {
        if let Some(slot) = self.slot(slot) {
            slot.held.store(seq, Ordering::Release);
        }
    }

    /// Returns whether that was recorded of the frame `seq`.
    pub(crate) fn is_held(&self, slot: usize, seq: u64) -> bool {
        let slot = self.slot(slot);
        slot.is_some_and(|slot| slot.held.load(Ordering::Acquire) == seq)
    }

    /// Closes the slot of the frame `seq`, which nobody holds any more: without a locked
    /// instruction, since nobody can decide at the same time.
    #[inline]
    pub(crate) fn shut(&self, slot: usize, seq: u64) {
        if let Some(slot) = self.slot(slot) {
            slot.decision.store(seq << 2 | CLOSED, Ordering::Release);
        }
    }

    /// Returns the decision about the frame `seq`, if there is one already. A replaced payload is
    /// returned only once.
    pub(crate) fn decision(&self, slot: usize, seq: u64) -> Option<RelayDecision> {
        self.slot(slot)?.take(seq)
    }

    /// Closes the slot of the frame `seq`, and returns the decision about it. A later decision
    /// comes too late.
    pub(crate) fn close(&self, slot: usize, seq: u64) -> Option<RelayDecision> {
        let slot = self.slot(slot)?;
        // Once a relay has decided, the slot is no longer open: there is nothing to close, and no
        // locked instruction is needed.
        if !slot.is_decided(seq) {
            let closed = seq << 2 | CLOSED;
            let open = seq << 2 | OPEN;
            if slot
                .decision
                .compare_exchange(open, closed, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
            {
                return None;
            }
        }
        slot.take(seq)
    }

    /// Closes the frame `seq` as [`close`](InFlight::close) does. If nothing was decided about it,
    /// its caller counts it as lost, and a clone of it is not relayed later.
    pub(crate) fn close_for_ever(&self, slot: usize, seq: u64) -> Option<RelayDecision> {
        // Before it is closed: a relay that finds it closed looks here.
        self.slot(slot)?.lost.store(seq, Ordering::Release);
        self.close(slot, seq)
    }

    /// Returns whether the frame `seq` is counted as lost.
    pub(super) fn is_lost(&self, slot: usize, seq: u64) -> bool {
        let slot = self.slot(slot);
        slot.is_some_and(|slot| slot.lost.load(Ordering::Acquire) == seq)
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
    fn rewritten(&self) -> MutexGuard<'_, Option<Bytes>> {
        self.rewritten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn is_decided(&self, seq: u64) -> bool {
        let decision = self.decision.load(Ordering::Acquire);
        decision >> 2 == seq && matches!(decision & 3, WAIT | DROP)
    }

    fn take(&self, seq: u64) -> Option<RelayDecision> {
        let decision = self.decision.load(Ordering::Acquire);
        if decision >> 2 != seq {
            return None;
        }
        let flow = match decision & 3 {
            WAIT => Flow::Wait,
            DROP => Flow::Drop,
            _ => return None,
        };
        let rewritten = if self.has_rewritten.load(Ordering::Acquire) == seq {
            self.rewritten().take()
        } else {
            None
        };
        Some((flow, rewritten))
    }
}
