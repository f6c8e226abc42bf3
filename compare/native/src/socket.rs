//! Sockets with the options that coalescent sets.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::Failed;
use common::options::Options;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const KEEPALIVE: Duration = Duration::from_secs(30);
const NOT_SENT: u32 = 64 * 1024;
const BACKLOG: u32 = 4096;

/// Listens on a free port of loopback, with a backlog for many connections at once.
///
/// # Errors
///
/// Where no port is free.
pub fn listen() -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    socket.listen(BACKLOG)
}

/// Connects, with the options of [`tune`].
///
/// # Errors
///
/// Where nobody listens.
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
/// Where the kernel refuses them.
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

/// A server's socket.
pub struct Server {
    /// Accepts connections.
    pub listener: TcpListener,
    /// Encrypts them, if they are encrypted.
    pub acceptor: Option<TlsAcceptor>,
    /// The address, and with TLS a comma and the certificate in hex: see [`address`].
    pub address: String,
}

impl Server {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    ///
    /// Where no port is free, or no key can be made.
    pub fn bind(tls: bool) -> Result<Self, Failed> {
        let listener = listen()?;
        let address = listener.local_addr()?.to_string();
        if !tls {
            return Ok(Self {
                listener,
                acceptor: None,
                address,
            });
        }
        let (acceptor, certificate) = tls_server()?;
        Ok(Self {
            listener,
            acceptor: Some(acceptor),
            address: format!("{address},{certificate}"),
        })
    }
}

/// Splits `--addr` into the address and the certificate, which is empty without TLS.
///
/// # Errors
///
/// Without `--addr`.
pub fn address(options: &Options) -> Result<(&str, &str), Failed> {
    let addr = options.addr()?;
    Ok(addr.split_once(',').unwrap_or((addr, "")))
}

/// Makes a key and a certificate for `localhost`, and returns the certificate in hex.
///
/// The client is told the certificate beside the address, and trusts it: TLS is measured here, not
/// trust.
fn tls_server() -> Result<(TlsAcceptor, String), Failed> {
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
    let certificate = der.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((TlsAcceptor::from(Arc::new(config)), certificate))
}

/// Makes the TLS client for a server with this certificate.
///
/// # Errors
///
/// Where it is not a certificate.
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
