//! The frames of one peer on their way through its stack.

mod budget;
mod results;

use budget::Budget;
use results::unpin;

use super::link::{Link, Mark, Ticket};
use super::relay::{Relays, unpinned};
use crate::error::{BoxError, Error, panic_text};
use crate::event::DisconnectReason;
use crate::frame::Frame;
use crate::outbox::Chunk;
use crate::registrar::BoxFuture;
use crate::reply::Reply;
use crate::stack::PeerService;
use crate::wire::{Block, Head, Kind};
use bytes::Bytes;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;

/// How long a stack may take to become ready for a frame. A timeout layer does not bound this.
pub const READY_TIMEOUT: Duration = Duration::from_secs(30);

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

/// What has been read and not been handled, and what is being handled.
pub(super) struct Work<S: PeerService> {
    link: Arc<Link>,
    stack: S,
    /// Whether the stack has said that it is ready, and has not been called since.
    ready: bool,
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
    replies: Vec<Chunk>,
    replied: usize,
    budget: Budget,
    /// Why the stack handles no more frames.
    failed: Option<DisconnectReason>,
    /// An exhausted block, kept for its allocation.
    spare: Option<Block>,
}

/// Frames that one read brought.
#[derive(Debug)]
struct Batch {
    block: Block,
    /// The size of the buffer that the block is a slice of.
    buffer: usize,
    number: u64,
    /// What it counts for.
    cost: usize,
}

/// A frame that is being handled.
#[derive(Clone, Debug)]
struct Current {
    head: Head,
    payload: Bytes,
    /// The size of the buffer that the payload is a slice of.
    pins: usize,
}

/// One frame's way through the stack. Its memory is used again for the next frame.
struct Call<F> {
    future: Pin<Box<Option<F>>>,
    seq: u64,
    /// The frame, where it is still being handled; what it is relayed from if that is decided late.
    frame: Option<Current>,
    relayed: bool,
}

impl<S: PeerService> Work<S> {
    pub(super) fn new(link: Arc<Link>, stack: S, hooks: Option<BoxFuture>) -> Self {
        let calls = (0..link.slots())
            .map(|_| Call {
                future: Box::pin(None),
                seq: 0,
                frame: None,
                relayed: false,
            })
            .collect();
        let budget = Budget::new(link.peer().node().config().error_budget);
        Self {
            link,
            stack,
            ready: false,
            unready: None,
            backlog: VecDeque::new(),
            backlog_cost: 0,
            next: 0,
            calls,
            in_flight: 0,
            seq: 0,
            cancelled: VecDeque::new(),
            hooks,
            relays: Relays::default(),
            replies: Vec::new(),
            replied: 0,
            budget,
            failed: None,
            spare: None,
        }
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
        self.spare = None;
        self.replies.shrink_to_fit();
        self.relays.fall_idle();
        if self.backlog.is_empty() {
            self.backlog = VecDeque::new();
        }
    }

    /// Adds frames that were read into the buffer `number`, of `buffer` bytes.
    ///
    /// However few bytes of that buffer are frames that wait, they keep all of it alive. So all of it
    /// is counted, once for consecutive batches: what stands between them may be control frames.
    pub(super) fn add(&mut self, block: Block, buffer: usize, number: u64) {
        let pinned = self
            .backlog
            .back()
            .is_some_and(|last| last.number == number);
        let pins = if pinned {
            0
        } else {
            buffer.max(block.bytes.len())
        };
        let heads = block.heads.capacity() * size_of::<(usize, Head)>();
        let cost = BATCH_COST + heads + pins;
        self.backlog_cost += cost;
        self.backlog.push_back(Batch {
            block,
            buffer,
            number,
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
            let of_this =
                |head: &Head| matches!(head.kind, Kind::Request { id: other } if other == id);
            if call
                .frame
                .as_ref()
                .is_some_and(|frame| of_this(&frame.head))
            {
                self.link.close(slot, call.seq);
                call.future.set(None);
                call.frame = None;
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
        !self.relays.is_empty() || !self.replies.is_empty()
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
        self.poll_calls(cx);
        let step = loop {
            if let Some(reason) = &self.failed {
                break Step::End(reason.clone());
            }
            if self.budget.exhausted() {
                break Step::End(DisconnectReason::TooManyErrors);
            }
            if self.in_flight == self.calls.len() {
                break Step::Busy;
            }
            match self.next_frame() {
                Next::None if self.in_flight == 0 => break Step::Idle,
                Next::None => break Step::Busy,
                Next::BlockEnds if self.has_results() => break Step::HandOn,
                Next::BlockEnds => self.end_block(),
                Next::Frame => match self.poll_ready(cx) {
                    Poll::Ready(Ok(true)) => self.call(cx),
                    Poll::Ready(Ok(false)) => {}
                    Poll::Ready(Err(reason)) => self.failed = Some(reason),
                    Poll::Pending => break Step::Busy,
                },
            }
        };
        // Also before the end: what came of the frames so far is not lost with this one.
        if self.has_results() {
            Step::HandOn
        } else {
            step
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

    /// Makes the stack ready for the next frame. `false`: it took too long, and the frame has failed.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, DisconnectReason>> {
        if self.ready {
            return Poll::Ready(Ok(true));
        }
        let stack = &mut self.stack;
        match catch_unwind(AssertUnwindSafe(|| stack.poll_ready(cx))) {
            Ok(Poll::Ready(Ok(()))) => {
                self.ready = true;
                self.unready = None;
                Poll::Ready(Ok(true))
            }
            Ok(Poll::Ready(Err(error))) => {
                let error: BoxError = error.into();
                Poll::Ready(Err(DisconnectReason::Stack(error.to_string())))
            }
            Ok(Poll::Pending) => {
                let timeout = self
                    .unready
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(READY_TIMEOUT)));
                if timeout.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.unready = None;
                if let Some(head) = self.skip() {
                    let error =
                        Error::call(format!("the stack was not ready within {READY_TIMEOUT:?}"));
                    self.finish(&head, Err(error));
                }
                Poll::Ready(Ok(false))
            }
            Err(panic) => Poll::Ready(Err(DisconnectReason::Stack(panic_text(&*panic).to_owned()))),
        }
    }

    fn skip(&mut self) -> Option<Head> {
        let (_, head) = *self.backlog.front()?.block.heads.get(self.next)?;
        self.next += 1;
        Some(head)
    }

    /// Calls the stack with the next frame, and looks once whether it is done.
    fn call(&mut self, cx: &mut Context<'_>) {
        let Some(batch) = self.backlog.front() else {
            return;
        };
        let Some(&(offset, head)) = batch.block.heads.get(self.next) else {
            return;
        };
        let Some(slot) = self.calls.iter().position(|call| call.frame.is_none()) else {
            return;
        };
        let index = self.next;
        self.next += 1;
        self.seq += 1;
        let seq = self.seq;
        self.ready = false;
        self.link.open(slot, seq);
        let ticket = Ticket {
            slot,
            seq,
            block: batch.number,
            pins: batch.buffer,
        };
        let payload = batch.block.payload(offset, &head);
        let frame = Frame::new(Arc::clone(&self.link), head.kind, head.ttl, payload, ticket);

        let Some(call) = self.calls.get_mut(slot) else {
            return;
        };
        let stack = &mut self.stack;
        let polled = catch_unwind(AssertUnwindSafe(|| {
            call.future.set(Some(stack.call(frame)));
            call.poll(cx)
        }));
        let done = match polled {
            Ok(Poll::Pending) => {
                call.seq = seq;
                call.frame = Some(Current {
                    head,
                    payload: batch.block.payload(offset, &head),
                    pins: batch.buffer,
                });
                // A relay outside the handler has decided already, and its frame does not wait.
                call.relayed = false;
                if let Some(mark) = self.link.marked(slot, seq) {
                    call.relayed = true;
                    self.relays
                        .add(&self.link, &batch.block, index, mark, batch.buffer);
                }
                self.in_flight += 1;
                return;
            }
            Ok(Poll::Ready(Ok(reply))) => Ok(unpin(reply, &batch.block.bytes, batch.buffer)),
            Ok(Poll::Ready(Err(error))) => Err(Error::call(error)),
            Err(panic) => Err(Error::panicked(&*panic)),
        };
        call.future.set(None);
        if let Some(mark) = self.link.close(slot, seq) {
            self.relays
                .add(&self.link, &batch.block, index, mark, batch.buffer);
        }
        self.finish(&head, done);
    }

    /// Looks after the calls that were not done at once.
    fn poll_calls(&mut self, cx: &mut Context<'_>) {
        if self.in_flight == 0 {
            return;
        }
        for slot in 0..self.calls.len() {
            let Some(call) = self.calls.get_mut(slot) else {
                continue;
            };
            let Some(current) = call.frame.clone() else {
                continue;
            };
            let done = match catch_unwind(AssertUnwindSafe(|| call.poll(cx))) {
                Ok(Poll::Pending) => {
                    if !call.relayed
                        && let Some(mark) = self.link.marked(slot, call.seq)
                    {
                        call.relayed = true;
                        self.relay_single(&current, mark);
                    }
                    continue;
                }
                Ok(Poll::Ready(Ok(reply))) => Ok(unpin(reply, &current.payload, current.pins)),
                Ok(Poll::Ready(Err(error))) => Err(Error::call(error)),
                Err(panic) => Err(Error::panicked(&*panic)),
            };
            call.future.set(None);
            call.frame = None;
            let relayed = call.relayed;
            let seq = call.seq;
            self.in_flight -= 1;
            if let Some(mark) = self.link.close(slot, seq).filter(|_| !relayed) {
                self.relay_single(&current, mark);
            }
            self.finish(&current.head, done);
        }
        if self.in_flight == 0 {
            self.link.peer().tell_meter();
        }
    }

    fn relay_single(&mut self, frame: &Current, (flow, rewritten): Mark) {
        let payload = rewritten.unwrap_or_else(|| frame.payload.clone());
        let payload = unpinned(payload, &frame.payload, frame.pins);
        self.relays
            .add_single(&self.link, &frame.head, payload, flow);
    }
}

enum Next {
    None,
    BlockEnds,
    Frame,
}

impl<S: PeerService> Drop for Work<S> {
    fn drop(&mut self) {
        self.lose_replies();
    }
}

impl<F, E> Call<F>
where
    F: Future<Output = Result<Reply, E>>,
    E: Into<BoxError>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reply, E>> {
        match self.future.as_mut().as_pin_mut() {
            Some(future) => future.poll(cx),
            None => Poll::Ready(Ok(Reply::None)),
        }
    }
}
