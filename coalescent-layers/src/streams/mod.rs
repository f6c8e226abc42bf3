#![doc = include_str!("../../docs/streams.md")]

mod accept;
mod error;
mod frame;
#[cfg(test)]
mod frame_tests;
mod handle;
mod received;
mod sending;
mod session;
mod state;
mod table;
#[cfg(test)]
mod table_tests;

use std::any::type_name;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use coalescent_core::{Mesh, Peer, Peers, Plugin, Registrar};

pub use self::accept::{ACCEPT_QUEUE, Incoming};
use self::accept::{Handler, Node, Shared};
pub use self::error::StreamError;
pub use self::frame::{
    CHANNEL, MAX_NAME, MAX_REASON, Opener, StreamFrame, StreamFrameError, StreamId,
};
pub use self::handle::PeerStream;
pub use self::session::FAULT;
use self::session::Session;
pub use self::state::{MAX_CREDIT, SEND_BUFFER};
pub use self::table::MAX_STREAMS;
use crate::macros::no_layer;

/// How many bytes of a stream may be on their way to a side that does not read, by default:
/// 256 KiB.
pub const WINDOW: u32 = 256 * 1024;

/// The least window of a stream, in bytes: 4 KiB.
pub const MIN_WINDOW: u32 = 4 * 1024;

/// Streams to single peers; see the [module](self).
///
/// It sees no frames of the stack, and may stand at any position: as a layer it does nothing. Added
/// with [`plugin`](coalescent_core::AppExt::plugin), it is the same.
///
/// ```
/// use coalescent::{App, AppExt, transport::Memory};
/// use coalescent::streams::{PeerStream, PeerStreamsExt, Streams};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// /// Sends back what comes.
/// async fn echo(stream: PeerStream) {
///     let (mut read, mut write) = tokio::io::split(stream);
///     if tokio::io::copy(&mut read, &mut write).await.is_ok() {
///         let _ = write.shutdown().await;
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let network = Memory::new();
/// # let (here, there) = (network.clone(), network);
/// let streams = Streams::new().on("echo", echo);
/// let alice = App::new().with(streams).transport(here).listen("alice:1").await?;
/// let bob = App::new().with(Streams::new()).transport(there).start().await?;
/// let peer = bob.connect("alice:1").await?;
///
/// let mut stream = peer.open("echo").await?;
/// stream.write_all(b"beep boop").await?;
/// stream.shutdown().await?;
/// let mut heard = String::new();
/// stream.read_to_string(&mut heard).await?;
/// assert_eq!(heard, "beep boop");
/// assert!(peer.open("other").await.unwrap_err().is_refused());
/// # drop(alice);
/// # Ok(())
/// # }
/// ```
#[must_use = "a plugin does nothing until it is added with `with` or `plugin`"]
#[derive(Clone)]
pub struct Streams {
    window: u32,
    handlers: HashMap<String, Handler>,
}

impl Streams {
    /// Creates a plugin that opens streams, and accepts none yet.
    pub fn new() -> Self {
        Self {
            window: WINDOW,
            handlers: HashMap::new(),
        }
    }

    /// Sets how many bytes of each stream this node takes ahead of its reading, from
    /// [`MIN_WINDOW`] to [`MAX_CREDIT`], and by default [`WINDOW`].
    ///
    /// A peer sends at most one window in each round trip: on a path of 50 ms, 256 KiB allow
    /// 5 MB/s.
    pub fn window(mut self, bytes: u32) -> Self {
        self.window = bytes.clamp(MIN_WINDOW, MAX_CREDIT);
        self
    }

    /// Adds a handler, which is called with each stream that a peer opens with this name. Its
    /// future runs in a task of its own. A stream that it drops, or panics with, is reset, unless
    /// it was shut down.
    ///
    /// # Panics
    ///
    /// If the name is empty, is longer than [`MAX_NAME`] bytes, or has a handler already.
    #[track_caller]
    pub fn on<F, Fut>(mut self, name: impl Into<String>, handler: F) -> Self
    where
        F: Fn(PeerStream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let name = name.into();
        if let Err(error) = accept::check_name(&name) {
            panic!("{error}: {name:?}");
        }
        let handler: Handler = Arc::new(move |stream| Box::pin(handler(stream)));
        if self.handlers.insert(name.clone(), handler).is_some() {
            panic!("streams named {name:?} have a handler already");
        }
        self
    }
}

impl Default for Streams {
    fn default() -> Self {
        Self::new()
    }
}

impl Plugin for Streams {
    fn register(&self, app: &mut Registrar) {
        app.registered::<Self>();
        let node = Arc::new(Node::new(self.window, &self.handlers));
        app.insert(Shared(Arc::clone(&node)));
        let ends = EndWithMesh(Arc::clone(&node));
        app.spawn(|_| async move {
            let _ends = ends;
            std::future::pending::<()>().await;
        });
        app.channel(CHANNEL, move |peer, payload| {
            // At once and never pending, so that no frame has to wait, nor is dropped.
            if let Some(session) = Session::of(&node, &peer) {
                session.heard(&node, payload);
            }
            std::future::ready(())
        });
    }
}

no_layer!(Streams);

/// Ends what accepts streams when the task that owns it is dropped.
struct EndWithMesh(Arc<Node>);

impl Drop for EndWithMesh {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams")
            .field("window", &self.window)
            .field("handlers", &self.handlers.keys())
            .finish()
    }
}

/// Opens streams to a [`Peer`], in an app with [`Streams`].
pub trait PeerStreamsExt: sealed::Sealed {
    /// Opens a stream, and waits until the peer has accepted it.
    ///
    /// If this node has [`MAX_STREAMS`] streams open there, it waits for one of them to end: until
    /// both sides have shut it down or reset it, and the peer has dropped its handle. The streams
    /// that the peer opens do not count. Neither wait is limited: use
    /// [`tokio::time::timeout`] for a peer that may never answer.
    ///
    /// # Errors
    ///
    /// - [`is_unsupported`](StreamError::is_unsupported) if this app or that of the peer has no
    ///   streams, or the wire is not native.
    /// - [`is_name`](StreamError::is_name) if the name is empty, or longer than [`MAX_NAME`] bytes.
    /// - [`is_refused`](StreamError::is_refused) if nobody there accepts streams of that name.
    /// - [`is_closed`](StreamError::is_closed) if the peer is gone or leaves.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is done, the stream is reset.
    fn open(&self, name: &str) -> impl Future<Output = Result<PeerStream, StreamError>> + Send;
}

impl PeerStreamsExt for Peer {
    async fn open(&self, name: &str) -> Result<PeerStream, StreamError> {
        accept::check_name(name)?;
        let node = Node::of(self).ok_or_else(|| missing(&self.peers()))?;
        if !self.has_channel(CHANNEL) {
            return Err(StreamError::no_channel());
        }
        match Session::of(&node, self) {
            Some(session) => session.open(name).await,
            None => Err(StreamError::left("it is disconnected")),
        }
    }
}

/// Accepts streams that peers open, in an app with [`Streams`].
pub trait MeshStreamsExt: sealed::Sealed {
    /// Accepts the streams of this name from now on, in place of a handler.
    ///
    /// # Errors
    ///
    /// - [`is_unsupported`](StreamError::is_unsupported) if the app has no streams.
    /// - [`is_name`](StreamError::is_name) if the name is empty, longer than [`MAX_NAME`] bytes, or
    ///   accepted already.
    ///
    /// ```
    /// use coalescent::Mesh;
    /// use coalescent::streams::{MeshStreamsExt, StreamError};
    ///
    /// async fn echo(mesh: &Mesh) -> Result<(), StreamError> {
    ///     let mut incoming = mesh.accept_streams("echo")?;
    ///     while let Some(stream) = incoming.accept().await {
    ///         tokio::spawn(async move {
    ///             let (mut read, mut write) = tokio::io::split(stream);
    ///             tokio::io::copy(&mut read, &mut write).await
    ///         });
    ///     }
    ///     Ok(())
    /// }
    /// ```
    fn accept_streams(&self, name: &str) -> Result<Incoming, StreamError>;
}

impl MeshStreamsExt for Mesh {
    fn accept_streams(&self, name: &str) -> Result<Incoming, StreamError> {
        let node = self.get().map(|Shared(node)| node);
        node.ok_or_else(|| missing(self.peers()))?.queue(name)
    }
}

/// The error of an app whose streams are not registered.
fn missing(peers: &Peers) -> StreamError {
    match peers.has_layer(type_name::<Streams>()) {
        true => StreamError::unregistered(),
        false => StreamError::no_plugin(),
    }
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for coalescent_core::Peer {}
    impl Sealed for coalescent_core::Mesh {}
}
