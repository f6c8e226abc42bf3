//! Encrypted connections between peers that prove who they are.
//!
//! TLS 1.3 alone, mutual, with ed25519 keys as they are (raw public keys, RFC 7250): no
//! certificates, no authorities, no names. What a peer proves is that it owns a key, and the
//! key is its id. Whether that is the peer one wants is said by the
//! [expected](Tls::connect) key and the [`Allow`] list. A connection that is accepted with
//! neither is encrypted, and with a stranger.
//!
//! - Both sides say `coalescent/1` ([`ALPN`]), or there is no connection: a node cannot be made to
//!   take another protocol's TLS for its own.
//! - Every connection proves the keys anew: no resumption, no tickets, no early data.
//! - The allow list counts on both sides, whoever dialled.
//!
//! # When a connection counts as verified
//!
//! [`accept`](Tls::accept) returns after the peer has proven its key and is allowed; not one
//! byte of its data is seen before. [`connect`](Tls::connect) likewise returns after the peer
//! has proven its key, and sends nothing but the handshake before. But in TLS 1.3 the side that
//! connects finishes first: when `connect` returns, the other has not yet judged *this* node's
//! key. If it refuses, the first read fails, see [`TlsStream`]. Nothing this node wrote by then
//! can be read by anybody but the owner of the key it has verified. A protocol that begins with
//! an exchange of greetings, as coalescent's does, finds out before it counts the peer as
//! connected.
//!
//! # Limits
//!
//! Neither `accept` nor `connect` has a time limit: put both under a timeout. In that time
//! a handshake holds at most some 64 KiB for a peer that sends as much. An idle connection
//! holds about 8 KiB (measured), of which 4 KiB are room to read into. One that is written to
//! faster than its socket takes holds up to [`SEND_BUFFER`] more, one that gets much data up to
//! two records of 16 KiB.
//!
//! In the handshake neither side reads while it has something to send. Every socket has room
//! for the few hundred bytes that this takes; a pipe in memory needs a capacity of 64 bytes.
//!
//! ```
//! use coalescent_core::identity::Identity;
//! use coalescent_core::transport::tls::Tls;
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
pub use self::verify::Allow;
use self::verify::{PeerVerifier, key_of};
use crate::transport::identity::{Identity, PublicKey};

/// The protocol both sides must name in the handshake.
pub const ALPN: &[u8] = b"coalescent/1";

/// How many written bytes wait in a stream for its socket, at most: 64 KiB, four TLS records.
///
/// A write beyond it waits. The bytes are encrypted already, so a few more are held
/// for the frame of each record.
pub const SEND_BUFFER: usize = 64 * 1024;

/// Asked for by the interface of rustls, never sent: a peer's name is its key.
const NO_NAME: &str = "peer.invalid";

/// Accepts and makes connections for one identity.
///
/// Clones are cheap and share everything.
#[derive(Clone)]
pub struct Tls {
    identity: Identity,
    allow: Allow,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Tls {
    /// Proves `identity` to peers, and accepts all that prove theirs.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self::with(identity, Allow::all())
    }

    /// Accepts only these peers from now on, whichever side dials; replaces an earlier list.
    #[must_use]
    pub fn allow(self, allow: impl Into<Allow>) -> Self {
        Self::with(self.identity, allow.into())
    }

    fn with(identity: Identity, allow: Allow) -> Self {
        // Given, not looked up: an application may have installed another for its own use.
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

    /// Returns the id that peers know this node by.
    #[must_use]
    pub fn id(&self) -> PublicKey {
        self.identity.id()
    }

    /// Shakes hands as the side that was dialled, and returns the stream and the peer's id.
    ///
    /// # Errors
    ///
    /// If the peer does not speak TLS 1.3 and `coalescent/1`, proves no key or is not
    /// allowed, or if `io` fails or ends. The peer is told by an alert where TLS has one, and
    /// `io` is shut down.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropping the future drops `io`, which closes the connection. That is
    /// what a timeout around it should do.
    pub async fn accept<IO>(&self, io: IO) -> Result<(TlsStream<IO>, PublicKey), TlsError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = TlsAcceptor::from(Arc::clone(&self.server))
            .accept_with(io, |session| session.set_buffer_limit(Some(SEND_BUFFER)))
            .into_fallible();
        // Boxed, so that the space of a handshake is not kept for as long as the connection.
        match Box::pin(handshake).await {
            Ok(stream) => self.admit(stream.into()).await,
            Err((error, io)) => self.turn_away(error, io).await,
        }
    }

    /// Shakes hands as the side that dialled, and returns the stream and the peer's id.
    ///
    /// With `expected`, only the peer with that key will do, and anybody else learns neither this
    /// node's key nor anything it sends. Without, whoever answers is taken if it is allowed.
    ///
    /// That the peer accepts this node's key shows at the first read, see the
    /// [module's documentation](self#when-a-connection-counts-as-verified).
    ///
    /// # Errors
    ///
    /// If the peer does not speak TLS 1.3 and `coalescent/1`, proves no key, or another
    /// than `expected`, or one that is not allowed, or if `io` fails or ends. An expected key
    /// that is not allowed is refused before anything is sent.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropping the future drops `io`, which closes the connection. That is
    /// what a timeout around it should do.
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

    /// The shared configuration, or a copy that takes one key only.
    ///
    /// The key is checked within the handshake, not after it, so that somebody else gets this
    /// node's alert, and not its key.
    fn client_for(&self, expected: Option<PublicKey>) -> Arc<ClientConfig> {
        if expected.is_none() {
            return Arc::clone(&self.client);
        }
        let mut config = ClientConfig::clone(&self.client);
        let verifier = verifier(expected, &self.allow, self.client.crypto_provider());
        config.dangerous().set_certificate_verifier(verifier);
        Arc::new(config)
    }

    /// Checks what a finished handshake leaves open: that the protocol was named at all.
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
            // A peer that names no protocol at all is let through by rustls.
            _ if session.alpn_protocol() != Some(ALPN) => Err(TlsError::protocol()),
            Some([key, more @ ..]) => key_of(key, more).map_err(|_| TlsError::not_a_key()),
            _ => Err(TlsError::not_a_key()),
        };
        match verified {
            Ok(peer) => Ok((TlsStream::new(stream, self.id(), peer), peer)),
            Err(error) => {
                // The refusal is what the caller needs to know, not how parting from the peer went.
                let _ = stream.shutdown().await;
                Err(error)
            }
        }
    }

    /// Closes so that the peer gets the alert that is already on its way.
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
    // A resumed session is one whose key was not proven again.
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
