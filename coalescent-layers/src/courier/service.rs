//! The service: payloads into messages on the way in, messages into payloads on the way out.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use coalescent_core::{BoxError, Error, Frame, Reply, codec::CodecError};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::layer::Courier;

/// The service that [`Courier`] puts around one peer's stack.
#[derive(Clone, Debug)]
pub struct CourierService<S> {
    inner: S,
    courier: Courier,
}

impl<S> CourierService<S> {
    pub(super) fn new(inner: S, courier: Courier) -> Self {
        Self { inner, courier }
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

impl<S> Service<Frame> for CourierService<S>
where
    S: Service<Frame, Response = Reply, Error: Into<BoxError>> + Clone,
{
    type Response = Reply;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut frame: Frame) -> Self::Future {
        let state = match self.courier.codec().decode(frame.payload()) {
            Ok(message) => {
                frame.set_message(message);
                State::Message {
                    call: self.inner.call(frame),
                    courier: self.courier.clone(),
                }
            }
            Err(error) => {
                crate::release(&mut self.inner);
                State::Malformed { error: Some(error) }
            }
        };
        ResponseFuture { state }
    }
}

pin_project! {
    /// The response future of [`CourierService`].
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
        Malformed {
            error: Option<CodecError>,
        },
        Message {
            #[pin]
            call: F,
            courier: Courier,
        },
    }
}

impl<F, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Reply, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Reply, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Malformed { error } => Poll::Ready(match error.take() {
                Some(error) => Err(error.into()),
                None => Ok(Reply::None),
            }),
            StateProj::Message { call, courier } => {
                let reply = ready!(call.poll(cx)).map_err(Into::into)?;
                let Reply::Message(message) = reply else {
                    return Poll::Ready(Ok(reply));
                };
                let payload = courier.codec().encode(&message);
                Poll::Ready(match payload {
                    Ok(payload) => Ok(Reply::Payload(payload)),
                    Err(error) => Err(Error::unencodable(error).into()),
                })
            }
        }
    }
}
