//! What a frame is known by.

use std::fmt;
use std::hash::Hasher as _;

use rand::CryptoRng;
use siphasher::sip128::SipHasher13;

/// Computes the identities of frames, with a key that is this process's own.
///
/// SipHash-1-3 with 128 bits: whoever doesn't know the key can neither make two frames with one
/// identity, nor identities that crowd one place of the table.
#[derive(Clone)]
pub(crate) struct Hasher {
    nonced: SipHasher13,
    content: SipHasher13,
}

impl Hasher {
    /// Makes a hasher with a fresh key.
    pub(crate) fn random() -> Self {
        Self::new(&mut rand::rng())
    }

    /// Makes a hasher with a key drawn from `rng`.
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

    /// Hashes a frame. `nonce` is absent on wires that have none.
    ///
    /// The two kinds are hashed with keys of their own, so that content which begins with eight
    /// bytes equal to a nonce is not the frame with that nonce.
    #[inline]
    pub(crate) fn identity(&self, nonce: Option<u64>, payload: &[u8]) -> u128 {
        match nonce {
            Some(nonce) => {
                let mut state = self.nonced;
                // Its eight bytes in network order, whatever this machine's is.
                state.write_u64(nonce.to_be());
                state.hash(payload).as_u128()
            }
            None => self.content.hash(payload).as_u128(),
        }
    }
}

/// Leaves the key out: whoever reads it in a log could make collisions.
impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").finish_non_exhaustive()
    }
}
