//! A message as bytes: the courier's envelope.
//!
//! ```text
//! MessagePack   [type: str, headers: nil or map of str to any, body: any]
//! JSON          {"type": str, "body": any, "headers": object}
//! ```
//!
//! A [`Codec`] opens and closes envelopes of one of these [`Format`]s. It looks at the structure of
//! the whole payload, but builds nothing from the body: that stays a slice of the payload until a
//! handler asks for it with [`Message::body`]. Nesting is limited, and measured before
//! anything is built.
//!
//! - In MessagePack an array of another length, or bytes after the body, are an error.
//! - In JSON keys come in any order, and the last of equal ones counts; `headers` is left out when
//!   empty; a missing body reads as `{}`; other keys are ignored. It is what Node's courier writes
//!   and reads with `JSON.stringify` and `JSON.parse`.
//!
//! Both formats hold values in their human-readable form (an `IpAddr` is a string), and structs as
//! maps, so that a message says the same in either. What one format has and the other lacks is an
//! error for whoever sends it, and arrives as nothing else: in JSON, NaN, infinities, and keys of
//! maps that are neither text nor numbers nor booleans; in MessagePack, numbers of JSON text that
//! are integers of more than 64 bits, or have digits that a float does not keep. A Rust value's
//! integers of 128 bits are numbers in JSON, and 16 bytes in MessagePack.
//!
//! ```
//! use bytes::Bytes;
//! use coalescent_core::{Message, codec::Codec};
//!
//! let codec = Codec::json();
//! let payload = codec.encode(&Message::new("beep", &["boop"]))?;
//! assert_eq!(&payload[..], br#"{"type":"beep","body":["boop"]}"#);
//!
//! let message = codec.decode(&payload)?;
//! assert_eq!(message.kind(), "beep");
//! assert_eq!(message.body::<Vec<String>>()?, ["boop"]);
//! # Ok::<(), coalescent_core::codec::CodecError>(())
//! ```

pub(crate) mod depth;
pub(crate) mod error;
mod json;
pub(crate) mod msgpack;
mod scratch;
pub(crate) mod transcode;
pub(crate) mod value;
mod watch;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod values_tests;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

pub use self::depth::MAX_DEPTH;
pub use self::error::CodecError;
pub(crate) use self::scratch::SHARED_MAX;
use super::Message;

/// Names how a value stands in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// MessagePack, with structs as maps.
    MessagePack,
    /// JSON.
    Json,
}

/// Turns payloads into [`Message`]s, and back.
///
/// One codec serves a whole mesh; it keeps no state, and is cheap to clone.
#[derive(Clone, Debug)]
pub struct Codec {
    format: Format,
    /// At most [`MAX_DEPTH`].
    max_depth: u8,
    /// The JSON keys, where they were named.
    keys: Option<Arc<Keys>>,
}

#[derive(Clone, Debug)]
struct Keys {
    kind: Cow<'static, str>,
    body: Cow<'static, str>,
}

const _: () = assert!(MAX_DEPTH <= u8::MAX as usize);

static KEYS: Keys = Keys {
    kind: Cow::Borrowed("type"),
    body: Cow::Borrowed("body"),
};

/// The JSON key of the headers.
const HEADERS: &str = "headers";

impl Codec {
    /// Creates a codec of the MessagePack envelope.
    #[must_use]
    pub fn msgpack() -> Self {
        Self::new(Format::MessagePack)
    }

    /// Creates a codec of the JSON envelope, with the keys `type` and `body`.
    #[must_use]
    pub fn json() -> Self {
        Self::new(Format::Json)
    }

    fn new(format: Format) -> Self {
        Self {
            format,
            max_depth: MAX_DEPTH as u8,
            keys: None,
        }
    }

    fn keys(&self) -> &Keys {
        self.keys.as_deref().unwrap_or(&KEYS)
    }

    fn max(&self) -> usize {
        usize::from(self.max_depth)
    }

    /// Sets the JSON key of the type. Default: `type`. MessagePack has no keys.
    ///
    /// # Panics
    ///
    /// If it is `headers`, or the key of the body: a message would have no place for one of them.
    #[must_use]
    #[track_caller]
    pub fn type_param(mut self, key: impl Into<Cow<'static, str>>) -> Self {
        let body = self.keys().body.clone();
        self.set_keys(Keys {
            kind: key.into(),
            body,
        });
        self
    }

    /// Sets the JSON key of the body. Default: `body`. MessagePack has no keys.
    ///
    /// # Panics
    ///
    /// If it is `headers`, or the key of the type: a message would have no place for one of them.
    #[must_use]
    #[track_caller]
    pub fn body_param(mut self, key: impl Into<Cow<'static, str>>) -> Self {
        let kind = self.keys().kind.clone();
        self.set_keys(Keys {
            kind,
            body: key.into(),
        });
        self
    }

    #[track_caller]
    fn set_keys(&mut self, keys: Keys) {
        let Keys { kind, body } = &keys;
        assert!(
            kind != body && kind != HEADERS && body != HEADERS,
            "the keys of a message's type ({kind:?}) and body ({body:?}) must differ from each other \
             and from \"headers\": choose other names",
        );
        self.keys = Some(Arc::new(keys));
    }

    /// Sets how deep the arrays and maps of a body may nest. Default, and highest: [`MAX_DEPTH`].
    #[must_use]
    pub fn max_depth(mut self, depth: usize) -> Self {
        self.max_depth = depth.min(MAX_DEPTH) as u8;
        self
    }

    /// Returns the format of the envelope, and of the bodies in it.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Opens the envelope of a payload. The body of the message is a slice of it.
    ///
    /// # Errors
    ///
    /// - [`is_too_deep`](CodecError::is_too_deep) if it nests deeper than allowed,
    /// - [`is_envelope`](CodecError::is_envelope) if it is otherwise no message.
    pub fn decode(&self, payload: &Bytes) -> Result<Message, CodecError> {
        self.decode_owned(payload.clone())
    }

    /// Opens the envelope of a payload, as [`Codec::decode`], and keeps the payload itself in place
    /// of a clone.
    ///
    /// # Errors
    ///
    /// As [`Codec::decode`].
    pub fn decode_owned(&self, payload: Bytes) -> Result<Message, CodecError> {
        match self.format {
            Format::MessagePack => msgpack::decode(payload, self.max()),
            Format::Json => json::decode(self, payload),
        }
    }

    /// Closes a message into a payload. A body or header of the other format is converted.
    ///
    /// # Errors
    ///
    /// - [`is_encode`](CodecError::is_encode) if the message was made of a value that cannot be
    ///   serialized,
    /// - [`is_too_deep`](CodecError::is_too_deep) if it nests deeper than allowed: no peer would
    ///   take it,
    /// - [`is_body`](CodecError::is_body) or [`is_header`](CodecError::is_header) if the bytes that
    ///   the message was made of are not in the format they are said to be, or have no equal in the
    ///   other one.
    pub fn encode(&self, message: &Message) -> Result<Bytes, CodecError> {
        self.check(message)?;
        match self.format {
            Format::MessagePack => match message.envelope() {
                Some(envelope) => Ok(envelope.clone()),
                None => msgpack::encode(message),
            },
            Format::Json => json::encode(self, message),
        }
    }

    /// Closes a message into a payload, as [`Codec::encode`], and takes the bytes that
    /// [`Message::new`] wrote or that it was decoded from in place of a clone, where they are that
    /// payload.
    ///
    /// # Errors
    ///
    /// As [`Codec::encode`].
    pub fn encode_owned(&self, message: Message) -> Result<Bytes, CodecError> {
        self.check(&message)?;
        match self.format {
            Format::MessagePack => message.into_envelope().or_else(|it| msgpack::encode(&it)),
            Format::Json => json::encode(self, &message),
        }
    }

    fn check(&self, message: &Message) -> Result<(), CodecError> {
        message.check()?;
        if self.max() < MAX_DEPTH {
            value::check_depth(message.format(), message.body_bytes(), self.max())?;
        }
        Ok(())
    }

    /// Serializes `body` straight into a payload, as a message of type `kind` without headers.
    ///
    /// # Errors
    ///
    /// - [`is_encode`](CodecError::is_encode) if the value cannot be serialized,
    /// - [`is_too_deep`](CodecError::is_too_deep) if it nests deeper than allowed: no peer would
    ///   take it.
    pub fn encode_body<T>(&self, kind: &str, body: &T) -> Result<Bytes, CodecError>
    where
        T: Serialize + ?Sized,
    {
        match self.format {
            Format::MessagePack => msgpack::encode_body(kind, body, self.max()),
            Format::Json => json::encode_body(self, kind, body),
        }
    }
}

/// Returns the entries of a checked object of headers.
pub(crate) fn json_headers(map: &[u8]) -> Vec<(Cow<'_, str>, &str)> {
    std::str::from_utf8(map)
        .ok()
        .and_then(json::headers)
        .unwrap_or_default()
}
