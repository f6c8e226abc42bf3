//! Neighbours that an overlay chooses, for meshes of hundreds and thousands of nodes.
//!
//! Where every node is connected to as many as it finds, a message costs more with each of them.
//! The plugin [`Overlay`] keeps a node connected to a few others instead: to five, whom an engine
//! chooses so that all nodes together stay one mesh, also when many of them die at once (HyParView,
//! as the crate `iroh-gossip` has it, without its sockets). [`SmartRelay`](crate::SmartRelay)
//! floods on these connections as on any other:
//!
//! ```
//! use coalescent::{App, AppExt, Overlay, SmartRelay};
//!
//! # let _ =
//! App::new().seeds(["198.51.100.7:1337"]).with(Overlay::new()).with(SmartRelay::new())
//! # ;
//! ```
//!
//! # Where it belongs
//!
//! Outermost: as a layer it passes the payloads of [topics](topic) on, which waits for what layers
//! further in think of them, and sees no other frame. Further in, what stands outside of it would
//! hold payloads back, or rewrite them, before they go on:
//!
//! ```
//! # use coalescent::{App, AppExt, Courier, Frame, Overlay, SmartRelay, Validate, Verdict};
//! # let check = |_: &Frame| Verdict::Accept;
//! # let _ =
//! // Payloads of topics, and broadcasts, go on once the check accepts them.
//! App::new()
//!     .with(Overlay::new())
//!     .with(SmartRelay::new())
//!     .with(Courier::new())
//!     .with(Validate::sync(check))
//! # ;
//! # let _ =
//! // The check sees broadcasts and payloads too, but both go on before it does.
//! App::new()
//!     .with(Courier::new())
//!     .with(Validate::sync(check))
//!     .with(SmartRelay::new())
//!     .with(Overlay::new())
//! # ;
//! ```
//!
//! Its state is shared by all peers of a node, and each node needs an overlay of its own. Without
//! [`with`](coalescent_core::AppExt::with), as a plugin alone, it passes no payloads on.
//!
//! # Contacts and peers
//!
//! Nodes of an overlay meet as [contacts](coalescent_core::Peer::is_contact), on which nothing but
//! the channel [`CHANNEL`] is shared. Who becomes a neighbour in the mesh itself becomes a peer: it
//! is told of by an event, and gets what is broadcast. Who is a neighbour in a [`topic`] only stays
//! a contact, and gets that topic. A contact that is nobody's neighbour is let go after [`IDLE`],
//! and so is a peer at once when its last topic has another neighbour in its place. Nodes that know
//! no overlay are ordinary peers, and stay.
//!
//! With an overlay, [`Config::min_peers`](coalescent_core::Config::min_peers) has no meaning;
//! `max_peers`, `max_inbound` and `max_contacts` are upper bounds. A seed of a large mesh does well
//! with more `max_contacts` than others.
//!
//! # Joining, and staying one mesh
//!
//! - At the start every seed is contacted, within [`START_WITHIN`], and again with pauses for as
//!   long as this node has no neighbour.
//! - A node without a neighbour joins through seeds and nodes that it remembers, with pauses up to
//!   [`RETRY_MAX`]. After [`ALONE_FOR`], those are dialled too whom the book, the exchange or mDNS
//!   suggest.
//! - One with fewer than half of its neighbours does so at most every [`HEAL_EVERY`].
//! - Every node makes a second, random contact after [`MIX_FIRST`], and others more and more
//!   rarely, in the end every [`MIX_EVERY`]: several meshes may have formed that do not know of
//!   each other, each of which looks healthy.
//! - Every minute the engine exchanges with others whom it knows.
//!
//! # What is believed
//!
//! The engine believes its messages. So each is judged first:
//!
//! - What is no message, or one that no honest node sends, is a fault of weight [`FAULT`].
//! - Who is no neighbour may join, ask to be one, walk, answer and leave. The rest is passed over.
//! - Of one node [`MESSAGES_AT_ONCE`] messages are heeded, then one every [`MESSAGE_EVERY`];
//!   of joins [`JOINS_AT_ONCE`], then one every [`JOIN_EVERY`].
//! - A neighbour can announce [`IDS_AT_ONCE`] payloads of trees, then one every [`ID_EVERY`].
//! - Somebody who must not be refused takes the place of a neighbour once every [`FORCED_EVERY`]:
//!   of none that came within [`YOUNG`], and never of [`KEPT`] of them.
//! - One message names at most [`MAX_PEERS`], and walks at most [`MAX_TTL`] hops.
//! - An address must be one, and of that peer, at no place nearer than who tells it. It is dialled
//!   within the budget of the mesh, one a second.
//! - [`MAX_KNOWN`] addresses are remembered, and [`KNOWN_PER_TOPIC`] for each further topic.
//! - [`MAX_TARGETS`] peers wait to be dialled, each with [`MAX_MESSAGES`]; [`MAX_DIALS`] are
//!   dialled at a time.
//!
//! The engine gets no addresses: it would keep that of every node of which it ever heard. That a
//! dial has failed it learns [`TELL_AFTER`] its message, or it would end its search for neighbours.
//!
//! What is refused is counted, see [`OverlayStats`] and `docs/metrics.md`.

mod address;
mod bucket;
mod contacts;
#[doc(hidden)]
pub mod dry;
mod engine;
mod fill;
mod guard;
mod heard;
mod ids;
mod joiner;
mod known;
mod link;
mod meter;
mod mirror;
mod node;
mod own;
mod pending;
mod places;
mod rejoin;
mod seeds;
mod settings;
mod state;
mod stats;
mod task;
pub mod topic;
mod wants;

use std::fmt;
use std::future::ready;

use coalescent_core::{Error, Plugin, Registrar, TopicName};
use tower_layer::Layer;

pub use self::guard::{MAX_ROUND, MAX_TTL};
pub use self::joiner::{HEAL_EVERY, MIX_EVERY, MIX_FIRST, RETRY, RETRY_MAX, START_WITHIN};
pub use self::known::{KNOWN_PER_TOPIC, MAX_KNOWN, MAX_KNOWN_IN_ALL};
pub use self::link::{
    EXCESS_AT_ONCE, EXCESS_EVERY, GOSSIP_AT_ONCE, GOSSIP_EVERY, IDLE, JOIN_EVERY, JOINS_AT_ONCE,
    LEAVE, LEFT, MESSAGE_EVERY, MESSAGES_AT_ONCE,
};
pub use self::mirror::{CHANNEL, MAX_CONTROL, MAX_DATA, MAX_IDS, MAX_PEERS, OVERHEAD};
pub use self::node::FAULT;
use self::node::Shared;
pub use self::pending::{MAX_DIALS, MAX_FAILURES, MAX_MESSAGES, MAX_TARGETS, TELL_AFTER};
pub use self::places::{FORCED_EVERY, ID_EVERY, IDS_AT_ONCE, KEPT, YOUNG};
pub use self::rejoin::ALONE_FOR;
use self::settings::Settings;
pub use self::settings::{ACTIVE, PASSIVE};
pub use self::stats::OverlayStats;
use self::topic::{OverlayService, Topic, Topics};
use crate::deferred;

/// Keeps a node connected to a few others, whom an overlay chooses; see the [module](self).
///
/// # Where it belongs
///
/// As a plugin at any position. As a layer it passes payloads of topics on, see [`topic`].
///
/// # What it shares
///
/// One engine for all connections of the node.
///
/// # Example
///
/// ```
/// use coalescent::{App, AppExt, Courier, MeshExt, Overlay, SmartRelay, transport::Memory};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let network = Memory::new();
/// let app = || {
///     let app = App::new().transport(network.clone()).with(Overlay::new());
///     app.with(SmartRelay::new()).with(Courier::new())
/// };
/// let alice = app().listen("alice:1").await?;
/// let bob = app().seeds(["alice:1"]).listen("bob:2").await?;
/// let carol = app().seeds(["alice:1"]).listen("carol:3").await?;
/// for mesh in [&alice, &bob, &carol] {
///     mesh.connected(1).await?;
/// }
///
/// let mut reader = carol.reader();
/// let sent = bob.broadcast("chat", "hello").await?;
/// assert!(sent.queued > 0);
/// let frame = reader.next_frame().await.ok_or("the mesh has ended")?;
/// assert_eq!(frame.message().ok_or("no message")?.body::<String>()?, "hello");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
#[must_use = "it chooses nobody until it is added to an app, with `with`"]
pub struct Overlay {
    settings: Settings,
    validated: bool,
}

impl Overlay {
    /// Makes an overlay with 5 neighbours a node.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many neighbours this node has. Default: 5. It should be the same for all nodes.
    pub fn active(mut self, neighbours: usize) -> Self {
        self.settings.active = neighbours.max(1);
        self
    }

    /// Sets how many other nodes are remembered, to be asked when a neighbour is lost. Default: 30.
    pub fn passive(mut self, nodes: usize) -> Self {
        self.settings.passive = nodes.max(1);
        self
    }

    /// Subscribes to the topic `name` when the app starts, and stays subscribed. Its payloads flood
    /// the neighbours in the topic; see [`topic`].
    pub fn topic(mut self, name: impl Into<TopicName>) -> Self {
        self.settings.topics.push(name.into());
        self
    }

    /// Subscribes to the topic `name` when the app starts, and stays subscribed. Its payloads go
    /// down a tree: for large ones, and where lines cost. All nodes must do the same; see
    /// [`topic`].
    ///
    /// ```
    /// use coalescent::{App, AppExt, Overlay};
    ///
    /// # let _ =
    /// App::new().with(Overlay::new().topic("prices").tree("video"))
    /// # ;
    /// ```
    pub fn tree(mut self, name: impl Into<TopicName>) -> Self {
        self.settings.trees.push(name.into());
        self
    }

    /// Passes payloads of topics on only once a layer further in
    /// [accepts](coalescent_core::Frame::accept) them.
    ///
    /// An app with a [`Validate`](crate::Validate) inside of the overlay needs no such option: it
    /// is for layers of one's own.
    pub fn validated(mut self) -> Self {
        self.validated = true;
        self
    }

    /// Makes the choices repeatable, for simulations.
    #[doc(hidden)]
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = Some(seed);
        self
    }
}

impl Plugin for Overlay {
    fn register(&self, app: &mut Registrar) {
        app.registered::<Self>();
        let shared = Shared::new(self.settings.clone());
        app.insert(shared.clone());
        let topics = Topics::new(&shared, &self.settings);
        app.insert(topics.clone());
        deferred::register_topics(app);
        let on = shared.clone();
        app.channel(CHANNEL, move |peer, payload| {
            on.heard(&peer, &payload);
            ready(())
        });
        app.contacts(CHANNEL);
        let on = shared.clone();
        app.on_contact(move |peer| on.connected(peer));
        let on = shared.clone();
        app.on_contact_end(move |peer| on.disconnected(peer));
        let on = shared.clone();
        app.on_connect(move |peer| {
            on.connected(&peer);
            ready(())
        });
        let on = shared.clone();
        app.on_disconnect(move |peer| {
            on.disconnected(&peer);
            ready(())
        });
        let on = shared.clone();
        let settings = self.settings.clone();
        let subscribed = topics.clone();
        app.on_start(move |mesh| {
            on.start(&mesh);
            subscribed.start(&mesh, &settings);
            ready(())
        });
        let on = shared.clone();
        app.on_shutdown(move |_| {
            on.quit();
            ready(())
        });
        app.spawn(move |_| async move {
            let _ends = topics.until_dropped();
            task::run(&shared).await;
        });
    }
}

/// Passes payloads of topics on.
impl<S> Layer<S> for Overlay {
    type Service = OverlayService<S>;

    fn layer(&self, inner: S) -> OverlayService<S> {
        let when = if self.validated {
            deferred::When::Accepted
        } else {
            deferred::When::Either
        };
        OverlayService::new(inner, when)
    }
}

impl fmt::Debug for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overlay").finish_non_exhaustive()
    }
}

/// What an overlay adds to a [`Mesh`](coalescent_core::Mesh) and its
/// [`Peers`](coalescent_core::Peers).
///
/// ```
/// use coalescent::{App, AppExt, MeshOverlayExt, Overlay};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), coalescent::Error> {
/// let mesh = App::new().with(Overlay::new()).listen("127.0.0.1:0").await?;
/// let news = mesh.topic("news")?;
/// assert_eq!(news.name(), "news");
///
/// let other = App::new().start().await?; // without an overlay
/// assert!(other.overlay().is_none());
/// assert!(other.topic("news").unwrap_err().is_plugin());
/// # Ok(())
/// # }
/// ```
pub trait MeshOverlayExt: crate::sealed::AsPeers {
    /// Returns what the overlay of this node counts; `None` if it has none.
    fn overlay(&self) -> Option<OverlayStats>;

    /// Subscribes to the topic `name`, if this node is not subscribed, and returns a handle to it.
    ///
    /// # Errors
    ///
    /// [`is_plugin`](Error::is_plugin) if the app has no overlay, the name is empty, or the mesh
    /// has not started or has ended.
    fn topic(&self, name: impl Into<TopicName>) -> Result<Topic, Error>;
}

impl<T: crate::sealed::AsPeers> MeshOverlayExt for T {
    fn overlay(&self) -> Option<OverlayStats> {
        self.as_peers().get_shared::<Shared>()?.stats()
    }

    fn topic(&self, name: impl Into<TopicName>) -> Result<Topic, Error> {
        Topic::of(self.as_peers(), &name.into())
    }
}
