//! The addresses of peers that the engine may want to reach.

use std::net::SocketAddrV4;

use coalescent_core::Address;
use tokio::time::Instant;

use super::ids::{Key, with_key};
use crate::discovery::place::Place;

/// For how many peers an address is remembered, beside those of each further topic.
///
/// The engine would remember the address of every peer that it ever hears of.
pub const MAX_KNOWN: usize = 48;

/// For how many more an address is remembered for each topic beyond the first.
pub const KNOWN_PER_TOPIC: usize = 32;

/// For how many peers an address is remembered, whatever there are of topics.
pub const MAX_KNOWN_IN_ALL: usize = 512;

/// By how many entries the room for them grows.
const STEP: usize = 8;

/// The addresses of peers, and who has told them.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// In the order of the keys. Hash tables have too much room, for thousands of nodes in one
    /// process.
    peers: Vec<Entry>,
    /// When the first one was heard of.
    start: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    /// The address without the key that it may have to prove.
    address: Packed,
    /// When it was told, in seconds.
    heard: u32,
    keyed: bool,
    /// Where its teller is.
    teller: Place,
}

/// An address without a key, in few bytes.
#[derive(Debug)]
enum Packed {
    /// What most are.
    V4(SocketAddrV4),
    /// Any other, as it is written.
    Text(Box<str>),
}

impl Packed {
    fn new(address: Address) -> Self {
        let text = address.with_id(None).to_string();
        match text.parse::<SocketAddrV4>() {
            Ok(addr) if addr.to_string() == text => Self::V4(addr),
            _ => Self::Text(text.into()),
        }
    }

    fn address(&self) -> Option<Address> {
        match self {
            Self::V4(addr) => addr.to_string().parse().ok(),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

impl Known {
    /// Remembers an address, which somebody at `teller` has told.
    pub(crate) fn heard(&mut self, key: Key, address: Address, teller: Place, now: Instant) {
        let start = *self.start.get_or_insert(now);
        let heard = now.saturating_duration_since(start).as_secs();
        let entry = Entry {
            key,
            heard: u32::try_from(heard).unwrap_or(u32::MAX),
            keyed: address.id().is_some(),
            address: Packed::new(address),
            teller,
        };
        match self.find(&key) {
            Ok(at) => {
                if let Some(old) = self.peers.get_mut(at) {
                    *old = entry;
                }
            }
            Err(at) => {
                if self.peers.len() == self.peers.capacity() {
                    self.peers.reserve_exact(STEP);
                }
                self.peers.insert(at, entry);
            }
        }
    }

    fn find(&self, key: &Key) -> Result<usize, usize> {
        self.peers.binary_search_by(|entry| entry.key.cmp(key))
    }

    /// Returns the address of a peer, and where its teller is.
    pub(crate) fn get(&self, key: &Key) -> Option<(Address, Place)> {
        let entry = self.peers.get(self.find(key).ok()?)?;
        let address = entry.address.address()?;
        Some((with_key(address, key, entry.keyed)?, entry.teller))
    }

    /// Returns whether the address of a peer is known.
    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.find(key).is_ok()
    }

    /// Forgets a peer.
    pub(crate) fn forget(&mut self, key: &Key) {
        if let Ok(at) = self.find(key) {
            self.peers.remove(at);
        }
    }

    /// Returns the peers whose address is known.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.peers.iter().map(|entry| &entry.key)
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
        // Neighbours and those to ask next, 35 for each topic, stay.
        let keep = bound(topics) / 8 * 7;
        let mut ages: Vec<_> = self
            .peers
            .iter()
            .map(|entry| (of_use(&entry.key), entry.heard, entry.key))
            .collect();
        ages.sort_unstable();
        let over = self.peers.len().saturating_sub(keep);
        for (_, _, key) in ages.iter().take(over) {
            self.forget(key);
        }
        self.peers.shrink_to_fit();
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
            let now = start + Duration::from_secs(number.into());
            known.heard(key, address, Place::Public, now);
            if known.is_over(1) {
                known.prune(1, |key| key[..4] == [0; 4]);
            }
            assert!(known.len() <= MAX_KNOWN);
            assert!(known.contains(&[0; 32]) && known.contains(&key));
        }
    }

    #[test]
    fn an_address_is_returned_as_it_was_told_the_last_time() {
        let mut known = Known::default();
        let (now, plain) = (Instant::now(), "[2001:db8::7]:1");
        known.heard([9; 32], "b:7".parse().unwrap(), Place::Loopback, now);
        known.heard([8; 32], plain.parse().unwrap(), Place::Private, now);
        assert_eq!(
            known.get(&[8; 32]),
            Some((plain.parse().unwrap(), Place::Private))
        );
        let keyed: Address = format!("{}@a:7", "08".repeat(32)).parse().unwrap();
        known.heard([8; 32], keyed.clone(), Place::Public, now);
        assert_eq!(known.get(&[8; 32]), Some((keyed, Place::Public)));
        assert_eq!(known.len(), 2);
        known.forget(&[8; 32]);
        assert!(!known.contains(&[8; 32]) && known.get(&[8; 32]).is_none());
        assert_eq!(
            known.get(&[9; 32]),
            Some(("b:7".parse().unwrap(), Place::Loopback))
        );
    }

    #[test]
    fn the_bound_grows_with_topics_up_to_a_limit() {
        assert_eq!(bound(0), MAX_KNOWN);
        assert_eq!(bound(2), MAX_KNOWN + KNOWN_PER_TOPIC);
        assert_eq!(bound(usize::MAX), MAX_KNOWN_IN_ALL);
    }
}
