//! TLS for `wss`, with a server that a certificate names.

use std::io;
use std::sync::Arc;

use coalescent_core::transport::BoxIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

use super::error::caused;

/// Whose certificates are trusted. Clones share what is read of the machine's.
#[derive(Clone, Default)]
pub(super) struct Roots(Arc<OnceCell<Arc<ClientConfig>>>);

impl Roots {
    /// Trusts only these certificates.
    pub(super) fn from_pem(pem: &[u8]) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.map_err(invalid)?).map_err(invalid)?;
        }
        if roots.is_empty() {
            return Err(invalid("there is no certificate in PEM"));
        }
        Ok(Self(Arc::new(OnceCell::new_with(Some(config(roots)?)))))
    }

    /// Connects to the server of that name, over an open connection.
    pub(super) async fn connect(&self, io: BoxIo, host: &str) -> io::Result<BoxIo> {
        let name = ServerName::try_from(host.to_owned()).map_err(invalid)?;
        let config = self.0.get_or_try_init(|| async {
            let read = tokio::task::spawn_blocking(of_machine).await;
            read.map_err(io::Error::other)?
        });
        let connector = TlsConnector::from(Arc::clone(config.await?));
        let stream = connector.connect(name, io).await.map_err(not_secured)?;
        Ok(Box::new(stream))
    }
}

/// Reads the certificates that the machine trusts.
fn of_machine() -> io::Result<Arc<ClientConfig>> {
    let read = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Some machines have a few that no longer are of use.
    roots.add_parsable_certificates(read.certs);
    if roots.is_empty() {
        let text = "this machine has no root certificates: install some (Debian: ca-certificates), or \
                    name a file of them in SSL_CERT_FILE";
        return Err(match read.errors.into_iter().next() {
            Some(error) => caused(io::ErrorKind::NotFound, text, error),
            None => io::Error::new(io::ErrorKind::NotFound, text),
        });
    }
    config(roots)
}

fn config(roots: RootCertStore) -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions();
    let mut config = builder
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // No WebSocket begins in HTTP/2 here.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Says why there is no TLS.
fn not_secured(error: io::Error) -> io::Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    let text = match cause {
        Some(rustls::Error::InvalidCertificate(_)) => "the server's certificate is not accepted",
        _ => "no TLS with the server",
    };
    caused(error.kind(), text, error)
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}
