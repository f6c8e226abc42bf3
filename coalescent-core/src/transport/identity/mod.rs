//! Identities of peers: ed25519 keys, and the files that store them.
//!
//! A node uses its `Identity`, the secret key, to prove that it owns its [`PublicKey`], which is
//! its id; see `transport::tls`.
//!
//! Without the feature `tls` there is only the [`PublicKey`], for transports that prove keys
//! themselves.
//!
//! # The key file
//!
//! One PKCS#8 private key in PEM form (RFC 5958, RFC 8410), readable by its owner alone:
//!
//! ```text
//! -----BEGIN PRIVATE KEY-----
//! MC4CAQAwBQYDK2VwBCIEI...
//! -----END PRIVATE KEY-----
//! ```
//!
//! `openssl genpkey -algorithm ed25519 -out FILE` writes this format, so that such files can be
//! used (after `chmod 600 FILE`). Conversely, `openssl pkey -in FILE -noout -text` shows a key
//! written here. Keys that also contain their public half (version 2 of PKCS#8) are accepted,
//! unless the halves do not match. Keys encrypted with a passphrase are not supported.
//!
//! Peers cannot distinguish nodes that use the same file: do not copy it between nodes that run at
//! the same time.

#[cfg(feature = "tls")]
mod author;
#[cfg(feature = "tls")]
mod error;
#[cfg(feature = "tls")]
mod file;
mod public_key;
#[cfg(feature = "tls")]
mod secret;
#[cfg(feature = "tls")]
mod signature;

#[cfg(feature = "tls")]
pub use self::author::Author;
#[cfg(feature = "tls")]
pub use self::error::IdentityError;
pub use self::public_key::{ParsePublicKeyError, PublicKey};
#[cfg(feature = "tls")]
pub use self::secret::Identity;
#[cfg(feature = "tls")]
pub use self::signature::SIGNATURE_LEN;

/// Parses the 64 hexadecimal digits, of either case, of 32 bytes.
pub(crate) fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let mut digits = text.chars().map(|digit| digit.to_digit(16));
    let mut bytes = [0; 32];
    for byte in &mut bytes {
        // Two hexadecimal digits fit into a byte.
        *byte = (digits.next()?? << 4 | digits.next()??) as u8;
    }
    digits.next().is_none().then_some(bytes)
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        for half in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(half.into(), 16));
        }
    }
}
