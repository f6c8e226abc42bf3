//! Which payloads of a topic have arrived.

use std::collections::HashSet;
use std::mem;
use std::time::Duration;

use tokio::time::Instant;

use crate::overlay::ids::Key;

/// How long a payload of a topic is remembered at least, unless there are more than
/// [`REMEMBERED`]: 30 s.
pub const REMEMBERED_FOR: Duration = Duration::from_secs(30);

/// How many payloads of a topic are remembered at least: 131,072. At most twice as many are, in
/// some 12 MiB.
pub const REMEMBERED: usize = 128 * 1024;

/// The payloads that have arrived, in two generations: when the young one is full or of age, it
/// takes the place of the old one.
///
/// A copy that comes when its payload is forgotten would be new. It makes at most
/// [`MAX_HOPS`](super::payload::MAX_HOPS) hops in all, so that nothing circulates for ever.
#[derive(Debug, Default)]
pub(super) struct Seen {
    young: HashSet<u128>,
    old: HashSet<u128>,
    /// When the young generation began.
    since: Option<Instant>,
}

/// Returns as much of a payload's id as is remembered. An id is a hash of the payload.
fn short(id: &Key) -> u128 {
    id.first_chunk()
        .map_or(0, |bytes| u128::from_be_bytes(*bytes))
}

impl Seen {
    pub(super) fn contains(&self, id: &Key) -> bool {
        let id = short(id);
        self.young.contains(&id) || self.old.contains(&id)
    }

    /// Remembers a payload. Returns whether it is new.
    pub(super) fn insert(&mut self, id: &Key, now: Instant) -> bool {
        if self.contains(id) {
            return false;
        }
        let since = *self.since.get_or_insert(now);
        if self.young.len() >= REMEMBERED || now.saturating_duration_since(since) >= REMEMBERED_FOR
        {
            self.old = mem::take(&mut self.young);
            self.since = Some(now);
        }
        self.young.insert(short(id));
        true
    }

    /// Forgets a payload: a copy is new.
    pub(super) fn forget(&mut self, id: &Key) {
        let id = short(id);
        self.young.remove(&id);
        self.old.remove(&id);
    }

    /// Frees the memory of what need not be remembered any longer.
    pub(super) fn sweep(&mut self, now: Instant) {
        let age = self.since.map(|since| now.saturating_duration_since(since));
        if age.is_some_and(|age| age >= REMEMBERED_FOR) {
            self.old = mem::take(&mut self.young);
            self.since = (!self.old.is_empty()).then_some(now);
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> Key {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(number as u64).to_be_bytes());
        id
    }

    #[test]
    fn a_payload_is_new_once_and_again_when_it_is_forgotten() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        assert!(seen.insert(&id(1), now) && !seen.insert(&id(1), now));
        assert!(seen.contains(&id(1)) && !seen.contains(&id(2)));
        seen.forget(&id(1));
        assert!(seen.insert(&id(1), now));
    }

    #[test]
    fn it_is_remembered_for_a_time_and_memory_has_a_bound() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        seen.insert(&id(0), now);
        let later = now + REMEMBERED_FOR;
        seen.insert(&id(1), later);
        assert!(!seen.insert(&id(0), later));
        seen.sweep(later + REMEMBERED_FOR);
        assert!(!seen.contains(&id(0)) && seen.contains(&id(1)));
        seen.sweep(later + 2 * REMEMBERED_FOR);
        assert_eq!((seen.len(), seen.since), (0, None));

        for number in 0..3 * REMEMBERED {
            assert!(seen.insert(&id(number), now));
            let kept = number.saturating_sub(REMEMBERED - 1);
            assert!(seen.contains(&id(kept)));
        }
        assert!(seen.len() <= 2 * REMEMBERED);
    }
}
