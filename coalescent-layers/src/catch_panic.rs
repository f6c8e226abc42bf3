//! Turning a panic into an error of one frame.
//!
//! A connection already catches panics of its whole stack, so an app survives panicking handlers
//! without [`CatchPanic`]: the panic becomes an [`Event::Error`](coalescent_core::Event::Error) and
//! the peer stays connected. Use this layer to catch the panic further inward, so that a layer
//! around it can count, log or answer the error, and to protect stacks that run without a
//! connection.
//!
//! # Where it belongs
//!
//! Around the services that may panic, and inside the layers that handle the error.
//!
//! ```text
//! panics are counted:
//!     App::new().layer(errors_counted).with(CatchPanic::new()).with(router)
//! panics are not counted:
//!     App::new().with(CatchPanic::new()).layer(errors_counted).with(router)
//! ```
//!
//! # Per peer or shared
//!
//! The layer has no state. It is ready when its inner service is. A panic in the inner `poll_ready`
//! is not caught, because an error there would end the connection as well.
//!
//! # Example
//!
//! ```
//! use coalescent::{CatchPanic, Error, Frame, Reply, test_util, wire::Kind};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let stack = ServiceBuilder::new()
//!     .layer(CatchPanic::new())
//!     .service(service_fn(async |frame: Frame| {
//!         assert!(frame.payload() != b"boop", "cannot stand boops");
//!         Ok::<_, Error>(Reply::None)
//!     }));
//!
//! let frame = test_util::frame(Kind::Data, "boop");
//! let error = stack.oneshot(frame).await.unwrap_err();
//! assert!(error.to_string().contains("cannot stand boops"));
//! # }
//! ```
//!
//! With `panic = "abort"` the process aborts and the layer has no effect.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use coalescent_core::{BoxError, Error, Frame, Plugin, Reply};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

/// A layer that turns a panic of the inner service, in `call` or in the returned future, into an
/// [`Error`].
///
/// [`Error::is_panic`] distinguishes it from other errors. See the [module documentation](self).
///
/// ```
/// use coalescent::{App, AppExt, CatchPanic, Courier};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), coalescent::Error> {
/// let app = App::new().with(Courier::new()).with(CatchPanic::new());
/// let mesh = app.listen("127.0.0.1:0").await?;
/// # assert_eq!(mesh.local_addrs().len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "it catches nothing until it is added to an app, with `with`"]
pub struct CatchPanic(());

impl CatchPanic {
    /// Creates the layer.
    pub fn new() -> Self {
        Self(())
    }
}

impl Plugin for CatchPanic {}

impl<S> Layer<S> for CatchPanic {
    type Service = CatchPanicService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CatchPanicService { inner }
    }
}

/// The service that [`CatchPanic`] puts around one peer's stack.
#[derive(Clone, Debug)]
pub struct CatchPanicService<S> {
    inner: S,
}

impl<S> CatchPanicService<S> {
    crate::macros::inner_accessors!(S);
}

impl<S> Service<Frame> for CatchPanicService<S>
where
    S: Service<Frame, Response = Reply, Error: Into<BoxError>>,
{
    type Response = Reply;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, frame: Frame) -> Self::Future {
        // Unwind safety: the service may be left in an inconsistent state, which the next call has
        // to cope with. The connection makes the same choice.
        let called = catch_unwind(AssertUnwindSafe(|| self.inner.call(frame)));
        let (call, error) = match called {
            Ok(call) => (Some(call), None),
            Err(panic) => (None, Some(Error::panicked(&*panic))),
        };
        ResponseFuture { call, error }
    }
}

pin_project! {
    /// The response future of [`CatchPanicService`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        call: Option<F>,
        // Set if `call` itself panicked; `call` is `None` then.
        error: Option<Error>,
    }
}

impl<F, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Reply, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Reply, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(error) = this.error.take() {
            return Poll::Ready(Err(error.into()));
        }
        let Some(call) = this.call.as_mut().as_pin_mut() else {
            return Poll::Ready(Ok(Reply::None));
        };
        match catch_unwind(AssertUnwindSafe(|| call.poll(cx))) {
            Ok(polled) => polled.map_err(Into::into),
            Err(panic) => {
                // A future that panicked must not be polled again. Drop it now to release what it
                // holds.
                this.call.set(None);
                Poll::Ready(Err(Error::panicked(&*panic).into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use coalescent_core::test_util;
    use coalescent_core::wire::Kind;
    use tower::{ServiceExt, service_fn};

    use super::*;

    fn panic_of(error: &BoxError) -> &Error {
        let error = error.downcast_ref::<Error>().expect("an error of ours");
        assert!(error.is_panic(), "{error}");
        error
    }

    #[tokio::test]
    async fn a_panic_in_the_call_or_its_future_is_an_error_of_that_frame() {
        let handler = service_fn(|frame: Frame| {
            assert!(frame.payload() != b"call", "in the call");
            async move {
                tokio::task::yield_now().await;
                assert!(frame.payload() != b"future", "in the {}", "future");
                Ok::<_, Error>(Reply::Payload(frame.into_payload()))
            }
        });
        let mut stack = CatchPanic::new().layer(handler);
        for at in ["call", "future"] {
            let frame = test_util::frame(Kind::Data, at);
            let error = stack.ready().await.unwrap().call(frame).await.unwrap_err();
            let text = panic_of(&error).to_string();
            assert!(text.ends_with(&format!("in the {at}")), "{text}");
        }
        let frame = test_util::frame(Kind::Data, "neither");
        let reply = stack.ready().await.unwrap().call(frame).await.unwrap();
        assert!(matches!(reply, Reply::Payload(payload) if payload == "neither"));
    }

    #[tokio::test]
    async fn what_a_call_held_is_free_when_it_has_panicked() {
        let held = std::sync::Arc::new(());
        let holding = held.clone();
        let handler = service_fn(move |_: Frame| {
            let holding = holding.clone();
            async move {
                let _holding = holding;
                tokio::task::yield_now().await;
                if true {
                    panic!("holding");
                }
                Ok::<_, Error>(Reply::None)
            }
        });
        let mut stack = CatchPanic::new().layer(handler);
        let mut call = Box::pin(stack.call(test_util::frame(Kind::Data, "")));
        panic_of(&call.as_mut().await.unwrap_err());
        assert_eq!(
            std::sync::Arc::strong_count(&held),
            2,
            "ours and the service's"
        );
    }

    #[tokio::test]
    async fn is_as_ready_as_the_inner_service_and_passes_its_errors_on() {
        let layered = tower_layer::layer_fn(|inner| CatchPanic::new().layer(inner));
        let (mut stack, mut handle) = tower_test::mock::spawn_layer::<Frame, Reply, _>(layered);
        handle.allow(0);
        assert!(stack.poll_ready().is_pending());
        handle.allow(1);
        assert!(stack.poll_ready().is_ready());
        let call = tokio_test::task::spawn(stack.call(test_util::frame(Kind::Data, "")));
        handle.next_request().await.unwrap().1.send_error("broken");
        assert_eq!(call.await.unwrap_err().to_string(), "broken");
        handle.send_error("gone");
        let Poll::Ready(Err(error)) = stack.poll_ready() else {
            panic!("a service that is gone is no longer ready");
        };
        assert_eq!(error.to_string(), "gone");
    }
}
