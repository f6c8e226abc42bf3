//! How much memory the frames of unfinished calls hold, and how the next one may be called.

use crate::wire::{Head, Kind};

/// What each unfinished call counts for, in bytes, in addition to the payload that it holds.
pub const CALL_COST: usize = 512;

/// How a frame is given to its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// As a slice of the buffer that it was read into.
    Slice,
    /// As a copy, since it would keep alive a buffer that is large against it.
    Copy,
}

/// A read buffer, by its number in its connection and its size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeldBuffer {
    pub(super) number: u64,
    pub(super) len: usize,
}

/// What one unfinished call holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// A slice of this buffer.
    Slice(HeldBuffer),
    /// A copy of this many bytes.
    Copy(usize),
}

/// The memory that the unfinished calls of one connection hold.
///
/// They may hold one buffer, whatever its size, and `limit` bytes besides. The first call may
/// always be made, so other frames of its buffer cost nothing more than their calls. Requests may
/// hold `requests` bytes more: beyond the limit they hold just their payload.
#[derive(Debug)]
pub(super) struct Holding {
    limit: usize,
    requests: usize,
    calls: usize,
    /// The bytes that count against the limit.
    counted: usize,
    buffers: Vec<Counted>,
}

#[derive(Debug)]
struct Counted {
    number: u64,
    calls: usize,
    /// How much the buffer counts for: nothing if it is the one of any size.
    cost: Option<usize>,
}

impl Holding {
    pub(super) fn new(limit: usize, requests: usize) -> Self {
        Self {
            limit,
            requests,
            calls: 0,
            counted: 0,
            buffers: Vec::new(),
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn requests(&self) -> usize {
        self.requests
    }

    /// Returns what the calls hold beside one buffer, in bytes.
    pub(super) fn counted(&self) -> usize {
        self.counted
    }

    /// Returns whether every frame of this buffer may be given to its call as a slice, as long as
    /// no further call is left unfinished.
    #[inline]
    pub(super) fn takes_slices(&self, buffer: HeldBuffer) -> bool {
        self.calls == 0 || self.fits(0) && (self.holds(buffer) || !self.has_free())
    }

    /// Returns how a frame with this head, in this buffer, may be given to its call, or `None` if
    /// others must end before.
    pub(super) fn hold(&self, buffer: HeldBuffer, head: &Head) -> Option<Hold> {
        let asks = matches!(head.kind, Kind::Request { .. });
        self.hold_payload(buffer, head.payload_len(), asks)
    }

    fn hold_payload(&self, buffer: HeldBuffer, len: usize, asks: bool) -> Option<Hold> {
        if self.takes_slices(buffer) {
            return Some(Hold::Slice);
        }
        if self.fits(buffer.len) && buffer.len / 2 <= len.max(CALL_COST) {
            return Some(Hold::Slice);
        }
        if self.fits(len) {
            return Some(Hold::Copy);
        }
        let limit = self.limit.saturating_add(self.requests);
        if !asks || self.counted.saturating_add(len + CALL_COST) > limit {
            return None;
        }
        // Hardly more than the payload. So is every buffer that was made for waiting requests.
        let exact = buffer.len <= len.saturating_add(CALL_COST / 2);
        Some(if exact { Hold::Slice } else { Hold::Copy })
    }

    /// Notes that a call is unfinished.
    pub(super) fn add(&mut self, held: Held) {
        self.calls += 1;
        self.counted += CALL_COST;
        match held {
            Held::Copy(len) => self.counted += len,
            Held::Slice(HeldBuffer { number, len }) => {
                let known = self.buffers.iter_mut().find(|held| held.number == number);
                if let Some(known) = known {
                    known.calls += 1;
                    return;
                }
                let cost = self.has_free().then_some(len);
                self.counted += cost.unwrap_or(0);
                self.buffers.push(Counted {
                    number,
                    calls: 1,
                    cost,
                });
            }
        }
    }

    /// Notes that an unfinished call has ended.
    pub(super) fn remove(&mut self, held: Held) {
        self.calls = self.calls.saturating_sub(1);
        let mut freed = CALL_COST;
        match held {
            Held::Copy(len) => freed += len,
            Held::Slice(HeldBuffer { number, .. }) => {
                let known = self.buffers.iter().position(|held| held.number == number);
                if let Some(known) = known
                    && let Some(buffer) = self.buffers.get_mut(known)
                {
                    buffer.calls -= 1;
                    if buffer.calls == 0 {
                        freed += buffer.cost.unwrap_or(0);
                        self.buffers.swap_remove(known);
                    }
                }
            }
        }
        self.counted = self.counted.saturating_sub(freed);
        if self.calls == 0 {
            self.buffers = Vec::new();
        }
    }

    fn fits(&self, len: usize) -> bool {
        self.counted.saturating_add(len + CALL_COST) <= self.limit
    }

    fn holds(&self, buffer: HeldBuffer) -> bool {
        self.buffers.iter().any(|held| held.number == buffer.number)
    }

    /// Returns whether one of the buffers is held without being counted.
    fn has_free(&self) -> bool {
        self.buffers.iter().any(|held| held.cost.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    fn buffer(number: u64, len: usize) -> HeldBuffer {
        HeldBuffer { number, len }
    }

    #[test]
    fn the_first_call_and_all_of_its_buffer_are_free() {
        let mut holding = Holding::new(10 * CALL_COST, 0);
        let large = buffer(1, 100 * KIB * KIB);
        for _ in 0..9 {
            assert_eq!(holding.hold_payload(large, 10, false), Some(Hold::Slice));
            holding.add(Held::Slice(large));
        }
        assert_eq!(holding.hold_payload(large, 10, false), Some(Hold::Slice));
        holding.add(Held::Slice(large));
        assert_eq!(
            holding.hold_payload(large, 10, false),
            None,
            "calls cost something too"
        );
        for _ in 0..10 {
            holding.remove(Held::Slice(large));
        }
        assert_eq!(holding.counted, 0);
        assert_eq!(
            holding.hold_payload(buffer(2, KIB), 10, false),
            Some(Hold::Slice)
        );
    }

    #[test]
    fn small_frames_of_other_buffers_are_copied() {
        let mut holding = Holding::new(128 * KIB, 0);
        holding.add(Held::Slice(buffer(1, 128 * KIB)));
        let next = buffer(2, 100 * KIB);
        assert_eq!(holding.hold_payload(next, 1000, false), Some(Hold::Copy));
        assert_eq!(
            holding.hold_payload(next, 60 * KIB, false),
            Some(Hold::Slice)
        );
        assert_eq!(
            holding.hold_payload(buffer(3, KIB), 10, false),
            Some(Hold::Slice)
        );
        assert_eq!(
            holding.hold_payload(buffer(3, 400 * KIB), 200 * KIB, false),
            None
        );
    }

    #[test]
    fn what_is_held_stays_within_the_limit_beside_one_buffer() {
        let limit = 128 * KIB;
        let mut holding = Holding::new(limit, 0);
        holding.add(Held::Slice(buffer(0, 2048 * KIB)));
        let mut held = Vec::new();
        for number in 1..10_000 {
            let len = number % 7 * 1000;
            let next = buffer(number as u64, 128 * KIB);
            match holding.hold_payload(next, len, false) {
                Some(Hold::Slice) => held.push(Held::Slice(next)),
                Some(Hold::Copy) => held.push(Held::Copy(len)),
                None => {
                    let oldest = held.remove(0);
                    holding.remove(oldest);
                    continue;
                }
            }
            holding.add(held[held.len() - 1]);
            assert!(holding.counted <= limit);
        }
        for one in held {
            holding.remove(one);
        }
        holding.remove(Held::Slice(buffer(0, 2048 * KIB)));
        assert_eq!((holding.counted, holding.calls), (0, 0));
    }

    #[test]
    fn requests_hold_more_but_only_what_they_are() {
        let mut holding = Holding::new(10 * KIB, 100 * KIB);
        holding.add(Held::Slice(buffer(0, 2048 * KIB)));
        let large = buffer(1, 60 * KIB);
        let len = 40 * KIB;
        assert_eq!(holding.hold_payload(large, len, false), None);
        assert_eq!(holding.hold_payload(large, len, true), Some(Hold::Copy));
        holding.add(Held::Copy(len));
        let exact = buffer(2, len + 20);
        assert_eq!(holding.hold_payload(exact, len, true), Some(Hold::Slice));
        holding.add(Held::Slice(exact));
        assert_eq!(holding.hold_payload(exact, len, true), None);
    }
}
