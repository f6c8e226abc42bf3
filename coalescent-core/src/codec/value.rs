//! One value in one format, such as a body or a header.

use serde::{Serialize, de::DeserializeOwned};

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

/// Builds a `T` of bytes that [`check`] took.
pub(crate) fn read<T: DeserializeOwned>(
    kind: ErrorKind,
    format: Format,
    value: &[u8],
) -> Result<T, CodecError> {
    let result = read_as(format, value);
    // A unit has one value, but each format and the peers that leave a body out write it in ways of their own.
    let unit = match (format, value) {
        (Format::Json, b"{}" | b"[]") => &b"null"[..],
        (Format::MessagePack, [0x80 | 0x90]) => &[0xc0],
        (Format::MessagePack, [0xc0]) => &[0x90],
        _ => b"",
    };
    match result {
        Err(_) if size_of::<T>() == 0 && !unit.is_empty() => read_as(format, unit),
        other => other,
    }
    .map_err(|error| {
        let name = std::any::type_name::<T>();
        CodecError::quoting(kind, &format_args!("it is no {name}: "), &error)
    })
}

fn read_as<T: DeserializeOwned>(
    format: Format,
    value: &[u8],
) -> Result<T, Box<dyn std::fmt::Display>> {
    match format {
        Format::MessagePack => {
            let mut deserializer =
                rmp_serde::Deserializer::from_read_ref(value).with_human_readable();
            T::deserialize(&mut deserializer).map_err(|error| Box::new(error) as _)
        }
        Format::Json => {
            let mut deserializer = serde_json::Deserializer::from_slice(value);
            // The scan has bounded the depth, at one more than the parser's own limit.
            deserializer.disable_recursion_limit();
            T::deserialize(&mut deserializer)
                .and_then(|value| deserializer.end().map(|()| value))
                .map_err(|error| Box::new(error) as _)
        }
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
