//! The seen frames without a nonce: lines, and raw bytes.
//!
//! Such a frame is identified by its content and by how often it was sent. A connection carries
//! lines in order, and each neighbour relays a line once. So the n-th equal line of one connection
//! is new exactly if no other connection has delivered n of them yet and this node has sent fewer
//! than n.
//!
//! ```text
//!           head (oldest)      newest
//!             v                  v
//!  ring   | . | A | B | C | D | E | . | .     hash of the content, count, sources
//!               0   1   2   3   4
//!
//!  index  | C2 A0 - - … | - … | E4 - B1 … | D3 …     lines of 16 entries, see `index`
//! ```
//!
//! Five seconds after a line was last sent, anyone may send it again and its count restarts at one,
//! because people repeat each other. A flooded mesh is different: copies arrive many seconds late,
//! through full queues. While [`BUSY`] lines are remembered, or more bytes were sent than a thin
//! link could have carried in the meantime ([`ThinLink`]), counts restart after two minutes only.
//! A line stays in the ring for two minutes in any case, like frames with a nonce.

use std::fmt;

use super::counts::Counts;
use super::holders::Holders;
use super::index::Index;
use super::novelty::Novelty;
use super::share::{Lateness, YOUNG, may_take};
use super::source::{FIRST, Source};
use super::thin_link::ThinLink;

/// Memory of an entry in bytes: 40 in the ring, 8 in the index, and 4 for its part of the
/// [`Counts`].
pub(super) const ENTRY_COST: usize = 52;

/// With this many lines remembered, the mesh may be flooded.
pub(super) const BUSY: usize = 4096;

/// Initial number of slots of a ring.
const INITIAL_SLOTS: usize = 64;

/// Maximum number of entries: more would leave an [`Index`] no bits for tags.
const MAX_ENTRIES: usize = 1 << 30;

/// One in this many entries may have a count outside the entry: for a line that one connection has
/// sent more than once, or that a connection without a bit has sent after others.
const COUNTED_PART: usize = 32;

/// A line in the ring.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// When it was last sent as new: the lower 32 bits of the clock in milliseconds.
    said: u32,
    /// Serial number of the source that sent it first.
    source: u32,
    /// How often it was sent.
    times: u16,
    /// Start of the current rate window in units of 64 ms; `lately` counts the line within it.
    since: u16,
    lately: u8,
    /// Whether it was sent as new again after it was put into this slot. Then it moves to the end
    /// of the ring once it is the oldest.
    again: bool,
    /// Whether it has entries in `counts`.
    counted: bool,
}

pub(super) struct Contents {
    max: usize,
    /// Time after which a line counts as new again, in milliseconds; `ttl` is the time after which
    /// it is evicted.
    again_after: u64,
    ttl: u64,
    /// How many equal lines are accepted as new within `again_after`.
    repeats: u8,
    lateness: Lateness,
    thin_link: ThinLink,
    /// The ring, as separate arrays of equal length, which avoids padding.
    identities: Vec<u128>,
    entries: Vec<Entry>,
    /// The sources that have sent each line, by their bits. The first source has [`FIRST`] if it
    /// has no bit of its own.
    by: Vec<u64>,
    index: Index,
    /// The oldest slot of the ring.
    head: usize,
    /// Number of occupied slots from `head` on.
    len: usize,
    counts: Counts,
    holders: Holders,
    /// Time of the newest insertion, with all bits of the clock.
    newest: u64,
    /// Until this time, this node cannot distinguish its own lines from new ones because it has
    /// sent too many.
    blind_until: u64,
    forgotten_young: u64,
}

impl Contents {
    /// Creates a set of at most `bytes` bytes that remembers lines for `ttl` and accepts a line as
    /// new again if it was not sent for `again_after`, both in milliseconds.
    pub(super) fn new(bytes: usize, again_after: u64, ttl: u64, repeats: u8) -> Self {
        let max = (bytes / ENTRY_COST).clamp(1, MAX_ENTRIES);
        Self {
            max,
            again_after,
            ttl: ttl.max(again_after),
            repeats: repeats.max(1),
            lateness: Lateness::new(YOUNG.min(ttl), ttl),
            thin_link: ThinLink::new(again_after, ttl.max(again_after)),
            identities: Vec::new(),
            entries: Vec::new(),
            by: Vec::new(),
            index: Index::new(0),
            head: 0,
            len: 0,
            counts: Counts::new(max / COUNTED_PART),
            holders: Holders::default(),
            newest: 0,
            blind_until: 0,
            forgotten_young: 0,
        }
    }

    /// Counts a line from a source, and decides whether it is new.
    #[inline]
    pub(super) fn insert(&mut self, source: Source, identity: u128, clock: u64) -> Novelty {
        self.expire(clock);
        let is_at = |offset| self.identities[self.slot(offset)] == identity;
        let Some(offset) = self.index.find(identity, is_at) else {
            return self.insert_first(source, identity, clock);
        };
        let slot = self.slot(offset);
        let entry = self.entries[slot];
        let silent = age(clock, entry.said);
        let over =
            silent >= self.again_after && self.len < BUSY && !self.thin_link.is_behind(clock);
        if over || silent >= self.ttl || entry.times == u16::MAX {
            self.forget_counts(slot);
            self.entries[slot].times = 0;
            self.by[slot] = 0;
        }
        let times = self.count(source, slot).saturating_add(1);
        if times > self.entries[slot].times && !self.may_say(source, slot, clock) {
            return Novelty::Copy;
        }
        if !self.note(source, slot, times) {
            return Novelty::Refused;
        }
        let entry = &mut self.entries[slot];
        if times > entry.times {
            entry.times = times;
            entry.said = clock as u32;
            entry.again = true;
            self.newest = clock;
            return Novelty::New;
        }
        self.lateness.copy(silent, clock);
        Novelty::Copy
    }

    /// Forgets that a line was new once more, so that the next source that has sent as many as
    /// before, or more, sends a new one.
    pub(super) fn forget(&mut self, identity: u128, age: u64) {
        if age >= self.again_after {
            return;
        }
        let is_at = |offset| self.identities[self.slot(offset)] == identity;
        if let Some(offset) = self.index.find(identity, is_at) {
            let slot = self.slot(offset);
            let entry = &mut self.entries[slot];
            entry.times = entry.times.saturating_sub(1);
        }
    }

    /// Records that a line of `bytes` bytes is relayed.
    pub(super) fn carry(&mut self, bytes: usize, clock: u64) {
        self.thin_link.carry(bytes, clock);
    }

    /// Returns whether the rate limit of the line permits another one, and counts it.
    fn may_say(&mut self, source: Source, slot: usize, clock: u64) -> bool {
        let entry = &mut self.entries[slot];
        let since = u64::from((ticks(clock)).wrapping_sub(entry.since)) * TICK;
        if since >= self.again_after || age(clock, entry.said) >= self.again_after {
            entry.since = ticks(clock);
            entry.lately = 0;
        }
        if entry.lately >= self.repeats && !source.is_own() {
            return false;
        }
        entry.lately = entry.lately.saturating_add(1);
        true
    }

    fn insert_first(&mut self, source: Source, identity: u128, clock: u64) -> Novelty {
        if clock < self.blind_until && !source.is_own() {
            return Novelty::Refused;
        }
        if !self.may_take(source, clock) {
            if !self.may_forget(clock) {
                if !source.is_own() {
                    return Novelty::Refused;
                }
                self.blind_until = clock.saturating_add(self.lateness.horizon(clock));
            }
            self.forgotten_young += u64::from(self.len > 0);
            self.drop_oldest();
        }
        self.holders.add(source.serial);
        self.append(
            identity,
            Entry {
                said: clock as u32,
                source: source.serial,
                since: ticks(clock),
                lately: 1,
                ..Entry::default()
            },
            0,
        );
        self.newest = clock;
        let slot = self.slot(self.len - 1);
        if !self.note(source, slot, 1) {
            return Novelty::Refused;
        }
        self.entries[slot].times = 1;
        if self.is_room(source, clock) {
            Novelty::New
        } else {
            Novelty::Last
        }
    }

    /// Returns whether there is room for another line of a source.
    pub(super) fn has_room(&mut self, source: Source, clock: u64) -> bool {
        self.expire(clock);
        self.is_room(source, clock)
    }

    fn is_room(&mut self, source: Source, clock: u64) -> bool {
        self.may_take(source, clock) || self.may_forget(clock)
    }

    /// Returns whether the oldest line may be evicted before it expires because no copy of it is
    /// expected.
    fn may_forget(&mut self, clock: u64) -> bool {
        let oldest = self.entries.get(self.head);
        let silent = oldest.map_or(0, |entry| age(clock, entry.said));
        !self.lateness.any(clock) || (self.len > 0 && silent >= self.lateness.horizon(clock))
    }

    fn may_take(&self, source: Source, clock: u64) -> bool {
        let gone = match source.may_have_returned(clock) {
            true => self.holders.gone(),
            false => 0,
        };
        may_take(self.holders.held(source.serial), gone, self.len, self.max)
    }

    /// Closes a source. Its lines stay until they expire.
    pub(super) fn close(&mut self, source: Source) {
        self.holders.close(source.serial);
    }

    /// Returns the bit that marks the line in a slot as sent by a source.
    #[inline]
    fn bit(&self, source: Source, slot: usize) -> Option<u32> {
        let is_first = self.entries[slot].source == source.serial;
        source.bit.or(is_first.then_some(FIRST))
    }

    /// Returns how often a source has sent the line in a slot.
    #[inline]
    fn count(&self, source: Source, slot: usize) -> u16 {
        let once = self
            .bit(source, slot)
            .is_some_and(|bit| self.by[slot] & (1 << bit) != 0);
        if !self.entries[slot].counted {
            return u16::from(once);
        }
        let count = self.counts.get(self.identities[slot], source);
        count.unwrap_or(u16::from(once))
    }

    /// Records how often a source has sent the line in a slot. Returns false if there is no room
    /// for that.
    #[inline]
    fn note(&mut self, source: Source, slot: usize, times: u16) -> bool {
        if let (1, Some(bit)) = (times, self.bit(source, slot)) {
            self.by[slot] |= 1 << bit;
            return true;
        }
        let noted = self.counts.set(self.identities[slot], source, times);
        self.entries[slot].counted |= noted;
        noted
    }

    fn forget_counts(&mut self, slot: usize) {
        if std::mem::take(&mut self.entries[slot].counted) {
            self.counts.forget(self.identities[slot]);
        }
    }

    /// Appends a line to the ring.
    fn append(&mut self, identity: u128, entry: Entry, by: u64) {
        if self.len == self.identities.len() {
            self.grow();
        }
        let slot = self.slot(self.len);
        self.identities[slot] = identity;
        self.entries[slot] = entry;
        self.by[slot] = by;
        self.index.put(identity, self.len);
        self.len += 1;
    }

    /// Evicts lines that were not sent for so long that no copy can arrive any more.
    ///
    /// Ages stay correct when the lower 32 bits of the clock wrap around, every 49.7 days: entries
    /// that much older than the newest are evicted by the next insertion after `ttl`.
    #[inline]
    fn expire(&mut self, clock: u64) {
        if self.len == 0 {
            return;
        }
        if clock.saturating_sub(self.newest) >= self.ttl {
            self.clear();
            return;
        }
        while self.len > 0 {
            let entry = self.entries[self.head];
            if age(clock, entry.said) >= self.ttl {
                self.drop_oldest();
            } else if entry.again {
                // Sent again since: move it to the end, so that the entries behind it can be
                // evicted.
                let (identity, by) = (self.identities[self.head], self.by[self.head]);
                self.unlink_oldest();
                let again = false;
                self.append(identity, Entry { again, ..entry }, by);
                self.newest = clock;
            } else {
                return;
            }
        }
    }

    /// Removes all lines, and frees the memory that a burst has taken.
    #[cold]
    #[inline(never)]
    fn clear(&mut self) {
        if self.identities.len() > INITIAL_SLOTS {
            self.identities = Vec::new();
            self.entries = Vec::new();
            self.by = Vec::new();
            self.index = Index::new(0);
        } else {
            self.index.forget(self.len);
        }
        self.counts.clear();
        self.holders = Holders::default();
        self.head = 0;
        self.len = 0;
    }

    /// Evicts the oldest line, if any.
    fn drop_oldest(&mut self) {
        if self.len > 0 {
            self.forget_counts(self.head);
            self.holders.take(self.entries[self.head].source);
            self.unlink_oldest();
        }
    }

    /// Removes the oldest line from the ring, but neither its counts nor its source's.
    fn unlink_oldest(&mut self) {
        self.index.forget(1);
        self.head = self.slot(1);
        self.len -= 1;
    }

    /// Doubles the ring, up to the maximum.
    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        let slots = (self.identities.len() * 2)
            .max(INITIAL_SLOTS)
            .min(self.max.max(self.len + 1));
        let (head, taken) = (self.head, self.len);
        self.index = Index::new(slots);
        // One array after another, so that only one exists twice at a time.
        turn(&mut self.identities, head, slots, 0);
        turn(&mut self.entries, head, slots, Entry::default());
        turn(&mut self.by, head, slots, 0);
        for (offset, identity) in self.identities.iter().take(taken).enumerate() {
            self.index.put(*identity, offset);
        }
        self.head = 0;
    }

    /// Returns the slot at a distance of `offset` from the oldest; `offset` is at most the ring's
    /// length.
    #[inline]
    fn slot(&self, offset: usize) -> usize {
        let slot = self.head + offset;
        if slot >= self.identities.len() {
            slot - self.identities.len()
        } else {
            slot
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn forgotten_young(&self) -> u64 {
        self.forgotten_young
    }

    pub(super) fn bytes(&self) -> usize {
        let entry = size_of::<u128>() + size_of::<Entry>() + size_of::<u64>();
        self.identities.capacity() * entry + self.index.bytes() + self.counts.bytes()
    }

    /// Checks the invariants.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let slots = (0..self.len).map(|offset| self.slot(offset));
        let identities: Vec<_> = slots.clone().map(|slot| self.identities[slot]).collect();
        self.index.check(&identities);
        self.holders.check(self.len);
        let counted = slots.filter(|slot| self.entries[*slot].counted).count();
        self.counts.check(counted);
    }
}

/// Rotates an array of the ring so that the oldest entry comes first, and extends it.
fn turn<T: Copy>(ring: &mut Vec<T>, head: usize, slots: usize, empty: T) {
    if !ring.is_empty() {
        ring.rotate_left(head);
    }
    ring.reserve_exact(slots.saturating_sub(ring.len()));
    ring.resize(slots, empty);
}

/// Resolution of the short clock for the rate of a line, in milliseconds.
const TICK: u64 = 64;

#[inline]
fn ticks(clock: u64) -> u16 {
    (clock / TICK) as u16
}

/// Returns the time since `said`, in milliseconds.
#[inline]
fn age(clock: u64, said: u32) -> u64 {
    u64::from((clock as u32).wrapping_sub(said))
}

/// Omits the entries, of which there may be thousands.
impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contents")
            .field("len", &self.len)
            .field("max", &self.max)
            .field("lateness", &self.lateness)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "contents_tests.rs"]
mod tests;
