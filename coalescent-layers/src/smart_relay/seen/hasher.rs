//! The identity of a frame: a keyed hash.

use std::fmt;
use std::hash::Hasher as _;

use rand::CryptoRng;
use siphasher::sip128::SipHasher13;

/// Computes the identities of frames, with a key chosen by this process.
///
/// Uses SipHash-1-3 with 128 bits. Without the key, nobody can construct two frames with one
/// identity, or identities that collide in the index.
#[derive(Clone)]
pub(crate) struct Hasher {
    nonced: SipHasher13,
    content: SipHasher13,
}

impl Hasher {
    /// Creates a hasher with a random key.
    pub(crate) fn random() -> Self {
        Self::new(&mut rand::rng())
    }

    /// Creates a hasher with a key from `rng`.
    pub(crate) fn new(rng: &mut impl CryptoRng) -> Self {
        let mut key = || {
            let mut key = [0; 16];
            rng.fill_bytes(&mut key);
            SipHasher13::new_with_key(&key)
        };
        Self {
            nonced: key(),
            content: key(),
        }
    }

    /// Hashes a frame. `nonce` is `None` on wires without nonces.
    ///
    /// The two kinds use separate keys, so that content that begins with the eight bytes of a nonce
    /// is not mistaken for a frame with that nonce.
    #[inline]
    pub(crate) fn identity(&self, nonce: Option<u64>, payload: &[u8]) -> u128 {
        match nonce {
            Some(nonce) => {
                let mut state = self.nonced;
                // Network byte order, independent of the machine.
                state.write_u64(nonce.to_be());
                state.hash(payload).as_u128()
            }
            None => self.content.hash(payload).as_u128(),
        }
    }
}

/// Omits the key, because a key in a log would allow collisions to be constructed.
impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").finish_non_exhaustive()
    }
}
