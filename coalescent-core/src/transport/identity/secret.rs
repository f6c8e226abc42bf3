//! The secret key of a node.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring::sign::any_eddsa_type;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::error::IdentityProblem;
use super::{IdentityError, PublicKey, file};

/// The bytes that precede the secret in a PKCS#8 version 1 ed25519 key (RFC 8410).
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// The object identifier of ed25519 in DER.
const ED25519_OID: [u8; 5] = [0x06, 0x03, 0x2b, 0x65, 0x70];

/// An ed25519 key pair, with which a node proves its id.
///
/// Cheap to clone; clones share the key. Neither `Debug` nor any method reveals the secret.
///
/// ```
/// use coalescent::identity::Identity;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = &directory.path().join("node.key");
/// let identity = Identity::load_or_generate(path)?; // makes the file
/// assert_eq!(Identity::load_or_generate(path)?.id(), identity.id());
/// assert_ne!(Identity::generate().id(), identity.id());
///
/// let damaged = Identity::from_pkcs8_pem("-----BEGIN PRIVATE KEY-----\nMC4CAQ");
/// assert!(damaged.unwrap_err().is_invalid());
/// # Ok(())
/// # }
/// ```
///
/// An app proves it with [`App::identity`](crate::App::identity). The crate `coalescent` has a page
/// on keys and TLS, `keys_and_tls`.
#[derive(Clone)]
pub struct Identity {
    id: PublicKey,
    key: Arc<CertifiedKey>,
}

impl Identity {
    /// Creates a new key, which exists only in memory.
    ///
    /// # Panics
    ///
    /// Panics if the operating system cannot provide random bytes.
    #[must_use]
    pub fn generate() -> Self {
        Self::from_secret(&random())
    }

    /// Loads the key from the file at `path`, or creates a new key and the file.
    ///
    /// The new file appears completely or not at all, has mode 0600 from the start, and never
    /// replaces an existing file: of several concurrent calls, one creates the key and all return
    /// it. While it is being created, a file `.coalescent-key-…` exists beside it, which may be
    /// deleted if a crash left it behind. This function blocks on the file system: call it before
    /// the application starts serving, or in `spawn_blocking`.
    ///
    /// # Errors
    ///
    /// Fails as [`load`](Self::load) does, and if the file cannot be created, for example because
    /// its directory does not exist.
    ///
    /// # Panics
    ///
    /// Panics if the operating system cannot provide random bytes.
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

    /// Loads the key from the file at `path`. This function blocks on the file system.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, is not a regular file, contains no ed25519 key, or, on
    /// Unix, can be accessed by users other than its owner.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, IdentityError> {
        let path = path.as_ref();
        file::read(path)
            .and_then(|pem| Self::from_pkcs8_pem(&pem))
            .map_err(|error| error.at(path))
    }

    /// Parses the first `PRIVATE KEY` section of a PEM text.
    ///
    /// # Errors
    ///
    /// Fails if there is no such section, or if its key is damaged or of another type than ed25519.
    pub fn from_pkcs8_pem(pem: impl AsRef<[u8]>) -> Result<Self, IdentityError> {
        let pem = pem.as_ref();
        match PrivatePkcs8KeyDer::from_pem_slice(pem) {
            Ok(der) => Self::from_pkcs8_der(der.secret_pkcs8_der()),
            Err(pem::Error::NoItemsFound) if contains(pem, b"BEGIN ENCRYPTED PRIVATE KEY") => {
                Err(IdentityProblem::Encrypted.into())
            }
            Err(pem::Error::NoItemsFound) => Err(IdentityProblem::NoKey.into()),
            // The decoder's message could quote the key, so it is dropped.
            Err(_) => Err(IdentityProblem::Damaged.into()),
        }
    }

    /// Parses a PKCS#8 key in DER form, version 1 or 2.
    ///
    /// # Errors
    ///
    /// Fails if the key is damaged or of another type than ed25519.
    pub fn from_pkcs8_der(der: impl AsRef<[u8]>) -> Result<Self, IdentityError> {
        let der = der.as_ref();
        let problem = if contains(der, &ED25519_OID) {
            IdentityProblem::Damaged
        } else {
            IdentityProblem::OtherKey
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
        // In RFC 7250 the bare key takes the place of a certificate.
        let spki = CertificateDer::from(spki.as_ref().to_vec());
        Ok(Self {
            id,
            key: Arc::new(CertifiedKey::new(vec![spki], key)),
        })
    }

    pub(super) fn from_secret(secret: &[u8; 32]) -> Self {
        Self::from_pkcs8_der(to_der(secret)).expect("any 32 bytes are an ed25519 secret key")
    }

    /// Returns the public key, which is this node's id.
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

pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .expect("the operating system gives randomness");
    bytes
}

pub(super) fn to_der(secret: &[u8; 32]) -> Vec<u8> {
    [&PKCS8_PREFIX[..], secret].concat()
}

pub(super) fn to_pem(secret: &[u8; 32]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    // 48 bytes make 64 characters: exactly one line without padding.
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

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(haystack, needle).is_some()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
