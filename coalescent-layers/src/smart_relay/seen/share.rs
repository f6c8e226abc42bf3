//! How a bounded set is shared between sources, and when frames in it may be evicted early.

use std::time::Duration;

/// A source may hold at most this many times the free room in the shared part of the set.
///
/// A single source can thus use seven ninths of the set (x = 8 × (7/8 − x)), and later sources
/// less. This is the dynamic threshold of shared-memory switches (Choudhury and Hahne, 1998).
const SHARE: usize = 8;

/// One in this many entries is reserved for sources that hold few.
const RESERVED_PART: usize = 8;

/// A source holds few entries if it holds less than one in this many.
const LITTLE_PART: usize = 1024;

/// While copies arrive, no frame younger than this is evicted, in milliseconds.
pub(super) const YOUNG: u64 = 30_000;

/// Number of late copies after which [`Lateness`] doubles its horizon. A few late copies occur when
/// people send the same line twice; queues in a cycle cause thousands.
const LATE: u32 = 16;

/// A copy is late if its age exceeds the horizon divided by this.
const LATE_PART: u64 = 4;

/// Returns whether a source that holds `mine` of `total` used entries, out of `max`, may take one
/// more.
///
/// `gone` is the number of entries of closed sources if the source may be one of them reconnected,
/// and 0 otherwise. Reconnecting thus gains no room.
pub(super) fn may_take(mine: usize, gone: usize, total: usize, max: usize) -> bool {
    let reserved = max / RESERVED_PART;
    let free = (max - reserved).saturating_sub(total);
    // Half of the reserve is for sources that stay connected.
    let end = if gone > 0 { max - reserved / 2 } else { max };
    let holds_little = mine < max / LITTLE_PART && total < end;
    mine.saturating_add(gone) < free.saturating_mul(SHARE) || holds_little
}

/// Estimates how old a frame can be when a copy of it still arrives.
///
/// The horizon starts at `base`. It doubles, up to `max`, each time that [`LATE`] copies were older
/// than a quarter of it, and halves, down to `base`, after twice its own length without that.
#[derive(Debug)]
pub(super) struct Lateness {
    base: u64,
    max: u64,
    horizon: u64,
    /// Time of the last change or confirmation of the horizon.
    since: u64,
    late: u32,
    /// Time of the last copy.
    copied: Option<u64>,
}

impl Lateness {
    /// Starts with a horizon of `base`, which is also its minimum; all times in milliseconds.
    pub(super) fn new(base: u64, max: u64) -> Self {
        Self {
            base,
            max: max.max(base),
            horizon: base,
            since: 0,
            late: 0,
            copied: None,
        }
    }

    /// Records a copy that arrived `age` after its frame.
    #[inline]
    pub(super) fn copy(&mut self, age: u64, clock: u64) {
        self.copied = Some(clock);
        if age.saturating_mul(LATE_PART) > self.horizon {
            self.late(clock);
        }
    }

    #[cold]
    fn late(&mut self, clock: u64) {
        self.late += 1;
        if self.late >= LATE {
            self.late = 0;
            self.since = clock;
            self.horizon = self.horizon.saturating_mul(2).min(self.max);
        }
    }

    /// Returns how old a frame must be before it may be evicted.
    #[inline]
    pub(super) fn horizon(&mut self, clock: u64) -> u64 {
        if self.horizon > self.base && clock.saturating_sub(self.since) >= 2 * self.horizon {
            self.horizon = (self.horizon / 2).max(self.base);
            self.since = clock;
            self.late = 0;
        }
        self.horizon
    }

    /// Returns whether a copy arrived within the last `max`. In a star, none does.
    #[inline]
    pub(super) fn any(&self, clock: u64) -> bool {
        self.copied
            .is_some_and(|copied| clock.saturating_sub(copied) < self.max)
    }
}

/// Converts a duration to milliseconds, at most `u64::MAX`.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_room_for_a_newcomer() {
        let max = 100_000;
        let mut held: Vec<usize> = Vec::new();
        for sources in 1..60 {
            held.push(0);
            // Each takes as much as it may, the newest last.
            for at in 0..sources {
                while may_take(held[at], 0, held.iter().sum(), max) {
                    held[at] += 1;
                }
            }
            assert!(held[sources - 1] >= max / LITTLE_PART, "{held:?}");
            assert!(held.iter().sum::<usize>() <= max);
        }
        assert_eq!(held[0], 77_778);
    }

    #[test]
    fn who_comes_back_again_and_again_gets_as_much_as_who_stays() {
        let max = 100_000;
        let (mut gone, mut stays) = (0, 0);
        for _ in 0..10_000 {
            let mut mine = 0;
            while may_take(mine, gone, gone + mine, max) {
                mine += 1;
            }
            gone += mine;
        }
        assert!(gone < max - max / RESERVED_PART / 2 + 1, "{gone}");
        while may_take(stays, 0, gone + stays, max) {
            stays += 1;
        }
        assert!(stays >= max / LITTLE_PART, "{stays}");
    }

    #[test]
    fn the_horizon_follows_copies_that_come_late_and_comes_back() {
        let mut lateness = Lateness::new(5_000, 120_000);
        assert!(!lateness.any(0));
        // Some lines are sent twice.
        for _ in 0..LATE - 1 {
            lateness.copy(4_000, 10_000);
        }
        assert_eq!(lateness.horizon(10_000), 5_000);
        // A queue grows.
        for (age, horizon) in [(2_000, 10_000), (3_000, 20_000), (6_000, 40_000)] {
            for _ in 0..LATE {
                lateness.copy(age, 10_000);
            }
            assert_eq!(lateness.horizon(10_000), horizon);
        }
        for _ in 0..10 * LATE {
            lateness.copy(100_000, 10_000);
        }
        assert_eq!(lateness.horizon(10_000), 120_000);
        // The queue has drained.
        assert_eq!(lateness.horizon(249_999), 120_000);
        assert_eq!(lateness.horizon(250_000), 60_000);
        assert!(!lateness.any(130_000));
        let mut clock = 250_000;
        while lateness.horizon(clock) > 5_000 {
            clock += 1_000;
        }
        assert!(clock < 600_000, "{clock}");
    }
}
