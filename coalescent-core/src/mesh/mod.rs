//! A running app: its handle, streams, and tasks.
//!
//! | file | what it holds |
//! |---|---|
//! | this file | [`Mesh`], the handle that applications use |
//! | [`reader`], [`writer`] | the two sides of the duplex stream |
//! | [`peer_reader`], [`peer_writer`] | those of one peer |
//! | [`gather`] | what both writers do |
//! | [`duplex`] | the streams as implemented by `Mesh` itself |
//! | [`dialling`] | whom this node dials: seeds, suggestions, and probes |
//! | [`doors`] | who comes in: sockets from elsewhere, the allow list, and waiting for peers |
//! | [`bans`] | who is banned |
//! | [`contacts`] | connections that a plugin begins, which are no peers yet |
//! | [`runtime`] | the tasks: listener, dialer, connections, shutdown |

mod bans;
mod contacts;
mod dialling;
mod doors;
mod duplex;
mod gather;
mod peer_reader;
mod peer_writer;
mod reader;
pub(crate) mod runtime;
mod writer;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use bytes::Bytes;
pub use gather::WRITE_CHUNK;
pub use peer_reader::PeerReader;
pub use peer_writer::PeerWriter;
pub use reader::MeshReader;
use runtime::Runtime;
pub use runtime::dialer::{DISCOVERED_MAX, OneMore, Probe, Wanted};
pub use runtime::listener::Admitted;
pub use writer::MeshWriter;

use crate::connection::ConnectionInfo;
use crate::error::Error;
use crate::node::event::{Event, Events};
use crate::node::payload::Payload;
use crate::node::peer::Peer;
use crate::node::{Peers, Sent};
pub use crate::stack::inbox::FRAME_COST;
pub use crate::stack::inbox::frames::{FrameRef, Frames};
use crate::stats::Stats;
use crate::transport::Io;
use crate::transport::address::Address;
use crate::transport::identity::PublicKey;
use crate::wire::{NodeId, Wire};

/// A handle to a running app: a duplex stream to all connected peers.
///
/// Every peer gets what is written to the mesh. Reading it yields what peers send, after the
/// middleware. A mesh implements [`AsyncRead`](tokio::io::AsyncRead) and
/// [`AsyncWrite`](tokio::io::AsyncWrite) for bytes, and [`Stream`](futures_core::Stream) and
/// [`Sink`](futures_sink::Sink) for frames and payloads. To use the two sides separately, call
/// [`reader`](Mesh::reader) and [`writer`](Mesh::writer).
///
/// A mesh is cheap to clone. Each clone reads and writes on its own: several that read share the
/// frames between them.
///
/// The mesh runs until [`shutdown`](Mesh::shutdown) or [`abort`](Mesh::abort) is called, or the
/// last handle is dropped. In the last case it drains in the background.
///
/// ```
/// use coalescent::{App, transport::Memory};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let network = Memory::new();
/// let mut alice = App::new().transport(network.clone()).listen("alice:1").await?;
/// let mut bob = App::new().transport(network).start().await?;
/// let mut heard = alice.reader();
/// bob.connect("alice:1").await?;
///
/// bob.write_all(b"beep boop").await?;
///
/// let mut text = [0; 9];
/// heard.read_exact(&mut text).await?;
/// assert_eq!(&text, b"beep boop");
/// # Ok(())
/// # }
/// ```
#[must_use = "the mesh ends when the last handle to it is dropped"]
pub struct Mesh {
    handle: Arc<Handle>,
    reader: Option<MeshReader>,
    writer: Option<MeshWriter>,
}

/// What the clones of a [`Mesh`] share: dropping the last of them ends the mesh.
pub(crate) struct Handle(Arc<Runtime>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// A handle to a mesh that does not keep the mesh running.
///
/// ```
/// # use coalescent::App;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), coalescent::Error> {
/// let mesh = App::new().start().await?;
/// let weak = mesh.downgrade();
/// assert_eq!(weak.upgrade().map(|it| it.id()), Some(mesh.id()));
/// drop(mesh); // the last handle: the mesh ends
/// assert!(weak.upgrade().is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct WeakMesh(Weak<Handle>);

/// The mesh of a node, stored among the node's shared values. So the node, a lower module, does not
/// depend on meshes.
#[derive(Clone)]
pub(crate) struct Home(pub(crate) WeakMesh);

impl Peers {
    /// Returns the mesh that these peers belong to, or `None` if there is no app or the mesh has
    /// ended.
    #[must_use]
    pub fn mesh(&self) -> Option<Mesh> {
        self.get_shared().and_then(|Home(mesh)| mesh.upgrade())
    }
}

impl Peer {
    /// Returns the mesh that this peer belongs to, or `None` if there is no app or the mesh has
    /// ended.
    #[must_use]
    pub fn mesh(&self) -> Option<Mesh> {
        self.peers().mesh()
    }
}

impl WeakMesh {
    /// Returns the mesh, or `None` if its last handle was dropped.
    #[must_use]
    pub fn upgrade(&self) -> Option<Mesh> {
        self.0.upgrade().map(Mesh::from_handle)
    }
}

impl fmt::Debug for WeakMesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakMesh").finish_non_exhaustive()
    }
}

impl Mesh {
    pub(crate) fn new(runtime: Arc<Runtime>) -> Self {
        Self::from_handle(Arc::new(Handle(runtime)))
    }

    fn from_handle(handle: Arc<Handle>) -> Self {
        Self {
            handle,
            reader: None,
            writer: None,
        }
    }

    fn runtime(&self) -> &Arc<Runtime> {
        &self.handle.0
    }

    /// Returns the number that this process chose for itself; peers on the native wire know it by
    /// this number.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.peers().node_id()
    }

    /// Returns the public key that this node proves to its peers, if it has an
    /// [identity], or a transport that proves keys and
    /// [says which](crate::transport::Transport::key).
    ///
    /// [identity]: https://docs.rs/coalescent/latest/coalescent/struct.App.html#method.identity
    #[must_use]
    pub fn public_key(&self) -> Option<PublicKey> {
        self.peers().node().key()
    }

    /// Returns the connected peers.
    #[must_use]
    pub fn peers(&self) -> &Peers {
        self.runtime().peers()
    }

    /// Accepts peers at another address, and returns it: a `HOST:PORT`, where port 0 picks a free
    /// port, or an address of another scheme that the app has a [transport](crate::App::transport)
    /// for.
    ///
    /// If a host name resolves to several addresses (such as `localhost`, to one of IPv4 and one of
    /// IPv6), this listens at all of them that this machine has. With port 0 they share a port, if
    /// one is free at all of them. The first address is returned;
    /// [`local_addrs`](Mesh::local_addrs) returns all.
    ///
    /// ```
    /// # use coalescent::App;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mesh = App::new().start().await?;
    /// let address = mesh.listen("127.0.0.1:0").await?;
    /// assert_ne!(address.port(), 0);
    /// assert_eq!(mesh.local_addresses(), [address]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`is_listen`](Error::is_listen) if the address cannot be bound.
    /// - [`is_config`](Error::is_config) if the app has no transport for its scheme.
    /// - [`is_plaintext`](Error::is_plaintext) if it is not loopback, and there is neither an
    ///   identity nor [`Config::allow_plaintext`](crate::Config::allow_plaintext).
    pub async fn listen(&self, addr: &str) -> Result<Address, Error> {
        self.runtime().listen(addr, None).await
    }

    /// Accepts peers at another address, like [`listen`](Mesh::listen), with another wire than the
    /// app's.
    ///
    /// # Errors
    ///
    /// Those of [`listen`](Mesh::listen).
    pub async fn listen_wire(&self, addr: &str, wire: Wire) -> Result<Address, Error> {
        self.runtime().listen(addr, Some(wire)).await
    }

    /// Returns the addresses at which peers are accepted, with their schemes.
    #[must_use]
    pub fn local_addresses(&self) -> Vec<Address> {
        self.runtime().addresses()
    }

    /// Returns the socket addresses at which peers are accepted over `tcp`. Listeners of other
    /// schemes are only among the [`local_addresses`](Mesh::local_addresses).
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.runtime().tcp_addrs()
    }

    /// Connects to a peer at an [`Address`], such as `[ID@]HOST:PORT`, once. Unlike a seed, the
    /// peer is not dialled again when the connection ends.
    ///
    /// If the node at that address is connected already, this returns that peer. If a host name
    /// resolves to several addresses, those that are this node itself are skipped. On wires without
    /// node numbers this makes a new connection even if another leads to the same address. While it
    /// is open, no seed of that address is dialled.
    ///
    /// When this returns, the peer is connected here, and what is broadcast from then on goes to
    /// it. The other side counts this node once it has read its introduction, which may still be on
    /// its way: a broadcast that the other side makes at that moment may miss this node. Whatever
    /// this node sends comes after its introduction, and is never too early; so where it matters,
    /// speak first, and wait for the answer. The other side can wait too, with
    /// [`connected`](Mesh::connected).
    ///
    /// ```
    /// # use coalescent::{App, transport::Memory};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let network = Memory::new();
    /// # let alice = App::new().transport(network.clone()).listen("alice:1").await?;
    /// # let bob = App::new().transport(network).start().await?;
    /// let peer = bob.connect("alice:1").await?;
    /// peer.send_payload("hello, alice").await?;
    /// assert_eq!(bob.connect("alice:1").await?, peer); // the same: it is connected already
    ///
    /// assert!(bob.connect("nobody:2").await.unwrap_err().is_dial());
    /// assert!(bob.connect("nobody").await.unwrap_err().is_config());
    /// # drop(alice);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`is_config`](Error::is_config) if `addr` is not an address, or of a scheme that the app
    ///   has no [transport](crate::App::transport) for.
    /// - [`is_dial`](Error::is_dial) or [`is_timeout`](Error::is_timeout) if nothing answers there.
    /// - [`is_itself`](Error::is_itself) if only this node itself is there.
    /// - [`is_handshake`](Error::is_handshake) or [`is_refused`](Error::is_refused) if what answers
    ///   is no peer of this network.
    /// - [`is_banned`](Error::is_banned) if this node has banned the address or the key there, or
    ///   is banned by the peer.
    /// - [`is_plaintext`](Error::is_plaintext) as for [`listen`](Mesh::listen).
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the dial is abandoned. A connection that is already made stays.
    pub async fn connect(&self, addr: &str) -> Result<Peer, Error> {
        self.runtime().connect(addr, None).await
    }

    /// Connects to a peer, like [`connect`](Mesh::connect), with another wire than the app's.
    ///
    /// # Errors
    ///
    /// Those of [`connect`](Mesh::connect).
    pub async fn connect_wire(&self, addr: &str, wire: Wire) -> Result<Peer, Error> {
        self.runtime().connect(addr, Some(wire)).await
    }

    /// Makes a peer of a connection that was made elsewhere: by another server, a pipe, a test.
    ///
    /// Unless it is to be [counted](crate::connection::ConnectionInfo::counted), the connection
    /// counts neither towards [`Config::max_inbound`](crate::Config::max_inbound) nor towards
    /// [`Config::max_per_ip`](crate::Config::max_per_ip); the server that has accepted it must
    /// limit the number. It is not secured either: the caller knows whether it is encrypted
    /// and who is at its other end, and says so in the
    /// [`ConnectionInfo`](crate::connection::ConnectionInfo). For a connection of which the caller
    /// knows nothing, there is [`accept`](Mesh::accept).
    ///
    /// # Errors
    ///
    /// [`is_handshake`](Error::is_handshake), [`is_timeout`](Error::is_timeout) or
    /// [`is_refused`](Error::is_refused) if the handshake fails, the key in `info` is not allowed,
    /// or there is no place for a counted one.
    pub async fn adopt(&self, io: impl Io, info: ConnectionInfo) -> Result<Peer, Error> {
        self.runtime().adopt(Box::new(io), info).await
    }

    /// Queues `payload` for every peer, waiting for room in each peer's outbox; see
    /// [`Peers::broadcast_payload`].
    ///
    /// ```
    /// # use coalescent::{App, transport::Memory};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let network = Memory::new();
    /// # let alice = App::new().transport(network.clone()).listen("alice:1").await?;
    /// # let bob = App::new().transport(network).start().await?;
    /// let mut heard = alice.reader();
    /// bob.connect("alice:1").await?;
    /// let sent = bob.broadcast_payload("beep").await?;
    /// assert_eq!((sent.queued, sent.dropped), (1, 0));
    /// assert_eq!(heard.next_frame().await.ok_or("it ended")?.payload(), b"beep");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`is_encode`](Error::is_encode) if the payload is larger than
    /// [`Config::max_frame`](crate::Config::max_frame), or no peer has a wire that can carry it. A
    /// peer whose wire cannot carry what another's can counts as [`dropped`](field@Sent::dropped).
    pub async fn broadcast_payload(&self, payload: impl Into<Bytes>) -> Result<Sent, Error> {
        self.peers().broadcast_payload(payload).await
    }

    /// Queues each of `payloads` for every peer, in order, waiting for room in each peer's outbox;
    /// see [`Peers::broadcast_payloads`].
    ///
    /// # Errors
    ///
    /// As for [`broadcast_payload`](Mesh::broadcast_payload), for the first payload that cannot be
    /// sent: those before it were queued, and those after it are not taken.
    pub async fn broadcast_payloads<P>(
        &self,
        payloads: impl IntoIterator<Item = P>,
    ) -> Result<Sent, Error>
    where
        P: Payload,
    {
        self.peers().broadcast_payloads(payloads).await
    }

    /// Makes a reader of what peers send, after the middleware. From the first reader on, frames
    /// are kept until they are read.
    #[must_use]
    pub fn reader(&self) -> MeshReader {
        MeshReader::new(self.peers())
    }

    /// Makes a writer. Every peer gets what is written to it.
    #[must_use]
    pub fn writer(&self) -> MeshWriter {
        MeshWriter::new(self.peers().clone())
    }

    fn own_reader(&mut self) -> &mut MeshReader {
        let peers = self.handle.0.peers();
        self.reader.get_or_insert_with(|| MeshReader::new(peers))
    }

    fn own_writer(&mut self) -> &mut MeshWriter {
        let peers = self.handle.0.peers();
        self.writer
            .get_or_insert_with(|| MeshWriter::new(peers.clone()))
    }

    /// Sets a shared value, which everything that has the mesh or a peer can [`get`](Mesh::get). It
    /// replaces the value of the same type, which is returned. The original's `app.set`.
    ///
    /// ```
    /// # use coalescent::App;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), coalescent::Error> {
    /// #[derive(Clone, Debug, PartialEq)]
    /// struct Nick(String);
    ///
    /// let mesh = App::new().start().await?;
    /// mesh.set(Nick("alice".into()));
    /// assert_eq!(mesh.get(), Some(Nick("alice".into())));
    /// # Ok(())
    /// # }
    /// ```
    pub fn set<T: Clone + Send + Sync + 'static>(&self, value: T) -> Option<T> {
        self.peers().set_shared(value)
    }

    /// Returns a clone of the shared value of a type. The original's `app.get`.
    #[must_use]
    pub fn get<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.peers().get_shared()
    }

    /// Subscribes to the events of the mesh, from now on. The first subscriber also gets those
    /// before, at most the last [`EARLY_EVENTS`](crate::node::event::EARLY_EVENTS).
    #[must_use]
    pub fn events(&self) -> Events {
        self.peers().events()
    }

    /// Calls `callback` with each event from now on, until the mesh has ended. Like a reader of
    /// [`events`](Mesh::events), the first subscriber also gets the last ones before.
    ///
    /// The callback runs in a task of its own. If it is slow it delays nothing else, and gets
    /// [`Event::Missed`]. If it panics, that is reported as an error in the log and among the
    /// [events](Mesh::events), but not to callbacks, and it is called with the next event.
    pub fn on_event(&self, callback: impl FnMut(Event) + Send + 'static) {
        self.peers().node().call_back(self.events(), callback);
    }

    /// Returns the counters of all peers together, including those that have disconnected.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.peers().stats()
    }

    /// Returns a handle that does not keep the mesh running.
    #[must_use]
    pub fn downgrade(&self) -> WeakMesh {
        WeakMesh(Arc::downgrade(&self.handle))
    }

    /// Ends the mesh gracefully, and returns the final counters.
    ///
    /// The mesh stops accepting and dialling, writes what is queued for the peers, handles what
    /// they still send, and says goodbye to them. What takes longer than
    /// [`Config::drain`](crate::Config::drain) is aborted.
    ///
    /// ```
    /// # use coalescent::{App, transport::Memory};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let network = Memory::new();
    /// # let alice = App::new().transport(network.clone()).listen("alice:1").await?;
    /// # let bob = App::new().transport(network).start().await?;
    /// let mut heard = alice.reader();
    /// bob.connect("alice:1").await?;
    /// let _ = bob.broadcast_payload("my last words").await?;
    /// let stats = bob.shutdown().await;
    /// assert_eq!((stats.sent, stats.dropped), (1, 0));
    /// assert_eq!(heard.next_frame().await.ok_or("it ended")?.payload(), b"my last words");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the mesh still ends.
    pub async fn shutdown(&self) -> Stats {
        self.runtime().stop();
        self.runtime().ended().await;
        self.stats()
    }

    /// Ends the mesh at once, and returns the final counters. What is queued for peers is dropped,
    /// and counted as such.
    pub async fn abort(&self) -> Stats {
        self.runtime().cut();
        self.runtime().ended().await;
        self.stats()
    }

    /// Waits until the mesh has ended. This does not end it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn ended(&self) {
        self.runtime().ended().await;
    }
}

impl Clone for Mesh {
    fn clone(&self) -> Self {
        Self::from_handle(Arc::clone(&self.handle))
    }
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mesh")
            .field("peers", self.peers())
            .finish_non_exhaustive()
    }
}
