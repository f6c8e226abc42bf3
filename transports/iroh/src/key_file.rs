//! The secret key of a node, for iroh.

use std::io;
use std::path::Path;

use coalescent_core::identity::Identity;
use iroh::SecretKey;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;

/// What stands before the secret in a PKCS#8 key, after its length and version (RFC 8410).
const BEFORE_SECRET: [u8; 11] = [
    0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Loads the secret key of a node from the file at `path`, or creates it.
///
/// The file is the one of [`Identity::load_or_generate`], so that a node can have one key over iroh
/// and over TCP with TLS:
///
/// ```
/// use coalescent::App;
/// use coalescent::identity::Identity;
/// use coalescent_iroh::{Iroh, Quiet, load_or_generate};
/// use iroh::Endpoint;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = &directory.path().join("node.key");
/// let endpoint = Endpoint::builder(Quiet).secret_key(load_or_generate(path)?).bind().await?;
/// let app = App::new()
///     .identity(Identity::load(path)?)
///     .transport(Iroh::new(endpoint));
/// # Ok(())
/// # }
/// ```
///
/// It blocks on the file system.
///
/// # Errors
///
/// Those of [`Identity::load_or_generate`].
pub fn load_or_generate(path: impl AsRef<Path>) -> io::Result<SecretKey> {
    let path = path.as_ref();
    let identity = Identity::load_or_generate(path).map_err(io::Error::other)?;
    let key = secret(&std::fs::read(path)?);
    key.filter(|key| key.public().as_bytes() == identity.id().as_bytes())
        .ok_or_else(|| {
            let text = format!("{}: the key cannot be read", path.display());
            io::Error::new(io::ErrorKind::InvalidData, text)
        })
}

/// Finds the secret in a PEM text.
fn secret(pem: &[u8]) -> Option<SecretKey> {
    // Neither the text nor an error of the decoder is told: both could quote the key.
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem).ok()?;
    let behind = der.secret_pkcs8_der().get(5..)?;
    let secret = behind.strip_prefix(&BEFORE_SECRET)?.first_chunk()?;
    Some(SecretKey::from_bytes(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iroh_and_tls_have_the_key_of_one_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("node.key");
        let first = load_or_generate(&path).expect("a new key");
        let identity = Identity::load(&path).expect("the same file");
        assert_eq!(first.public().as_bytes(), identity.id().as_bytes());
        let again = load_or_generate(&path).expect("the same key");
        assert_eq!(again.to_bytes(), first.to_bytes());
        std::fs::write(&path, "nothing").expect("a file");
        assert!(load_or_generate(&path).is_err());
    }
}
