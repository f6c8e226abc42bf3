//! What a peer's stack answers to a frame.

use bytes::Bytes;

use crate::message::Message;

/// What a call through a peer's stack gives back to the connection, which writes it to the peer.
///
/// Where the frame was a request, the reply is its REPLY; otherwise it is a frame of its own.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Reply {
    /// Nothing is written. A request is answered with "no answer".
    #[default]
    None,
    /// A message. The courier makes a payload of it on the way out.
    Message(Message),
    /// Bytes, written as they are.
    Payload(Bytes),
}

impl Reply {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Takes this reply, or `other` where this one is nothing.
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
