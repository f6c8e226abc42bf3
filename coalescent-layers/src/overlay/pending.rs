//! What waits until a peer is connected, and what has failed and is not yet told.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::ids::Key;

/// For how many peers, which are not connected, messages wait.
pub const MAX_TARGETS: usize = 32;

/// How many messages wait for one such peer.
pub const MAX_MESSAGES: usize = 8;

/// How many of these peers are dialled at the same time.
pub const MAX_DIALS: usize = 8;

/// How many failures are remembered until the engine is told.
pub const MAX_FAILURES: usize = 256;

/// How long after a message the engine is told that its peer could not be dialled.
///
/// It asks the next peer half a second after it has asked one, but not if it learns before that the
/// peer is gone: a dial that failed fast would end its search.
pub const TELL_AFTER: Duration = Duration::from_millis(600);

/// The peers that are to be dialled.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    targets: HashMap<Key, Target>,
    /// Those that have not been dialled, in the order in which they came.
    queue: VecDeque<Key>,
    dialling: usize,
    failures: BTreeMap<Key, Failure>,
}

#[derive(Debug)]
struct Target {
    messages: VecDeque<Bytes>,
    /// When the last message came.
    last: Instant,
    dialling: bool,
}

/// A dial that failed.
#[derive(Clone, Copy, Debug)]
struct Failure {
    /// When the engine is told.
    due: Instant,
    /// Whether the peer is there all the same.
    alive: bool,
}

impl Pending {
    /// Adds a message for a peer that is not connected. Returns `false` if there is no room: then
    /// it is as if the peer could not be dialled.
    pub(crate) fn push(&mut self, to: Key, message: Bytes, now: Instant) -> bool {
        if !self.targets.contains_key(&to) {
            if self.targets.len() >= MAX_TARGETS {
                self.fail(to, true, now + TELL_AFTER);
                return false;
            }
            self.queue.push_back(to);
        }
        let target = self.targets.entry(to).or_insert_with(|| Target {
            messages: VecDeque::new(),
            last: now,
            dialling: false,
        });
        if target.messages.len() >= MAX_MESSAGES {
            return false;
        }
        target.messages.push_back(message);
        target.last = now;
        true
    }

    /// Notes that a message cannot reach a peer, since nobody knows where it is.
    pub(crate) fn unreachable(&mut self, to: Key, now: Instant) {
        self.fail(to, false, now + TELL_AFTER);
    }

    /// Returns whether a peer is being dialled, or is to be.
    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.targets.contains_key(key)
    }

    /// Returns the next peer to dial.
    pub(crate) fn next_dial(&mut self) -> Option<Key> {
        if self.dialling >= MAX_DIALS {
            return None;
        }
        loop {
            let key = self.queue.pop_front()?;
            // It may have dialled this node meanwhile.
            if let Some(target) = self.targets.get_mut(&key)
                && !target.dialling
            {
                target.dialling = true;
                self.dialling += 1;
                return Some(key);
            }
        }
    }

    /// Takes what waits for a peer that is connected now.
    pub(crate) fn connected(&mut self, key: &Key) -> VecDeque<Bytes> {
        self.failures.remove(key);
        let target = self.targets.remove(key);
        self.shrink();
        target.map(|target| target.messages).unwrap_or_default()
    }

    /// Notes that a dial has ended, which [`next_dial`](Self::next_dial) began.
    pub(crate) fn dialled(&mut self) {
        self.dialling = self.dialling.saturating_sub(1);
    }

    /// Notes that a peer was not met.
    pub(crate) fn missed(&mut self, key: &Key, alive: bool, now: Instant) {
        if let Some(target) = self.targets.remove(key) {
            let due = (target.last + TELL_AFTER).max(now);
            self.fail(*key, alive, due);
        }
        self.shrink();
    }

    /// Frees what many took.
    fn shrink(&mut self) {
        if self.targets.is_empty() {
            *self = Self {
                dialling: self.dialling,
                failures: std::mem::take(&mut self.failures),
                ..Self::default()
            };
        }
    }

    fn fail(&mut self, key: Key, alive: bool, due: Instant) {
        if self.failures.len() >= MAX_FAILURES && !self.failures.contains_key(&key) {
            // The engine forgets the oldest by itself.
            let oldest = self.failures.iter().min_by_key(|(_, failure)| failure.due);
            let oldest = oldest.map(|(key, _)| *key);
            oldest.and_then(|oldest| self.failures.remove(&oldest));
        }
        self.failures.insert(key, Failure { due, alive });
    }

    /// Takes one of the failures that the engine is to be told of, and whether the peer is there
    /// all the same.
    pub(crate) fn due(&mut self, now: Instant) -> Option<(Key, bool)> {
        let mut due = self
            .failures
            .iter()
            .filter(|(_, failure)| failure.due <= now);
        let (key, alive) = due.next().map(|(key, failure)| (*key, failure.alive))?;
        self.failures.remove(&key);
        Some((key, alive))
    }

    /// Returns when the next failure is to be told.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.failures.values().map(|failure| failure.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        key
    }

    #[test]
    fn a_dial_that_fails_fast_is_told_600_ms_after_its_message() {
        let start = Instant::now();
        let mut pending = Pending::default();
        assert!(pending.push(key(1), Bytes::new(), start));
        assert_eq!(pending.next_dial(), Some(key(1)));
        let fast = start + Duration::from_millis(1);
        pending.dialled();
        pending.missed(&key(1), false, fast);
        assert_eq!(pending.due(fast), None);
        let due = start + TELL_AFTER;
        assert_eq!(pending.next(), Some(due));
        assert_eq!(pending.due(due - Duration::from_millis(1)), None);
        assert_eq!(pending.due(due), Some((key(1), false)));
        assert_eq!(pending.due(due), None);
        // A slow one is told when it fails.
        assert!(pending.push(key(2), Bytes::new(), start));
        let slow = start + Duration::from_secs(5);
        pending.missed(&key(2), true, slow);
        assert_eq!(pending.due(slow), Some((key(2), true)));
    }

    #[test]
    fn what_waits_is_bounded() {
        let now = Instant::now();
        let mut pending = Pending::default();
        let pushed = (0..10_000).filter(|number| pending.push(key(*number), Bytes::new(), now));
        assert_eq!(pushed.count(), MAX_TARGETS);
        assert_eq!(pending.failures.len(), MAX_FAILURES);
        let pushed = (1..100).filter(|_| pending.push(key(0), Bytes::new(), now));
        assert_eq!(pushed.count(), MAX_MESSAGES - 1);
        assert_eq!(pending.connected(&key(0)).len(), MAX_MESSAGES);
        let dialled = std::iter::from_fn(|| pending.next_dial()).count();
        assert_eq!(dialled, MAX_DIALS);
        pending.dialled();
        assert!(pending.next_dial().is_some());
    }

    #[test]
    fn a_peer_that_has_come_by_itself_is_not_dialled() {
        let now = Instant::now();
        let mut pending = Pending::default();
        pending.push(key(1), Bytes::from("1"), now);
        pending.push(key(2), Bytes::from("2"), now);
        assert_eq!(pending.connected(&key(1)), [Bytes::from("1")]);
        assert_eq!(pending.next_dial(), Some(key(2)));
        assert_eq!(pending.next_dial(), None);
    }
}
