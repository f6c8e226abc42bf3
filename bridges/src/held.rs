//! Messages that wait for their time, or for word that another bridge has carried them.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::Carried;

/// What a held message costs in addition to its payload, in bytes.
pub const HELD_COST: usize = 192;

/// One that is held.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: u64,
    pub(crate) message: Carried,
    /// How often it was given out.
    pub(crate) attempts: u32,
    /// When it was first due, or due again after a [reset](Held::reset).
    pub(crate) since: Instant,
}

/// Messages by the time at which they are due, in the order in which they came where that is the
/// same. Bounded in bytes.
#[derive(Debug)]
pub(crate) struct Held {
    max: usize,
    used: usize,
    next: u64,
    due: BTreeMap<(Instant, u64), Entry>,
    /// Where each key stands. A key may stand in several places.
    places: BTreeMap<(u64, u64), Instant>,
}

impl Held {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            used: 0,
            next: 0,
            due: BTreeMap::new(),
            places: BTreeMap::new(),
        }
    }

    /// Returns whether there is room for another message, however large.
    pub(crate) fn has_room(&self) -> bool {
        self.used < self.max
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    pub(crate) fn len(&self) -> u64 {
        self.due.len() as u64
    }

    /// Adds a message, and returns whether there was room.
    pub(crate) fn add(&mut self, key: u64, message: Carried, due: Instant) -> bool {
        if !self.has_room() {
            return false;
        }
        let number = self.next;
        self.next += 1;
        self.put(
            (due, number),
            Entry {
                key,
                message,
                attempts: 0,
                since: due,
            },
        );
        true
    }

    fn put(&mut self, place: (Instant, u64), entry: Entry) {
        self.used += cost(&entry);
        self.places.insert((entry.key, place.1), place.0);
        self.due.insert(place, entry);
    }

    pub(crate) fn contains(&self, key: u64) -> bool {
        self.place(key).is_some()
    }

    fn place(&self, key: u64) -> Option<(Instant, u64)> {
        let (&(_, number), &due) = self.places.range((key, 0)..=(key, u64::MAX)).next()?;
        Some((due, number))
    }

    /// Removes the oldest message with this key, and returns whether there was one.
    pub(crate) fn remove(&mut self, key: u64) -> bool {
        self.place(key)
            .is_some_and(|place| self.take(place).is_some())
    }

    fn take(&mut self, place: (Instant, u64)) -> Option<Entry> {
        let entry = self.due.remove(&place)?;
        self.places.remove(&(entry.key, place.1));
        self.used -= cost(&entry);
        Some(entry)
    }

    /// Returns when the next message is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due.keys().next().map(|place| place.0)
    }

    /// Takes the next message out if it is due.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Entry> {
        let (&place, _) = self.due.first_key_value()?;
        (place.0 <= now).then(|| self.take(place))?
    }

    /// Puts a message back, which has been taken out before: it needs no room of its own.
    pub(crate) fn put_back(&mut self, entry: Entry, due: Instant) {
        let number = self.next;
        self.next += 1;
        self.put((due, number), entry);
    }

    /// Makes all messages due at `due`, in the order in which they came. The attempts count from
    /// none again.
    pub(crate) fn reset(&mut self, due: Instant) {
        let mut entries: Vec<_> = std::mem::take(&mut self.due).into_iter().collect();
        entries.sort_unstable_by_key(|&((_, number), _)| number);
        self.places.clear();
        self.used = 0;
        for ((_, number), mut entry) in entries {
            entry.attempts = 0;
            entry.since = due;
            self.put((due, number), entry);
        }
    }
}

fn cost(entry: &Entry) -> usize {
    entry.message.payload.len() + HELD_COST
}

/// How long what was heard is remembered.
pub const REMEMBERED: Duration = Duration::from_secs(600);

/// How many messages are remembered, in each direction.
pub const REMEMBERED_MAX: usize = 65_536;

/// What was heard lately.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    /// When each was heard last.
    last: std::collections::HashMap<u64, Instant>,
    order: std::collections::VecDeque<(Instant, u64)>,
}

impl Recent {
    pub(crate) fn insert(&mut self, key: u64, now: Instant) {
        self.last.insert(key, now);
        self.order.push_back((now, key));
        while let Some(&(at, oldest)) = self.order.front() {
            if self.order.len() <= REMEMBERED_MAX && now.duration_since(at) <= REMEMBERED {
                break;
            }
            self.order.pop_front();
            // Not if it was heard again since.
            if self.last.get(&oldest) == Some(&at) {
                self.last.remove(&oldest);
            }
        }
    }

    pub(crate) fn contains(&self, key: u64) -> bool {
        self.last.contains_key(&key)
    }

    /// Returns whether it was heard at `since` or later.
    pub(crate) fn contains_since(&self, key: u64, since: Instant) -> bool {
        self.last.get(&key).is_some_and(|&at| at >= since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(nonce: u64) -> Carried {
        Carried {
            nonce,
            payload: vec![0; 100].into(),
        }
    }

    #[test]
    fn is_bounded_and_in_order() {
        let now = Instant::now();
        let mut held = Held::new(3 * (HELD_COST + 100));
        for number in 0..3 {
            assert!(held.add(number, message(number), now));
        }
        assert!(!held.add(3, message(3), now));
        let first = held.pop(now).unwrap();
        assert_eq!(first.key, 0);
        held.put_back(first, now + Duration::from_secs(1));
        assert!(
            !held.add(4, message(4), now),
            "one that is put back keeps its room"
        );
        assert!(held.remove(1));
        assert!(!held.remove(1));
        assert_eq!(held.pop(now).unwrap().key, 2);
        assert!(held.pop(now).is_none(), "not due yet");
        assert_eq!(held.pop(now + Duration::from_secs(1)).unwrap().key, 0);
        assert!(held.is_empty() && held.used == 0 && held.places.is_empty());
    }

    #[test]
    fn comes_in_the_old_order_after_a_reset() {
        let now = Instant::now();
        let mut held = Held::new(usize::MAX);
        held.add(1, message(1), now + Duration::from_secs(9));
        held.add(2, message(2), now);
        held.reset(now);
        assert_eq!(held.pop(now).unwrap().key, 1);
        assert_eq!(held.pop(now).unwrap().key, 2);
    }

    #[test]
    fn equal_keys_are_removed_one_by_one() {
        let now = Instant::now();
        let mut held = Held::new(usize::MAX);
        held.add(1, message(1), now);
        held.add(1, message(1), now);
        assert!(held.remove(1));
        assert!(held.contains(1));
        assert!(held.remove(1));
        assert!(!held.contains(1));
    }

    #[test]
    fn forgets_the_oldest() {
        let now = Instant::now();
        let mut recent = Recent::default();
        recent.insert(u64::MAX, now);
        for key in 0..REMEMBERED_MAX as u64 {
            recent.insert(key, now);
        }
        assert!(!recent.contains(u64::MAX));
        assert!(recent.contains(0));
        recent.insert(0, now + REMEMBERED);
        recent.insert(1_000_000, now + REMEMBERED + Duration::from_secs(1));
        assert!(recent.contains(0), "it was heard again");
        assert!(!recent.contains(1));
        assert_eq!(recent.last.len(), 2);
    }
}
