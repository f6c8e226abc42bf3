//! Relaying a frame before its call, or after the call has succeeded. Used by both relays.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use coalescent_core::{Frame, Relay, Withheld};
use pin_project_lite::pin_project;

/// Relays `frame` now, or, with `after`, returns a [`DeferredRelay`] to be passed to the
/// [`RelayFuture`] of its call.
#[inline]
pub(crate) fn relay(frame: &mut Frame, relay: Relay, after: bool) -> Option<Box<DeferredRelay>> {
    if after {
        let withheld = frame.watch_withheld();
        let frame = frame.clone();
        return Some(Box::new(DeferredRelay {
            frame,
            withheld,
            relay,
        }));
    }
    frame.relay(relay);
    None
}

/// A frame to be relayed once its call has succeeded, unless a layer withholds it.
#[derive(Debug)]
pub(crate) struct DeferredRelay {
    frame: Frame,
    withheld: Withheld,
    relay: Relay,
}

pin_project! {
    /// Polls the inner call, then relays its frame if the call succeeded and relaying was deferred.
    #[derive(Debug)]
    pub(crate) struct RelayFuture<F> {
        #[pin]
        call: F,
        // Boxed because deferring is rare: the common case pays for one pointer only.
        deferred: Option<Box<DeferredRelay>>,
    }
}

impl<F> RelayFuture<F> {
    #[inline]
    pub(crate) fn new(call: F, deferred: Option<Box<DeferredRelay>>) -> Self {
        Self { call, deferred }
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
        if this.deferred.is_none() {
            return this.call.poll(cx);
        }
        let result = ready!(this.call.poll(cx));
        if let (Some(deferred), true) = (this.deferred.take(), result.is_ok())
            && !deferred.withheld.get()
        {
            deferred.frame.relay(deferred.relay);
        }
        Poll::Ready(result)
    }
}
