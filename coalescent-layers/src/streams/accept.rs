//! Who gets the streams that peers open.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coalescent_core::Peer;
use tokio::sync::mpsc;

use super::error::StreamError;
use super::frame::MAX_NAME;
use super::handle::PeerStream;

/// How many streams of one name wait to be [accepted](Incoming::accept): 64. Further ones are
/// refused.
pub const ACCEPT_QUEUE: usize = 64;

pub(super) type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(super) type Handler = Arc<dyn Fn(PeerStream) -> BoxFuture + Send + Sync>;

/// What all peers of one node share.
pub(super) struct Node {
    window: u32,
    names: Mutex<HashMap<String, Acceptor>>,
    making: Mutex<()>,
}

#[derive(Clone)]
enum Acceptor {
    Handler(Handler),
    Queue(mpsc::Sender<PeerStream>),
}

/// The node, among the values that its peers share.
#[derive(Clone)]
pub(super) struct Shared(pub(super) Arc<Node>);

impl Node {
    pub(super) fn new(window: u32, handlers: &HashMap<String, Handler>) -> Self {
        let names = handlers
            .iter()
            .map(|(name, handler)| (name.clone(), Acceptor::Handler(Arc::clone(handler))));
        Self {
            window,
            names: Mutex::new(names.collect()),
            making: Mutex::new(()),
        }
    }

    pub(super) fn of(peer: &Peer) -> Option<Arc<Self>> {
        peer.peers().get_shared().map(|Shared(node)| node)
    }

    pub(super) fn window(&self) -> u32 {
        self.window
    }

    /// Has sessions made one after the other.
    pub(super) fn making(&self) -> MutexGuard<'_, ()> {
        lock(&self.making)
    }

    /// Gives a stream to whoever accepts those of its name, or refuses it.
    pub(super) fn accept(&self, stream: PeerStream) {
        let acceptor = lock(&self.names).get(stream.name()).cloned();
        match acceptor {
            Some(Acceptor::Handler(handler)) => {
                stream.accept();
                tokio::spawn(async move { handler(stream).await });
            }
            Some(Acceptor::Queue(queue)) => match queue.try_reserve() {
                Ok(place) => {
                    stream.accept();
                    place.send(stream);
                }
                Err(mpsc::error::TrySendError::Full(())) => stream.reset(TOO_MANY),
                Err(mpsc::error::TrySendError::Closed(())) => stream.reset(NOBODY),
            },
            None => stream.reset(NOBODY),
        }
    }

    /// Accepts no streams any more.
    pub(super) fn end(&self) {
        let ended = std::mem::take(&mut *lock(&self.names));
        drop(ended);
    }

    /// Makes a queue for the streams of a name.
    pub(super) fn queue(self: &Arc<Self>, name: &str) -> Result<Incoming, StreamError> {
        check_name(name)?;
        let (sender, streams) = mpsc::channel(ACCEPT_QUEUE);
        let mut names = lock(&self.names);
        let free = match names.get(name) {
            None => true,
            Some(Acceptor::Handler(_)) => false,
            Some(Acceptor::Queue(queue)) => queue.is_closed(),
        };
        if !free {
            return Err(StreamError::name(
                "streams of this name are accepted elsewhere",
            ));
        }
        names.insert(name.to_owned(), Acceptor::Queue(sender));
        Ok(Incoming {
            name: name.to_owned(),
            streams,
        })
    }
}

/// Why a stream is refused that nobody accepts.
const NOBODY: &str = "nobody here accepts streams of this name";

/// Why a stream is refused whose name has a full queue.
const TOO_MANY: &str = "too many streams of this name wait here";

/// Checks whether a stream may have this name.
pub(super) fn check_name(name: &str) -> Result<(), StreamError> {
    match name.len() {
        0 => Err(StreamError::name("a stream needs a name")),
        len if len > MAX_NAME => Err(StreamError::name("a stream's name has at most 64 bytes")),
        _ => Ok(()),
    }
}

/// The streams of one name that peers open, made by
/// [`accept_streams`](super::MeshStreamsExt::accept_streams).
///
/// A stream is accepted on behalf of this when it arrives, so that what its peer writes first is
/// there already. At most [`ACCEPT_QUEUE`] streams wait; when this is dropped, those are reset, and
/// further ones are refused.
pub struct Incoming {
    name: String,
    streams: mpsc::Receiver<PeerStream>,
}

impl Incoming {
    /// Waits for the next stream. Returns `None` when the mesh has ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no stream is lost when the future is dropped.
    pub async fn accept(&mut self) -> Option<PeerStream> {
        self.streams.recv().await
    }

    /// Returns the name of the streams.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("name", &self.name)
            .field("waiting", &self.streams.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("window", &self.window)
            .field("names", &lock(&self.names).len())
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
