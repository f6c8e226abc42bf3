//! Whom to dial when.
//!
//! This module only decides: it has no socket, and is told the time.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::budget::Budget;
use super::entry::{Entry, Kind, Retry, State};
use crate::node::suggestion::Source;

/// After how many failures in a row a suggested address is given up: 6. Seeds never are.
pub(crate) const FORGET_AFTER: u32 = 6;

/// How many peers to stay connected to, and how often to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DialConfig {
    /// Addresses are dialled while fewer outbound connections than this are up or in progress.
    /// Default: 3.
    pub(crate) min_peers: usize,
    /// Nothing is dialled while this many outbound connections are up or in progress, even if
    /// `min_peers` is greater. Default: 12.
    pub(crate) max_peers: usize,
    /// How long an address pauses after a failure or a loss.
    pub(crate) backoff: Backoff,
}

impl Default for DialConfig {
    fn default() -> Self {
        Self {
            min_peers: 3,
            max_peers: 12,
            backoff: Backoff::default(),
        }
    }
}

/// An address to dial now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due<K> {
    pub(crate) key: K,
    /// How many times in a row it has failed.
    pub(crate) failures: u32,
    pub(crate) source: Source,
}

/// Decides whom to dial: seeds, which the user names, and addresses that were suggested.
///
/// Call [`due`](Self::due) at the start, after each other call that changes something, and at the
/// instant that [`next`](Self::next) returns. Answer each address that it returns with
/// [`connected`](Self::connected), [`failed`](Self::failed), [`already`](Self::already),
/// [`later`](Self::later), [`banned`](Self::banned) or [`forget`](Self::forget).
///
/// # The order
///
/// Suggestions marked as first come first. Then seeds and suggestions take turns, so that neither
/// those who tell many addresses nor seeds that are dead keep the others from being tried. Among
/// the seeds whose pause is over, and among the suggestions, those with the fewest failures come
/// first, then those tried longest ago. Chance decides between equals, so that nodes with the same
/// list spread over it. A lost peer pauses too, so that another address replaces it at once, if
/// there is one.
///
/// A dial holds a place for [`HOLD`]; after that, another may be made for the same place as long as
/// there are not more than `max_peers` in all.
///
/// # What limits suggestions
///
/// - They are dialled within a [`Budget`].
/// - At most one of each [network](crate::transport::group::NetGroup) is dialled or connected by a
///   dial at a time.
/// - After [`FORGET_AFTER`] failures in a row they are given up. They are remembered until a pause
///   is over, so that suggesting one again does not shorten its pause.
/// - At most [`LEARNED_MAX`](super::pool::LEARNED_MAX) are known. For a new one, another is evicted
///   that is neither dialled nor connected by a dial: of the source that has the most, one that is
///   given up or failed most often, and of these the oldest. So nobody who tells many addresses
///   evicts those of others.
///
/// No seed is ever given up, because its name may resolve to another node the next time.
#[derive(Debug)]
pub(crate) struct Plan<K> {
    pub(super) config: DialConfig,
    pub(super) rng: StdRng,
    /// The known addresses, in the order in which they became known.
    /// Boxed, since a map makes room for eleven at once.
    pub(super) entries: BTreeMap<u64, Box<Entry<K>>>,
    /// The number of each address in `entries`.
    index: HashMap<K, u64>,
    /// The number of the next entry.
    serial: u64,
    /// How many entries each source has.
    pub(super) counts: BTreeMap<Source, usize>,
    /// How many entries are learned.
    pub(super) learned: usize,
    pub(super) budget: Budget,
    /// Whether the next turn is that of a suggestion.
    pub(super) learned_turn: bool,
    /// The number of outbound connections that belong to no known address.
    pub(super) unseeded: usize,
    /// The number of outbound peers that began as contacts of a plugin. They count towards
    /// `max_peers` alone.
    pub(super) apart: usize,
    /// How many more outbound connections are wanted than `min_peers`.
    pub(super) more: usize,
    /// The number of dials so far, which tells which address was tried longest ago.
    pub(super) tries: u64,
}

impl<K: Clone + Eq + Hash> Plan<K> {
    /// Makes a plan for `seeds`; duplicates count once. With the same `rng_seed`, the same calls
    /// lead to the same decisions.
    pub(crate) fn new(seeds: Vec<K>, config: DialConfig, rng_seed: u64) -> Self {
        let mut plan = Self {
            config,
            rng: StdRng::seed_from_u64(rng_seed),
            entries: BTreeMap::new(),
            index: HashMap::with_capacity(seeds.len()),
            serial: 0,
            counts: BTreeMap::new(),
            learned: 0,
            budget: Budget::default(),
            learned_turn: false,
            unseeded: 0,
            apart: 0,
            more: 0,
            tries: 0,
        };
        for seed in seeds {
            plan.add_seed(seed);
        }
        plan
    }

    /// Adds a seed. One that was learned or removed becomes a seed again. Returns whether it was
    /// none before.
    pub(crate) fn add_seed(&mut self, key: K) -> bool {
        let Some(entry) = self.entry(&key) else {
            self.insert(key, Kind::Seed);
            return true;
        };
        let before = std::mem::replace(&mut entry.kind, Kind::Seed);
        if let State::GivenUp(at) = entry.state {
            entry.state = State::Idle(Some(at));
        }
        self.uncount(before);
        before != Kind::Seed
    }

    /// Removes a seed: it is not dialled again. A dial in progress goes on, and a connected peer
    /// stays. Returns whether it was a seed.
    pub(crate) fn remove_seed(&mut self, key: &K) -> bool {
        let Some(entry) = self.entry(key).filter(|entry| entry.kind == Kind::Seed) else {
            return false;
        };
        entry.kind = Kind::Removed;
        if matches!(entry.state, State::Idle(_)) {
            self.forget(key);
        }
        true
    }

    /// Forgets an address, whatever its state is.
    pub(crate) fn forget(&mut self, key: &K) {
        if let Some(serial) = self.index.remove(key)
            && let Some(entry) = self.entries.remove(&serial)
        {
            self.uncount(entry.kind);
        }
    }

    /// Records that a dial has failed. Returns when the address may be tried again, or `None` if no
    /// such dial was in progress, in which case there is nothing to report.
    pub(crate) fn failed(&mut self, key: &K, now: Instant) -> Option<Retry> {
        let backoff = self.config.backoff;
        let entry = self.entries.get_mut(self.index.get(key)?)?;
        entry.dialing_since()?;
        entry.fail(&backoff, now);
        entry.postponed = false;
        Some(self.end(key, now))
    }

    /// Records that an address has no place for this node now: its peer is busy, or another one of
    /// the same group is connected. It pauses, which does not count as a failure.
    pub(crate) fn later(&mut self, key: &K, now: Instant) -> Option<Retry> {
        let backoff = self.config.backoff;
        let entry = self.entries.get_mut(self.index.get(key)?)?;
        if let State::Idle(_) | State::GivenUp(_) = entry.state {
            return None;
        }
        entry.step(&backoff, now);
        entry.postponed = true;
        Some(self.end(key, now))
    }

    /// Records that who is at an address is banned until then. A seed is not dialled before, and
    /// any other address is forgotten. Returns when it may be tried again.
    pub(crate) fn banned(&mut self, key: &K, until: Instant) -> Option<Retry> {
        let entry = self.entries.get_mut(self.index.get(key)?)?;
        if let State::Idle(_) | State::GivenUp(_) = entry.state {
            return None;
        }
        if entry.kind != Kind::Seed {
            self.forget(key);
            return None;
        }
        entry.state = State::Idle(Some(until));
        entry.banned = true;
        // It fills no place meanwhile.
        entry.postponed = true;
        Some(Retry {
            failures: entry.failures,
            at: until,
        })
    }

    /// Lets the seeds be tried now that are banned, since somebody no longer is.
    pub(crate) fn unbanned(&mut self, now: Instant) {
        for entry in self.entries.values_mut().filter(|entry| entry.banned) {
            entry.banned = false;
            if let State::Idle(_) = entry.state {
                entry.state = State::Idle(Some(now));
            }
        }
    }

    /// Records that a dial has made a connection, including the handshake.
    pub(crate) fn connected(&mut self, key: &K, now: Instant) {
        if let Some(entry) = self.entry(key)
            && entry.dialing_since().is_some()
        {
            entry.state = State::Up(now);
            entry.postponed = false;
        }
    }

    /// Records that the node at an address is connected by another connection: one that it has
    /// dialled itself, or one to another of its addresses.
    ///
    /// The address is not dialled until that connection is [`lost`](Self::lost). It does not count
    /// as outbound, for two reasons. An attacker can make this node accept connections more easily
    /// than make it choose them; and two addresses of one node must not count as two peers.
    pub(crate) fn already(&mut self, key: &K, now: Instant) {
        if let Some(entry) = self.entry(key) {
            entry.postponed = false;
            entry.state = match entry.state {
                State::Idle(_) | State::GivenUp(_) | State::Dialing(_) => State::Already(now),
                State::Up(since) | State::Already(since) => State::Already(since),
            };
        }
    }

    /// Records that the connection to an address has ended, whichever side dialled it. Returns when
    /// it may be tried again, or `None` if it was not connected.
    pub(crate) fn lost(&mut self, key: &K, now: Instant) -> Option<Retry> {
        let backoff = self.config.backoff;
        let entry = self.entries.get_mut(self.index.get(key)?)?;
        let (State::Up(since) | State::Already(since)) = entry.state else {
            return None;
        };
        if now.saturating_duration_since(since) >= backoff.reset_after {
            entry.failures = 0;
            entry.steps = 0;
            entry.lost = Some(now);
        } else {
            // The peer may be restarting. If it keeps accepting and closing, the first loss still
            // limits how long pauses are short.
            entry.lost.get_or_insert(now);
            entry.fail(&backoff, now);
        }
        Some(self.end(key, now))
    }

    /// Records whether a dial has met this node itself. Returns the error in `itself` if it is to
    /// be reported: only if the dial before did not meet this node.
    pub(crate) fn note_itself<E>(&mut self, key: &K, itself: Option<E>) -> Option<E> {
        let entry = self.entry(key)?;
        let before = std::mem::replace(&mut entry.itself, itself.is_some());
        itself.filter(|_| !before)
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.index.contains_key(key)
    }

    pub(crate) fn is_learned(&self, key: &K) -> bool {
        self.get(key).is_some_and(|entry| entry.learned().is_some())
    }

    pub(super) fn insert(&mut self, key: K, kind: Kind) {
        if let Kind::Learned(learned) = kind {
            *self.counts.entry(learned.source).or_default() += 1;
            self.learned += 1;
        }
        self.index.insert(key.clone(), self.serial);
        let entry = Box::new(Entry::new(key, kind));
        self.entries.insert(self.serial, entry);
        self.serial += 1;
    }

    fn uncount(&mut self, kind: Kind) {
        if let Kind::Learned(learned) = kind {
            self.learned -= 1;
            if let Some(count) = self.counts.get_mut(&learned.source) {
                *count -= 1;
            }
            self.counts.retain(|_, count| *count > 0);
        }
    }

    /// Ends a dial or connection: the address pauses, or is not dialled any more.
    fn end(&mut self, key: &K, now: Instant) -> Retry {
        let backoff = self.config.backoff;
        let mut retry = Retry {
            failures: 0,
            at: now + backoff.max,
        };
        let serial = self.index.get(key);
        let Some(entry) = serial.and_then(|serial| self.entries.get_mut(serial)) else {
            return retry;
        };
        retry.failures = entry.failures;
        match &mut entry.kind {
            Kind::Removed => self.forget(key),
            Kind::Learned(_) if entry.failures >= FORGET_AFTER => {
                entry.state = State::GivenUp(retry.at);
            }
            Kind::Learned(_) | Kind::Seed => {
                retry = entry.pause(&backoff, &mut self.rng, now);
            }
        }
        retry
    }

    pub(super) fn get(&self, key: &K) -> Option<&Entry<K>> {
        self.entries.get(self.index.get(key)?).map(Box::as_ref)
    }

    pub(super) fn entry(&mut self, key: &K) -> Option<&mut Entry<K>> {
        let entry = self.entries.get_mut(self.index.get(key)?);
        entry.map(Box::as_mut)
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "learned_tests.rs"]
mod learned_tests;
