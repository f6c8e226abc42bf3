//! Relaying what the rest of a stack accepted: the part that both relays share.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use coalescent_core::{Frame, Relay};
use pin_project_lite::pin_project;

/// Relays `frame` now, or leaves that to the [`RelayFuture`] of the call it is given to.
#[inline]
pub(crate) fn relay(frame: &Frame, relay: Relay, after: bool) -> Option<Box<After>> {
    if after {
        let frame = frame.clone();
        return Some(Box::new(After { frame, relay }));
    }
    frame.relay(relay);
    None
}

/// A frame that is relayed once its call has succeeded.
#[derive(Debug)]
pub(crate) struct After {
    frame: Frame,
    relay: Relay,
}

pin_project! {
    /// Waits for the inner call, and then relays its frame if it is still to be relayed.
    #[derive(Debug)]
    pub(crate) struct RelayFuture<F> {
        #[pin]
        call: F,
        // Boxed, so that the usual case, a relay that comes first, pays eight bytes for it.
        after: Option<Box<After>>,
    }
}

impl<F> RelayFuture<F> {
    #[inline]
    pub(crate) fn new(call: F, after: Option<Box<After>>) -> Self {
        Self { call, after }
    }
}

impl<F, T, E> Future for RelayFuture<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.after.is_none() {
            return this.call.poll(cx);
        }
        let result = ready!(this.call.poll(cx));
        if let (Some(after), true) = (this.after.take(), result.is_ok()) {
            after.frame.relay(after.relay);
        }
        Poll::Ready(result)
    }
}
