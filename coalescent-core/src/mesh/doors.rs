//! Who comes into a mesh: sockets that were opened or accepted elsewhere, the keys that are
//! allowed, and waiting until peers are there.

use std::net::SocketAddr;

use super::Mesh;
use super::runtime::listener::Admitted;
use crate::error::Error;
use crate::node::peer::Peer;
use crate::transport::address::Address;
use crate::transport::identity::PublicKey;
use crate::transport::{IntoListener, Io};
use crate::wire::Wire;

impl Mesh {
    /// Accepts peers at a socket that listens already, such as one of `std` or tokio that was
    /// inherited or bound with options of its own. Returns its address.
    ///
    /// One of `tcp` is taken for a bare socket, whatever the app has in the place of TCP. One of
    /// another scheme is secured as the app's transport for it says.
    ///
    /// ```
    /// # use coalescent::App;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mesh = App::new().start().await?;
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let addr = mesh.listen_on(listener)?;
    /// assert_eq!(mesh.local_addresses(), [addr]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`is_listen`](Error::is_listen) if the socket cannot be used.
    /// - [`is_plaintext`](Error::is_plaintext) if its address is not loopback, and there is neither
    ///   an identity nor [`Config::allow_plaintext`](crate::Config::allow_plaintext).
    /// - [`is_closed`](Error::is_closed) if the mesh has ended.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime if the socket is one of `std`.
    pub fn listen_on(&self, listener: impl IntoListener) -> Result<Address, Error> {
        self.runtime().listen_on(listener, None)
    }

    /// Makes a peer of a socket that was accepted elsewhere, as if it had come to a listener of
    /// this mesh: within its limits of inbound connections, secured by its identity, and on the
    /// app's wire.
    ///
    /// `addr` is the address of the other end, by which connections are counted and reported. A
    /// server that shares its port looks at the first byte to know a peer; see [`Wire`].
    ///
    /// Unlike [`adopt`](Mesh::adopt), this trusts neither the socket nor its number. The handshake
    /// lasts at most [`Config::handshake_timeout`](crate::Config::handshake_timeout), and TLS as
    /// long again.
    ///
    /// ```
    /// # use coalescent::App;
    /// # use tokio::net::{TcpListener, TcpStream};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mesh = App::new().start().await?;
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// # let other = App::new().seeds([listener.local_addr()?.to_string()]).start().await?;
    /// let (socket, addr) = listener.accept().await?;
    /// let peer = mesh.accept(socket, addr).await?;
    /// assert_eq!(peer.addr(), Some(addr));
    /// # drop(other);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`is_refused`](Error::is_refused) if a limit is reached
    ///   ([`max_inbound`](crate::Config::max_inbound), [`max_per_ip`](crate::Config::max_per_ip),
    ///   [`max_pending`](crate::Config::max_pending)), or one side refuses the other.
    /// - [`is_banned`](Error::is_banned) if the address or the key of the other end is banned.
    /// - [`is_handshake`](Error::is_handshake) or [`is_timeout`](Error::is_timeout) if the other
    ///   end is no peer.
    /// - [`is_plaintext`](Error::is_plaintext) if `addr` is not loopback, and there is neither an
    ///   identity nor [`Config::allow_plaintext`](crate::Config::allow_plaintext).
    /// - [`is_closed`](Error::is_closed) if the mesh ends.
    ///
    /// They are not reported as events: the caller knows them.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped before it is done, the socket is closed. A peer that is connected
    /// already stays.
    pub async fn accept(&self, io: impl Io, addr: SocketAddr) -> Result<Peer, Error> {
        self.admit(addr).await?.accept(io).await
    }

    /// Makes a peer of a socket that was accepted elsewhere, like [`accept`](Mesh::accept), with
    /// another wire than the app's.
    ///
    /// # Errors
    ///
    /// Those of [`accept`](Mesh::accept).
    pub async fn accept_wire(
        &self,
        io: impl Io,
        addr: SocketAddr,
        wire: Wire,
    ) -> Result<Peer, Error> {
        self.admit(addr).await?.wire(wire).accept(io).await
    }

    /// Takes a place for a connection from `addr`, which is to be accepted later. So a server that
    /// must answer first can refuse what would find no place; see [`Admitted::accept`].
    ///
    /// The place counts as a handshake under way, which gives way to newcomers if they are many.
    /// One from this machine waits up to 1.5 s for a place.
    ///
    /// ```
    /// # use coalescent::App;
    /// # use tokio::io::{AsyncReadExt, AsyncWriteExt};
    /// # use tokio::net::{TcpListener, TcpStream};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mesh = App::new().start().await?;
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// # let there = TcpStream::connect(listener.local_addr()?).await?;
    /// let (mut socket, addr) = listener.accept().await?;
    /// match mesh.admit(addr).await {
    ///     Ok(admitted) => {
    ///         socket.write_all(b"come in\n").await?; // what the server has to say first
    /// #       let other = App::new().start().await?;
    /// #       let (mut there, mut line) = (there, [0; 8]);
    /// #       there.read_exact(&mut line).await?;
    /// #       let info = coalescent::connection::ConnectionInfo::outbound();
    /// #       let joins = async move { other.adopt(there, info).await.map(|_| other) };
    /// #       let joins = tokio::spawn(joins);
    ///         let peer = admitted.accept(socket).await?;
    ///         assert!(peer.is_connected());
    /// #       drop(joins.await??);
    ///     }
    ///     Err(error) => socket.write_all(format!("{error}\n").as_bytes()).await?,
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`is_refused`](Error::is_refused), [`is_banned`](Error::is_banned),
    /// [`is_plaintext`](Error::is_plaintext) and [`is_closed`](Error::is_closed) as for
    /// [`accept`](Mesh::accept).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no place is kept.
    pub async fn admit(&self, addr: SocketAddr) -> Result<Admitted, Error> {
        self.runtime().admit(addr).await
    }

    /// Accepts the peer with this key from now on, inbound and outbound. Returns whether it was not
    /// accepted before.
    ///
    /// An app that has no list of peers ([`App::allow`](crate::App::allow), or that of its
    /// [`Tls`]) accepts every key, save those that were [disallowed](Mesh::disallow). Other apps
    /// with the same [`Tls`] share the list.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the app has neither an identity nor a transport that
    /// [proves keys](crate::transport::Protection::Keys): then no peer proves a key.
    ///
    /// [`Tls`]: https://docs.rs/coalescent/latest/coalescent/transport/tls/struct.Tls.html
    pub fn allow(&self, key: PublicKey) -> Result<bool, Error> {
        self.runtime().allow(key)
    }

    /// Accepts the peer with this key no more, inbound and outbound, and disconnects it if it is
    /// connected: what is queued for it is written, and it is told that it is not allowed. Returns
    /// whether it was accepted before.
    ///
    /// ```
    /// use coalescent::App;
    /// use coalescent::identity::Identity;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (alice, bob) = (Identity::generate(), Identity::generate());
    /// let mesh = App::new().identity(alice).allow([]).listen("127.0.0.1:0").await?;
    /// let addr = mesh.local_addrs()[0].to_string();
    /// let other = App::new().identity(bob.clone()).start().await?;
    ///
    /// assert!(mesh.allow(bob.id())?);
    /// let peer = other.connect(&addr).await?;
    /// assert!(mesh.disallow(&bob.id())?);
    /// peer.closed().await;
    /// assert!(other.connect(&addr).await.unwrap_err().is_handshake());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`allow`](Mesh::allow).
    pub fn disallow(&self, key: &PublicKey) -> Result<bool, Error> {
        self.runtime().disallow(key)
    }

    /// Waits until at least `n` peers are connected. Returns at once if they are.
    ///
    /// A peer counts once it has introduced itself: what is broadcast from then on goes to it,
    /// and it hears it if it reads. The peer counts this node once it has read its introduction,
    /// which comes before whatever this node sends.
    ///
    /// ```
    /// # use coalescent::{App, transport::Memory};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), coalescent::Error> {
    /// # let network = Memory::new();
    /// let alice = App::new().transport(network.clone()).listen("alice:1").await?;
    /// let bob = App::new().transport(network).seeds(["alice:1"]).start().await?;
    /// alice.connected(1).await?;
    /// bob.connected(1).await?;
    /// assert_eq!(alice.broadcast_payload("hello").await?.queued, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`is_closed`](Error::is_closed) if the mesh ends before. It waits as long as nobody comes:
    /// that a seed refuses, or does not answer, is an [`Event::Error`](crate::Event::Error).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: waiting changes nothing.
    pub async fn connected(&self, n: usize) -> Result<(), Error> {
        self.runtime().connected(n).await
    }
}
