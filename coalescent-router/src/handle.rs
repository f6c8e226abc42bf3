//! Adding routes to a router that is in use, through its handle or through the mesh.

use std::fmt;
use std::sync::Arc;

use coalescent_core::{Mesh, Peers, Plugin, Registrar};

use crate::error::RouteError;
use crate::handler::Handler;
use crate::route::Endpoint;
use crate::router::Router;
use crate::table::LiveTable;

/// A handle that adds routes to a [`Router`] in use, and removes them.
///
/// Cloning it is cheap; clones refer to the same router. A change takes effect with the next frame
/// of every peer. Routing takes no lock: each peer's service keeps the current table and checks for
/// a newer one at every frame, with one atomic load. In return, a change copies the table, so use
/// [`merge`](RouterHandle::merge) to add many routes at once.
///
/// Handlers are kept for as long as the mesh exists. A handler that captured the mesh would keep it
/// running forever: take the mesh as an argument instead.
///
/// ```
/// use coalescent::{App, AppExt, MeshRouterExt, Router};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mesh = App::new().with(Router::new()).start().await?;
/// let routes = mesh.router()?;
/// routes.route("version", ("version", 1))?;
/// assert!(routes.route("version", ("version", 2)).unwrap_err().is_taken());
/// assert!(routes.remove("version"));
/// routes.route("version", ("version", 2))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RouterHandle(Arc<LiveTable<()>>);

impl RouterHandle {
    /// Adds a handler for messages of type `kind`, or the fallback if `kind` is `"*"`.
    ///
    /// # Errors
    ///
    /// [`is_taken`](RouteError::is_taken) if the type already has a handler.
    pub fn route<H, T>(&self, kind: &str, handler: H) -> Result<(), RouteError>
    where
        H: Handler<T, ()>,
    {
        self.0
            .change(|table| table.insert(kind, Endpoint::handler(handler)))
    }

    /// Adds the fallback: the handler for all message types that have none of their own.
    ///
    /// # Errors
    ///
    /// [`is_taken`](RouteError::is_taken) if there already is a fallback.
    pub fn fallback<H, T>(&self, handler: H) -> Result<(), RouteError>
    where
        H: Handler<T, ()>,
    {
        self.0
            .change(|table| table.insert_fallback("", Endpoint::handler(handler)))
    }

    /// Adds the routes of `router` and its fallback, either all of them or, on an error, none. Use
    /// it to add routes with state or layers to a running mesh. Routes of a [topic](Router::topic)
    /// do not subscribe a running app to it.
    ///
    /// # Errors
    ///
    /// [`is_taken`](RouteError::is_taken) if one of the types already has a handler, or both
    /// routers have a fallback.
    pub fn merge(&self, router: Router) -> Result<(), RouteError> {
        let other = router.into_table();
        self.0.change(|table| table.merge("", &other))
    }

    /// Removes the handler for messages of type `kind`, or the fallback if `kind` is `"*"`. Returns
    /// whether there was one.
    ///
    /// Calls of the handler that are in progress run to completion.
    pub fn remove(&self, kind: &str) -> bool {
        self.0.change(|table| table.remove(kind))
    }
}

impl fmt::Debug for RouterHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouterHandle")
            .field("table", &self.0.table())
            .finish()
    }
}

impl Router {
    /// Returns a handle that adds routes while the router is in use. They reach all services that
    /// were made of this router.
    ///
    /// In an app, get it from the mesh: [`MeshRouterExt`].
    pub fn handle(&self) -> RouterHandle {
        RouterHandle(self.live())
    }
}

impl Plugin for Router {
    /// Registers a [`RouterHandle`], which [`MeshRouterExt`] looks up, and declares the
    /// [topics](Router::topic). If an app has several routers, the first one, which is the
    /// outermost, is used for new routes.
    fn register(&self, app: &mut Registrar) {
        if app.get::<RouterHandle>().is_none() {
            app.insert(self.handle());
        }
        for topic in self.table().topics() {
            app.topic(topic.clone());
        }
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Mesh {}
    impl Sealed for super::Peers {}
}

/// Adds routes to a running mesh whose app has a [`Router`].
///
/// ```
/// use coalescent::{App, AppExt, MeshRouterExt, Router};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mesh = App::new().with(Router::new()).start().await?;
/// mesh.route("ping", ("pong", "as you like"))?;
///
/// let mesh = App::new().start().await?;
/// let error = mesh.route("ping", ("pong", "as you like")).unwrap_err();
/// assert!(error.is_no_router());
/// # Ok(())
/// # }
/// ```
pub trait MeshRouterExt: sealed::Sealed {
    /// Returns the handle of the app's router.
    ///
    /// # Errors
    ///
    /// [`is_no_router`](RouteError::is_no_router) if the app has no router.
    fn router(&self) -> Result<RouterHandle, RouteError>;

    /// Adds a handler for messages of type `kind`, or the fallback if `kind` is `"*"`. It takes
    /// effect with the next frame; see [`RouterHandle`].
    ///
    /// # Errors
    ///
    /// [`is_no_router`](RouteError::is_no_router) if the app has no router,
    /// [`is_taken`](RouteError::is_taken) if the type already has a handler.
    fn route<H, T>(&self, kind: &str, handler: H) -> Result<(), RouteError>
    where
        H: Handler<T, ()>,
    {
        self.router()?.route(kind, handler)
    }
}

impl MeshRouterExt for Mesh {
    fn router(&self) -> Result<RouterHandle, RouteError> {
        self.peers().router()
    }
}

impl MeshRouterExt for Peers {
    fn router(&self) -> Result<RouterHandle, RouteError> {
        self.get_shared().ok_or_else(|| {
            // The name is the same whatever the state.
            let router = std::any::type_name::<Router>();
            match self.has_layer(router.split('<').next().unwrap_or(router)) {
                true => RouteError::unregistered(),
                false => RouteError::no_router(),
            }
        })
    }
}
