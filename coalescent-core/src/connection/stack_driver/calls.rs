//! The calls of one connection that run at the same time.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::connection::relay::Relays;
use crate::error::BoxError;
use crate::frame::call::CallOutcome;
use crate::frame::in_flight::{InFlight, RelayDecision};
use crate::frame::passes;
use crate::node::outgoing::copy_if_small;
use crate::stack::reply::Reply;
use crate::wire::{Head, Kind};

/// A fixed number of slots for calls.
pub(super) struct Calls<F> {
    slots: Vec<Call<F>>,
    /// How many slots hold a frame.
    unfinished: usize,
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
}

/// A frame whose call has not ended.
#[derive(Clone, Debug)]
pub(super) struct PendingFrame {
    pub(super) head: Head,
    pub(super) payload: Bytes,
    /// The size of the buffer that the payload is a slice of.
    pub(super) buffer_len: usize,
}

impl<F> Calls<F> {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            slots: (0..slots).map(|_| Call::default()).collect(),
            unfinished: 0,
        }
    }

    /// Returns the number of slots.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Returns how many calls have not ended.
    #[inline]
    pub(super) fn unfinished(&self) -> usize {
        self.unfinished
    }

    /// Returns whether every slot holds a call that has not ended.
    pub(super) fn is_full(&self) -> bool {
        self.unfinished == self.slots.len()
    }

    /// Returns the first free slot and its index.
    #[inline]
    pub(super) fn free(&mut self) -> Option<(usize, &mut Call<F>)> {
        let mut slots = self.slots.iter_mut().enumerate();
        slots.find(|(_, call)| call.frame.is_none())
    }

    pub(super) fn get(&mut self, slot: usize) -> Option<&mut Call<F>> {
        self.slots.get_mut(slot)
    }

    /// Returns the slot `slot` if it holds a call that has not ended.
    pub(super) fn running(&mut self, slot: usize) -> Option<&mut Call<F>> {
        self.slots.get_mut(slot).filter(|call| call.frame.is_some())
    }

    /// Keeps `frame` in `slot`, since its call has not ended.
    pub(super) fn keep(&mut self, slot: usize, frame: PendingFrame, relayed: bool) {
        if let Some(call) = self.slots.get_mut(slot) {
            call.frame = Some(frame);
            call.relayed = relayed;
            self.unfinished += 1;
        }
    }

    /// Takes the frame out of `slot`, whose call has ended, and tells whether it was relayed before
    /// that.
    pub(super) fn end(&mut self, slot: usize) -> Option<(PendingFrame, bool)> {
        let call = self.slots.get_mut(slot)?;
        call.clear();
        let frame = call.frame.take()?;
        self.unfinished -= 1;
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
        for slot in 0..self.slots.len() {
            let seq = self.slots.get(slot).map_or(0, |call| call.seq);
            let Some((frame, relayed)) = self.end(slot) else {
                continue;
            };
            if relayed {
                in_flight.close(slot, seq);
                continue;
            }
            match in_flight.close_for_ever(slot, seq) {
                Some(decision) => frame.relay(in_flight, relays, decision),
                None => undecided += u64::from(passes(frame.head.kind, frame.head.ttl, false)),
            }
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

    /// Polls the call, and drops its future once it is done: the future may hold the frame to its
    /// end, and the outcome is known only after that.
    #[inline]
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reply, E>> {
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
