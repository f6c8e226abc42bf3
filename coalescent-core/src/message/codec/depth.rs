//! Measures a value before anything is built from it: where it ends, and whether it nests too deep.
//!
//! Both scans are loops. They allocate nothing, whatever the counts in the bytes claim, and their
//! time is bounded by the number of bytes.

/// The deepest nesting of arrays and maps that a body may have.
///
/// Decoders recurse, so this bounds the stack they use: at this depth they fit a thread of 2 MiB,
/// also without optimisation. The array or object of the envelope does not count: a body that is a
/// number has depth 0, `[]` has 1. The map of headers does count, for the values in it.
pub const MAX_DEPTH: usize = 128;

/// The envelope's own nesting, which [`MAX_DEPTH`] does not count.
pub(super) const ENVELOPE_DEPTH: usize = 1;

/// The deepest nesting that a scan can follow.
const STACK: usize = MAX_DEPTH + ENVELOPE_DEPTH;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScanError {
    TooDeep,
    Truncated,
    Malformed,
}

/// Returns how many bytes the MessagePack value at the front of `bytes` takes, if its containers
/// nest at most `max_depth` deep.
pub(crate) fn msgpack(bytes: &[u8], max_depth: usize) -> Result<usize, ScanError> {
    let mut at = 0;
    let mut left = 1;
    if let Some(children) = scalars(bytes, &mut at, &mut left)? {
        enter(bytes, at, children, 0, max_depth)?;
        left = children;
        // Most bodies hold scalars alone, which can be counted without a stack.
        if let Some(children) = scalars(bytes, &mut at, &mut left)? {
            at = nested(bytes, at, left, children, max_depth)?;
        }
    }
    if at > bytes.len() {
        return Err(ScanError::Truncated);
    }
    Ok(at)
}

/// Measures on, from behind the head of the first container in a container: it holds `inner`
/// values, and `outer` are left in the one around it.
fn nested(
    bytes: &[u8],
    mut at: usize,
    outer: u64,
    inner: u64,
    max_depth: usize,
) -> Result<usize, ScanError> {
    let max_depth = max_depth.min(STACK);
    enter(bytes, at, inner, 1, max_depth)?;
    // How many values the enclosing containers still wait for, outermost first.
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

/// Judges a container, of which `at` is behind the head, before what is in it is followed.
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
    // Each value takes a byte at least: a count beyond that is refused.
    if children > bytes.len().saturating_sub(at) as u64 {
        return Err(ScanError::Truncated);
    }
    Ok(())
}

/// Goes on from `at` over `left` scalars, or up to behind the head of the first container, and
/// returns how many values that holds. The last scalar may end behind the end of `bytes`.
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
        // The heads that are met most, first.
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

/// How many bytes an item takes, by its marker alone: 0 where more has to be looked at.
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

/// Returns how many bytes the head of an item takes together with what is no container in it, and
/// how many values follow in a container.
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

/// Returns the `N` bytes that stand behind a marker.
#[inline]
fn number<const N: usize>(rest: &[u8]) -> Result<[u8; N], ScanError> {
    let bytes = rest.get(1..).and_then(<[u8]>::first_chunk);
    bytes.copied().ok_or(ScanError::Truncated)
}

/// Returns the text of a scanned MessagePack string that takes all of `value`.
pub(crate) fn msgpack_str(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(msgpack_text(value)?).ok()
}

/// Returns the bytes of a scanned MessagePack string that takes all of `value`, which may be no
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

/// Refuses JSON whose arrays and objects nest more than `max_depth` deep. Whether it is JSON at all
/// is for the parser to say.
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

/// Returns what stands behind the string of which `rest` is the inside and more.
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
