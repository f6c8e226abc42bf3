//! The error budget of a peer.

use std::time::Duration;

use tokio::time::Instant;

/// A limit on the offences of a peer in each window of a minute.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    limit: u32,
    spent: u32,
    since: Option<Instant>,
}

impl Budget {
    const WINDOW: Duration = Duration::from_secs(60);

    pub(super) fn new(limit: u32) -> Self {
        Self {
            limit,
            spent: 0,
            since: None,
        }
    }

    /// Spends the weight of one offence, in a new window if the last one is over.
    pub(super) fn spend(&mut self, weight: u32, now: Instant) {
        if self.since.is_none_or(|since| now - since >= Self::WINDOW) {
            self.since = Some(now);
            self.spent = 0;
        }
        self.spent = self.spent.saturating_add(weight);
    }

    /// Returns whether more than the limit was spent.
    #[inline]
    pub(super) fn exhausted(&self) -> bool {
        self.spent > self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_budget_is_for_a_minute() {
        let mut budget = Budget::new(2);
        let start = Instant::now();
        budget.spend(1, start);
        budget.spend(1, start + Duration::from_secs(59));
        assert!(!budget.exhausted());
        budget.spend(1, start + Duration::from_secs(60));
        assert!(!budget.exhausted(), "a new minute");
        budget.spend(1, start + Duration::from_secs(61));
        budget.spend(1, start + Duration::from_secs(62));
        assert!(budget.exhausted());
    }

    #[tokio::test(start_paused = true)]
    async fn offences_have_weights() {
        let now = Instant::now();
        let mut budget = Budget::new(100);
        budget.spend(100, now);
        assert!(!budget.exhausted());
        budget.spend(1, now);
        assert!(budget.exhausted());
        budget.spend(u32::MAX, now);
        assert!(budget.exhausted());
    }
}
