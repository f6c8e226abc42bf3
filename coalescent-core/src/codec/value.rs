//! One value in one format, such as a body or a header.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Format,
    depth::{self, ScanError},
    error::{CodecError, ErrorKind},
};

/// Appends a value of the application to `out`.
pub(crate) fn write<T>(format: Format, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError>
where
    T: Serialize + ?Sized,
{
    match format {
        Format::MessagePack => {
            let mut serializer = rmp_serde::Serializer::new(out)
                .with_struct_map()
                .with_human_readable();
            value
                .serialize(&mut serializer)
                .map_err(|e| CodecError::new(ErrorKind::Encode, &e))
        }
        Format::Json => serde_json::to_writer(out, value)
            .map_err(|error| CodecError::new(ErrorKind::Encode, &error)),
    }
}

/// Builds a `T` of bytes that [`check`] took, or a scan of the payload that they are of.
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

// A unit has one value, but each format and the peers that leave a body out write it in ways of their own.

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

/// Checks the depth of bytes that [`check`] took with a higher limit.
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
