//! A handler that can be broken and mended.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll};
use std::time::Duration;

use coalescent::{BoxError, Error, Frame, Peer, Reply};
use tower::{Layer, Service};

use crate::tower_layers::support::ask;

/// Answers each request with its payload, or fails while it is broken.
#[derive(Clone, Debug, Default)]
pub(super) struct Handler(Arc<State>);

#[derive(Debug, Default)]
struct State {
    broken: AtomicBool,
    calls: AtomicUsize,
}

impl Handler {
    /// Returns a handler that fails.
    pub(super) fn broken() -> Self {
        let handler = Self::default();
        handler.0.broken.store(true, SeqCst);
        handler
    }

    /// Has the handler answer from now on.
    pub(super) fn mend(&self) {
        self.0.broken.store(false, SeqCst);
    }

    /// Returns how often the handler was called.
    pub(super) fn calls(&self) -> usize {
        self.0.calls.load(SeqCst)
    }

    fn answer(&self, frame: Frame) -> Result<Reply, BoxError> {
        self.0.calls.fetch_add(1, SeqCst);
        if self.0.broken.load(SeqCst) {
            return Err("broken".into());
        }
        Ok(frame.is_request().then(|| frame.into_payload()).into())
    }
}

/// Takes the place of what is inside of it.
impl<S> Layer<S> for Handler {
    type Service = Self;

    fn layer(&self, _inner: S) -> Self {
        self.clone()
    }
}

impl Service<Frame> for Handler {
    type Response = Reply;
    type Error = BoxError;
    type Future = Ready<Result<Reply, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, frame: Frame) -> Self::Future {
        ready(self.answer(frame))
    }
}

/// Asks, and returns the reason for which the peer gives no answer.
pub(super) async fn refused(peer: &Peer) -> String {
    reason(ask(peer, "please").await)
}

/// Returns the reason for which a peer gave no answer.
pub(super) fn reason<T: std::fmt::Debug>(answer: Result<T, Error>) -> String {
    let error = answer.unwrap_err();
    let reason = error.peer_reason().expect("the peer answers");
    reason.to_owned()
}

/// Waits until a condition holds.
pub(super) async fn until(condition: impl AsyncFn() -> bool) {
    while !condition().await {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
