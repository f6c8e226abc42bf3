//! The courier's envelope: encoding messages as bytes.
//!
//! ```text
//! MessagePack   [type: str, headers: nil or map of str to any, body: any]
//! JSON          {"type": str, "body": any, "headers": object}
//! ```
//!
//! A [`Codec`] decodes and encodes envelopes in one of these [`Format`]s. Decoding scans the
//! structure of the whole payload, but builds nothing from the body: it stays a slice of the
//! payload until a handler calls [`Message::body`]. The nesting depth is limited, and checked
//! before anything is built.
//!
//! - In MessagePack, an array of another length and bytes after the body are errors.
//! - In JSON, keys may come in any order, and the last of duplicate keys wins. `headers` is omitted
//!   when empty, a missing body reads as `{}`, and other keys are ignored. This is compatible with
//!   Node's courier, which uses `JSON.stringify` and `JSON.parse`.
//!
//! Both formats hold values in their human-readable form (an `IpAddr` is a string), and structs as
//! maps, so that a message means the same in either. Sending a value that the format cannot
//! represent is an error: in JSON, NaN, infinities, and map keys that are not strings, numbers or
//! booleans; in MessagePack, numbers of JSON text that are integers of more than 64 bits, or that
//! have more digits than a float keeps. 128-bit integers of Rust values are numbers in JSON, and 16
//! bytes in MessagePack.
//!
//! ```
//! use bytes::Bytes;
//! use coalescent::{Message, codec::Codec};
//!
//! let codec = Codec::json();
//! let payload = codec.encode(&Message::new("beep", &["boop"]))?;
//! assert_eq!(&payload[..], br#"{"type":"beep","body":["boop"]}"#);
//!
//! let message = codec.decode(&payload)?;
//! assert_eq!(message.kind(), "beep");
//! assert_eq!(message.body::<Vec<String>>()?, ["boop"]);
//! # Ok::<(), coalescent::codec::CodecError>(())
//! ```

pub(crate) mod depth;
pub(crate) mod error;
mod json;
pub(crate) mod msgpack;
mod scratch;
mod seal;
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
pub use self::seal::Seal;
use super::Message;

/// The encoding of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// MessagePack, with structs as maps.
    MessagePack,
    /// JSON.
    Json,
}

/// An encoder and decoder between payloads and [`Message`]s.
///
/// One codec serves a whole mesh. It has no mutable state, and is cheap to clone.
///
/// ```
/// use coalescent::Message;
/// use coalescent::codec::{Codec, Format};
///
/// let codec = Codec::json().type_param("t").body_param("b");
/// let payload = codec.encode(&Message::new("beep", &[1, 2]))?;
/// assert_eq!(payload, r#"{"t":"beep","b":[1,2]}"#);
///
/// let message = codec.decode(&payload)?;
/// assert_eq!((message.kind(), message.format()), ("beep", Format::Json));
/// assert_eq!(message.body::<Vec<u8>>()?, [1, 2]);
/// assert!(codec.decode(&"beep".into()).unwrap_err().is_envelope());
/// # Ok::<(), coalescent::codec::CodecError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Codec {
    format: Format,
    /// At most [`MAX_DEPTH`].
    max_depth: u8,
    /// The JSON keys, if they were renamed.
    keys: Option<Arc<Keys>>,
    seal: Option<Arc<dyn Seal>>,
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

/// The JSON key that holds the headers.
const HEADERS: &str = "headers";

impl Codec {
    /// Creates a codec for the MessagePack envelope.
    #[must_use]
    pub fn msgpack() -> Self {
        Self::new(Format::MessagePack)
    }

    /// Creates a codec for the JSON envelope, with the keys `type` and `body`.
    #[must_use]
    pub fn json() -> Self {
        Self::new(Format::Json)
    }

    fn new(format: Format) -> Self {
        Self {
            format,
            max_depth: MAX_DEPTH as u8,
            keys: None,
            seal: None,
        }
    }

    fn keys(&self) -> &Keys {
        self.keys.as_deref().unwrap_or(&KEYS)
    }

    fn max(&self) -> usize {
        usize::from(self.max_depth)
    }

    /// Sets the JSON key of the type. Default: `type`. Has no effect on MessagePack, which has no
    /// keys.
    ///
    /// # Panics
    ///
    /// Panics if the key is `headers` or equals the key of the body.
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

    /// Sets the JSON key of the body. Default: `body`. Has no effect on MessagePack, which has no
    /// keys.
    ///
    /// # Panics
    ///
    /// Panics if the key is `headers` or equals the key of the type.
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

    /// Sets the maximum nesting depth of arrays and maps in a body. Default and upper bound:
    /// [`MAX_DEPTH`].
    #[must_use]
    pub fn max_depth(mut self, depth: usize) -> Self {
        self.max_depth = depth.min(MAX_DEPTH) as u8;
        self
    }

    /// Returns the format of the envelope and of the bodies that it contains.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Decodes the envelope of a payload. The body of the message is a slice of the payload.
    ///
    /// # Errors
    ///
    /// Returns an error that
    /// - [`is_too_deep`](CodecError::is_too_deep) if the payload nests deeper than allowed,
    /// - [`is_envelope`](CodecError::is_envelope) if it is invalid in any other way.
    pub fn decode(&self, payload: &Bytes) -> Result<Message, CodecError> {
        self.decode_owned(payload.clone())
    }

    /// Decodes the envelope of a payload like [`Codec::decode`], but takes the payload instead of
    /// cloning it.
    ///
    /// # Errors
    ///
    /// Fails as [`Codec::decode`] does.
    pub fn decode_owned(&self, payload: Bytes) -> Result<Message, CodecError> {
        match self.format {
            Format::MessagePack => msgpack::decode(payload, self.max()),
            Format::Json => json::decode(self, payload),
        }
    }

    /// Encodes a message. A body or header in the other format is converted.
    ///
    /// # Errors
    ///
    /// Returns an error that
    /// - [`is_encode`](CodecError::is_encode) if the message was created from a value that cannot
    ///   be serialized,
    /// - [`is_too_deep`](CodecError::is_too_deep) if it nests deeper than allowed, so that peers
    ///   would reject it,
    /// - [`is_body`](CodecError::is_body) or [`is_header`](CodecError::is_header) if the message
    ///   was created from bytes that are invalid in their format, or that the other format cannot
    ///   represent.
    pub fn encode(&self, message: &Message) -> Result<Bytes, CodecError> {
        self.check(message)?;
        if self.seal.is_some() {
            return self.encode_sealed(message.clone());
        }
        match self.format {
            Format::MessagePack => match message.envelope() {
                Some(envelope) => Ok(envelope.clone()),
                None => msgpack::encode(message),
            },
            Format::Json => json::encode(self, message),
        }
    }

    /// Encodes a message like [`Codec::encode`], but returns the buffer that [`Message::new`]
    /// wrote, or that the message was decoded from, instead of a clone, if it is the payload.
    ///
    /// # Errors
    ///
    /// Fails as [`Codec::encode`] does.
    pub fn encode_owned(&self, message: Message) -> Result<Bytes, CodecError> {
        self.check(&message)?;
        if self.seal.is_some() {
            return self.encode_sealed(message);
        }
        self.encode_unsealed(message)
    }

    fn encode_unsealed(&self, message: Message) -> Result<Bytes, CodecError> {
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

    /// Serializes `body` directly into a payload: a message of type `kind` without headers.
    ///
    /// # Errors
    ///
    /// Returns an error that
    /// - [`is_encode`](CodecError::is_encode) if the value cannot be serialized,
    /// - [`is_too_deep`](CodecError::is_too_deep) if it nests deeper than allowed, so that peers
    ///   would reject it.
    pub fn encode_body<T>(&self, kind: &str, body: &T) -> Result<Bytes, CodecError>
    where
        T: Serialize + ?Sized,
    {
        if self.seal.is_some() {
            return self.encode_owned(Message::new(kind, body));
        }
        match self.format {
            Format::MessagePack => msgpack::encode_body(kind, body, self.max()),
            Format::Json => json::encode_body(self, kind, body),
        }
    }
}

/// Returns the entries of a validated object of headers.
pub(crate) fn json_headers(map: &[u8]) -> Vec<(Cow<'_, str>, &str)> {
    std::str::from_utf8(map)
        .ok()
        .and_then(json::headers)
        .unwrap_or_default()
}
