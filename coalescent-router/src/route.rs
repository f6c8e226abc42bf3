//! One handler with the layers around it.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use coalescent_core::{BoxError, Frame, Reply};
use tower_layer::Layer;
use tower_service::Service;

use crate::handler::{Handler, HandlerFuture};
use crate::into_reply::IntoReply;
use crate::watch::{Begun, Watch};

/// The handler of a route, as the layers on the route see it: the service they wrap.
///
/// It is always ready. Cheap to clone.
#[derive(Clone)]
pub struct Route(Arc<dyn Handle>);

/// What a route is made of, without its types.
trait Handle: Send + Sync {
    /// Handles a frame that ends here.
    fn handle(&self, frame: Frame) -> HandlerFuture;

    /// Handles a frame that goes on afterwards, unchanged.
    fn handle_ref(&self, frame: &mut Frame) -> HandlerFuture;
}

/// Two functions that do as [`Handle`] says.
struct Functions<F, R> {
    handle: F,
    handle_ref: R,
}

impl<F, R> Handle for Functions<F, R>
where
    F: Fn(Frame) -> HandlerFuture + Send + Sync,
    R: Fn(&mut Frame) -> HandlerFuture + Send + Sync,
{
    fn handle(&self, frame: Frame) -> HandlerFuture {
        (self.handle)(frame)
    }

    fn handle_ref(&self, frame: &mut Frame) -> HandlerFuture {
        (self.handle_ref)(frame)
    }
}

impl Route {
    fn handler<H, T, S>(handler: H, state: S) -> Self
    where
        H: Handler<T, S>,
        S: Clone + Send + Sync + 'static,
    {
        let (same, same_state) = (handler.clone(), state.clone());
        Self(Arc::new(Functions {
            handle: move |mut frame: Frame| {
                if H::AT_ONCE {
                    return handler.call_ref(&mut frame, &state);
                }
                handler.clone().call(frame, state.clone())
            },
            handle_ref: move |frame: &mut Frame| same.call_ref(frame, &same_state),
        }))
    }

    fn service<V>(service: V) -> Self
    where
        V: Service<Frame, Response: IntoReply, Error: Into<BoxError>, Future: Send + 'static>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        let handle = move |frame| -> HandlerFuture {
            // The service stays unready here; a permit belongs to the call that waited for it.
            let mut service = service.clone();
            Box::pin(async move {
                poll_fn(|cx| service.poll_ready(cx))
                    .await
                    .map_err(Into::into)?;
                let reply = service.call(frame).await.map_err(Into::into)?;
                reply.into_reply()
            })
        };
        let same = handle.clone();
        Self(Arc::new(Functions {
            handle,
            handle_ref: move |frame: &mut Frame| same(frame.clone()),
        }))
    }
}

impl Service<Frame> for Route {
    type Response = Reply;
    type Error = BoxError;
    type Future = HandlerFuture;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, frame: Frame) -> HandlerFuture {
        self.0.handle(frame)
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").finish_non_exhaustive()
    }
}

/// A route that may still lack its state of type `S`. Cheap to clone; clones are the same route.
pub(crate) struct Endpoint<S> {
    inner: Arc<Inner<S>>,
    watch: Arc<Watch>,
}

struct Inner<S> {
    make: Box<dyn Fn(S) -> Route + Send + Sync>,
    ends: bool,
    /// What `make` made, so that the layers are built once: a limit that is built anew for each
    /// frame limits nothing.
    made: OnceLock<Route>,
}

impl<S> Endpoint<S> {
    fn new(ends: bool, make: impl Fn(S) -> Route + Send + Sync + 'static) -> Self {
        Self {
            inner: Arc::new(Inner {
                make: Box::new(make),
                ends,
                made: OnceLock::new(),
            }),
            watch: Arc::default(),
        }
    }

    /// The same route, as the one of this name.
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.watch = Arc::new(Watch::new(name));
        self
    }

    /// Whether it is the same route as `other`.
    #[cfg(test)]
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Whether frames end here.
    pub(crate) fn ends(&self) -> bool {
        self.inner.ends
    }
}

impl<S: Clone + Send + Sync + 'static> Endpoint<S> {
    pub(crate) fn handler<H, T>(handler: H) -> Self
    where
        H: Handler<T, S>,
    {
        Self::new(H::ENDS, move |state| Route::handler(handler.clone(), state))
    }

    pub(crate) fn layer<L>(&self, layer: &Arc<L>) -> Self
    where
        L: Layer<Route> + Send + Sync + 'static,
        L::Service: Service<Frame, Response: IntoReply, Error: Into<BoxError>, Future: Send + 'static>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        let layer = Arc::clone(layer);
        let inner = self.clone();
        Self::new(self.ends(), move |state| {
            Route::service(layer.layer((inner.inner.make)(state)))
        })
    }

    pub(crate) fn with_state<S2: 'static>(&self, state: S) -> Endpoint<S2> {
        let route = (self.inner.make)(state);
        Endpoint::new(self.ends(), move |_| route.clone())
    }
}

impl Endpoint<()> {
    /// The route, built when it is first used.
    fn route(&self) -> &Route {
        let inner = &self.inner;
        inner.made.get_or_init(|| (inner.make)(()))
    }

    /// Handles a frame that ends here, watched.
    pub(crate) fn handle(&self, frame: Frame) -> Watched {
        let begun = self.watch.begin(&frame);
        let handled = begun.enter(|| self.route().0.handle(frame));
        Watched { handled, begun }
    }

    /// Handles a frame that goes on afterwards, watched.
    pub(crate) fn handle_ref(&self, frame: &mut Frame) -> Watched {
        let begun = self.watch.begin(frame);
        let handled = begun.enter(|| self.route().0.handle_ref(frame));
        Watched { handled, begun }
    }
}

impl<S> Clone for Endpoint<S> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            watch: Arc::clone(&self.watch),
        }
    }
}

/// A handler at work, in the span of its frame.
pub(crate) struct Watched {
    handled: HandlerFuture,
    begun: Begun,
}

impl Future for Watched {
    type Output = Result<Reply, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { handled, begun } = &mut *self;
        let result = ready!(begun.enter(|| handled.as_mut().poll(cx)));
        begun.end(result.is_ok());
        Poll::Ready(result)
    }
}
