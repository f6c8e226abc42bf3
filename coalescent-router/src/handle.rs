//! Adding routes to a router that is in use.

use std::fmt;
use std::sync::Arc;

use coalescent_core::{Mesh, Peers};

use crate::error::RouteError;
use crate::handler::Handler;
use crate::route::Endpoint;
use crate::router::Router;
use crate::table::Live;

/// Adds routes to a [`Router`] that is in use, and removes them. Cheap to clone.
///
/// A change holds from the next frame on, for all peers. Routing does not wait for it: each peer's
/// service keeps its table, and asks at each frame, with one atomic load, whether there is another.
/// In exchange, a change costs a copy of the table; [`merge`](RouterHandle::merge) adds many routes
/// for one.
///
/// The handlers are kept for as long as the mesh is. One that holds the mesh itself would keep it
/// running for ever: ask for it as an argument instead.
#[derive(Clone)]
pub struct RouterHandle(Arc<Live<()>>);

impl RouterHandle {
    pub(crate) fn new(live: Arc<Live<()>>) -> Self {
        Self(live)
    }

    /// Adds a handler for messages of type `kind`; for `"*"`, the fallback.
    ///
    /// # Errors
    ///
    /// [`is_taken`](RouteError::is_taken) if there is a handler for that type already.
    pub fn route<H, T>(&self, kind: &str, handler: H) -> Result<(), RouteError>
    where
        H: Handler<T, ()>,
    {
        self.0
            .change(|table| table.insert(kind, Endpoint::handler(handler)))
    }

    /// Adds the handler for messages of all types that have none of their own.
    ///
    /// # Errors
    ///
    /// [`is_taken`](RouteError::is_taken) if there is a fallback already.
    pub fn fallback<H, T>(&self, handler: H) -> Result<(), RouteError>
    where
        H: Handler<T, ()>,
    {
        self.0
            .change(|table| table.insert_fallback("", Endpoint::handler(handler)))
    }

    /// Adds the routes of `router`, and its fallback; all of them, or none. So come routes with
    /// state and layers to a running mesh.
    ///
    /// # Errors
    ///
    /// [`is_taken`](RouteError::is_taken) if there is a handler for one of the types already.
    pub fn merge(&self, router: Router) -> Result<(), RouteError> {
        let other = router.into_table();
        self.0.change(|table| table.merge("", &other))
    }

    /// Removes the handler for messages of type `kind`; for `"*"`, the fallback. Returns whether
    /// there was one.
    ///
    /// Frames that are being handled by it are handled to their end.
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

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Mesh {}
    impl Sealed for super::Peers {}
}

/// The verb that a registered [`Router`] adds to a mesh: the original's `app.route`.
///
/// ```
/// use coalescent_core::{App, AppExt};
/// use coalescent_router::{Router, RouterExt};
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
pub trait RouterExt: sealed::Sealed {
    /// The handle of the app's router.
    ///
    /// # Errors
    ///
    /// [`is_no_router`](RouteError::is_no_router) if the app has none.
    fn router(&self) -> Result<RouterHandle, RouteError>;

    /// Adds a handler for messages of type `kind`; for `"*"`, the fallback. It holds from the next
    /// frame on; see [`RouterHandle`].
    ///
    /// # Errors
    ///
    /// [`is_no_router`](RouteError::is_no_router) if the app has no router,
    /// [`is_taken`](RouteError::is_taken) if there is a handler for that type already.
    fn route<H, T>(&self, kind: &str, handler: H) -> Result<(), RouteError>
    where
        H: Handler<T, ()>,
    {
        self.router()?.route(kind, handler)
    }
}

impl RouterExt for Mesh {
    fn router(&self) -> Result<RouterHandle, RouteError> {
        self.get().ok_or_else(RouteError::no_router)
    }
}

impl RouterExt for Peers {
    fn router(&self) -> Result<RouterHandle, RouteError> {
        self.get_shared().ok_or_else(RouteError::no_router)
    }
}
