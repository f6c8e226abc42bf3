//! The service: what becomes of one frame.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use coalescent_core::{Flow, Frame, Relay, Reply};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{layer::SmartRelay, seen::Verdict, shared::Neighbour};
use crate::after::{self, RelayFuture};

/// The service that [`SmartRelay`] puts around one peer's stack.
#[derive(Clone, Debug)]
pub struct SmartRelayService<S> {
    inner: S,
    neighbour: Arc<Neighbour>,
    relay: Relay,
    after: bool,
}

impl<S> SmartRelayService<S> {
    pub(super) fn new(inner: S, relay: &SmartRelay, neighbour: Arc<Neighbour>) -> Self {
        Self {
            inner,
            neighbour,
            relay: Relay {
                flow: Flow::Drop,
                direct: relay.direct,
            },
            after: relay.after,
        }
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
        match self.neighbour.judge(&frame) {
            Verdict::New => {}
            verdict => {
                if verdict == Verdict::Copy {
                    frame.count_duplicate();
                } else {
                    frame.count_refused();
                }
                crate::release(&mut self.inner);
                return ResponseFuture { state: State::Ends };
            }
        }
        let after = after::relay(&frame, self.relay, self.after);
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
        Ends,
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
            StateProj::Ends => Poll::Ready(Ok(Reply::None)),
            StateProj::First { call } => call.poll(cx),
        }
    }
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
