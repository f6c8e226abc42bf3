//! Which suggested addresses the plan knows, and which of them share a network.
//!
//! This module only decides: it is told the time.

use std::hash::Hash;

use tokio::time::Instant;

use super::entry::{Kind, Learned, State};
use super::plan::Plan;
use crate::transport::group::NetGroup;

/// How many suggested addresses are known at a time: 256.
pub(crate) const LEARNED_MAX: usize = 256;

/// What has become of a suggestion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Suggested<K> {
    /// The address is known already, or there is no room for it.
    Nothing,
    /// It is taken, and this other one forgotten for it.
    Taken { evicted: Option<K> },
}

impl<K: Clone + Eq + Hash> Plan<K> {
    /// Adds a suggested address, unless it is known.
    pub(crate) fn suggest(&mut self, key: K, learned: Learned, now: Instant) -> Suggested<K> {
        if let Some(entry) = self.entry(&key) {
            // Whoever fails does not come first again and again.
            let promising = entry.is_promising();
            if let Kind::Learned(known) = &mut entry.kind {
                known.first |= learned.first && promising;
            }
            if !matches!(entry.state, State::GivenUp(until) if until <= now) {
                return Suggested::Nothing;
            }
            self.forget(&key);
        }
        let mut evicted = None;
        if self.learned >= LEARNED_MAX {
            evicted = self.victim();
            match &evicted {
                Some(victim) => self.forget(victim),
                None => return Suggested::Nothing,
            }
        }
        self.insert(key, Kind::Learned(learned));
        Suggested::Taken { evicted }
    }

    /// Whether a dial of `key` may use an address of this group now.
    pub(crate) fn is_free(&self, key: &K, group: NetGroup) -> bool {
        !self.is_learned(key)
            || !self.entries.values().any(|entry| {
                entry.is_outbound() && entry.group() == Some(group) && entry.key != *key
            })
    }

    /// Records the group that the name of a suggested address has turned out to be in. Returns
    /// whether a dial of `key` may use it now.
    pub(crate) fn claim_group(&mut self, key: &K, group: NetGroup) -> bool {
        let free = self.is_free(key, group);
        if let Some(entry) = self.entry(key)
            && let Kind::Learned(learned) = &mut entry.kind
        {
            learned.group = Some(group);
        }
        free
    }

    /// The groups of the suggestions that are dialled or connected.
    pub(super) fn taken_groups(&self) -> Vec<NetGroup> {
        let outbound = self.entries.values().filter(|entry| entry.is_outbound());
        outbound.filter_map(|entry| entry.group()).collect()
    }

    /// Returns which suggestion to evict.
    fn victim(&self) -> Option<K> {
        let most = self.counts.iter().max_by_key(|(_, count)| **count);
        let most = most.map(|(source, _)| *source);
        let of_most = |learned: &Learned| Some(learned.source) == most && !learned.first;
        self.worst(of_most).or_else(|| self.worst(|_| true))
    }

    /// Returns the suggestion with the least hope, of those that `may` be evicted.
    fn worst(&self, may: impl Fn(&Learned) -> bool) -> Option<K> {
        let mut worst = None;
        for entry in self.entries.values() {
            if entry.is_outbound() || !entry.learned().is_some_and(&may) {
                continue;
            }
            let given_up = matches!(entry.state, State::GivenUp(_));
            let already = matches!(entry.state, State::Already(_));
            let rank = (given_up, !already, entry.failures);
            // Of equals the oldest, which comes first.
            if worst.is_none_or(|(worst, _)| rank > worst) {
                worst = Some((rank, &entry.key));
            }
        }
        worst.map(|(_, key)| key.clone())
    }
}
