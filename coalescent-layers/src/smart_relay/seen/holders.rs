//! How many entries of a set each source holds.

use std::collections::{HashMap, HashSet};

/// The number of entries of each source, by serial number.
#[derive(Debug, Default)]
pub(super) struct Holders {
    held: HashMap<u32, usize>,
    /// The sources in `held` that are closed, and the number of their entries.
    left: HashSet<u32>,
    gone: usize,
}

impl Holders {
    /// Returns how many entries a source holds.
    pub(super) fn held(&self, serial: u32) -> usize {
        self.held.get(&serial).copied().unwrap_or(0)
    }

    /// Returns how many entries the closed sources hold.
    pub(super) fn gone(&self) -> usize {
        self.gone
    }

    /// Adds an entry of a source that is not closed.
    pub(super) fn add(&mut self, serial: u32) {
        *self.held.entry(serial).or_default() += 1;
    }

    /// Removes an entry of a source.
    pub(super) fn take(&mut self, serial: u32) {
        let last = take_one(&mut self.held, serial);
        if self.left.contains(&serial) {
            self.gone = self.gone.saturating_sub(1);
            if last {
                self.left.remove(&serial);
            }
        }
    }

    /// Closes a source. Its entries stay.
    pub(super) fn close(&mut self, serial: u32) {
        if let Some(held) = self.held.get(&serial)
            && self.left.insert(serial)
        {
            self.gone += held;
        }
    }

    /// Checks the invariants of a set of `len` entries.
    #[cfg(test)]
    pub(super) fn check(&self, len: usize) {
        assert_eq!(self.held.values().sum::<usize>(), len);
        let gone = self.left.iter().map(|serial| self.held[serial]);
        assert_eq!(gone.sum::<usize>(), self.gone);
    }
}

/// Decrements the number of a source, and removes it at zero. Returns whether it was removed.
pub(super) fn take_one(of: &mut HashMap<u32, usize>, serial: u32) -> bool {
    let Some(count) = of.get_mut(&serial) else {
        return false;
    };
    *count = count.saturating_sub(1);
    let last = *count == 0;
    if last {
        of.remove(&serial);
    }
    last
}
