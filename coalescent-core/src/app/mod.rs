//! Registering an app, as with Express or axum.

pub(crate) mod registrar;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tower_layer::{Identity as NoLayer, Stack};

use crate::app::registrar::{Plugin, Registrar};
use crate::config::Config;
use crate::error::Error;
use crate::mesh::Mesh;
use crate::mesh::runtime::dialer::Seed;
use crate::mesh::runtime::{Parts, Runtime, Security};
use crate::node::Peers;
use crate::node::event::Event;
use crate::stack::PeerLayer;
use crate::transport::{Tcp, Transport};
use crate::wire::Wire;

/// A peer-to-peer application, to be registered and then started: as a [`Mesh`], which is a duplex
/// stream to all peers.
///
/// # Order
///
/// The layer added first is outermost: it sees a frame first, and its reply last. So a relay added
/// before the courier passes on all that this node hears:
///
/// ```text
/// App::new().with(SmartRelay::new()).with(Courier::new())    relays every frame
/// App::new().with(Courier::new()).with(SmartRelay::new())    relays only what parses as a message
/// ```
///
/// And a limit added before a relay also limits what is relayed; after it, only what is handled
/// here.
///
/// # Per peer
///
/// The layers are applied once for each connection, so that a layer's own state (a rate limit, a
/// concurrency limit) is per peer. A layer that shares state between the services it makes, such as
/// tower's `GlobalConcurrencyLimitLayer`, limits the node.
///
/// ```
/// use coalescent_core::App;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), coalescent_core::Error> {
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
    transport: Arc<dyn Transport>,
    callbacks: Vec<Box<dyn FnMut(Event) + Send>>,
    #[cfg(feature = "tls")]
    tls: Option<crate::transport::tls::Tls>,
}

/// Registration: what turns middleware and plugins into parts of an app.
pub trait AppExt: Sized {
    /// The layers so far.
    type Layers;

    /// Registers a middleware: applies it as a [`Plugin`], then adds it as a layer, inside those
    /// added before.
    fn with<M: Plugin>(self, middleware: M) -> App<Stack<M, Self::Layers>>;

    /// Applies a plugin that is no layer.
    fn plugin<P: Plugin>(self, plugin: P) -> App<Self::Layers>;
}

impl<L> AppExt for App<L> {
    type Layers = L;

    fn with<M: Plugin>(mut self, middleware: M) -> App<Stack<M, L>> {
        middleware.register(&mut self.registrar);
        self.layer(middleware)
    }

    fn plugin<P: Plugin>(mut self, plugin: P) -> Self {
        plugin.register(&mut self.registrar);
        self
    }
}

impl App {
    /// Makes an app without layers, with the default options.
    pub fn new() -> Self {
        Self::from_config(Config::default())
    }

    /// Makes an app without layers, with these options.
    pub fn from_config(config: Config) -> Self {
        Self {
            layers: NoLayer::new(),
            config,
            seeds: Vec::new(),
            registrar: Registrar::default(),
            transport: Arc::new(Tcp),
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
    /// Adds any tower layer, inside those added before.
    pub fn layer<M>(self, layer: M) -> App<Stack<M, L>> {
        App {
            layers: Stack::new(layer, self.layers),
            config: self.config,
            seeds: self.seeds,
            registrar: self.registrar,
            transport: self.transport,
            callbacks: self.callbacks,
            #[cfg(feature = "tls")]
            tls: self.tls,
        }
    }

    /// Adds seeds, as `[ID@]HOST:PORT`: peers to stay connected to.
    ///
    /// They are dialled while fewer than [`min_peers`](App::min_peers) connections to seeds are up,
    /// and never above [`max_peers`](App::max_peers). What is no address is an error when the app
    /// is started.
    ///
    /// No seed is ever given up: its name is resolved anew for each dial. Where it stands for
    /// several addresses they are tried staggered, and those that are this node itself, or an echo
    /// of it, are passed over; each is told as an event, this node itself ([`Error::is_itself`])
    /// once until a dial meets it no more. On wires without node numbers, two seeds that stand for
    /// one address are one connection, and so is a seed to whose address [`Mesh::connect`] has led;
    /// that two addresses are one node can't be known there, but for `127.0.0.1` and `[::1]`, which
    /// with the same port are taken for one.
    ///
    /// A seed that was connected is dialled again soon: see [`Config::backoff_max`].
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

    /// Adds a seed of another wire than the app's.
    pub fn seed_wire(mut self, seed: impl AsRef<str>, wire: Wire) -> Self {
        self.seeds.push(Seed::parse(seed.as_ref(), Some(wire)));
        self
    }

    /// Dials seeds while fewer than this many connections to seeds are up. Default: 3.
    pub fn min_peers(mut self, min_peers: usize) -> Self {
        self.config.min_peers = min_peers;
        self
    }

    /// Never dials seeds above this many outbound connections. Default: 12.
    pub fn max_peers(mut self, max_peers: usize) -> Self {
        self.config.max_peers = max_peers;
        self
    }

    /// Accepts at most this many peers. Default: 64.
    pub fn max_inbound(mut self, max_inbound: usize) -> Self {
        self.config.max_inbound = max_inbound;
        self
    }

    /// Refuses peers of another network name. Default: the empty name.
    pub fn network(mut self, network: impl Into<String>) -> Self {
        self.config.network = network.into();
        self
    }

    /// Speaks this wire, unless a listener, seed or connection has another. Default:
    /// [`Wire::native`].
    pub fn wire(mut self, wire: Wire) -> Self {
        self.config.wire = wire;
        self
    }

    /// Takes and sends payloads up to this many bytes. Default: 1 MiB.
    pub fn max_frame(mut self, max_frame: usize) -> Self {
        self.config.max_frame = max_frame;
        self
    }

    /// Lets so many frames of one peer be in its stack at a time. Default: 1, which keeps their
    /// order.
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.config.concurrency = concurrency;
        self
    }

    /// Waits so long for the reply to a request. Default: 30 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.config.request_timeout = timeout;
        self
    }

    /// Tells peers that this node can be dialled at `addr`, a `host:port`. Default: nothing.
    pub fn advertise(mut self, addr: impl Into<String>) -> Self {
        self.config.advertise = Some(addr.into());
        self
    }

    /// Allows addresses other than loopback without an identity: everyone on the way can read and
    /// change what is said.
    pub fn allow_plaintext(mut self) -> Self {
        self.config.allow_plaintext = true;
        self
    }

    /// Changes any of the options.
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Speaks TLS as `identity`, with all peers, listening and dialling.
    #[cfg(feature = "tls")]
    pub fn identity(self, identity: crate::transport::identity::Identity) -> Self {
        self.tls(crate::transport::tls::Tls::new(identity))
    }

    /// Speaks TLS with all peers, as `tls` says: with an identity, and a list of whom to let in.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: crate::transport::tls::Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Makes and accepts connections with `transport`, in place of TCP.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = Arc::new(transport);
        self
    }

    /// Calls `callback` with each event, from the beginning. It runs in a task of its own; when it
    /// is slow it holds up nothing, and gets [`Event::Missed`]; when it panics, it is called with
    /// the next event, see [`Mesh::on_event`].
    pub fn on_event(mut self, callback: impl FnMut(Event) + Send + 'static) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }
}

impl<L: PeerLayer> App<L> {
    /// Starts the app, and accepts peers at `addr`, a `host:port`; port 0 takes a free one. Of a
    /// host name, at each of its addresses.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) where an option can't be used,
    /// [`is_listen`](Error::is_listen) where the address can't be taken,
    /// [`is_plaintext`](Error::is_plaintext) where it is not loopback and there is neither an
    /// [`identity`](App::identity) nor [`allow_plaintext`](App::allow_plaintext).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn listen(self, addr: impl AsRef<str>) -> Result<Mesh, Error> {
        let mesh = self.start().await?;
        mesh.listen(addr.as_ref()).await?;
        Ok(mesh)
    }

    /// Starts the app without accepting peers; [`Mesh::listen`] can do that later.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) where an option can't be used.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn start(self) -> Result<Mesh, Error> {
        self.config.check()?;
        let seeds = self.seeds.into_iter().collect::<Result<Vec<_>, _>>()?;
        let Registrar {
            hooks,
            extensions,
            tasks,
        } = self.registrar;
        let security = Security {
            #[cfg(feature = "tls")]
            tls: self.tls,
            allow_plaintext: self.config.allow_plaintext,
        };
        let peers = Peers::with_hooks(self.config, hooks, extensions, true);
        security.set_node_key(&peers);
        for callback in self.callbacks {
            peers.node().call_back(peers.events_from_now(), callback);
        }
        Ok(Runtime::start(Parts {
            peers,
            layers: self.layers,
            transport: self.transport,
            security,
            seeds,
            tasks,
        }))
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
