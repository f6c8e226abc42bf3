//! The lanes of an outbox: one for frames, and one for the frames of channels, each with room of
//! its own.
//!
//! The two have their turns one after the other. A turn is one batch of entries, so neither lane
//! waits for more than one batch of the other, however full that is.

use std::collections::VecDeque;

use super::chunk::Entry;
use super::queue::Queue;

/// The most bytes of channel frames that wait to be written to one peer: 256 KiB.
///
/// Each entry counts [`ENTRY_COST`](super::ENTRY_COST) in addition to its length. An empty queue
/// takes one frame even if it is larger.
pub const CHANNEL_OUTBOX: usize = 256 * 1024;

/// A queue, and the tasks that wait for it.
pub(super) struct Lane {
    pub(super) queue: Queue,
    /// The number of tasks that wait for room, or for the content to be written.
    pub(super) waiters: usize,
    /// The lowest count of finished bytes that a task waits for, if one does.
    flush: Option<u64>,
}

impl Lane {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            queue: Queue::new(limit),
            waiters: 0,
            flush: None,
        }
    }

    /// Returns whether `target` bytes, counted from the beginning, are done with. If not, a task
    /// waits for that.
    pub(super) fn is_done_with(&mut self, target: u64) -> bool {
        if self.queue.done() >= target {
            return true;
        }
        self.flush = Some(self.flush.map_or(target, |first| first.min(target)));
        false
    }

    /// Returns whether tasks that wait are to be woken: those that wait for room when half of it is
    /// free, so that they come in batches; those that wait for a flush when the bytes they wait for
    /// are done with.
    pub(super) fn is_due(&mut self) -> bool {
        let done = self.queue.done();
        let flushed = self.flush.take_if(|flush| *flush <= done).is_some();
        flushed || self.waiters > 0 && self.queue.is_half_free()
    }
}

/// The lane for the frames of channels. Made when it is first needed.
pub(super) struct ChannelLane {
    pub(super) lane: Lane,
    /// Whether this lane had the last turn.
    had_turn: bool,
    /// It has all turns until this many of its bytes are done with, counted from the beginning.
    first_until: u64,
}

impl Default for ChannelLane {
    fn default() -> Self {
        Self {
            lane: Lane::new(CHANNEL_OUTBOX),
            had_turn: false,
            first_until: 0,
        }
    }
}

impl ChannelLane {
    /// Gives this lane all turns until what waits in it now is written.
    pub(super) fn go_first(&mut self) {
        self.first_until = self.lane.queue.taken();
    }

    /// Moves the next entries into the empty `batch`, if it is this lane's turn: the `others` had
    /// the last one, or have nothing to write, or this lane goes first.
    pub(super) fn take_turn(&mut self, others: &mut Queue, batch: &mut VecDeque<Entry>) -> bool {
        let queue = &mut self.lane.queue;
        let goes_first = queue.done() < self.first_until;
        if queue.is_drained() || (self.had_turn && !others.is_drained() && !goes_first) {
            self.had_turn = false;
            return false;
        }
        queue.take(batch);
        for entry in batch {
            entry.channel = true;
        }
        self.had_turn = true;
        true
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::outbox::{Chunk, Count};

    fn chunk(len: usize) -> Chunk {
        Chunk::verbatim(Bytes::from(vec![0; len]), Count::OWN)
    }

    /// Takes one batch, from the lane or from the others, as an outbox does.
    fn turn(lane: &mut ChannelLane, others: &mut Queue) -> Option<(bool, usize)> {
        let mut batch = VecDeque::new();
        if !lane.take_turn(others, &mut batch) {
            if others.is_drained() {
                return None;
            }
            others.take(&mut batch);
        }
        let bytes = batch.iter().map(|entry| entry.bytes.len()).sum();
        let channel = batch.iter().all(|entry| entry.channel);
        for entry in &batch {
            let queue = if channel {
                &mut lane.lane.queue
            } else {
                &mut *others
            };
            queue.release(entry);
        }
        Some((channel, bytes))
    }

    #[test]
    fn the_lanes_have_their_turns_one_after_the_other() {
        let (mut lane, mut others) = (ChannelLane::default(), Queue::new(usize::MAX));
        for _ in 0..64 {
            others.push(&chunk(1 << 20));
            lane.lane.queue.push(&chunk(10_000));
        }
        let first: Vec<_> = (0..4)
            .map(|_| {
                let (channel, bytes) = turn(&mut lane, &mut others).expect("a batch");
                lane.lane.queue.push(&chunk(10_000));
                assert!(bytes <= 1 << 20);
                channel
            })
            .collect();
        assert_eq!(first, [true, false, true, false]);
    }

    #[test]
    fn a_lane_that_goes_first_has_all_turns_until_what_waits_is_written() {
        let (mut lane, mut others) = (ChannelLane::default(), Queue::new(usize::MAX));
        lane.lane.queue.push(&chunk(9));
        assert_eq!(turn(&mut lane, &mut others), Some((true, 9)));
        lane.lane.queue.push(&chunk(10));
        lane.go_first();
        others.push(&chunk(1000));
        // Nobody is held back by what comes later.
        lane.lane.queue.push(&chunk(2000));
        others.push(&chunk(3000));
        let turns: Vec<_> = std::iter::from_fn(|| turn(&mut lane, &mut others)).collect();
        let channel = turns.iter().position(|(channel, _)| *channel);
        let other = turns.iter().position(|(channel, _)| !channel);
        assert!(channel < other, "{turns:?}");
        lane.go_first();
        others.push(&chunk(1000));
        lane.lane.queue.push(&chunk(9));
        assert!(turn(&mut lane, &mut others).is_some());
    }

    #[test]
    fn a_lane_alone_has_all_turns() {
        let (mut lane, mut others) = (ChannelLane::default(), Queue::new(usize::MAX));
        assert_eq!(turn(&mut lane, &mut others), None);
        for _ in 0..3 {
            lane.lane.queue.push(&chunk(9));
            assert_eq!(turn(&mut lane, &mut others), Some((true, 9)));
        }
        for _ in 0..3 {
            others.push(&chunk(9));
            assert_eq!(turn(&mut lane, &mut others), Some((false, 9)));
        }
    }

    #[test]
    fn the_room_is_bounded_and_an_empty_lane_takes_one_frame() {
        let mut lane = ChannelLane::default();
        assert!(lane.lane.queue.push(&chunk(2 * CHANNEL_OUTBOX)));
        assert!(!lane.lane.queue.push(&chunk(1)));
        let mut lane = ChannelLane::default();
        let taken = (0..1000)
            .take_while(|_| lane.lane.queue.push(&chunk(2000)))
            .count();
        assert!(taken * 2000 <= CHANNEL_OUTBOX && taken > 80, "{taken}");
    }
}
