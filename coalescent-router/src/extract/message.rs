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

/// The frame, whole.
impl<S: Sync> FromFrame<S> for Frame {
    type Rejection = Infallible;

    async fn from_frame(frame: Frame, _state: &S) -> Result<Self, Infallible> {
        Ok(frame)
    }
}

/// Extracts the message's type. The text is the peer's own.
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

/// Extracts the message's headers. They are read when asked for.
#[derive(Clone, Debug)]
pub struct Headers(Message);

impl Headers {
    /// Builds a value of the header `key`; `None` if there is no such header.
    ///
    /// # Errors
    ///
    /// The result inside [`is_header`](CodecError::is_header) if the header is no `T`.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<Result<T, CodecError>> {
        self.0.header(key)
    }

    /// Tells whether there is a header `key`.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.keys().any(|other| other == key)
    }

    /// Iterates over the keys, in their order in the message.
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
