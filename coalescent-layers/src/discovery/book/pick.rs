//! Who is picked of a table.

use std::ops::Range;
use std::time::SystemTime;

use coalescent_core::Address;
use rand::Rng;

use super::entry::{Entry, seconds};
use super::places::{BOOK_CAPACITY, BUCKET_PLACES, TRIED_FROM};
use super::table::Table;

impl Table {
    /// Picks an address to dial among those that `filter` lets pass.
    ///
    /// Half of the picks are tried addresses, half new ones, if there are both. Each bucket counts
    /// the same, however full it is. Addresses are less likely the more dials to them have failed,
    /// rare within ten minutes after a dial, and not picked for 15 seconds after one that failed.
    pub fn pick(&mut self, now: SystemTime, filter: impl Fn(&Address) -> bool) -> Option<Address> {
        let now = seconds(now);
        let tried_first = self.rng.random_bool(0.5);
        [tried_first, !tried_first].into_iter().find_map(|tried| {
            let range = if tried {
                TRIED_FROM..BOOK_CAPACITY
            } else {
                0..TRIED_FROM
            };
            self.pick_from(range, now, |entry| {
                !entry.rests(now) && filter(&entry.address)
            })
        })
    }

    fn pick_from(
        &mut self,
        range: Range<usize>,
        now: u64,
        filter: impl Fn(&Entry) -> bool,
    ) -> Option<Address> {
        let slots = self.slots.get(range)?;
        let mut candidates: Vec<(f64, &Entry)> = Vec::new();
        for bucket in slots.chunks(BUCKET_PLACES) {
            let from = candidates.len();
            let passing = bucket.iter().flatten().filter(|entry| filter(entry));
            candidates.extend(passing.map(|entry| (entry.weight(now), &**entry)));
            let bucket = candidates.get_mut(from..).unwrap_or_default();
            let count = bucket.len() as f64;
            for (weight, _) in bucket {
                *weight /= count;
            }
        }
        let total: f64 = candidates.iter().map(|(weight, _)| weight).sum();
        let mut left = self.rng.random::<f64>() * total;
        let chosen = candidates.iter().find(|(weight, _)| {
            left -= weight;
            left < 0.0
        });
        // Rounding may leave a little after the last.
        let (_, entry) = chosen.or(candidates.last())?;
        Some(entry.address.clone())
    }

    /// Returns an address to be dialled only to learn whether somebody is there, of those that
    /// `filter` lets pass: a tried one whose place another waits for, or else one that was never
    /// reached. `None` if there is nothing to learn now.
    ///
    /// The outcome is told with [`dialled_ok`](Table::dialled_ok) or
    /// [`dial_failed`](Table::dial_failed).
    pub fn feeler(
        &mut self,
        now: SystemTime,
        filter: impl Fn(&Address) -> bool,
    ) -> Option<Address> {
        let now = seconds(now);
        let is_due = |entry: &&Entry| !entry.was_dialled_recently(now) && filter(&entry.address);
        let tested = self
            .tests
            .iter()
            .filter_map(|test| self.slot(*self.index.get(&test.holder)?))
            .find(is_due);
        if let Some(entry) = tested {
            return Some(entry.address.clone());
        }
        self.pick_from(0..TRIED_FROM, now, |entry| {
            entry.reached == 0 && is_due(&entry) && !entry.is_terrible(now)
        })
    }
}
