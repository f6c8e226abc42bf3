//! The innermost service of a router that is itself used as a service.

use std::future::{Ready, ready};
use std::task::{Context, Poll};

use coalescent_core::{BoxError, Frame, Reply};
use tower_service::Service;

/// A service that gives no reply to any frame; a request fails with "no answer".
#[derive(Clone, Copy, Debug, Default)]
pub struct NotFound(());

impl NotFound {
    /// Creates the service.
    #[must_use]
    pub fn new() -> Self {
        Self(())
    }
}

impl Service<Frame> for NotFound {
    type Response = Reply;
    type Error = BoxError;
    type Future = Ready<Result<Reply, BoxError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _frame: Frame) -> Self::Future {
        ready(Ok(Reply::None))
    }
}
