//! An index from identities to slots of a ring, which touches one cache line per lookup.
//!
//! ```text
//!          oldest = 14                              an entry: number, tag
//!
//!  line 0 | 23 b | 21 6 | 20 e | ... | 16 0 |       all alive: an older one may have moved on
//!  line 1 | 24 3 | 15 d | 13 9 | ... |  0 0 |       from 13 on, all are dead
//!  ...
//! ```
//!
//! A line has 16 entries, in the 64 bytes of a cache line. The upper bits of an identity select its
//! line, its home; as many of its lower bits as fit are its tag. The rest of the entry is the
//! number of its insertion. An entry whose number is below `oldest` is dead, so to remove the
//! oldest identity, `oldest` is incremented and no line is touched. A line is a queue, youngest
//! first: a new entry pushes the last one out.
//!
//! There are two entries per slot of the ring, so a line has 8 live entries on average when the
//! ring is full. In one of 120 lines all 16 are live. The entry pushed out of such a line moves to
//! its place, by age, in the next line, and so on. This maintains an invariant:
//!
//! > Between the home of a live entry and the line that contains it, all entries are alive and
//! > younger.
//!
//! A search may therefore stop at the first line whose last entry is dead. The invariant survives
//! the removal of old entries: the entries in between die later, and only younger ones push them
//! out.
//!
//! Numbers begin at 1. Before they outgrow their bits, after at least 7 times as many insertions as
//! the ring has slots (3 times from 2^29 slots on, once at 2^30), a pass over all lines renumbers
//! the oldest entry to 1 and dead entries to 0. A dead entry therefore never has a live number.

/// Number of entries in a line.
const WAYS: usize = 16;

/// Average number of live entries in a line when the ring is full.
const LIVE: usize = 8;

/// The entries of one cache line, youngest first: the upper bits are the number of the insertion,
/// the lower ones the tag.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u32; WAYS]);

impl Line {
    /// All entries are dead: no insertion has the number 0.
    const EMPTY: Self = Self([0; WAYS]);

    /// Inserts an entry behind `ways` younger ones, and returns the last entry, which is pushed
    /// out.
    #[inline]
    fn push(&mut self, ways: usize, entry: u32) -> u32 {
        let last = self.0[WAYS - 1];
        self.0.copy_within(ways..WAYS - 1, ways + 1);
        self.0[ways] = entry;
        last
    }
}

/// Maps the identities in a ring to their distance from the oldest.
pub(super) struct Index {
    lines: Vec<Line>,
    /// Number of tag bits in an entry, from 1 to 29.
    tag_bits: u32,
    /// The number of the oldest live insertion, or of the next one if there is none; less than
    /// 2^(32 - `tag_bits`).
    oldest: u32,
}

impl Index {
    /// Creates an index for a ring of at most 2^30 slots.
    pub(super) fn new(slots: usize) -> Self {
        Self {
            lines: vec![Line::EMPTY; slots.div_ceil(LIVE)],
            tag_bits: tag_bits(slots),
            oldest: 1,
        }
    }

    /// Finds an identity; returns its distance from the oldest insertion.
    ///
    /// Different identities may have equal tags: `is_at` tells whether the identity at a distance
    /// is the one searched for.
    #[inline]
    pub(super) fn find(&self, identity: u128, is_at: impl Fn(usize) -> bool) -> Option<usize> {
        let (tag, tags, least) = (self.tag(identity), self.tags(), self.least_alive());
        let mut place = self.home(identity);
        while let Some(Line(entries)) = self.lines.get(place) {
            // Compares without branches, because usually no entry matches.
            let alike = |entry: &u32| entry & tags == tag;
            if entries.iter().fold(false, |any, entry| any | alike(entry)) {
                let alive = entries.iter().take_while(|entry| **entry >= least);
                let offset = |entry: &u32| ((entry - least) >> self.tag_bits) as usize;
                let mut same = alive.filter(|entry| alike(entry)).map(offset);
                if let Some(offset) = same.find(|offset| is_at(*offset)) {
                    return Some(offset);
                }
            }
            if entries[WAYS - 1] < least {
                return None;
            }
            place = self.after(place);
        }
        None
    }

    /// Inserts an absent identity at a distance of `offset` from the oldest. All live entries are
    /// older.
    #[inline]
    pub(super) fn put(&mut self, identity: u128, offset: usize) {
        // The highest number is never used, so that `oldest` may be one more than it.
        let numbers = u32::MAX >> self.tag_bits;
        if offset as u32 >= numbers - self.oldest {
            self.renumber();
        }
        let number = self.oldest + offset as u32;
        let entry = number << self.tag_bits | self.tag(identity);
        let (home, least) = (self.home(identity), self.least_alive());
        if let Some(line) = self.lines.get_mut(home) {
            let last = line.push(0, entry);
            if last >= least {
                self.push_on(home, last);
            }
        }
    }

    /// Inserts an entry that was pushed out of a line into the lines after it.
    #[cold]
    #[inline(never)]
    fn push_on(&mut self, mut place: usize, mut entry: u32) {
        let least = self.least_alive();
        // Terminates before it wraps around, because there are more entries than live ones.
        for _ in 0..self.lines.len() {
            place = self.after(place);
            let line = &mut self.lines[place];
            let younger = line.0.partition_point(|other| *other > entry);
            if younger < WAYS {
                entry = line.push(younger, entry);
            }
            if entry < least {
                return;
            }
        }
    }

    /// Removes the `count` oldest identities.
    #[inline]
    pub(super) fn forget(&mut self, count: usize) {
        self.oldest += count as u32;
    }

    /// Renumbers the oldest entry to 1.
    #[cold]
    #[inline(never)]
    fn renumber(&mut self) {
        let past = (self.oldest - 1) << self.tag_bits;
        for entry in self.lines.iter_mut().flat_map(|line| &mut line.0) {
            *entry = entry.saturating_sub(past);
        }
        self.oldest = 1;
    }

    /// Returns the line where the search for an identity begins. Any bits of a keyed hash will do.
    #[inline]
    fn home(&self, identity: u128) -> usize {
        let upper = u64::from((identity >> 96) as u32);
        ((upper * self.lines.len() as u64) >> 32) as usize
    }

    #[inline]
    fn after(&self, line: usize) -> usize {
        match line + 1 == self.lines.len() {
            true => 0,
            false => line + 1,
        }
    }

    #[inline]
    fn tag(&self, identity: u128) -> u32 {
        identity as u32 & self.tags()
    }

    /// Returns the mask of the tag bits.
    #[inline]
    fn tags(&self) -> u32 {
        (1 << self.tag_bits) - 1
    }

    /// Returns the lower bound of live entries; dead ones are below it.
    #[inline]
    fn least_alive(&self) -> u32 {
        self.oldest << self.tag_bits
    }

    pub(super) fn bytes(&self) -> usize {
        self.lines.capacity() * size_of::<Line>()
    }
}

/// Returns the number of tag bits for a ring of `slots` slots: the bits not needed for numbers up
/// to 8 times that, and at least 1.
fn tag_bits(slots: usize) -> u32 {
    let numbers = slots.next_power_of_two().ilog2() + 3;
    u32::BITS - numbers.min(31)
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
