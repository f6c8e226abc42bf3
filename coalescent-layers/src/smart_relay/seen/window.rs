//! The identities of one class.

use std::{fmt, time::Duration};

use super::index::Index;

/// The number of slots a window starts with.
const INITIAL_SLOTS: usize = 64;

/// The largest capacity: more would leave an [`Index`] no bits for tags.
const MAX_CAPACITY: usize = 1 << 30;

/// The longest lifetime, in milliseconds (24.8 days): twice this must fit a `u32`, see [`Window::expire`].
const MAX_TTL: u32 = u32::MAX / 2;

/// The identities of one class, oldest first.
///
/// All have the same lifetime, so that the expired ones are at the head of the ring: each insertion drops
/// them, and whatever a lookup finds is alive.
///
/// Each of the ring's identities from `head` on is in the index, by its distance from there, and nothing else is. So
/// indexes never leave their arrays: they come from [`Window::slot`].
pub(super) struct Window {
    capacity: usize,
    /// In milliseconds.
    ttl: u32,
    /// The ring, as two arrays of one length so that no byte is lost to alignment.
    identities: Vec<u128>,
    /// When each was inserted, the lower 32 bits of the clock in milliseconds.
    inserted: Vec<u32>,
    index: Index,
    /// The oldest slot of the ring.
    head: usize,
    /// How many slots from `head` on are taken.
    len: usize,
    /// When the newest was inserted, all bits of the clock.
    newest: u64,
    evicted_young: u64,
}

impl Window {
    pub(super) fn new(capacity: usize, ttl: Duration) -> Self {
        Self {
            capacity: capacity.clamp(1, MAX_CAPACITY),
            ttl: u32::try_from(ttl.as_millis())
                .unwrap_or(MAX_TTL)
                .min(MAX_TTL),
            identities: Vec::new(),
            inserted: Vec::new(),
            index: Index::new(0),
            head: 0,
            len: 0,
            newest: 0,
            evicted_young: 0,
        }
    }

    /// Remembers an identity, or returns false if it is remembered. `clock` never goes back.
    #[inline]
    pub(super) fn insert(&mut self, identity: u128, clock: u64) -> bool {
        self.expire(clock);
        let is_at = |offset| self.identities[self.slot(offset)] == identity;
        if self.index.contains(identity, is_at) {
            return false;
        }
        if self.len == self.identities.len() {
            self.make_room();
        }
        let slot = self.slot(self.len);
        self.identities[slot] = identity;
        self.inserted[slot] = clock as u32;
        self.index.put(identity, self.len);
        self.len += 1;
        self.newest = clock;
        true
    }

    /// Makes room in a full ring.
    #[inline]
    fn make_room(&mut self) {
        if self.len < self.capacity {
            self.grow();
        } else {
            self.drop_oldest();
            self.evicted_young += 1;
        }
    }

    /// Drops what has expired.
    ///
    /// The ages below do not suffer when the lower 32 bits of the clock wrap around, every 49.7 days: when the newest
    /// is younger than `ttl`, all others are younger than twice that, since an earlier call, not before the newest was
    /// inserted, left nothing older than `ttl`.
    #[inline]
    fn expire(&mut self, clock: u64) {
        if self.len == 0 {
            return;
        }
        if clock - self.newest >= u64::from(self.ttl) {
            self.clear();
            return;
        }
        while self.len > 0 && (clock as u32).wrapping_sub(self.inserted[self.head]) >= self.ttl {
            self.drop_oldest();
        }
    }

    /// Forgets all, and gives back the memory that a burst has taken.
    #[cold]
    #[inline(never)]
    fn clear(&mut self) {
        if self.identities.len() > INITIAL_SLOTS {
            self.identities = Vec::new();
            self.inserted = Vec::new();
            self.index = Index::new(0);
        } else {
            self.index.forget(self.len);
        }
        self.head = 0;
        self.len = 0;
    }

    #[inline]
    fn drop_oldest(&mut self) {
        self.index.forget(1);
        self.head = self.slot(1);
        self.len -= 1;
    }

    /// Doubles the ring, up to the capacity.
    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        let slots = (self.identities.len() * 2)
            .max(INITIAL_SLOTS)
            .min(self.capacity);
        let mut identities = Vec::with_capacity(slots);
        let mut inserted = Vec::with_capacity(slots);
        let mut index = Index::new(slots);
        for offset in 0..self.len {
            let slot = self.slot(offset);
            let identity = self.identities[slot];
            index.put(identity, offset);
            identities.push(identity);
            inserted.push(self.inserted[slot]);
        }
        identities.resize(slots, 0);
        inserted.resize(slots, 0);
        self.identities = identities;
        self.inserted = inserted;
        self.index = index;
        self.head = 0;
    }

    /// The slot of the ring that is `offset` after the oldest; `offset` is at most the ring's length.
    #[inline]
    fn slot(&self, offset: usize) -> usize {
        let slot = self.head + offset;
        if slot >= self.identities.len() {
            slot - self.identities.len()
        } else {
            slot
        }
    }

    /// Counts the identities, of which some may have expired since the last insertion.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Counts those that were forgotten before their time.
    pub(super) fn evicted_young(&self) -> u64 {
        self.evicted_young
    }

    /// Returns the bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.identities.capacity() * size_of::<u128>()
            + self.inserted.capacity() * size_of::<u32>()
            + self.index.bytes()
    }

    /// Checks what is said of its fields.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let identities = (0..self.len).map(|offset| self.identities[self.slot(offset)]);
        self.index.check(&identities.collect::<Vec<_>>());
    }
}

/// Leaves out the identities, of which there may be thousands.
impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window")
            .field("len", &self.len)
            .field("capacity", &self.capacity)
            .field("ttl_ms", &self.ttl)
            .field("evicted_young", &self.evicted_young)
            .finish_non_exhaustive()
    }
}
