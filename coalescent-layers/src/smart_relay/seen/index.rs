//! Where in a ring an identity is, for one cache line a question.
//!
//! ```text
//!          oldest = 14                              an entry: number, tag
//!
//!  line 0 | 23 b | 21 6 | 20 e | ... | 16 0 |       all alive: an older one may have gone on
//!  line 1 | 24 3 | 15 d | 13 9 | ... |  0 0 |       from 13 on, all are dead
//!  ...
//! ```
//!
//! A line is 16 entries in the 64 bytes of a cache line. The upper bits of an identity say in which
//! line it is, its home; of its lower bits as many as there is room for are its tag. The rest of
//! the entry is the number of its insertion, and what is not in the latest insertions is dead: to
//! forget the oldest identity, `oldest` is raised, and no line is touched. A line is a queue,
//! youngest first: a newcomer pushes the last out.
//!
//! There are two entries to a slot of the ring, so that a home has 8 live entries on average when
//! the ring is full. In one of 120 cases all 16 live. Then the one that is pushed out takes its
//! place, by age, in the next line, and so on. So:
//!
//! > Between the home of a live entry and the line that it is in, all entries are alive and
//! > younger.
//!
//! A search may thus end at the first line whose last entry is dead. It stays true as time goes by:
//! those between die later, and only a younger one pushes them out.
//!
//! Numbers begin at 1. Before they outgrow their bits, after at least 7 times as many insertions as
//! the ring has slots (3 times from 2^29 slots on, once at 2^30), a pass over all lines makes the
//! oldest number 1 again, and those of the dead 0. So there is never a dead entry with a live
//! number.

/// The entries of a line.
const WAYS: usize = 16;

/// The entries that live in a line on average, when the ring is full.
const LIVE: usize = 8;

/// The entries of one cache line, youngest first: the number of an insertion in the upper bits,
/// below it the tag.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u32; WAYS]);

impl Line {
    /// All dead: no insertion has number 0.
    const EMPTY: Self = Self([0; WAYS]);

    /// Puts an entry where `ways` younger ones are before it, and returns the last, which is pushed
    /// out.
    #[inline]
    fn push(&mut self, ways: usize, entry: u32) -> u32 {
        let last = self.0[WAYS - 1];
        self.0.copy_within(ways..WAYS - 1, ways + 1);
        self.0[ways] = entry;
        last
    }
}

/// Maps the identities of a ring to their distance from its oldest.
pub(super) struct Index {
    lines: Vec<Line>,
    /// How many bits of an entry are the tag, from 1 to 29.
    tag_bits: u32,
    /// The number of the oldest live insertion, or of the next if there is none; less than 2^(32 -
    /// `tag_bits`).
    oldest: u32,
}

impl Index {
    /// Makes an index for a ring of at most 2^30 slots.
    pub(super) fn new(slots: usize) -> Self {
        Self {
            lines: vec![Line::EMPTY; slots.div_ceil(LIVE)],
            tag_bits: tag_bits(slots),
            oldest: 1,
        }
    }

    /// Looks for an identity, and says how many insertions after the oldest it is.
    ///
    /// Equal tags do not make equal identities: `is_at` tells if it is the one that was inserted so
    /// many after the oldest.
    #[inline]
    pub(super) fn find(&self, identity: u128, is_at: impl Fn(usize) -> bool) -> Option<usize> {
        let (tag, tags, least) = (self.tag(identity), self.tags(), self.least_alive());
        let mut place = self.home(identity);
        while let Some(Line(entries)) = self.lines.get(place) {
            // Without a branch an entry: most often there is none.
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

    /// Puts an absent identity in, which was inserted so many after the oldest. All that are alive
    /// are older.
    #[inline]
    pub(super) fn put(&mut self, identity: u128, offset: usize) {
        // The last number is not given, so that `oldest` may be one more than what was.
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

    /// Puts an entry that was pushed out of a line into those after it.
    #[cold]
    #[inline(never)]
    fn push_on(&mut self, mut place: usize, mut entry: u32) {
        let least = self.least_alive();
        // There are more entries than live ones: this ends before it comes round.
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

    /// Forgets the oldest, so many of them.
    #[inline]
    pub(super) fn forget(&mut self, count: usize) {
        self.oldest += count as u32;
    }

    /// Counts the oldest as 1 again.
    #[cold]
    #[inline(never)]
    fn renumber(&mut self) {
        let past = (self.oldest - 1) << self.tag_bits;
        for entry in self.lines.iter_mut().flat_map(|line| &mut line.0) {
            *entry = entry.saturating_sub(past);
        }
        self.oldest = 1;
    }

    /// The line where the search for an identity begins. Any bits will do: they are those of a
    /// keyed hash.
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

    /// The bits of an entry that are the tag.
    #[inline]
    fn tags(&self) -> u32 {
        (1 << self.tag_bits) - 1
    }

    /// What all live entries are at least, and no dead one is.
    #[inline]
    fn least_alive(&self) -> u32 {
        self.oldest << self.tag_bits
    }

    pub(super) fn bytes(&self) -> usize {
        self.lines.capacity() * size_of::<Line>()
    }
}

/// How many bits the tags have for so many slots: what is left by numbers up to 8 times that, and
/// at least 1.
fn tag_bits(slots: usize) -> u32 {
    let numbers = slots.next_power_of_two().ilog2() + 3;
    u32::BITS - numbers.min(31)
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
