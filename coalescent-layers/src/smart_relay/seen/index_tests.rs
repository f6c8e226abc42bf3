use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

impl Index {
    /// Checks that the index contains exactly these identities, oldest first, each where a search
    /// finds it.
    pub(in super::super) fn check(&self, identities: &[u128]) {
        let least = self.least_alive();
        let entries = || self.lines.iter().flat_map(|line| line.0);
        let alive = entries().filter(|entry| *entry >= least).count();
        assert_eq!(alive, identities.len());
        for line in &self.lines {
            assert!(line.0.is_sorted_by(|one, next| one > next || *next < least));
        }
        for (offset, identity) in identities.iter().enumerate() {
            let number = self.oldest + offset as u32;
            let entry = number << self.tag_bits | self.tag(*identity);
            let mut place = self.home(*identity);
            while !self.lines[place].0.contains(&entry) {
                let between = &self.lines[place].0;
                assert!(between.iter().all(|other| *other > entry));
                place = self.after(place);
            }
        }
    }
}

/// Returns a full ring of `slots` after `newcomers` further insertions, each evicting the oldest.
fn full(slots: usize, newcomers: usize) -> (Index, Vec<u128>) {
    let mut rng = StdRng::seed_from_u64(7);
    let mut index = Index::new(slots);
    let identities: Vec<u128> = (0..slots + newcomers).map(|_| rng.random()).collect();
    for (count, identity) in identities.iter().enumerate() {
        if count >= slots {
            index.forget(1);
        }
        index.put(*identity, count.min(slots - 1));
    }
    (index, identities[newcomers..].to_vec())
}

#[test]
fn what_is_in_the_ring_is_found_and_what_was_is_not() {
    let (index, identities) = full(1000, 30_000);
    index.check(&identities);
    let known = |identity| {
        index
            .find(identity, |offset| identities[offset] == identity)
            .is_some()
    };
    assert!(identities.iter().all(|identity| known(*identity)));
    let mut rng = StdRng::seed_from_u64(8);
    assert!((0..10_000).all(|_| !known(rng.random())));
}

/// Otherwise each search would access the ring, which is likely a cache miss.
#[test]
fn the_ring_is_asked_for_hardly_any_newcomer() {
    let (index, _) = full(65_536, 0);
    let mut rng = StdRng::seed_from_u64(8);
    let asked = std::cell::Cell::new(0);
    for _ in 0..10_000 {
        index.find(rng.random(), |_| {
            asked.set(asked.get() + 1);
            false
        });
    }
    assert!(asked.get() < 100, "{}", asked.get());
}

#[test]
fn numbers_have_room_and_tags_have_bits_in_rings_of_all_sizes() {
    for slots in (0..=30).flat_map(|bits| [(1 << bits) - 1, 1 << bits]) {
        let tags = tag_bits(slots);
        assert!((1..=29).contains(&tags), "{slots}");
        let numbers = u32::MAX >> tags;
        assert!(numbers as usize > slots + 1, "{slots}");
    }
    assert_eq!(tag_bits(65_536), 13);
}

#[test]
fn a_line_is_a_line_of_the_cache() {
    assert_eq!((size_of::<Line>(), align_of::<Line>()), (64, 64));
}
