//! A bounded memory of what was seen lately.

use std::collections::hash_map::RandomState;
use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, Hash};

/// The last so many values that were inserted. The oldest is forgotten first.
///
/// Only keyed hashes of 64 bits are kept. So a value costs the same however long it is, and nobody
/// can make two that are taken for one.
#[derive(Debug)]
pub(super) struct Recent {
    max: usize,
    hasher: RandomState,
    known: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Recent {
    /// Makes a memory of this many values. It takes its space as it fills.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            hasher: RandomState::new(),
            known: HashSet::new(),
            order: VecDeque::new(),
        }
    }

    pub(super) fn contains(&self, value: &impl Hash) -> bool {
        self.known.contains(&self.hasher.hash_one(value))
    }

    /// Adds a value. Returns false if it is remembered already.
    pub(super) fn insert(&mut self, value: &impl Hash) -> bool {
        let hash = self.hasher.hash_one(value);
        if !self.known.insert(hash) {
            return false;
        }
        if self.order.len() >= self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(hash);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_are_remembered() {
        let mut recent = Recent::new(3);
        assert!(!recent.contains(&1));
        assert!(recent.insert(&1) && !recent.insert(&1));
        for value in 2..1000 {
            assert!(recent.insert(&value));
            assert!(recent.order.len() <= 3 && recent.known.len() == recent.order.len());
        }
        assert!(recent.contains(&999) && recent.contains(&997) && !recent.contains(&996));
        assert!(recent.insert(&1));
    }
}
