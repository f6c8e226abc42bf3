//! A value of one format as the other.

use std::io::Write;

use super::depth::{self, MAX_DEPTH};
use super::error::{CodecError, ErrorKind};

/// Returns JSON, which was scanned, as MessagePack.
///
/// What would be another number there is an error: an integer of more than 64 bits, and what has
/// more digits than a float keeps, or is too large or too small for one.
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

/// Refuses numbers that MessagePack has no equal of.
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
                // What is no number is for the parser to say.
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

/// The most digits that a float can have, from the first that is no zero to the last.
const FLOAT_DIGITS: usize = 767;

/// Whether MessagePack holds the number: as an integer of 64 bits, or as a float that says the same
/// to as many digits.
fn is_kept(number: &str) -> bool {
    if !number.contains(['.', 'e', 'E']) {
        return number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok();
    }
    let Ok(float) = number.parse::<f64>() else {
        // It is no number.
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

/// What becomes of values that JSON has no equal for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lossy {
    /// They are an error: who reads the JSON would take them for something else.
    Refused,
    /// They are shown: numbers that are not finite as null, text that is no UTF-8 with replacement
    /// characters, and keys as [`msgpack_to_json`] says.
    Shown,
}

const MALFORMED: &str = "it is no MessagePack";

/// Writes one scanned MessagePack value as JSON on one line, or says why it can't.
///
/// Binary is an array of numbers, an extension an array of its type and its bytes, and the keys
/// that are numbers or booleans are strings. What else JSON lacks is an error, or, where it is
/// [shown](Lossy::Shown), has a form too: nil as a key is a string, and all other keys (binary,
/// containers, extensions) are the lower hex of their MessagePack bytes, because quoting JSON
/// inside JSON grows without bound as it nests. The output is at most 7 times as long as the input,
/// and a few bytes.
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
            let len = depth::msgpack(rest, usize::MAX).map_err(|_| MALFORMED)?;
            let (key, tail) = rest.split_at_checked(len).ok_or(MALFORMED)?;
            write_key(key, out, lossy)?;
            out.push(b':');
            rest = tail;
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

/// Writes a whole item that is no container.
fn write_scalar(item: &[u8], out: &mut Vec<u8>, lossy: Lossy) -> Result<(), &'static str> {
    if lossy == Lossy::Refused {
        refuse(item)?;
    }
    write_item(item, out).ok_or(MALFORMED)
}

/// Refuses an item that JSON has no equal for.
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
