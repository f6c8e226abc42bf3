//! Sockets with the options that coalescent sets.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::report::Failed;

const KEEPALIVE: Duration = Duration::from_secs(30);
const NOT_SENT: u32 = 64 * 1024;
const BACKLOG: u32 = 4096;

/// Listens on a free port of loopback, for many at once.
///
/// # Errors
///
/// Where there is none.
pub fn listen() -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    socket.listen(BACKLOG)
}

/// Connects, with the options of [`tune`].
///
/// # Errors
///
/// Where nobody accepts there.
pub async fn connect(addr: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addr).await.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot connect to {addr:?}: {error}"))
    })?;
    tune(&stream)?;
    Ok(stream)
}

/// Sets the options that coalescent sets.
///
/// # Errors
///
/// Where the kernel does not take them.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    stream.set_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE),
    )?;
    socket.set_tcp_notsent_lowat(NOT_SENT)
}

/// A key and a certificate for `localhost`, made for this run.
///
/// The client takes any certificate of this key, which it is told beside the address: TLS is
/// measured here, not trust.
pub struct Tls {
    /// For servers.
    pub acceptor: TlsAcceptor,
    /// The certificate, for clients, as hex.
    pub certificate: String,
}

/// Makes the server's side.
///
/// # Errors
///
/// Where no key can be made.
pub fn tls_server() -> Result<Tls, Failed> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
    let certificate = rcgen::CertificateParams::new(["localhost".to_owned()])?.self_signed(&key)?;
    let der = certificate.der().clone();
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(
            vec![der.clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )?;
    Ok(Tls {
        acceptor: TlsAcceptor::from(Arc::new(config)),
        certificate: der.iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}

/// Makes the client's side, for a server with this certificate.
///
/// # Errors
///
/// Where that is no certificate.
pub fn tls_client(certificate: &str) -> Result<(TlsConnector, ServerName<'static>), Failed> {
    let der: Result<Vec<u8>, _> = (0..certificate.len() / 2)
        .map(|at| u8::from_str_radix(certificate.get(at * 2..at * 2 + 2).unwrap_or_default(), 16))
        .collect();
    let mut roots = RootCertStore::empty();
    roots.add(der?.into())?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((
        TlsConnector::from(Arc::new(config)),
        ServerName::try_from("localhost")?,
    ))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
