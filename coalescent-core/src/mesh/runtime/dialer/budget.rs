//! How often learned addresses are dialled.
//!
//! This module only decides: it is told the time.

use std::time::Duration;

use tokio::time::Instant;

/// The time in which the budget for dials of learned addresses gains one dial: 1 s.
pub(crate) const LEARNED_DIAL_EVERY: Duration = Duration::from_secs(1);

/// How many learned addresses are dialled at once after a quiet time: 8.
pub(crate) const LEARNED_DIAL_BURST: u32 = 8;

/// A token bucket, which holds [`LEARNED_DIAL_BURST`] dials and gains one each
/// [`LEARNED_DIAL_EVERY`].
///
/// Whoever tells this node addresses cannot make it dial them faster than that.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Budget {
    /// When the bucket will be full; `None` if it is, and always was.
    full_at: Option<Instant>,
}

impl Budget {
    /// Returns when a dial may be taken: `now` if one is there.
    pub(super) fn next(&self, now: Instant) -> Instant {
        let spare = LEARNED_DIAL_EVERY * (LEARNED_DIAL_BURST - 1);
        self.full_at
            .and_then(|full_at| full_at.checked_sub(spare))
            .map_or(now, |at| at.max(now))
    }

    /// Takes a dial. Returns false if none is there.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let ready = self.next(now) <= now;
        if ready {
            let full_at = self.full_at.map_or(now, |full_at| full_at.max(now));
            self.full_at = Some(full_at + LEARNED_DIAL_EVERY);
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_followed_by_one_dial_each_second() {
        let start = Instant::now();
        let mut budget = Budget::default();
        let burst = || (0..100).filter(|_| budget.take(start)).count();
        assert_eq!(std::iter::once_with(burst).sum::<usize>(), 8);
        assert_eq!(budget.next(start), start + LEARNED_DIAL_EVERY);
        for second in 1..100 {
            let now = start + LEARNED_DIAL_EVERY * second;
            assert!(!budget.take(now - Duration::from_nanos(1)));
            assert!(budget.take(now) && !budget.take(now));
        }
        let later = start + Duration::from_secs(3600);
        assert_eq!((0..100).filter(|_| budget.take(later)).count(), 8);
    }
}
