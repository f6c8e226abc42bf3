//! The plugin.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use coalescent_core::{Plugin, Registrar};
use tokio::sync::{mpsc, watch};

use crate::engine::Engine;
use crate::run::{self, Parts};
use crate::shore::What;
use crate::turns::GROUP_MAX;

/// How many bytes of messages a bridge holds for each side by default; see [`Bridge::hold`].
pub const HELD: usize = 8 * 1024 * 1024;

/// Carries what is broadcast in a mesh to an [`Engine`], and what is said there into the mesh.
///
/// A plugin of one or more nodes of the mesh. Cheap to clone; a clone tells the [`stats`].
///
/// [`stats`]: Bridge::stats
pub struct Bridge<E> {
    engine: Arc<Mutex<Option<E>>>,
    group: Option<String>,
    hold: usize,
    what: What,
    stats: Arc<watch::Sender<Stats>>,
}

impl<E: Engine> Bridge<E> {
    /// Creates a bridge to what `engine` reaches.
    #[must_use]
    pub fn new(engine: E) -> Self {
        Self {
            engine: Arc::new(Mutex::new(Some(engine))),
            group: None,
            hold: HELD,
            what: What::Broadcasts,
            stats: Arc::default(),
        }
    }

    /// Sets the name that the bridges of this mesh have in common, of at most [`GROUP_MAX`] bytes;
    /// by default the network's name. They take turns.
    ///
    /// Meshes that meet at one engine should have different ones: bridges of two meshes that take
    /// turns lose nothing, but some wait for others who cannot hear what they hear.
    #[must_use]
    pub fn group(mut self, name: impl Into<String>) -> Self {
        self.group = Some(name.into());
        self
    }

    /// Carries the topic `name` of the app's overlay, in place of broadcasts.
    ///
    /// What this node itself publishes in the topic does not cross, and what crosses does not come
    /// back to its own handles: publish and read at other nodes of the mesh.
    #[cfg(feature = "topics")]
    #[must_use]
    pub fn topic(mut self, name: impl Into<String>) -> Self {
        self.what = What::Topic(name.into());
        self
    }

    /// Sets how many bytes of messages are held for each side, [`HELD`] by default. What the mesh
    /// says beyond that, while the engine is away, is dropped and counted; what the engine says
    /// waits there.
    #[must_use]
    pub fn hold(mut self, bytes: usize) -> Self {
        self.hold = bytes;
        self
    }
}

impl<E> Bridge<E> {
    /// Returns what has crossed so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        *self.stats.borrow()
    }
}

impl<E: Engine> Plugin for Bridge<E> {
    fn register(&self, app: &mut Registrar) {
        let engine = self
            .engine
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(engine) = engine else {
            // A second app has no engine to use.
            app.spawn(|mesh| async move {
                if let Some(mesh) = mesh.upgrade() {
                    mesh.peers().report(coalescent_core::Error::plugin(
                        "this bridge was registered with an app before: make another one",
                    ));
                }
            });
            return;
        };
        let (ask, asked) = mpsc::channel(1);
        let parts = Parts {
            engine,
            group: self.group.clone(),
            hold: self.hold,
            what: self.what.clone(),
            stats: Arc::clone(&self.stats),
            asked,
        };
        app.on_start(move |mesh| {
            // Not a task of the mesh: those end before the mesh has said its last.
            tokio::spawn(run::run(mesh.downgrade(), parts));
            std::future::ready(())
        });
        app.on_shutdown(move |_| run::drain(ask));
    }
}

impl<E> Clone for Bridge<E> {
    fn clone(&self) -> Self {
        Self {
            engine: Arc::clone(&self.engine),
            group: self.group.clone(),
            hold: self.hold,
            what: self.what.clone(),
            stats: Arc::clone(&self.stats),
        }
    }
}

impl<E> fmt::Debug for Bridge<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge")
            .field("group", &self.group)
            .field("hold", &self.hold)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Returns the name of a group as it goes into a note: its first [`GROUP_MAX`] bytes.
pub(crate) fn clipped(mut name: String) -> String {
    while name.len() > GROUP_MAX {
        name.pop();
    }
    name
}

/// What has crossed a bridge, in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Said to the engine, each counted once.
    pub said: u64,
    /// Brought into the mesh.
    pub entered: u64,
    /// Dropped, since too much was held already.
    pub dropped: u64,
    /// Dropped, since the other side cannot carry them: they are too large.
    pub refused: u64,
    /// Said several times without being confirmed. They may have been heard.
    pub unconfirmed: u64,
    /// Not given to this bridge by the engine, since it was too slow.
    pub missed: u64,
}

impl Stats {
    /// Returns the number of messages that have not, or may not have, crossed.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.dropped + self.refused + self.unconfirmed + self.missed
    }
}
