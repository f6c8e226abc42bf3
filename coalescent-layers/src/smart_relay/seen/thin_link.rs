//! A model of the slowest link in the mesh, which shows how late a copy of a line can arrive.

/// Speed of the link, in bytes per second: the default of `Config::slow_floor`.
const PACE: u64 = 16 * 1024;

/// Overhead of a line, in bytes.
const LINE: u64 = 1;

/// A virtual link that carries all relayed lines at [`PACE`] and queues the rest.
///
/// Once its queue takes longer than the time after which a line counts as new again, arriving lines
/// may be late copies. This lasts until the queue is empty.
#[derive(Debug)]
pub(super) struct ThinLink {
    /// The queue lengths, in bytes, from which the link is behind, and above which no more is
    /// counted.
    behind_from: u64,
    max: u64,
    waiting: u64,
    /// Fraction of a byte carried, in thousandths.
    part: u64,
    /// Time up to which the queue has been drained, in milliseconds.
    at: u64,
    behind: bool,
}

impl ThinLink {
    /// Creates an idle link, which is behind when its delay exceeds `again_after` and never counts
    /// a delay above `latest`, both in milliseconds.
    pub(super) fn new(again_after: u64, latest: u64) -> Self {
        let bytes = |millis: u64| millis.saturating_mul(PACE) / 1000;
        Self {
            behind_from: bytes(again_after),
            max: bytes(latest),
            waiting: 0,
            part: 0,
            at: 0,
            behind: false,
        }
    }

    /// Adds a line of `bytes` bytes to the queue.
    #[inline]
    pub(super) fn carry(&mut self, bytes: usize, clock: u64) {
        self.go_on(clock);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let waiting = self.waiting.saturating_add(bytes).saturating_add(LINE);
        self.waiting = waiting.min(self.max);
        self.behind |= self.waiting > self.behind_from;
    }

    /// Returns whether copies may arrive after their line counts as new again.
    pub(super) fn is_behind(&mut self, clock: u64) -> bool {
        self.go_on(clock);
        self.behind
    }

    #[inline]
    fn go_on(&mut self, clock: u64) {
        let passed = clock.saturating_sub(self.at);
        if passed == 0 {
            return;
        }
        self.at = clock;
        let carried = passed.saturating_mul(PACE).saturating_add(self.part);
        self.part = carried % 1000;
        self.waiting = self.waiting.saturating_sub(carried / 1000);
        self.behind &= self.waiting > 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_behind_from_a_burst_on_until_all_of_it_is_carried() {
        let mut link = ThinLink::new(5_000, 120_000);
        let second = 16 * 1024;
        link.carry(5 * second - 1, 0);
        assert!(
            !link.is_behind(0),
            "a copy comes before its line is new again"
        );
        link.carry(second - 1, 0);
        assert!(link.is_behind(0));
        assert!(link.is_behind(5_999));
        assert!(!link.is_behind(6_000));
        // No matter how much is queued.
        for _ in 0..1_000 {
            link.carry(second, 10_000);
        }
        assert!(link.is_behind(129_999));
        assert!(!link.is_behind(130_000));
    }

    #[test]
    fn who_says_less_than_it_carries_is_never_waited_for() {
        let mut link = ThinLink::new(5_000, 120_000);
        for clock in 0..1_000_000 {
            link.carry(15, clock);
            assert!(!link.is_behind(clock));
        }
    }
}
