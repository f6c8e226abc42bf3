//! A value of one format as the other.

use std::io::Write;

use super::{
    Format,
    depth::{self, MAX_DEPTH},
    error::{CodecError, ErrorKind},
};

/// Returns `value`, which was scanned, in `to`. Borrows nothing: call it only where the formats differ,
/// or where JSON has to be made one line.
pub(crate) fn convert(
    kind: ErrorKind,
    value: &[u8],
    from: Format,
    to: Format,
) -> Result<Vec<u8>, CodecError> {
    match (from, to) {
        (Format::MessagePack, Format::MessagePack) => Ok(value.to_vec()),
        (Format::Json, Format::Json) => Ok(one_line(value)),
        (Format::MessagePack, Format::Json) => {
            let mut out = Vec::with_capacity(value.len() * 2);
            msgpack_to_json(value, &mut out)
                .ok_or_else(|| CodecError::new(kind, &"it is no MessagePack"))?;
            Ok(out)
        }
        (Format::Json, Format::MessagePack) => {
            let mut out = Vec::with_capacity(value.len());
            let mut from = serde_json::Deserializer::from_slice(value);
            // The scan has bounded the depth, at more than the parser's own limit.
            from.disable_recursion_limit();
            serde_transcode::transcode(&mut from, &mut rmp_serde::Serializer::new(&mut out))
                .map_err(|error| CodecError::new(kind, &error))?;
            from.end().map_err(|error| CodecError::new(kind, &error))?;
            Ok(out)
        }
    }
}

/// Returns JSON without the whitespace between its tokens, and so without newlines.
pub(crate) fn one_line(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let mut rest = json;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'"' {
            rest = depth::skip_string(tail);
            out.push(byte);
            out.extend_from_slice(tail.get(..tail.len() - rest.len()).unwrap_or_default());
        } else if !byte.is_ascii_whitespace() {
            out.push(byte);
        }
    }
    out
}

/// A container that is being written.
#[derive(Clone, Copy, Default)]
struct Open {
    map: bool,
    /// Whether a comma stands before the next item.
    comma: bool,
    /// How many items of it are still to come, a key and its value as two.
    left: u64,
}

/// Writes one scanned MessagePack value as JSON on one line. `None` if it is no MessagePack after all.
///
/// Every value has a form: numbers that JSON lacks (NaN, infinity) are null, binary is an array of
/// numbers, an extension an array of its type and its bytes, and text that is no UTF-8 gets
/// replacement characters. Keys become strings: numbers, booleans and nil as they are written, all
/// else (binary, containers, extensions) as the lower hex of its MessagePack bytes, because quoting
/// JSON inside JSON grows without bound as it nests. The output is at most 7 times as long as the
/// input, and a few bytes.
pub(crate) fn msgpack_to_json(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut stack = [Open::default(); MAX_DEPTH + depth::ENVELOPE_DEPTH];
    let mut depth = 0_usize;
    let mut open = Open {
        map: false,
        comma: false,
        left: 1,
    };
    let mut rest = value;
    loop {
        while open.left == 0 {
            let Some(outer) = depth.checked_sub(1) else {
                return rest.is_empty().then_some(());
            };
            out.push(if open.map { b'}' } else { b']' });
            depth = outer;
            open = *stack.get(depth)?;
        }
        if open.comma {
            out.push(b',');
        }
        open.comma = true;
        if open.map {
            let len = depth::msgpack(rest, usize::MAX).ok()?;
            let (key, tail) = rest.split_at_checked(len)?;
            write_key(key, out)?;
            out.push(b':');
            rest = tail;
            open.left = open.left.checked_sub(1)?;
        }
        open.left = open.left.checked_sub(1)?;
        let (size, children) = depth::item(rest).ok()?;
        let (item, tail) = rest.split_at_checked(usize::try_from(size).ok()?)?;
        rest = tail;
        let Some(left) = children else {
            write_scalar(item, out)?;
            continue;
        };
        *stack.get_mut(depth)? = open;
        depth += 1;
        let map = matches!(item.first(), Some(0x80..=0x8f | 0xde | 0xdf));
        out.push(if map { b'{' } else { b'[' });
        open = Open {
            map,
            comma: false,
            left,
        };
    }
}

/// Writes a whole item that is no container.
fn write_scalar(mut item: &[u8], out: &mut Vec<u8>) -> Option<()> {
    use rmp::decode;
    let rd = &mut item;
    match *rd.first()? {
        0xc0 => out.extend_from_slice(b"null"),
        0xc2 => out.extend_from_slice(b"false"),
        0xc3 => out.extend_from_slice(b"true"),
        0xca => json_scalar(&decode::read_f32(rd).ok()?, out)?,
        0xcb => json_scalar(&decode::read_f64(rd).ok()?, out)?,
        0xcf => json_scalar(&decode::read_u64(rd).ok()?, out)?,
        0xa0..=0xbf | 0xd9..=0xdb => {
            decode::read_str_len(rd).ok()?;
            json_scalar(&String::from_utf8_lossy(rd), out)?;
        }
        0xc4..=0xc6 => {
            decode::read_bin_len(rd).ok()?;
            write_bytes(rd, out)?;
        }
        0xc7..=0xc9 | 0xd4..=0xd8 => {
            let ext = decode::read_ext_meta(rd).ok()?;
            write!(out, "[{},", ext.typeid).ok()?;
            write_bytes(rd, out)?;
            out.push(b']');
        }
        _ => json_scalar(&decode::read_int::<i64, _>(rd).ok()?, out)?,
    }
    Some(())
}

fn json_scalar<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Option<()> {
    serde_json::to_writer(out, value).ok()
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.push(b'[');
    for (at, byte) in bytes.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write!(out, "{byte}").ok()?;
    }
    out.push(b']');
    Some(())
}

fn write_key(key: &[u8], out: &mut Vec<u8>) -> Option<()> {
    match *key.first()? {
        0xa0..=0xbf | 0xd9..=0xdb => return write_scalar(key, out),
        0xc0 | 0xc2 | 0xc3 | 0xca..=0xcf | 0xd0..=0xd3 | 0x00..=0x7f | 0xe0..=0xff => {
            out.push(b'"');
            write_scalar(key, out)?;
        }
        _ => {
            out.push(b'"');
            key.iter()
                .try_for_each(|byte| write!(out, "{byte:02x}"))
                .ok()?;
        }
    }
    out.push(b'"');
    Some(())
}
