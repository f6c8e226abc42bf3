//! The headers of a message.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Message;
use super::parts::{Entry, Header, Value};
use crate::message::codec::error::ErrorKind;
use crate::message::codec::{CodecError, Format, MAX_DEPTH, json_headers, msgpack, value};

impl Message {
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
    pub(super) fn own_headers(&mut self) -> Vec<Header> {
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
}
