//! What crosses when: decisions alone, without sockets or clocks.
//!
//! A message that comes from one side is held for the other. The first bridge of a mesh carries it
//! at once; each other one carries it when its turn comes ([`turns`](crate::turns)), unless the
//! message has turned up on the other side by then. A message for the engine is held until the
//! engine gives it back, which confirms it, and is said again where that does not happen.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::Stats;
use crate::engine::{Carried, Heard, Said};
use crate::held::{Entry, Held, Recent};
use crate::turns::{STANDBY, Turns};

/// How long a bridge waits until the engine confirms a message, before it says it again.
pub const CONFIRM: Duration = Duration::from_secs(2);

/// How often a message is said, without being confirmed, until it is given up.
pub const ATTEMPTS: u32 = 5;

/// How long a bridge that has reached its engine again waits for other bridges to come back, before
/// it says more: an engine that keeps nothing gives a message only to those who listen.
pub const RETURN: Duration = Duration::from_secs(6);

/// How long after its turn a bridge carries a message even though the bridge before it is at work.
const OVERDUE: Duration = Duration::from_secs(5);

/// Whether the engine can be reached.
#[derive(Debug)]
enum Link {
    Down,
    /// It can be again, and these bridges are not back yet. They are waited for until the given
    /// time.
    Settling(HashSet<u64>, Instant),
    Up,
}

#[derive(Debug)]
pub(crate) struct Crossing {
    hasher: RandomState,
    turns: Turns,
    link: Link,
    /// For the engine.
    outward: Held,
    /// For the mesh.
    inward: Held,
    /// What the mesh was heard to say: identities, and contents alone.
    from_mesh: Recent,
    /// What the engine was heard to say: identities, or contents where there was no nonce.
    from_engine: Recent,
    /// When the engine last gave back a message that was held for it.
    confirmed: Option<Instant>,
    stats: Stats,
}

impl Crossing {
    pub(crate) fn new(me: u64, group: String, max_held: usize, now: Instant) -> Self {
        Self {
            hasher: RandomState::new(),
            turns: Turns::new(me, group, now),
            link: Link::Down,
            outward: Held::new(max_held),
            inward: Held::new(max_held),
            from_mesh: Recent::default(),
            from_engine: Recent::default(),
            confirmed: None,
            stats: Stats::default(),
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        self.stats
    }

    fn key(&self, nonce: Option<u64>, payload: &Bytes) -> u64 {
        self.hasher.hash_one((nonce, payload))
    }

    /// Returns when a message that comes now is this bridge's turn.
    fn turn(&self, now: Instant) -> Instant {
        now + STANDBY.saturating_mul(self.turns.rank())
    }

    /// Takes a message that the mesh says.
    pub(crate) fn mesh_says(&mut self, message: Carried, now: Instant) {
        let key = self.key(Some(message.nonce), &message.payload);
        let content = self.key(None, &message.payload);
        self.from_mesh.insert(key, now);
        self.from_mesh.insert(content, now);
        if self.inward.remove(key) || self.inward.remove(content) {
            // Another bridge has carried it from the engine into the mesh.
            self.from_engine.insert(key, now);
            return;
        }
        if self.from_engine.contains(key) || self.outward.contains(key) {
            return;
        }
        if !self.outward.add(key, message, self.turn(now)) {
            self.stats.dropped += 1;
        }
    }

    /// Takes what the engine says. `nonce` is a random number for a message that has none.
    pub(crate) fn engine_says(&mut self, heard: Heard, nonce: u64, now: Instant) {
        match heard {
            Heard::Message {
                nonce: Some(nonce),
                payload,
            } => self.bridged(Carried { nonce, payload }, now),
            Heard::Message {
                nonce: None,
                payload,
            } => self.native(Carried { nonce, payload }, now),
            Heard::Note(note) => {
                let from = self.turns.heard(note, now);
                if let (Some(from), Link::Settling(away, _)) = (from, &mut self.link) {
                    away.remove(&from);
                    if away.is_empty() {
                        self.settled(now);
                    }
                }
            }
            Heard::Up => {
                self.turns.back(now);
                let away: HashSet<_> = self.turns.others().collect();
                self.link = Link::Settling(away, now + RETURN);
                // Nobody may be waited for, as at the start.
                self.settle(now);
            }
            Heard::Down => self.link = Link::Down,
            Heard::Missed(messages) => self.stats.missed += messages,
        }
    }

    /// Takes a message that a bridge has said: another one's, or an echo of this one's.
    fn bridged(&mut self, message: Carried, now: Instant) {
        let key = self.key(Some(message.nonce), &message.payload);
        self.from_engine.insert(key, now);
        let was_held = self.outward.contains(key);
        // While other bridges are away, it is too early: it has to be said again for them.
        if was_held && matches!(self.link, Link::Up) {
            self.outward.remove(key);
            self.confirmed = Some(now);
        }
        if !was_held && !self.from_mesh.contains(key) && !self.inward.contains(key) {
            self.enter(key, message, now);
        }
    }

    /// Takes a message of somebody who is no bridge, and so knows of no nonce.
    fn native(&mut self, message: Carried, now: Instant) {
        let content = self.key(None, &message.payload);
        self.from_engine.insert(content, now);
        if self.turns.rank() == 0 {
            let key = self.key(Some(message.nonce), &message.payload);
            // From here on it has an identity, by which it is known when it comes back.
            self.from_engine.insert(key, now);
            self.enter(key, message, now);
        } else if !self.carried_by_others(&self.from_mesh, content, now) {
            self.enter(content, message, now);
        }
    }

    /// Returns whether a bridge before this one may just have carried this content over, under a
    /// nonce that it made up.
    fn carried_by_others(&self, heard: &Recent, content: u64, now: Instant) -> bool {
        let span = STANDBY.saturating_mul(self.turns.rank().saturating_add(1));
        now.checked_sub(span)
            .is_some_and(|since| heard.contains_since(content, since))
    }

    fn enter(&mut self, key: u64, message: Carried, now: Instant) {
        if !self.inward.add(key, message, self.turn(now)) {
            self.stats.dropped += 1;
        }
    }

    /// Returns whether more may be taken from the engine: what has no room waits there.
    pub(crate) fn hears_engine(&self) -> bool {
        self.inward.has_room()
    }

    /// Returns whether all that was taken from the mesh has been confirmed, or given up.
    pub(crate) fn is_done(&self) -> bool {
        self.outward.is_empty()
    }

    /// Returns the message that is to enter the mesh now, if there is one.
    pub(crate) fn next_for_mesh(&mut self, now: Instant) -> Option<Carried> {
        let entry = self.inward.pop(now)?;
        self.stats.entered += 1;
        // A copy of it that the mesh gives back is nothing new.
        let key = self.key(Some(entry.message.nonce), &entry.message.payload);
        self.from_engine.insert(key, now);
        Some(entry.message)
    }

    /// Returns what is to be said to the engine now, if there is anything.
    pub(crate) fn next_for_engine(&mut self, now: Instant) -> Option<Said> {
        self.settle(now);
        if matches!(self.link, Link::Down) {
            return None;
        }
        if let Some(note) = self.turns.beat(now) {
            return Some(Said::Note(note));
        }
        if !matches!(self.link, Link::Up) {
            return None;
        }
        while let Some(entry) = self.outward.pop(now) {
            if let Some(later) = self.waits_for_others(&entry, now) {
                self.outward.put_back(entry, later);
            } else if let Some(message) = self.say(entry, now) {
                return Some(Said::Message(message));
            }
        }
        None
    }

    /// Returns until when a message is left to the bridge before this one, which is at work.
    fn waits_for_others(&self, entry: &Entry, now: Instant) -> Option<Instant> {
        let rank = self.turns.rank();
        if rank == 0 || entry.attempts > 0 {
            return None;
        }
        let quiet = self.confirmed? + STANDBY.saturating_mul(rank);
        let overdue = entry.since + OVERDUE;
        let later = quiet.min(overdue);
        (later > now).then_some(later)
    }

    /// Counts another attempt to say a message; returns it unless it is given up.
    fn say(&mut self, mut entry: Entry, now: Instant) -> Option<Carried> {
        let content = self.key(None, &entry.message.payload);
        if self.turns.rank() > 0 && self.carried_by_others(&self.from_engine, content, now) {
            // It came from there, without a nonce.
            return None;
        }
        if entry.attempts == ATTEMPTS {
            self.stats.unconfirmed += 1;
            return None;
        }
        self.stats.said += u64::from(entry.attempts == 0);
        entry.attempts += 1;
        // Remembered from now, as its echo is yet to come.
        self.from_mesh.insert(entry.key, now);
        let message = entry.message.clone();
        self.outward.put_back(entry, now + CONFIRM);
        Some(message)
    }

    /// Takes back a message that the engine cannot carry.
    pub(crate) fn refused(&mut self, message: &Carried) {
        let key = self.key(Some(message.nonce), &message.payload);
        self.outward.remove(key);
        self.stats.refused += 1;
    }

    /// Counts a message that the mesh cannot carry.
    pub(crate) fn mesh_refused(&mut self) {
        self.stats.refused += 1;
    }

    /// Counts what is held as dropped, as this bridge ends.
    pub(crate) fn give_up(&mut self) {
        self.stats.dropped += self.outward.len() + self.inward.len();
    }

    /// Returns the last note of this bridge.
    pub(crate) fn farewell(&self) -> Said {
        Said::Note(self.turns.farewell())
    }

    fn settle(&mut self, now: Instant) {
        if let Link::Settling(away, until) = &self.link
            && (away.is_empty() || now >= *until)
        {
            self.settled(now);
        }
    }

    /// Says again what may have been lost, as everybody is back.
    fn settled(&mut self, now: Instant) {
        self.link = Link::Up;
        let turn = self.turn(now);
        self.outward.reset(turn);
        self.confirmed = Some(now);
    }

    /// Returns when there is something to do next.
    pub(crate) fn wake(&self) -> Option<Instant> {
        let engine = match &self.link {
            Link::Down => None,
            Link::Settling(_, until) => Some(self.turns.next_beat().min(*until)),
            Link::Up => earlier(Some(self.turns.next_beat()), self.outward.next_due()),
        };
        earlier(engine, self.inward.next_due())
    }
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}

#[cfg(test)]
#[path = "crossing_tests.rs"]
mod tests;
