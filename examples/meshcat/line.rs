//! Messages as lines of the form `TYPE JSON`.

use std::fmt::Write;

use bytes::Bytes;
use coalescent::Message;
use coalescent::codec::{CodecError, Format};

/// Parses a line; the error says how to write one.
pub(crate) fn parse(line: &[u8]) -> Result<Message, String> {
    let line = std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?;
    let form = "write TYPE JSON, with a TYPE that holds spaces, quotes or control characters, or begins with a byte order mark, \
                as a JSON string";
    let (kind, rest) = take_type(line, &[' ', '\t', '\r']).ok_or(form)?;
    let body = rest.trim_matches([' ', '\t', '\r']);
    if body.is_empty() {
        return Ok(Message::new(kind, &()));
    }
    if !rest.starts_with([' ', '\t']) {
        return Err(form.to_owned());
    }
    Ok(Message::encoded(
        kind,
        Format::Json,
        Bytes::copy_from_slice(body.as_bytes()),
    ))
}

/// Splits a type off the front of `text`: a JSON string, or all text up to one of `ends`.
pub(crate) fn take_type<'a>(text: &'a str, ends: &[char]) -> Option<(String, &'a str)> {
    if text.starts_with('"') {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<String>();
        let kind = values.next()?.ok()?;
        return Some((kind, text.get(values.byte_offset()..)?));
    }
    let (kind, rest) = text.split_at(text.find(ends).unwrap_or(text.len()));
    is_plain(kind).then(|| (kind.to_owned(), rest))
}

/// Returns whether a type can be written without quotes. A leading byte order mark needs quotes,
/// because at the start of the input it would be removed.
fn is_plain(kind: &str) -> bool {
    let special = |c: char| c.is_whitespace() || c.is_control() || c == '"';
    !kind.is_empty() && !kind.starts_with('\u{feff}') && !kind.contains(special)
}

/// Appends a message as a line, without a newline.
pub(crate) fn write(message: &Message, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let body = message.body_to_json_string()?;
    let kind = message.kind();
    if is_plain(kind) {
        push(kind, out);
    } else {
        let quoted = serde_json::Value::from(kind).to_string();
        push(&quoted, out);
    }
    out.push(b' ');
    push(&body, out);
    Ok(())
}

/// Appends text or JSON, and escapes the characters that JSON permits but terminals interpret as
/// control characters or line ends.
fn push(text: &str, out: &mut Vec<u8>) {
    if text.is_ascii() && !text.contains('\x7f') {
        return out.extend_from_slice(text.as_bytes());
    }
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}') {
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    out.extend_from_slice(escaped.as_bytes());
}
