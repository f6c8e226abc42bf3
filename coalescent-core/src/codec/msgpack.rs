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

use super::{
    Format, depth,
    error::{CodecError, ErrorKind},
    transcode, value,
};
use crate::{Message, message::Headers};

/// A payload that was just written, and where its parts are.
pub(crate) struct Envelope {
    pub(crate) payload: Bytes,
    pub(crate) kind: Bytes,
    pub(crate) body: Bytes,
}

fn envelope_error(text: &str) -> CodecError {
    CodecError::new(ErrorKind::Envelope, &text)
}

pub(super) fn decode(payload: &Bytes, max_depth: usize) -> Result<Message, CodecError> {
    let scan = |bytes: &[u8]| {
        depth::msgpack(bytes, max_depth)
            .map_err(|error| CodecError::scan(ErrorKind::Envelope, error))
    };
    let cut = || envelope_error("it ends too early");

    let mut rest = &payload[..];
    match rd::read_array_len(&mut rest) {
        Ok(3) => {}
        _ => return Err(envelope_error("it is no MessagePack array of 3")),
    }
    let (kind, tail) = rest.split_at_checked(scan(rest)?).ok_or_else(cut)?;
    let (headers, body) = tail.split_at_checked(scan(tail)?).ok_or_else(cut)?;
    if scan(body)? != body.len() {
        return Err(envelope_error("there are bytes after the body"));
    }

    let kind = depth::msgpack_str(kind).ok_or_else(|| envelope_error("its type is no string"))?;
    let headers = match headers.first() {
        Some(0xc0) => Headers::None,
        _ if !valid_headers(headers) => {
            return Err(envelope_error(
                "its headers are no map with strings as keys",
            ));
        }
        Some(0x80) => Headers::None,
        _ => Headers::Raw {
            format: Format::MessagePack,
            map: payload.slice_ref(headers),
        },
    };
    Ok(Message::from_parts(
        payload.slice_ref(kind.as_bytes()),
        headers,
        Format::MessagePack,
        payload.slice_ref(body),
        Some(payload.clone()),
    ))
}

fn valid_headers(map: &[u8]) -> bool {
    let mut rest = map;
    let Ok(count) = rd::read_map_len(&mut rest) else {
        return false;
    };
    headers(map).count() == count as usize
}

/// Iterates over the entries of a scanned map, as far as its keys are strings.
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

/// Writes an envelope around a value of the application.
pub(crate) fn envelope<T>(kind: &str, body: &T, max_depth: usize) -> Result<Envelope, CodecError>
where
    T: Serialize + ?Sized,
{
    // Enough for a short message, so that most are written with one allocation.
    let mut out = Vec::with_capacity(kind.len() + 64);
    start(kind, &mut out)?;
    let kind_end = out.len();
    out.push(0xc0);
    let body_start = out.len();
    value::write(Format::MessagePack, body, &mut out)?;
    value::check(
        ErrorKind::Encode,
        Format::MessagePack,
        out.get(body_start..).unwrap_or_default(),
        max_depth,
    )?;
    let payload = Bytes::from(out);
    Ok(Envelope {
        kind: payload.slice(kind_end - kind.len()..kind_end),
        body: payload.slice(body_start..),
        payload,
    })
}

fn start(kind: &str, out: &mut Vec<u8>) -> Result<(), CodecError> {
    wr::write_array_len(out, 3)
        .and_then(|_| wr::write_str(out, kind))
        .map_err(write_error)
}

// By value, because it stands in `map_err`.
#[allow(clippy::needless_pass_by_value)]
fn write_error(error: wr::ValueWriteError) -> CodecError {
    CodecError::new(ErrorKind::Encode, &error)
}

pub(super) fn encode(message: &Message) -> Result<Bytes, CodecError> {
    if let Some(envelope) = message.envelope() {
        return Ok(envelope.clone());
    }
    let mut out = Vec::with_capacity(message.kind().len() + message.body_bytes().len() + 64);
    start(message.kind(), &mut out)?;
    let headers = message.header_entries();
    if headers.is_empty() {
        out.push(0xc0);
    } else {
        let count = u32::try_from(headers.len())
            .map_err(|error| CodecError::new(ErrorKind::Header, &error))?;
        wr::write_map_len(&mut out, count).map_err(write_error)?;
        for (key, format, value) in headers {
            wr::write_str(&mut out, &key).map_err(write_error)?;
            append(ErrorKind::Header, format, value, &mut out)?;
        }
    }
    append(
        ErrorKind::Body,
        message.format(),
        message.body_bytes(),
        &mut out,
    )?;
    Ok(out.into())
}

fn append(
    kind: ErrorKind,
    format: Format,
    value: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    match format {
        Format::MessagePack => out.extend_from_slice(value),
        Format::Json => out.extend_from_slice(&transcode::convert(
            kind,
            value,
            Format::Json,
            Format::MessagePack,
        )?),
    }
    Ok(())
}
