//! How often a source has sent a line, where a bit of the line's entry cannot say so.

use std::collections::HashMap;

use super::holders::take_one;
use super::share::may_take;
use super::source::Source;

/// The counts of lines that one source has sent more than once, or that a source without a bit has
/// sent.
#[derive(Debug)]
pub(super) struct Counts {
    max: usize,
    /// The key is half of the line's hash, which no peer knows, and the source's serial number.
    times: HashMap<(u64, u32), u16>,
    /// The sources in `times` of each line, to remove them with the line.
    sources: HashMap<u64, Vec<u32>>,
    /// The number of counts of each source, which bounds the share of a source that repeats all
    /// its lines.
    held: HashMap<u32, usize>,
}

impl Counts {
    /// Creates a set of at most `max` counts, but at least one.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max: max.max(1),
            times: HashMap::new(),
            sources: HashMap::new(),
            held: HashMap::new(),
        }
    }

    /// Returns how often a source has sent a line, if that is counted here.
    pub(super) fn get(&self, identity: u128, source: Source) -> Option<u16> {
        self.times.get(&(half(identity), source.serial)).copied()
    }

    /// Sets how often a source has sent a line. Returns false if there is no room for that.
    pub(super) fn set(&mut self, identity: u128, source: Source, times: u16) -> bool {
        let (line, serial) = (half(identity), source.serial);
        if let Some(count) = self.times.get_mut(&(line, serial)) {
            *count = times;
            return true;
        }
        let mine = self.held.get(&serial).copied().unwrap_or(0);
        if !may_take(mine, 0, self.times.len(), self.max) && !source.is_own() {
            return false;
        }
        self.times.insert((line, serial), times);
        *self.held.entry(serial).or_default() += 1;
        self.sources.entry(line).or_default().push(serial);
        true
    }

    /// Removes all counts of a line.
    pub(super) fn forget(&mut self, identity: u128) {
        let line = half(identity);
        for serial in self.sources.remove(&line).unwrap_or_default() {
            if self.times.remove(&(line, serial)).is_some() {
                take_one(&mut self.held, serial);
            }
        }
    }

    /// Removes all counts, and frees their memory.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.max);
    }

    /// Returns the memory in use, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let count = size_of::<((u64, u32), u16)>() + 1;
        let list = size_of::<(u64, Vec<u32>)>() + 1;
        self.times.capacity() * count + self.sources.capacity() * list
    }

    /// Checks the invariants, where `lines` lines are counted here.
    #[cfg(test)]
    pub(super) fn check(&self, lines: usize) {
        assert_eq!(self.sources.len(), lines);
        let lists = self.sources.values().map(Vec::len);
        assert_eq!(self.times.len(), lists.sum::<usize>());
        assert_eq!(self.times.len(), self.held.values().sum::<usize>());
    }
}

/// Returns the half of a line's hash that the index uses least.
#[inline]
fn half(identity: u128) -> u64 {
    (identity >> 32) as u64
}
