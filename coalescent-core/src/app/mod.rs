//! Registering an app and starting it, as in Express or axum.
//!
//! | file | what it holds |
//! |---|---|
//! | this file | [`App`] and its options |
//! | [`ext`] | [`AppExt`], which adds middleware and plugins |
//! | [`plugin`], [`registrar`] | [`Plugin`](crate::Plugin), and what a plugin can add to an app |
//! | [`start`] | how an app becomes a mesh |
//! | [`unregistered`] | plugins that were added as layers only |

mod ext;
pub(crate) mod plugin;
pub(crate) mod registrar;
mod start;
mod unregistered;

use std::fmt;
use std::time::Duration;

pub use ext::AppExt;
pub use start::Starting;
use tower_layer::{Identity as NoLayer, Stack};

use crate::app::registrar::Registrar;
use crate::config::Config;
use crate::error::Error;
use crate::mesh::runtime::dialer::Seed;
use crate::node::event::Event;
use crate::node::peer::Peer;
use crate::transport::{Allow, Tcp, Transport, Transports};
use crate::wire::Wire;

/// A peer-to-peer app: its middleware, options and seeds. Started, it becomes a
/// [`Mesh`](crate::Mesh), which is a duplex stream to all peers.
///
/// # Order
///
/// The layer that is added first is outermost: it sees a frame first, and the reply last. So a
/// relay that is added before the courier passes on everything that this node receives:
///
/// ```text
/// App::new().with(SmartRelay::new()).with(Courier::new())    relays every frame
/// App::new().with(Courier::new()).with(SmartRelay::new())    relays only what parses as a message
/// ```
///
/// A limit that lets frames wait, such as tower's `ConcurrencyLimitLayer`, delays relaying wherever
/// it stands: a stack that is not ready is not called, and a relay only passes on what it is called
/// with. To keep relaying free, put a layer outside of the limit that is ready meanwhile, tower's
/// `BufferLayer` or `LoadShedLayer`, with the relay outside of both; or limit handlers in the
/// router, with `Router::layer`.
///
/// # State per peer
///
/// The layers are applied once for each connection, so the state of a layer's service (such as a
/// rate limit or a concurrency limit) is per peer. A layer whose services share state, such as
/// tower's `GlobalConcurrencyLimitLayer`, limits the whole node.
///
/// A service inside of others may be cloned, and the clones called: a router clones what is inside
/// of it for each call. State that is to last from one frame to the next belongs into an `Arc` that
/// `Layer::layer` makes, which the clones share.
///
/// # Example
///
/// ```
/// use coalescent::App;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), coalescent::Error> {
/// let mesh = App::new().network("docs").min_peers(1).listen("127.0.0.1:0").await?;
/// println!("accepting peers at {}", mesh.local_addrs()[0]);
/// mesh.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[must_use = "an app does nothing until it is started with `listen` or `start`"]
pub struct App<L = NoLayer> {
    layers: L,
    config: Config,
    seeds: Vec<Result<Seed, Error>>,
    registrar: Registrar,
    transports: Transports,
    allow: Option<Allow>,
    callbacks: Vec<Box<dyn FnMut(Event) + Send>>,
    #[cfg(feature = "tls")]
    tls: Option<crate::transport::tls::Tls>,
}

impl App {
    /// Makes an app without layers, with default options.
    pub fn new() -> Self {
        Self::from_config(Config::default())
    }

    /// Makes an app without layers, with the given options.
    pub fn from_config(config: Config) -> Self {
        let mut transports = Transports::default();
        transports.add(Tcp);
        Self {
            layers: NoLayer::new(),
            config,
            seeds: Vec::new(),
            registrar: Registrar::default(),
            transports,
            allow: None,
            callbacks: Vec::new(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

impl Default for App {
    fn default() -> Self {
        Self::new()
    }
}

impl<L> App<L> {
    /// Adds any tower layer, inside the layers that were added before. Use
    /// [`with`](AppExt::with) for a middleware that is also a [`Plugin`](crate::Plugin).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use coalescent::App;
    /// use tower::timeout::TimeoutLayer;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), coalescent::Error> {
    /// let app = App::new().layer(TimeoutLayer::new(Duration::from_secs(5)));
    /// let mesh = app.listen("127.0.0.1:0").await?;
    /// # assert_eq!(mesh.local_addrs().len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn layer<M>(self, layer: M) -> App<Stack<M, L>> {
        App {
            layers: Stack::new(layer, self.layers),
            config: self.config,
            seeds: self.seeds,
            registrar: self.registrar,
            transports: self.transports,
            allow: self.allow,
            callbacks: self.callbacks,
            #[cfg(feature = "tls")]
            tls: self.tls,
        }
    }

    /// Adds seeds, as `[ID@]HOST:PORT` or an [`Address`](crate::Address) of another scheme that the
    /// app has a [transport](App::transport) for: addresses of peers to stay connected to.
    ///
    /// Seeds are dialled while fewer than [`min_peers`](App::min_peers) outbound connections are
    /// up, and never above [`max_peers`](App::max_peers). They take turns with addresses that are
    /// [suggested](crate::Mesh::suggest). A seed that is not an address, or of a scheme
    /// that the app has no transport for, makes the start of the app fail.
    ///
    /// # Dialling
    ///
    /// No seed is ever given up. Its name is resolved again for each dial. If it resolves to
    /// several addresses, they are tried staggered. Addresses that are this node itself, or that
    /// echo what this node sends, are skipped and reported as events; this node itself
    /// ([`Error::is_itself`]) only once, until a dial no longer meets it.
    ///
    /// After a seed was connected, it is dialled again soon: see [`Config::backoff_max`].
    ///
    /// # Wires without node numbers
    ///
    /// On such wires nodes cannot recognize each other, so addresses are compared instead. Two
    /// seeds that resolve to one address share one connection, and a seed also shares a connection
    /// that [`Mesh::connect`](crate::Mesh::connect) has made to its address. Two addresses of one
    /// node count as two nodes, except for `127.0.0.1` and `[::1]` with the same port, which count
    /// as one.
    ///
    /// ```
    /// # use coalescent::{App, transport::Memory};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let network = Memory::new();
    /// let app = App::new().seeds(["alice:1"]);
    /// # let bob = app.transport(network.clone()).start().await?;
    /// // Bob dials again until she is there.
    /// # let app = App::new().transport(network);
    /// let alice = app.listen("alice:1").await?;
    /// bob.connected(1).await?;
    ///
    /// let error = App::new().seeds(["alice"]).start().await.unwrap_err();
    /// assert!(error.is_config());
    /// # drop(alice);
    /// # Ok(())
    /// # }
    /// ```
    pub fn seeds<I>(mut self, seeds: I) -> Self
    where
        I: IntoIterator<Item: AsRef<str>>,
    {
        self.seeds.extend(
            seeds
                .into_iter()
                .map(|seed| Seed::parse(seed.as_ref(), None)),
        );
        self
    }

    /// Adds a seed with another wire than the app's.
    pub fn seed_wire(mut self, seed: impl AsRef<str>, wire: Wire) -> Self {
        self.seeds.push(Seed::parse(seed.as_ref(), Some(wire)));
        self
    }

    /// Makes the node's id, its nonces and its pauses before it dials again follow from `seed`, for
    /// simulations. Each node needs a seed of its own.
    #[doc(hidden)]
    pub fn repeatable(mut self, seed: u64) -> Self {
        self.registrar.hooks.seed = Some(seed);
        self
    }

    /// Sets how many outbound connections the app tries to keep: it dials seeds while fewer than
    /// this, those of [`Mesh::connect`](crate::Mesh::connect) included, are up or being made.
    /// Default: 3.
    pub fn min_peers(mut self, min_peers: usize) -> Self {
        self.config.min_peers = min_peers;
        self
    }

    /// Sets the number of outbound connections from which on no seed is dialled. Default: 12.
    pub fn max_peers(mut self, max_peers: usize) -> Self {
        self.config.max_peers = max_peers;
        self
    }

    /// Sets how many peers are accepted at most. Default: 64.
    pub fn max_inbound(mut self, max_inbound: usize) -> Self {
        self.config.max_inbound = max_inbound;
        self
    }

    /// Sets how many inbound [contacts](Registrar::contacts) are accepted at most, apart from
    /// peers, and how many outbound ones there are at most. Default: 32.
    pub fn max_contacts(mut self, max_contacts: usize) -> Self {
        self.config.max_contacts = max_contacts;
        self
    }

    /// Sets the network name. Peers with another name are refused in the handshake. Default: the
    /// empty name.
    ///
    /// ```
    /// # use coalescent::{App, transport::Memory};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let network = Memory::new();
    /// # let (here, there) = (network.clone(), network);
    /// let chess = App::new().network("chess").transport(here).listen("chess:1").await?;
    /// let go = App::new().network("go").transport(there).start().await?;
    /// assert!(go.connect("chess:1").await.unwrap_err().is_refused());
    /// # drop(chess);
    /// # Ok(())
    /// # }
    /// ```
    pub fn network(mut self, network: impl Into<String>) -> Self {
        self.config.network = network.into();
        self
    }

    /// Sets the wire, for all listeners, seeds and connections that do not have their own. Default:
    /// [`Wire::native`].
    pub fn wire(mut self, wire: Wire) -> Self {
        self.config.wire = wire;
        self
    }

    /// Sets the largest payload that is received and sent, in bytes. Default: 1 MiB.
    pub fn max_frame(mut self, max_frame: usize) -> Self {
        self.config.max_frame = max_frame;
        self
    }

    /// Sets how many frames of one peer its stack handles at a time. Default: 64.
    ///
    /// Calls start in the order of arrival and overlap where they wait, as async handlers do in
    /// Express and axum: a slow one delays neither relaying nor other handlers, until this many
    /// wait. With 1, frames are handled strictly one after another, and a slow handler delays what
    /// is relayed for this peer too. [`Config::concurrency`](crate::Config::concurrency) says what
    /// stays in order.
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.config.concurrency = concurrency;
        self
    }

    /// Sets how long a request waits for its reply. Default: 30 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.config.request_timeout = timeout;
        self
    }

    /// Sets the address, `HOST:PORT`, at which peers are told to dial this node. Default: the
    /// address at which they see it, with the port at which it listens first.
    pub fn advertise(mut self, addr: impl Into<String>) -> Self {
        self.config.advertise = Some(addr.into());
        self
    }

    /// Allows addresses other than loopback without an identity. Connections are then neither
    /// encrypted nor authenticated: anybody on the network path can read and change the traffic.
    pub fn allow_plaintext(mut self) -> Self {
        self.config.allow_plaintext = true;
        self
    }

    /// Changes any option of the [`Config`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use coalescent::App;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), coalescent::Error> {
    /// let app = App::new().configure(|config| {
    ///     config.drain = Duration::from_secs(2);
    ///     config.outbox = 1024 * 1024;
    /// });
    /// let mesh = app.start().await?;
    /// assert_eq!(mesh.peers().config().outbox, 1024 * 1024);
    /// # Ok(())
    /// # }
    /// ```
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Uses TLS with all peers, inbound and outbound, and proves `identity` to them.
    /// The crate `coalescent` has a page on keys and TLS, `keys_and_tls`.
    ///
    /// ```
    /// use coalescent::App;
    /// use coalescent::identity::Identity;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("node.key");
    /// let identity = Identity::load_or_generate(path)?;
    /// let mesh = App::new().identity(identity.clone()).listen("127.0.0.1:0").await?;
    /// assert_eq!(mesh.public_key(), Some(identity.id()));
    ///
    /// let other = App::new().identity(Identity::generate()).start().await?;
    /// let address = format!("{}@{}", identity.id(), mesh.local_addrs()[0]);
    /// let peer = other.connect(&address).await?;
    /// assert_eq!(peer.id().key(), Some(identity.id()));
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tls")]
    pub fn identity(self, identity: crate::transport::identity::Identity) -> Self {
        self.tls(crate::transport::tls::Tls::new(identity))
    }

    /// Uses TLS with all peers, inbound and outbound, as configured in `tls`: with an identity, and
    /// optionally a list of the peers to admit.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: crate::transport::tls::Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Makes and accepts connections to and at addresses of the [schemes](Transport::schemes) of
    /// `transport` with it: beside the other transports, or in place of one that the app has for a
    /// scheme, such as TCP.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transports.add(transport);
        self
    }

    /// Accepts only peers with these keys, inbound and outbound, whether they prove them to the
    /// app's own TLS, in place of the list in its [`tls`], or to a transport that [proves
    /// keys](crate::transport::Protection::Keys). [`Mesh::allow`](crate::Mesh::allow) and
    /// [`Mesh::disallow`](crate::Mesh::disallow) change the list later.
    ///
    /// The app does not start without an identity or such a transport. Without an identity it
    /// neither listens nor dials over transports that prove no keys.
    ///
    /// [`tls`]: https://docs.rs/coalescent/latest/coalescent/struct.App.html#method.tls
    pub fn allow(mut self, keys: impl Into<Allow>) -> Self {
        self.allow = Some(keys.into());
        self
    }

    /// Runs `hook` for each peer that connects, before any frame of that peer reaches the stack;
    /// see [`Registrar::on_connect`]. Hooks run in the order in which they were added, those of
    /// plugins among them.
    ///
    /// ```
    /// # use coalescent::App;
    /// let app = App::new().on_connect(|peer| async move { println!("hello, {}", peer.id()) });
    /// ```
    pub fn on_connect<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(Peer) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.registrar.on_connect(hook);
        self
    }

    /// Runs `hook` for each peer after it was disconnected; see [`Registrar::on_disconnect`].
    ///
    /// ```
    /// # use coalescent::{App, transport::Memory};
    /// # use tokio::sync::mpsc;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let network = Memory::new();
    /// # let (tell, mut told) = mpsc::unbounded_channel();
    /// let app = App::new().on_disconnect(move |peer| {
    ///     let _ = tell.send(peer.id().to_string());
    ///     std::future::ready(())
    /// });
    /// # let alice = app.transport(network.clone()).listen("alice:1").await?;
    /// # let bob = App::new().transport(network).start().await?;
    /// # bob.connect("alice:1").await?;
    /// bob.shutdown().await;
    /// assert_eq!(told.recv().await, Some(bob.id().to_string()));
    /// # drop(alice);
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_disconnect<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(Peer) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.registrar.on_disconnect(hook);
        self
    }

    /// Calls `callback` with each event, from the start of the mesh.
    ///
    /// The callback runs in a task of its own. If it is slow it delays nothing else, and gets
    /// [`Event::Missed`]. If it panics it is called with the next event; see
    /// [`Mesh::on_event`](crate::Mesh::on_event).
    ///
    /// ```
    /// use coalescent::{App, Event};
    /// # use tokio::sync::mpsc;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (tell, mut told) = mpsc::unbounded_channel();
    /// let app = App::new().on_event(move |event| {
    ///     if let Event::Listening { addr } = event {
    ///         let _ = tell.send(addr);
    ///     }
    /// });
    /// let mesh = app.listen("127.0.0.1:0").await?;
    /// assert_eq!(told.recv().await, mesh.local_addresses().into_iter().next());
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_event(mut self, callback: impl FnMut(Event) + Send + 'static) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }
}

impl<L> fmt::Debug for App<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("config", &self.config)
            .field("seeds", &self.seeds)
            .field("registered", &self.registrar)
            .finish_non_exhaustive()
    }
}
