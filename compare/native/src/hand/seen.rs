//! The set of frames seen: keyed 128-bit hashes, in two generations.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::mem;

use siphasher::sip128::{Hasher128 as _, SipHasher13};

/// Hashes of a generation.
const GENERATION: usize = 65_536;

/// The hashes of the latest 65,536 to 131,072 frames.
#[derive(Debug, Default)]
pub(super) struct Seen {
    young: HashSet<u128, BuildHasherDefault<Itself>>,
    old: HashSet<u128, BuildHasherDefault<Itself>>,
}

impl Seen {
    /// Adds a hash. Returns whether it is new.
    pub(super) fn insert(&mut self, hash: u128) -> bool {
        if self.old.contains(&hash) || !self.young.insert(hash) {
            return false;
        }
        if self.young.len() >= GENERATION {
            mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        true
    }
}

/// Hashes the nonce and the payload of a frame.
#[must_use]
pub(super) fn hash(key: &[u8; 16], nonce_and_payload: &[u8]) -> u128 {
    let mut hasher = SipHasher13::new_with_key(key);
    hasher.write(nonce_and_payload);
    hasher.finish128().as_u128()
}

/// A hasher for hashes: it returns a part of them.
#[derive(Debug, Default)]
pub(super) struct Itself(u64);

impl Hasher for Itself {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }
}
