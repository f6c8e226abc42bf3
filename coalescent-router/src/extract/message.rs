use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::ops::Deref;

use coalescent_core::codec::CodecError;
use coalescent_core::{Frame, Message};
use serde::de::DeserializeOwned;

use super::rejection::MessageRejection;
use super::{FromFrame, FromFrameParts, OptionalFromFrameParts};

impl<S: Sync> FromFrameParts<S> for Message {
    type Rejection = MessageRejection;

    const AT_ONCE: bool = true;

    async fn from_frame_parts(frame: &mut Frame, _state: &S) -> Result<Self, MessageRejection> {
        frame.message().cloned().ok_or_else(MessageRejection::new)
    }
}

impl<S: Sync> OptionalFromFrameParts<S> for Message {
    type Rejection = Infallible;

    const AT_ONCE: bool = true;

    async fn from_frame_parts(frame: &mut Frame, _state: &S) -> Result<Option<Self>, Infallible> {
        Ok(frame.message().cloned())
    }
}

/// Extracts the whole frame.
impl<S: Sync> FromFrame<S> for Frame {
    type Rejection = Infallible;

    async fn from_frame(frame: Frame, _state: &S) -> Result<Self, Infallible> {
        Ok(frame)
    }
}

/// An extractor of the message's type, which is text chosen by the peer.
///
/// ```
/// use coalescent::{IntoReply, Router, extract::Type};
/// # use coalescent::{Frame, Message, Reply, test_util, wire::Kind};
/// # use tower::ServiceExt;
///
/// async fn unknown(Type(kind): Type) -> impl IntoReply {
///     ("unknown", format!("nobody knows {kind:?} here"))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), coalescent::BoxError> {
/// let router: Router = Router::new().fallback(unknown);
/// # let mut frame = test_util::frame(Kind::Data, "");
/// # frame.set_message(Message::new("boop", &()));
/// # let Reply::Message(reply) = router.into_service().oneshot(frame).await? else { panic!() };
/// # assert_eq!(reply.body::<String>()?, "nobody knows \"boop\" here");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Type(pub String);

impl<S: Sync> FromFrameParts<S> for Type {
    type Rejection = MessageRejection;

    const AT_ONCE: bool = true;

    async fn from_frame_parts(frame: &mut Frame, _state: &S) -> Result<Self, MessageRejection> {
        let message = frame.message().ok_or_else(MessageRejection::new)?;
        Ok(Self(message.kind().to_owned()))
    }
}

impl Deref for Type {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An extractor of the message's headers, which are decoded on access.
///
/// ```
/// use coalescent::codec::CodecError;
/// use coalescent::{IntoReply, Router, extract::Headers};
/// # use coalescent::{Frame, Message, Reply, test_util, wire::Kind};
/// # use tower::ServiceExt;
///
/// async fn hops(headers: Headers) -> Result<impl IntoReply, CodecError> {
///     let hops: u8 = headers.get("hops").transpose()?.unwrap_or(0);
///     Ok(("hops", hops))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), coalescent::BoxError> {
/// let router: Router = Router::new().route("hops", hops);
/// # let mut frame = test_util::frame(Kind::Data, "");
/// # frame.set_message(Message::new("hops", &()).with_header("hops", &3));
/// # let Reply::Message(reply) = router.into_service().oneshot(frame).await? else { panic!() };
/// # assert_eq!(reply.body::<u8>()?, 3);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Headers(Message);

impl Headers {
    /// Decodes the header `key`, or returns `None` if there is no such header.
    ///
    /// # Errors
    ///
    /// The inner result fails with [`is_header`](CodecError::is_header) if the header is not a `T`.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<Result<T, CodecError>> {
        self.0.header(key)
    }

    /// Returns whether there is a header `key`.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.keys().any(|other| other == key)
    }

    /// Returns an iterator over the keys, in the order of the message.
    pub fn keys(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.0.headers()
    }
}

impl<S: Sync> FromFrameParts<S> for Headers {
    type Rejection = MessageRejection;

    const AT_ONCE: bool = true;

    async fn from_frame_parts(frame: &mut Frame, _state: &S) -> Result<Self, MessageRejection> {
        let message = frame.message().ok_or_else(MessageRejection::new)?;
        Ok(Self(message.clone()))
    }
}
