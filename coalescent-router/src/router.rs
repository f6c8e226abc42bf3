//! The router: registering routes, and building services from them.

use std::fmt;
use std::sync::Arc;

use coalescent_core::{BoxError, CloneService, Frame, TopicName};
use tower_layer::Layer;
use tower_service::Service;

use crate::handler::Handler;
use crate::into_reply::IntoReply;
use crate::not_found::NotFound;
use crate::route::{Endpoint, Route};
use crate::service::RouterService;
use crate::table::{LiveTable, Table};
use crate::typed::TypedArguments;

/// A layer that routes messages to handlers by their type.
#[doc = include_str!("../docs/router.md")]
#[must_use = "a router does nothing until it is added to an app, or used as a layer"]
pub struct Router<S = ()> {
    /// Shared by clones until one of them changes. A router that has no clones is changed in place,
    /// so that its handles see the change; one that has clones gets a copy first.
    live: Arc<Shared<S>>,
}

pub(crate) struct Shared<S>(Arc<LiveTable<S>>);

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self(Arc::new(LiveTable::clone(&self.0)))
    }
}

/// Panics with the text of an error, at the caller of a `#[track_caller]` method.
macro_rules! or_panic {
    ($result:expr) => {
        if let Err(error) = $result {
            panic!("{error}");
        }
    };
}

impl<S: Clone + Send + Sync + 'static> Router<S> {
    /// Creates a router without routes, which passes all frames on.
    pub fn new() -> Self {
        Self::from_table(Table::default())
    }

    fn from_table(table: Table<S>) -> Self {
        Self {
            live: Arc::new(Shared(Arc::new(LiveTable::new(Arc::new(table))))),
        }
    }

    pub(crate) fn table(&self) -> Arc<Table<S>> {
        self.live.0.table()
    }

    pub(crate) fn into_table(self) -> Arc<Table<S>> {
        self.table()
    }

    fn change<R>(&mut self, change: impl FnOnce(&mut Table<S>) -> R) -> R {
        Arc::make_mut(&mut self.live).0.change(change)
    }

    /// Adds a handler for messages of type `kind`, or the [fallback](Router::fallback) if `kind` is
    /// `"*"`.
    ///
    /// When the handler has finished, the frame goes on to the inner services, unless the handler
    /// [`ends`](crate::ends) it. The reply is the handler's, or that of the inner services if the
    /// handler gave none.
    ///
    /// # Panics
    ///
    /// If the type already has a handler.
    #[track_caller]
    pub fn route<H, T>(mut self, kind: &str, handler: H) -> Self
    where
        H: Handler<T, S>,
    {
        or_panic!(self.change(|table| table.insert(kind, Endpoint::handler(handler))));
        self
    }

    /// Adds a handler for messages of the type named by its last argument, a
    /// [`Body`](crate::extract::Body) or [`Typed`](crate::Typed) body.
    ///
    /// ```
    /// use coalescent::{Router, ends, message_type};
    /// use coalescent::extract::Body;
    /// use serde::Deserialize;
    ///
    /// #[derive(Deserialize)]
    /// struct End {
    ///     winner: String,
    /// }
    ///
    /// message_type! { End => "end" }
    ///
    /// async fn end(Body(end): Body<End>) {
    ///     println!("{} wins", end.winner);
    /// }
    ///
    /// let router: Router = Router::new().typed(ends(end)); // handles "end"
    /// ```
    ///
    /// # Panics
    ///
    /// If the type already has a handler.
    #[track_caller]
    pub fn typed<H, T>(self, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: TypedArguments,
    {
        self.route(T::TYPE, handler)
    }

    /// Adds the fallback: the handler for all message types that have none of their own.
    ///
    /// ```
    /// use coalescent::{Router, extract::Type};
    ///
    /// async fn unknown(Type(kind): Type) {
    ///     println!("what is {kind:?}?");
    /// }
    ///
    /// let router: Router = Router::new().fallback(unknown);
    /// // The same:
    /// let router: Router = Router::new().route("*", unknown);
    /// ```
    ///
    /// # Panics
    ///
    /// If there already is a fallback.
    #[track_caller]
    pub fn fallback<H, T>(mut self, handler: H) -> Self
    where
        H: Handler<T, S>,
    {
        or_panic!(self.change(|table| table.insert_fallback("", Endpoint::handler(handler))));
        self
    }

    /// Adds the routes of `other` and its fallback.
    ///
    /// # Panics
    ///
    /// If both routers have a handler for the same type, or both have a fallback.
    #[track_caller]
    pub fn merge(mut self, other: Self) -> Self {
        let other = other.into_table();
        or_panic!(self.change(|table| table.merge("", &other)));
        self
    }

    /// Adds the routes of `other`, with `prefix` prepended to their types. The prefix is used as it
    /// is, so include any separator.
    ///
    /// The fallback of `other` handles messages whose type begins with `prefix` and has no handler.
    /// If several such prefixes match, the longest one is used.
    ///
    /// ```
    /// use coalescent::{Router, extract::Type};
    ///
    /// async fn say() {}
    /// async fn join() {}
    /// async fn unknown(Type(kind): Type) {
    ///     println!("{kind} begins with chat/");
    /// }
    ///
    /// let chat: Router = Router::new().route("say", say).route("join", join).fallback(unknown);
    /// let router: Router = Router::new().nest("chat/", chat); // "chat/say", "chat/join", "chat/…"
    /// ```
    ///
    /// # Panics
    ///
    /// If the prefix is empty, or if one of the types already has a handler.
    #[track_caller]
    pub fn nest(mut self, prefix: &str, other: Self) -> Self {
        assert!(
            !prefix.is_empty(),
            "a router cannot be nested under an empty prefix: use `merge` instead",
        );
        let other = other.into_table();
        or_panic!(self.change(|table| table.merge(prefix, &other)));
        self
    }

    /// Adds the routes of `other` for messages of the topic `name`, and subscribes the app to it
    /// ([`Registrar::topic`](coalescent_core::Registrar::topic)) when the router is added.
    ///
    /// Only messages of that topic reach them, and messages of topics reach no other routes: a type
    /// may have a handler in each topic and one for the mesh. What the routes and the fallback of
    /// `other` do not take goes to the fallback of this router, if it has one. Messages of topics
    /// that have no routes go on to the inner services.
    ///
    /// ```
    /// use coalescent::{Router, extract::{Body, Topic}};
    ///
    /// async fn tick(Topic(topic): Topic, Body(price): Body<f64>) {
    ///     println!("{topic}: {price}");
    /// }
    ///
    /// let prices: Router = Router::new().route("tick", tick);
    /// let router: Router = Router::new().topic("prices", prices);
    /// ```
    ///
    /// # Panics
    ///
    /// If the topic already has routes, or `other` has routes for a topic.
    #[track_caller]
    pub fn topic(mut self, name: impl Into<TopicName>, other: Self) -> Self {
        let (name, other) = (name.into(), other.into_table());
        or_panic!(self.change(|table| table.insert_topic(&name, &other)));
        self
    }

    /// Wraps `layer` around every handler added so far, including the fallback, but not around
    /// handlers added later.
    ///
    /// The layer is applied once per handler, not per peer: a [`ConcurrencyLimitLayer`][limit]
    /// limits the calls that one handler runs for all peers together. For a limit across several
    /// handlers, use a layer whose services share their state
    /// ([`GlobalConcurrencyLimitLayer`][global]). For a limit per peer, add the layer to the app,
    /// outside the router.
    ///
    /// The layer sees the reply of its handler, not that of the inner services. If it replies
    /// without calling the handler, the frame still goes on; if it fails, the frame ends there. It
    /// receives a clone of the frame, so only the handler sees its changes.
    ///
    /// ```
    /// use coalescent::Router;
    /// use tower::limit::ConcurrencyLimitLayer;
    /// # async fn ping() {}
    /// # async fn pong() {}
    ///
    /// // The layer is around both handlers:
    /// let router: Router = Router::new()
    ///     .route("ping", ping)
    ///     .route("pong", pong)
    ///     .layer(ConcurrencyLimitLayer::new(16));
    ///
    /// // The layer is around "ping" alone:
    /// let router: Router = Router::new()
    ///     .route("ping", ping)
    ///     .layer(ConcurrencyLimitLayer::new(16))
    ///     .route("pong", pong);
    /// ```
    ///
    /// # Panics
    ///
    /// If the router has no handlers.
    ///
    /// [limit]: https://docs.rs/tower/0.5/tower/limit/struct.ConcurrencyLimitLayer.html
    /// [global]: https://docs.rs/tower/0.5/tower/limit/struct.GlobalConcurrencyLimitLayer.html
    #[track_caller]
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Route> + Send + Sync + 'static,
        L::Service: Service<Frame, Response: IntoReply, Error: Into<BoxError>, Future: Send + 'static>
            + CloneService
            + Send
            + Sync
            + 'static,
    {
        assert!(
            !self.table().is_empty(),
            "a layer on a router without handlers does nothing: add the handlers first, those it is \
             for",
        );
        let layer = Arc::new(layer);
        self.change(|table| *table = table.map(|e| e.layer(&layer), |e| e.layer(&layer)));
        self
    }

    /// Wraps `layer` around every handler added so far, like [`layer`](Router::layer), but not
    /// around the fallback.
    ///
    /// # Panics
    ///
    /// If the router has no routes.
    #[track_caller]
    pub fn route_layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Route> + Send + Sync + 'static,
        L::Service: Service<Frame, Response: IntoReply, Error: Into<BoxError>, Future: Send + 'static>
            + CloneService
            + Send
            + Sync
            + 'static,
    {
        assert!(
            self.table().has_routes(),
            "a route layer on a router without routes does nothing: add the routes first, those it \
             is for",
        );
        let layer = Arc::new(layer);
        self.change(|table| *table = table.map(|e| e.layer(&layer), Endpoint::clone));
        self
    }

    /// Provides the state of the handlers added so far, which they extract with
    /// [`State`](crate::extract::State).
    ///
    /// A `Router<S>` still lacks a state of type `S`; only a `Router<()>` can be added to an app.
    ///
    /// ```
    /// use coalescent::{Router, extract::State};
    ///
    /// #[derive(Clone)]
    /// struct App {
    ///     name: &'static str,
    /// }
    ///
    /// async fn who(State(app): State<App>) -> (&'static str, &'static str) {
    ///     ("i am", app.name)
    /// }
    ///
    /// let router: Router = Router::new().route("who", who).with_state(App { name: "alice" });
    /// ```
    pub fn with_state<S2: Clone + Send + Sync + 'static>(self, state: S) -> Router<S2> {
        let with = |endpoint: &Endpoint<S>| endpoint.with_state(state.clone());
        Router::from_table(self.into_table().map(with, with))
    }
}

impl Router {
    /// Turns the router into a service without an inner service: frames without a handler get no
    /// reply.
    ///
    /// ```
    /// use coalescent::{Message, Reply, Router, extract::Body, test_util, wire::Kind};
    /// use tower::ServiceExt;
    ///
    /// async fn double(Body(number): Body<u64>) -> (&'static str, u64) {
    ///     ("doubled", 2 * number)
    /// }
    ///
    /// // A test of a handler, without a mesh.
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), coalescent::BoxError> {
    /// let service = Router::new().route("double", double).into_service();
    /// let mut frame = test_util::frame(Kind::Data, "");
    /// frame.set_message(Message::new("double", &21));
    /// let Reply::Message(reply) = service.oneshot(frame).await? else { panic!("no message") };
    /// assert_eq!((reply.kind(), reply.body()?), ("doubled", 42));
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_service(self) -> RouterService<NotFound> {
        RouterService::new(self.live(), NotFound::new())
    }

    /// Returns the routes in use, which the services made of this router share.
    pub(crate) fn live(&self) -> Arc<LiveTable<()>> {
        Arc::clone(&self.live.0)
    }
}

impl<I> Layer<I> for Router {
    type Service = RouterService<I>;

    fn layer(&self, inner: I) -> RouterService<I> {
        RouterService::new(self.live(), inner)
    }
}

impl<S: Clone + Send + Sync + 'static> Default for Router<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Clone for Router<S> {
    fn clone(&self) -> Self {
        Self {
            live: Arc::clone(&self.live),
        }
    }
}

impl<S> fmt::Debug for Router<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router")
            .field("table", &self.live.0.table())
            .finish()
    }
}
