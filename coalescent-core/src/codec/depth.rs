//! Measures a value before anything is built from it: where it ends, and whether it nests too deep.
//!
//! Both scans are loops. They allocate nothing, whatever the counts in the bytes claim, and their time
//! is bounded by the number of bytes.

/// The deepest nesting of arrays and maps that a body may have.
///
/// Decoders recurse, so this bounds the stack they use: at this depth they fit a thread of 2 MiB,
/// also without optimisation. The array or object of the envelope does not count: a body that is a number
/// has depth 0, `[]` has 1. The map of headers does count, for the values in it.
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

/// Returns how many bytes the MessagePack value at the front of `bytes` takes, if its containers nest at
/// most `max_depth` deep.
pub(crate) fn msgpack(bytes: &[u8], max_depth: usize) -> Result<usize, ScanError> {
    // Most values hold no others. A map of many headers is measured value by value, and each would clear the stack.
    if let (size, None) = item(bytes)? {
        if size > bytes.len() as u64 {
            return Err(ScanError::Truncated);
        }
        return Ok(size as usize);
    }
    let max_depth = max_depth.min(STACK);
    // How many values the enclosing containers still wait for, outermost first.
    let mut stack = [0_u64; STACK];
    let mut depth = 0_usize;
    let mut left = 1_u64;
    let mut at = 0_usize;
    loop {
        while left == 0 {
            let Some(outer) = depth.checked_sub(1) else {
                return Ok(at);
            };
            depth = outer;
            left = stack.get(depth).copied().unwrap_or_default();
        }
        left -= 1;
        let rest = bytes.get(at..).unwrap_or_default();
        let (size, children) = item(rest)?;
        if size > rest.len() as u64 {
            return Err(ScanError::Truncated);
        }
        at += size as usize;
        let Some(children) = children else { continue };
        if depth >= max_depth {
            return Err(ScanError::TooDeep);
        }
        // Each value takes a byte at least: a count beyond that is refused before it is followed.
        if children > (bytes.len() - at) as u64 {
            return Err(ScanError::Truncated);
        }
        if let Some(slot) = stack.get_mut(depth) {
            *slot = left;
        }
        depth += 1;
        left = children;
    }
}

/// Returns how many bytes the head of an item takes together with what is no container in it, and how
/// many values follow in a container.
#[inline]
pub(super) fn item(rest: &[u8]) -> Result<(u64, Option<u64>), ScanError> {
    let Some(&marker) = rest.first() else {
        return Err(ScanError::Truncated);
    };
    let u8_at = || number::<1>(rest);
    let u16_at = || number::<2>(rest);
    let u32_at = || number::<4>(rest);
    Ok(match marker {
        0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => (1, None),
        0x80..=0x8f => (1, Some(2 * u64::from(marker & 0x0f))),
        0x90..=0x9f => (1, Some(u64::from(marker & 0x0f))),
        0xa0..=0xbf => (1 + u64::from(marker & 0x1f), None),
        0xc1 => return Err(ScanError::Malformed),
        0xc4 | 0xd9 => (2 + u8_at()?, None),
        0xc5 | 0xda => (3 + u16_at()?, None),
        0xc6 | 0xdb => (5 + u32_at()?, None),
        0xc7 => (3 + u8_at()?, None),
        0xc8 => (4 + u16_at()?, None),
        0xc9 => (6 + u32_at()?, None),
        0xcc | 0xd0 => (2, None),
        0xcd | 0xd1 => (3, None),
        0xca | 0xce | 0xd2 => (5, None),
        0xcb | 0xcf | 0xd3 => (9, None),
        0xd4 => (3, None),
        0xd5 => (4, None),
        0xd6 => (6, None),
        0xd7 => (10, None),
        0xd8 => (18, None),
        0xdc => (3, Some(u16_at()?)),
        0xdd => (5, Some(u32_at()?)),
        0xde => (3, Some(2 * u16_at()?)),
        0xdf => (5, Some(2 * u32_at()?)),
    })
}

/// Reads the big-endian number of `N` bytes that stands behind a marker.
fn number<const N: usize>(rest: &[u8]) -> Result<u64, ScanError> {
    let bytes = rest.get(1..=N).ok_or(ScanError::Truncated)?;
    Ok(bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Returns the text of a MessagePack string that takes all of `value`.
pub(crate) fn msgpack_str(value: &[u8]) -> Option<&str> {
    let mut rest = value;
    let len = rmp::decode::read_str_len(&mut rest).ok()?;
    if rest.len() != len as usize {
        return None;
    }
    std::str::from_utf8(rest).ok()
}

/// Refuses JSON whose arrays and objects nest more than `max_depth` deep. Whether it is JSON at all is
/// for the parser to say.
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
