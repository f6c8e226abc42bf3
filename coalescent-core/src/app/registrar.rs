//! Registration: what a plugin may add to an app.

use std::any::TypeId;
use std::fmt;
use std::future::Future;

use bytes::Bytes;
use http::Extensions;

use crate::config::Config;
use crate::frame::Flow;
use crate::mesh::WeakMesh;
use crate::node::Peers;
use crate::node::hooks::{BoxFuture, Hooks};
use crate::node::peer::Peer;
use crate::stack::PeerService;

/// Something that is applied once, when it is registered: the original's `_plugin`.
///
/// Every middleware of ours is one, so that [`AppExt::with`](crate::AppExt::with) can apply it and
/// add it as a layer in one step. The default does nothing, so a layer without needs of its own
/// becomes registrable with an empty `impl`.
///
/// ```
/// use coalescent_core::{Plugin, Registrar};
///
/// struct Greeter;
///
/// impl Plugin for Greeter {
///     fn register(&self, app: &mut Registrar) {
///         app.on_connect(|peer| async move { println!("hello, {}", peer.id()) });
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be registered with an app",
    label = "not a `Plugin`",
    note = "a layer that needs nothing else of the app is added with `.layer(..)` instead of `.with(..)`",
    note = "a router whose handlers need a state must be given it first, with `.with_state(..)`"
)]
pub trait Plugin {
    /// Adds hooks, shared values and background tasks to the app.
    fn register(&self, app: &mut Registrar) {
        let _ = app;
    }
}

impl<P: Plugin> Plugin for Option<P> {
    fn register(&self, app: &mut Registrar) {
        if let Some(plugin) = self {
            plugin.register(app);
        }
    }
}

impl<P: Plugin + ?Sized> Plugin for &P {
    fn register(&self, app: &mut Registrar) {
        (**self).register(app);
    }
}

impl<P: Plugin + ?Sized> Plugin for Box<P> {
    fn register(&self, app: &mut Registrar) {
        (**self).register(app);
    }
}

impl<P: Plugin + ?Sized> Plugin for std::sync::Arc<P> {
    fn register(&self, app: &mut Registrar) {
        (**self).register(app);
    }
}

type Task = Box<dyn FnOnce(WeakMesh) -> BoxFuture + Send>;

/// What a [`Plugin`] may add to an app, collected until the app runs.
#[derive(Default)]
pub struct Registrar {
    pub(crate) hooks: Hooks,
    pub(crate) extensions: Extensions,
    pub(crate) tasks: Vec<Task>,
}

impl Registrar {
    /// Runs `hook` for each peer that connects, before any frame of that peer reaches the stack:
    /// the original's `_init(app, socket)`. The app is at [`Peer::mesh`].
    ///
    /// A hook that takes its time holds back only its own peer. Hooks run one after another, in the
    /// order in which they were added.
    pub fn on_connect<F, Fut>(&mut self, hook: F) -> &mut Self
    where
        F: Fn(Peer) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.hooks
            .connect
            .push(Box::new(move |peer| Box::pin(hook(peer))));
        self
    }

    /// Runs `hook` for each peer that has been disconnected.
    pub fn on_disconnect<F, Fut>(&mut self, hook: F) -> &mut Self
    where
        F: Fn(Peer) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.hooks
            .disconnect
            .push(Box::new(move |peer| Box::pin(hook(peer))));
        self
    }

    /// Calls `hook` with the nonce and payload of each broadcast this node makes, before any peer
    /// can get it; once more, without a nonce, where some peers get it on a wire that has none. The
    /// same goes for a frame that this node takes from one kind of wire to another. It is called on
    /// the path of every write, so it should be quick.
    ///
    /// A relay that remembers what it has seen must also know what its own node says.
    pub fn on_broadcast<F>(&mut self, hook: F) -> &mut Self
    where
        F: Fn(Option<u64>, &Bytes) + Send + Sync + 'static,
    {
        self.hooks.broadcast.push(Box::new(hook));
        self
    }

    /// Says that this app relays what its peers say. Then a broadcast that was received, and that
    /// no relay has decided about when its connection ends, is counted as dropped for each peer
    /// that would have got it. Without this, that is so for connections of which a frame was
    /// relayed before.
    pub fn relays(&mut self) -> &mut Self {
        self.hooks.relays = true;
        self
    }

    /// Says that a stack of the type `S` does nothing but relay each frame, with `flow`, and hand
    /// it on to the inbox. Then a connection whose stack that is need not call it with each
    /// broadcast of many that came together: it does at once what the calls would come to.
    ///
    /// This is for a relay that may be all the layers an app has: `S` is its service around the
    /// [`Inbox`](crate::Inbox). Around or within other layers it is called as ever.
    pub fn relays_all<S: PeerService>(&mut self, flow: Flow) -> &mut Self {
        self.hooks.relays_all = Some((TypeId::of::<S>(), flow));
        self
    }

    /// Puts a value where everyone who has the mesh or a peer can get it, by its type:
    /// [`Mesh::get`](crate::Mesh::get), [`Peers::get_shared`](crate::Peers::get_shared). Returns
    /// the value that it replaces.
    pub fn insert<T: Clone + Send + Sync + 'static>(&mut self, value: T) -> Option<T> {
        self.extensions.insert(value)
    }

    /// Gets a value that was put in before.
    #[must_use]
    pub fn get<T: Clone + Send + Sync + 'static>(&self) -> Option<&T> {
        self.extensions.get()
    }

    /// Runs `task` in the background while the mesh runs. It gets the mesh weakly, so that it
    /// cannot keep it alive, and is dropped at its next wait when the mesh ends.
    pub fn spawn<F, Fut>(&mut self, task: F) -> &mut Self
    where
        F: FnOnce(WeakMesh) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.tasks.push(Box::new(move |mesh| Box::pin(task(mesh))));
        self
    }
}

impl fmt::Debug for Registrar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registrar")
            .field("connect_hooks", &self.hooks.connect.len())
            .field("disconnect_hooks", &self.hooks.disconnect.len())
            .field("broadcast_hooks", &self.hooks.broadcast.len())
            .field("tasks", &self.tasks.len())
            .finish_non_exhaustive()
    }
}

impl Peers {
    /// Makes a node without an app, and applies these plugins. Their background tasks are not run:
    /// they need a mesh.
    #[must_use]
    pub fn with_plugins<'a>(
        config: Config,
        plugins: impl IntoIterator<Item = &'a dyn Plugin>,
    ) -> Self {
        let mut registrar = Registrar::default();
        for plugin in plugins {
            plugin.register(&mut registrar);
        }
        let Registrar {
            hooks, extensions, ..
        } = registrar;
        Self::with_hooks(config, hooks, extensions, false)
    }
}
