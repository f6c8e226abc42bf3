//! What a plan does for a plugin that chooses peers itself.
//!
//! This module only decides: it is told the time.

use std::hash::Hash;

use tokio::time::Instant;

use super::entry::Kind;
use super::plan::Plan;

impl<K: Clone + Eq + Hash> Plan<K> {
    /// Counts one more peer that began as a contact of a plugin. Returns false if there is no place
    /// for it.
    pub(crate) fn add_apart(&mut self) -> bool {
        let room = self.outbound() < self.config.max_peers;
        self.apart += usize::from(room);
        room
    }

    /// Counts one less of them.
    pub(crate) fn remove_apart(&mut self) {
        self.apart = self.apart.saturating_sub(1);
    }

    /// Returns the addresses of seeds, in the order in which they became known.
    pub(crate) fn seeds(&self) -> impl Iterator<Item = &K> {
        let seeds = (self.entries.values()).filter(|entry| entry.kind == Kind::Seed);
        seeds.map(|entry| &entry.key)
    }

    /// Takes one dial of a told address from the budget. Returns when to ask again if none is left.
    pub(crate) fn afford(&mut self, now: Instant) -> Option<Instant> {
        let affordable = self.budget.take(now);
        (!affordable).then(|| self.budget.next(now))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::mesh::runtime::dialer::budget::LEARNED_DIAL_BURST;
    use crate::mesh::runtime::dialer::plan::DialConfig;

    #[test]
    fn those_apart_have_places_only_within_the_maximum_and_fill_none_of_the_plan() {
        let config = DialConfig {
            min_peers: 0,
            max_peers: 3,
            ..DialConfig::default()
        };
        let now = Instant::now();
        let mut plan = Plan::new(vec!["seed"], config, 1);
        assert_eq!(plan.seeds().collect::<Vec<_>>(), [&"seed"]);
        assert!(plan.add_apart() && plan.add_apart());
        assert!(plan.due(now).is_empty());
        plan.set_more(1);
        assert_eq!(plan.due(now).len(), 1, "a wish is not fulfilled by them");
        assert!(!plan.add_apart(), "the dial may become the third");
        plan.remove_apart();
        assert!(plan.add_apart());
        plan.failed(&"seed", now);
        assert!(plan.add_apart());
        assert_eq!(plan.next(now), None);
        assert!(
            plan.due(now + Duration::from_secs(600)).is_empty(),
            "no place is left"
        );
    }

    #[test]
    fn told_addresses_share_the_budget_of_suggestions() {
        let now = Instant::now();
        let mut plan: Plan<&str> = Plan::new(Vec::new(), DialConfig::default(), 1);
        for _ in 0..LEARNED_DIAL_BURST {
            assert_eq!(plan.afford(now), None);
        }
        let later = plan.afford(now).expect("a time to wait for");
        assert!(later > now && plan.budget.next(now) == later);
        assert_eq!(plan.afford(later), None);
    }
}
