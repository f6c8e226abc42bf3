//! Messages: what the courier passes to handlers. A message has a type, a body, and optional
//! headers.

pub mod codec;
mod parts;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::parts::{Entry, Extra, Header};
pub(crate) use self::parts::{Json, Parts, Span, Value};
use crate::message::codec::error::ErrorKind;
use crate::message::codec::transcode::{self, Lossy};
use crate::message::codec::{CodecError, Format, MAX_DEPTH, json_headers, msgpack, value};

/// The body that is read if the sender omitted it.
static EMPTY_BODY: &[u8] = b"{}";

/// A message between applications: a type, a body, and optional headers.
///
/// Cheap to clone, since its parts are shared. The body stays encoded until [`Message::body`]
/// deserializes it; the resulting value may borrow from the message.
///
/// ```
/// use coalescent_core::Message;
///
/// let message = Message::new("ping", &42).with_header("hops", &3);
/// assert_eq!(message.kind(), "ping");
/// assert_eq!(message.body::<u32>()?, 42);
/// assert_eq!(message.header::<u8>("hops").transpose()?, Some(3));
/// assert!(message.body::<String>().unwrap_err().is_body());
/// # Ok::<(), coalescent_core::codec::CodecError>(())
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

/// Names the message type whose body a Rust type is, so that neither side has to spell the name.
///
/// ```
/// use coalescent_core::{Message, MessageType};
/// use serde::Serialize;
///
/// #[derive(Serialize)]
/// struct Ping {
///     time: u64,
/// }
///
/// impl MessageType for Ping {
///     const TYPE: &'static str = "ping";
/// }
///
/// assert_eq!(Message::typed(&Ping { time: 1 }).kind(), "ping");
/// ```
pub trait MessageType {
    /// The type of the messages that have this body.
    const TYPE: &'static str;
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

    /// Returns the format of [`Message::body_bytes`].
    #[inline]
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Returns the encoded body; empty if it could not be serialized.
    #[inline]
    #[must_use]
    pub fn body_bytes(&self) -> &[u8] {
        if self.body == Span::LEFT_OUT {
            EMPTY_BODY
        } else {
            self.body.get(&self.bytes)
        }
    }

    /// Returns the encoded body as a slice that shares the message's buffer, and keeps it alive.
    #[must_use]
    pub fn body_to_bytes(&self) -> Bytes {
        if self.body == Span::LEFT_OUT {
            Bytes::from_static(EMPTY_BODY)
        } else {
            self.bytes.slice_ref(self.body_bytes())
        }
    }

    /// Deserializes the body. A unit type also accepts an omitted or empty body.
    ///
    /// The value may borrow from the message:
    ///
    /// ```
    /// use coalescent_core::Message;
    /// use serde::Deserialize;
    ///
    /// #[derive(Deserialize)]
    /// struct Line<'a> {
    ///     number: u64,
    ///     text: &'a str,
    /// }
    ///
    /// # #[derive(serde::Serialize)]
    /// # struct Owned { number: u64, text: String }
    /// # let body = Owned { number: 1, text: "beep".to_owned() };
    /// let message = Message::new("line", &body);
    /// let line: Line = message.body()?;
    /// assert_eq!((line.number, line.text), (1, "beep"));
    /// # Ok::<(), coalescent_core::codec::CodecError>(())
    /// ```
    ///
    /// In JSON, a string with escapes cannot be borrowed as `&str`; use `Cow<str>` with
    /// `#[serde(borrow)]`.
    ///
    /// # Errors
    ///
    /// Returns an error that [`is_body`](CodecError::is_body) if the body is not a valid `T`; the
    /// text names the type. Also returns the error of a body that could not be serialized.
    pub fn body<'de, T: Deserialize<'de>>(&'de self) -> Result<T, CodecError> {
        self.check()?;
        value::read(ErrorKind::Body, self.format, self.body_bytes())
    }

    /// Deserializes the body into a JSON value, as written by [`Message::body_to_json_string`].
    ///
    /// The value takes many times the memory of the body: some 40 bytes for each byte of a long
    /// list of nils.
    ///
    /// # Errors
    ///
    /// Fails as [`Message::body_to_json_string`] does. Also returns an error that
    /// [`is_body`](CodecError::is_body) for JSON that a value cannot hold, such as an unpaired
    /// surrogate.
    pub fn body_value(&self) -> Result<serde_json::Value, CodecError> {
        let json = self.body_to_json_string()?;
        value::read(ErrorKind::Body, Format::Json, json.as_bytes())
    }

    /// Returns the body as one line of JSON, whatever its format.
    ///
    /// Every MessagePack value has a form here, so that it can be displayed, although a message
    /// with a value that JSON lacks cannot be sent as JSON. Values that JSON lacks are converted:
    /// NaN and infinities to null; binary to an array of numbers; an extension to an array of its
    /// type and its bytes; keys that are not strings to the text of a number, boolean or null,
    /// otherwise to hex. The text is at most 7 times as long as the body.
    ///
    /// # Errors
    ///
    /// Never fails for a decoded message. Otherwise returns the error of a body that could not be
    /// serialized.
    pub fn body_to_json_string(&self) -> Result<String, CodecError> {
        self.check()?;
        let json = match (self.body_json(), self.format) {
            (Some(json), _) => json.clone()?.into(),
            (None, Format::Json) => transcode::one_line(self.body_bytes()),
            (None, Format::MessagePack) => {
                let bytes = self.body_bytes();
                let mut out = Vec::with_capacity(bytes.len().saturating_mul(2));
                transcode::msgpack_to_json(bytes, &mut out, Lossy::Shown)
                    .map_err(|why| CodecError::new(ErrorKind::Body, &why))?;
                out
            }
        };
        String::from_utf8(json).map_err(|error| CodecError::new(ErrorKind::Body, &error))
    }

    /// Deserializes the header `key`. Returns `None` if there is no such header.
    ///
    /// # Errors
    ///
    /// The inner result is an error that [`is_header`](CodecError::is_header) if the header is not
    /// a valid `T`.
    pub fn header<T: DeserializeOwned>(&self, key: &str) -> Option<Result<T, CodecError>> {
        let entries = self.header_entries();
        // As in bodies of either format, the last of duplicate keys wins.
        let entry = entries.into_iter().rev().find(|entry| entry.key == key)?;
        let Value { format, bytes, .. } = entry.value;
        Some(value::read(ErrorKind::Header, format, bytes))
    }

    /// Returns an iterator over the keys of the headers, in message order.
    pub fn headers(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.header_entries().into_iter().map(|entry| entry.key)
    }

    /// Sets the header `key`, replacing any existing one.
    ///
    /// This function does not fail; see [`Message::new`].
    #[must_use]
    pub fn with_header<T>(mut self, key: impl Into<String>, header: &T) -> Self
    where
        T: Serialize + ?Sized,
    {
        let key = key.into();
        // The map of headers is one nesting level itself.
        let (format, bytes, json) = match value::own(header, MAX_DEPTH - 1) {
            Ok(own) => own,
            Err(error) => return self.with_error(error),
        };
        let mut headers = self.own_headers();
        headers.retain(|header| header.key != key);
        headers.push(Header {
            key,
            format,
            bytes,
            json,
        });
        self.extra_mut().headers = Some(headers);
        self.sealed = false;
        self
    }

    /// Takes the headers out of the message as owned values.
    fn own_headers(&mut self) -> Vec<Header> {
        if let Some(extra) = &mut self.extra
            && let Some(headers) = Arc::make_mut(extra).headers.take()
        {
            return headers;
        }
        self.header_entries()
            .into_iter()
            .map(|Entry { key, value }| Header {
                key: key.into_owned(),
                format: value.format,
                bytes: self.bytes.slice_ref(value.bytes),
                json: None,
            })
            .collect()
    }

    pub(crate) fn header_entries(&self) -> Vec<Entry<'_>> {
        if let Some(headers) = self.extra.as_ref().and_then(|extra| extra.headers.as_ref()) {
            return headers
                .iter()
                .map(|header| Entry {
                    key: Cow::Borrowed(&*header.key),
                    value: Value {
                        format: header.format,
                        bytes: &header.bytes,
                        json: header.json.as_ref(),
                    },
                })
                .collect();
        }
        let map = self.headers.get(&self.bytes);
        let entry = |key, format, bytes| Entry {
            key,
            value: Value {
                format,
                bytes,
                json: None,
            },
        };
        match self.format {
            _ if map.is_empty() => Vec::new(),
            Format::MessagePack => msgpack::headers(map)
                .map(|(key, value)| entry(key, Format::MessagePack, value))
                .collect(),
            Format::Json => json_headers(map)
                .into_iter()
                .map(|(key, value)| entry(key, Format::Json, value.as_bytes()))
                .collect(),
        }
    }

    /// Adds the JSON form of a body whose MessagePack form would translate to different JSON.
    pub(crate) fn with_body_json(mut self, json: Result<Vec<u8>, CodecError>) -> Self {
        self.extra_mut().json = Some(json.map(Bytes::from));
        self
    }

    /// Returns the JSON form of the body, if it differs from a translation of the MessagePack form.
    pub(crate) fn body_json(&self) -> Option<&Json> {
        self.extra.as_deref()?.json.as_ref()
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
