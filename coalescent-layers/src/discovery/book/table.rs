//! The table of addresses: what is kept, and what gives way.

use std::collections::HashMap;
use std::fmt;
use std::mem::size_of;
use std::time::SystemTime;

use coalescent_core::{Address, BAN_REASON_MAX};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::bans::{BANS_IN_BOOK, SavedBan, are_same};
use super::entry::{Entry, seconds};
use super::group::{GROUP_NAME_MAX, Group};
use super::places::{BOOK_CAPACITY, Places, TRIED_FROM};
use crate::discovery::place::TCP;

/// How many addresses are remembered to be dialled first after a start: those of the last peers
/// that this node has dialled.
pub const ANCHORS: usize = 2;

/// How many addresses that were reached can wait for the place that another one has.
pub const MAX_TESTS: usize = 16;

/// The longest host of an address, in bytes: a name of 253 and the dot after it, or an IPv6 address
/// with a zone, which [`Table::heard`] holds to the same.
pub(super) const HOST_MAX: usize = 254;

/// What the allocator and the index add to an entry, in bytes: three allocations, and a slot of a
/// hash map that may be half empty.
const OVERHEAD: usize = 3 * 16 + 64;

/// The most memory that a table takes, in bytes, whatever it is told.
pub const BOOK_MEMORY: usize = size_of::<Table>()
    + BOOK_CAPACITY
        * (size_of::<Slot>() + size_of::<Entry>() + HOST_MAX + GROUP_NAME_MAX + OVERHEAD)
    + MAX_TESTS * size_of::<Test>()
    + ANCHORS * (size_of::<Address>() + HOST_MAX + OVERHEAD)
    + BANS_IN_BOOK * (size_of::<SavedBan>() + BAN_REASON_MAX + OVERHEAD);

pub(super) type Slot = Option<Box<Entry>>;

/// The addresses that a node knows, as Bitcoin Core keeps them, so that whoever tells many cannot
/// push out the others.
///
/// Addresses of which this node has only heard stand in the *new* buckets, those that a dial has
/// reached in the *tried* ones. A hash with a secret says in which bucket, and where in it, an
/// address stands; there is no other place for it. What one source tells reaches
/// [`NEW_BUCKETS_OF_SOURCE`](super::NEW_BUCKETS_OF_SOURCE) new buckets, and the addresses of one
/// [group](Group) reach [`TRIED_BUCKETS_OF_GROUP`](super::TRIED_BUCKETS_OF_GROUP) tried ones.
///
/// - An address whose place is taken is not kept, unless the one there is long unheard of, never
///   answers, or comes from the future.
/// - One that was reached, and finds its tried place taken, waits until the one there was dialled:
///   if that dial fails, the two change places, else the waiting one stays where it is. So
///   [`feeler`](Table::feeler) proposes these dials first.
/// - A host and port is one address, whatever the identity. One that a dial has proven is kept
///   until another dial fails; of several that were only said, none is kept, and whoever answers is
///   taken.
///
/// The table reads no clock: it is told the time, which may jump. Times in the future are taken for
/// wrong, not for recent. It takes at most [`BOOK_MEMORY`] bytes.
///
/// ```
/// use std::time::SystemTime;
/// use coalescent::discovery::book::{Group, Table};
///
/// let (mut table, now) = (Table::new([7; 16], 1), SystemTime::now());
/// let address = "198.51.100.7:1337".parse().unwrap();
/// let source = Group::of_ip([203, 0, 113, 5].into());
///
/// assert!(table.heard(&address, &source, now));
/// assert_eq!(table.pick(now, |_| true), Some(address.clone()));
/// assert_eq!(table.tellable(now).count(), 0);
///
/// table.dialled_ok(&address, now);
/// assert_eq!(table.tellable(now).collect::<Vec<_>>(), [&address]);
/// ```
pub struct Table {
    places: Places,
    pub(super) slots: Box<[Slot]>,
    /// The slot of each address, by its fingerprint.
    pub(super) index: HashMap<u64, usize>,
    /// How many of the entries are tried.
    tried: usize,
    pub(super) tests: Vec<Test>,
    anchors: Vec<Address>,
    bans: Vec<SavedBan>,
    /// How many dials have succeeded; see [`Entry::fail`].
    successes: u64,
    /// Counts changes of what is saved.
    changes: u64,
    pub(super) rng: StdRng,
}

/// A reached address that waits for the tried place of another, by their fingerprints.
#[derive(Clone, Copy, Debug)]
pub(super) struct Test {
    pub(super) waiting: u64,
    pub(super) holder: u64,
}

impl Table {
    /// Creates an empty table.
    ///
    /// `secret` decides on places: nobody else may know it. `seed` decides who is picked.
    #[must_use]
    pub fn new(secret: [u8; 16], seed: u64) -> Self {
        Self {
            places: Places::new(secret),
            slots: (0..BOOK_CAPACITY).map(|_| None).collect(),
            index: HashMap::new(),
            tried: 0,
            tests: Vec::new(),
            anchors: Vec::new(),
            bans: Vec::new(),
            successes: 0,
            changes: 0,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// Takes note that a peer of the group `source` told of an address, and returns whether it is
    /// new and was kept.
    pub fn heard(&mut self, address: &Address, source: &Group, now: SystemTime) -> bool {
        self.hear(address, source, seconds(now)) == Heard::New
    }

    /// Takes note that a peer that is seen at this host says that it listens there, and returns
    /// whether the address is new and was kept.
    pub fn declared(&mut self, address: &Address, now: SystemTime) -> bool {
        let now = seconds(now);
        let heard = self.hear(address, &Group::of(address), now);
        if heard == Heard::Refused {
            return false;
        }
        if let Some(entry) = self.entry_mut(address) {
            entry.declared = now;
            self.changes += 1;
        }
        heard == Heard::New
    }

    fn hear(&mut self, address: &Address, source: &Group, now: u64) -> Heard {
        if let Some(entry) = self.entry_mut(address) {
            if entry.mention(address, now) {
                self.changes += 1;
            }
            return Heard::Known;
        }
        let entry = Box::new(Entry::new(address.clone(), source.clone(), now));
        if self.put_new(entry, now) {
            Heard::New
        } else {
            Heard::Refused
        }
    }

    /// Takes note that a dial has reached a peer at an address. The address has the identity that
    /// the peer has proven, if it has.
    pub fn dialled_ok(&mut self, address: &Address, now: SystemTime) {
        let now = seconds(now);
        self.successes = self.successes.wrapping_add(1);
        let print = self.places.fingerprint(address);
        let slot = self.slot_of(address);
        if let Some(entry) = self.entry_mut(address) {
            entry.reach(address, now);
            self.changes += 1;
        }
        match slot {
            Some(slot) if slot >= TRIED_FROM => {
                // It keeps its place.
                self.tests.retain(|test| test.holder != print);
            }
            Some(slot) => {
                if let Some(entry) = self.take(slot) {
                    self.promote(entry, now);
                }
            }
            None => {
                let mut entry = Entry::new(address.clone(), Group::of(address), now);
                entry.reach(address, now);
                self.promote(Box::new(entry), now);
            }
        }
    }

    /// Takes note that somebody answered a dial to an address, but had no place for this node: no
    /// success, and no failure.
    pub fn dialled_busy(&mut self, address: &Address, now: SystemTime) {
        if let Some(entry) = self.entry_mut(address) {
            entry.dialled = seconds(now);
            self.changes += 1;
        }
    }

    /// Takes note that a dial to an address has failed.
    pub fn dial_failed(&mut self, address: &Address, now: SystemTime) {
        let now = seconds(now);
        let successes = self.successes;
        let Some(entry) = self.entry_mut(address) else {
            return;
        };
        entry.fail(successes, now);
        self.changes += 1;
        let print = self.places.fingerprint(address);
        // Who cannot be reached now need not wait for a place.
        self.tests.retain(|test| test.waiting != print);
        let test = self.tests.iter().copied().find(|test| test.holder == print);
        if let Some(test) = test {
            self.replace(test, now);
        }
    }

    /// Lets a waiting address have the place of one that could not be reached.
    fn replace(&mut self, test: Test, now: u64) {
        // Others that wait for the same place would have to wait for the new holder; they can come
        // again.
        self.tests.retain(|other| other.holder != test.holder);
        let holder = self.index.get(&test.holder).copied();
        let waiting = self.index.get(&test.waiting).copied();
        let (Some(holder), Some(waiting)) = (holder, waiting) else {
            return;
        };
        if holder < TRIED_FROM {
            return;
        }
        let (old, new) = (self.take(holder), self.take(waiting));
        if let Some(new) = new {
            self.put(holder, new);
        }
        if let Some(old) = old {
            self.put_new(old, now);
        }
    }

    /// Removes an address, for one that leads to this node itself.
    pub fn remove(&mut self, address: &Address) {
        if let Some(slot) = self.slot_of(address) {
            self.discard(slot);
        }
    }

    /// Returns the addresses of the last peers that this node has dialled, which should be dialled
    /// first after a start; at most [`ANCHORS`].
    #[must_use]
    pub fn anchors(&self) -> &[Address] {
        &self.anchors
    }

    /// Sets the anchors: the first [`ANCHORS`] of these.
    pub fn set_anchors(&mut self, anchors: impl IntoIterator<Item = Address>) {
        let anchors = anchors.into_iter().filter(is_kept).take(ANCHORS);
        let anchors: Vec<_> = anchors.collect();
        if anchors != self.anchors {
            self.anchors = anchors;
            self.changes += 1;
        }
    }

    /// Returns who is banned, as it was last told.
    pub(super) fn bans(&self) -> &[SavedBan] {
        &self.bans
    }

    /// Takes note of who is banned: of the first [`BANS_IN_BOOK`] of these.
    pub(super) fn set_bans(&mut self, bans: impl IntoIterator<Item = SavedBan>) {
        let bans: Vec<_> = bans.into_iter().take(BANS_IN_BOOK).collect();
        if !are_same(&self.bans, &bans) {
            self.bans = bans;
            self.changes += 1;
        }
    }

    /// Returns the addresses that others may be told of: those that a dial of this node has reached
    /// within [`TELLABLE_FOR`](super::TELLABLE_FOR), or at which a peer that
    /// [listens](Table::declared) there was seen within that time. The order says nothing.
    pub fn tellable(&self, now: SystemTime) -> impl Iterator<Item = &Address> {
        let now = seconds(now);
        self.entries()
            .filter(move |(entry, _)| entry.is_tellable(now))
            .map(|(entry, _)| &entry.address)
    }

    /// Returns whether an address is known, with any identity.
    #[must_use]
    pub fn contains(&self, address: &Address) -> bool {
        self.slot_of(address).is_some()
    }

    /// Returns whether an address is known from a file or by a dial of this node, and not only
    /// because others have told of it.
    #[must_use]
    pub fn is_remembered(&self, address: &Address) -> bool {
        let entry = self.slot_of(address).and_then(|slot| self.slot(slot));
        entry.is_some_and(|entry| entry.is_restored || entry.reached != 0)
    }

    /// Returns the number of addresses.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Returns whether no address is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Returns the number of tried addresses.
    #[must_use]
    pub fn tried_len(&self) -> usize {
        self.tried
    }

    /// Returns a number that grows with each change of what is saved.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Replaces this table by one from a file. What was known before is kept where there is room.
    pub(super) fn replace_by(&mut self, loaded: Self) {
        let before = std::mem::replace(self, loaded);
        self.changes = self.changes.wrapping_add(before.changes);
        let tried = |slot| slot >= TRIED_FROM;
        for (slot, entry) in before.slots.into_iter().enumerate() {
            if let Some(entry) = entry {
                self.restore(*entry, tried(slot));
            }
        }
    }

    pub(super) fn secret(&self) -> &[u8; 16] {
        self.places.secret()
    }

    /// Returns the entries, and whether they are tried.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&Entry, bool)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(slot, entry)| Some((entry.as_deref()?, slot >= TRIED_FROM)))
    }

    /// Puts an entry of a file where its hash says. One whose place is taken is left out, and so is
    /// one that is there already.
    pub(super) fn restore(&mut self, entry: Entry, is_tried: bool) {
        if !is_kept(&entry.address) || self.contains(&entry.address) {
            return;
        }
        let slot = if is_tried && entry.reached != 0 {
            self.places.tried_place(&entry.address)
        } else {
            self.places.new_place(&entry.address, &entry.source)
        };
        if self.slot(slot).is_none() {
            self.put(slot, Box::new(entry));
        }
    }

    /// Puts a reached entry, which has no place now, among the tried ones. If its place there is
    /// taken it becomes a new one that waits.
    fn promote(&mut self, entry: Box<Entry>, now: u64) {
        if !is_kept(&entry.address) {
            return;
        }
        let slot = self.places.tried_place(&entry.address);
        let waiting = self.places.fingerprint(&entry.address);
        let Some(holder) = self.slot(slot) else {
            self.tests.retain(|test| test.waiting != waiting);
            self.put(slot, entry);
            return;
        };
        let holder = self.places.fingerprint(&holder.address);
        let has_place = self.put_new(entry, now);
        let waits = self.tests.iter().any(|test| test.waiting == waiting);
        if has_place && !waits && self.tests.len() < MAX_TESTS {
            self.tests.push(Test { waiting, holder });
        }
    }

    /// Puts an entry among the new ones, if its place there is free or can be had.
    fn put_new(&mut self, entry: Box<Entry>, now: u64) -> bool {
        if !is_kept(&entry.address) {
            return false;
        }
        let slot = self.places.new_place(&entry.address, &entry.source);
        let gives_way =
            |old: &Entry| old.is_terrible(now) || (old.reached == 0 && entry.reached != 0);
        match self.slot(slot) {
            Some(old) if !gives_way(old) => return false,
            Some(_) => self.discard(slot),
            None => {}
        }
        self.put(slot, entry)
    }

    fn put(&mut self, slot: usize, entry: Box<Entry>) -> bool {
        let print = self.places.fingerprint(&entry.address);
        // Of two addresses with one fingerprint, which nobody can choose, one is enough.
        if self.index.contains_key(&print) {
            return false;
        }
        if let Some(place) = self.slots.get_mut(slot) {
            self.index.insert(print, slot);
            *place = Some(entry);
            self.tried += usize::from(slot >= TRIED_FROM);
            self.changes += 1;
        }
        true
    }

    /// Takes an entry out, to put it elsewhere.
    fn take(&mut self, slot: usize) -> Option<Box<Entry>> {
        let entry = self.slots.get_mut(slot)?.take()?;
        self.index.remove(&self.places.fingerprint(&entry.address));
        self.tried -= usize::from(slot >= TRIED_FROM);
        self.changes += 1;
        Some(entry)
    }

    /// Takes an entry out for good.
    fn discard(&mut self, slot: usize) {
        if let Some(entry) = self.take(slot) {
            let print = self.places.fingerprint(&entry.address);
            self.tests
                .retain(|test| test.waiting != print && test.holder != print);
        }
    }

    pub(super) fn slot(&self, slot: usize) -> Option<&Entry> {
        self.slots.get(slot)?.as_deref()
    }

    fn slot_of(&self, address: &Address) -> Option<usize> {
        let slot = *self.index.get(&self.places.fingerprint(address))?;
        let known = &self.slot(slot)?.address;
        (known.host() == address.host() && known.port() == address.port()).then_some(slot)
    }

    fn entry_mut(&mut self, address: &Address) -> Option<&mut Entry> {
        let slot = self.slot_of(address)?;
        self.slots.get_mut(slot)?.as_deref_mut()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    New,
    Known,
    Refused,
}

/// Whether an address has a place in a table: it is of `tcp`, as others are told, and not too long.
fn is_kept(address: &Address) -> bool {
    address.scheme() == TCP && address.host().len() <= HOST_MAX
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("new", &(self.len() - self.tried))
            .field("tried", &self.tried)
            .field("tests", &self.tests.len())
            .field("anchors", &self.anchors)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
pub(super) mod tests;
