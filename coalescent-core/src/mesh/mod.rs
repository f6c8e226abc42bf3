//! The running application: its streams, peers, events, and end.

mod duplex;
mod reader;
pub(crate) mod runtime;
mod writer;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use bytes::Bytes;
pub use reader::MeshReader;
use runtime::Runtime;
pub use writer::{MeshWriter, WRITE_CHUNK};

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
use crate::wire::Wire;

/// A running app: a duplex stream to all connected peers. Cheap to clone.
///
/// What is written to it goes to every peer; what peers send comes out of it, after the middleware.
/// It is [`AsyncRead`](tokio::io::AsyncRead) and [`AsyncWrite`](tokio::io::AsyncWrite), and a
/// [`Stream`](futures_core::Stream) of frames and a [`Sink`](futures_sink::Sink) for payloads; or
/// take the two sides apart with [`reader`](Mesh::reader) and [`writer`](Mesh::writer). Each clone
/// reads and writes for itself.
///
/// The mesh runs until [`shutdown`](Mesh::shutdown), or until the last handle is dropped; then it
/// drains in the background.
///
/// ```
/// use coalescent_core::{App, transport::Memory};
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
pub struct Mesh {
    handle: Arc<Handle>,
    reader: Option<MeshReader>,
    writer: Option<MeshWriter>,
}

/// Ends the mesh when the last handle is dropped.
pub(crate) struct Handle(Arc<Runtime>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// A handle to a mesh that does not keep it running.
#[derive(Clone)]
pub struct WeakMesh(Weak<Handle>);

/// The mesh of a node, kept with the node's shared values, so that the node need not know of
/// meshes.
#[derive(Clone)]
pub(crate) struct Home(pub(crate) WeakMesh);

impl Peers {
    /// The mesh these peers belong to; `None` where there is no app, or the mesh has ended.
    #[must_use]
    pub fn mesh(&self) -> Option<Mesh> {
        self.get_shared().and_then(|Home(mesh)| mesh.upgrade())
    }
}

impl Peer {
    /// The mesh this peer belongs to; `None` where there is no app, or the mesh has ended.
    #[must_use]
    pub fn mesh(&self) -> Option<Mesh> {
        self.peers().mesh()
    }
}

impl WeakMesh {
    /// The mesh, if it still runs.
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

    /// The connected peers.
    #[must_use]
    pub fn peers(&self) -> &Peers {
        self.runtime().peers()
    }

    /// Accepts peers at `addr` too, a `host:port`; port 0 takes a free one. Returns the address.
    ///
    /// A host name that stands for several addresses, such as `localhost` for one of IPv4 and one
    /// of IPv6, is listened at on each that this machine has, with port 0 on the same port if it is
    /// free at all of them; the first is returned, and [`local_addrs`](Mesh::local_addrs) has all.
    ///
    /// # Errors
    ///
    /// [`is_listen`](Error::is_listen) where the address cannot be taken,
    /// [`is_plaintext`](Error::is_plaintext) where it is not loopback and there is neither an
    /// identity nor [`Config::allow_plaintext`](crate::Config::allow_plaintext).
    pub async fn listen(&self, addr: &str) -> Result<SocketAddr, Error> {
        self.runtime().listen(addr, None).await
    }

    /// Accepts peers of another wire than the app's at `addr`.
    ///
    /// # Errors
    ///
    /// As for [`listen`](Mesh::listen).
    pub async fn listen_wire(&self, addr: &str, wire: Wire) -> Result<SocketAddr, Error> {
        self.runtime().listen(addr, Some(wire)).await
    }

    /// The addresses peers are accepted at.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.runtime().addrs()
    }

    /// Connects to a peer at `[ID@]HOST:PORT`, once: unlike a seed, it is not dialled again.
    ///
    /// Where the node at that address is connected already, that peer is returned. Of the addresses
    /// that a host name stands for, those that are this node itself are passed over. On wires
    /// without node numbers a new connection is made even where one leads to that address already;
    /// while it lasts, no seed of that address is dialled.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) where the address is none, [`is_dial`](Error::is_dial) or
    /// [`is_timeout`](Error::is_timeout) where nobody is there, [`is_itself`](Error::is_itself)
    /// where only this node is, [`is_handshake`](Error::is_handshake) or
    /// [`is_refused`](Error::is_refused) where somebody else is, and
    /// [`is_plaintext`](Error::is_plaintext) as for [`listen`](Mesh::listen).
    ///
    /// # Cancel safety
    ///
    /// When dropped, the connection is given up, or, where it is already made, stays.
    pub async fn connect(&self, addr: &str) -> Result<Peer, Error> {
        self.runtime().connect(addr, None).await
    }

    /// Connects to a peer of another wire than the app's.
    ///
    /// # Errors
    ///
    /// As for [`connect`](Mesh::connect).
    pub async fn connect_wire(&self, addr: &str, wire: Wire) -> Result<Peer, Error> {
        self.runtime().connect(addr, Some(wire)).await
    }

    /// Makes a peer of a connection that came from elsewhere: another server, a pipe, a test.
    ///
    /// It is counted neither by [`Config::max_inbound`](crate::Config::max_inbound) nor by
    /// [`Config::max_per_ip`](crate::Config::max_per_ip): how many come is for the server that
    /// accepted it to limit. And it is used as it is: whether it is encrypted, and who is at its
    /// other end, is the caller's to know, and to say in `socket`.
    ///
    /// # Errors
    ///
    /// [`is_handshake`](Error::is_handshake), [`is_timeout`](Error::is_timeout) or
    /// [`is_refused`](Error::is_refused) where it does not become a peer.
    pub async fn adopt(&self, io: impl Io, socket: ConnectionInfo) -> Result<Peer, Error> {
        self.runtime().adopt(Box::new(io), socket).await
    }

    /// Adds a seed, to be dialled as those the app was made with
    /// ([`App::seeds`](crate::App::seeds)).
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) where the address is none.
    pub fn add_seed(&self, addr: &str) -> Result<(), Error> {
        self.runtime().add_seed(addr, None)
    }

    /// Queues `payload` for every peer, waiting for room in each; see
    /// [`Peers::broadcast_payload`].
    pub async fn broadcast_payload(&self, payload: impl Into<Bytes>) -> Sent {
        self.peers().broadcast_payload(payload).await
    }

    /// Queues each of `payloads` for every peer, in order, waiting for room in each peer; see
    /// [`Peers::broadcast_payloads`].
    pub async fn broadcast_payloads<P>(&self, payloads: impl IntoIterator<Item = P>) -> Sent
    where
        P: Payload,
    {
        self.peers().broadcast_payloads(payloads).await
    }

    /// Takes the read side: what peers send, after the middleware.
    #[must_use]
    pub fn reader(&self) -> MeshReader {
        MeshReader::new(self.peers())
    }

    /// Takes a write side: what is written goes to every peer.
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

    /// Shares a value with everyone who has the mesh or a peer, one of each type: the original's
    /// `app.set`. Returns the value that it replaces.
    pub fn set<T: Clone + Send + Sync + 'static>(&self, value: T) -> Option<T> {
        self.peers().set_shared(value)
    }

    /// Gets a clone of a shared value: the original's `app.get`.
    #[must_use]
    pub fn get<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.peers().get_shared()
    }

    /// What happens on the mesh from now on; for the first reader, from the beginning.
    #[must_use]
    pub fn events(&self) -> Events {
        self.peers().events()
    }

    /// Calls `callback` with each event from now on, until the mesh has ended. It runs in a task of
    /// its own; when it is slow it holds up nothing, and gets [`Event::Missed`].
    ///
    /// When it panics, that is an error in the log and among the [events](Mesh::events), though not
    /// for callbacks, and it is called with the next event.
    pub fn on_event(&self, callback: impl FnMut(Event) + Send + 'static) {
        self.peers().node().call_back(self.events(), callback);
    }

    /// The counters of all peers, of those who left too.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.peers().stats()
    }

    /// A handle that does not keep the mesh running.
    #[must_use]
    pub fn downgrade(&self) -> WeakMesh {
        WeakMesh(Arc::downgrade(&self.handle))
    }

    /// Ends the mesh: accepts and dials no more, writes what is queued for the peers, handles what
    /// they still send, says goodbye. After [`Config::drain`](crate::Config::drain) what is not
    /// done is cut. Returns the final counters.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the mesh goes on ending.
    pub async fn shutdown(&self) -> Stats {
        self.runtime().stop();
        self.runtime().ended().await;
        self.stats()
    }

    /// Ends the mesh at once: what is queued is dropped, and counted.
    pub async fn abort(&self) -> Stats {
        self.runtime().cut();
        self.runtime().ended().await;
        self.stats()
    }

    /// Waits until the mesh has ended.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing changes by waiting.
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
