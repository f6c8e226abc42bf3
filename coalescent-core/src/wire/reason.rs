//! The disconnect reason in a BYE frame.

use super::BYE_MAX;
use crate::text::truncate;

/// Truncates `reason` at a character boundary to the 256 bytes that a BYE may carry.
#[must_use]
pub fn encode_reason(reason: &str) -> &[u8] {
    truncate(reason, BYE_MAX).as_bytes()
}

/// Decodes the reason of a BYE. Invalid UTF-8 is replaced; bytes beyond the first 256 are ignored.
#[must_use]
pub fn decode_reason(payload: &[u8]) -> String {
    let payload = payload.get(..BYE_MAX).unwrap_or(payload);
    String::from_utf8_lossy(payload).into_owned()
}
