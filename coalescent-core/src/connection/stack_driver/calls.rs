//! The calls of one connection that run at the same time.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;

use super::holding::{Held, HeldBuffer, Hold, Holding};
use crate::connection::relay::Relays;
use crate::error::BoxError;
use crate::frame::call::CallOutcome;
use crate::frame::in_flight::{InFlight, ReadBatch, RelayDecision};
use crate::frame::passes;
use crate::node::outgoing::copy_if_small;
use crate::stack::reply::Reply;
use crate::wire::{Head, Kind};

/// The slots for calls: as many as were needed at a time, up to a limit.
pub(super) struct Calls<F> {
    slots: Vec<Call<F>>,
    max: usize,
    /// How many there may be while calls wait for replies of the peer.
    most: usize,
    /// The slots that hold no frame; the last is used next.
    free: Vec<usize>,
    /// The slots that hold a frame, in the order in which the frames arrived.
    order: Vec<usize>,
    /// Where in `order` to go on, if the last round ended early.
    pub(super) resume: usize,
    holding: Holding,
    /// Whether a call has not ended at once.
    waited: bool,
}

/// A slot for one call. Its memory is used again for the next frame.
pub(super) struct Call<F> {
    future: Pin<Box<Option<F>>>,
    /// The number of the frame that the slot was used for last.
    pub(super) seq: u64,
    /// The frame, if its call did not end at once.
    frame: Option<PendingFrame>,
    /// Whether the frame was relayed while its call runs.
    relayed: bool,
    /// How the call is woken, once it was polled a second time.
    alarm: Option<Alarm>,
    /// Whether the alarm is the call's, and not that of an earlier one.
    armed: bool,
}

/// Tells which call was woken, so that the others need not be polled.
struct Alarm {
    rings: Arc<Rings>,
    waker: Waker,
}

struct Rings {
    woken: AtomicBool,
    /// Wakes the connection.
    task: Waker,
}

/// A frame whose call has not ended.
#[derive(Clone, Debug)]
pub(super) struct PendingFrame {
    pub(super) head: Head,
    pub(super) payload: Bytes,
    /// The size of the buffer that the payload is a slice of.
    pub(super) buffer_len: usize,
    pub(super) held: Held,
}

impl Wake for Rings {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.task.wake_by_ref();
        }
    }
}

impl Alarm {
    fn new(task: &Waker) -> Self {
        let rings = Arc::new(Rings {
            woken: AtomicBool::new(true),
            task: task.clone(),
        });
        let waker = Waker::from(Arc::clone(&rings));
        Self { rings, waker }
    }
}

impl<F> Calls<F> {
    /// Returns at most `max` slots, or `most` while calls wait for replies of the peer. Unfinished
    /// calls hold at most `limit` bytes beside one buffer, and requests `requests` bytes more.
    pub(super) fn new((max, most): (usize, usize), limit: usize, requests: usize) -> Self {
        Self {
            slots: Vec::new(),
            max,
            most,
            free: Vec::new(),
            order: Vec::new(),
            resume: 0,
            holding: Holding::new(limit, requests),
            waited: false,
        }
    }

    /// Returns how many calls have not ended.
    #[inline]
    pub(super) fn unfinished(&self) -> usize {
        self.order.len()
    }

    /// Returns whether a call has ever not ended at once.
    #[inline]
    pub(super) fn have_waited(&self) -> bool {
        self.waited
    }

    /// Returns whether no other call may begin, while `asking` of those that have not ended wait
    /// for replies of the peer.
    #[inline]
    pub(super) fn is_full(&self, asking: usize) -> bool {
        self.order.len() >= self.max.saturating_add(asking).min(self.most)
    }

    /// Returns what the unfinished calls hold beside one buffer, in bytes.
    pub(super) fn held(&self) -> usize {
        self.holding.counted()
    }

    /// Returns how many bytes the frames may hold, beside one buffer.
    pub(super) fn data_limit(&self) -> usize {
        self.holding.limit()
    }

    /// Returns how many bytes more requests may hold, called or waiting.
    pub(super) fn requests_limit(&self) -> usize {
        self.holding.requests()
    }

    /// Returns how a frame may be given to its call, or `None` if others must end before.
    pub(super) fn hold(&self, batch: &ReadBatch, head: &Head) -> Option<Hold> {
        self.holding.hold(held_buffer(batch), head)
    }

    /// Returns a free slot and its index, and what the unfinished calls hold; `None` if no other
    /// call may begin, see [`is_full`](Self::is_full).
    #[inline]
    pub(super) fn free(&mut self, asking: usize) -> Option<(usize, &mut Call<F>, &Holding)> {
        if self.is_full(asking) {
            return None;
        }
        let slot = match self.free.last() {
            Some(slot) => *slot,
            None => self.add_slot()?,
        };
        Some((slot, self.slots.get_mut(slot)?, &self.holding))
    }

    #[cold]
    fn add_slot(&mut self) -> Option<usize> {
        let slot = self.slots.len();
        if slot >= self.most {
            return None;
        }
        self.slots.push(Call::default());
        self.free.push(slot);
        Some(slot)
    }

    pub(super) fn get(&mut self, slot: usize) -> Option<&mut Call<F>> {
        self.slots.get_mut(slot)
    }

    /// Returns the slot of the unfinished call at this place in the order of arrival.
    pub(super) fn running_at(&self, at: usize) -> Option<usize> {
        self.order.get(at).copied()
    }

    /// Returns the slot `slot` if it holds a call that has not ended.
    pub(super) fn running(&mut self, slot: usize) -> Option<&mut Call<F>> {
        self.slots.get_mut(slot).filter(|call| call.frame.is_some())
    }

    /// Keeps `frame` in `slot`, since its call has not ended.
    pub(super) fn keep(&mut self, slot: usize, frame: PendingFrame, relayed: bool) {
        if let Some(call) = self.slots.get_mut(slot) {
            self.holding.add(frame.held);
            call.frame = Some(frame);
            call.relayed = relayed;
            call.armed = false;
            self.waited = true;
            self.free.retain(|free| *free != slot);
            self.order.push(slot);
        }
    }

    /// Takes the frame out of `slot`, whose call has ended, and tells whether it was relayed before
    /// that.
    pub(super) fn end(&mut self, slot: usize) -> Option<(PendingFrame, bool)> {
        let call = self.slots.get_mut(slot)?;
        call.clear();
        let frame = call.frame.take()?;
        self.holding.remove(frame.held);
        self.order.retain(|running| *running != slot);
        self.free.push(slot);
        Some((frame, call.relayed))
    }

    /// Drops the call of the request `id`. Returns false if none runs.
    pub(super) fn cancel(&mut self, id: u32, in_flight: &InFlight) -> bool {
        let found = self.slots.iter().position(|call| {
            let kind = call.frame.as_ref().map(|frame| frame.head.kind);
            matches!(kind, Some(Kind::Request { id: other }) if other == id)
        });
        let Some(slot) = found else {
            return false;
        };
        if let Some(call) = self.slots.get(slot) {
            in_flight.close(slot, call.seq);
        }
        self.end(slot).is_some()
    }

    /// Drops all calls. Relays the frames that a relay has decided about, and returns how many of
    /// the others could have been relayed: relays may decide until a call ends.
    pub(super) fn lose(&mut self, in_flight: &InFlight, relays: &mut Relays) -> u64 {
        let mut undecided = 0;
        for slot in self.order.clone() {
            let seq = self.slots.get(slot).map_or(0, |call| call.seq);
            let Some((frame, relayed)) = self.end(slot) else {
                continue;
            };
            let kept = if relayed {
                in_flight.close(slot, seq);
                true
            } else if let Some(decision) = in_flight.close_for_ever(slot, seq) {
                frame.relay(in_flight, relays, decision);
                true
            } else {
                let passes = passes(frame.head.kind, frame.head.ttl, false);
                undecided += u64::from(passes);
                passes
            };
            let derived = in_flight.derived(slot, seq);
            let more = derived.saturating_sub(u64::from(!kept));
            in_flight.peer().counters().add_received(more);
        }
        undecided
    }
}

impl<F> Default for Call<F> {
    fn default() -> Self {
        Self {
            future: Box::pin(None),
            seq: 0,
            frame: None,
            relayed: false,
            alarm: None,
            armed: false,
        }
    }
}

impl<F> Call<F> {
    /// Drops the call's future.
    pub(super) fn clear(&mut self) {
        self.future.set(None);
    }

    /// Relays the frame as decided, unless that was done before.
    pub(super) fn relay_once(
        &mut self,
        in_flight: &InFlight,
        relays: &mut Relays,
        decision: RelayDecision,
    ) {
        if let Some(frame) = self.frame.as_ref().filter(|_| !self.relayed) {
            frame.relay(in_flight, relays, decision);
            self.relayed = true;
        }
    }

    /// Returns whether the frame was relayed while its call runs.
    pub(super) fn is_relayed(&self) -> bool {
        self.relayed
    }
}

impl<F, E> Call<F>
where
    F: Future<Output = Result<Reply, E>>,
    E: Into<BoxError>,
{
    /// Polls a new call for the first time.
    #[inline]
    pub(super) fn start(&mut self, future: F, cx: &mut Context<'_>) -> Poll<Result<Reply, E>> {
        self.future.set(Some(future));
        self.poll(cx)
    }

    /// Polls a call that is unfinished, if it was woken since.
    pub(super) fn poll_again(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reply, E>> {
        let alarm = match self.alarm.take() {
            Some(alarm) if alarm.rings.task.will_wake(cx.waker()) => alarm,
            _ => {
                self.armed = false;
                Alarm::new(cx.waker())
            }
        };
        let woken = alarm.rings.woken.swap(false, Ordering::AcqRel);
        let polled = if woken || !self.armed {
            self.armed = true;
            self.poll(&mut Context::from_waker(&alarm.waker))
        } else {
            Poll::Pending
        };
        self.alarm = Some(alarm);
        polled
    }

    /// Polls the call, and drops its future once it is done: the future may hold the frame to its
    /// end, and the outcome is known only after that.
    #[inline]
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reply, E>> {
        let polled = match self.future.as_mut().as_pin_mut() {
            Some(future) => future.poll(cx),
            None => Poll::Ready(Ok(Reply::None)),
        };
        if polled.is_ready() {
            self.future.set(None);
        }
        polled
    }
}

impl PendingFrame {
    /// Adds the frame to those that are relayed.
    pub(super) fn relay(
        &self,
        in_flight: &InFlight,
        relays: &mut Relays,
        (flow, rewritten): RelayDecision,
    ) {
        let payload = rewritten.unwrap_or_else(|| self.payload.clone());
        let payload = copy_if_small(payload, &self.payload, self.buffer_len);
        relays.add_single(in_flight, &self.head, payload, flow);
    }
}

/// Returns the decision that a relay made in the call itself.
#[inline]
pub(super) fn decided(outcome: CallOutcome) -> Option<RelayDecision> {
    outcome.flow().map(|flow| (flow, None))
}

/// Returns the buffer of a read.
pub(super) fn held_buffer(batch: &ReadBatch) -> HeldBuffer {
    HeldBuffer {
        number: batch.buffer,
        len: batch.bytes_kept_alive(),
    }
}
