//! The values that a handler may return.

use std::convert::Infallible;

use bytes::Bytes;
use coalescent_core::{BoxError, Message, Reply};
use serde::Serialize;

/// A conversion of a handler's return value into a [`Reply`].
///
/// | returned | reply to the peer |
/// |---|---|
/// | `()` | the reply of the inner services, if any |
/// | [`Message`] | the message |
/// | `("pong", body)` | a message of that type and body |
/// | [`Bytes`] | the bytes, unchanged |
/// | [`Reply`] | itself |
/// | `Option<T>` | `T`; `None` is the same as `()` |
/// | `Result<T, E>` | `T`; an error fails the frame |
///
/// The reply goes to the peer that delivered the frame. If relays lie between, that is not the
/// author of a broadcast: a reply travels one hop only. If that peer has a handler for the reply's
/// type, it may reply in turn; two nodes that reply to each other's replies never stop.
///
/// A frame whose handler failed goes no further. A request is answered with the beginning of the
/// error's text, at most 256 bytes, and the error becomes an event of the mesh, unless it is a
/// [`Refusal`](coalescent_core::Refusal) of a request.
///
/// ```
/// use coalescent::{IntoReply, extract::Body};
///
/// async fn double(Body(text): Body<String>) -> Result<impl IntoReply, std::num::ParseIntError> {
///     let number: u32 = text.parse()?;
///     Ok(("doubled", u64::from(number) * 2))
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no reply",
    label = "cannot be made a reply",
    note = "return `()`, a `Message`, `(\"type\", body)` with a body that is `Serialize`, `Bytes`, a \
            `Reply`, or an `Option` or `Result` of these; the error of a `Result` must be \
            `Into<BoxError>`"
)]
pub trait IntoReply {
    /// Converts the value into a reply.
    ///
    /// # Errors
    ///
    /// The error that the handling of the frame failed with.
    fn into_reply(self) -> Result<Reply, BoxError>;
}

impl IntoReply for () {
    fn into_reply(self) -> Result<Reply, BoxError> {
        Ok(Reply::None)
    }
}

impl IntoReply for Infallible {
    fn into_reply(self) -> Result<Reply, BoxError> {
        match self {}
    }
}

impl IntoReply for Reply {
    fn into_reply(self) -> Result<Reply, BoxError> {
        Ok(self)
    }
}

impl IntoReply for Message {
    fn into_reply(self) -> Result<Reply, BoxError> {
        Ok(Reply::Message(self))
    }
}

impl IntoReply for Bytes {
    fn into_reply(self) -> Result<Reply, BoxError> {
        Ok(Reply::Payload(self))
    }
}

impl<K, T> IntoReply for (K, T)
where
    K: AsRef<str>,
    T: Serialize,
{
    fn into_reply(self) -> Result<Reply, BoxError> {
        let (kind, body) = self;
        Ok(Reply::Message(Message::new(kind, &body)))
    }
}

impl<T: IntoReply> IntoReply for Option<T> {
    fn into_reply(self) -> Result<Reply, BoxError> {
        self.map_or(Ok(Reply::None), IntoReply::into_reply)
    }
}

impl<T, E> IntoReply for Result<T, E>
where
    T: IntoReply,
    E: Into<BoxError>,
{
    fn into_reply(self) -> Result<Reply, BoxError> {
        self.map_err(Into::into)?.into_reply()
    }
}
