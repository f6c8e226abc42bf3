//! The call that a connection makes of its stack, as the frame and the services in it see it.
//!
//! A frame nearly always ends in the thread, and within the call, that it began in: a relay has
//! marked it, the inbox has taken it, and it was dropped. What these say is left here, in plain
//! cells of the thread, and not in what the connection shares with frames that went elsewhere (its
//! [`InFlight`](super::in_flight::InFlight)): a locked instruction costs as much as all the rest of
//! a frame's way through a short stack, and there would be a handful for each.
//!
//! So the connection opens a [`CallScope`] while it works, and asks it after each call what became
//! of the frame.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use super::in_flight::ReadBatch;
use crate::frame::{Flow, Frame};

thread_local! {
    /// Apart from what has to be dropped with the thread, which costs a look at each access.
    static CURRENT: Current = const {
        Current {
            link: Cell::new(0),
            seq: Cell::new(0),
            outcome: Cell::new(CallOutcome::NOTHING),
            in_block: Cell::new(false),
            spare: Cell::new(NO_SPARE),
            rewritten: Cell::new(0),
        }
    };
    /// What the inbox has taken.
    static STAGED: RefCell<VecDeque<Frame>> = const { RefCell::new(VecDeque::new()) };
}

/// Which frame is being called, and what is known of it.
struct Current {
    /// The connection that works, by the address of its link; 0 where none does.
    link: Cell<usize>,
    /// The number of the frame it calls its stack with; 0 where it does not.
    seq: Cell<u64>,
    outcome: Cell<CallOutcome>,
    /// Whether the frame still stands in the block it was read in, so that its place there is
    /// enough to keep of it.
    in_block: Cell<bool>,
    /// The frame's hold of what it arrived with, for the next one. Only there while a session is
    /// open, whose end drops it.
    spare: Cell<Spare>,
    /// How many bytes of payloads that layers have put in are staged since they were last asked
    /// for.
    rewritten: Cell<usize>,
}

type Spare = ManuallyDrop<Option<Arc<ReadBatch>>>;

const NO_SPARE: Spare = ManuallyDrop::new(None);

/// What became of a frame in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallOutcome {
    what: u8,
    /// How many frames the inbox has taken, and how many of them are staged whole.
    delivered: u32,
    whole: u32,
}

impl CallOutcome {
    const NOTHING: Self = Self {
        what: 0,
        delivered: 0,
        whole: 0,
    };
    /// A relay has marked it, to be waited for, or to be dropped where there is no room.
    const WAIT: u8 = 1;
    const DROP: u8 = 2;
    /// It was dropped, or is staged, so that whoever called has no hold of it any more.
    const ENDED: u8 = 8;
    /// There are other holds of it, or it was marked elsewhere too.
    const SHARED: u8 = 16;
    /// The inbox wants it as it stands in its block.
    const PLAIN: u8 = 32;

    #[inline]
    fn has(self, what: u8) -> bool {
        self.what & what != 0
    }

    /// What a relay decided.
    #[inline]
    pub(crate) fn flow(self) -> Option<Flow> {
        match self.what & (Self::WAIT | Self::DROP) {
            0 => None,
            Self::DROP => Some(Flow::Drop),
            _ => Some(Flow::Wait),
        }
    }

    /// How many frames came to the inbox and were not wanted there.
    #[inline]
    pub(crate) fn discarded(self) -> u32 {
        self.delivered - self.whole - u32::from(self.is_plain())
    }

    /// Whether the read side gets it as it stands in its block.
    #[inline]
    pub(crate) fn is_plain(self) -> bool {
        self.has(Self::PLAIN)
    }

    /// How many frames are staged for the read side, with what layers have made of them; behind the
    /// plain one.
    #[inline]
    pub(crate) fn whole(self) -> u32 {
        self.whole
    }

    /// Whether nobody can ask for anything on the frame's behalf any more.
    #[inline]
    pub(crate) fn is_over(self) -> bool {
        self.has(Self::ENDED) && !self.has(Self::SHARED)
    }
}

/// Does something with the cells, if the frame `seq` of `link` is being called in this thread.
#[inline]
fn current<T>(link: usize, seq: u64, then: impl FnOnce(&Current) -> T) -> Option<T> {
    CURRENT.with(|current| {
        let here = current.seq.get() == seq && current.link.get() == link;
        here.then(|| then(current))
    })
}

impl Current {
    #[inline]
    fn note(&self, what: u8) {
        let mut outcome = self.outcome.get();
        outcome.what |= what;
        self.outcome.set(outcome);
    }

    #[inline]
    fn deliver(&self, what: u8, whole: u32) {
        let mut outcome = self.outcome.get();
        outcome.what |= what;
        outcome.delivered += 1;
        outcome.whole += whole;
        self.outcome.set(outcome);
    }
}

/// Marks a frame to be relayed. `false` where it is not being called here.
#[inline]
pub(crate) fn mark(link: usize, seq: u64, flow: Flow) -> bool {
    let marked = current(link, seq, |current| {
        if current.outcome.get().flow().is_none() {
            current.note(match flow {
                Flow::Wait => CallOutcome::WAIT,
                Flow::Drop => CallOutcome::DROP,
            });
        }
    });
    marked.is_some()
}

/// Notes that there is another hold of a frame, or that its link knows of it.
/// `false` where it is not being called here.
pub(crate) fn shared(link: usize, seq: u64) -> bool {
    current(link, seq, |current| current.note(CallOutcome::SHARED)).is_some()
}

/// Notes that a frame was taken by the inbox and discarded. `false` where it is not being called
/// here.
#[inline]
pub(crate) fn discarded(link: usize, seq: u64) -> bool {
    current(link, seq, |current| current.deliver(0, 0)).is_some()
}

/// Keeps a frame for the read side; gives it back where it is not being called here.
#[inline]
pub(crate) fn stage(frame: Frame) -> Option<Frame> {
    let (link, seq) = frame.place();
    let mut frame = Some(frame);
    let _ = current(link, seq, |current| {
        let first = current.outcome.get().delivered == 0;
        if first && current.in_block.get() && frame.as_ref().is_some_and(Frame::is_pristine) {
            current.deliver(CallOutcome::PLAIN, 0);
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

/// Takes back a dropped frame's hold of what it arrived with, if it is the one that is being called
/// here.
#[inline]
pub(crate) fn dropped(link: usize, seq: u64, arrival: &mut Option<Arc<ReadBatch>>) {
    let _ = current(link, seq, |current| {
        current.note(CallOutcome::ENDED);
        // There is one already where a clone of the frame was dropped before.
        let before = current.spare.replace(ManuallyDrop::new(arrival.take()));
        drop(ManuallyDrop::into_inner(before));
    });
}

/// The time in which one connection calls its stack, in this thread.
///
/// Ending it brings back what was there before: a call may contain the work of another connection.
pub(crate) struct CallScope<'a> {
    /// The connection's own list of staged frames, or, meanwhile, the thread's.
    staged: &'a mut VecDeque<Frame>,
    before: (usize, u64, CallOutcome, bool),
}

impl<'a> CallScope<'a> {
    /// Opens the session of the connection whose link is at `link`.
    pub(crate) fn open(link: usize, staged: &'a mut VecDeque<Frame>) -> Self {
        STAGED.with_borrow_mut(|here| std::mem::swap(staged, here));
        let before = CURRENT.with(|current| {
            (
                current.link.replace(link),
                current.seq.replace(0),
                current.outcome.replace(CallOutcome::NOTHING),
                current.in_block.get(),
            )
        });
        Self { staged, before }
    }

    /// The stack is about to be called with the frame `seq` of what arrived. Returns the hold that
    /// the frame gets of that: the one of the frame before, where it came back.
    #[inline]
    pub(crate) fn begin(
        &self,
        seq: u64,
        in_block: bool,
        arrival: &Arc<ReadBatch>,
    ) -> Arc<ReadBatch> {
        let spare = CURRENT.with(|current| {
            current.seq.set(seq);
            current.in_block.set(in_block);
            current.outcome.set(CallOutcome::NOTHING);
            current.spare.replace(NO_SPARE)
        });
        match ManuallyDrop::into_inner(spare) {
            Some(spare) if Arc::ptr_eq(&spare, arrival) => spare,
            _ => Arc::clone(arrival),
        }
    }

    /// The call of the frame `seq` goes on.
    pub(crate) fn go_on(&self, seq: u64) {
        CURRENT.with(|current| {
            current.seq.set(seq);
            current.in_block.set(false);
            // Since the last poll, others may have got hold of it.
            current.outcome.set(CallOutcome {
                what: CallOutcome::SHARED,
                ..CallOutcome::NOTHING
            });
        });
    }

    /// How many bytes of payloads that layers have put in were staged since this was last asked.
    pub(crate) fn take_rewritten(&self) -> usize {
        CURRENT.with(|current| current.rewritten.take())
    }

    /// What became of the frame since [`begin`](CallScope::begin) or [`go_on`](CallScope::go_on).
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
        CURRENT.with(|current| {
            drop(ManuallyDrop::into_inner(current.spare.replace(NO_SPARE)));
            let (link, seq, outcome, in_block) = self.before;
            current.in_block.set(in_block);
            current.link.set(link);
            current.seq.set(seq);
            current.outcome.set(outcome);
        });
    }
}
