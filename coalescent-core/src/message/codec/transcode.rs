//! Conversion of values between the formats.

use std::io::Write;

use super::depth::{self, MAX_DEPTH};
use super::error::{CodecError, ErrorKind};

/// Converts scanned JSON to MessagePack.
///
/// Fails if a number would change: an integer of more than 64 bits, or a number with more digits
/// than a float keeps, or outside of a float's range.
pub(crate) fn json_to_msgpack(kind: ErrorKind, json: &[u8]) -> Result<Vec<u8>, CodecError> {
    check_numbers(kind, json)?;
    let mut out = Vec::with_capacity(json.len());
    let mut from = serde_json::Deserializer::from_slice(json);
    // The scan has bounded the depth, at more than the parser's own limit.
    from.disable_recursion_limit();
    serde_transcode::transcode(&mut from, &mut rmp_serde::Serializer::new(&mut out))
        .map_err(|error| CodecError::new(kind, &error))?;
    from.end().map_err(|error| CodecError::new(kind, &error))?;
    Ok(out)
}

/// Rejects numbers that MessagePack cannot represent.
fn check_numbers(kind: ErrorKind, json: &[u8]) -> Result<(), CodecError> {
    let mut rest = json;
    while let Some((&byte, tail)) = rest.split_first() {
        match byte {
            b'"' => rest = depth::skip_string(tail),
            b'-' | b'0'..=b'9' => {
                let part =
                    |byte: &u8| !matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                let end = rest.iter().position(part).unwrap_or(rest.len());
                let (number, tail) = rest.split_at(end);
                rest = tail;
                // The parser rejects what is not a number.
                if std::str::from_utf8(number).is_ok_and(|text| !is_kept(text)) {
                    let shown: String = String::from_utf8_lossy(number).chars().take(40).collect();
                    return Err(CodecError::new(
                        kind,
                        &format_args!(
                            "MessagePack cannot keep the number {shown} as it is: send it as a text, or use the JSON codec"
                        ),
                    ));
                }
            }
            _ => rest = tail,
        }
    }
    Ok(())
}

/// The maximum number of digits of a float, from the first to the last that is not zero.
const FLOAT_DIGITS: usize = 767;

/// Returns whether MessagePack preserves the number: as a 64-bit integer, or as a float that is
/// equal to as many digits.
fn is_kept(number: &str) -> bool {
    if !number.contains(['.', 'e', 'E']) {
        return number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok();
    }
    let Ok(float) = number.parse::<f64>() else {
        // Not a number.
        return true;
    };
    let mantissa = number.split(['e', 'E']).next().unwrap_or_default();
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_matches('0');
    match digits.len() {
        0 => true,
        length @ 1..=FLOAT_DIGITS if float.is_finite() => {
            let said = format!("{:.*e}", length - 1, float.abs());
            let said = said.split('e').next().unwrap_or_default();
            said.chars().filter(char::is_ascii_digit).eq(digits.chars())
        }
        _ => false,
    }
}

/// Returns JSON without the whitespace between tokens, and therefore without newlines.
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
    /// Whether the next item follows a comma.
    comma: bool,
    /// The number of items left; a key and its value count as two.
    left: u64,
}

/// The treatment of values that JSON cannot represent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lossy {
    /// They are an error, because a reader of the JSON would misinterpret them.
    Refused,
    /// They are converted for display: non-finite numbers to null, invalid UTF-8 with replacement
    /// characters, and keys as described at [`msgpack_to_json`].
    Shown,
}

const MALFORMED: &str = "it is no MessagePack";

/// Converts one scanned MessagePack value to one line of JSON, or returns why that is impossible.
///
/// Binary becomes an array of numbers, an extension an array of its type and its bytes, and keys
/// that are numbers or booleans become strings. Other values that JSON lacks are an error, unless
/// they are to be [shown](Lossy::Shown): then nil as a key becomes a string, and all other keys
/// (binary, containers, extensions) the lower-case hex of their MessagePack bytes, because quoting
/// JSON inside JSON grows without bound as it nests. The output is at most 7 times as long as the
/// input, plus a few bytes.
pub(crate) fn msgpack_to_json(
    value: &[u8],
    out: &mut Vec<u8>,
    lossy: Lossy,
) -> Result<(), &'static str> {
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
                return if rest.is_empty() {
                    Ok(())
                } else {
                    Err(MALFORMED)
                };
            };
            out.push(if open.map { b'}' } else { b']' });
            depth = outer;
            open = *stack.get(depth).ok_or(MALFORMED)?;
        }
        if open.comma {
            out.push(b',');
        }
        open.comma = true;
        if open.map {
            rest = write_map_key(rest, out, lossy)?;
            open.left = open.left.checked_sub(1).ok_or(MALFORMED)?;
        }
        open.left = open.left.checked_sub(1).ok_or(MALFORMED)?;
        let (size, children) = depth::item(rest).map_err(|_| MALFORMED)?;
        let size = usize::try_from(size).map_err(|_| MALFORMED)?;
        let (item, tail) = rest.split_at_checked(size).ok_or(MALFORMED)?;
        rest = tail;
        let Some(left) = children else {
            write_scalar(item, out, lossy)?;
            continue;
        };
        *stack.get_mut(depth).ok_or(MALFORMED)? = open;
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

/// Writes the key at the front of a map entry, and returns the bytes after it.
fn write_map_key<'a>(
    rest: &'a [u8],
    out: &mut Vec<u8>,
    lossy: Lossy,
) -> Result<&'a [u8], &'static str> {
    let len = depth::msgpack(rest, usize::MAX).map_err(|_| MALFORMED)?;
    let (key, tail) = rest.split_at_checked(len).ok_or(MALFORMED)?;
    write_key(key, out, lossy)?;
    out.push(b':');
    Ok(tail)
}

/// Writes a complete item that is not a container.
fn write_scalar(item: &[u8], out: &mut Vec<u8>, lossy: Lossy) -> Result<(), &'static str> {
    if lossy == Lossy::Refused {
        refuse(item)?;
    }
    write_item(item, out).ok_or(MALFORMED)
}

/// Rejects an item that JSON cannot represent.
fn refuse(item: &[u8]) -> Result<(), &'static str> {
    use rmp::decode;
    let finite = match item.first() {
        Some(0xca) => decode::read_f32(&mut &*item).is_ok_and(f32::is_finite),
        Some(0xcb) => decode::read_f64(&mut &*item).is_ok_and(f64::is_finite),
        _ => true,
    };
    if !finite {
        return Err("JSON has no form for a number that is not finite");
    }
    match depth::msgpack_text(item).map(std::str::from_utf8) {
        Some(Err(_)) => Err("JSON has no form for text that is no UTF-8"),
        _ => Ok(()),
    }
}

fn write_item(mut item: &[u8], out: &mut Vec<u8>) -> Option<()> {
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

fn write_key(key: &[u8], out: &mut Vec<u8>, lossy: Lossy) -> Result<(), &'static str> {
    match *key.first().ok_or(MALFORMED)? {
        0xa0..=0xbf | 0xd9..=0xdb => return write_scalar(key, out, lossy),
        0xc2 | 0xc3 | 0xca..=0xcf | 0xd0..=0xd3 | 0x00..=0x7f | 0xe0..=0xff => {
            out.push(b'"');
            write_scalar(key, out, lossy)?;
        }
        _ if lossy == Lossy::Refused => {
            return Err(
                "JSON has no keys but text, numbers and booleans: make a list of pairs of the map",
            );
        }
        0xc0 => {
            out.push(b'"');
            write_scalar(key, out, lossy)?;
        }
        _ => {
            out.push(b'"');
            key.iter()
                .try_for_each(|byte| write!(out, "{byte:02x}"))
                .map_err(|_| MALFORMED)?;
        }
    }
    out.push(b'"');
    Ok(())
}
