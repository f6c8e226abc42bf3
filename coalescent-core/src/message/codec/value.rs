//! A single value in one format, such as a body or a header.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::depth::{self, ScanError};
use super::error::{CodecError, ErrorKind};
use super::watch::{Seen, Watched};
use super::{Format, transcode};
use crate::message::Json;

/// Appends a serialized value to `out`, and returns what [`Seen`] noted about it.
pub(crate) fn write<T>(format: Format, value: &T, out: &mut Vec<u8>) -> Result<Seen, CodecError>
where
    T: Serialize + ?Sized,
{
    let start = out.len();
    let seen = match format {
        Format::MessagePack => write_msgpack(value, out)?,
        Format::Json => write_json(value, out)?,
    };
    if format == Format::MessagePack && seen.json_text() {
        let json = json(value, depth::MAX_DEPTH)?;
        out.truncate(start);
        out.extend_from_slice(&transcode::json_to_msgpack(ErrorKind::Encode, &json)?);
    }
    Ok(seen)
}

/// Appends a value as MessagePack. Not valid if the value contains JSON text: see
/// [`Seen::json_text`].
pub(crate) fn write_msgpack<T>(value: &T, out: &mut Vec<u8>) -> Result<Seen, CodecError>
where
    T: Serialize + ?Sized,
{
    let seen = Seen::default();
    let mut serializer = rmp_serde::Serializer::new(out)
        .with_struct_map()
        .with_human_readable();
    match Watched::new(value, &seen).serialize(&mut serializer) {
        Ok(()) => Ok(seen),
        Err(error) => Err(CodecError::new(ErrorKind::Encode, &error)),
    }
}

fn write_json<T>(value: &T, out: &mut Vec<u8>) -> Result<Seen, CodecError>
where
    T: Serialize + ?Sized,
{
    let seen = Seen::default();
    serde_json::to_writer(out, &Watched::new(value, &seen))
        .map_err(|error| CodecError::new(ErrorKind::Encode, &error))?;
    if seen.non_finite() {
        return Err(CodecError::new(
            ErrorKind::Encode,
            &"JSON has no form for a number that is not finite: send null or a text in place of NaN and infinity",
        ));
    }
    Ok(seen)
}

/// Serializes a value on its own, in the format that preserves it. The third result is its JSON
/// form, if that differs from a translation of the MessagePack form.
pub(crate) fn own<T>(
    value: &T,
    max_depth: usize,
) -> Result<(Format, Bytes, Option<Json>), CodecError>
where
    T: Serialize + ?Sized,
{
    let mut out = Vec::new();
    let seen = write_msgpack(value, &mut out)?;
    if seen.json_text() {
        return Ok((Format::Json, json(value, max_depth)?.into(), None));
    }
    check(ErrorKind::Encode, Format::MessagePack, &out, max_depth)?;
    let json = seen
        .differs_as_json()
        .then(|| json(value, max_depth).map(Bytes::from));
    Ok((Format::MessagePack, out.into(), json))
}

/// Serializes a value as one line of JSON that nests at most `max_depth` deep.
pub(crate) fn json<T>(value: &T, max_depth: usize) -> Result<Vec<u8>, CodecError>
where
    T: Serialize + ?Sized,
{
    let mut out = Vec::new();
    write(Format::Json, value, &mut out)?;
    depth::json(&out, max_depth).map_err(|error| CodecError::scan(ErrorKind::Encode, error))?;
    if memchr::memchr2(b'\n', b'\r', &out).is_some() {
        out = transcode::one_line(&out);
    }
    Ok(out)
}

/// Deserializes a `T` from bytes that passed [`check`], or that are part of a scanned payload.
pub(crate) fn read<'de, T: Deserialize<'de>>(
    kind: ErrorKind,
    format: Format,
    value: &'de [u8],
) -> Result<T, CodecError> {
    match format {
        Format::MessagePack => from_msgpack(value).map_err(|error| no_value::<T>(kind, &error)),
        Format::Json => from_json(value).map_err(|error| no_value::<T>(kind, &error)),
    }
}

#[cold]
fn no_value<T>(kind: ErrorKind, error: &dyn fmt::Display) -> CodecError {
    let name = std::any::type_name::<T>();
    CodecError::quoting(kind, &format_args!("it is no {name}: "), error)
}

// A unit has one value, but the formats encode it differently, and some peers omit the body.

fn from_msgpack<'de, T: Deserialize<'de>>(value: &'de [u8]) -> Result<T, rmp_serde::decode::Error> {
    let read = |value: &'de [u8]| {
        let from = rmp_serde::Deserializer::from_read_ref(value);
        T::deserialize(&mut from.with_human_readable())
    };
    let result = read(value);
    if size_of::<T>() != 0 || result.is_ok() {
        return result;
    }
    match value {
        [0x80 | 0x90] => read(&[0xc0]),
        [0xc0] => read(&[0x90]),
        _ => result,
    }
}

fn from_json<'de, T: Deserialize<'de>>(value: &'de [u8]) -> Result<T, serde_json::Error> {
    let read = |value: &'de [u8]| {
        let mut from = serde_json::Deserializer::from_slice(value);
        // The scan has bounded the depth, at one more than the parser's own limit.
        from.disable_recursion_limit();
        let value = T::deserialize(&mut from)?;
        from.end()?;
        Ok(value)
    };
    let result = read(value);
    if size_of::<T>() != 0 || result.is_ok() {
        return result;
    }
    match value {
        b"{}" | b"[]" => read(b"null"),
        _ => result,
    }
}

/// Checks that `bytes` are exactly one value of the format that nests at most `max_depth` deep.
pub(crate) fn check(
    kind: ErrorKind,
    format: Format,
    bytes: &[u8],
    max_depth: usize,
) -> Result<(), CodecError> {
    match format {
        Format::MessagePack => match depth::msgpack(bytes, max_depth) {
            Ok(len) if len == bytes.len() => Ok(()),
            Ok(_) => Err(CodecError::new(kind, &"there are bytes after it")),
            Err(error) => Err(CodecError::scan(kind, error)),
        },
        Format::Json => {
            depth::json(bytes, max_depth).map_err(|error| CodecError::scan(kind, error))?;
            let text = std::str::from_utf8(bytes).map_err(|e| CodecError::new(kind, &e))?;
            serde_json::from_str::<serde::de::IgnoredAny>(text)
                .map(|_| ())
                .map_err(|error| CodecError::new(kind, &error))
        }
    }
}

/// Checks bytes that passed [`check`] against a lower depth limit.
pub(crate) fn check_depth(
    format: Format,
    bytes: &[u8],
    max_depth: usize,
) -> Result<(), CodecError> {
    let result: Result<(), ScanError> = match format {
        Format::MessagePack => depth::msgpack(bytes, max_depth).map(|_| ()),
        Format::Json => depth::json(bytes, max_depth),
    };
    result.map_err(|error| CodecError::scan(ErrorKind::Body, error))
}
