//! Drives the stack of one connection: calls it with each frame that was read, and hands the
//! results on.
//!
//! ```text
//! reader ─▶ backlog ─▶ calls ─▶ results ─┬─▶ relays: the other peers' outboxes
//!           (waits)    (run)             ├─▶ delivery: the read side
//!                                        └─▶ replies: this peer's outbox
//! ```
//!
//! [`StackDriver::poll`] moves frames from the backlog through the calls, up to the end of a batch
//! that has results. [`StackDriver::hand_on`] then takes the results as far as there is room, and
//! [`StackDriver::wait_for_room`] waits for the rest. Replies alone are handed on by the next call
//! of `hand_on`.

mod ahead;
mod backlog;
mod call;
mod calls;
mod delivery;
mod holding;
mod idle;
mod replies;
mod results;
mod shortcut;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

pub use ahead::requests_ahead;
use ahead::used_ahead;
pub use backlog::BATCH_COST;
use backlog::{Backlog, Next};
use call::yield_now;
use calls::Calls;
pub use holding::CALL_COST;
use idle::Base;
pub(super) use idle::IdleDriver;
use results::{Results, report};
use shortcut::Shortcut;
use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, Sleep};

use crate::error::{self, BoxError, Error};
use crate::frame::call::{CallOutcome, CallScope};
use crate::frame::in_flight::InFlight;
use crate::frame::{self, passes};
use crate::node::hooks::BoxFuture;
use crate::node::peer::HandedFrame;
use crate::node::peer::handling::Handling;
use crate::reason::{DisconnectReason, DropReason};
use crate::stack::PeerService;
use crate::stack::reply::Reply;
use crate::wire::{Block, Head, Kind};

/// How long a stack may take to become ready for a frame, while no call for the same peer is
/// unfinished. A timeout layer does not bound this.
pub const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// The weight of one offence in the error budget.
const OFFENCE: u32 = 1;

/// The driver of a connection that is not idle.
pub(super) struct StackDriver<S: PeerService> {
    // Dropped first: calls end before their stack does.
    frames: Frames<S::Future>,
    base: Base<S>,
    state: State,
    shortcut: Option<Shortcut>,
    /// Whether the next round is left to frames that wait and to reading, since unfinished calls
    /// used up the task's budget in the last one.
    calls_rest: bool,
    /// Whether replies found no room when results were handed on last.
    replies_wait: bool,
}

/// The states of a stack driver.
enum State {
    /// The connect hooks run. No frame is handled before they are done.
    Hooks(BoxFuture),
    /// The stack is called with one frame after another.
    Calling,
    /// The stack has no capacity for the next frame. The frame fails if the timer fires first.
    Unready(Pin<Box<Sleep>>),
    /// The stack failed, or the peer used up its error budget. No frame is handled any more, and
    /// the connection ends for this reason once the results so far are handed on.
    Failed(DisconnectReason),
}

/// The frames of a connection, from being read to being handed on.
///
/// Dropping it counts the frames that are lost.
struct Frames<F> {
    in_flight: Arc<InFlight>,
    /// The frames that wait.
    backlog: Backlog,
    /// The frames that are being handled.
    calls: Calls<F>,
    /// The results that are not handed on yet.
    results: Results,
}

/// What [`StackDriver::hand_on`] found room for.
#[derive(Debug)]
pub(super) enum HandedOn {
    All,
    /// The replies wait for room in the peer's outbox. Reading goes on meanwhile, or both sides
    /// could wait for each other.
    AllButReplies,
    Some,
}

/// The result of polling the driver.
#[derive(Debug)]
pub(super) enum Step {
    /// There are results to hand on before anything else is done.
    HandOn,
    /// All frames that were read are handled.
    Idle,
    /// A handler, a hook or the stack's readiness is waited for.
    Busy,
    /// The connection must end.
    End(DisconnectReason),
}

impl State {
    #[cold]
    fn stack_failed(error: impl Into<BoxError>) -> Self {
        let error: BoxError = error.into();
        Self::Failed(DisconnectReason::Stack(error::report(&*error).to_string()))
    }

    /// Stops the timer of the frame that the stack was not ready for, if there is one.
    #[inline]
    fn stop_timer(&mut self) {
        if matches!(self, Self::Unready(_)) {
            *self = Self::Calling;
        }
    }
}

impl<S: PeerService> StackDriver<S> {
    /// Runs `hooks` before the first frame.
    pub(super) fn run_hooks(&mut self, hooks: BoxFuture) {
        self.state = State::Hooks(hooks);
    }

    /// Releases memory that is kept for later frames.
    pub(super) fn fall_idle(&mut self) {
        frame::fall_idle();
        self.frames.backlog.fall_idle();
        self.frames.results.fall_idle();
    }

    /// Returns an empty block to decode into.
    pub(super) fn take_block(&mut self) -> Block {
        self.frames.backlog.take_block()
    }

    /// Takes an unused block back.
    pub(super) fn put_block(&mut self, block: Block) {
        self.frames.backlog.put_block(block);
    }

    /// Adds the frames of `block`, read at `at` into `buffer`, which is given by its size and its
    /// number. `asks` says whether those that are for the stack are all requests.
    pub(super) fn add(&mut self, block: Block, asks: bool, buffer: (usize, u64), at: Instant) {
        let frames = &mut self.frames;
        frames
            .backlog
            .add(&frames.in_flight, block, asks, buffer, at);
    }

    /// Adds a frame that was handed in at `at`.
    pub(super) fn add_handed(&mut self, handed: HandedFrame, at: Instant) {
        let frames = &mut self.frames;
        frames.backlog.add_handed(&frames.in_flight, handed, at);
    }

    /// Returns how much of `read_ahead` is used; see [`used_ahead`].
    #[inline]
    pub(super) fn ahead(&mut self, read_ahead: usize) -> usize {
        let Frames {
            backlog,
            calls,
            results,
            ..
        } = &mut self.frames;
        let all = backlog.cost() + calls.held();
        if all < read_ahead {
            return all;
        }
        used_ahead(backlog, calls, !results.refer_to_block(), read_ahead)
    }

    /// Withdraws a request: drops its call, or passes over its frame.
    ///
    /// `in_hand` says whether it may be among frames that are about to be added.
    pub(super) fn cancel(&mut self, id: u32, in_hand: bool) {
        let frames = &mut self.frames;
        let cancelled = frames.calls.cancel(id, &frames.in_flight);
        if !cancelled && (in_hand || !frames.backlog.is_empty()) {
            frames.backlog.withdraw(id);
        }
    }

    /// Handles frames until there are results to hand on, or nothing can be done.
    ///
    /// Call it in a loop with [`hand_on`](Self::hand_on).
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Step {
        let _handling = Handling::of(self.frames.in_flight.peer());
        if self.poll_hooks(cx).is_pending() {
            return Step::Busy;
        }
        if self.is_idle() {
            return Step::Idle;
        }
        let mut staged = self.frames.results.delivery.take_whole();
        let scope = CallScope::open(self.frames.in_flight.place(), &mut staged);
        if std::mem::take(&mut self.calls_rest) {
            yield_now(cx);
        } else {
            self.poll_calls(&scope, cx, now);
        }
        let step = self.poll_backlog(&scope, cx, now);
        drop(scope);
        self.frames.results.delivery.put_whole(staged);
        self.frames
            .results
            .count_discarded(self.frames.in_flight.peer());
        // Also before the end: the results so far must not be lost with the connection.
        if self.frames.results.has_any() {
            Step::HandOn
        } else {
            step
        }
    }

    fn poll_hooks(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let State::Hooks(hooks) = &mut self.state else {
            return Poll::Ready(());
        };
        match catch_unwind(AssertUnwindSafe(|| hooks.as_mut().poll(cx))) {
            Ok(done) => ready!(done),
            Err(panic) => report(self.frames.in_flight.peer(), Error::panicked(&*panic)),
        }
        self.state = State::Calling;
        Poll::Ready(())
    }

    /// Returns whether there is nothing to do, which is so nearly each time before a read.
    fn is_idle(&self) -> bool {
        self.frames.calls.unfinished() == 0
            && self.frames.backlog.is_empty()
            && !self.frames.results.has_any()
            && !self.has_failed()
    }

    #[inline]
    fn has_failed(&self) -> bool {
        matches!(self.state, State::Failed(_))
    }

    /// Ends the handling of frames. The first reason stands.
    fn fail(&mut self, reason: DisconnectReason) {
        if !self.has_failed() {
            self.state = State::Failed(reason);
        }
    }

    /// Handles one waiting frame after another, up to the end of a batch that has results.
    fn poll_backlog(&mut self, scope: &CallScope<'_>, cx: &mut Context<'_>, now: Instant) -> Step {
        loop {
            if let State::Failed(reason) = &self.state {
                return Step::End(reason.clone());
            }
            let requests = self.frames.in_flight.peer().requests();
            if self.frames.calls.is_full(requests.asking()) {
                return Step::Busy;
            }
            if self.frames.results.is_large() {
                return Step::HandOn;
            }
            match self.next() {
                Next::Nothing if self.frames.calls.unfinished() == 0 => return Step::Idle,
                Next::Nothing => return Step::Busy,
                // The results are slices of this batch.
                Next::BlockEnd if self.frames.results.refer_to_block() => return Step::HandOn,
                Next::BlockEnd => {
                    self.end_block();
                    if self.frames.results.has_any() {
                        return Step::HandOn;
                    }
                }
                Next::Frame => match self.shortcut() {
                    Some(shortcut) => self.take_shortcut(shortcut),
                    None if !self.may_call() => return Step::Busy,
                    None if !has_budget_remaining() => {
                        yield_now(cx);
                        return Step::Busy;
                    }
                    None if self.call_stack(scope, cx, now).is_ready() => self.state.stop_timer(),
                    None if self.poll_unready(cx, now).is_pending() => return Step::Busy,
                    None => {}
                },
            }
        }
    }

    /// Returns whether the next frame may be called beside the calls that are unfinished.
    fn may_call(&self) -> bool {
        let Frames { backlog, calls, .. } = &self.frames;
        calls.unfinished() == 0
            || backlog
                .front_frame()
                .is_some_and(|(batch, head)| calls.hold(&batch.read_batch, head).is_some())
    }

    /// Looks at the front of the backlog.
    fn next(&mut self) -> Next {
        let before = self.frames.backlog.position();
        let next = self.frames.backlog.next();
        if self.frames.backlog.position() != before {
            // The frame that the stack was not ready for may have been passed over.
            self.state.stop_timer();
        }
        next
    }

    fn end_block(&mut self) {
        self.frames.backlog.end_block();
        self.frames.in_flight.peer().tell_meter();
    }

    /// Waits until the stack may be ready for the next frame. Fails the frame if that takes longer
    /// than [`READY_TIMEOUT`], not counting the time of unfinished calls, which may hold the very
    /// capacity that is waited for.
    fn poll_unready(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        if self.frames.calls.unfinished() > 0 {
            return Poll::Pending;
        }
        if !matches!(self.state, State::Unready(_)) {
            self.state = State::Unready(Box::pin(tokio::time::sleep(READY_TIMEOUT)));
        }
        if let State::Unready(timer) = &mut self.state {
            ready!(timer.as_mut().poll(cx));
        }
        self.state = State::Calling;
        if let Some(head) = self.frames.backlog.skip() {
            let error = Error::call(format!("the stack was not ready within {READY_TIMEOUT:?}"));
            self.frames.lose_undecided(&head);
            self.finish(&head, Err(error), now);
        }
        Poll::Ready(())
    }

    /// Turns the result of a call into a reply or an error.
    #[inline]
    fn finish(&mut self, head: &Head, result: Result<Reply, Error>, now: Instant) {
        // Inlined, since it is all that nearly every frame needs.
        let is_request = matches!(head.kind, Kind::Request { .. });
        if is_request || !matches!(result, Ok(Reply::None)) {
            self.finish_slowly(head, result, now);
        }
    }

    fn finish_slowly(&mut self, head: &Head, result: Result<Reply, Error>, now: Instant) {
        let Frames {
            in_flight, results, ..
        } = &mut self.frames;
        let peer = in_flight.peer();
        if results.finish(peer, head, result) && peer.spend(OFFENCE, now) {
            self.fail(DisconnectReason::TooManyErrors);
        }
    }

    /// Hands the results on, as far as there is room.
    pub(super) fn hand_on(&mut self, cx: &mut Context<'_>) -> HandedOn {
        let Frames {
            in_flight,
            backlog,
            results,
            ..
        } = &mut self.frames;
        results.push_relays(in_flight, backlog);
        results.deliver(in_flight, backlog);
        let replies = results.poll_replies(in_flight.peer(), self.base.id, cx);
        self.replies_wait = replies.is_pending();
        if results.refer_to_block() {
            HandedOn::Some
        } else if self.replies_wait {
            HandedOn::AllButReplies
        } else {
            HandedOn::All
        }
    }

    /// Returns whether replies wait for room. No frame is handled until they are handed on.
    #[inline]
    pub(super) fn replies_wait(&self) -> bool {
        self.replies_wait
    }

    /// Waits for room for the results that [`hand_on`](Self::hand_on) had no room for. Relayed
    /// frames are dropped meanwhile where their flow says so.
    ///
    /// # Cancel safety
    ///
    /// Safe: the next call continues where this one stopped.
    pub(super) async fn wait_for_room(&mut self) {
        self.frames
            .results
            .wait_for_room(&self.frames.in_flight)
            .await;
    }
}

impl<F> Frames<F> {
    /// Returns whether frames of this connection are relayed, as far as is known.
    fn relays_frames(&self) -> bool {
        self.in_flight.peer().node().hooks().relays || self.results.relays.is_used()
    }

    /// Counts a frame as lost if its handling failed before a relay has decided about it. Returns
    /// whether it is.
    #[cold]
    fn lose_undecided(&self, head: &Head) -> bool {
        let lost = passes(head.kind, head.ttl, false) && self.relays_frames();
        if lost {
            let peer = self.in_flight.peer();
            peer.node().lost(peer, 1);
        }
        lost
    }

    /// Counts a frame that no relay passes on as withheld, if one was waiting for a verdict.
    #[inline]
    fn count_withheld(&self, slot: usize, seq: u64, outcome: CallOutcome) {
        if outcome.is_held() || self.in_flight.is_held(slot, seq) {
            self.in_flight.peer().counters().add_withheld(1);
        }
    }

    /// Counts the frames derived from a frame, about which relays have decided, as received. The
    /// first one takes the place of the frame itself, unless that is `kept`, since it is relayed or
    /// lost.
    fn count_derived(&self, derived: u64, kept: bool) {
        let more = if kept {
            derived
        } else {
            derived.saturating_sub(1)
        };
        if more > 0 {
            self.in_flight.peer().counters().add_received(more);
        }
    }

    /// Hands on what relays have decided, as far as there is room, and counts the frames that were
    /// not handled.
    fn lose_backlog(&mut self) {
        let Self {
            in_flight,
            backlog,
            calls,
            results,
        } = self;
        let undecided = calls.lose(in_flight, &mut results.relays);
        results.push_relays(in_flight, backlog);
        let mut unhandled = backlog.unhandled();
        let relays_frames = self.relays_frames();
        let peer = self.in_flight.peer();
        if relays_frames {
            peer.node().lost(peer, unhandled.broadcasts + undecided);
        } else {
            unhandled.others += unhandled.broadcasts;
        }
        peer.dropped(DropReason::Disconnected, unhandled.others);
    }
}

impl<F> Drop for Frames<F> {
    fn drop(&mut self) {
        self.lose_backlog();
        self.results.lose_replies(self.in_flight.peer());
        // What the read side has room for can still be read.
        self.results.deliver(&self.in_flight, &mut self.backlog);
        self.in_flight.set_staging(false);
    }
}
