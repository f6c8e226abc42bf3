//! The service: what becomes of one frame.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use coalescent_core::{Flow, Frame, Relay, Reply};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::layer::SmartRelay;
use crate::after::{self, RelayFuture};

/// The service that [`SmartRelay`] puts around one peer's stack.
#[derive(Clone, Debug)]
pub struct SmartRelayService<S> {
    inner: S,
    relay: SmartRelay,
}

impl<S> SmartRelayService<S> {
    pub(super) fn new(inner: S, relay: SmartRelay) -> Self {
        Self { inner, relay }
    }

    /// Gets the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Gets the inner service, to change it.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Takes the inner service out.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S> Service<Frame> for SmartRelayService<S>
where
    S: Service<Frame, Response = Reply> + Clone,
{
    type Response = Reply;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, frame: Frame) -> Self::Future {
        if self.relay.shared.is_duplicate(&frame) {
            frame.count_duplicate();
            crate::release(&mut self.inner);
            return ResponseFuture {
                state: State::Duplicate,
            };
        }
        let relay = Relay {
            flow: Flow::Drop,
            direct: self.relay.direct,
        };
        let after = after::relay(&frame, relay, self.relay.after);
        let call = RelayFuture::new(self.inner.call(frame), after);
        ResponseFuture {
            state: State::First { call },
        }
    }
}

pin_project! {
    /// The response future of [`SmartRelayService`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State<F> {
        Duplicate,
        First {
            #[pin]
            call: RelayFuture<F>,
        },
    }
}

impl<F, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Reply, E>>,
{
    type Output = Result<Reply, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Duplicate => Poll::Ready(Ok(Reply::None)),
            StateProj::First { call } => call.poll(cx),
        }
    }
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
