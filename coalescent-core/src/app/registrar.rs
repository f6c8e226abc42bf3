//! What plugins can add to an app.

use std::any::{TypeId, type_name};
use std::fmt;
use std::future::Future;

use bytes::Bytes;
use http::Extensions;

use crate::app::plugin::Plugin;
use crate::config::Config;
use crate::frame::Flow;
use crate::mesh::runtime::MeshHook;
use crate::mesh::{Mesh, WeakMesh};
use crate::message::TopicName;
use crate::node::Peers;
use crate::node::hooks::{BoxFuture, Channel, Dial, Hooks};
use crate::node::peer::Peer;
use crate::stack::PeerService;

type Configured = Box<dyn FnOnce(&Config) + Send>;

type Task = Box<dyn FnOnce(WeakMesh) -> BoxFuture + Send>;

/// The hooks, shared values and background tasks that [plugins](Plugin) add to an app, collected
/// until the app starts.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use coalescent::{App, AppExt, Plugin, Registrar};
///
/// /// When this node has started.
/// #[derive(Clone, Copy)]
/// struct Started(Instant);
///
/// struct Uptime;
///
/// impl Plugin for Uptime {
///     fn register(&self, app: &mut Registrar) {
///         app.insert(Started(Instant::now()));
///         app.on_connect(|peer| async move { println!("hello, {}", peer.id()) });
///         app.spawn(async |mesh| {
///             // The mesh is held only for a moment: a task must not keep it running.
///             while let Some(mesh) = mesh.upgrade() {
///                 println!("{} peers", mesh.peers().len());
///                 drop(mesh);
///                 tokio::time::sleep(Duration::from_secs(60)).await;
///             }
///         });
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mesh = App::new().plugin(Uptime).start().await?;
/// let Started(at) = mesh.get().ok_or("the plugin is not registered")?;
/// assert!(at <= Instant::now());
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct Registrar {
    pub(crate) hooks: Hooks,
    pub(crate) extensions: Extensions,
    pub(crate) tasks: Vec<Task>,
    pub(crate) on_start: Vec<MeshHook>,
    pub(crate) on_shutdown: Vec<MeshHook>,
    pub(crate) configured: Vec<Configured>,
    /// The types of the plugins that have said that they are registered.
    pub(crate) registered: Vec<&'static str>,
}

impl Registrar {
    /// Adds a hook that runs for each peer that connects, before any frame of that peer reaches the
    /// stack. The original's `_init(app, socket)`; the app is [`Peer::mesh`] here.
    ///
    /// Hooks run one after another, in the order in which they were added. A slow hook delays only
    /// the peer that it runs for.
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

    /// Adds a hook that runs for each peer after it was disconnected.
    ///
    /// It also runs for a peer whose connection was dropped, such as by a panic of its stack or
    /// with the future of [`serve`](crate::connection::serve): in a task of its own.
    /// [`Mesh::shutdown`](crate::Mesh::shutdown) waits for hooks that have begun for as long as it
    /// waits for connections, and drops those that then have not ended. A hook does not run for
    /// peers that [`Mesh::abort`](crate::Mesh::abort) cuts, nor go on if the connection is dropped
    /// while it runs.
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

    /// Has the connections to nodes that list `channel` too begin as
    /// [contacts](Peer::is_contact), for a plugin that chooses itself whom this node stays
    /// connected to.
    ///
    /// A contact is a connection on which only channels are shared. It has its own places
    /// ([`Config::max_contacts`]), counts as the one connection that there is to its node, and is
    /// pinged, penalized and banned like a peer, but it is none. [`Peer::promote`] makes it one,
    /// and so does the first frame for the stack that it sends, for then the other node has
    /// promoted this one. If there is no place for a peer then, it is told that this node is busy.
    ///
    /// With contacts, [`Config::min_peers`] becomes 0, so that nobody is dialled for it: seeds are
    /// dialled only by the plugin, with [`Mesh::contact`], or for a wish for
    /// [one more peer](Mesh::one_more), and even then as contacts. Nodes that do not list the
    /// channel are ordinary peers, and so is whoever the application itself
    /// [connects](Mesh::connect) to.
    ///
    /// The channel has to be [registered](Registrar::channel) too, or the start of the app fails.
    pub fn contacts(&mut self, channel: impl Into<String>) -> &mut Self {
        self.hooks.contacts.push(channel.into());
        self
    }

    /// Adds a hook that is called with each [contact](Registrar::contacts) whose handshake is done,
    /// whichever side has dialled, before any frame of it is handled.
    ///
    /// It must not block. A panic is reported as an error event.
    pub fn on_contact(&mut self, hook: impl Fn(&Peer) + Send + Sync + 'static) -> &mut Self {
        self.hooks.contact.push(Box::new(hook));
        self
    }

    /// Adds a hook that is called with each contact that has ended without having become a peer.
    /// For those that have there is [`on_disconnect`](Registrar::on_disconnect).
    ///
    /// It must not block. A panic is reported as an error event.
    pub fn on_contact_end(&mut self, hook: impl Fn(&Peer) + Send + Sync + 'static) -> &mut Self {
        self.hooks.contact_end.push(Box::new(hook));
        self
    }

    /// Registers a channel: frames between this plugin and the same plugin of each peer, which pass
    /// neither the stack nor relays. Sent with [`Peer::send_on`].
    ///
    /// `name` has at most [`CHANNEL_NAME_MAX`](crate::wire::CHANNEL_NAME_MAX) bytes, and should
    /// hold a version, as in `peers/1`. A node has at most
    /// [`MAX_CHANNELS`](crate::wire::MAX_CHANNELS) channels. Peers learn the names in the
    /// handshake, so only peers on the native wire have channels. A name that is not valid or is
    /// registered twice makes the start of the app fail.
    ///
    /// # Order
    ///
    /// For one peer, the handler is called with one frame after another, in order: with the next
    /// one when its future for the last one is done. Frames of different channels and peers are
    /// handled independently, and at the same time as frames of the stack. The first frames of a
    /// peer may arrive before the [connect hooks](Registrar::on_connect) have run.
    ///
    /// # When it is slow
    ///
    /// The future is polled once where the frame arrives, on the task of the connection, so it must
    /// not block. While it waits, up to [`CHANNEL_INBOX`](crate::CHANNEL_INBOX) bytes wait for
    /// each peer; what has no room is dropped and counted in
    /// [`Stats::channel_dropped`](crate::Stats::channel_dropped). It never delays other frames.
    /// When the peer has left, it is dropped after at most [`Config::drain`].
    ///
    /// A panic is reported as an error event, and the handler is called with the next frame.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use coalescent::{Peer, Plugin, Registrar};
    ///
    /// struct Clock;
    ///
    /// impl Plugin for Clock {
    ///     fn register(&self, app: &mut Registrar) {
    ///         app.channel("clock/1", |peer: Peer, question: Bytes| async move {
    ///             if question == "time?" {
    ///                 let _ = peer.send_on("clock/1", "ten past nine").await;
    ///             }
    ///         });
    ///     }
    /// }
    /// ```
    pub fn channel<F, Fut>(&mut self, name: impl Into<String>, handler: F) -> &mut Self
    where
        F: Fn(Peer, Bytes) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.hooks.channels.push(Channel::new(name.into(), handler));
        self
    }

    /// Declares that this app wants the topic `name`. A plugin that carries topics, such as the
    /// overlay, subscribes to it when the app starts, and stays subscribed.
    ///
    /// Without such a plugin it does nothing. An empty name, which stands for the mesh itself,
    /// makes the start of the app fail.
    ///
    /// ```
    /// use coalescent::{Plugin, Registrar};
    ///
    /// struct Ticker;
    ///
    /// impl Plugin for Ticker {
    ///     fn register(&self, app: &mut Registrar) {
    ///         app.topic("prices").topic("prices");
    ///         assert_eq!(app.topics(), ["prices"]);
    ///     }
    /// }
    /// # let ticker: &dyn Plugin = &Ticker;
    /// # let _ = coalescent::Peers::with_plugins(Default::default(), [ticker]);
    /// ```
    pub fn topic(&mut self, name: impl Into<TopicName>) -> &mut Self {
        let name = name.into();
        if !self.hooks.topics.contains(&name) {
            self.hooks.topics.push(name);
        }
        self
    }

    /// Returns the topics that plugins have declared so far. Once the app runs, they are
    /// [`Peers::topics`].
    #[must_use]
    pub fn topics(&self) -> &[TopicName] {
        &self.hooks.topics
    }

    /// Adds a hook that runs once when the app has been started, before any peer is accepted or
    /// dialled. [`App::listen`](crate::App::listen) and [`App::start`](crate::App::start) return
    /// after it; with the former, [`Mesh::local_addrs`] is known.
    ///
    /// Hooks run one after another, in the order in which they were added. Keep a
    /// [`WeakMesh`](crate::WeakMesh) if need be: a [`Mesh`] that is kept keeps the app running.
    ///
    /// ```
    /// use coalescent::{Plugin, Registrar};
    ///
    /// struct Lobby;
    ///
    /// impl Plugin for Lobby {
    ///     fn register(&self, app: &mut Registrar) {
    ///         app.on_start(async |mesh| {
    ///             println!("{} is listening at {:?}", mesh.id(), mesh.local_addresses());
    ///         });
    ///         app.on_shutdown(async |mesh| {
    ///             let _ = mesh.broadcast_payload("goodbye").await;
    ///         });
    ///     }
    /// }
    /// # use coalescent::{App, AppExt, transport::Memory};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let network = Memory::new();
    /// # let alice = App::new().transport(network.clone()).listen("alice:1").await?;
    /// # let mut heard = alice.reader();
    /// # let bob = App::new().plugin(Lobby).transport(network).start().await?;
    /// # bob.connect("alice:1").await?;
    /// # bob.shutdown().await;
    /// # assert_eq!(heard.next_frame().await.ok_or("it ended")?.payload(), b"goodbye");
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_start<F, Fut>(&mut self, hook: F) -> &mut Self
    where
        F: FnOnce(Mesh) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.on_start
            .push(Box::new(move |mesh| Box::pin(hook(mesh))));
        self
    }

    /// Adds a hook that runs once when the mesh shuts down, before its peers are disconnected, so
    /// that it can still send to them.
    ///
    /// All such hooks run at the same time, for at most half of [`Config::drain`]; those that are
    /// not done then are dropped. A panic is reported as an error event, and stops neither the
    /// others nor the shutdown. [`Mesh::abort`] runs none.
    pub fn on_shutdown<F, Fut>(&mut self, hook: F) -> &mut Self
    where
        F: FnOnce(Mesh) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.on_shutdown
            .push(Box::new(move |mesh| Box::pin(hook(mesh))));
        self
    }

    /// Adds a hook that is called with the nonce and payload of each broadcast that this node
    /// makes, before any peer gets it.
    ///
    /// If some peers use a wire without nonces, it is called once more for these, without a nonce.
    /// The same holds for a frame that this node relays from one kind of wire to the other.
    ///
    /// This exists for relays that deduplicate: they must also know what their own node sends. The
    /// hook runs in the path of every write, so it should be fast.
    pub fn on_broadcast<F>(&mut self, hook: F) -> &mut Self
    where
        F: Fn(Option<u64>, &Bytes) + Send + Sync + 'static,
    {
        self.hooks.broadcast.push(Box::new(hook));
        self
    }

    /// Adds a hook that is called with each dial of a seed or of a [suggested] address when it has
    /// ended, with or without a connection.
    ///
    /// It runs in the task of that dial, and before the peer's frames are handled, so it must not
    /// block. A panic in it is reported as an error, and stops neither the dial nor other hooks.
    /// [`Mesh::connect`](crate::Mesh::connect) and [`Mesh::probe`](crate::Mesh::probe) do not call
    /// it: their callers know the result.
    ///
    /// [suggested]: crate::Mesh::suggest
    ///
    /// ```
    /// use coalescent::{Plugin, Registrar};
    ///
    /// struct Dials;
    ///
    /// impl Plugin for Dials {
    ///     fn register(&self, app: &mut Registrar) {
    ///         app.on_dial(|dial| match dial.result() {
    ///             Ok(peer) => println!("{}: {}", dial.address(), peer.id()),
    ///             Err(error) => {
    ///                 let (from, why) = (dial.source(), error.report());
    ///                 println!("{} (from {from}): {why}", dial.address());
    ///             }
    ///         });
    ///     }
    /// }
    /// # use coalescent::{App, AppExt, transport::Memory};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), coalescent::Error> {
    /// # let network = Memory::new();
    /// # let alice = App::new().transport(network.clone()).listen("alice:1").await?;
    /// # let bob = App::new().plugin(Dials).transport(network).seeds(["alice:1"]).start().await?;
    /// # bob.connected(1).await?;
    /// # drop(alice);
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_dial<F>(&mut self, hook: F) -> &mut Self
    where
        F: Fn(&Dial) + Send + Sync + 'static,
    {
        self.hooks.dial.push(Box::new(hook));
        self
    }

    /// Adds a hook that is called once with the options of the app, when it starts and none of
    /// them changes any more.
    pub fn on_config(&mut self, hook: impl FnOnce(&Config) + Send + 'static) -> &mut Self {
        self.configured.push(Box::new(hook));
        self
    }

    /// Declares that this app relays the broadcasts that it receives.
    ///
    /// Then a received broadcast that no relay has decided about when its connection ends is
    /// counted as dropped for each peer that would have got it. Without this declaration, that is
    /// done only for connections of which some frame was relayed before.
    pub fn relays(&mut self) -> &mut Self {
        self.hooks.relays = true;
        self
    }

    /// Declares that a stack of type `S` does nothing but relay each frame, with `flow`, and pass
    /// it to the inbox.
    ///
    /// A connection with such a stack does this itself for all broadcasts of one read together,
    /// without calling the stack for each. Use it for a relay that may be the only layer of an app:
    /// `S` is then the relay's service around the [`Inbox`](crate::Inbox). If there are other
    /// layers the type of the stack differs, and it is called as usual.
    // Public for `Tattletale`, which lives in another crate. A claim that is not true of `S` would
    // silently skip layers, and nothing checks it, so it is not shown to others.
    #[doc(hidden)]
    pub fn relays_all<S: PeerService>(&mut self, flow: Flow) -> &mut Self {
        self.hooks.relays_all = Some((TypeId::of::<S>(), flow));
        self
    }

    /// Adds a shared value, which everything that has the mesh or a peer can get by its type, with
    /// [`Mesh::get`](crate::Mesh::get) or [`Peers::get_shared`](crate::Peers::get_shared). It
    /// replaces the value of the same type, which is returned.
    pub fn insert<T: Clone + Send + Sync + 'static>(&mut self, value: T) -> Option<T> {
        self.extensions.insert(value)
    }

    /// Returns the shared value of a type, if one was added before.
    #[must_use]
    pub fn get<T: Clone + Send + Sync + 'static>(&self) -> Option<&T> {
        self.extensions.get()
    }

    /// Says that a plugin of type `P` is registered, for those that do not work as a mere layer.
    #[doc(hidden)]
    pub fn registered<P>(&mut self) -> &mut Self {
        self.registered.push(type_name::<P>());
        self
    }

    /// Adds a background task, which is started with the mesh.
    ///
    /// The task gets a [`WeakMesh`], so that it does not keep the mesh running. When the mesh ends,
    /// the task is dropped at its next await.
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
            .field("dial_hooks", &self.hooks.dial.len())
            .field("channels", &self.hooks.channels)
            .field("tasks", &self.tasks.len())
            .finish_non_exhaustive()
    }
}

impl Peers {
    /// Makes a node without an app, and applies these plugins. Their background tasks are not
    /// started, since they need a mesh.
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
            hooks,
            extensions,
            configured,
            ..
        } = registrar;
        for hook in configured {
            hook(&config);
        }
        Self::with_hooks(config, hooks, extensions, false)
    }
}
