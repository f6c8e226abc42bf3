//! The scope of one call: what happens to a frame while its connection calls the stack with it.
//!
//! # Why it exists
//!
//! A connection calls its stack with each frame it reads, and then must know what the layers did
//! with the frame: whether a relay decided to pass it on, whether the inbox took it, whether it was
//! dropped, and whether a clone of it is still alive. A frame can be sent to any other task, so the
//! general answer is shared through atomics, in [`InFlight`](super::in_flight::InFlight).
//!
//! Nearly every frame, however, is decided about, delivered and dropped by the very call that it
//! was made for, on the same thread. A locked instruction costs as much as all the rest of a
//! frame's way through a short stack, and the atomics would need several for each frame. So this
//! module records the same facts in plain cells of the thread. The connection opens a [`CallScope`]
//! while it calls its stack, and reads the [`CallOutcome`] after each call.
//!
//! # The states of a thread
//!
//! ```text
//!             open             begin, go_on
//!  outside ──────────▶ between ────────────▶ calling
//!          ◀────────── calls   ◀──────────── frame n
//!             drop                  end
//! ```
//!
//! - **Outside**: no connection works on this thread. Nothing is recorded here.
//! - **Between calls**: a scope is open, but no call is running (the number of the frame is 0). The
//!   stack is being polled for readiness, or the connection is busy with results.
//! - **Calling frame n**: [`begin`](CallScope::begin) was called before the stack got frame n, or
//!   [`go_on`](CallScope::go_on) before the future of frame n is polled again.
//!   [`end`](CallScope::end) ends this state and returns the outcome.
//!
//! # Invariants
//!
//! - Only the frame that this thread is calling is recorded here, identified by its connection and
//!   its number (see [`Frame::key`]). For every other frame, and in every other state, the
//!   functions below do nothing and say so, and the caller turns to `InFlight`.
//! - An outcome is complete only if it [is over](CallOutcome::is_over): the frame has been dropped
//!   or staged, and no clone was made in this call. If `InFlight` has not been touched either,
//!   nobody can decide about the frame any more. Otherwise the connection must close the frame's
//!   slot in `InFlight`, and merge both answers.
//! - Scopes nest, since a call may poll another connection on the same thread. Dropping a scope
//!   restores what its opening replaced.
//! - While a scope is open, the thread holds the connection's own list of staged frames, so that
//!   the list's memory is reused and nothing is staged for the wrong connection.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use super::derived::DerivedRelay;
use super::in_flight::ReadBatch;
use crate::frame::{Flow, Frame};

thread_local! {
    /// Has no destructor: a thread-local with one must check at each access whether it still
    /// lives. Therefore `STAGED` is separate.
    static CURRENT: CurrentCall = const {
        CurrentCall {
            connection: Cell::new(0),
            seq: Cell::new(0),
            outcome: Cell::new(CallOutcome::NOTHING),
            in_block: Cell::new(false),
            spare: Cell::new(NO_SPARE),
            rewritten: Cell::new(0),
        }
    };
    /// The frames that the inbox has taken, in the list of the connection whose scope is open.
    static STAGED: RefCell<VecDeque<Frame>> = const { RefCell::new(VecDeque::new()) };
    /// The derived frames that the connection whose scope is open is to relay.
    static DERIVED: RefCell<Vec<DerivedRelay>> = const { RefCell::new(Vec::new()) };
}

/// The frame that this thread calls a stack with, and what has happened to it.
struct CurrentCall {
    /// The connection whose scope is open, by the address of its `InFlight`; 0 outside of scopes.
    connection: Cell<usize>,
    /// The number of the frame that the stack is called with; 0 between calls.
    seq: Cell<u64>,
    outcome: Cell<CallOutcome>,
    /// Whether the frame is still part of the block it was read in, so that the read side can have
    /// it as an index into that block.
    in_block: Cell<bool>,
    /// The reference to the read batch that the last frame held, for the next frame to take over.
    /// `None` outside of scopes: dropping a scope drops it.
    spare: Cell<Spare>,
    /// How many bytes of payloads set by layers were staged since
    /// [`take_rewritten`](CallScope::take_rewritten).
    rewritten: Cell<usize>,
}

type Spare = ManuallyDrop<Option<Arc<ReadBatch>>>;

const NO_SPARE: Spare = ManuallyDrop::new(None);

/// What happened to a frame during a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallOutcome {
    flags: u8,
    /// How many frames (this one and clones of it) reached the inbox.
    delivered: u32,
    /// How many of them are staged as built frames.
    whole: u32,
}

impl CallOutcome {
    const NOTHING: Self = Self {
        flags: 0,
        delivered: 0,
        whole: 0,
    };
    /// A relay passes the frame on, waiting for room.
    const RELAY_WAIT: u8 = 1;
    /// A relay passes the frame on, dropping it for peers without room.
    const RELAY_DROP: u8 = 2;
    /// The frame was dropped or staged: the call no longer holds it.
    const ENDED: u8 = 8;
    /// A clone of the frame exists, or `InFlight` has recorded something about it.
    const SHARED: u8 = 16;
    /// Frames derived from it are relayed.
    const DERIVED: u8 = 4;
    /// The read side gets the frame as an index into its block.
    const IN_PLACE: u8 = 32;
    /// The frame is relayed only if a layer accepts it.
    const HELD: u8 = 64;

    #[inline]
    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Returns how a relay decided to pass the frame on, if one did.
    #[inline]
    pub(crate) fn flow(self) -> Option<Flow> {
        match self.flags & (Self::RELAY_WAIT | Self::RELAY_DROP) {
            0 => None,
            Self::RELAY_DROP => Some(Flow::Drop),
            _ => Some(Flow::Wait),
        }
    }

    /// Returns how many frames reached the inbox while nobody read it.
    #[inline]
    pub(crate) fn discarded(self) -> u32 {
        self.delivered - self.whole - u32::from(self.is_in_place())
    }

    /// Whether the read side gets the frame in place, as an index into its block.
    #[inline]
    pub(crate) fn is_in_place(self) -> bool {
        self.has(Self::IN_PLACE)
    }

    /// Returns how many built frames are staged for the read side. They come after the frame that
    /// is delivered in place, if there is one.
    #[inline]
    pub(crate) fn whole(self) -> u32 {
        self.whole
    }

    /// Whether nobody decides about relaying the frame, nor waits for a verdict about it.
    #[inline]
    pub(crate) fn is_kept(self) -> bool {
        self.flags & (Self::RELAY_WAIT | Self::RELAY_DROP | Self::HELD) == 0
    }

    /// Whether a relay has held the frame back in this call.
    pub(crate) fn is_held(self) -> bool {
        self.has(Self::HELD)
    }

    /// Whether frames derived from the frame are relayed; see [`CallScope::take_derived`].
    pub(crate) fn has_derived(self) -> bool {
        self.has(Self::DERIVED)
    }

    /// Whether nobody holds the frame any more, as far as this thread knows.
    #[inline]
    pub(crate) fn is_over(self) -> bool {
        self.has(Self::ENDED) && !self.has(Self::SHARED)
    }
}

/// Runs `then` on the cells if this thread is calling the frame `seq` of `connection`.
#[inline]
fn if_current<T>(connection: usize, seq: u64, then: impl FnOnce(&CurrentCall) -> T) -> Option<T> {
    CURRENT.with(|current| {
        let here = current.seq.get() == seq && current.connection.get() == connection;
        here.then(|| then(current))
    })
}

impl CurrentCall {
    #[inline]
    fn set(&self, flag: u8) {
        let mut outcome = self.outcome.get();
        outcome.flags |= flag;
        self.outcome.set(outcome);
    }

    #[inline]
    fn deliver(&self, flag: u8, whole: u32) {
        let mut outcome = self.outcome.get();
        outcome.flags |= flag;
        outcome.delivered += 1;
        outcome.whole += whole;
        self.outcome.set(outcome);
    }
}

/// Records that a relay passes the frame on; the first decision stands. Returns `false` if this
/// thread is not calling the frame.
#[inline]
pub(crate) fn decide(connection: usize, seq: u64, flow: Flow) -> bool {
    let decided = if_current(connection, seq, |current| {
        if current.outcome.get().flow().is_none() {
            current.set(match flow {
                Flow::Wait => CallOutcome::RELAY_WAIT,
                Flow::Drop => CallOutcome::RELAY_DROP,
            });
        }
    });
    decided.is_some()
}

/// Has the connection relay a frame derived from the frame `seq`. Gives it back if this thread is
/// not calling that frame.
pub(crate) fn relay_derived(
    connection: usize,
    seq: u64,
    relay: DerivedRelay,
) -> Option<DerivedRelay> {
    let mut relay = Some(relay);
    let _ = if_current(connection, seq, |current| {
        current.set(CallOutcome::DERIVED | CallOutcome::SHARED);
        DERIVED.with_borrow_mut(|derived| derived.extend(relay.take()));
    });
    relay
}

/// Records that the frame was cloned, or that `InFlight` knows about it. Returns `false` if this
/// thread is not calling the frame.
pub(crate) fn note_shared(connection: usize, seq: u64) -> bool {
    if_current(connection, seq, |current| current.set(CallOutcome::SHARED)).is_some()
}

/// Records that the frame is relayed only if a layer accepts it. Returns `false` if this thread is
/// not calling the frame.
pub(super) fn note_held(connection: usize, seq: u64) -> bool {
    if_current(connection, seq, |current| current.set(CallOutcome::HELD)).is_some()
}

/// Records that the frame reached the inbox and was discarded there. Returns `false` if this thread
/// is not calling the frame.
#[inline]
pub(crate) fn note_discarded(connection: usize, seq: u64) -> bool {
    if_current(connection, seq, |current| current.deliver(0, 0)).is_some()
}

/// Records that a queue apart from the connection's has taken the frame. Returns `false` if this
/// thread is not calling the frame.
pub(crate) fn note_taken(connection: usize, seq: u64) -> bool {
    let taken = |current: &CurrentCall| current.deliver(CallOutcome::ENDED, 0);
    if_current(connection, seq, taken).is_some()
}

/// Stages a frame for the read side. Gives it back if this thread is not calling it.
#[inline]
pub(crate) fn stage(frame: Frame) -> Option<Frame> {
    let (connection, seq) = frame.key();
    let mut frame = Some(frame);
    let _ = if_current(connection, seq, |current| {
        let first = current.outcome.get().delivered == 0;
        if first && current.in_block.get() && frame.as_ref().is_some_and(Frame::is_pristine) {
            current.deliver(CallOutcome::IN_PLACE, 0);
            frame = None;
        } else {
            let rewritten = frame.as_ref().map_or(0, Frame::rewritten_len);
            current.rewritten.set(current.rewritten.get() + rewritten);
            if let Some(frame) = frame.take() {
                STAGED.with_borrow_mut(|staged| staged.push_back(frame));
            }
            current.deliver(CallOutcome::ENDED, 1);
        }
    });
    frame
}

/// Records that a frame was dropped, and keeps its reference to its read batch for the next frame.
/// Does nothing if this thread is not calling the frame.
#[inline]
pub(crate) fn note_dropped(connection: usize, seq: u64, batch: &mut Option<Arc<ReadBatch>>) {
    let _ = if_current(connection, seq, |current| {
        current.set(CallOutcome::ENDED);
        // A reference is there already if a clone of the frame was dropped before.
        let before = current.spare.replace(ManuallyDrop::new(batch.take()));
        drop(ManuallyDrop::into_inner(before));
    });
}

/// The time in which one connection calls its stack on this thread; see the [module](self).
pub(crate) struct CallScope<'a> {
    /// While the scope is open, the list that the thread had before; afterwards the connection's.
    staged: &'a mut VecDeque<Frame>,
    outer: OuterCall,
}

/// The state of the thread that a scope restores when it is dropped.
struct OuterCall {
    connection: usize,
    seq: u64,
    outcome: CallOutcome,
    in_block: bool,
    derived: Vec<DerivedRelay>,
}

impl<'a> CallScope<'a> {
    /// Opens the scope of a connection, named by its
    /// [`InFlight::place`](super::in_flight::InFlight::place). Frames that the inbox takes are
    /// appended to `staged`.
    pub(crate) fn open(connection: usize, staged: &'a mut VecDeque<Frame>) -> Self {
        STAGED.with_borrow_mut(|here| std::mem::swap(staged, here));
        let outer = CURRENT.with(|current| OuterCall {
            connection: current.connection.replace(connection),
            seq: current.seq.replace(0),
            outcome: current.outcome.replace(CallOutcome::NOTHING),
            in_block: current.in_block.get(),
            derived: DERIVED.take(),
        });
        Self { staged, outer }
    }

    /// Begins the call with the frame `seq` of `batch`. Returns a reference to the batch for that
    /// frame to own: the one that the last frame has left, if it is to the same batch, or a new
    /// one.
    #[inline]
    pub(crate) fn begin(&self, seq: u64, in_block: bool, batch: &Arc<ReadBatch>) -> Arc<ReadBatch> {
        let spare = CURRENT.with(|current| {
            current.seq.set(seq);
            current.in_block.set(in_block);
            current.outcome.set(CallOutcome::NOTHING);
            current.spare.replace(NO_SPARE)
        });
        match ManuallyDrop::into_inner(spare) {
            Some(spare) if Arc::ptr_eq(&spare, batch) => spare,
            _ => Arc::clone(batch),
        }
    }

    /// Continues the call of the frame `seq`, whose future is about to be polled again.
    pub(crate) fn go_on(&self, seq: u64) {
        CURRENT.with(|current| {
            current.seq.set(seq);
            current.in_block.set(false);
            // Since the last poll, other tasks may have got hold of the frame.
            current.outcome.set(CallOutcome {
                flags: CallOutcome::SHARED,
                ..CallOutcome::NOTHING
            });
        });
    }

    /// Returns the derived frames that are relayed, since the last time.
    pub(crate) fn take_derived(&self) -> Vec<DerivedRelay> {
        DERIVED.take()
    }

    /// Returns how many bytes of payloads set by layers were staged since the last time.
    pub(crate) fn take_rewritten(&self) -> usize {
        CURRENT.with(|current| current.rewritten.take())
    }

    /// Ends the call. Returns what happened to the frame since [`begin`](CallScope::begin) or
    /// [`go_on`](CallScope::go_on).
    #[inline]
    pub(crate) fn end(&self) -> CallOutcome {
        CURRENT.with(|current| {
            current.seq.set(0);
            current.outcome.get()
        })
    }
}

impl Drop for CallScope<'_> {
    fn drop(&mut self) {
        STAGED.with_borrow_mut(|here| std::mem::swap(self.staged, here));
        drop(DERIVED.replace(std::mem::take(&mut self.outer.derived)));
        CURRENT.with(|current| {
            drop(ManuallyDrop::into_inner(current.spare.replace(NO_SPARE)));
            current.in_block.set(self.outer.in_block);
            current.connection.set(self.outer.connection);
            current.seq.set(self.outer.seq);
            current.outcome.set(self.outer.outcome);
        });
    }
}

#[cfg(all(test, feature = "test-util"))]
#[path = "call_tests.rs"]
mod tests;
