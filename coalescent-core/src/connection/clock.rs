//! The clock of a connection. Decisions are given the time; only this file asks for it.

use std::future::poll_fn;
use std::task::{Context, Poll};

use tokio::time::Instant;

/// Returns the time.
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Polls `turn` again and again, with the time, until it returns a value. If it returns `None`, it
/// has done something and is polled again at once.
pub(super) async fn turns<T>(
    mut turn: impl FnMut(&mut Context<'_>, Instant) -> Poll<Option<T>>,
) -> T {
    poll_fn(|cx| {
        loop {
            match turn(cx, now()) {
                Poll::Ready(Some(value)) => return Poll::Ready(value),
                Poll::Ready(None) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}
