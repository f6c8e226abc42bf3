//! The reason in a BYE.

use super::BYE_MAX;
use crate::text::truncate;

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
