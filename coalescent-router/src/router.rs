//! Registering routes.

use std::fmt;
use std::sync::Arc;

use coalescent_core::{BoxError, Frame};
use tower_layer::Layer;
use tower_service::Service;

use crate::handler::Handler;
use crate::into_reply::IntoReply;
use crate::not_found::NotFound;
use crate::route::{Endpoint, Route};
use crate::service::RouterService;
use crate::table::{Live, Table};
use crate::typed::TypedArguments;

/// Routes messages to handlers by their type.
#[doc = include_str!("../docs/router.md")]
#[must_use = "a router does nothing until it is added to an app, or used as a layer"]
pub struct Router<S = ()> {
    /// Shared by clones until one is changed. Handles know the inside, which stays the same when
    /// the only owner is changed.
    live: Arc<Shared<S>>,
}

pub(crate) struct Shared<S>(Arc<Live<S>>);

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self(Arc::new(Live::clone(&self.0)))
    }
}

/// Panics with the text of an error, at the line of the application that caused it.
macro_rules! or_panic {
    ($result:expr) => {
        if let Err(error) = $result {
            panic!("{error}");
        }
    };
}

impl<S: Clone + Send + Sync + 'static> Router<S> {
    /// Makes a router without routes, which passes on all frames.
    pub fn new() -> Self {
        Self::from_table(Table::default())
    }

    fn from_table(table: Table<S>) -> Self {
        Self {
            live: Arc::new(Shared(Arc::new(Live::new(Arc::new(table))))),
        }
    }

    fn table(&self) -> Arc<Table<S>> {
        self.live.0.table()
    }

    pub(crate) fn into_table(self) -> Arc<Table<S>> {
        self.table()
    }

    fn change<R>(&mut self, change: impl FnOnce(&mut Table<S>) -> R) -> R {
        Arc::make_mut(&mut self.live).0.change(change)
    }

    /// Adds a handler for messages of type `kind`; for `"*"`, the [fallback](Router::fallback).
    ///
    /// When the handler is done the frame goes on to the services further in, unless it
    /// [`ends`](crate::ends) there. The reply is the handler's, or theirs where it gave none.
    ///
    /// # Panics
    ///
    /// If there is a handler for that type already.
    #[track_caller]
    pub fn route<H, T>(mut self, kind: &str, handler: H) -> Self
    where
        H: Handler<T, S>,
    {
        or_panic!(self.change(|table| table.insert(kind, Endpoint::handler(handler))));
        self
    }

    /// Adds a handler for messages of the type that its last argument says: a
    /// [`Typed`](crate::Typed) body.
    ///
    /// # Panics
    ///
    /// If there is a handler for that type already.
    #[track_caller]
    pub fn typed<H, T>(self, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: TypedArguments,
    {
        self.route(T::TYPE, handler)
    }

    /// Adds the handler for messages of all types that have none of their own.
    ///
    /// ```
    /// use coalescent_router::{Router, extract::Type};
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
    /// If there is a fallback already.
    #[track_caller]
    pub fn fallback<H, T>(mut self, handler: H) -> Self
    where
        H: Handler<T, S>,
    {
        or_panic!(self.change(|table| table.insert_fallback("", Endpoint::handler(handler))));
        self
    }

    /// Adds the routes of `other`, and its fallback.
    ///
    /// # Panics
    ///
    /// If both have a handler for the same type, or both have a fallback.
    #[track_caller]
    pub fn merge(mut self, other: Self) -> Self {
        let other = other.into_table();
        or_panic!(self.change(|table| table.merge("", &other)));
        self
    }

    /// Adds the routes of `other`, with `prefix` put in front of their types as it stands: any
    /// separator is part of it.
    ///
    /// The fallback of `other` gets the messages whose type begins with `prefix` and has no
    /// handler; where several such prefixes fit, the longest counts.
    ///
    /// ```
    /// use coalescent_router::{Router, extract::Type};
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
    /// If the prefix is empty, or there is a handler for one of the types already.
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

    /// Puts `layer` around each handler that was added so far, and the fallback; not around those
    /// added later.
    ///
    /// It is built once for each handler, with the router: what it counts, it counts for the frames
    /// of all peers together. So a [`ConcurrencyLimitLayer`] limits how many frames of all peers
    /// are in one handler. For a limit over several handlers, use a layer whose services share
    /// theirs ([`GlobalConcurrencyLimitLayer`]); for one per peer, add the layer to the app,
    /// outside of the router.
    ///
    /// The layer sees what its handler answers, and not the services further in. When it answers
    /// without calling the handler, the frame still goes on; when it fails, the frame ends there.
    /// It works on a copy of the frame: what it changes, only the handler sees.
    ///
    /// ```
    /// use coalescent_router::Router;
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
    /// If there is no handler to put it around.
    ///
    /// [`ConcurrencyLimitLayer`]: https://docs.rs/tower/latest/tower/limit/struct.ConcurrencyLimitLayer.html
    /// [`GlobalConcurrencyLimitLayer`]: https://docs.rs/tower/latest/tower/limit/struct.GlobalConcurrencyLimitLayer.html
    #[track_caller]
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Route> + Send + Sync + 'static,
        L::Service: Service<Frame, Response: IntoReply, Error: Into<BoxError>, Future: Send + 'static>
            + Clone
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

    /// Puts `layer` around each handler that was added so far, as [`layer`](Router::layer), but not
    /// around the fallback.
    ///
    /// # Panics
    ///
    /// If there is no route to put it around.
    #[track_caller]
    pub fn route_layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Route> + Send + Sync + 'static,
        L::Service: Service<Frame, Response: IntoReply, Error: Into<BoxError>, Future: Send + 'static>
            + Clone
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

    /// Gives the handlers so far their state: what [`State`](crate::extract::State) hands them.
    ///
    /// Only a `Router<()>` can be added to an app; a `Router<S>` is one that still lacks its `S`.
    ///
    /// ```
    /// use coalescent_router::{Router, extract::State};
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
    /// Makes a service of the router with nothing further in: frames without a handler get no
    /// answer.
    pub fn into_service(self) -> RouterService<NotFound> {
        RouterService::new(self.live(), NotFound::new())
    }

    /// Returns the routes in use, which the services made of this router share.
    pub(crate) fn live(&self) -> Arc<Live<()>> {
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
