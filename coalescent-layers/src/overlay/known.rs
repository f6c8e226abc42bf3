//! The addresses of peers that the engine may want to reach.

use std::collections::HashMap;

use coalescent_core::Address;
use tokio::time::Instant;

use super::ids::Key;

/// For how many peers an address is remembered, beside those of each further topic.
///
/// The engine would remember the address of every peer that it ever hears of.
pub const MAX_KNOWN: usize = 64;

/// For how many more an address is remembered for each topic beyond the first.
pub const KNOWN_PER_TOPIC: usize = 32;

/// For how many peers an address is remembered, whatever there are of topics.
pub const MAX_KNOWN_IN_ALL: usize = 512;

/// The addresses of peers.
#[derive(Debug, Default)]
pub(crate) struct Known {
    peers: HashMap<Key, Entry>,
}

#[derive(Debug)]
struct Entry {
    address: Address,
    heard: Instant,
}

impl Known {
    /// Remembers an address.
    pub(crate) fn heard(&mut self, key: Key, address: Address, now: Instant) {
        let entry = Entry {
            address,
            heard: now,
        };
        self.peers.insert(key, entry);
    }

    /// Returns the address of a peer.
    pub(crate) fn get(&self, key: &Key) -> Option<&Address> {
        Some(&self.peers.get(key)?.address)
    }

    /// Forgets a peer.
    pub(crate) fn forget(&mut self, key: &Key) {
        self.peers.remove(key);
    }

    /// Returns the peers whose address is known.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.peers.keys()
    }

    /// Returns for how many an address is known.
    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }

    /// Returns whether there are more than may be, for so many topics.
    pub(crate) fn is_over(&self, topics: usize) -> bool {
        self.len() > bound(topics)
    }

    /// Forgets so many that there is some room again: those that are not of use, oldest first, and
    /// then any.
    pub(crate) fn prune(&mut self, topics: usize, of_use: impl Fn(&Key) -> bool) {
        let keep = bound(topics) / 4 * 3;
        let mut ages: Vec<_> = self
            .peers
            .iter()
            .map(|(key, entry)| (of_use(key), entry.heard, *key))
            .collect();
        ages.sort_unstable();
        let over = self.peers.len().saturating_sub(keep);
        for (_, _, key) in ages.iter().take(over) {
            self.peers.remove(key);
        }
        self.peers.shrink_to(keep);
    }
}

fn bound(topics: usize) -> usize {
    let more = topics.saturating_sub(1).saturating_mul(KNOWN_PER_TOPIC);
    MAX_KNOWN.saturating_add(more).min(MAX_KNOWN_IN_ALL)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_and_what_is_of_use_stays() {
        let start = Instant::now();
        let mut known = Known::default();
        for number in 0..10_000u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&number.to_be_bytes());
            let address = format!("10.0.0.1:{}", number % 60000 + 1).parse().unwrap();
            known.heard(key, address, start + Duration::from_secs(number.into()));
            if known.is_over(1) {
                known.prune(1, |key| key[..4] == [0; 4]);
            }
            assert!(known.len() <= MAX_KNOWN);
            assert!(known.get(&[0; 32]).is_some() && known.get(&key).is_some());
        }
    }

    #[test]
    fn the_bound_grows_with_topics_up_to_a_limit() {
        assert_eq!(bound(0), MAX_KNOWN);
        assert_eq!(bound(2), MAX_KNOWN + KNOWN_PER_TOPIC);
        assert_eq!(bound(usize::MAX), MAX_KNOWN_IN_ALL);
    }
}
