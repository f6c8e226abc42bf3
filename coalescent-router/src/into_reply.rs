//! What a handler may return.

use std::convert::Infallible;

use bytes::Bytes;
use coalescent_core::{BoxError, Message, Reply};
use serde::Serialize;

/// Makes a [`Reply`] of what a handler returns.
///
/// | returned | the peer gets |
/// |---|---|
/// | `()` | what the services further in answer |
/// | [`Message`] | the message |
/// | `("pong", body)` | a message of that type and body |
/// | [`Bytes`] | the bytes, as they are |
/// | [`Reply`] | that |
/// | `Option<T>` | `T`; for `None` as for `()` |
/// | `Result<T, E>` | `T`; an error fails the frame |
///
/// The peer is the one that the frame came from. With relays in between, that is not the author of
/// a broadcast: an answer goes one step back, and no further. Where the peer has a handler for it,
/// that may answer in turn: two nodes that answer each other's answers never end.
///
/// A frame that failed goes no further: the error becomes an event of the mesh, and where the peer
/// asked with a request, it is told so, with the beginning of the error's text.
///
/// ```
/// use coalescent_router::{IntoReply, extract::Body};
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
    /// Makes the reply.
    ///
    /// # Errors
    ///
    /// The error that the frame failed with.
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
