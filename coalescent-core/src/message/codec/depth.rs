//! Scans of encoded values, before anything is built from them: their length and nesting depth.
//!
//! Both scans are loops. They do not allocate, whatever counts the bytes claim, and take time
//! linear in the number of bytes.

/// The maximum nesting depth of arrays and maps in a body.
///
/// Decoders recurse, so this bounds their stack use: at this depth they fit a thread with a 2 MiB
/// stack, even without optimisation. The array or object of the envelope does not count: a number
/// as body has depth 0, `[]` has depth 1. The map of headers does count for the values in it.
pub const MAX_DEPTH: usize = 128;

/// The nesting of the envelope itself, which [`MAX_DEPTH`] does not count.
pub(super) const ENVELOPE_DEPTH: usize = 1;

/// The maximum nesting that a scan can follow.
const STACK: usize = MAX_DEPTH + ENVELOPE_DEPTH;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScanError {
    TooDeep,
    Truncated,
    Malformed,
}

/// Returns the length of the MessagePack value at the front of `bytes`, in bytes. Fails if its
/// containers nest deeper than `max_depth`.
pub(crate) fn msgpack(bytes: &[u8], max_depth: usize) -> Result<usize, ScanError> {
    let mut at = 0;
    let mut left = 1;
    if let Some(children) = scalars(bytes, &mut at, &mut left)? {
        enter(bytes, at, children, 0, max_depth)?;
        left = children;
        // Most bodies contain only scalars, which need no stack.
        if let Some(children) = scalars(bytes, &mut at, &mut left)? {
            at = nested(bytes, at, left, children, max_depth)?;
        }
    }
    if at > bytes.len() {
        return Err(ScanError::Truncated);
    }
    Ok(at)
}

/// Continues the scan after the head of the first nested container. It contains `inner` values, and
/// `outer` values are left in the container around it.
fn nested(
    bytes: &[u8],
    mut at: usize,
    outer: u64,
    inner: u64,
    max_depth: usize,
) -> Result<usize, ScanError> {
    let max_depth = max_depth.min(STACK);
    enter(bytes, at, inner, 1, max_depth)?;
    // The number of values missing in each enclosing container, outermost first.
    let mut stack = [0_u64; STACK];
    stack[0] = outer;
    let mut depth = 1_usize;
    let mut left = inner;
    loop {
        if let Some(children) = scalars(bytes, &mut at, &mut left)? {
            enter(bytes, at, children, depth + 1, max_depth)?;
            if let Some(slot) = stack.get_mut(depth) {
                *slot = left;
            }
            depth += 1;
            left = children;
        }
        while left == 0 {
            let Some(outer) = depth.checked_sub(1) else {
                return Ok(at);
            };
            depth = outer;
            left = stack.get(depth).copied().unwrap_or_default();
        }
    }
}

/// Checks a container whose head ends at `at`, before its contents are scanned.
#[inline]
fn enter(
    bytes: &[u8],
    at: usize,
    children: u64,
    depth: usize,
    max_depth: usize,
) -> Result<(), ScanError> {
    if depth >= max_depth {
        return Err(ScanError::TooDeep);
    }
    // Each value takes at least one byte, so a higher count is invalid.
    if children > bytes.len().saturating_sub(at) as u64 {
        return Err(ScanError::Truncated);
    }
    Ok(())
}

/// Scans from `at` over `left` scalars, or until after the head of the first container, and returns
/// how many values that container holds. The last scalar may end beyond the end of `bytes`.
#[inline]
fn scalars(bytes: &[u8], at: &mut usize, left: &mut u64) -> Result<Option<u64>, ScanError> {
    while *left > 0 {
        *left -= 1;
        let Some(&marker) = bytes.get(*at) else {
            return Err(ScanError::Truncated);
        };
        let size = SIZES[usize::from(marker)];
        if size > 0 {
            *at += usize::from(size);
            continue;
        }
        // The most frequent heads first.
        match marker {
            0x80..=0x8f => {
                *at += 1;
                return Ok(Some(2 * u64::from(marker & 0x0f)));
            }
            0xd9 => {
                let len = bytes.get(*at + 1).ok_or(ScanError::Truncated)?;
                *at += 2 + usize::from(*len);
                continue;
            }
            _ => {}
        }
        let rest = bytes.get(*at..).unwrap_or_default();
        let (size, children) = item(rest)?;
        if size > rest.len() as u64 {
            return Err(ScanError::Truncated);
        }
        *at += size as usize;
        if children.is_some() {
            return Ok(children);
        }
    }
    Ok(None)
}

/// The length of an item in bytes, by its marker; 0 if the marker alone does not tell.
static SIZES: [u8; 256] = {
    let mut sizes = [0; 256];
    let mut marker = 0;
    while marker < sizes.len() {
        sizes[marker] = match marker as u8 {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => 1,
            text @ 0xa0..=0xbf => 1 + (text & 0x1f),
            0xcc | 0xd0 => 2,
            0xcd | 0xd1 | 0xd4 => 3,
            0xd5 => 4,
            0xca | 0xce | 0xd2 => 5,
            0xd6 => 6,
            0xcb | 0xcf | 0xd3 => 9,
            0xd7 => 10,
            0xd8 => 18,
            _ => 0,
        };
        marker += 1;
    }
    sizes
};

/// Returns the length of an item's head including any scalar contents, and the number of values
/// that follow if it is a container.
#[inline]
pub(super) fn item(rest: &[u8]) -> Result<(u64, Option<u64>), ScanError> {
    let Some(&marker) = rest.first() else {
        return Err(ScanError::Truncated);
    };
    let u8_at = || number(rest).map(|[byte]: [u8; 1]| u64::from(byte));
    let u16_at = || number(rest).map(|bytes| u64::from(u16::from_be_bytes(bytes)));
    let u32_at = || number(rest).map(|bytes| u64::from(u32::from_be_bytes(bytes)));
    Ok(match marker {
        0x80..=0x8f => (1, Some(2 * u64::from(marker & 0x0f))),
        0x90..=0x9f => (1, Some(u64::from(marker & 0x0f))),
        0xc1 => return Err(ScanError::Malformed),
        0xc4 | 0xd9 => (2 + u8_at()?, None),
        0xc5 | 0xda => (3 + u16_at()?, None),
        0xc6 | 0xdb => (5 + u32_at()?, None),
        0xc7 => (3 + u8_at()?, None),
        0xc8 => (4 + u16_at()?, None),
        0xc9 => (6 + u32_at()?, None),
        0xdc => (3, Some(u16_at()?)),
        0xdd => (5, Some(u32_at()?)),
        0xde => (3, Some(2 * u16_at()?)),
        0xdf => (5, Some(2 * u32_at()?)),
        _ => (u64::from(SIZES[usize::from(marker)]), None),
    })
}

/// Returns the `N` bytes after a marker.
#[inline]
fn number<const N: usize>(rest: &[u8]) -> Result<[u8; N], ScanError> {
    let bytes = rest.get(1..).and_then(<[u8]>::first_chunk);
    bytes.copied().ok_or(ScanError::Truncated)
}

/// Returns the text of a scanned MessagePack string that spans all of `value`.
pub(crate) fn msgpack_str(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(msgpack_text(value)?).ok()
}

/// Returns the bytes of a scanned MessagePack string that spans all of `value`; they may be invalid
/// UTF-8.
pub(super) fn msgpack_text(value: &[u8]) -> Option<&[u8]> {
    match *value.first()? {
        0xa0..=0xbf => value.get(1..),
        0xd9 => value.get(2..),
        0xda => value.get(3..),
        0xdb => value.get(5..),
        _ => None,
    }
}

/// Rejects JSON whose arrays and objects nest deeper than `max_depth`. Does not validate the JSON
/// otherwise; the parser does.
pub(crate) fn json(bytes: &[u8], max_depth: usize) -> Result<(), ScanError> {
    let mut depth = 0_usize;
    let mut rest = bytes;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'[' | b'{' => {
                if depth >= max_depth {
                    return Err(ScanError::TooDeep);
                }
                depth += 1;
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => rest = skip_string(rest),
            _ => {}
        }
    }
    Ok(())
}

/// Returns the bytes after a string; `rest` begins inside of the string.
pub(super) fn skip_string(mut rest: &[u8]) -> &[u8] {
    while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
        let escape = usize::from(rest.get(at) == Some(&b'\\'));
        rest = rest.get(at + 1 + escape..).unwrap_or_default();
        if escape == 0 {
            return rest;
        }
    }
    &[]
}
