use std::ops::{Deref, DerefMut};

use bytes::Bytes;
use coalescent_core::codec::Format;
use coalescent_core::{Frame, Message};
use serde::de::DeserializeOwned;

use super::rejection::{BodyRejection, MessageRejection};
use super::{FromFrameParts, OptionalFromFrameParts};

/// An extractor of the message's body as a `T`.
///
/// `Option<Body<T>>` is `None` if the body is nil (null in JSON) or empty, and still fails for a
/// body that is not a `T`. A body omitted from a JSON message reads as `{}`.
///
/// ```
/// use coalescent::extract::Body;
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Ping {
///     time: u64,
/// }
///
/// async fn ping(Body(ping): Body<Ping>) {
///     println!("{}", ping.time);
/// }
/// # let router: coalescent::Router = coalescent::Router::new().route("ping", ping);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Body<T>(pub T);

fn body<T: DeserializeOwned>(message: &Message) -> Result<Body<T>, BodyRejection> {
    message
        .body()
        .map(Body)
        .map_err(|error| BodyRejection::body::<T>(message.kind(), error))
}

fn is_nil(message: &Message) -> bool {
    const NIL: &[u8] = &[0xc0];
    let bytes = message.body_bytes();
    let nil: &[u8] = match message.format() {
        Format::MessagePack => NIL,
        _ => b"null",
    };
    bytes.is_empty() || bytes.trim_ascii() == nil
}

impl<S, T> FromFrameParts<S> for Body<T>
where
    S: Sync,
    T: DeserializeOwned,
{
    type Rejection = BodyRejection;

    const AT_ONCE: bool = true;

    async fn from_frame_parts(frame: &mut Frame, _state: &S) -> Result<Self, BodyRejection> {
        let message = frame.message().ok_or_else(BodyRejection::no_message)?;
        body(message)
    }
}

impl<S, T> OptionalFromFrameParts<S> for Body<T>
where
    S: Sync,
    T: DeserializeOwned,
{
    type Rejection = BodyRejection;

    const AT_ONCE: bool = true;

    async fn from_frame_parts(
        frame: &mut Frame,
        _state: &S,
    ) -> Result<Option<Self>, BodyRejection> {
        let message = frame.message().ok_or_else(BodyRejection::no_message)?;
        if is_nil(message) {
            return Ok(None);
        }
        body(message).map(Some)
    }
}

impl<T> Deref for Body<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Body<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// An extractor of the message's body in its encoded form, as a slice of the payload.
///
/// ```
/// use coalescent::{IntoReply, Router, extract::RawBody};
/// # use coalescent::{Frame, Message, Reply, test_util, wire::Kind};
/// # use tower::ServiceExt;
///
/// /// Keeps what it does not look into.
/// async fn keep(body: RawBody) -> impl IntoReply {
///     ("kept", (format!("{:?}", body.format), body.bytes.len()))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), coalescent::BoxError> {
/// let router: Router = Router::new().route("keep", keep);
/// # let mut frame = test_util::frame(Kind::Data, "");
/// # frame.set_message(Message::new("keep", "four"));
/// # let Reply::Message(kept) = router.into_service().oneshot(frame).await? else { panic!() };
/// # assert_eq!(kept.body::<(String, usize)>()?, ("MessagePack".into(), 5));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RawBody {
    /// The format of the bytes.
    pub format: Format,
    /// One value in that format.
    pub bytes: Bytes,
}

impl<S: Sync> FromFrameParts<S> for RawBody {
    type Rejection = MessageRejection;

    const AT_ONCE: bool = true;

    async fn from_frame_parts(frame: &mut Frame, _state: &S) -> Result<Self, MessageRejection> {
        let message = frame.message().ok_or_else(MessageRejection::new)?;
        Ok(Self {
            format: message.format(),
            bytes: message.body_to_bytes(),
        })
    }
}

/// Extracts the frame's whole payload, including the envelope of the message.
impl<S: Sync> FromFrameParts<S> for Bytes {
    type Rejection = std::convert::Infallible;

    const AT_ONCE: bool = true;

    async fn from_frame_parts(frame: &mut Frame, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(frame.payload_bytes())
    }
}
