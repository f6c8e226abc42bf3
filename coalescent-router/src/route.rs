//! One handler with the layers around it, as a service.

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
use crate::observe::{ObservedCall, Observer};

/// The handler of a route as a service: the one that layers on the route wrap.
///
/// It is always ready and cheap to clone.
#[derive(Clone)]
pub struct Route(Arc<dyn Handle>);

/// A handler or a layered service, with its types erased.
trait Handle: Send + Sync {
    /// Handles a frame that ends at this route.
    fn handle(&self, frame: Frame) -> HandlerFuture;

    /// Handles a frame that goes on to the inner services afterwards, and leaves it unchanged.
    fn handle_ref(&self, frame: &mut Frame) -> HandlerFuture;
}

/// An implementation of [`Handle`] by two closures.
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
            // This copy of the service is never ready: each call waits for its own permit.
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
    observer: Arc<Observer>,
}

struct Inner<S> {
    make: Box<dyn Fn(S) -> Route + Send + Sync>,
    ends: bool,
    /// The result of `make`, kept so that layers are applied only once: a limit that is rebuilt for
    /// each frame limits nothing.
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
            observer: Arc::default(),
        }
    }

    /// Returns the same route with `name` for spans and metrics.
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.observer = Arc::new(Observer::new(name));
        self
    }

    /// Returns whether both are clones of the same route.
    #[cfg(test)]
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Returns whether frames end at this route.
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
    /// Returns the route, which is built on first use.
    fn route(&self) -> &Route {
        let inner = &self.inner;
        inner.made.get_or_init(|| (inner.make)(()))
    }

    /// Handles a frame that ends at this route, in a span and timed.
    pub(crate) fn handle(&self, frame: Frame) -> ObservedFuture {
        let observed = self.observer.begin(&frame);
        let handled = observed.enter(|| self.route().0.handle(frame));
        ObservedFuture { handled, observed }
    }

    /// Handles a frame that goes on to the inner services afterwards, in a span and timed.
    pub(crate) fn handle_ref(&self, frame: &mut Frame) -> ObservedFuture {
        let observed = self.observer.begin(frame);
        let handled = observed.enter(|| self.route().0.handle_ref(frame));
        ObservedFuture { handled, observed }
    }
}

impl<S> Clone for Endpoint<S> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            observer: Arc::clone(&self.observer),
        }
    }
}

/// The future of a handler call, polled in the call's span.
pub(crate) struct ObservedFuture {
    handled: HandlerFuture,
    observed: ObservedCall,
}

impl Future for ObservedFuture {
    type Output = Result<Reply, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { handled, observed } = &mut *self;
        let result = ready!(observed.enter(|| handled.as_mut().poll(cx)));
        observed.end(result.is_ok());
        Poll::Ready(result)
    }
}
