//! The service: decides whether a frame is new, and relays it if so.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use coalescent_core::{CloneService, Frame, Relay, Reply};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower_service::Service;

use super::seen::Novelty;
use super::shared::Neighbour;
use super::verdict::OpenVerdict;
use crate::deferred::{self, RelayFuture, When};

/// How often a waiting connection checks whether the set has room again.
const RECHECK_INTERVAL: Duration = Duration::from_millis(20);

/// Upper bound of a connection's wait for room in the set; afterwards its frames are refused.
///
/// It must be shorter than the patience of the sending node with a peer that does not read, and
/// shorter than the time that every frame is remembered (`YOUNG`), because copies may be queued
/// behind the frame that waits.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// The service that [`SmartRelay`](super::SmartRelay) puts around one peer's stack.
#[derive(Debug)]
pub struct SmartRelayService<S> {
    inner: S,
    /// Set while the connection waits for room in the set.
    wait: Option<Box<RoomWait>>,
    neighbour: Arc<Neighbour>,
    relay: Relay,
    when: When,
}

/// The timers of a connection that waits for room in the set.
#[derive(Debug)]
struct RoomWait {
    recheck: Pin<Box<Sleep>>,
    deadline: Instant,
}

impl<S: Clone> Clone for SmartRelayService<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            wait: None,
            neighbour: Arc::clone(&self.neighbour),
            relay: self.relay,
            when: self.when,
        }
    }
}

impl<S> SmartRelayService<S> {
    pub(super) fn new(inner: S, neighbour: Arc<Neighbour>, relay: Relay, when: When) -> Self {
        Self {
            inner,
            wait: None,
            neighbour,
            relay,
            when,
        }
    }

    /// Waits until the set has room for the next frame, or until [`WAIT_MAX`] has passed.
    #[cold]
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let wait = self.wait.get_or_insert_with(|| {
            Box::new(RoomWait {
                recheck: Box::pin(sleep(RECHECK_INTERVAL)),
                deadline: Instant::now() + WAIT_MAX,
            })
        });
        while self.neighbour.must_wait() {
            if Instant::now() >= wait.deadline {
                self.neighbour.gave_up();
                break;
            }
            ready!(wait.recheck.as_mut().poll(cx));
            wait.recheck.set(sleep(RECHECK_INTERVAL));
        }
        self.wait = None;
        Poll::Ready(())
    }

    crate::macros::inner_accessors!(S);
}

impl<S> Service<Frame> for SmartRelayService<S>
where
    S: Service<Frame, Response = Reply> + CloneService,
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
    fn call(&mut self, mut frame: Frame) -> Self::Future {
        let when = self.when.settled(&frame);
        let (novelty, identity) = self.neighbour.judge(&frame);
        match novelty {
            Novelty::New | Novelty::Last => {}
            novelty => {
                if novelty == Novelty::Copy {
                    frame.count_duplicate();
                    if when.waits() {
                        self.neighbour.copied(identity, frame.peer());
                    }
                } else {
                    frame.count_refused();
                }
                crate::release(&mut self.inner);
                return ResponseFuture {
                    state: State::Suppressed,
                };
            }
        }
        let open = || OpenVerdict::new(Arc::clone(&self.neighbour), identity);
        let deferred = deferred::relay(&mut frame, self.relay, when, open);
        let call = RelayFuture::new(self.inner.call(frame), deferred);
        ResponseFuture {
            state: State::New { call },
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
        // A copy, or a frame refused for lack of room: the inner service is not called.
        Suppressed,
        New {
            #[pin]
            call: RelayFuture<F, OpenVerdict>,
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
            StateProj::Suppressed => Poll::Ready(Ok(Reply::None)),
            StateProj::New { call } => call.poll(cx),
        }
    }
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
