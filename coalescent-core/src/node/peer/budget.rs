//! The error budget of a peer.

use std::time::Duration;

use tokio::time::Instant;

/// The time in which a budget that is used up is whole again: a minute.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);

/// The millionth parts of a weight in which a level is counted, so that it decays evenly.
const PARTS: u64 = 1_000_000;

/// What a peer has done wrong lately: the sum of weights, which decays evenly by the limit in each
/// minute.
///
/// So a peer may use its limit at once, or at this rate for ever, and there is no moment at which a
/// new budget begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    limit: u32,
    /// Whether its being used up was [taken](Self::take_guilt).
    is_taken: bool,
    /// The sum at `at`, in [`PARTS`].
    level: u64,
    at: Option<Instant>,
}

impl Budget {
    pub(crate) fn new(limit: u32) -> Self {
        Self {
            limit,
            is_taken: false,
            level: 0,
            at: None,
        }
    }

    /// Creates the budget of a peer that comes back with what was held against it.
    pub(crate) fn with_faults(limit: u32, faults: Faults, now: Instant) -> Self {
        let mut budget = Self::new(limit);
        // Whoever is let in is not at the end of its budget.
        budget.level = faults.left(limit, now).min(budget.full());
        budget.at = Some(now);
        budget
    }

    /// Spends the weight of one offence. One that is heavier than the limit uses all of it up.
    pub(crate) fn spend(&mut self, weight: u32, now: Instant) {
        let weight = u64::from(weight).min(u64::from(self.limit) + 1);
        let faults = self.faults();
        let left = faults.map_or(0, |faults| faults.left(self.limit, now));
        self.level = left.saturating_add(weight * PARTS);
        self.at = Some(self.at.map_or(now, |at| at.max(now)));
    }

    /// Spends more than the limit.
    pub(super) fn spend_all(&mut self, now: Instant) {
        self.spend(u32::MAX, now);
        self.level = self.level.max(self.full() + 1);
    }

    /// Returns whether more than the limit was spent.
    #[inline]
    pub(super) fn exhausted(&self) -> bool {
        self.level > self.full()
    }

    /// Returns whether more than the limit was spent, the first time that it is asked then.
    pub(super) fn take_guilt(&mut self) -> bool {
        self.exhausted() && !std::mem::replace(&mut self.is_taken, true)
    }

    /// Returns what to remember of the peer when it leaves: nothing if it has paid for it.
    pub(crate) fn faults(&self) -> Option<Faults> {
        let at = self.at.filter(|_| self.level > 0 && !self.is_taken)?;
        Some(Faults {
            level: self.level,
            at,
        })
    }

    fn full(&self) -> u64 {
        u64::from(self.limit) * PARTS
    }
}

/// What is held against a peer, which decays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Faults {
    level: u64,
    at: Instant,
}

impl Faults {
    /// Returns how much is left, in millionth parts of a weight.
    fn left(self, limit: u32, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.at).as_micros();
        let decayed = passed.saturating_mul(limit.into()) / u128::from(WINDOW.as_secs());
        let decayed = u64::try_from(decayed).unwrap_or(u64::MAX);
        self.level.saturating_sub(decayed)
    }

    /// Returns when it was last added to.
    pub(crate) fn at(self) -> Instant {
        self.at
    }

    /// Returns the greater of two.
    pub(crate) fn or(self, other: Option<Self>, limit: u32, now: Instant) -> Self {
        match other {
            Some(other) if other.left(limit, now) > self.left(limit, now) => other,
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_budget_comes_back_evenly_over_a_minute() {
        let mut budget = Budget::new(2);
        let start = Instant::now();
        budget.spend(1, start);
        budget.spend(1, start + Duration::from_secs(59));
        assert!(!budget.exhausted());
        budget.spend(1, start + Duration::from_secs(60));
        assert!(!budget.exhausted(), "the first one is forgotten");
        budget.spend(1, start + Duration::from_secs(61));
        assert!(budget.exhausted());
    }

    #[test]
    fn no_moment_doubles_it() {
        let start = Instant::now();
        for edge in [59, 60, 61] {
            let mut budget = Budget::new(100);
            budget.spend(1, start);
            budget.spend(99, start + Duration::from_secs(59));
            budget.spend(99, start + Duration::from_secs(edge));
            assert!(budget.exhausted(), "{edge}");
        }
    }

    #[test]
    fn offences_have_weights() {
        let now = Instant::now();
        let mut budget = Budget::new(100);
        budget.spend(100, now);
        assert!(!budget.exhausted() && !budget.take_guilt());
        budget.spend(1, now);
        assert!(budget.exhausted());
        budget.spend(u32::MAX, now);
        assert!(budget.take_guilt(), "the first time");
        assert!(!budget.take_guilt(), "once");
        for limit in [0, 1, u32::MAX] {
            let mut budget = Budget::new(limit);
            budget.spend_all(now);
            assert!(budget.exhausted());
        }
    }

    #[test]
    fn who_comes_back_has_what_was_left_of_it() {
        let start = Instant::now();
        let mut budget = Budget::new(100);
        budget.spend(90, start);
        let faults = budget.faults().unwrap();
        let mut soon = Budget::with_faults(100, faults, start + Duration::from_secs(6));
        soon.spend(20, start + Duration::from_secs(6));
        assert!(!soon.exhausted());
        soon.spend(1, start + Duration::from_secs(6));
        assert!(soon.exhausted());
        let late = start + Duration::from_secs(60);
        assert_eq!(Budget::with_faults(100, faults, late).faults(), None);
        soon.spend_all(start);
        let faults = soon.faults().unwrap();
        assert!(!Budget::with_faults(100, faults, start).exhausted());
    }

    proptest! {
        /// It holds for spending at any times, also if the clock goes back.
        #[test]
        fn what_fits_the_rate_is_never_too_much_and_what_exceeds_it_twice_always_is(
            limit in 1..1000_u32,
            spends in proptest::collection::vec((0..120_000_u64, 0..50_u32), 1..60),
        ) {
            let start = Instant::now();
            let mut budget = Budget::new(limit);
            let sum: u64 = spends.iter().map(|(_, weight)| u64::from(*weight)).sum();
            for (at, weight) in &spends {
                budget.spend(*weight, start + Duration::from_millis(*at));
            }
            if sum <= u64::from(limit) {
                prop_assert!(!budget.exhausted());
            }
            // Two minutes give back two limits, beside the first.
            let mut sorted = spends.clone();
            sorted.sort_unstable();
            let mut budget = Budget::new(limit);
            let mut ever = false;
            for (at, weight) in sorted {
                budget.spend(weight, start + Duration::from_millis(at));
                ever |= budget.exhausted();
            }
            if sum > 3 * u64::from(limit) {
                prop_assert!(ever);
            }
        }
    }
}
