//! What the courier hands to handlers: a type, a body, and few headers.

pub mod codec;
mod parts;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::parts::{Entry, Header, Rest};
pub(crate) use self::parts::{Json, Parts, Span, Value};
use crate::message::codec::error::ErrorKind;
use crate::message::codec::transcode::{self, Lossy};
use crate::message::codec::{CodecError, Format, MAX_DEPTH, json_headers, msgpack, value};

/// What a body that was left out reads as.
static EMPTY_BODY: &[u8] = b"{}";

/// Carries a type and a body, and perhaps headers, between applications.
///
/// Cheap to clone: its parts are shared. The body stays bytes until [`Message::body`] builds a
/// value of it, which may borrow from them.
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
    /// An envelope, or a body alone.
    bytes: Bytes,
    /// UTF-8, unless the rest has it.
    kind: Span,
    /// A map of `format`, unless the rest has them.
    headers: Span,
    /// One checked value of `format`, unless there is an error.
    body: Span,
    format: Format,
    /// Whether the bytes are the MessagePack envelope that is exactly this message.
    sealed: bool,
    rest: Option<Arc<Rest>>,
}

/// Says which type of message a Rust type is the body of, so that neither side has to write its
/// name.
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
    /// The type of the messages whose body this is.
    const TYPE: &'static str;
}

impl Message {
    /// Makes a message of the type that its body says; otherwise as [`Message::new`].
    #[must_use]
    pub fn typed<T: Serialize + MessageType>(body: &T) -> Self {
        Self::new(T::TYPE, body)
    }

    /// Makes a message of type `kind`, and serializes `body` at once.
    ///
    /// It arrives as if the body had been broadcast by itself, whichever format the courier speaks.
    /// What a format has no equal for is an error there: NaN, infinities, and keys of maps that are
    /// neither text nor numbers nor booleans, in JSON.
    ///
    /// This does not fail. If the body cannot be serialized, or nests deeper than
    /// [`MAX_DEPTH`], [`Codec::encode`](crate::message::codec::Codec::encode) returns the error,
    /// and so does [`Message::body`].
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

    /// Makes a message of a body that is already in bytes: one value in `format`.
    ///
    /// This does not fail, as [`Message::new`] does not. Bytes that are no such value make a
    /// message that cannot be encoded.
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

    /// Makes a message of which the body is still to be found in `bytes`.
    fn of_body(kind: &str, format: Format, bytes: Bytes) -> Self {
        let parts = Parts {
            kind: Span::NONE,
            headers: Span::NONE,
            body: Span::NONE,
        };
        Self::opened(bytes, format, parts, Some(kind.into()))
    }

    /// Makes a message of a MessagePack envelope.
    #[inline]
    pub(crate) fn sealed(envelope: Bytes, parts: Parts) -> Self {
        Self {
            bytes: envelope,
            kind: parts.kind,
            headers: parts.headers,
            body: parts.body,
            format: Format::MessagePack,
            sealed: true,
            rest: None,
        }
    }

    /// Makes a message of bytes that hold its parts; but for the type, if it is given.
    pub(crate) fn opened(
        bytes: Bytes,
        format: Format,
        parts: Parts,
        kind: Option<Box<str>>,
    ) -> Self {
        let rest = kind.map(|kind| {
            Arc::new(Rest {
                kind: Some(kind),
                ..Rest::default()
            })
        });
        Self {
            bytes,
            kind: parts.kind,
            headers: parts.headers,
            body: parts.body,
            format,
            sealed: false,
            rest,
        }
    }

    fn rest_mut(&mut self) -> &mut Rest {
        Arc::make_mut(self.rest.get_or_insert_default())
    }

    fn with_error(mut self, error: CodecError) -> Self {
        self.rest_mut().error.get_or_insert(error);
        self
    }

    /// Returns the message's type, which routes are made of.
    #[doc(alias = "type")]
    #[inline]
    #[must_use]
    pub fn kind(&self) -> &str {
        match self.rest.as_deref() {
            Some(Rest {
                kind: Some(kind), ..
            }) => kind,
            // All that makes a message has checked it.
            _ => std::str::from_utf8(self.kind.get(&self.bytes)).unwrap_or_default(),
        }
    }

    /// Returns the bytes of [`Message::kind`], for a look-up that text is not needed for: they are
    /// not checked to be UTF-8 again, as they are there each time.
    #[inline]
    #[must_use]
    pub fn kind_bytes(&self) -> &[u8] {
        match self.rest.as_deref() {
            Some(Rest {
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

    /// Returns the body as it is encoded. Empty if it could not be.
    #[inline]
    #[must_use]
    pub fn body_bytes(&self) -> &[u8] {
        if self.body == Span::LEFT_OUT {
            EMPTY_BODY
        } else {
            self.body.get(&self.bytes)
        }
    }

    /// Returns the body as it is encoded, to keep: a slice that shares the message's bytes, and
    /// keeps them alive.
    #[must_use]
    pub fn body_to_bytes(&self) -> Bytes {
        if self.body == Span::LEFT_OUT {
            Bytes::from_static(EMPTY_BODY)
        } else {
            self.bytes.slice_ref(self.body_bytes())
        }
    }

    /// Builds a value of the body. A body that was left out or is empty also reads as a unit.
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
    /// In JSON a `&str` cannot be borrowed of a text with escapes: ask for a `Cow<str>` with
    /// `#[serde(borrow)]`.
    ///
    /// # Errors
    ///
    /// [`is_body`](CodecError::is_body) if the body is no `T`; the text names the type. Otherwise
    /// the error of a body that could not be serialized.
    pub fn body<'de, T: Deserialize<'de>>(&'de self) -> Result<T, CodecError> {
        self.check()?;
        value::read(ErrorKind::Body, self.format, self.body_bytes())
    }

    /// Builds a JSON value of the body, as [`Message::body_to_json_string`] writes it.
    ///
    /// This takes many times the memory of the body: some 40 bytes for each byte of a long list of
    /// nils.
    ///
    /// # Errors
    ///
    /// As [`Message::body_to_json_string`]; and [`is_body`](CodecError::is_body) for JSON that no
    /// value holds, such as half of a surrogate pair.
    pub fn body_value(&self) -> Result<serde_json::Value, CodecError> {
        let json = self.body_to_json_string()?;
        value::read(ErrorKind::Body, Format::Json, json.as_bytes())
    }

    /// Writes the body as JSON on one line, whatever its format.
    ///
    /// Every MessagePack value has a form here, so that it can be shown, though a message with a
    /// value that JSON lacks is not sent as JSON. What JSON lacks becomes: NaN and infinities null,
    /// binary an
    /// array of numbers, an extension an array of its type and its bytes, keys that are no strings
    /// the text of a number, boolean or null, else hex. The text takes at most 7 times the bytes of
    /// the body.
    ///
    /// # Errors
    ///
    /// None for a message that was decoded. Otherwise the error of a body that could not be
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

    /// Builds a value of the header `key`; `None` if there is no such header.
    ///
    /// # Errors
    ///
    /// The result inside [`is_header`](CodecError::is_header) if the header is no `T`.
    pub fn header<T: DeserializeOwned>(&self, key: &str) -> Option<Result<T, CodecError>> {
        let entries = self.header_entries();
        // As in the bodies of either format, the last of equal keys counts.
        let entry = entries.into_iter().rev().find(|entry| entry.key == key)?;
        let Value { format, bytes, .. } = entry.value;
        Some(value::read(ErrorKind::Header, format, bytes))
    }

    /// Iterates over the keys of the headers, in their order in the message.
    pub fn headers(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.header_entries().into_iter().map(|entry| entry.key)
    }

    /// Sets the header `key`, in place of one that was there.
    ///
    /// This does not fail, as [`Message::new`] does not.
    #[must_use]
    pub fn with_header<T>(mut self, key: impl Into<String>, header: &T) -> Self
    where
        T: Serialize + ?Sized,
    {
        let key = key.into();
        // The map of headers is one level by itself.
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
        self.rest_mut().headers = Some(headers);
        self.sealed = false;
        self
    }

    /// Takes the headers out as the application's own.
    fn own_headers(&mut self) -> Vec<Header> {
        if let Some(rest) = &mut self.rest
            && let Some(headers) = Arc::make_mut(rest).headers.take()
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
        if let Some(headers) = self.rest.as_ref().and_then(|rest| rest.headers.as_ref()) {
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

    /// Adds the body as JSON, where that says something else than its MessagePack does.
    pub(crate) fn with_body_json(mut self, json: Result<Vec<u8>, CodecError>) -> Self {
        self.rest_mut().json = Some(json.map(Bytes::from));
        self
    }

    /// Returns the body as JSON, where that says something else than the bytes do.
    pub(crate) fn body_json(&self) -> Option<&Json> {
        self.rest.as_deref()?.json.as_ref()
    }

    /// Returns the MessagePack envelope that is exactly this message, if there is one already.
    pub(crate) fn envelope(&self) -> Option<&Bytes> {
        self.sealed.then_some(&self.bytes)
    }

    /// Takes the MessagePack envelope that is exactly this message; without one, gives the message
    /// back.
    pub(crate) fn into_envelope(self) -> Result<Bytes, Self> {
        if self.sealed {
            Ok(self.bytes)
        } else {
            Err(self)
        }
    }

    #[inline]
    pub(crate) fn check(&self) -> Result<(), CodecError> {
        match self.rest.as_deref() {
            Some(Rest {
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
