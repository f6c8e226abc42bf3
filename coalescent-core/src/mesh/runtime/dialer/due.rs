//! Which addresses the plan has dialled now, and when it will have the next dialled.

use std::hash::Hash;

use rand::Rng;
use tokio::time::Instant;

use super::entry::{HOLD, Kind, State};
use super::plan::{Due, Plan};

/// The order of those that are ready: first ones, those with the fewest failures, those tried
/// longest ago, and by chance. The last is the number of the entry.
type Rank = (bool, u32, u64, u32, u64);

impl<K: Clone + Eq + Hash> Plan<K> {
    /// Returns the addresses to dial now. They count as in progress from then on.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Due<K>> {
        let mut missing = self.missing(now);
        let mut dials = Vec::new();
        if missing == 0 {
            return dials;
        }
        let (mut seeds, mut learned) = self.ready(now);
        let mut taken = self.taken_groups();
        while missing > 0 {
            let group = |serial: u64| self.entries.get(&serial).and_then(|entry| entry.group());
            while let Some(&(.., serial)) = learned.last()
                && group(serial).is_some_and(|group| taken.contains(&group))
            {
                learned.pop();
            }
            let affordable = !learned.is_empty() && self.budget.next(now) <= now;
            let first = learned.last().is_some_and(|(later, ..)| !later);
            let learned_turn = affordable && (first || self.learned_turn || seeds.is_empty());
            let from = if learned_turn {
                &mut learned
            } else {
                &mut seeds
            };
            let Some((.., serial)) = from.pop() else {
                break;
            };
            if learned_turn {
                self.budget.take(now);
                taken.extend(group(serial));
            }
            if !first {
                self.learned_turn = !learned_turn;
            }
            if let Some(entry) = self.entries.get_mut(&serial) {
                self.tries += 1;
                entry.state = State::Dialing(now);
                entry.banned = false;
                entry.tried = self.tries;
                dials.push(Due {
                    key: entry.key.clone(),
                    failures: entry.failures,
                    source: entry.source(),
                });
                if let Kind::Learned(learned) = &mut entry.kind {
                    learned.first = false;
                }
            }
            missing -= 1;
        }
        dials
    }

    /// Returns the seeds and the learned addresses that may be dialled, the best of each last.
    fn ready(&mut self, now: Instant) -> (Vec<Rank>, Vec<Rank>) {
        let (mut seeds, mut learned): (Vec<Rank>, Vec<Rank>) = Default::default();
        for (serial, entry) in &self.entries {
            if entry.is_ready(now) {
                let chance = self.rng.random();
                let rank = (
                    !entry.is_first(),
                    entry.failures,
                    entry.tried,
                    chance,
                    *serial,
                );
                match entry.learned() {
                    Some(_) => learned.push(rank),
                    None => seeds.push(rank),
                }
            }
        }
        for ranks in [&mut seeds, &mut learned] {
            ranks.sort_unstable_by(|a, b| b.cmp(a));
        }
        (seeds, learned)
    }

    /// Returns when [`due`](Self::due) will return an address if nothing else happens: `now` if it
    /// already would, `None` if it never will.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        let outbound = self.outbound();
        if outbound >= self.config.max_peers {
            return None;
        }
        let room_at = match self.missing(now) {
            0 => self.next_place(now)?,
            _ => now,
        };
        let taken = self.taken_groups();
        let affordable_at = self.budget.next(now);
        let ready = self.entries.values().filter_map(|entry| {
            let State::Idle(at) = entry.state else {
                return None;
            };
            let at = at.unwrap_or(now);
            match (entry.learned(), entry.group()) {
                (_, Some(group)) if taken.contains(&group) => None,
                (Some(_), _) => Some(at.max(affordable_at)),
                (None, _) => Some(at),
            }
        });
        ready.min().map(|at| at.max(room_at).max(now))
    }

    /// Returns when the next place is no longer held, because a dial takes so long.
    fn next_place(&self, now: Instant) -> Option<Instant> {
        // One more than these must become free, before one is missing.
        let over = self.held(now).checked_sub(self.target())?;
        let dialing = self
            .entries
            .values()
            .filter_map(|entry| entry.dialing_since());
        let mut free_at: Vec<_> = dialing.map(|since| since + HOLD).collect();
        free_at.retain(|at| *at > now);
        free_at.sort_unstable();
        let place = free_at.get(over).copied();
        place.filter(|_| self.target() > 0)
    }
}
