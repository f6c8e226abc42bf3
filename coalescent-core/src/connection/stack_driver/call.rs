//! Calls the stack with frames, and settles the results of each call.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::task::coop::has_budget_remaining;
use tokio::time::Instant;

use super::calls::{PendingFrame, decided, held_buffer};
use super::holding::{Held, Hold};
use super::results::unpin;
use super::{Frames, StackDriver, State};
use crate::error::{Error, panic_text};
use crate::frame::call::{CallOutcome, CallScope};
use crate::frame::in_flight::{InFlight, ReadBatch, RelayDecision};
use crate::reason::DisconnectReason;
use crate::stack::PeerService;
use crate::stack::reply::Reply;

/// How many frames are called until the task's budget is looked at again, as long as no call of the
/// connection has had to wait: looking costs a tenth of a short stack.
const BUDGET_EVERY: usize = 16;

/// Where a called frame stands: its slot, and its index in the first batch.
#[derive(Clone, Copy, Debug)]
struct Place {
    slot: usize,
    index: usize,
}

/// A call that was polled once, and has results that need bookkeeping.
struct Called<E> {
    place: Place,
    /// The copy that the call was given instead of a slice of the batch.
    copy: Option<Arc<ReadBatch>>,
    outcome: CallOutcome,
    result: Poll<Result<Reply, E>>,
}

/// Whose code runs, to tell where a panic came from.
#[derive(Clone, Copy, Debug)]
enum Within {
    /// This crate's.
    Ourselves,
    /// The stack's `poll_ready`.
    Readiness,
    /// The stack's call of this frame.
    Call(Place),
}

impl<S: PeerService> StackDriver<S> {
    /// Calls the stack with frames of the first batch, and polls each call once, until there is no
    /// free slot or something else must be done first. Pending if the stack is not ready for the
    /// next frame.
    pub(super) fn call_stack(
        &mut self,
        scope: &CallScope<'_>,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<()> {
        // One guard for all frames, since a guard for each costs as much as a frame does.
        let mut within = Within::Ourselves;
        let called = catch_unwind(AssertUnwindSafe(|| {
            self.call_frames(scope, cx, now, &mut within)
        }));
        let panic = match called {
            Ok(called) => return called,
            Err(panic) => panic,
        };
        let outcome = scope.end();
        let Frames {
            in_flight, results, ..
        } = &mut self.frames;
        results.take_derived(in_flight, scope, outcome);
        match within {
            Within::Ourselves => resume_unwind(panic),
            Within::Readiness => {
                self.fail(DisconnectReason::Stack(panic_text(&*panic).to_owned()));
            }
            Within::Call(place) => {
                if let Some(call) = self.frames.calls.get(place.slot) {
                    call.clear();
                }
                self.done(place, outcome, Err(Error::panicked(&*panic)), now);
            }
        }
        Poll::Ready(())
    }

    fn call_frames(
        &mut self,
        scope: &CallScope<'_>,
        cx: &mut Context<'_>,
        now: Instant,
        within: &mut Within,
    ) -> Poll<()> {
        loop {
            let Some(called) = ready!(self.call_usual(scope, cx, within)) else {
                return Poll::Ready(());
            };
            let Frames {
                in_flight, results, ..
            } = &mut self.frames;
            results.take_derived(in_flight, scope, called.outcome);
            match called.result {
                Poll::Pending => self.pending(called.place, called.copy, called.outcome),
                Poll::Ready(result) => {
                    let result = result.map_err(Error::call);
                    self.done(called.place, called.outcome, result, now);
                }
            }
            let Frames {
                backlog, results, ..
            } = &mut self.frames;
            results.add_rewritten(scope);
            let stop = results.is_large() || backlog.has_withdrawn();
            if stop || self.has_failed() {
                return Poll::Ready(());
            }
        }
    }

    /// Calls the stack with frames whose results need no bookkeeping; see
    /// [`take_usual`](super::results::Results::take_usual). Returns the first call that does.
    ///
    /// Stops where the task has used up its budget of the runtime: a layer that sheds load would
    /// take that for a lack of room.
    fn call_usual(
        &mut self,
        scope: &CallScope<'_>,
        cx: &mut Context<'_>,
        within: &mut Within,
    ) -> Poll<Option<Called<S::Error>>> {
        let Self {
            base,
            state,
            frames,
            ..
        } = self;
        let Frames {
            in_flight,
            backlog,
            calls,
            results,
        } = frames;
        let withdrawn = backlog.has_withdrawn();
        let waits = calls.have_waited();
        let asking = in_flight.peer().requests().asking();
        let (Some((slot, call, holding)), Some((batch, next))) =
            (calls.free(asking), backlog.first())
        else {
            return Poll::Ready(None);
        };
        let buffer = held_buffer(&batch.read_batch);
        let slices = holding.takes_slices(buffer);
        let heads = batch.block.heads.get(*next..).unwrap_or_default();
        for (called, &(offset, head)) in heads.iter().enumerate() {
            if !head.kind.is_payload() {
                break;
            }
            let look = waits || called.is_multiple_of(BUDGET_EVERY);
            if look && !has_budget_remaining() {
                break;
            }
            let copies = !slices
                && match holding.hold(buffer, &head) {
                    Some(hold) => hold == Hold::Copy,
                    None => break,
                };
            if !ready!(poll_ready(&mut base.stack, state, cx, within)) {
                break;
            }
            let place = Place { slot, index: *next };
            *next += 1;
            base.seq += 1;
            let seq = base.seq;
            in_flight.open(slot, seq);
            let copy = copies.then(|| batch.copy_of(offset, &head, seq));
            let frame = batch.begin_frame(scope, (offset, &head), copy.as_ref(), slot, seq);
            call.seq = seq;
            *within = Within::Call(place);
            let result = call.start(base.stack.call(frame), cx);
            *within = Within::Ourselves;
            let outcome = scope.end();
            let at = (place.index, offset, &head);
            if !results.take_usual(in_flight, (slot, seq), at, outcome, &result) {
                return Poll::Ready(Some(Called {
                    place,
                    copy,
                    outcome,
                    result,
                }));
            }
            if outcome.whole() > 0 {
                results.add_rewritten(scope);
            }
            // Whether a request was withdrawn was looked up for the first frame alone.
            if withdrawn || results.is_large() {
                break;
            }
        }
        Poll::Ready(None)
    }

    /// Keeps a frame whose call has not ended.
    fn pending(&mut self, place: Place, copy: Option<Arc<ReadBatch>>, outcome: CallOutcome) {
        let Frames {
            in_flight,
            backlog,
            calls,
            results,
        } = &mut self.frames;
        let Place { slot, index } = place;
        results.note(in_flight, outcome, index);
        let (Some(batch), Some(call)) = (backlog.front(), calls.get(slot)) else {
            return;
        };
        let Some(&(offset, head)) = batch.block.heads.get(index) else {
            return;
        };
        let buffer_len = batch.read_batch.buffer_len;
        // A relay outside the handler has decided already, and its frame does not wait.
        let decision = decided(outcome).or_else(|| in_flight.decision(slot, call.seq));
        if outcome.is_held() {
            in_flight.note_held(slot, call.seq);
        }
        let frame = match copy {
            Some(copy) => PendingFrame {
                head,
                payload: copy.bytes.clone(),
                buffer_len: copy.buffer_len,
                held: Held::Copy(copy.buffer_len),
            },
            None => PendingFrame {
                head,
                payload: batch.block.payload(offset, &head),
                buffer_len,
                held: Held::Slice(held_buffer(&batch.read_batch)),
            },
        };
        calls.keep(slot, frame, decision.is_some());
        if let Some(decision) = decision {
            let relays = &mut results.relays;
            relays.add(in_flight, &batch.block, index, decision, buffer_len);
        }
    }

    /// Settles a call that ended when it was polled first.
    fn done(
        &mut self,
        place: Place,
        outcome: CallOutcome,
        result: Result<Reply, Error>,
        now: Instant,
    ) {
        let Frames {
            in_flight,
            backlog,
            calls,
            results,
        } = &mut self.frames;
        let Place { slot, index } = place;
        results.note(in_flight, outcome, index);
        let seq = calls.get(slot).map_or(0, |call| call.seq);
        let decision = close(in_flight, slot, seq, outcome);
        let is_undecided = decision.is_none();
        let derived = in_flight.derived(slot, seq);
        let Some(batch) = backlog.front() else {
            return;
        };
        let Some(&(_, head)) = batch.block.heads.get(index) else {
            return;
        };
        let buffer_len = batch.read_batch.buffer_len;
        if let Some(decision) = decision {
            let relays = &mut results.relays;
            relays.add(in_flight, &batch.block, index, decision, buffer_len);
        }
        let result = result.map(|reply| unpin(reply, &batch.block.bytes, buffer_len));
        let lost = is_undecided && result.as_ref().is_err_and(Error::is_panic);
        let lost = lost && self.frames.lose_undecided(&head);
        if is_undecided && !lost {
            self.frames.count_withheld(slot, seq, outcome);
        }
        self.frames.count_derived(derived, lost || !is_undecided);
        self.finish(&head, result, now);
    }

    /// Polls the calls that did not end at once, in the order in which their frames arrived.
    ///
    /// Ends early where the task has used up its budget of the runtime. Then the next round is left
    /// to others, and the one after that goes on there, so that a call that uses it up each time
    /// starves nobody.
    pub(super) fn poll_calls(&mut self, scope: &CallScope<'_>, cx: &mut Context<'_>, now: Instant) {
        let unfinished = self.frames.calls.unfinished();
        if unfinished == 0 {
            return;
        }
        let mut at = std::mem::take(&mut self.frames.calls.resume);
        for _ in 0..unfinished {
            if self.frames.results.is_large() {
                self.frames.calls.resume = at;
                break;
            }
            if !has_budget_remaining() {
                self.frames.calls.resume = at;
                yield_now(cx);
                break;
            }
            let calls = &self.frames.calls;
            let Some(slot) = calls.running_at(at).or_else(|| calls.running_at(0)) else {
                break;
            };
            if at >= calls.unfinished() {
                at = 0;
            }
            self.poll_call(slot, scope, cx, now);
            if self.frames.calls.running_at(at) == Some(slot) {
                at += 1;
            }
        }
        if self.frames.calls.unfinished() == 0 {
            self.frames.in_flight.peer().tell_meter();
        } else {
            self.calls_rest = !has_budget_remaining();
        }
    }

    fn poll_call(
        &mut self,
        slot: usize,
        scope: &CallScope<'_>,
        cx: &mut Context<'_>,
        now: Instant,
    ) {
        let Frames {
            in_flight,
            calls,
            results,
            ..
        } = &mut self.frames;
        let Some(call) = calls.running(slot) else {
            return;
        };
        let seq = call.seq;
        scope.go_on(seq);
        let polled = match catch_unwind(AssertUnwindSafe(|| call.poll_again(cx))) {
            Ok(polled) => polled.map_err(Error::call),
            Err(panic) => Poll::Ready(Err(Error::panicked(&*panic))),
        };
        let Poll::Ready(result) = polled else {
            let outcome = scope.end();
            results.take_derived(in_flight, scope, outcome);
            if !call.is_relayed()
                && let Some(decision) = decided(outcome).or_else(|| in_flight.decision(slot, seq))
            {
                call.relay_once(in_flight, &mut results.relays, decision);
            }
            results.note(in_flight, outcome, usize::MAX);
            return;
        };
        // A future that has panicked is dropped before the outcome is asked for, too.
        call.clear();
        let outcome = scope.end();
        results.take_derived(in_flight, scope, outcome);
        let Some((frame, relayed)) = calls.end(slot) else {
            return;
        };
        let decision = close(in_flight, slot, seq, outcome);
        let is_undecided = decision.is_none() && !relayed;
        let derived = in_flight.derived(slot, seq);
        if let Some(decision) = decision.filter(|_| !relayed) {
            frame.relay(in_flight, &mut results.relays, decision);
        }
        results.note(in_flight, outcome, usize::MAX);
        let result = result.map(|reply| unpin(reply, &frame.payload, frame.buffer_len));
        let lost = is_undecided && result.as_ref().is_err_and(Error::is_panic);
        let lost = lost && self.frames.lose_undecided(&frame.head);
        if is_undecided && !lost {
            self.frames.count_withheld(slot, seq, outcome);
        }
        self.frames.count_derived(derived, lost || !is_undecided);
        self.finish(&frame.head, result, now);
    }
}

/// Has the task polled again, after others and with a new budget.
#[cold]
pub(super) fn yield_now(cx: &mut Context<'_>) {
    // Wakes after the runtime has looked at its sockets, which a mere wake-up would delay.
    let _ = std::pin::pin!(tokio::task::yield_now()).poll(cx);
}

/// Polls the stack for readiness. Returns false if it has failed.
#[inline]
fn poll_ready<S: PeerService>(
    stack: &mut S,
    state: &mut State,
    cx: &mut Context<'_>,
    within: &mut Within,
) -> Poll<bool> {
    *within = Within::Readiness;
    let ready = stack.poll_ready(cx);
    *within = Within::Ourselves;
    match ready!(ready) {
        Ok(()) => state.stop_timer(),
        Err(error) => {
            *state = State::stack_failed(error);
            return Poll::Ready(false);
        }
    }
    Poll::Ready(true)
}

/// Returns the decision of a relay about a frame whose call has ended. Relays that decide later are
/// too late for the connection.
#[inline]
fn close(
    in_flight: &InFlight,
    slot: usize,
    seq: u64,
    outcome: CallOutcome,
) -> Option<RelayDecision> {
    if outcome.is_over() && in_flight.is_untouched(slot, seq) {
        in_flight.shut(slot, seq);
        return decided(outcome);
    }
    let elsewhere = in_flight.close(slot, seq);
    decided(outcome).or(elsewhere)
}
