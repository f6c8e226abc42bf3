//! The service: what becomes of one frame.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use coalescent_core::{Flow, Frame, Relay, Reply};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower_service::Service;

use super::layer::SmartRelay;
use super::seen::Verdict;
use super::shared::Neighbour;
use crate::after::{self, RelayFuture};

/// How often it is looked whether there is room again for the frames of a connection that waits.
const SLICE: Duration = Duration::from_millis(20);

/// How long a connection waits at most, until there is room for it once more: meanwhile what it
/// brings is refused. Less than the patience that its other end has with one who does not read, and
/// less than all is remembered (`YOUNG`), since copies may be behind what waits.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// The service that [`SmartRelay`] puts around one peer's stack.
#[derive(Debug)]
pub struct SmartRelayService<S> {
    inner: S,
    /// What it waits for before it takes another frame, and since when it does.
    wait: Option<Box<Wait>>,
    neighbour: Arc<Neighbour>,
    relay: Relay,
    after: bool,
}

#[derive(Debug)]
struct Wait {
    slice: Pin<Box<Sleep>>,
    until: Instant,
}

impl<S: Clone> Clone for SmartRelayService<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            wait: None,
            neighbour: Arc::clone(&self.neighbour),
            relay: self.relay,
            after: self.after,
        }
    }
}

impl<S> SmartRelayService<S> {
    pub(super) fn new(inner: S, relay: &SmartRelay, neighbour: Arc<Neighbour>) -> Self {
        Self {
            inner,
            wait: None,
            neighbour,
            relay: Relay {
                flow: Flow::Drop,
                direct: relay.direct,
            },
            after: relay.after,
        }
    }

    /// Waits for a while where the next frame would be refused.
    #[cold]
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let wait = self.wait.get_or_insert_with(|| {
            Box::new(Wait {
                slice: Box::pin(sleep(SLICE)),
                until: Instant::now() + WAIT_MAX,
            })
        });
        while self.neighbour.must_wait() {
            if Instant::now() >= wait.until {
                self.neighbour.gave_up();
                break;
            }
            ready!(wait.slice.as_mut().poll(cx));
            wait.slice.set(sleep(SLICE));
        }
        self.wait = None;
        Poll::Ready(())
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
        if self.wait.is_some() || self.neighbour.must_wait() {
            ready!(self.poll_room(cx));
        }
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, frame: Frame) -> Self::Future {
        match self.neighbour.judge(&frame) {
            Verdict::New | Verdict::Last => {}
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
