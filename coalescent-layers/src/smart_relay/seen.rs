//! The identities that this node has seen, so that each frame is relayed once.
//!
//! An identity is a keyed 128-bit hash ([`Hasher`]); [`Seen`] remembers identities for a while. The two
//! classes of identity have a [`Window`] each: a flood of lines, which are remembered for seconds, cannot
//! push out the nonces, which are remembered for minutes.
//!
//! ```text
//!           head (oldest)      newest
//!             v                  v
//!  ring   | . | A | B | C | D | E | . | .     identity: u128, inserted at: u32 ms
//!               ^           ^
//!  table  | - | B | - | - | E | - | …         lower half of identity, place in the ring: u32 each
//! ```
//!
//! The table has open addressing and is at most half full. A window takes 36 bytes an identity: 16 for the identity, 4
//! for its time, 16 for its share of the table. It takes nothing before its first identity, and doubles with use
//! until it holds its capacity: 65,536 identities are 2.25 MiB, and twice that if both classes are in full use. Once
//! everything in it has expired, the next insertion gives the memory back.

use std::{fmt, hash::Hasher as _, time::Duration};

use rand::CryptoRng;
use siphasher::sip128::{Hasher128 as _, SipHasher13};
use tokio::time::Instant;

/// How many identities of each class are remembered at most, unless said otherwise.
pub const CAPACITY: usize = 65_536;

/// How long an identity with a nonce is remembered, unless said otherwise.
pub const TTL: Duration = Duration::from_secs(120);

/// How long an identity made of content alone is remembered, unless said otherwise.
pub const CONTENT_TTL: Duration = Duration::from_secs(5);

/// The number of places a window starts with.
const INITIAL_SLOTS: usize = 64;

/// The largest capacity: indexes are `u32`, with one value kept for [`EMPTY`].
const MAX_CAPACITY: usize = 1 << 30;

/// The longest lifetime, in milliseconds (24.8 days): twice this must fit a `u32`, see [`Window::expire`].
const MAX_TTL: u32 = u32::MAX / 2;

/// A place of the table that points nowhere; see [`entry`].
const EMPTY: u64 = u64::MAX;

/// Computes the identities of frames, with a key that is this process's own.
///
/// SipHash-1-3 with 128 bits: whoever doesn't know the key can neither make two frames with one identity, nor
/// identities that crowd one place of the table.
#[derive(Clone)]
pub(crate) struct Hasher {
    nonced: SipHasher13,
    content: SipHasher13,
}

impl Hasher {
    /// Makes a hasher with a fresh key.
    pub(crate) fn random() -> Self {
        Self::new(&mut rand::rng())
    }

    /// Makes a hasher with a key drawn from `rng`.
    pub(crate) fn new(rng: &mut impl CryptoRng) -> Self {
        let mut key = || {
            let mut key = [0; 16];
            rng.fill_bytes(&mut key);
            SipHasher13::new_with_key(&key)
        };
        Self {
            nonced: key(),
            content: key(),
        }
    }

    /// Hashes a frame. `nonce` is absent on wires that have none.
    ///
    /// The two kinds are hashed with keys of their own, so that content which begins with eight bytes equal to
    /// a nonce is not the frame with that nonce.
    pub(crate) fn identity(&self, nonce: Option<u64>, payload: &[u8]) -> u128 {
        let mut state = match nonce {
            Some(nonce) => {
                let mut state = self.nonced;
                state.write(&nonce.to_be_bytes());
                state
            }
            None => self.content,
        };
        state.write(payload);
        state.finish128().as_u128()
    }
}

/// Leaves the key out: whoever reads it in a log could make collisions.
impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").finish_non_exhaustive()
    }
}

/// What an identity was made of, which decides how long it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// A nonce and the payload: equal bytes sent twice are two frames.
    Nonce,
    /// The payload alone: equal bytes are one frame until the identity expires.
    Content,
}

/// Remembers identities, the latest `capacity` of each class, each for the lifetime of its class.
///
/// Seeing a duplicate does not refresh an identity's age, in either class. For content it must not: a line
/// repeated every 4 s would be silenced for ever. For nonces it need not: a copy that comes more than
/// [`TTL`] after the first is stale wherever it was, and the order of age stays the order of insertion.
#[derive(Debug)]
pub(crate) struct Seen {
    nonces: Window,
    contents: Window,
    /// The instant of the first insertion: time is counted from here.
    epoch: Option<Instant>,
    /// The latest time that an insertion brought, in milliseconds since `epoch`.
    clock: u64,
}

impl Default for Seen {
    fn default() -> Self {
        Self::new(CAPACITY, TTL, CONTENT_TTL)
    }
}

impl Seen {
    /// Makes an empty set that remembers at most `capacity` identities of each class (at least 1, at most
    /// 2^30), nonces for `ttl` and contents for `content_ttl` (at most 24 days; in steps of 1 ms).
    pub(crate) fn new(capacity: usize, ttl: Duration, content_ttl: Duration) -> Self {
        Self {
            nonces: Window::new(capacity, ttl),
            contents: Window::new(capacity, content_ttl),
            epoch: None,
            clock: 0,
        }
    }

    /// Remembers `identity` and returns true, or returns false if it is remembered already.
    ///
    /// Takes constant time on average; an insertion that doubles the window, or the first after many identities
    /// expired together, pays for them at once: about 1 ms at the default capacity.
    ///
    /// A `now` that is before an earlier one counts as that one: tasks that share the set may have read
    /// the clock before they waited for the lock.
    pub(crate) fn insert(&mut self, identity: u128, class: Class, now: Instant) -> bool {
        let epoch = *self.epoch.get_or_insert(now);
        let since = now.saturating_duration_since(epoch);
        let millis = since.as_secs().saturating_mul(1000) + u64::from(since.subsec_millis());
        self.clock = self.clock.max(millis);
        match class {
            Class::Nonce => self.nonces.insert(identity, self.clock),
            Class::Content => self.contents.insert(identity, self.clock),
        }
    }

    /// Counts the identities in memory; some of them may have expired since the last insertion.
    pub(crate) fn len(&self) -> usize {
        self.nonces.len + self.contents.len
    }

    /// Counts the identities that were forgotten before their time because a window was full.
    ///
    /// Each may let one copy through a second time: a number that grows calls for a larger capacity.
    pub(crate) fn evicted_young(&self) -> u64 {
        self.nonces.evicted_young + self.contents.evicted_young
    }

    /// Returns the bytes on the heap.
    pub(crate) fn bytes(&self) -> usize {
        self.nonces.bytes() + self.contents.bytes()
    }
}

/// The identities of one class, oldest first.
///
/// All have the same lifetime, so that the expired ones are at the head of the ring: each insertion drops
/// them, and whatever a lookup finds is alive.
///
/// Indexes never leave their arrays: those into `table` are masked with its length less one, those into the ring
/// come from [`Window::slot`] or from the table, which holds nothing else.
struct Window {
    capacity: usize,
    /// In milliseconds.
    ttl: u32,
    /// The ring, as two arrays of one length so that no byte is lost to alignment.
    identities: Vec<u128>,
    /// When each was inserted, the lower 32 bits of the clock in milliseconds.
    inserted: Vec<u32>,
    /// Where in the ring an identity is, see [`entry`]; a power of two, at least twice the ring.
    table: Vec<u64>,
    /// The oldest place of the ring.
    head: usize,
    /// How many places from `head` on are taken.
    len: usize,
    /// When the newest was inserted, all bits of the clock.
    newest: u64,
    evicted_young: u64,
}

impl Window {
    fn new(capacity: usize, ttl: Duration) -> Self {
        Self {
            capacity: capacity.clamp(1, MAX_CAPACITY),
            ttl: u32::try_from(ttl.as_millis())
                .unwrap_or(MAX_TTL)
                .min(MAX_TTL),
            identities: Vec::new(),
            inserted: Vec::new(),
            table: Vec::new(),
            head: 0,
            len: 0,
            newest: 0,
            evicted_young: 0,
        }
    }

    fn insert(&mut self, identity: u128, clock: u64) -> bool {
        self.expire(clock);
        let Lookup::Free(mut place) = self.find(identity) else {
            return false;
        };
        if self.len == self.identities.len() && self.len < self.capacity {
            self.grow();
            place = self.free_place(identity);
        }
        // In a full ring this is the oldest's slot. The new one goes into the table before the oldest leaves it, as that
        // may move the free place.
        let slot = self.slot(self.len);
        self.table[place] = entry(identity, slot);
        if self.len == self.identities.len() {
            self.drop_oldest();
            self.evicted_young += 1;
        }
        self.identities[slot] = identity;
        self.inserted[slot] = clock as u32;
        self.len += 1;
        self.newest = clock;
        true
    }

    /// Drops what has expired.
    ///
    /// The ages below do not suffer when the lower 32 bits of the clock wrap around, every 49.7 days: when the newest
    /// is younger than `ttl`, all others are younger than twice that, since an earlier call, not before the newest was
    /// inserted, left nothing older than `ttl`.
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
    fn clear(&mut self) {
        self.head = 0;
        self.len = 0;
        if self.identities.len() > INITIAL_SLOTS {
            self.identities = Vec::new();
            self.inserted = Vec::new();
            self.table = Vec::new();
        } else {
            self.table.fill(EMPTY);
        }
    }

    fn find(&self, identity: u128) -> Lookup {
        if self.table.is_empty() {
            return Lookup::Free(0);
        }
        let wanted = entry(identity, 0);
        let mut place = self.home(wanted);
        loop {
            let found = self.table[place];
            if found == EMPTY {
                return Lookup::Free(place);
            }
            if found & !SLOT == wanted && self.identities[(found & SLOT) as usize] == identity {
                return Lookup::Found;
            }
            place = self.after(place);
        }
    }

    /// Finds the place for an identity that is known to be absent.
    fn free_place(&self, identity: u128) -> usize {
        let mut place = self.home(entry(identity, 0));
        while self.table[place] != EMPTY {
            place = self.after(place);
        }
        place
    }

    /// Removes the oldest identity. Those that had to go past it in the table move up, so that no
    /// tombstones gather. Should the table hold an equal entry for a newcomer to the same slot, either may go.
    fn drop_oldest(&mut self) {
        let oldest = entry(self.identities[self.head], self.head);
        let mut hole = self.home(oldest);
        while self.table[hole] != oldest {
            hole = self.after(hole);
        }
        let mut place = self.after(hole);
        while self.table[place] != EMPTY {
            let moving = self.table[place];
            let home = self.home(moving);
            let mask = self.table.len() - 1;
            if place.wrapping_sub(home) & mask >= place.wrapping_sub(hole) & mask {
                self.table[hole] = moving;
                hole = place;
            }
            place = self.after(place);
        }
        self.table[hole] = EMPTY;
        self.head = self.slot(1);
        self.len -= 1;
    }

    /// Doubles the ring, up to the capacity.
    fn grow(&mut self) {
        let slots = (self.identities.len() * 2)
            .max(INITIAL_SLOTS)
            .min(self.capacity);
        let mut identities = Vec::with_capacity(slots);
        let mut inserted = Vec::with_capacity(slots);
        for offset in 0..self.len {
            let slot = self.slot(offset);
            identities.push(self.identities[slot]);
            inserted.push(self.inserted[slot]);
        }
        identities.resize(slots, 0);
        inserted.resize(slots, 0);
        self.identities = identities;
        self.inserted = inserted;
        self.head = 0;
        // A ring of one place needs more than twice that: the table must never be full.
        self.table = vec![EMPTY; (slots * 2).next_power_of_two().max(4)];
        for slot in 0..self.len {
            let place = self.free_place(self.identities[slot]);
            self.table[place] = entry(self.identities[slot], slot);
        }
    }

    /// The place of the table where the search for an entry begins. Any bits of the identity will do: they are
    /// those of a keyed hash.
    fn home(&self, entry: u64) -> usize {
        (entry >> 32) as usize & (self.table.len() - 1)
    }

    fn after(&self, place: usize) -> usize {
        (place + 1) & (self.table.len() - 1)
    }

    /// The slot of the ring that is `offset` after the oldest; `offset` is at most the ring's length.
    fn slot(&self, offset: usize) -> usize {
        let slot = self.head + offset;
        if slot >= self.identities.len() {
            slot - self.identities.len()
        } else {
            slot
        }
    }

    fn bytes(&self) -> usize {
        self.identities.capacity() * size_of::<u128>()
            + self.inserted.capacity() * size_of::<u32>()
            + self.table.capacity() * size_of::<u64>()
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

/// Makes an entry of the table. The part of the identity in it spares most looks at the ring, each of which
/// would be a cache miss.
fn entry(identity: u128, slot: usize) -> u64 {
    u64::from(identity as u32) << 32 | slot as u64
}

/// The bits of an entry that are the place in the ring.
const SLOT: u64 = u32::MAX as u64;

enum Lookup {
    Found,
    /// Where in the table the identity would go.
    Free(usize),
}

#[cfg(test)]
#[path = "seen_tests.rs"]
mod tests;
