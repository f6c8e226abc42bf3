//! The reason in a BYE.

use super::BYE_MAX;

/// Cuts `reason` to what a BYE may carry, 256 bytes, between two characters.
#[must_use]
pub fn encode_reason(reason: &str) -> &[u8] {
    truncate(reason, BYE_MAX).as_bytes()
}

/// Reads the reason of a BYE. What is no UTF-8 is replaced, and what is over 256 bytes left out.
#[must_use]
pub fn decode_reason(payload: &[u8]) -> String {
    let payload = payload.get(..BYE_MAX).unwrap_or(payload);
    String::from_utf8_lossy(payload).into_owned()
}

/// Returns the longest start of `text` that takes at most `max` bytes.
pub(crate) fn truncate(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or(text)
}
