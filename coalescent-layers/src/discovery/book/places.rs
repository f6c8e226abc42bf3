//! Where in the table an address stands: hashes with a secret key.

use std::fmt;
use std::hash::Hasher;

use coalescent_core::Address;
use siphasher::sip::SipHasher24;

use super::group::Group;
use crate::discovery::place::Place;

/// The buckets of addresses that no dial of this node has reached yet.
pub const NEW_BUCKETS: usize = 64;

/// The buckets of addresses that a dial of this node has reached.
pub const TRIED_BUCKETS: usize = 16;

/// The places of each bucket.
pub const BUCKET_PLACES: usize = 16;

/// How many of the new buckets what peers of one group tell can reach.
pub const NEW_BUCKETS_OF_SOURCE: usize = 8;

/// How many of the tried buckets addresses of one group can reach.
pub const TRIED_BUCKETS_OF_GROUP: usize = 4;

/// How many addresses a book can hold: one in each place of each bucket.
pub const BOOK_CAPACITY: usize = TRIED_FROM + TRIED_BUCKETS * BUCKET_PLACES;

/// The first place of the tried buckets, which stand behind the new ones.
pub(super) const TRIED_FROM: usize = NEW_BUCKETS * BUCKET_PLACES;

/// The length of the secret, in bytes.
pub(super) const SECRET_LEN: usize = 16;

/// Computes places with the secret of one table.
///
/// Whoever does not know the secret cannot choose addresses that stand in the way of others.
#[derive(Clone)]
pub(super) struct Places {
    secret: [u8; SECRET_LEN],
    hasher: SipHasher24,
}

/// What is hashed; the numbers keep the hashes for one purpose apart from those for another.
#[derive(Clone, Copy)]
enum Purpose {
    Fingerprint = 1,
    NewShare,
    NewBucket,
    NewPlace,
    TriedShare,
    TriedBucket,
    TriedPlace,
}

impl Places {
    pub(super) fn new(secret: [u8; SECRET_LEN]) -> Self {
        Self {
            secret,
            hasher: SipHasher24::new_with_key(&secret),
        }
    }

    pub(super) fn secret(&self) -> &[u8; SECRET_LEN] {
        &self.secret
    }

    /// Returns the number that stands for the host and port of an address.
    pub(super) fn fingerprint(&self, address: &Address) -> u64 {
        let mut hash = self.start(Purpose::Fingerprint);
        hash_address(&mut hash, address);
        hash.finish()
    }

    /// Returns the place among the new ones of an address that a peer of group `source` told.
    pub(super) fn new_place(&self, address: &Address, source: &Group) -> usize {
        let mut share = self.start(Purpose::NewShare);
        hash_owner(&mut share, address);
        hash_group(&mut share, source);
        let share = modulo(&share, NEW_BUCKETS_OF_SOURCE);
        let mut bucket = self.start(Purpose::NewBucket);
        hash_group(&mut bucket, source);
        bucket.write_u8(share);
        let bucket = modulo(&bucket, NEW_BUCKETS);
        self.place(Purpose::NewPlace, bucket, address)
    }

    /// Returns the place among the tried ones of an address.
    pub(super) fn tried_place(&self, address: &Address) -> usize {
        let mut share = self.start(Purpose::TriedShare);
        hash_address(&mut share, address);
        let share = modulo(&share, TRIED_BUCKETS_OF_GROUP);
        let mut bucket = self.start(Purpose::TriedBucket);
        hash_owner(&mut bucket, address);
        bucket.write_u8(share);
        let bucket = modulo(&bucket, TRIED_BUCKETS);
        TRIED_FROM + self.place(Purpose::TriedPlace, bucket, address)
    }

    fn place(&self, purpose: Purpose, bucket: u8, address: &Address) -> usize {
        let mut place = self.start(purpose);
        place.write_u8(bucket);
        hash_address(&mut place, address);
        usize::from(bucket) * BUCKET_PLACES + usize::from(modulo(&place, BUCKET_PLACES))
    }

    fn start(&self, purpose: Purpose) -> SipHasher24 {
        let mut hasher = self.hasher;
        hasher.write_u8(purpose as u8);
        hasher
    }
}

/// Omits the secret: whoever reads a log could compute places.
impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Places").finish_non_exhaustive()
    }
}

/// Hashes host and port. The identity is left out: one host and port is one address.
fn hash_address(hash: &mut SipHasher24, address: &Address) {
    hash.write_u64((address.host().len() as u64).to_le());
    hash.write(address.host().as_bytes());
    hash.write_u16(address.port().to_le());
}

/// Hashes the group of an address. Each address on this machine or in a private network is one of
/// its own: such networks have many owners in one group, and nobody far away can tell of them.
fn hash_owner(hash: &mut SipHasher24, address: &Address) {
    if Place::of(address).is_near() {
        hash_address(hash, address);
    } else {
        hash_group(hash, &Group::of(address));
    }
}

fn hash_group(hash: &mut SipHasher24, group: &Group) {
    hash.write_u8(group.kind());
    hash.write_u64((group.bytes().len() as u64).to_le());
    hash.write(group.bytes());
}

/// Reduces a hash to below `count`, which is at most 64.
fn modulo(hash: &SipHasher24, count: usize) -> u8 {
    (hash.finish() % count as u64) as u8
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_group_reaches_eight_buckets_whatever_it_tells() {
        for secret in 0..4 {
            let places = Places::new([secret; 16]);
            let source = Group::of_ip([198, 51, 100, 7].into());
            let buckets: HashSet<_> = (0..4_000_u32)
                .map(|n| {
                    let ip = std::net::Ipv4Addr::from(n.wrapping_mul(2_654_435_761));
                    let place = places.new_place(&address(&format!("{ip}:7")), &source);
                    assert!(place < TRIED_FROM);
                    place / BUCKET_PLACES
                })
                .collect();
            assert!(
                (2..=NEW_BUCKETS_OF_SOURCE).contains(&buckets.len()),
                "{buckets:?}"
            );
        }
    }

    #[test]
    fn near_addresses_are_not_crowded_together() {
        let places = Places::new([7; 16]);
        let source = Group::of_ip([127, 0, 0, 1].into());
        let near: Vec<_> = (1..=100)
            .map(|port| address(&format!("127.0.0.1:{port}")))
            .collect();
        let new: HashSet<_> = near.iter().map(|a| places.new_place(a, &source)).collect();
        let tried: HashSet<_> = near.iter().map(|a| places.tried_place(a)).collect();
        // 100 balls in 128 bins, and in 256.
        assert!(new.len() > 50, "{}", new.len());
        assert!(tried.len() > 70, "{}", tried.len());
    }

    #[test]
    fn a_group_reaches_four_tried_buckets() {
        for secret in 0..4 {
            let places = Places::new([secret; 16]);
            let buckets: HashSet<_> = (0..4_000_u32)
                .map(|n| {
                    let text = format!("198.51.{}.{}:{}", n / 250, n % 250, 1 + n);
                    let place = places.tried_place(&address(&text));
                    assert!((TRIED_FROM..BOOK_CAPACITY).contains(&place));
                    place / BUCKET_PLACES
                })
                .collect();
            assert!(
                (2..=TRIED_BUCKETS_OF_GROUP).contains(&buckets.len()),
                "{buckets:?}"
            );
        }
    }

    #[test]
    fn all_places_are_reached_by_many_groups() {
        let places = Places::new([7; 16]);
        let mut reached = HashSet::new();
        for n in 0..20_000_u32 {
            let ip = std::net::Ipv4Addr::from(n.wrapping_mul(2_654_435_761));
            let address = address(&format!("{ip}:7"));
            reached.insert(places.new_place(&address, &Group::of(&address)));
            reached.insert(places.tried_place(&address));
        }
        assert_eq!(reached.len(), BOOK_CAPACITY);
    }

    #[test]
    fn the_secret_decides() {
        let (one, other) = (Places::new([1; 16]), Places::new([2; 16]));
        let equal = (0..1_000)
            .map(|n| address(&format!("198.51.100.7:{}", n + 1)))
            .filter(|address| one.tried_place(address) == other.tried_place(address))
            .count();
        assert!(equal < 100, "{equal}");
    }
}
