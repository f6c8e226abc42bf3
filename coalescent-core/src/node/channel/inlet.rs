//! What waits for the handler of one channel of one peer.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::outbox::ENTRY_COST;

/// The most bytes that wait for the handler of one channel of one peer: 256 KiB.
///
/// Each frame counts [`ENTRY_COST`](crate::outbox::ENTRY_COST) in addition to its payload. An empty
/// queue takes one frame even if it is larger. A frame that finds no room is dropped, and counted
/// in [`Stats::channel_dropped`](crate::Stats::channel_dropped).
pub const CHANNEL_INBOX: usize = 256 * 1024;

/// The frames of one channel and peer that are not handled. `F` is a running handler.
#[derive(Debug)]
pub(super) struct Inlet<F> {
    /// In the order of arrival.
    waiting: VecDeque<Bytes>,
    /// What those that wait cost, in bytes.
    cost: usize,
    running: Running<F>,
}

/// The state of the handler. At most one runs at a time.
#[derive(Debug)]
enum Running<F> {
    None,
    /// It waits for something.
    Pending(F),
    /// It is being polled.
    Polled,
}

/// What becomes of a frame that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The handler is called with it at once. The inlet counts as being polled.
    Call,
    /// It waits for the handler.
    Queued,
    /// There is no room for it.
    Dropped,
}

/// What is to be polled next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<F> {
    /// A handler that was pending.
    Handler(F),
    /// A new call of the handler, with this frame.
    Frame(Bytes),
}

impl<F> Default for Inlet<F> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            cost: 0,
            running: Running::None,
        }
    }
}

impl<F> Inlet<F> {
    /// Decides about a frame that arrives.
    pub(super) fn arrived(&mut self, payload: &[u8]) -> Arrival {
        if matches!(self.running, Running::None) && self.waiting.is_empty() {
            self.running = Running::Polled;
            return Arrival::Call;
        }
        let cost = payload.len().saturating_add(ENTRY_COST);
        if !self.waiting.is_empty() && self.cost.saturating_add(cost) > CHANNEL_INBOX {
            return Arrival::Dropped;
        }
        // Copied, so that it does not keep the buffer alive that it was read into.
        self.waiting.push_back(Bytes::copy_from_slice(payload));
        self.cost = self.cost.saturating_add(cost);
        Arrival::Queued
    }

    /// Takes what is to be polled next, if there is anything and nobody polls. The inlet counts as
    /// being polled until [`polled`](Self::polled) is called.
    pub(super) fn next(&mut self) -> Option<Next<F>> {
        let next = match std::mem::replace(&mut self.running, Running::Polled) {
            Running::Polled => return None,
            Running::Pending(handler) => Some(Next::Handler(handler)),
            Running::None => self.waiting.pop_front().map(|frame| {
                self.cost = self.cost.saturating_sub(frame.len() + ENTRY_COST);
                Next::Frame(frame)
            }),
        };
        if next.is_none() {
            self.running = Running::None;
            self.waiting = VecDeque::new();
        }
        next
    }

    /// Notes that a poll has ended, with a handler that is still pending, or none.
    pub(super) fn polled(&mut self, pending: Option<F>) {
        self.running = pending.map_or(Running::None, Running::Pending);
    }

    /// Returns whether a handler runs, or frames wait for one.
    pub(super) fn is_busy(&self) -> bool {
        !matches!(self.running, Running::None) || !self.waiting.is_empty()
    }

    /// Removes all frames that wait, and a pending handler. Returns these, and the number of the
    /// frames.
    pub(super) fn close(&mut self) -> (Option<F>, u64) {
        let waiting = std::mem::take(&mut self.waiting).len() as u64;
        self.cost = 0;
        match std::mem::replace(&mut self.running, Running::None) {
            Running::Pending(handler) => (Some(handler), waiting),
            running => {
                self.running = running;
                (None, waiting)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_handled_one_after_another_in_order() {
        let mut inlet: Inlet<&str> = Inlet::default();
        assert!(!inlet.is_busy() && inlet.next().is_none());
        assert_eq!(inlet.arrived(b"1"), Arrival::Call);
        inlet.polled(None);
        assert!(!inlet.is_busy());

        assert_eq!(inlet.arrived(b"2"), Arrival::Call);
        assert_eq!(inlet.arrived(b"3"), Arrival::Queued);
        assert!(inlet.next().is_none(), "it is being polled");
        inlet.polled(Some("two"));
        assert_eq!(inlet.arrived(b"4"), Arrival::Queued);
        assert_eq!(inlet.next(), Some(Next::Handler("two")));
        inlet.polled(None);
        assert_eq!(inlet.arrived(b"5"), Arrival::Queued, "behind the others");
        for frame in ["3", "4", "5"] {
            assert_eq!(inlet.next(), Some(Next::Frame(Bytes::from(frame))));
            inlet.polled(None);
        }
        assert!(inlet.next().is_none() && !inlet.is_busy());
        assert_eq!(inlet.cost, 0);
    }

    #[test]
    fn the_room_is_bounded_and_an_empty_queue_takes_one_frame() {
        let mut inlet: Inlet<()> = Inlet::default();
        let large = vec![0; 2 * CHANNEL_INBOX];
        assert_eq!(inlet.arrived(&large), Arrival::Call);
        assert_eq!(inlet.arrived(&large), Arrival::Queued);
        assert_eq!(inlet.arrived(b""), Arrival::Dropped);
        inlet.polled(None);
        assert!(matches!(inlet.next(), Some(Next::Frame(_))));
        let taken = (0..)
            .take_while(|_| inlet.arrived(b"") == Arrival::Queued)
            .count();
        assert_eq!(taken, CHANNEL_INBOX / ENTRY_COST);
        assert_eq!(inlet.close(), (None, taken as u64));
        assert_eq!(inlet.arrived(b""), Arrival::Queued);
    }
}
