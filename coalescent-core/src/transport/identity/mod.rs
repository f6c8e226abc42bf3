//! Who a peer is: an ed25519 key, and the file it is kept in.
//!
//! A node proves with its [`Identity`], the secret key, that it is the owner of its [`PublicKey`],
//! which is its id: see [`transport::tls`](crate::transport::tls).
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
//! It is what `openssl genpkey -algorithm ed25519 -out FILE` writes, and files made that way
//! (then `chmod 600 FILE`) can be used; in turn `openssl pkey -in FILE -noout -text` shows one
//! made here. Keys that carry their public half too (version 2 of PKCS#8) are read as well, and
//! refused if the halves do not fit. A key that is encrypted with a passphrase is not.
//!
//! Whoever has the file is this node, as far as its peers can tell: do not share or copy it
//! between nodes that run at the same time.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring::sign::any_eddsa_type;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

mod error;
mod file;
mod public_key;

pub use self::error::IdentityError;
use self::error::Problem;
pub use self::public_key::{ParsePublicKeyError, PublicKey};

/// The bytes before the secret in a PKCS#8 version 1 ed25519 key (RFC 8410).
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// The object identifier of ed25519 in DER.
const ED25519_OID: [u8; 5] = [0x06, 0x03, 0x2b, 0x65, 0x70];

/// Holds an ed25519 key pair, with which a node proves its id.
///
/// Clones are cheap and share the key. Neither `Debug` nor any method shows the secret.
#[derive(Clone)]
pub struct Identity {
    id: PublicKey,
    key: Arc<CertifiedKey>,
}

impl Identity {
    /// Makes a new key, which lives as long as this value and its clones.
    ///
    /// # Panics
    ///
    /// If the operating system has no randomness to give.
    #[must_use]
    pub fn generate() -> Self {
        Self::from_secret(&random())
    }

    /// Loads the key from the file at `path`, or makes a new key and that file.
    ///
    /// The new file appears whole or not at all, has mode 0600 from its first instant, and never
    /// replaces another: of several that do this at once, one makes the key and all get it. For
    /// an instant there is also a file `.coalescent-key-…` beside it; after a crash at that
    /// instant it may be deleted. This blocks on the file system: call it before the
    /// application serves, or in `spawn_blocking`.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load); and if the file can't be made, for instance because its
    /// directory does not exist.
    ///
    /// # Panics
    ///
    /// If the operating system has no randomness to give.
    pub fn load_or_generate(path: impl AsRef<Path>) -> Result<Self, IdentityError> {
        let path = path.as_ref();
        match Self::load(path) {
            Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => {}
            loaded => return loaded,
        }
        let secret = random();
        if file::publish(path, to_pem(&secret).as_bytes()).map_err(|error| error.at(path))? {
            Ok(Self::from_secret(&secret))
        } else {
            Self::load(path)
        }
    }

    /// Loads the key from the file at `path`. This blocks on the file system.
    ///
    /// # Errors
    ///
    /// If the file can't be read, is no regular file, holds no ed25519 key, or, on Unix, can be
    /// used by others than its owner.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, IdentityError> {
        let path = path.as_ref();
        file::read(path)
            .and_then(|pem| Self::from_pkcs8_pem(&pem))
            .map_err(|error| error.at(path))
    }

    /// Reads the first `PRIVATE KEY` section of a PEM text.
    ///
    /// # Errors
    ///
    /// If there is none, or its key is damaged or of another type than ed25519.
    pub fn from_pkcs8_pem(pem: impl AsRef<[u8]>) -> Result<Self, IdentityError> {
        let pem = pem.as_ref();
        match PrivatePkcs8KeyDer::from_pem_slice(pem) {
            Ok(der) => Self::from_pkcs8_der(der.secret_pkcs8_der()),
            Err(pem::Error::NoItemsFound) if contains(pem, b"BEGIN ENCRYPTED PRIVATE KEY") => {
                Err(Problem::Encrypted.into())
            }
            Err(pem::Error::NoItemsFound) => Err(Problem::NoKey.into()),
            // Its text could quote from the key, so it is left out.
            Err(_) => Err(Problem::Damaged.into()),
        }
    }

    /// Reads a PKCS#8 key in DER form, of version 1 or 2.
    ///
    /// # Errors
    ///
    /// If the key is damaged or of another type than ed25519.
    pub fn from_pkcs8_der(der: impl AsRef<[u8]>) -> Result<Self, IdentityError> {
        let der = der.as_ref();
        let problem = if contains(der, &ED25519_OID) {
            Problem::Damaged
        } else {
            Problem::OtherKey
        };
        let Ok(key) = any_eddsa_type(&PrivatePkcs8KeyDer::from(der)) else {
            return Err(problem.into());
        };
        let Some(spki) = key.public_key() else {
            return Err(problem.into());
        };
        let Some(id) = PublicKey::from_spki(&spki) else {
            return Err(problem.into());
        };
        // RFC 7250 puts the bare key where a certificate would be.
        let spki = CertificateDer::from(spki.as_ref().to_vec());
        Ok(Self {
            id,
            key: Arc::new(CertifiedKey::new(vec![spki], key)),
        })
    }

    fn from_secret(secret: &[u8; 32]) -> Self {
        Self::from_pkcs8_der(to_der(secret)).expect("any 32 bytes are an ed25519 secret key")
    }

    /// Returns the public key: the id this node has for its peers.
    #[must_use]
    pub fn id(&self) -> PublicKey {
        self.id
    }

    pub(crate) fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .expect("the operating system gives randomness");
    bytes
}

fn to_der(secret: &[u8; 32]) -> Vec<u8> {
    [&PKCS8_PREFIX[..], secret].concat()
}

fn to_pem(secret: &[u8; 32]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    // 48 bytes: 64 digits, which is exactly one line and needs no padding.
    for three in to_der(secret).chunks(3) {
        let bits = three
            .iter()
            .fold(0, |bits, byte| (bits << 8) | usize::from(*byte));
        for shift in [18, 12, 6, 0] {
            pem.push(char::from(DIGITS[(bits >> shift) & 63]));
        }
    }
    pem.push_str("\n-----END PRIVATE KEY-----\n");
    pem
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        for half in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(half.into(), 16));
        }
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(haystack, needle).is_some()
}

#[cfg(test)]
mod tests;
