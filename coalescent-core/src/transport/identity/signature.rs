//! Signing and verifying with the algorithms of the TLS provider.

use std::sync::LazyLock;

use rustls::SignatureScheme;
use rustls::crypto::ring;
use rustls::pki_types::SignatureVerificationAlgorithm;

use super::{Identity, PublicKey};

/// The length of a signature, in bytes.
pub const SIGNATURE_LEN: usize = 64;

/// The verifier that handshakes use too.
static ED25519: LazyLock<Option<&'static dyn SignatureVerificationAlgorithm>> =
    LazyLock::new(|| {
        let known = ring::default_provider().signature_verification_algorithms;
        let mut known = known.mapping.iter();
        let (_, algorithms) = known.find(|(scheme, _)| *scheme == SignatureScheme::ED25519)?;
        algorithms.first().copied()
    });

impl Identity {
    /// Returns the ed25519 signature of `message` by this key.
    ///
    /// The same key proves this node's id in handshakes. Begin each kind of message with a text of
    /// its own, so that no signature can be taken for one of another kind.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        let signer = self
            .certified_key()
            .key
            .choose_scheme(&[SignatureScheme::ED25519]);
        let signature = signer.and_then(|signer| signer.sign(message).ok());
        match signature.map(<[u8; SIGNATURE_LEN]>::try_from) {
            Some(Ok(signature)) => signature,
            _ => unreachable!("an ed25519 key signs every message, with {SIGNATURE_LEN} bytes"),
        }
    }
}

impl PublicKey {
    /// Returns whether `signature` is the ed25519 signature of `message` by the owner of this key.
    ///
    /// Anything but 64 bytes is no signature, and neither is another encoding of a valid one: only
    /// the owner of the key can make a second signature of a message.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        // Without the algorithm nothing is valid.
        ED25519.is_some_and(|algorithm| {
            let key = self.as_bytes();
            algorithm.verify_signature(key, message, signature).is_ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_message_and_key_alone() {
        let alice = Identity::generate();
        let signature = alice.sign(b"beep");
        assert_eq!(signature, alice.sign(b"beep"));
        assert!(alice.id().verify(b"beep", &signature));
        assert!(!alice.id().verify(b"boop", &signature));
        assert!(!alice.id().verify(b"beep", &signature[1..]));
        assert!(!alice.id().verify(b"beep", &[0; SIGNATURE_LEN]));
        assert!(!alice.id().verify(b"beep", &[0; SIGNATURE_LEN + 1]));
        assert!(!Identity::generate().id().verify(b"beep", &signature));
    }

    /// The first test of RFC 8032, section 7.1.
    #[test]
    fn signatures_are_those_of_the_standard() {
        let hex = |text: &str| -> Vec<u8> {
            let digit = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
            (0..text.len()).step_by(2).map(digit).collect()
        };
        let secret = hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let identity = Identity::from_secret(&secret.try_into().unwrap());
        let expected = hex(
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        );
        assert_eq!(identity.sign(b"")[..], expected);
    }

    #[test]
    fn a_second_encoding_of_a_signature_is_refused() {
        // The order of the group, little-endian: adding it to the scalar changes nothing but bytes.
        const ORDER: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9,
            0xde, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let alice = Identity::generate();
        let mut signature = alice.sign(b"beep");
        let mut carry = 0;
        for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(order) + carry;
            (*byte, carry) = (sum as u8, sum >> 8);
        }
        assert!(!alice.id().verify(b"beep", &signature));
    }
}
