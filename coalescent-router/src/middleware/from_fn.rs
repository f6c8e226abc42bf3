use std::any::type_name;
use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::task::{Context, Poll};

use coalescent_core::{BoxError, CloneService, Frame, Plugin, Reply};
use tower_layer::Layer;
use tower_service::Service;

use super::function::MiddlewareFn;
use crate::handler::HandlerFuture;
use crate::into_reply::IntoReply;

/// Creates a middleware from an async function.
///
/// The function takes any number of [extractors](crate::extract), then the [`Frame`], then
/// [`Next`], which stands for the inner services. It returns a value that is [`IntoReply`]. Use the
/// middleware around a peer's stack, with [`App::layer`](coalescent_core::App::layer), or around
/// routes, with [`Router::layer`](crate::Router::layer).
///
/// ```
/// use coalescent::{App, BoxError, Frame, Peer, PeerId, Reply, Router};
/// use coalescent::middleware::{self, Next};
///
/// async fn known(peer: Peer, frame: Frame, next: Next) -> Result<Reply, BoxError> {
///     if !matches!(peer.id(), PeerId::Key(_)) {
///         return Err("this needs a peer with an identity".into());
///     }
///     next.run(frame).await
/// }
///
/// async fn log(frame: Frame, next: Next) -> Result<Reply, BoxError> {
///     let bytes = frame.payload().len();
///     let reply = next.run(frame).await;
///     println!("{bytes} bytes: {reply:?}");
///     reply
/// }
/// # async fn reboot() {}
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), coalescent::Error> {
///
/// let router: Router = Router::new()
///     .route("reboot", reboot)
///     .route_layer(middleware::from_fn(known));
/// let mesh = App::new().layer(middleware::from_fn(log)).layer(router).start().await?;
/// # Ok(())
/// # }
/// ```
pub fn from_fn<F, T>(f: F) -> FromFnLayer<F, (), T>
where
    F: MiddlewareFn<T, ()>,
{
    from_fn_with_state((), f)
}

/// Creates a middleware from an async function, with a state for its
/// [`State`](crate::extract::State) extractors; see [`from_fn`].
///
/// ```
/// use coalescent::{App, BoxError, Frame, Reply};
/// use coalescent::extract::State;
/// use coalescent::middleware::{self, Next};
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
///
/// async fn count(
///     State(frames): State<Arc<AtomicU64>>,
///     frame: Frame,
///     next: Next,
/// ) -> Result<Reply, BoxError> {
///     frames.fetch_add(1, Ordering::Relaxed);
///     next.run(frame).await
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), coalescent::Error> {
/// let frames = Arc::new(AtomicU64::new(0));
/// let mesh = App::new()
///     .layer(middleware::from_fn_with_state(Arc::clone(&frames), count))
///     .start()
///     .await?;
/// # Ok(())
/// # }
/// ```
pub fn from_fn_with_state<F, S, T>(state: S, f: F) -> FromFnLayer<F, S, T>
where
    F: MiddlewareFn<T, S>,
{
    FromFnLayer {
        f,
        state,
        extractors: PhantomData,
    }
}

/// The layer created from an async function; see [`from_fn`].
#[must_use = "a layer does nothing until it is added to an app or a router"]
pub struct FromFnLayer<F, S, T> {
    f: F,
    state: S,
    extractors: PhantomData<fn() -> T>,
}

impl<F: Clone, S: Clone, T> Clone for FromFnLayer<F, S, T> {
    fn clone(&self) -> Self {
        Self {
            f: self.f.clone(),
            state: self.state.clone(),
            extractors: PhantomData,
        }
    }
}

impl<F: Clone, S: Clone, T, I> Layer<I> for FromFnLayer<F, S, T> {
    type Service = FromFn<F, S, I, T>;

    fn layer(&self, inner: I) -> Self::Service {
        FromFn {
            f: self.f.clone(),
            state: self.state.clone(),
            inner,
            extractors: PhantomData,
        }
    }
}

impl<F, S, T> Plugin for FromFnLayer<F, S, T> {}

impl<F, S: fmt::Debug, T> fmt::Debug for FromFnLayer<F, S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFnLayer")
            .field("f", &format_args!("{}", type_name::<F>()))
            .field("state", &self.state)
            .finish()
    }
}

/// The service created from an async function; see [`from_fn`].
///
/// It is ready when its inner service is. The ready inner service moves into [`Next`], and a permit
/// that it holds is released with it.
pub struct FromFn<F, S, I, T> {
    f: F,
    state: S,
    inner: I,
    extractors: PhantomData<fn() -> T>,
}

impl<F, S, I, T> FromFn<F, S, I, T> {
    crate::macros::inner_accessors!(I);
}

impl<F: Clone, S: Clone, I: Clone, T> Clone for FromFn<F, S, I, T> {
    fn clone(&self) -> Self {
        Self {
            f: self.f.clone(),
            state: self.state.clone(),
            inner: self.inner.clone(),
            extractors: PhantomData,
        }
    }
}

impl<F, S: fmt::Debug, I: fmt::Debug, T> fmt::Debug for FromFn<F, S, I, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFn")
            .field("f", &format_args!("{}", type_name::<F>()))
            .field("state", &self.state)
            .field("inner", &self.inner)
            .finish()
    }
}

impl<F, S, I, T> Service<Frame> for FromFn<F, S, I, T>
where
    F: MiddlewareFn<T, S>,
    S: Clone,
    I: Service<Frame, Response: IntoReply, Error: Into<BoxError>, Future: Send + 'static>
        + CloneService
        + Send
        + 'static,
{
    type Response = Reply;
    type Error = BoxError;
    type Future = HandlerFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, frame: Frame) -> HandlerFuture {
        let unready = self.inner.clone();
        let next = Next::new(std::mem::replace(&mut self.inner, unready));
        self.f.clone().run(frame, self.state.clone(), next)
    }
}

/// The inner services, as the last argument of a middleware function; see [`from_fn`].
#[must_use = "without `run`, the frame ends here"]
pub struct Next {
    inner: Box<dyn Inner>,
    /// Whether the inner services were made ready for the next frame.
    ready: bool,
}

/// The inner services, of whatever type.
trait Inner: Send {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>>;

    fn call(&mut self, frame: Frame) -> HandlerFuture;
}

impl<I> Inner for I
where
    I: Service<Frame, Response: IntoReply, Error: Into<BoxError>, Future: Send + 'static> + Send,
{
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Service::poll_ready(self, cx).map_err(Into::into)
    }

    fn call(&mut self, frame: Frame) -> HandlerFuture {
        let future = Service::call(self, frame);
        Box::pin(async move { future.await.map_err(Into::into)?.into_reply() })
    }
}

impl Next {
    /// Takes an inner service that is ready.
    fn new<I>(inner: I) -> Self
    where
        I: Service<Frame, Response: IntoReply, Error: Into<BoxError>, Future: Send + 'static>
            + Send
            + 'static,
    {
        Self {
            inner: Box::new(inner),
            ready: true,
        }
    }

    /// Passes the frame to the inner services and returns their reply.
    ///
    /// # Errors
    ///
    /// The error of the inner services.
    pub async fn run(mut self, frame: Frame) -> Result<Reply, BoxError> {
        if !self.ready {
            return self.call(frame).await;
        }
        let call = self.inner.call(frame);
        // It holds nothing while its call runs.
        drop(self.inner);
        call.await
    }

    /// Passes one of several frames to the inner services, once they are ready for it, and returns
    /// their reply.
    ///
    /// Use it with frames that are [derived](Frame::derive) from the one that the middleware was
    /// called with.
    ///
    /// ```
    /// use coalescent::{BoxError, Frame, Reply};
    /// use coalescent::middleware::Next;
    ///
    /// async fn twice(frame: Frame, mut next: Next) -> Result<Reply, BoxError> {
    ///     let first = next.call(frame.derive("first")).await?;
    ///     Ok(first.or(next.call(frame.derive("second")).await?))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// The error of the inner services.
    ///
    /// # Cancel safety
    ///
    /// Until the inner services are ready, the frame is not passed on. After that, dropping the
    /// future drops their call.
    pub async fn call(&mut self, frame: Frame) -> Result<Reply, BoxError> {
        if !std::mem::take(&mut self.ready) {
            poll_fn(|cx| self.inner.poll_ready(cx)).await?;
        }
        self.inner.call(frame).await
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").finish_non_exhaustive()
    }
}
