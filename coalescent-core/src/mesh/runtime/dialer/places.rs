//! How many places for outbound connections a plan has, and how many of them are taken.

use std::hash::Hash;

use tokio::time::Instant;

use super::entry::{HOLD, State};
use super::plan::Plan;

impl<K: Clone + Eq + Hash> Plan<K> {
    /// Sets the number of outbound connections that belong to no known address, because the
    /// application has asked for them. They count towards both limits.
    pub(crate) fn set_unseeded(&mut self, connections: usize) {
        self.unseeded = connections;
    }

    pub(crate) fn unseeded(&self) -> usize {
        self.unseeded
    }

    /// Sets how many more outbound connections are wanted than `min_peers`.
    pub(crate) fn set_more(&mut self, more: usize) {
        self.more = more;
    }

    pub(crate) fn more(&self) -> usize {
        self.more
    }

    /// Returns the number of outbound connections that are up or in progress.
    pub(crate) fn outbound(&self) -> usize {
        let outbound = self.entries.values().filter(|entry| entry.is_outbound());
        let others = self.unseeded.saturating_add(self.apart);
        others.saturating_add(outbound.count())
    }

    /// Returns for how many outbound places there is nobody to dial: nobody who is connected, was
    /// not tried yet, or has not failed since it was last connected. Of the suggestions of one
    /// group, one counts.
    pub(crate) fn wanted(&self) -> usize {
        let mut groups = self.taken_groups();
        let mut filled = self.unseeded;
        for entry in self.entries.values() {
            let counts = match entry.state {
                State::Up(_) => true,
                State::Dialing(_) => entry.is_promising(),
                State::Idle(_) if entry.is_promising() => match entry.group() {
                    Some(group) if groups.contains(&group) => false,
                    group => {
                        groups.extend(group);
                        true
                    }
                },
                State::Idle(_) | State::GivenUp(_) | State::Already(_) => false,
            };
            filled = filled.saturating_add(usize::from(counts));
        }
        self.target().saturating_sub(filled)
    }

    pub(super) fn target(&self) -> usize {
        let wanted = self.config.min_peers.saturating_add(self.more);
        wanted.min(self.config.max_peers)
    }

    /// Returns how many of the places are held that the plan is to fill.
    pub(super) fn held(&self, now: Instant) -> usize {
        let slow = |since| now.saturating_duration_since(since) >= HOLD;
        let dialing = self
            .entries
            .values()
            .filter_map(|entry| entry.dialing_since());
        let slow = dialing.filter(|since| slow(*since)).count();
        let held = self.outbound().saturating_sub(self.apart);
        held.saturating_sub(slow)
    }

    /// Returns how many more dials to make now.
    pub(super) fn missing(&self, now: Instant) -> usize {
        let room = self.config.max_peers.saturating_sub(self.outbound());
        self.target().saturating_sub(self.held(now)).min(room)
    }
}
