//! Messages: what the courier passes to handlers. A message has a type, a body, and optional
//! headers.

mod body;
pub mod codec;
mod headers;
mod kinds;
mod parts;
mod topic;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

pub use self::kinds::{Ask, MessageType};
use self::parts::Extra;
pub(crate) use self::parts::{Json, Parts, Span, Value};
pub use self::topic::TopicName;
use crate::message::codec::error::ErrorKind;
use crate::message::codec::{CodecError, Format, MAX_DEPTH, msgpack, value};

/// A message between applications: a type, a body, and optional headers.
///
/// Cheap to clone, since its parts are shared. The body stays encoded until [`Message::body`]
/// deserializes it; the resulting value may borrow from the message.
///
/// ```
/// use coalescent::Message;
///
/// let message = Message::new("ping", &42).with_header("hops", &3);
/// assert_eq!(message.kind(), "ping");
/// assert_eq!(message.body::<u32>()?, 42);
/// assert_eq!(message.header::<u8>("hops").transpose()?, Some(3));
/// assert!(message.body::<String>().unwrap_err().is_body());
/// # Ok::<(), coalescent::codec::CodecError>(())
/// ```
#[derive(Clone)]
pub struct Message {
    /// An envelope, or only an encoded body.
    bytes: Bytes,
    /// Valid UTF-8. Unused if `extra` holds the type.
    kind: Span,
    /// A map in `format`. Unused if `extra` holds the headers.
    headers: Span,
    /// One validated value in `format`, unless `extra` holds an error.
    body: Span,
    format: Format,
    /// Whether `bytes` is a MessagePack envelope that encodes exactly this message.
    sealed: bool,
    extra: Option<Arc<Extra>>,
}

impl Message {
    /// Creates a message with the type that its body declares; see [`Message::new`].
    #[must_use]
    pub fn typed<T: Serialize + MessageType>(body: &T) -> Self {
        Self::new(T::TYPE, body)
    }

    /// Creates a message of type `kind`, and serializes `body` immediately.
    ///
    /// The receiver sees the same values whichever format the courier uses. Values that a format
    /// cannot represent are an error when the message is encoded in that format: in JSON these are
    /// NaN, infinities, and map keys that are not strings, numbers or booleans.
    ///
    /// This function does not fail. If the body cannot be serialized, or nests deeper than
    /// [`MAX_DEPTH`], [`Codec::encode`](crate::message::codec::Codec::encode) and [`Message::body`]
    /// return the error.
    #[must_use]
    pub fn new<T>(kind: impl AsRef<str>, body: &T) -> Self
    where
        T: Serialize + ?Sized,
    {
        let kind = kind.as_ref();
        msgpack::message(kind, body, MAX_DEPTH).unwrap_or_else(|error| {
            Self::of_body(kind, Format::MessagePack, Bytes::new()).with_error(error)
        })
    }

    /// Creates a message from an encoded body: one value in `format`.
    ///
    /// This function does not fail; see [`Message::new`]. If the bytes are not one such value,
    /// encoding the message fails.
    #[must_use]
    pub fn encoded(kind: impl AsRef<str>, format: Format, body: Bytes) -> Self {
        let check = value::check(ErrorKind::Body, format, &body, MAX_DEPTH)
            .and_then(|()| Span::check(&body));
        let span = Span::new(0, body.len());
        let mut message = Self::of_body(kind.as_ref(), format, body);
        if let Err(error) = check {
            return message.with_error(error);
        }
        message.body = span;
        message
    }

    /// Creates a message whose body has not been located in `bytes` yet.
    fn of_body(kind: &str, format: Format, bytes: Bytes) -> Self {
        let parts = Parts {
            kind: Span::NONE,
            headers: Span::NONE,
            body: Span::NONE,
        };
        Self::opened(bytes, format, parts, Some(kind.into()))
    }

    /// Creates a message from a MessagePack envelope.
    #[inline]
    pub(crate) fn sealed(envelope: Bytes, parts: Parts) -> Self {
        Self {
            bytes: envelope,
            kind: parts.kind,
            headers: parts.headers,
            body: parts.body,
            format: Format::MessagePack,
            sealed: true,
            extra: None,
        }
    }

    /// Creates a message from bytes that contain its parts, except for the type if `kind` is given.
    pub(crate) fn opened(
        bytes: Bytes,
        format: Format,
        parts: Parts,
        kind: Option<Box<str>>,
    ) -> Self {
        let extra = kind.map(|kind| {
            Arc::new(Extra {
                kind: Some(kind),
                ..Extra::default()
            })
        });
        Self {
            bytes,
            kind: parts.kind,
            headers: parts.headers,
            body: parts.body,
            format,
            sealed: false,
            extra,
        }
    }

    fn extra_mut(&mut self) -> &mut Extra {
        Arc::make_mut(self.extra.get_or_insert_default())
    }

    fn with_error(mut self, error: CodecError) -> Self {
        self.extra_mut().error.get_or_insert(error);
        self
    }

    /// Returns the message's type, by which messages are routed.
    #[doc(alias = "type")]
    #[inline]
    #[must_use]
    pub fn kind(&self) -> &str {
        match self.extra.as_deref() {
            Some(Extra {
                kind: Some(kind), ..
            }) => kind,
            // Validated when the message was created.
            _ => std::str::from_utf8(self.kind.get(&self.bytes)).unwrap_or_default(),
        }
    }

    /// Returns the bytes of [`Message::kind`]. Use it for lookups: unlike `kind`, it does not
    /// validate the UTF-8 again on each call.
    #[inline]
    #[must_use]
    pub fn kind_bytes(&self) -> &[u8] {
        match self.extra.as_deref() {
            Some(Extra {
                kind: Some(kind), ..
            }) => kind.as_bytes(),
            _ => self.kind.get(&self.bytes),
        }
    }

    /// Returns the MessagePack envelope that encodes exactly this message, if it exists already.
    pub(crate) fn envelope(&self) -> Option<&Bytes> {
        self.sealed.then_some(&self.bytes)
    }

    /// Returns the MessagePack envelope that encodes exactly this message; gives the message back
    /// if none exists.
    pub(crate) fn into_envelope(self) -> Result<Bytes, Self> {
        if self.sealed {
            Ok(self.bytes)
        } else {
            Err(self)
        }
    }

    #[inline]
    pub(crate) fn check(&self) -> Result<(), CodecError> {
        match self.extra.as_deref() {
            Some(Extra {
                error: Some(error), ..
            }) => Err(error.clone()),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("kind", &self.kind())
            .field("format", &self.format)
            .field("body_len", &self.body_bytes().len())
            .field("error", &self.check().err())
            .finish_non_exhaustive()
    }
}
