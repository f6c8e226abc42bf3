//! Small layers for the stacks of tests.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use coalescent_core::{BoxError, Flow, Frame, Relay, Reply};
use tower_layer::Layer;
use tower_service::Service;

/// A relay that knows no duplicates.
#[derive(Clone, Copy, Debug)]
pub struct RelayLayer(pub Flow);

impl coalescent_core::Plugin for RelayLayer {}

impl<S> Layer<S> for RelayLayer {
    type Service = RelayService<S>;

    fn layer(&self, inner: S) -> RelayService<S> {
        RelayService {
            flow: self.0,
            inner,
        }
    }
}

#[derive(Clone, Debug)]
pub struct RelayService<S> {
    flow: Flow,
    inner: S,
}

impl<S: Service<Frame>> Service<Frame> for RelayService<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, frame: Frame) -> S::Future {
        frame.relay(Relay::new(self.flow));
        self.inner.call(frame)
    }
}

type Handled = Pin<Box<dyn Future<Output = Result<Reply, BoxError>> + Send>>;
type Handler = Arc<dyn Fn(Frame) -> Handled + Send + Sync>;

/// A stack that is one function, in the place of the inbox.
#[derive(Clone)]
pub struct Handle(Handler);

pub fn handle<F, Fut>(handler: F) -> Handle
where
    F: Fn(Frame) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, BoxError>> + Send + 'static,
{
    Handle(Arc::new(move |frame| Box::pin(handler(frame))))
}

impl coalescent_core::Plugin for Handle {}

impl<S> Layer<S> for Handle {
    type Service = Self;

    fn layer(&self, _inner: S) -> Self {
        self.clone()
    }
}

impl Service<Frame> for Handle {
    type Response = Reply;
    type Error = BoxError;
    type Future = Handled;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, frame: Frame) -> Handled {
        (self.0)(frame)
    }
}
