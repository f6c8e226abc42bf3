//! Encrypted connections between peers that prove their identity.
//!
//! Only TLS 1.3, mutual, with raw ed25519 public keys (RFC 7250): no certificates, no authorities,
//! no names. A peer proves that it owns a key, and the key is its id. The [expected](Tls::connect)
//! key and the [`Allow`] list decide whether the peer is welcome. Without either, an accepted
//! connection is encrypted, but the peer can be anybody.
//!
//! - Both sides must name the protocol `coalescent/1` ([`ALPN`]), so that a node cannot be tricked
//!   into talking to another protocol's TLS endpoint.
//! - Every connection proves the keys again: no resumption, no tickets, no early data.
//! - The allow list applies to inbound and outbound connections. It can change at any time, and
//!   says who passes the handshakes from then on.
//!
//! # When a connection counts as verified
//!
//! [`accept`](Tls::accept) returns after the peer has proven its key and passed the allow list;
//! none of its data is read before. [`connect`](Tls::connect) also returns after the peer has
//! proven its key, and sends only the handshake before. In TLS 1.3, however, the connecting side
//! finishes first: when `connect` returns, the peer has not checked *this* node's key yet. If it
//! rejects the key, the first read fails; see [`TlsStream`]. Data written until then can be read
//! only by the owner of the verified key. A protocol that begins with an exchange of greetings,
//! like coalescent's, notices a rejection before it treats the peer as connected.
//!
//! # Limits
//!
//! `accept` and `connect` have no time limit: wrap both in a timeout. During that time a handshake
//! holds at most some 64 KiB, if the peer sends that much. An idle connection holds about 8 KiB
//! (measured), 4 KiB of which are its read buffer. A connection that is written to faster than its
//! socket drains holds up to [`SEND_BUFFER`] more; one that receives much data, up to two records
//! of 16 KiB.
//!
//! During the handshake neither side reads while it has bytes to send. Every socket buffers the few
//! hundred bytes that this takes; an in-memory pipe needs a capacity of 64 bytes.
//!
//! ```
//! use coalescent::identity::Identity;
//! use coalescent::transport::tls::Tls;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (alice, bob) = (Identity::generate(), Identity::generate());
//! let (a, b) = tokio::io::duplex(1024);
//!
//! let listening = Tls::new(bob.clone()).allow([alice.id()]);
//! let dialling = Tls::new(alice.clone());
//! let (accepted, connected) =
//!     tokio::join!(listening.accept(b), dialling.connect(a, Some(bob.id())));
//!
//! let (mut from_alice, id) = accepted?;
//! assert_eq!(id, alice.id());
//! let (mut to_bob, _) = connected?;
//! to_bob.write_all(b"hello").await?;
//! to_bob.flush().await?;
//! let mut hello = [0; 5];
//! from_alice.read_exact(&mut hello).await?;
//! assert_eq!(&hello, b"hello");
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;
use std::{fmt, io};

use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::compress::CompressionCache;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{DnsName, ServerName};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

mod error;
mod stream;
mod verify;

pub use self::error::TlsError;
pub use self::stream::TlsStream;
use self::verify::{PeerVerifier, key_of};
pub use crate::transport::allow::Allow;
use crate::transport::identity::{Identity, PublicKey};

/// The ALPN protocol that both sides must name in the handshake.
pub const ALPN: &[u8] = b"coalescent/1";

/// The maximum number of written bytes that a stream buffers for its socket: 64 KiB, four TLS
/// records.
///
/// A write beyond it waits. The buffered bytes are encrypted, so the framing of each record takes a
/// few more bytes.
pub const SEND_BUFFER: usize = 64 * 1024;

/// A placeholder that the rustls API requires and that is never sent: the key is the peer's name.
const NO_NAME: &str = "peer.invalid";

/// An acceptor and connector of TLS connections for one identity.
///
/// Cheap to clone; clones share everything.
///
/// ```
/// use coalescent::App;
/// use coalescent::identity::Identity;
/// use coalescent::transport::tls::Tls;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (alice, bob) = (Identity::generate(), Identity::generate());
/// let tls = Tls::new(alice).allow([bob.id()]);
/// let mesh = App::new().tls(tls.clone()).listen("127.0.0.1:0").await?;
///
/// let addr = mesh.local_addrs()[0].to_string();
/// let friend = App::new().identity(bob).start().await?;
/// friend.connect(&addr).await?;
/// let stranger = App::new().identity(Identity::generate()).start().await?;
/// assert!(stranger.connect(&addr).await.unwrap_err().is_handshake());
/// # Ok(())
/// # }
/// ```
///
/// [`App::identity`](crate::App::identity) and [`App::allow`](crate::App::allow) do the same
/// without naming this type. [The module](self) has an example of the handshake alone.
#[derive(Clone)]
pub struct Tls {
    identity: Identity,
    allow: Allow,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Tls {
    /// Creates a TLS endpoint that proves `identity` and accepts every peer that proves a key.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self::with(identity, Allow::all())
    }

    /// Accepts only these peers, inbound and outbound. Replaces an earlier list.
    #[must_use]
    pub fn allow(self, allow: impl Into<Allow>) -> Self {
        Self::with(self.identity, allow.into())
    }

    fn with(identity: Identity, allow: Allow) -> Self {
        // Passed explicitly, because the application may have installed another default provider.
        let provider = Arc::new(ring::default_provider());
        let server = Arc::new(server_config(&identity, &allow, &provider));
        let client = Arc::new(client_config(&identity, &allow, &provider));
        Self {
            identity,
            allow,
            server,
            client,
        }
    }

    /// Returns the list of the peers to accept, which can be changed while it is used.
    #[must_use]
    pub fn allowed(&self) -> &Allow {
        &self.allow
    }

    /// Returns the id by which peers know this node.
    #[must_use]
    pub fn id(&self) -> PublicKey {
        self.identity.id()
    }

    /// Performs the handshake of the accepting side, and returns the stream and the peer's id.
    ///
    /// # Errors
    ///
    /// Fails if the peer does not speak TLS 1.3 and `coalescent/1`, if it proves no key or is not
    /// on the allow list, or if `io` fails or ends. Sends the peer an alert where TLS defines one,
    /// and shuts `io` down.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropping the future drops `io`, which closes the connection. A timeout
    /// around the call relies on this.
    pub async fn accept<IO>(&self, io: IO) -> Result<(TlsStream<IO>, PublicKey), TlsError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = TlsAcceptor::from(Arc::clone(&self.server))
            .accept_with(io, |session| session.set_buffer_limit(Some(SEND_BUFFER)))
            .into_fallible();
        // Boxed, so that the connection's future does not reserve space for the handshake.
        match Box::pin(handshake).await {
            Ok(stream) => self.admit(stream.into()).await,
            Err((error, io)) => self.turn_away(error, io).await,
        }
    }

    /// Performs the handshake of the connecting side, and returns the stream and the peer's id.
    ///
    /// With `expected`, only the peer with that key is accepted; any other peer learns neither this
    /// node's key nor anything it sends. Without it, every peer on the allow list is accepted.
    ///
    /// A rejection of this node's key shows at the first read; see the [module
    /// documentation](self#when-a-connection-counts-as-verified).
    ///
    /// # Errors
    ///
    /// Fails if the peer does not speak TLS 1.3 and `coalescent/1`, if it proves no key, another
    /// key than `expected`, or one that is not on the allow list, or if `io` fails or ends. If the
    /// expected key is not allowed, fails before anything is sent.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropping the future drops `io`, which closes the connection. A timeout
    /// around the call relies on this.
    pub async fn connect<IO>(
        &self,
        io: IO,
        expected: Option<PublicKey>,
    ) -> Result<(TlsStream<IO>, PublicKey), TlsError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        if let Some(key) = expected.filter(|key| !self.allow.contains(key)) {
            return Err(TlsError::not_allowed(key));
        }
        let name = ServerName::DnsName(
            DnsName::try_from_str(NO_NAME).expect("the constant is a valid name"),
        );
        let handshake = TlsConnector::from(self.client_for(expected))
            .connect_with(name, io, |session| {
                session.set_buffer_limit(Some(SEND_BUFFER));
            })
            .into_fallible();
        match Box::pin(handshake).await {
            Ok(stream) => self.admit(stream.into()).await,
            Err((error, io)) => self.turn_away(error, io).await,
        }
    }

    /// Returns the shared configuration, or a copy that accepts a single key.
    ///
    /// The key is checked during the handshake rather than afterwards, so that an unexpected peer
    /// receives an alert and not this node's key.
    fn client_for(&self, expected: Option<PublicKey>) -> Arc<ClientConfig> {
        if expected.is_none() {
            return Arc::clone(&self.client);
        }
        let mut config = ClientConfig::clone(&self.client);
        let verifier = verifier(expected, &self.allow, self.client.crypto_provider());
        config.dangerous().set_certificate_verifier(verifier);
        Arc::new(config)
    }

    /// Checks what the handshake itself does not: that the peer named the protocol.
    async fn admit<IO>(
        &self,
        stream: tokio_rustls::TlsStream<IO>,
    ) -> Result<(TlsStream<IO>, PublicKey), TlsError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stream = Box::new(stream);
        let session = stream.get_ref().1;
        let verified = match session.peer_certificates() {
            // rustls accepts a peer that names no protocol at all.
            _ if session.alpn_protocol() != Some(ALPN) => Err(TlsError::protocol()),
            Some([key, more @ ..]) => key_of(key, more).map_err(|_| TlsError::not_a_key()),
            _ => Err(TlsError::not_a_key()),
        };
        match verified {
            Ok(peer) => Ok((TlsStream::new(stream, self.id(), peer), peer)),
            Err(error) => {
                // Report the rejection, not an error of the shutdown.
                let _ = stream.shutdown().await;
                Err(error)
            }
        }
    }

    /// Closes `io` gracefully, so that the peer receives the alert that was written.
    async fn turn_away<IO, T>(&self, error: io::Error, mut io: IO) -> Result<T, TlsError>
    where
        IO: AsyncWrite + Unpin,
    {
        let _ = io.shutdown().await;
        Err(TlsError::from_handshake(error, self.id()))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("identity", &self.identity)
            .field("allow", &self.allow)
            .finish_non_exhaustive()
    }
}

fn verifier(
    expected: Option<PublicKey>,
    allow: &Allow,
    provider: &CryptoProvider,
) -> Arc<PeerVerifier> {
    Arc::new(PeerVerifier {
        expected,
        allow: allow.clone(),
        algorithms: provider.signature_verification_algorithms,
    })
}

fn server_config(
    identity: &Identity,
    allow: &Allow,
    provider: &Arc<CryptoProvider>,
) -> ServerConfig {
    let key = Arc::clone(identity.certified_key());
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3 cipher suites")
        .with_client_cert_verifier(verifier(None, allow, provider))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(key)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would not prove the key again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.cert_compression_cache = Arc::new(CompressionCache::Disabled);
    config
}

fn client_config(
    identity: &Identity,
    allow: &Allow,
    provider: &Arc<CryptoProvider>,
) -> ClientConfig {
    let key = Arc::clone(identity.certified_key());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3 cipher suites")
        .dangerous()
        .with_custom_certificate_verifier(verifier(None, allow, provider))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(key)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    config.cert_compression_cache = Arc::new(CompressionCache::Disabled);
    config
}

#[cfg(test)]
mod tests;
