//! What the courier hands to handlers: a type, a body, and few headers.

use std::{borrow::Cow, fmt, sync::Arc};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::codec::{
    CodecError, Format, MAX_DEPTH, error::ErrorKind, json_headers, msgpack, transcode, value,
};

/// Carries a type and a body, and perhaps headers, between applications.
///
/// Cheap to clone: its parts are shared. The body stays bytes until [`Message::body`] builds a value of it.
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
    /// UTF-8.
    kind: Bytes,
    headers: Headers,
    format: Format,
    /// One checked value of `format`, unless there is an error.
    body: Bytes,
    /// The MessagePack envelope that is exactly this message, if there is one already.
    envelope: Option<Bytes>,
    /// Why the message cannot be encoded: making one does not fail, so that it can be written in one
    /// expression, and sending does.
    error: Option<Box<CodecError>>,
}

#[derive(Clone)]
pub(crate) enum Headers {
    None,
    /// A map as it was received; its keys were checked.
    Raw {
        format: Format,
        map: Bytes,
    },
    /// Set by the application.
    Own(Arc<Vec<Header>>),
}

#[derive(Clone)]
pub(crate) struct Header {
    key: String,
    format: Format,
    value: Bytes,
}

/// Says which type of message a Rust type is the body of, so that neither side has to write its name.
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
    /// This does not fail. If the body cannot be serialized, or nests deeper than
    /// [`MAX_DEPTH`], [`Codec::encode`](crate::codec::Codec::encode) returns the error, and so does [`Message::body`].
    #[must_use]
    pub fn new<T>(kind: impl AsRef<str>, body: &T) -> Self
    where
        T: Serialize + ?Sized,
    {
        let kind = kind.as_ref();
        match msgpack::envelope(kind, body, MAX_DEPTH) {
            Ok(envelope) => Self::from_parts(
                envelope.kind,
                Headers::None,
                Format::MessagePack,
                envelope.body,
                Some(envelope.payload),
            ),
            Err(error) => {
                let kind = Bytes::copy_from_slice(kind.as_bytes());
                Self::from_parts(kind, Headers::None, Format::MessagePack, Bytes::new(), None)
                    .with_error(error)
            }
        }
    }

    /// Makes a message of a body that is already in bytes: one value in `format`.
    ///
    /// This does not fail, as [`Message::new`] does not. Bytes that are no such value make a message
    /// that cannot be encoded.
    #[must_use]
    pub fn encoded(kind: impl AsRef<str>, format: Format, body: Bytes) -> Self {
        let kind = Bytes::copy_from_slice(kind.as_ref().as_bytes());
        let check = value::check(ErrorKind::Body, format, &body, MAX_DEPTH);
        let message = Self::from_parts(kind, Headers::None, format, body, None);
        match check {
            Ok(()) => message,
            Err(error) => message.with_error(error),
        }
    }

    pub(crate) fn from_parts(
        kind: Bytes,
        headers: Headers,
        format: Format,
        body: Bytes,
        envelope: Option<Bytes>,
    ) -> Self {
        Self {
            kind,
            headers,
            format,
            body,
            envelope,
            error: None,
        }
    }

    fn with_error(mut self, error: CodecError) -> Self {
        self.error.get_or_insert(Box::new(error));
        self
    }

    /// Returns the message's type, which routes are made of.
    #[doc(alias = "type")]
    #[must_use]
    pub fn kind(&self) -> &str {
        // All that makes a message has checked it.
        std::str::from_utf8(&self.kind).unwrap_or_default()
    }

    /// Returns the format of [`Message::body_bytes`].
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Returns the body as it is encoded. Empty if it could not be.
    #[must_use]
    pub fn body_bytes(&self) -> &Bytes {
        &self.body
    }

    /// Builds a value of the body. A body that was left out or is empty also reads as a unit.
    ///
    /// # Errors
    ///
    /// [`is_body`](CodecError::is_body) if the body is no `T`; the text names the type. Otherwise
    /// the error of a body that could not be serialized.
    pub fn body<T: DeserializeOwned>(&self) -> Result<T, CodecError> {
        self.check()?;
        value::read(ErrorKind::Body, self.format, &self.body)
    }

    /// Builds a JSON value of the body, as [`Message::body_to_json_string`] writes it.
    ///
    /// This takes many times the memory of the body: some 40 bytes for each byte of a long list of nils.
    ///
    /// # Errors
    ///
    /// As [`Message::body_to_json_string`]; and [`is_body`](CodecError::is_body) for JSON that no value holds, such as half of a surrogate pair.
    pub fn body_value(&self) -> Result<serde_json::Value, CodecError> {
        let json = self.body_to_json_string()?;
        value::read(ErrorKind::Body, Format::Json, json.as_bytes())
    }

    /// Writes the body as JSON on one line, whatever its format.
    ///
    /// Every MessagePack value has a form. What JSON lacks becomes: NaN and infinities null, binary an
    /// array of numbers, an extension an array of its type and its bytes, keys that are no strings
    /// the text of a number, boolean or null, else hex. The text takes at most 7 times the bytes of the body.
    ///
    /// # Errors
    ///
    /// None for a message that was decoded. Otherwise the error of a body that could not be
    /// serialized.
    pub fn body_to_json_string(&self) -> Result<String, CodecError> {
        self.check()?;
        let json = transcode::convert(ErrorKind::Body, &self.body, self.format, Format::Json)?;
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
        let (_, format, value) = entries.into_iter().rev().find(|(name, ..)| name == key)?;
        Some(value::read(ErrorKind::Header, format, value))
    }

    /// Iterates over the keys of the headers, in their order in the message.
    pub fn headers(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.header_entries().into_iter().map(|(key, ..)| key)
    }

    /// Sets the header `key`, in place of one that was there.
    ///
    /// This does not fail, as [`Message::new`] does not.
    #[must_use]
    pub fn with_header<T>(mut self, key: impl Into<String>, header: &T) -> Self
    where
        T: Serialize + ?Sized,
    {
        let format = Format::MessagePack;
        let key = key.into();
        let mut bytes = Vec::new();
        // The map of headers is one level by itself.
        let written = value::write(format, header, &mut bytes)
            .and_then(|()| value::check(ErrorKind::Encode, format, &bytes, MAX_DEPTH - 1));
        if let Err(error) = written {
            return self.with_error(error);
        }
        let mut headers = self.own_headers();
        headers.retain(|header| header.key != key);
        headers.push(Header {
            key,
            format,
            value: bytes.into(),
        });
        self.headers = Headers::Own(Arc::new(headers));
        self.envelope = None;
        self
    }

    fn own_headers(&self) -> Vec<Header> {
        match &self.headers {
            Headers::Own(headers) => headers.to_vec(),
            Headers::None => Vec::new(),
            Headers::Raw { map, .. } => self
                .header_entries()
                .into_iter()
                .map(|(key, format, value)| Header {
                    key: key.into_owned(),
                    format,
                    value: map.slice_ref(value),
                })
                .collect(),
        }
    }

    pub(crate) fn header_entries(&self) -> Vec<(Cow<'_, str>, Format, &[u8])> {
        match &self.headers {
            Headers::None => Vec::new(),
            Headers::Own(headers) => headers
                .iter()
                .map(|header| {
                    (
                        Cow::Borrowed(&*header.key),
                        header.format,
                        &header.value[..],
                    )
                })
                .collect(),
            Headers::Raw {
                format: Format::MessagePack,
                map,
            } => msgpack::headers(map)
                .map(|(key, value)| (key, Format::MessagePack, value))
                .collect(),
            Headers::Raw {
                format: Format::Json,
                map,
            } => json_headers(map)
                .into_iter()
                .map(|(key, value)| (key, Format::Json, value.as_bytes()))
                .collect(),
        }
    }

    pub(crate) fn envelope(&self) -> Option<&Bytes> {
        self.envelope.as_ref()
    }

    pub(crate) fn check(&self) -> Result<(), CodecError> {
        match &self.error {
            None => Ok(()),
            Some(error) => Err(CodecError::clone(error)),
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("kind", &self.kind())
            .field("format", &self.format)
            .field("body_len", &self.body.len())
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}
