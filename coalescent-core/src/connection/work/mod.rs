//! The frames of one peer on their way through its stack.

mod budget;
mod call;
mod delivery;
mod replies;
mod results;

use std::any::TypeId;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use budget::Budget;
use call::{Call, Called};
use delivery::Delivery;
use replies::Replies;
use tokio::time::{Instant, Sleep};

use super::relay::Relays;
use crate::error::Error;
use crate::frame::call::CallScope;
use crate::frame::in_flight::{InFlight, ReadBatch};
use crate::frame::{self, Flow};
use crate::node::hooks::BoxFuture;
use crate::node::peer::Peer;
use crate::node::peer::handle::LinkId;
use crate::reason::DisconnectReason;
use crate::stack::inbox::Queue;
use crate::stack::{Inbox, PeerService};
use crate::wire::{Block, Head, Kind};

/// How long a stack may take to become ready for a frame. A timeout layer does not bound this.
pub const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// After this many bytes of replies, of frames that are relayed one by one, and of what layers made
/// of frames, they are handed on before the next frame is handled: a peer may ask for much with
/// little.
const OWED_MAX: usize = 64 * 1024;

/// How many withdrawn requests are remembered while they wait for their turn.
const MAX_CANCELLED: usize = 64;

/// What frames that one read brought count for while they wait, in addition to the buffer that they
/// keep alive and to the list of them: their bookkeeping, and what the allocator keeps beside it.
pub const BATCH_COST: usize = 192;

/// How far the work got.
#[derive(Debug)]
pub(super) enum Step {
    /// There is something to hand on before the work goes on.
    HandOn,
    /// All frames that were read are handled.
    Idle,
    /// A handler, or the stack's readiness, is waited for.
    Busy,
    /// The connection must end.
    End(DisconnectReason),
}

/// What lasts of the work while nothing comes: little, since most connections are quiet most of the
/// time.
#[derive(Debug)]
pub(super) struct Rest<S> {
    id: LinkId,
    stack: S,
    read_side: Arc<Queue>,
    seq: u64,
    budget: Budget,
    /// Whether frames of this connection were relayed.
    relayed: bool,
    /// What frames have a hold of that came before, where there are such: those to come will have
    /// the same.
    link: Option<Weak<InFlight>>,
}

impl<S> Rest<S> {
    /// Begins the work of the connection `id` to `peer`.
    pub(super) fn new(id: LinkId, peer: &Peer, stack: S) -> Self {
        Self {
            id,
            stack,
            read_side: Queue::of(peer.node()),
            seq: 0,
            budget: Budget::new(peer.node().config().error_budget),
            relayed: false,
            link: None,
        }
    }
}

/// What has been read and not been handled, and what is being handled.
pub(super) struct Work<S: PeerService> {
    id: LinkId,
    link: Arc<InFlight>,
    /// Taken out only where the work comes to rest.
    stack: Option<S>,
    read_side: Arc<Queue>,
    /// Since when a frame waits for the stack to become ready.
    unready: Option<Pin<Box<Sleep>>>,
    backlog: VecDeque<Batch>,
    /// What the backlog costs, in bytes.
    backlog_cost: usize,
    /// Which of the first batch's frames is next.
    next: usize,
    calls: Vec<Call<S::Future>>,
    in_flight: usize,
    seq: u64,
    cancelled: VecDeque<u32>,
    /// What runs before the first frame.
    hooks: Option<BoxFuture>,
    relays: Relays,
    /// What is for the read side.
    delivery: Delivery,
    /// How many frames came through the stack to a read side that nobody reads, and are not
    /// counted yet.
    discarded: u64,
    replies: Replies,
    /// How many bytes of payloads that layers have put in there are, for the read side.
    unpacked: usize,
    budget: Budget,
    /// Why the stack handles no more frames.
    failed: Option<DisconnectReason>,
    /// An exhausted block, kept for its allocation.
    spare: Option<Block>,
    /// What calling the stack with a broadcast comes to, where that is known.
    bare: Option<Bare>,
}

/// What a stack without layers of its own does with a broadcast, before it is the inbox's.
#[derive(Clone, Copy, Debug)]
enum Bare {
    Nothing,
    Relay(Flow),
}

impl Bare {
    /// Looks whether that is known of the stack `S`.
    fn of<S: 'static>(relays_all: Option<(TypeId, Flow)>) -> Option<Self> {
        let stack = TypeId::of::<S>();
        match relays_all {
            Some((relay, flow)) if relay == stack => Some(Self::Relay(flow)),
            _ => (stack == TypeId::of::<Inbox>()).then_some(Self::Nothing),
        }
    }
}

/// Frames that one read brought.
#[derive(Debug)]
struct Batch {
    block: Block,
    /// What the frames of the block hold.
    arrival: Arc<ReadBatch>,
    /// What it counts for.
    cost: usize,
}

impl<S: PeerService> Work<S> {
    /// Goes on with the work of the connection to `peer`. Whoever polls it polls the connection's
    /// writer afterwards, each time.
    pub(super) fn new(rest: Rest<S>, peer: &Peer) -> Self {
        let Rest {
            id,
            stack,
            read_side,
            seq,
            budget,
            relayed,
            link,
        } = rest;
        let link = link.and_then(|link| link.upgrade()).unwrap_or_else(|| {
            let concurrency = peer.node().config().concurrency;
            Arc::new(InFlight::new(peer.clone(), concurrency))
        });
        let calls = (0..link.slots()).map(|_| Call::default()).collect();
        Self {
            id,
            link,
            stack: Some(stack),
            read_side,
            unready: None,
            backlog: VecDeque::new(),
            backlog_cost: 0,
            next: 0,
            calls,
            in_flight: 0,
            seq,
            cancelled: VecDeque::new(),
            hooks: None,
            relays: Relays::new(relayed),
            delivery: Delivery::default(),
            discarded: 0,
            replies: Replies::default(),
            unpacked: 0,
            budget,
            failed: None,
            spare: None,
            bare: Bare::of::<S>(peer.node().hooks().relays_all),
        }
    }

    /// Lets `hooks` run before the first frame.
    pub(super) fn set_hooks(&mut self, hooks: Option<BoxFuture>) {
        self.hooks = hooks;
    }

    /// Comes to rest, if there is nothing to do: then this is of no more use.
    pub(super) fn rest(&mut self) -> Option<Rest<S>> {
        if !self.is_idle() || self.hooks.is_some() || self.unready.is_some() {
            return None;
        }
        Some(Rest {
            id: self.id,
            stack: self.stack.take()?,
            read_side: Arc::clone(&self.read_side),
            seq: self.seq,
            budget: self.budget,
            relayed: self.relays.is_used(),
            link: (Arc::strong_count(&self.link) > 1).then(|| Arc::downgrade(&self.link)),
        })
    }

    /// An empty block to read into.
    pub(super) fn take_block(&mut self) -> Block {
        self.spare.take().unwrap_or_default()
    }

    /// Gives an unused block back.
    pub(super) fn put_block(&mut self, block: Block) {
        self.spare = Some(block);
    }

    /// Gives back the memory that is kept for frames to come.
    pub(super) fn fall_idle(&mut self) {
        frame::fall_idle();
        self.spare = None;
        self.replies.fall_idle();
        self.delivery.fall_idle();
        self.relays.fall_idle();
        if self.backlog.is_empty() {
            self.backlog = VecDeque::new();
        }
    }

    /// Adds frames that were read at `at` into the buffer `number`, of `buffer` bytes.
    ///
    /// However few bytes of that buffer are frames that wait, they keep all of it alive. So all of
    /// it is counted, once for consecutive batches: what stands between them may be control frames.
    pub(super) fn add(&mut self, block: Block, buffer: usize, number: u64, at: Instant) {
        let pinned = self
            .backlog
            .back()
            .is_some_and(|last| last.arrival.buffer == number);
        let buffer_len = if pinned {
            0
        } else {
            buffer.max(block.bytes.len())
        };
        let heads = block.heads.capacity() * size_of::<(usize, Head)>();
        let cost = BATCH_COST + heads + buffer_len;
        self.backlog_cost += cost;
        let arrival = Arc::new(ReadBatch {
            in_flight: Arc::clone(&self.link),
            bytes: block.bytes.clone(),
            buffer: number,
            buffer_len: buffer,
            at,
        });
        self.backlog.push_back(Batch {
            block,
            arrival,
            cost,
        });
    }

    /// What it costs to keep what has been read and not been handled, in bytes.
    pub(super) fn backlog(&self) -> usize {
        self.backlog_cost
    }

    /// Withdraws a request: what it waits for is dropped, or it is passed over.
    ///
    /// `in_hand` says whether it may be among frames that are about to be added.
    pub(super) fn cancel(&mut self, id: u32, in_hand: bool) {
        for (slot, call) in self.calls.iter_mut().enumerate() {
            if let Some((head, seq)) = call.handles()
                && matches!(head.kind, Kind::Request { id: other } if other == id)
            {
                self.link.close(slot, seq);
                call.drop_frame();
                self.in_flight -= 1;
                return;
            }
        }
        if in_hand || !self.backlog.is_empty() {
            if self.cancelled.len() == MAX_CANCELLED {
                self.cancelled.pop_front();
            }
            self.cancelled.push_back(id);
        }
    }

    /// Whether something is to be handed on.
    pub(super) fn has_results(&self) -> bool {
        self.refers_to_block() || !self.replies.is_empty()
    }

    /// Whether something is to be handed on that stands in the first block.
    fn refers_to_block(&self) -> bool {
        !self.relays.is_empty() || !self.delivery.is_empty()
    }

    /// Works on until there is something to hand on, or nothing to do.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Step {
        if let Some(hooks) = &mut self.hooks {
            let done = catch_unwind(AssertUnwindSafe(|| hooks.as_mut().poll(cx)));
            match done {
                Ok(Poll::Pending) => return Step::Busy,
                Ok(Poll::Ready(())) => {}
                Err(panic) => self.fail(Error::panicked(&*panic)),
            }
            self.hooks = None;
        }
        if self.is_idle() {
            return Step::Idle;
        }
        let mut staged = self.delivery.take_whole();
        let session = CallScope::open(self.link.place(), &mut staged);
        self.poll_calls(&session, cx);
        let step = self.poll_frames(&session, cx);
        drop(session);
        self.delivery.put_whole(staged);
        let discarded = std::mem::take(&mut self.discarded);
        if discarded > 0 {
            self.link.peer().counters().add_delivered(discarded);
        }
        // Also before the end: what came of the frames so far is not lost with this one.
        if self.has_results() {
            Step::HandOn
        } else {
            step
        }
    }

    /// Whether there is nothing to do, as nearly each time before something is read.
    fn is_idle(&self) -> bool {
        self.in_flight == 0
            && self.backlog.is_empty()
            && !self.has_results()
            && self.failed.is_none()
            && !self.budget.exhausted()
    }

    /// Calls the stack with one frame after another, up to the end of a block that came to
    /// something.
    fn poll_frames(&mut self, session: &CallScope<'_>, cx: &mut Context<'_>) -> Step {
        loop {
            if let Some(reason) = &self.failed {
                return Step::End(reason.clone());
            }
            if self.budget.exhausted() {
                return Step::End(DisconnectReason::TooManyErrors);
            }
            if self.in_flight == self.calls.len() {
                return Step::Busy;
            }
            if self.owes_much() {
                return Step::HandOn;
            }
            match self.next_frame() {
                Next::None if self.in_flight == 0 => return Step::Idle,
                Next::None => return Step::Busy,
                Next::BlockEnds if self.refers_to_block() => return Step::HandOn,
                Next::BlockEnds => {
                    self.end_block();
                    if !self.replies.is_empty() {
                        return Step::HandOn;
                    }
                }
                Next::Frame => match self.bare() {
                    Some(bare) => self.pass_block(bare),
                    None => match self.call_all(session, cx) {
                        Called::More => self.unready = None,
                        Called::Unready if self.poll_unready(cx).is_pending() => return Step::Busy,
                        Called::Unready => {}
                        Called::Failed(reason) => self.failed = Some(reason),
                    },
                },
            }
        }
    }

    /// What the stack does with each frame of the first block, where that is known and the inbox
    /// takes all of them without an answer: then there is nobody to call for each frame.
    fn bare(&self) -> Option<Bare> {
        let broadcasts = |batch: &Batch| batch.block.broadcasts;
        self.bare
            .filter(|_| self.next == 0 && self.backlog.front().is_some_and(broadcasts))
    }

    /// Does with the first block what calling the stack with each of its frames comes to.
    fn pass_block(&mut self, bare: Bare) {
        let Some(Batch { block, arrival, .. }) = self.backlog.front() else {
            return;
        };
        if let Bare::Relay(flow) = bare {
            for (index, (offset, head)) in block.heads.iter().enumerate() {
                // As `Frame::relay` decides.
                let passes = matches!(head.kind, Kind::Broadcast { .. }) && head.ttl > 1;
                if passes && !self.relays.extend(index, *offset, head, flow) {
                    let mark = (flow, None);
                    self.relays
                        .add(&self.link, block, index, mark, arrival.buffer_len);
                }
            }
        }
        let frames = block.heads.len();
        self.next = frames;
        self.seq += frames as u64;
        if self.read_side.is_read() {
            if self.delivery.take_plain(0..frames) {
                self.link.set_staging(true);
            }
        } else {
            self.discarded += frames as u64;
        }
    }

    /// Passes over what is not for the stack, and says what comes next.
    fn next_frame(&mut self) -> Next {
        let Some(Batch { block, .. }) = self.backlog.front() else {
            return Next::None;
        };
        while let Some((_, head)) = block.heads.get(self.next) {
            let wanted = match head.kind {
                Kind::Request { id } if !self.cancelled.is_empty() => {
                    let at = self.cancelled.iter().position(|cancelled| *cancelled == id);
                    at.and_then(|at| self.cancelled.remove(at)).is_none()
                }
                kind => kind.is_payload(),
            };
            if wanted {
                return Next::Frame;
            }
            self.next += 1;
            // It may be the one that the stack was not ready for.
            self.unready = None;
        }
        Next::BlockEnds
    }

    fn end_block(&mut self) {
        self.next = 0;
        if let Some(Batch {
            mut block, cost, ..
        }) = self.backlog.pop_front()
        {
            self.backlog_cost -= cost;
            block.clear();
            self.spare = Some(block);
        }
        if self.backlog.is_empty() {
            self.cancelled.clear();
        }
        self.link.peer().tell_meter();
    }

    /// Waits for the stack to become ready for the next frame, or for that to take too long: then
    /// the frame has failed.
    fn poll_unready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timeout = self
            .unready
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(READY_TIMEOUT)));
        ready!(timeout.as_mut().poll(cx));
        self.unready = None;
        if let Some(head) = self.skip() {
            let error = Error::call(format!("the stack was not ready within {READY_TIMEOUT:?}"));
            self.lose_undecided(&head);
            self.finish(&head, Err(error));
        }
        Poll::Ready(())
    }

    fn skip(&mut self) -> Option<Head> {
        let (_, head) = *self.backlog.front()?.block.heads.get(self.next)?;
        self.next += 1;
        Some(head)
    }
}

enum Next {
    None,
    BlockEnds,
    Frame,
}

impl<S: PeerService> Drop for Work<S> {
    fn drop(&mut self) {
        self.lose_backlog();
        self.lose_replies();
        // What there is room for can still be read.
        self.deliver();
        self.link.set_staging(false);
    }
}
