//! The service: parses payloads on the way in, encodes messages on the way out.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use coalescent_core::codec::{Codec, CodecError};
use coalescent_core::{BoxError, CloneService, Error, Frame, Reply};
use pin_project_lite::pin_project;
use tower_service::Service;

/// The service that [`Courier`](super::Courier) puts around one peer's stack.
#[derive(Clone, Debug)]
pub struct CourierService<S> {
    inner: S,
    codec: Codec,
}

impl<S> CourierService<S> {
    pub(super) fn new(inner: S, codec: Codec) -> Self {
        Self { inner, codec }
    }

    crate::macros::inner_accessors!(S);
}

impl<S> Service<Frame> for CourierService<S>
where
    S: Service<Frame, Response = Reply, Error: Into<BoxError>> + CloneService,
{
    type Response = Reply;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    #[inline]
    fn call(&mut self, mut frame: Frame) -> Self::Future {
        let state = match self.codec.decode_owned(frame.payload_bytes()) {
            Ok(message) => {
                frame.set_message(message);
                State::Message {
                    call: self.inner.call(frame),
                    codec: self.codec.clone(),
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
            codec: Codec,
        },
    }
}

impl<F, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Reply, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Reply, BoxError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Malformed { error } => Poll::Ready(match error.take() {
                // No version of the courier accepts such a payload, so its sender is at fault.
                Some(error) => Err(Error::offence(error).into()),
                None => Ok(Reply::None),
            }),
            StateProj::Message { call, codec } => Poll::Ready(match ready!(call.poll(cx)) {
                Ok(Reply::Message(message)) => match codec.encode_owned(message) {
                    Ok(payload) => Ok(Reply::Payload(payload)),
                    Err(error) => Err(Error::unencodable(error).into()),
                },
                Ok(reply) => Ok(reply),
                Err(error) => Err(error.into()),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use coalescent_core::wire::Kind;
    use coalescent_core::{Message, test_util};
    use tower::limit::GlobalConcurrencyLimitLayer;
    use tower::{ServiceExt, service_fn};
    use tower_layer::Layer;
    use tower_test::mock;

    use super::*;
    use crate::Courier;

    /// Returns the codec's error in the source chain.
    fn cause(error: &BoxError) -> &CodecError {
        let cause = error.source().and_then(|cause| cause.downcast_ref());
        cause.expect("an error of the codec")
    }

    fn data(payload: &'static str) -> Frame {
        test_util::frame(Kind::Data, payload)
    }

    #[tokio::test]
    async fn parses_on_the_way_in_and_writes_on_the_way_out() {
        let handler = service_fn(async |frame: Frame| {
            let message = frame.message().expect("parsed by the courier");
            let body: String = message.body().unwrap();
            // The body is a slice of the payload, not a copy.
            let (payload, body_bytes) = (frame.payload().as_ptr_range(), message.body_bytes());
            assert!(payload.contains(&body_bytes.as_ptr()));
            Ok::<_, Error>(match body.as_str() {
                "message" => Message::new("re", &body).into(),
                "payload" => Reply::Payload("as it is".into()),
                _ => Reply::None,
            })
        });
        for courier in [
            Courier::new(),
            Courier::json().type_param("t").body_param("b"),
        ] {
            let mut stack = courier.layer(handler);
            let mut answer = async |body: &str| {
                let payload = courier.codec().encode_body("ask", body).unwrap();
                let frame = test_util::frame(Kind::Data, payload);
                stack.ready().await.unwrap().call(frame).await.unwrap()
            };
            let Reply::Payload(payload) = answer("message").await else {
                panic!("a message leaves as a payload");
            };
            let message = courier.codec().decode(&payload).unwrap();
            assert_eq!(message.kind(), "re");
            assert_eq!(message.body::<String>().unwrap(), "message");
            let reply = answer("payload").await;
            assert!(matches!(reply, Reply::Payload(payload) if payload == "as it is"));
            assert!(answer("nothing").await.is_none());
        }
    }

    #[tokio::test]
    async fn options_are_kept_whatever_their_order() {
        let courier = Courier::json().max_depth(1).body_param("b").type_param("t");
        let stack = courier.layer(service_fn(async |frame: Frame| {
            let message = frame.message().expect("parsed by the courier");
            assert_eq!(message.kind(), "ask");
            Ok::<_, Error>(Reply::from(Message::new("re", &[[1]])))
        }));
        // The message is within the depth limit, the reply is not.
        let error = stack
            .clone()
            .oneshot(data(r#"{"t":"ask","b":[1]}"#))
            .await
            .unwrap_err();
        assert!(
            error.downcast_ref::<Error>().unwrap().is_encode(),
            "{error}"
        );
        let error = stack
            .oneshot(data(r#"{"t":"ask","b":[[1]]}"#))
            .await
            .unwrap_err();
        assert!(cause(&error).is_too_deep(), "{error}");
    }

    #[tokio::test]
    async fn a_malformed_payload_is_an_error_and_goes_no_further() {
        let layer = tower_layer::layer_fn(|inner| Courier::json().layer(inner));
        let (mut stack, mut handle) = mock::spawn_layer::<Frame, Reply, _>(layer);
        handle.allow(1);
        assert!(stack.poll_ready().is_ready());
        let error = stack.call(data("{")).await.unwrap_err();
        assert!(cause(&error).is_envelope());
        assert!(error.downcast_ref::<Error>().unwrap().is_offence());

        // The permit was returned.
        handle.allow(0);
        assert!(stack.poll_ready().is_pending());
        handle.allow(1);
        assert!(stack.poll_ready().is_ready());
        // The mock panics if a clone is called that was not made ready.
        let call = tokio_test::task::spawn(stack.call(data(r#"{"type":"beep"}"#)));
        let (frame, answer) = handle.next_request().await.unwrap();
        assert_eq!(
            frame.message().unwrap().kind(),
            "beep",
            "not the malformed one"
        );
        answer.send_error("broken");
        let error = call.await.unwrap_err();
        assert_eq!(error.to_string(), "broken");
        assert!(error.downcast_ref::<Error>().is_none(), "no offence");
    }

    #[tokio::test]
    async fn a_malformed_payload_returns_the_permit_that_other_peers_wait_for() {
        let limit = GlobalConcurrencyLimitLayer::new(1);
        let handler = service_fn(async |_: Frame| Ok::<_, Error>(Reply::None));
        let stack = || tokio_test::task::spawn(Courier::json().layer(limit.layer(handler)));
        let (mut one, mut other) = (stack(), stack());
        assert!(one.enter(|cx, mut one| one.poll_ready(cx)).is_ready());
        assert!(
            other
                .enter(|cx, mut other| other.poll_ready(cx))
                .is_pending()
        );
        one.call(data("{")).await.unwrap_err();
        assert!(other.enter(|cx, mut other| other.poll_ready(cx)).is_ready());
    }
}
