//! The JSON envelope.
//!
//! ```text
//! {"type":"ping","body":{"time":1},"headers":{"key":"value"}}
//! ```

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserializer, Serialize};
use serde_json::value::RawValue;

use super::depth::{self, ENVELOPE_DEPTH};
use super::error::{CodecError, ErrorKind};
use super::scratch::Scratch;
use super::transcode::{self, Lossy};
use super::{Codec, Format, HEADERS, value};
use crate::message::{Message, Parts, Span, Value};

fn envelope_error(text: &dyn fmt::Display) -> CodecError {
    CodecError::new(ErrorKind::Envelope, text)
}

pub(super) fn decode(codec: &Codec, payload: Bytes) -> Result<Message, CodecError> {
    let (parts, kind) = open(codec, &payload)?;
    Ok(Message::opened(payload, Format::Json, parts, kind))
}

/// Returns the positions of the parts, and the type if the payload does not contain it verbatim.
fn open(codec: &Codec, payload: &[u8]) -> Result<(Parts, Option<Box<str>>), CodecError> {
    Span::check(payload)?;
    let text = std::str::from_utf8(payload).map_err(|error| envelope_error(&error))?;
    depth::json(payload, codec.max() + ENVELOPE_DEPTH)
        .map_err(|error| CodecError::scan(ErrorKind::Envelope, error))?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let parts = deserializer
        .deserialize_map(Envelope { codec })
        .and_then(|parts| deserializer.end().map(|()| parts))
        .map_err(|error| CodecError::quoting(ErrorKind::Envelope, &"", &error))?;

    let kind = parts.kind.ok_or_else(|| {
        envelope_error(&format_args!("the key {:?} is missing", codec.keys().kind))
    })?;
    let (kind, escaped) = match serde_json::from_str::<Text<'_>>(kind) {
        Ok(Text(Cow::Borrowed(kind))) => (Span::of(payload, kind.as_bytes()), None),
        Ok(Text(Cow::Owned(kind))) => (Span::NONE, Some(kind.into())),
        Err(_) => return Err(envelope_error(&"its type is no string")),
    };
    let headers = match parts.headers {
        None | Some("null") => Span::NONE,
        Some(map) => match headers(map) {
            None => return Err(envelope_error(&"its headers are no object")),
            Some(entries) if entries.is_empty() => Span::NONE,
            Some(_) => Span::of(payload, map.as_bytes()),
        },
    };
    let body = match parts.body {
        Some(body) => Span::of(payload, body.as_bytes()),
        None => Span::LEFT_OUT,
    };
    let parts = Parts {
        kind,
        headers,
        body,
    };
    Ok((parts, escaped))
}

/// The raw values of an envelope.
#[derive(Default)]
struct Texts<'de> {
    kind: Option<&'de str>,
    body: Option<&'de str>,
    headers: Option<&'de str>,
}

/// A visitor of an envelope's object. Like `JSON.parse`, it keeps the last of duplicate keys.
struct Envelope<'a> {
    codec: &'a Codec,
}

impl<'de> Visitor<'de> for Envelope<'_> {
    type Value = Texts<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts<'de>, A::Error> {
        let mut parts = Texts::default();
        while let Some(Text(key)) = map.next_key()? {
            let slot = if key == self.codec.keys().kind {
                &mut parts.kind
            } else if key == self.codec.keys().body {
                &mut parts.body
            } else if key == HEADERS {
                &mut parts.headers
            } else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            *slot = Some(map.next_value::<&RawValue>()?.get());
        }
        Ok(parts)
    }
}

/// A string, borrowed unless it contains escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Returns the entries of an object of headers; `None` if it is not an object.
pub(crate) fn headers(map: &str) -> Option<Vec<(Cow<'_, str>, &str)>> {
    struct Entries;

    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<(Cow<'de, str>, &'de str)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::new();
            while let Some(Text(key)) = map.next_key()? {
                entries.push((key, map.next_value::<&RawValue>()?.get()));
            }
            Ok(entries)
        }
    }

    serde_json::Deserializer::from_str(map)
        .deserialize_map(Entries)
        .ok()
}

fn write_text(text: &str, out: &mut Vec<u8>) -> Result<(), CodecError> {
    value::write(Format::Json, text, out).map(drop)
}

fn start(codec: &Codec, kind: &str, out: &mut Vec<u8>) -> Result<(), CodecError> {
    out.push(b'{');
    write_text(&codec.keys().kind, out)?;
    out.push(b':');
    write_text(kind, out)?;
    out.push(b',');
    write_text(&codec.keys().body, out)?;
    out.push(b':');
    Ok(())
}

pub(super) fn encode_body<T>(codec: &Codec, kind: &str, body: &T) -> Result<Bytes, CodecError>
where
    T: Serialize + ?Sized,
{
    let mut out = Scratch::take();
    start(codec, kind, &mut out)?;
    let body_start = out.len();
    value::write(Format::Json, body, &mut out)?;
    let written = out.get(body_start..).unwrap_or_default();
    depth::json(written, codec.max())
        .map_err(|error| CodecError::scan(ErrorKind::Encode, error))?;
    if memchr::memchr2(b'\n', b'\r', written).is_some() {
        // A raw value of the application may contain newlines, which the `lines` wire cannot carry.
        let one_line = transcode::one_line(written);
        out.truncate(body_start);
        out.extend_from_slice(&one_line);
    }
    out.push(b'}');
    Ok(out.into_bytes())
}

/// Returns the body as [`encode`] writes it.
pub(super) fn body(codec: &Codec, message: &Message) -> Result<Bytes, CodecError> {
    let mut out = Scratch::take();
    append_body(codec, message, &mut out)?;
    Ok(out.into_bytes())
}

fn append_body(codec: &Codec, message: &Message, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let body = Value {
        format: message.format(),
        bytes: message.body_bytes(),
        json: message.body_json(),
    };
    append(ErrorKind::Body, body, codec.max(), out)
}

pub(super) fn encode(codec: &Codec, message: &Message) -> Result<Bytes, CodecError> {
    let mut out = Scratch::take();
    start(codec, message.kind(), &mut out)?;
    append_body(codec, message, &mut out)?;
    let headers = message.header_entries();
    if !headers.is_empty() {
        out.extend_from_slice(b",\"headers\":{");
        for (at, header) in headers.into_iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            write_text(&header.key, &mut out)?;
            out.push(b':');
            // The map of headers is one of the levels.
            let max_depth = codec.max().saturating_sub(1);
            append(ErrorKind::Header, header.value, max_depth, &mut out)?;
        }
        out.push(b'}');
    }
    out.push(b'}');
    Ok(out.into_bytes())
}

fn append(
    kind: ErrorKind,
    value: Value<'_>,
    max_depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    let start = out.len();
    match (value.json, value.format) {
        (Some(json), _) => out.extend_from_slice(json.as_ref().map_err(CodecError::clone)?),
        (None, Format::Json) if memchr::memchr2(b'\n', b'\r', value.bytes).is_none() => {
            out.extend_from_slice(value.bytes);
            return Ok(());
        }
        (None, Format::Json) => {
            out.extend_from_slice(&transcode::one_line(value.bytes));
            return Ok(());
        }
        (None, Format::MessagePack) => {
            transcode::msgpack_to_json(value.bytes, out, Lossy::Refused)
                .map_err(|why| CodecError::new(kind, &why))?;
        }
    }
    // Binary and extensions become arrays in JSON, and so nest deeper than in MessagePack.
    let written = out.get(start..).unwrap_or_default();
    depth::json(written, max_depth).map_err(|error| CodecError::scan(kind, error))
}
