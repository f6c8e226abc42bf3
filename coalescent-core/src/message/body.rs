//! Reading the body of a message.

use bytes::Bytes;
use serde::Deserialize;

use super::Message;
use super::parts::{Json, Parts, Span};
use crate::message::codec::error::ErrorKind;
use crate::message::codec::transcode::{self, Lossy};
use crate::message::codec::{CodecError, Format, value};

/// The body that is read if the sender omitted it.
static EMPTY_BODY: &[u8] = b"{}";

impl Message {
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

    /// Returns whether the message has a body. JSON may omit it, and then it reads as `{}`.
    #[must_use]
    pub fn has_body(&self) -> bool {
        self.body != Span::LEFT_OUT
    }

    /// Deserializes the body. A unit type also accepts an omitted or empty body.
    ///
    /// The value may borrow from the message:
    ///
    /// ```
    /// use coalescent::Message;
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
    /// # Ok::<(), coalescent::codec::CodecError>(())
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

    /// Replaces the encoded body by another encoding of it, which is valid, and keeps the rest.
    pub(crate) fn with_body_bytes(
        mut self,
        format: Format,
        body: Bytes,
    ) -> Result<Self, CodecError> {
        Span::check(&body)?;
        let headers = self.own_headers();
        let parts = Parts {
            kind: Span::NONE,
            headers: Span::NONE,
            body: Span::new(0, body.len()),
        };
        let mut message = Self::opened(body, format, parts, Some(self.kind().into()));
        if !headers.is_empty() {
            message.extra_mut().headers = Some(headers);
        }
        Ok(message)
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
}
