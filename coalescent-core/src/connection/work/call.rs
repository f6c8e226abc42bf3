//! One frame's way through the stack.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::results::unpin;
use super::{OWED_MAX, Work};
use crate::error::{BoxError, Error, panic_text};
use crate::frame::Frame;
use crate::frame::call::{CallOutcome, CallScope};
use crate::frame::in_flight::RelayDecision;
use crate::node::outgoing::copy_if_small;
use crate::reason::DisconnectReason;
use crate::stack::PeerService;
use crate::stack::reply::Reply;
use crate::wire::{Head, Kind};

/// A place for one frame that is being handled. Its memory is used again for the next frame.
pub(super) struct Call<F> {
    future: Pin<Box<Option<F>>>,
    seq: u64,
    /// The frame, where it is still being handled; what it is relayed from if that is decided
    /// late.
    frame: Option<Current>,
    relayed: bool,
}

/// A frame, by its place among the calls and in the first block, with what became of it, and the
/// result of its call.
type Unusual<E> = (usize, usize, CallOutcome, Poll<Result<Reply, E>>);

/// How far calling got.
pub(super) enum Called {
    /// What comes next is for others to decide.
    More,
    /// The stack is not ready.
    Unready,
    /// The stack has failed.
    Failed(DisconnectReason),
}

/// Whose code runs.
#[derive(Clone, Copy, Debug)]
enum Within {
    Ourselves,
    Readiness,
    /// The call of the frame `index` of the first batch.
    Call {
        slot: usize,
        index: usize,
    },
}

/// A frame that is being handled.
#[derive(Clone, Debug)]
struct Current {
    head: Head,
    payload: Bytes,
    /// The size of the buffer that the payload is a slice of.
    buffer_len: usize,
}

impl<F> Default for Call<F> {
    fn default() -> Self {
        Self {
            future: Box::pin(None),
            seq: 0,
            frame: None,
            relayed: false,
        }
    }
}

impl<F> Call<F> {
    /// The head of the frame that is being handled, and its number.
    pub(super) fn handles(&self) -> Option<(&Head, u64)> {
        let frame = self.frame.as_ref()?;
        Some((&frame.head, self.seq))
    }

    /// Drops what is being handled.
    pub(super) fn drop_frame(&mut self) {
        self.future.set(None);
        self.frame = None;
    }
}

impl<F, E> Call<F>
where
    F: Future<Output = Result<Reply, E>>,
    E: Into<BoxError>,
{
    #[inline]
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reply, E>> {
        match self.future.as_mut().as_pin_mut() {
            Some(future) => future.poll(cx),
            None => Poll::Ready(Ok(Reply::None)),
        }
    }
}

impl<S: PeerService> Work<S> {
    /// Calls the stack with the frames of the first batch, one after another from the next on, and
    /// looks once whether each is done, as long as there are places for them and nothing else is to
    /// be done.
    pub(super) fn call_all(&mut self, session: &CallScope<'_>, cx: &mut Context<'_>) -> Called {
        // What a panic came from. One net for all frames: to spread one for each costs as much as a
        // frame does.
        let mut within = Within::Ourselves;
        let called = catch_unwind(AssertUnwindSafe(|| {
            self.call_each(session, cx, &mut within)
        }));
        let panic = match called {
            Ok(called) => return called,
            Err(panic) => panic,
        };
        let outcome = session.end();
        match within {
            Within::Ourselves => resume_unwind(panic),
            Within::Readiness => {
                Called::Failed(DisconnectReason::Stack(panic_text(&*panic).to_owned()))
            }
            Within::Call { slot, index } => {
                if let Some(call) = self.calls.get_mut(slot) {
                    call.future.set(None);
                }
                self.done(slot, index, outcome, Err(Error::panicked(&*panic)));
                Called::More
            }
        }
    }

    fn call_each(
        &mut self,
        session: &CallScope<'_>,
        cx: &mut Context<'_>,
        within: &mut Within,
    ) -> Called {
        loop {
            let (slot, index, outcome, polled) = match self.call_usual(session, cx, within) {
                Ok(called) => return called,
                Err(unusual) => unusual,
            };
            match polled {
                Poll::Pending => self.pending(slot, index, outcome),
                Poll::Ready(result) => self.done(slot, index, outcome, result.map_err(Error::call)),
            }
            self.unpacked += session.take_rewritten();
            if self.failed.is_some()
                || self.budget.exhausted()
                || self.owes_much()
                || !self.cancelled.is_empty()
            {
                return Called::More;
            }
        }
    }

    /// Calls the stack with frames that come to nothing but a delivery, a small reply to a request,
    /// or to being relayed with the frame before. Returns the first that does not.
    fn call_usual(
        &mut self,
        session: &CallScope<'_>,
        cx: &mut Context<'_>,
        within: &mut Within,
    ) -> Result<Called, Unusual<S::Error>> {
        let Some(slot) = self.calls.iter().position(|call| call.frame.is_none()) else {
            return Ok(Called::More);
        };
        let (Some(batch), Some(call)) = (self.backlog.front(), self.calls.get_mut(slot)) else {
            return Ok(Called::More);
        };
        let Some(stack) = &mut self.stack else {
            return Ok(Called::More);
        };
        let heads = batch.block.heads.get(self.next..).unwrap_or_default();
        for &(offset, head) in heads {
            let index = self.next;
            // Whether a request was withdrawn was asked of the first alone.
            if !head.kind.is_payload() {
                return Ok(Called::More);
            }
            *within = Within::Readiness;
            let ready = stack.poll_ready(cx);
            *within = Within::Ourselves;
            match ready {
                Poll::Ready(Ok(())) => {
                    if self.unready.is_some() {
                        self.unready = None;
                    }
                }
                Poll::Ready(Err(error)) => {
                    let error: BoxError = error.into();
                    return Ok(Called::Failed(DisconnectReason::Stack(error.to_string())));
                }
                Poll::Pending => return Ok(Called::Unready),
            }
            self.next = index + 1;
            self.seq += 1;
            let seq = self.seq;
            self.link.open(slot, seq);
            let payload = batch.block.payload_range(offset, &head);
            let arrival = session.begin(seq, true, &batch.arrival);
            let frame = Frame::new(arrival, &head, payload, slot, seq);
            call.seq = seq;
            *within = Within::Call { slot, index };
            call.future.set(Some(stack.call(frame)));
            let polled = call.poll(cx);
            if polled.is_ready() {
                // Dropped before the outcome is asked for: a future may hold the frame to its end.
                call.future.set(None);
            }
            *within = Within::Ourselves;
            let outcome = session.end();
            let usual = outcome.is_over()
                && self.link.is_untouched(slot, seq)
                && match (&polled, head.kind, outcome.flow()) {
                    (Poll::Ready(Ok(Reply::Payload(payload))), Kind::Request { id }, None) => {
                        self.replies.add_small(self.link.peer(), id, payload)
                    }
                    (_, Kind::Request { .. }, _) => false,
                    (Poll::Ready(Ok(Reply::None)), _, None) => true,
                    (Poll::Ready(Ok(Reply::None)), _, Some(flow)) => {
                        self.relays.extend(index, offset, &head, flow)
                    }
                    _ => false,
                };
            if !usual {
                return Err((slot, index, outcome, polled));
            }
            self.link.shut(slot, seq);
            self.discarded += u64::from(outcome.discarded());
            if self.delivery.note(outcome, index) {
                self.link.set_staging(true);
            }
            if outcome.whole() > 0 {
                self.unpacked += session.take_rewritten();
            }
            if !self.cancelled.is_empty() || self.replies.bytes() + self.unpacked > OWED_MAX {
                break;
            }
        }
        Ok(Called::More)
    }

    /// Takes note of a frame that is still being handled.
    fn pending(&mut self, slot: usize, index: usize, outcome: CallOutcome) {
        self.note(outcome, index);
        let (Some(batch), Some(call)) = (self.backlog.front(), self.calls.get_mut(slot)) else {
            return;
        };
        let Some(&(offset, head)) = batch.block.heads.get(index) else {
            return;
        };
        call.frame = Some(Current {
            head,
            payload: batch.block.payload(offset, &head),
            buffer_len: batch.arrival.buffer_len,
        });
        // A relay outside the handler has decided already, and its frame does not wait.
        let mark = mark(outcome).or_else(|| self.link.marked(slot, call.seq));
        call.relayed = mark.is_some();
        if let Some(mark) = mark {
            let buffer_len = batch.arrival.buffer_len;
            self.relays
                .add(&self.link, &batch.block, index, mark, buffer_len);
        }
        self.in_flight += 1;
    }

    /// Takes note of what a frame came to.
    fn done(
        &mut self,
        slot: usize,
        index: usize,
        outcome: CallOutcome,
        result: Result<Reply, Error>,
    ) {
        self.note(outcome, index);
        let seq = self.calls.get(slot).map_or(0, |call| call.seq);
        let mark = self.close(slot, seq, outcome);
        let Some(batch) = self.backlog.front() else {
            return;
        };
        let Some(&(_, head)) = batch.block.heads.get(index) else {
            return;
        };
        let buffer_len = batch.arrival.buffer_len;
        match mark {
            Some(mark) => self
                .relays
                .add(&self.link, &batch.block, index, mark, buffer_len),
            None if result.as_ref().is_err_and(Error::is_panic) => self.lose_undecided(&head),
            None => {}
        }
        let result = result.map(|reply| unpin(reply, &batch.block.bytes, buffer_len));
        self.finish(&head, result);
    }

    /// Looks after the calls that were not done at once.
    pub(super) fn poll_calls(&mut self, session: &CallScope<'_>, cx: &mut Context<'_>) {
        if self.in_flight == 0 {
            return;
        }
        for slot in 0..self.calls.len() {
            let Some(call) = self.calls.get_mut(slot) else {
                continue;
            };
            if call.frame.is_none() {
                continue;
            }
            let seq = call.seq;
            session.go_on(seq);
            let polled = catch_unwind(AssertUnwindSafe(|| {
                let polled = call.poll(cx);
                if polled.is_ready() {
                    call.future.set(None);
                }
                polled
            }));
            if matches!(polled, Ok(Poll::Pending)) {
                let outcome = session.end();
                if !call.relayed
                    && let Some(mark) = mark(outcome).or_else(|| self.link.marked(slot, seq))
                {
                    call.relayed = true;
                    if let Some(current) = &call.frame {
                        relay_single(&mut self.relays, &self.link, current, mark);
                    }
                }
                self.note(outcome, usize::MAX);
                continue;
            }
            call.future.set(None);
            let outcome = session.end();
            let relayed = call.relayed;
            let Some(current) = call.frame.take() else {
                continue;
            };
            self.in_flight -= 1;
            match self.close(slot, seq, outcome) {
                _ if relayed => {}
                Some(mark) => relay_single(&mut self.relays, &self.link, &current, mark),
                None if polled.is_err() => self.lose_undecided(&current.head),
                None => {}
            }
            self.note(outcome, usize::MAX);
            let done = match polled {
                Ok(Poll::Pending) => continue,
                Ok(Poll::Ready(Ok(reply))) => {
                    Ok(unpin(reply, &current.payload, current.buffer_len))
                }
                Ok(Poll::Ready(Err(error))) => Err(Error::call(error)),
                Err(panic) => Err(Error::panicked(&*panic)),
            };
            self.finish(&current.head, done);
        }
        if self.in_flight == 0 {
            self.link.peer().tell_meter();
        }
    }

    /// Drops the calls that have not ended. Returns how many frames there were that would still
    /// have been relayed: nobody has decided about them, and relays wait for the end of a call.
    pub(super) fn lose_calls(&mut self) -> u64 {
        let mut undecided = 0;
        for slot in 0..self.calls.len() {
            let Some(call) = self.calls.get_mut(slot) else {
                continue;
            };
            call.future.set(None);
            let Some(current) = call.frame.take() else {
                continue;
            };
            if call.relayed {
                self.link.close(slot, call.seq);
                continue;
            }
            match self.link.close_for_ever(slot, call.seq) {
                Some(mark) => relay_single(&mut self.relays, &self.link, &current, mark),
                None => undecided += u64::from(passes(&current.head)),
            }
        }
        self.in_flight = 0;
        undecided
    }

    /// Counts a frame whose call came to nothing before any relay has decided about it.
    #[cold]
    pub(super) fn lose_undecided(&self, head: &Head) {
        let peer = self.link.peer();
        if passes(head) && self.relays_frames() {
            peer.node().lost(peer, 1);
        }
    }

    /// What was decided about a frame whose call has ended; from now on, deciding is too late.
    #[inline]
    fn close(&self, slot: usize, seq: u64, outcome: CallOutcome) -> Option<RelayDecision> {
        if outcome.is_over() && self.link.is_untouched(slot, seq) {
            self.link.shut(slot, seq);
            return mark(outcome);
        }
        let elsewhere = self.link.close(slot, seq);
        mark(outcome).or(elsewhere)
    }

    /// Notes what the inbox did with a frame: the one with the head `index` in the first block, if
    /// it stands there.
    #[inline]
    fn note(&mut self, outcome: CallOutcome, index: usize) {
        self.discarded += u64::from(outcome.discarded());
        if self.delivery.note(outcome, index) {
            self.link.set_staging(true);
        }
    }
}

/// Whether a relay would pass on such a frame.
fn passes(head: &Head) -> bool {
    match head.kind {
        Kind::Broadcast { .. } => head.ttl > 1,
        kind => matches!(kind, Kind::Plain),
    }
}

/// What a relay decided in the call itself.
#[inline]
fn mark(outcome: CallOutcome) -> Option<RelayDecision> {
    outcome.flow().map(|flow| (flow, None))
}

fn relay_single(
    relays: &mut super::Relays,
    link: &crate::frame::in_flight::InFlight,
    frame: &Current,
    (flow, rewritten): RelayDecision,
) {
    let payload = rewritten.unwrap_or_else(|| frame.payload.clone());
    let payload = copy_if_small(payload, &frame.payload, frame.buffer_len);
    relays.add_single(link, &frame.head, payload, flow);
}
