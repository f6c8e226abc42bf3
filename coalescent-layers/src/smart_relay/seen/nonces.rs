//! The seen frames with a nonce.
//!
//! A node numbers its broadcasts consecutively, so frames close in time have close nonces. The set
//! is therefore organized in pages of 32 consecutive nonces:
//!
//! ```text
//!  index    nonce / 32 ─▶ page      one lookup for 32 frames: each source caches its last page
//!
//!  page   | nonce / 32 | touched | tag 7 |      of one frame: 70 bytes with overhead
//!         | nonce / 32 | touched | ─────▶ | tag | tag |  -  | tag | ...      320 with overhead
//!                                           0     1     2     3    ..31
//!
//!  source   oldest page ─▶ ... ─▶ newest page      the pages that this source created, by age
//! ```
//!
//! A frame is identified by its exact nonce and by a tag: 64 bits of the keyed hash of nonce and
//! payload. Frames of one publisher thus cost 10 bytes each, and a frame of an active publisher
//! touches no cold memory except for the next bytes of its page.
//!
//! Frames with equal nonces and different payloads are different frames. Only an attacker creates
//! them; each has a page of its own, found by the other half of its hash.

use std::collections::{HashMap, VecDeque};

use super::novelty::Novelty;
use super::share::{Lateness, YOUNG, may_take};
use super::source::{ORPHANS, OWN, Source};

/// Number of nonces in a page.
pub(super) const PAGE: usize = 32;

/// Memory of a page in bytes, including its entries in the index and in its source's list. A page
/// of one frame takes less, and counts as much: any page may become a full one.
pub(super) const PAGE_COST: usize = 320;

/// How many tables of tags are kept for pages to come, so that a node which forgets as many pages
/// as it makes allocates none. They take 2 KiB.
const SPARE: usize = 8;

/// For how many pages there is room at first.
const FIRST_PAGES: usize = 8;

/// A queue of pages frees memory if it uses less than one in `QUEUE_PART` of its capacity, and
/// keeps room for `QUEUE_MIN` pages.
const QUEUE_PART: usize = 4;
const QUEUE_MIN: usize = 64;

#[derive(Debug)]
struct Page {
    key: u64,
    tags: Tags,
    touched: Moment,
    /// Number of frames in the page.
    frames: u8,
    /// Whether the page is for one frame whose nonce another frame also has; `key` is then taken
    /// from its hash.
    conflict: bool,
}

/// A time in milliseconds, in so few bytes that a page takes no more than half a cache line.
#[derive(Clone, Copy, Debug)]
struct Moment([u8; 6]);

impl From<u64> for Moment {
    #[inline]
    fn from(clock: u64) -> Self {
        let [a, b, c, d, e, f, ..] = clock.to_le_bytes();
        Self([a, b, c, d, e, f])
    }
}

/// The tags of the frames of a page; 0 if the nonce has not been seen.
#[derive(Debug)]
enum Tags {
    /// Of one frame, and its place. Where many nodes say little, most pages have no other.
    One(u8, u64),
    Many(Table),
}

/// The tags of all places of a page.
type Table = Box<[u64; PAGE]>;

impl Tags {
    #[inline]
    fn get(&self, at: usize) -> u64 {
        match self {
            Self::One(only, tag) if usize::from(*only) == at => *tag,
            Self::One(..) => 0,
            Self::Many(tags) => tags[at],
        }
    }

    #[inline]
    fn set(&mut self, at: usize, tag: u64, spare: &mut Vec<Table>) {
        match self {
            Self::Many(tags) => tags[at] = tag,
            Self::One(..) => self.set_another(at, tag, spare),
        }
    }

    #[cold]
    fn set_another(&mut self, at: usize, tag: u64, spare: &mut Vec<Table>) {
        match self {
            Self::One(only, known) if *known == 0 || usize::from(*only) == at => {
                *self = Self::One(at as u8, tag);
            }
            Self::One(only, known) => {
                let mut tags = spare.pop().unwrap_or_default();
                *tags = [0; PAGE];
                tags[usize::from(*only)] = *known;
                tags[at] = tag;
                *self = Self::Many(tags);
            }
            Self::Many(tags) => tags[at] = tag,
        }
    }
}

impl Page {
    /// Returns the time of the last addition, in milliseconds.
    #[inline]
    fn touched(&self) -> u64 {
        let Moment([a, b, c, d, e, f]) = self.touched;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }

    /// Creates a page with one frame.
    fn new(key: u64, at: usize, tag: u64, conflict: bool, clock: u64) -> Self {
        Self {
            key,
            touched: clock.into(),
            frames: 1,
            conflict,
            tags: Tags::One(at as u8, tag),
        }
    }
}

/// The pages that one source created, oldest first.
#[derive(Debug, Default)]
struct Pages {
    queue: VecDeque<u32>,
    /// The page that the source used last.
    last: u32,
}

impl Pages {
    /// Removes the oldest page, and frees memory left over from a burst.
    fn take_first(&mut self) -> Option<u32> {
        let slot = self.queue.pop_front();
        let len = self.queue.len().max(QUEUE_MIN);
        if self.queue.capacity() / QUEUE_PART > len {
            self.queue.shrink_to(2 * len);
        }
        slot
    }
}

#[derive(Debug)]
pub(super) struct Nonces {
    max_pages: usize,
    /// In milliseconds.
    ttl: u64,
    pages: Vec<Page>,
    free: Vec<u32>,
    /// Tables of pages that were forgotten, at most [`SPARE`].
    spare: Vec<Table>,
    index: HashMap<u64, u32>,
    conflicts: HashMap<u64, u32>,
    /// Indexed by the `place` of each source.
    sources: Vec<Pages>,
    /// The source to be searched next for expired pages.
    sweep: usize,
    /// The range of nonces used by this node: the first, and how many follow it.
    own: Option<(u64, u64)>,
    lateness: Lateness,
    /// Time of the newest frame, in milliseconds.
    newest: u64,
    frames: usize,
    forgotten_young: u64,
}

impl Nonces {
    pub(super) fn new(bytes: usize, ttl: u64) -> Self {
        Self {
            max_pages: (bytes / PAGE_COST).clamp(1, u32::MAX as usize / 2),
            ttl,
            pages: Vec::new(),
            free: Vec::new(),
            spare: Vec::new(),
            index: HashMap::new(),
            conflicts: HashMap::new(),
            sources: Vec::new(),
            sweep: 0,
            own: None,
            lateness: Lateness::new(YOUNG.min(ttl), ttl),
            newest: 0,
            frames: 0,
            forgotten_young: 0,
        }
    }

    /// Decides about a frame, and adds it if it is new and there is room.
    #[inline]
    pub(super) fn insert(
        &mut self,
        source: Source,
        nonce: u64,
        identity: u128,
        clock: u64,
    ) -> Novelty {
        let (key, at) = place(nonce);
        let tag = tag(identity);
        if source.is_own() {
            self.note_own(nonce);
        }
        if !self.pages.is_empty() && clock.saturating_sub(self.newest) >= self.ttl {
            self.give_back();
        }
        let found = self.find(source, key);
        let Some(page) = found.and_then(|slot| self.pages.get_mut(slot as usize)) else {
            return self.insert_page(source, nonce, identity, clock);
        };
        let age = clock.saturating_sub(page.touched());
        if age >= self.ttl {
            self.frames = self.frames.saturating_sub(page.frames as usize);
            page.frames = 0;
            page.tags = Tags::One(0, 0);
        }
        match page.tags.get(at) {
            0 => {}
            known if known == tag => {
                self.lateness.copy(age, clock);
                return Novelty::Copy;
            }
            _ => return self.insert_conflict(source, identity, clock),
        }
        if !self.is_unheard(source, nonce, identity, clock) {
            return Novelty::Copy;
        }
        if let Some(page) = found.and_then(|slot| self.pages.get_mut(slot as usize)) {
            page.tags.set(at, tag, &mut self.spare);
            page.touched = clock.into();
            page.frames += 1;
        }
        self.newest = clock;
        self.frames += 1;
        Novelty::New
    }

    /// Forgets a frame, whose place in its page stays free for it.
    pub(super) fn forget(&mut self, nonce: u64, identity: u128, age: u64) {
        if age >= self.ttl {
            return;
        }
        let (key, at) = place(nonce);
        let tag = tag(identity);
        let page = self.index.get(&key).copied();
        if let Some(page) = page.and_then(|slot| self.pages.get_mut(slot as usize))
            && page.tags.get(at) == tag
        {
            page.tags.set(at, 0, &mut self.spare);
            page.frames = page.frames.saturating_sub(1);
            self.frames = self.frames.saturating_sub(1);
            return;
        }
        let page = self.conflicts.get(&conflict_key(identity)).copied();
        if let Some(page) = page.and_then(|slot| self.pages.get_mut(slot as usize))
            && page.tags.get(0) == tag
        {
            page.tags.set(0, 0, &mut self.spare);
            page.frames = page.frames.saturating_sub(1);
            self.frames = self.frames.saturating_sub(1);
        }
    }

    /// Returns whether a frame that is missing from its nonce's page is also unknown otherwise.
    #[inline]
    fn is_unheard(&self, source: Source, nonce: u64, identity: u128, clock: u64) -> bool {
        // Own frames may have been evicted, but the range of own nonces is kept.
        let own = self.own.is_some_and(|own| is_in(own, nonce)) && !source.is_own();
        !own && (self.conflicts.is_empty() || !self.is_conflict(identity, clock))
    }

    /// Finds the page with this key.
    #[inline]
    fn find(&mut self, source: Source, key: u64) -> Option<u32> {
        let last = self.sources.get(source.place).map(|pages| pages.last);
        if let Some(last) = last
            && let Some(page) = self.pages.get(last as usize)
            && page.key == key
            && !page.conflict
        {
            return Some(last);
        }
        let found = self.index.get(&key).copied();
        if let (Some(slot), Some(pages)) = (found, self.sources.get_mut(source.place)) {
            pages.last = slot;
        }
        found
    }

    #[cold]
    #[inline(never)]
    fn insert_page(&mut self, source: Source, nonce: u64, identity: u128, clock: u64) -> Novelty {
        if !self.is_unheard(source, nonce, identity, clock) {
            return Novelty::Copy;
        }
        let (key, at) = place(nonce);
        let Some(slot) = self.take_page(source, clock) else {
            return Novelty::Refused;
        };
        self.put_page(
            source,
            slot,
            Page::new(key, at, tag(identity), false, clock),
        );
        self.index.insert(key, slot);
        if self.has_room(source, clock) {
            Novelty::New
        } else {
            Novelty::Last
        }
    }

    /// Returns whether a frame that shares its nonce with another is known.
    fn is_conflict(&self, identity: u128, clock: u64) -> bool {
        let found = self.conflicts.get(&conflict_key(identity));
        let page = found.and_then(|slot| self.pages.get(*slot as usize));
        page.is_some_and(|page| {
            page.tags.get(0) == tag(identity) && clock.saturating_sub(page.touched()) < self.ttl
        })
    }

    #[cold]
    #[inline(never)]
    fn insert_conflict(&mut self, source: Source, identity: u128, clock: u64) -> Novelty {
        if self.is_conflict(identity, clock) {
            return Novelty::Copy;
        }
        let key = conflict_key(identity);
        let known = self.conflicts.get(&key);
        if let Some(page) = known.and_then(|slot| self.pages.get_mut(*slot as usize)) {
            // The frame has expired, or was forgotten.
            if page.tags.get(0) == 0 {
                page.frames += 1;
                self.frames += 1;
            }
            page.tags.set(0, tag(identity), &mut self.spare);
            page.touched = clock.into();
            self.newest = clock;
            return Novelty::New;
        }
        let Some(slot) = self.take_page(source, clock) else {
            return Novelty::Refused;
        };
        self.put_page(source, slot, Page::new(key, 0, tag(identity), true, clock));
        self.conflicts.insert(key, slot);
        Novelty::New
    }

    fn put_page(&mut self, source: Source, slot: u32, page: Page) {
        self.frames += 1;
        self.newest = page.touched();
        match self.pages.get_mut(slot as usize) {
            Some(place) => *place = page,
            None => {
                let len = self.pages.len();
                if len == self.pages.capacity() {
                    let more = len.max(FIRST_PAGES);
                    self.pages
                        .reserve_exact(more.min(self.max_pages - len.min(self.max_pages)));
                }
                self.pages.push(page);
            }
        }
        let pages = self.source(source.place);
        pages.queue.push_back(slot);
        pages.last = slot;
    }

    fn source(&mut self, place: usize) -> &mut Pages {
        if self.sources.len() <= place.max(ORPHANS) {
            self.sources
                .resize_with(place.max(ORPHANS) + 1, Pages::default);
        }
        &mut self.sources[place]
    }

    /// Extends the range of own nonces.
    fn note_own(&mut self, nonce: u64) {
        let own = self.own.get_or_insert((nonce, 0));
        let after = nonce.wrapping_sub(own.0);
        if after <= u64::MAX / 2 {
            own.1 = own.1.max(after);
        } else {
            // Tasks that send concurrently may report their nonces out of order.
            own.1 = own.1.saturating_add(own.0.wrapping_sub(nonce));
            own.0 = nonce;
        }
    }

    /// Allocates a page for a source, if its share permits one.
    fn take_page(&mut self, source: Source, clock: u64) -> Option<u32> {
        self.source(source.place);
        self.drop_expired(source.place, clock);
        self.sweep = (self.sweep + 1) % self.sources.len();
        self.drop_expired(self.sweep, clock);
        // Peers that reconnect repeatedly must not displace the others: free more pages of closed
        // connections than are taken.
        for _ in 0..2 {
            let gone = self.sources[ORPHANS].queue.len();
            if gone > self.max_pages / 4 && self.may_evict(ORPHANS, clock) {
                self.evict(ORPHANS);
            }
        }
        while !self.may_take(source, clock) {
            self.forget_one(source, clock)?;
        }
        let new = u32::try_from(self.pages.len()).ok();
        self.free.pop().or(new)
    }

    fn may_take(&self, source: Source, clock: u64) -> bool {
        let held = |place: usize| self.sources.get(place).map_or(0, |pages| pages.queue.len());
        let gone = match source.may_have_returned(clock) {
            true => held(ORPHANS),
            false => 0,
        };
        let total = self.pages.len() - self.free.len();
        may_take(held(source.place), gone, total, self.max_pages)
    }

    /// Returns whether a source may have another page.
    pub(super) fn has_room(&mut self, source: Source, clock: u64) -> bool {
        self.may_take(source, clock) || self.victim(source, clock).is_some()
    }

    /// Evicts a page to make room for another of this source.
    fn forget_one(&mut self, source: Source, clock: u64) -> Option<()> {
        let victim = self.victim(source, clock)?;
        self.evict(victim);
        Some(())
    }

    /// Returns the source whose oldest page may be evicted for this one: itself if it has pages,
    /// else the largest.
    fn victim(&mut self, source: Source, clock: u64) -> Option<usize> {
        let queue = |place: usize| self.sources.get(place).map_or(0, |pages| pages.queue.len());
        let victim = match source.place {
            mine if queue(mine) > 0 => mine,
            _ => (0..self.sources.len()).max_by_key(|place| queue(*place))?,
        };
        self.may_evict(victim, clock).then_some(victim)
    }

    /// Returns whether a source has an oldest page that may be evicted before it expires because no
    /// copy of its frames is expected.
    fn may_evict(&mut self, place: usize, clock: u64) -> bool {
        let oldest = self
            .sources
            .get(place)
            .and_then(|pages| pages.queue.front());
        let Some(page) = oldest.and_then(|slot| self.pages.get(*slot as usize)) else {
            return false;
        };
        let age = clock.saturating_sub(page.touched());
        // Nodes number their frames consecutively. A sparse page may be an attempt to flush the
        // set.
        let sparse = (page.frames as usize) < PAGE / 2;
        // Own frames are still recognized by their nonce after eviction.
        let must_stay = (self.lateness.any(clock) || sparse) && place != OWN;
        !must_stay || age >= self.lateness.horizon(clock)
    }

    fn drop_expired(&mut self, place: usize, clock: u64) {
        self.pass_over(place);
        while let Some(slot) = self.sources[place].queue.front()
            && let Some(page) = self.pages.get(*slot as usize)
            && clock.saturating_sub(page.touched()) >= self.ttl
        {
            let young = self.forgotten_young;
            self.evict(place);
            self.forgotten_young = young;
        }
    }

    /// Moves the first page of a source to the end if it was added to more recently than the
    /// second. Otherwise anyone could keep the pages behind it in the set by adding to it.
    fn pass_over(&mut self, place: usize) {
        let touched = |slot: &u32| self.pages.get(*slot as usize).map(Page::touched);
        let queue = &mut self.sources[place].queue;
        if let (Some(first), Some(second)) = (queue.front(), queue.get(1))
            && touched(first) > touched(second)
            && let Some(first) = queue.pop_front()
        {
            queue.push_back(first);
        }
    }

    /// Evicts the oldest page of a source.
    fn evict(&mut self, place: usize) {
        let Some(slot) = self.sources[place].take_first() else {
            return;
        };
        let Some(page) = self.pages.get_mut(slot as usize) else {
            return;
        };
        let frames = page.frames as usize;
        let index = if page.conflict {
            &mut self.conflicts
        } else {
            &mut self.index
        };
        index.remove(&page.key);
        // Invalidates sources' cached references to it.
        page.conflict = true;
        if let Tags::Many(table) = std::mem::replace(&mut page.tags, Tags::One(0, 0))
            && self.spare.len() < SPARE
        {
            self.spare.push(table);
        }
        self.frames = self.frames.saturating_sub(frames);
        self.forgotten_young += frames as u64;
        self.free.push(slot);
    }

    /// Frees the memory that a burst has taken.
    #[cold]
    fn give_back(&mut self) {
        self.pages = Vec::new();
        self.free = Vec::new();
        self.index = HashMap::new();
        self.conflicts = HashMap::new();
        self.frames = 0;
        self.sources = Vec::new();
    }

    /// Closes a source. Its frames stay until they expire.
    pub(super) fn close(&mut self, source: Source) {
        if let Some(pages) = self.sources.get_mut(source.place) {
            let pages = std::mem::take(pages);
            self.source(ORPHANS).queue.extend(pages.queue);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.frames
    }

    pub(super) fn forgotten_young(&self) -> u64 {
        self.forgotten_young
    }

    pub(super) fn bytes(&self) -> usize {
        let taken = self.pages.len() - self.free.len();
        taken * PAGE_COST + self.free.len() * size_of::<Page>()
    }
}

#[inline]
fn place(nonce: u64) -> (u64, usize) {
    (nonce / PAGE as u64, (nonce % PAGE as u64) as usize)
}

#[inline]
fn tag(identity: u128) -> u64 {
    // 0 is reserved for an absent tag.
    (identity as u64).max(1)
}

#[inline]
fn conflict_key(identity: u128) -> u64 {
    (identity >> 64) as u64
}

#[inline]
fn is_in((first, span): (u64, u64), nonce: u64) -> bool {
    nonce.wrapping_sub(first) <= span
}

#[cfg(test)]
#[path = "nonces_tests.rs"]
mod tests;
