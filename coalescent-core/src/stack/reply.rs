//! The response of a peer's stack to a frame.

use bytes::Bytes;

use crate::message::Message;

/// The response of a peer's stack to a frame, which the connection writes to the peer.
///
/// If the frame was a request, the reply answers it (as a REPLY on the native wire). Otherwise it
/// is written as an ordinary frame.
///
/// ```
/// use coalescent::{Message, Reply};
///
/// assert!(matches!(Reply::from(Message::new("pong", &1)), Reply::Message(_)));
/// assert!(Reply::from(()).is_none());
/// // The first that says something.
/// let reply = Reply::None.or(Reply::Payload("pong".into()));
/// assert!(matches!(reply, Reply::Payload(payload) if payload == "pong"));
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Reply {
    /// No reply. A request is answered with "no answer"; otherwise nothing is written.
    #[default]
    None,
    /// A message. The courier encodes it as a payload on the way out.
    Message(Message),
    /// A payload, written as it is.
    Payload(Bytes),
}

impl Reply {
    /// Returns whether this is [`Reply::None`].
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Returns `self`, or `other` if `self` is [`Reply::None`].
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self.is_none() { other } else { self }
    }
}

impl From<()> for Reply {
    fn from((): ()) -> Self {
        Self::None
    }
}

impl From<Message> for Reply {
    fn from(message: Message) -> Self {
        Self::Message(message)
    }
}

impl From<Bytes> for Reply {
    fn from(payload: Bytes) -> Self {
        Self::Payload(payload)
    }
}

impl<T: Into<Self>> From<Option<T>> for Reply {
    fn from(reply: Option<T>) -> Self {
        reply.map_or(Self::None, Into::into)
    }
}
