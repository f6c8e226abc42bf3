//! What was seen of the frames that have no nonce: lines, and raw bytes.
//!
//! Such a frame is known by its content and by how often it was said. A connection carries lines in
//! order, and each neighbour passes a line on once. So the n-th equal line of one connection is new
//! exactly if no other connection has brought n of them yet, and this node has said fewer than n.
//!
//! ```text
//!           head (oldest)      newest
//!             v                  v
//!  ring   | . | A | B | C | D | E | . | .     hash of the content, how often it was said, by whom
//!               0   1   2   3   4
//!
//!  index  | C2 A0 - - … | - … | E4 - B1 … | D3 …     lines of 16 entries, see `index`
//! ```
//!
//! Five seconds after a line was said last it may be said anew by anybody, and counts from one:
//! people repeat each other. A mesh that is flooded is another matter. There, copies come after
//! many seconds through queues that are full, so that while [`BUSY`] lines are remembered, or more
//! bytes were said than a thin link could have carried meanwhile ([`ThinLink`]), all of them are
//! known for two minutes, as frames with a nonce are.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::Verdict;
use super::index::Index;
use super::share::{Lateness, YOUNG, may_take};
use super::source::{FIRST, Source};
use super::thin_link::ThinLink;

/// What an entry counts for in bytes: 40 in the ring, 8 in the index, and 8 for its part of the
/// [`counts`](Contents::counts).
pub(super) const ENTRY_COST: usize = 56;

/// Where so many lines are remembered, in two minutes, the mesh may be flooded.
pub(super) const BUSY: usize = 4096;

/// The number of slots a ring starts with.
const INITIAL_SLOTS: usize = 64;

/// The most entries: more would leave an [`Index`] no bits for tags.
const MAX_ENTRIES: usize = 1 << 30;

/// Of so many entries one may have a count that does not fit it: a line that one connection has
/// said more than once, or that a connection without a bit has said after others.
const COUNTED_PART: usize = 16;

/// A line as the ring keeps it.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// When it was said anew last, the lower 32 bits of the clock in milliseconds.
    said: u32,
    /// By whom it was said first.
    source: u32,
    /// How often it was said.
    times: u16,
    /// How often it was said since when, in 64 ms: that is bounded.
    since: u16,
    lately: u8,
    /// Whether it was said anew since it was put here.
    again: bool,
    /// Whether there are counts of it elsewhere.
    counted: bool,
}

pub(super) struct Contents {
    max: usize,
    /// After how many milliseconds a line may be said anew, and after how many it is forgotten.
    again_after: u64,
    ttl: u64,
    /// The most equal lines that are new within the former.
    repeats: u8,
    lateness: Lateness,
    thin_link: ThinLink,
    /// The ring, as arrays of one length so that no byte is lost to alignment.
    identities: Vec<u128>,
    entries: Vec<Entry>,
    /// Which sources have said it, by their bits; who said it first has [`FIRST`], where it has
    /// none.
    by: Vec<u64>,
    index: Index,
    /// The oldest slot of the ring.
    head: usize,
    /// How many slots from `head` on are taken.
    len: usize,
    /// What does not fit an entry: how often a source has said a line, where that is not 0 or 1.
    /// By half of the line's hash, which no peer knows.
    counts: HashMap<(u64, u32), u16>,
    /// The sources of those, to find them when their entry is forgotten.
    counted: HashMap<u64, Vec<u32>>,
    /// How many counts each source has: one that repeats all it says is not to take those of
    /// others.
    counting: HashMap<u32, usize>,
    /// How many entries each source has, by its serial number.
    held: HashMap<u32, usize>,
    /// Those of them that have gone, and how many entries they have.
    left: HashSet<u32>,
    gone: usize,
    /// When the newest was put in, all bits of the clock.
    newest: u64,
    /// Until when this node cannot tell its own words from new ones, since it said too many.
    blind_until: u64,
    forgotten_young: u64,
}

impl Contents {
    /// Remembers contents in at most so many bytes, for `ttl`; in milliseconds. A line that was not
    /// said for `again_after` may be said anew.
    pub(super) fn new(bytes: usize, again_after: u64, ttl: u64, repeats: u8) -> Self {
        Self {
            max: (bytes / ENTRY_COST).clamp(1, MAX_ENTRIES),
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
            counts: HashMap::new(),
            counted: HashMap::new(),
            counting: HashMap::new(),
            held: HashMap::new(),
            left: HashSet::new(),
            gone: 0,
            newest: 0,
            blind_until: 0,
            forgotten_young: 0,
        }
    }

    /// Counts a line that a source says, and tells whether it is new.
    #[inline]
    pub(super) fn insert(&mut self, source: Source, identity: u128, clock: u64) -> Verdict {
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
            return Verdict::Copy;
        }
        if !self.note(source, slot, times) {
            return Verdict::Refused;
        }
        let entry = &mut self.entries[slot];
        if times > entry.times {
            entry.times = times;
            entry.said = clock as u32;
            entry.again = true;
            self.newest = clock;
            return Verdict::New;
        }
        self.lateness.copy(silent, clock);
        Verdict::Copy
    }

    /// Notes that a line of so many bytes is passed on.
    pub(super) fn carry(&mut self, bytes: usize, clock: u64) {
        self.thin_link.carry(bytes, clock);
    }

    /// Whether a line may be said once more, after so many times within a while. Counts that it is.
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

    fn insert_first(&mut self, source: Source, identity: u128, clock: u64) -> Verdict {
        if clock < self.blind_until && !source.is_own() {
            return Verdict::Refused;
        }
        if !self.may_take(source, clock) {
            if !self.may_forget(clock) {
                if !source.is_own() {
                    return Verdict::Refused;
                }
                self.blind_until = clock.saturating_add(self.lateness.horizon(clock));
            }
            self.forgotten_young += u64::from(self.len > 0);
            self.drop_oldest();
        }
        self.put(
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
            return Verdict::Refused;
        }
        self.entries[slot].times = 1;
        if self.is_room(source, clock) {
            Verdict::New
        } else {
            Verdict::Last
        }
    }

    /// Whether another line of a source can be remembered.
    pub(super) fn has_room(&mut self, source: Source, clock: u64) -> bool {
        self.expire(clock);
        self.is_room(source, clock)
    }

    fn is_room(&mut self, source: Source, clock: u64) -> bool {
        self.may_take(source, clock) || self.may_forget(clock)
    }

    /// Whether the oldest may be forgotten before its time: no copy of it comes.
    fn may_forget(&mut self, clock: u64) -> bool {
        let oldest = self.entries.get(self.head);
        let silent = oldest.map_or(0, |entry| age(clock, entry.said));
        !self.lateness.any(clock) || (self.len > 0 && silent >= self.lateness.horizon(clock))
    }

    fn may_take(&self, source: Source, clock: u64) -> bool {
        let held = self.held.get(&source.serial).copied().unwrap_or(0);
        let gone = match source.may_have_returned(clock) {
            true => self.gone,
            false => 0,
        };
        may_take(held, gone, self.len, self.max)
    }

    /// A source has gone; what it brought stays for its time.
    pub(super) fn close(&mut self, source: Source) {
        if let Some(held) = self.held.get(&source.serial)
            && self.left.insert(source.serial)
        {
            self.gone += held;
        }
    }

    /// The bit that says of the line in a slot that a source has said it.
    #[inline]
    fn bit(&self, source: Source, slot: usize) -> Option<u32> {
        let is_first = self.entries[slot].source == source.serial;
        source.bit.or(is_first.then_some(FIRST))
    }

    /// How often a source has said the line in a slot.
    #[inline]
    fn count(&self, source: Source, slot: usize) -> u16 {
        let once = self
            .bit(source, slot)
            .is_some_and(|bit| self.by[slot] & (1 << bit) != 0);
        if !self.entries[slot].counted {
            return u16::from(once);
        }
        let key = (half(self.identities[slot]), source.serial);
        self.counts.get(&key).copied().unwrap_or(u16::from(once))
    }

    /// Notes how often a source has said the line in a slot. Returns false where there is no room
    /// for that.
    #[inline]
    fn note(&mut self, source: Source, slot: usize, times: u16) -> bool {
        if let (1, Some(bit)) = (times, self.bit(source, slot)) {
            self.by[slot] |= 1 << bit;
            return true;
        }
        self.note_count(source, slot, times)
    }

    fn note_count(&mut self, source: Source, slot: usize, times: u16) -> bool {
        let identity = half(self.identities[slot]);
        let key = (identity, source.serial);
        if let Some(count) = self.counts.get_mut(&key) {
            *count = times;
            return true;
        }
        let mine = self.counting.get(&source.serial).copied().unwrap_or(0);
        let max = (self.max / COUNTED_PART).max(1);
        if !may_take(mine, 0, self.counts.len(), max) && !source.is_own() {
            return false;
        }
        self.counts.insert(key, times);
        *self.counting.entry(source.serial).or_default() += 1;
        self.counted
            .entry(identity)
            .or_default()
            .push(source.serial);
        self.entries[slot].counted = true;
        true
    }

    fn forget_counts(&mut self, slot: usize) {
        if !std::mem::take(&mut self.entries[slot].counted) {
            return;
        }
        let identity = half(self.identities[slot]);
        for serial in self.counted.remove(&identity).unwrap_or_default() {
            if self.counts.remove(&(identity, serial)).is_some() {
                take_one(&mut self.counting, serial);
            }
        }
    }

    /// Puts a line at the end of the ring.
    fn put(&mut self, identity: u128, entry: Entry, by: u64) {
        if self.len == self.identities.len() {
            self.grow();
        }
        let slot = self.slot(self.len);
        self.identities[slot] = identity;
        self.entries[slot] = entry;
        self.by[slot] = by;
        self.index.put(identity, self.len);
        self.len += 1;
        *self.held.entry(entry.source).or_default() += 1;
    }

    /// Drops what was not said for so long that no copy comes any more.
    ///
    /// The ages do not suffer when the lower 32 bits of the clock wrap around, every 49.7 days:
    /// what is older than the newest by more than `ttl` leaves with the next insertion after that
    /// time.
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
                // Said again since: it goes to the end, and lets those behind it go.
                let (identity, by) = (self.identities[self.head], self.by[self.head]);
                let left = self.left.contains(&entry.source);
                self.unlink_oldest();
                let again = false;
                self.put(identity, Entry { again, ..entry }, by);
                if left {
                    self.left.insert(entry.source);
                    self.gone += 1;
                }
                self.newest = clock;
            } else {
                return;
            }
        }
    }

    /// Forgets all, and gives back the memory that a burst has taken.
    #[cold]
    #[inline(never)]
    fn clear(&mut self) {
        if self.identities.len() > INITIAL_SLOTS {
            self.identities = Vec::new();
            self.entries = Vec::new();
            self.by = Vec::new();
            self.index = Index::new(0);
            self.counts = HashMap::new();
            self.counted = HashMap::new();
            self.counting = HashMap::new();
            self.held = HashMap::new();
        } else {
            self.index.forget(self.len);
            self.counts.clear();
            self.counted.clear();
            self.counting.clear();
            self.held.clear();
        }
        self.left = HashSet::new();
        self.gone = 0;
        self.head = 0;
        self.len = 0;
    }

    /// Forgets the oldest, if there is one.
    fn drop_oldest(&mut self) {
        if self.len > 0 {
            self.forget_counts(self.head);
            self.unlink_oldest();
        }
    }

    /// Takes the oldest out of the ring; what is counted of it stays.
    fn unlink_oldest(&mut self) {
        let source = self.entries[self.head].source;
        if self.left.contains(&source) {
            self.gone -= 1;
            if self.held.get(&source) == Some(&1) {
                self.left.remove(&source);
            }
        }
        take_one(&mut self.held, source);
        self.index.forget(1);
        self.head = self.slot(1);
        self.len -= 1;
    }

    /// Doubles the ring, up to the most.
    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        let slots = (self.identities.len() * 2)
            .max(INITIAL_SLOTS)
            .min(self.max.max(self.len + 1));
        let (head, taken) = (self.head, self.len);
        self.index = Index::new(slots);
        // One array after another, so that no more than one is there twice.
        turn(&mut self.identities, head, slots, 0);
        turn(&mut self.entries, head, slots, Entry::default());
        turn(&mut self.by, head, slots, 0);
        for (offset, identity) in self.identities.iter().take(taken).enumerate() {
            self.index.put(*identity, offset);
        }
        self.head = 0;
    }

    /// The slot of the ring that is `offset` after the oldest; `offset` is at most the ring's
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
        let count = size_of::<((u64, u32), u16)>() + 1;
        let list = size_of::<(u64, Vec<u32>)>() + 1;
        self.identities.capacity() * entry
            + self.index.bytes()
            + self.counts.capacity() * count
            + self.counted.capacity() * list
    }

    /// Checks what is said of its fields.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let slots = (0..self.len).map(|offset| self.slot(offset));
        let identities: Vec<_> = slots.clone().map(|slot| self.identities[slot]).collect();
        self.index.check(&identities);
        assert_eq!(self.held.values().sum::<usize>(), self.len);
        let gone = self.left.iter().map(|serial| self.held[serial]);
        assert_eq!(gone.sum::<usize>(), self.gone);
        let counted = slots.filter(|slot| self.entries[*slot].counted).count();
        assert_eq!(self.counted.len(), counted);
        assert_eq!(
            self.counts.len(),
            self.counted.values().map(Vec::len).sum::<usize>()
        );
        assert_eq!(self.counts.len(), self.counting.values().sum::<usize>());
    }
}

/// Turns a ring of one length so that its oldest comes first, and makes it longer.
fn turn<T: Copy>(ring: &mut Vec<T>, head: usize, slots: usize, empty: T) {
    if !ring.is_empty() {
        ring.rotate_left(head);
    }
    ring.reserve_exact(slots.saturating_sub(ring.len()));
    ring.resize(slots, empty);
}

/// Takes one from what a source has.
fn take_one(of: &mut HashMap<u32, usize>, serial: u32) {
    if let Some(count) = of.get_mut(&serial) {
        *count -= 1;
        if *count == 0 {
            of.remove(&serial);
        }
    }
}

/// The part of a line's hash that the index looks at least.
#[inline]
fn half(identity: u128) -> u64 {
    (identity >> 32) as u64
}

/// A step of the short clock that bounds how often a line may be said, in milliseconds.
const TICK: u64 = 64;

#[inline]
fn ticks(clock: u64) -> u16 {
    (clock / TICK) as u16
}

/// How long ago something was said, in milliseconds.
#[inline]
fn age(clock: u64, said: u32) -> u64 {
    u64::from((clock as u32).wrapping_sub(said))
}

/// Leaves out the entries, of which there may be thousands.
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
