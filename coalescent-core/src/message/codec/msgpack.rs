//! The MessagePack envelope.
//!
//! ```text
//!  93          array of 3
//!  a4 ping     type: str
//!  c0          headers: nil, or a map of str to any
//!  ...         body: any, up to the end of the payload
//! ```

use std::borrow::Cow;

use bytes::Bytes;
use rmp::{decode as rd, encode as wr};
use serde::Serialize;

use super::error::{CodecError, ErrorKind};
use super::scratch::Scratch;
use super::{Format, depth, transcode, value};
use crate::message::{Message, Parts, Span};

fn envelope_error(text: &str) -> CodecError {
    CodecError::new(ErrorKind::Envelope, &text)
}

pub(super) fn decode(payload: Bytes, max_depth: usize) -> Result<Message, CodecError> {
    let scan = |bytes: &[u8]| {
        depth::msgpack(bytes, max_depth)
            .map_err(|error| CodecError::scan(ErrorKind::Envelope, error))
    };
    let cut = || envelope_error("it ends too early");

    Span::check(&payload)?;
    let rest = match &payload[..] {
        [0x93, rest @ ..] => rest,
        payload => array_of_3(payload)?,
    };
    let kind_len = match rest {
        [marker @ 0xa0..=0xbf, ..] => usize::from(marker & 0x1f) + 1,
        _ => scan(rest)?,
    };
    let (kind, tail) = rest.split_at_checked(kind_len).ok_or_else(cut)?;
    let (headers, body) = match tail {
        [0xc0, body @ ..] => (&[][..], body),
        _ => tail.split_at_checked(scan(tail)?).ok_or_else(cut)?,
    };
    if scan(body)? != body.len() {
        return Err(envelope_error("there are bytes after the body"));
    }

    let kind = depth::msgpack_text(kind)
        .filter(|text| is_utf8(text))
        .ok_or_else(|| envelope_error("its type is no string"))?;
    let headers = match headers {
        [] => Span::NONE,
        _ if !valid_headers(headers) => {
            return Err(envelope_error(
                "its headers are no map with strings as keys",
            ));
        }
        [0x80] => Span::NONE,
        _ => Span::of(&payload, headers),
    };
    let parts = Parts {
        kind: Span::of(&payload, kind),
        headers,
        body: Span::of(&payload, body),
    };
    Ok(Message::sealed(payload, parts))
}

fn is_utf8(text: &[u8]) -> bool {
    // Types are short and usually ASCII, for which this check is several times as fast.
    let ascii = text.iter().fold(0, |all, byte| all | byte) < 0x80;
    ascii || std::str::from_utf8(text).is_ok()
}

/// Reads the head of a 3-element array that does not use the shortest encoding.
#[cold]
fn array_of_3(mut payload: &[u8]) -> Result<&[u8], CodecError> {
    match rd::read_array_len(&mut payload) {
        Ok(3) => Ok(payload),
        _ => Err(envelope_error("it is no MessagePack array of 3")),
    }
}

fn valid_headers(map: &[u8]) -> bool {
    let mut rest = map;
    let Ok(count) = rd::read_map_len(&mut rest) else {
        return false;
    };
    headers(map).count() == count as usize
}

/// Returns an iterator over the entries of a scanned map, up to the first key that is not a string.
pub(crate) fn headers(map: &[u8]) -> impl Iterator<Item = (Cow<'_, str>, &[u8])> {
    let mut rest = map;
    let mut left = rd::read_map_len(&mut rest).unwrap_or_default();
    std::iter::from_fn(move || {
        left = left.checked_sub(1)?;
        let mut next = || {
            let (value, tail) = rest.split_at_checked(depth::msgpack(rest, usize::MAX).ok()?)?;
            rest = tail;
            Some(value)
        };
        let key = depth::msgpack_str(next()?)?;
        Some((Cow::Borrowed(key), next()?))
    })
}

/// Creates a message from a value of the application.
pub(crate) fn message<T>(kind: &str, body: &T, max_depth: usize) -> Result<Message, CodecError>
where
    T: Serialize + ?Sized,
{
    let mut out = Scratch::take();
    start(kind, &mut out)?;
    out.push(0xc0);
    let at = out.len();
    let seen = value::write_msgpack(body, &mut out)?;
    if seen.json_text() {
        // The value may have no MessagePack form; the codec that sends the message reports that.
        let json = value::json(body, max_depth)?;
        return Ok(Message::encoded(kind, Format::Json, json.into()));
    }
    check(out.get(at..).unwrap_or_default(), max_depth)?;
    Span::check(&out)?;
    let nil = at - 1;
    let parts = Parts {
        kind: Span::new(nil - kind.len(), nil),
        headers: Span::NONE,
        body: Span::new(at, out.len()),
    };
    let message = Message::sealed(out.into_bytes(), parts);
    if seen.differs_as_json() {
        return Ok(message.with_body_json(value::json(body, max_depth)));
    }
    Ok(message)
}

/// Encodes an envelope around a value of the application.
pub(super) fn encode_body<T>(kind: &str, body: &T, max_depth: usize) -> Result<Bytes, CodecError>
where
    T: Serialize + ?Sized,
{
    let mut out = Scratch::take();
    start(kind, &mut out)?;
    out.push(0xc0);
    let at = out.len();
    value::write(Format::MessagePack, body, &mut out)?;
    check(out.get(at..).unwrap_or_default(), max_depth)?;
    Ok(out.into_bytes())
}

/// Checks the serialized form of a value of the application.
fn check(body: &[u8], max_depth: usize) -> Result<(), CodecError> {
    value::check(ErrorKind::Encode, Format::MessagePack, body, max_depth)
}

fn start(kind: &str, out: &mut Vec<u8>) -> Result<(), CodecError> {
    wr::write_array_len(out, 3)
        .and_then(|_| wr::write_str(out, kind))
        .map_err(write_error)
}

// By value, for use in `map_err`.
#[allow(clippy::needless_pass_by_value)]
fn write_error(error: wr::ValueWriteError) -> CodecError {
    CodecError::new(ErrorKind::Encode, &error)
}

pub(super) fn encode(message: &Message) -> Result<Bytes, CodecError> {
    let mut out = Scratch::take();
    start(message.kind(), &mut out)?;
    let headers = message.header_entries();
    if headers.is_empty() {
        out.push(0xc0);
    } else {
        let count = u32::try_from(headers.len())
            .map_err(|error| CodecError::new(ErrorKind::Header, &error))?;
        wr::write_map_len(&mut *out, count).map_err(write_error)?;
        for header in headers {
            wr::write_str(&mut *out, &header.key).map_err(write_error)?;
            let value = header.value;
            append(ErrorKind::Header, value.format, value.bytes, &mut out)?;
        }
    }
    let body = message.body_bytes();
    append(ErrorKind::Body, message.format(), body, &mut out)?;
    Ok(out.into_bytes())
}

fn append(
    kind: ErrorKind,
    format: Format,
    value: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    match format {
        Format::MessagePack => out.extend_from_slice(value),
        Format::Json => out.extend_from_slice(&transcode::json_to_msgpack(kind, value)?),
    }
    Ok(())
}
