use std::future::Future;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use tokio::io::{AsyncReadExt, DuplexStream, duplex};

use super::*;

mod data;
mod foreign;
mod handshake;

type Outcome = Result<(TlsStream<DuplexStream>, PublicKey), TlsError>;

fn node() -> Tls {
    Tls::new(Identity::generate())
}

/// Fails instead of waiting forever: on paused time the timeout elapses immediately.
async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("it hangs")
}

/// Connects one node to another, and returns both results.
async fn meet(listening: &Tls, dialling: &Tls, expected: Option<PublicKey>) -> (Outcome, Outcome) {
    let (a, b) = duplex(4096);
    soon(async { tokio::join!(listening.accept(a), dialling.connect(b, expected)) }).await
}

async fn connected() -> (TlsStream<DuplexStream>, TlsStream<DuplexStream>) {
    let (accepted, connected) = meet(&node(), &node(), None).await;
    (accepted.unwrap().0, connected.unwrap().0)
}

/// Accepts a connection of a foreign client, which sends a greeting if it can.
async fn dialled_by(listening: &Tls, client: ClientConfig) -> TlsError {
    let (a, b) = duplex(4096);
    let foreign = async move {
        let name = ServerName::try_from(NO_NAME).unwrap();
        if let Ok(mut stream) = TlsConnector::from(Arc::new(client)).connect(name, b).await {
            let _ = stream.write_all(b"hello").await;
            let _ = stream.flush().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    };
    let (accepted, ()) = soon(async { tokio::join!(listening.accept(a), foreign) }).await;
    accepted.expect_err("the client was accepted")
}

/// Dials a foreign server. Returns the error, and the data that the server read if its side of the
/// handshake succeeded.
async fn dialling_to(
    dialling: &Tls,
    expected: Option<PublicKey>,
    server: ServerConfig,
) -> (TlsError, Option<Vec<u8>>) {
    let (a, b) = duplex(4096);
    let foreign = async move {
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let mut stream = acceptor.accept(a).await.ok()?;
        let mut data = Vec::new();
        let _ = stream.read_to_end(&mut data).await;
        Some(data)
    };
    let (connected, data) =
        soon(async { tokio::join!(dialling.connect(b, expected), foreign) }).await;
    (connected.expect_err("the server was taken"), data)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The configurations of a node, to be modified into those of a misbehaving one.
fn client_of(identity: &Identity) -> ClientConfig {
    client_config(identity, &Allow::all(), &provider())
}

fn server_of(identity: &Identity) -> ServerConfig {
    server_config(identity, &Allow::all(), &provider())
}

/// Presents the key of `shown`, but signs with that of `signing`.
fn impostor(shown: &[u8], signing: &Identity) -> Arc<CertifiedKey> {
    let spki = CertificateDer::from(shown.to_vec());
    let key = Arc::clone(&signing.certified_key().key);
    Arc::new(CertifiedKey::new(vec![spki], key))
}

/// A verifier that accepts everything.
#[derive(Debug)]
struct Gullible {
    raw: bool,
    ask: bool,
}

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.raw
    }
}

impl ClientCertVerifier for Gullible {
    fn offer_client_auth(&self) -> bool {
        self.ask
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.raw
    }
}

/// Returns a self-signed certificate, and its key.
fn x509() -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBNDCB56ADAgECAhQdVZ9X/jeybA0B+PZtZnmZKs2TuzAFBgMrZXAwDzENMAsG
A1UEAwwEcGVlcjAgFw0yNjExMjMwMzE4MDNaGA8yMTI2MTAzMDAzMTgwM1owDzEN
MAsGA1UEAwwEcGVlcjAqMAUGAytlcAMhAHvUH3b7zTtcNvNeWrB9pLXeM6On8waB
JKKAvmVbAuzTo1MwUTAdBgNVHQ4EFgQUZ6fHcpTRUJGKU0YPU43nF3/SKigwHwYD
VR0jBBgwFoAUZ6fHcpTRUJGKU0YPU43nF3/SKigwDwYDVR0TAQH/BAUwAwEB/zAF
BgMrZXADQQAOYpzQe51koBjq5KtT9avDPLikVvtjgaPars6i5K7lnwWuSSEsMHQM
eWElgYJIAhsrjDEyDlK1LhqSfhwyp2EC
-----END CERTIFICATE-----
";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJv493pcO4l0C13ajRLopObkwpYFEzjS78Nrqecg7YH8
-----END PRIVATE KEY-----
";
    (
        vec![CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap()],
        PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap(),
    )
}
