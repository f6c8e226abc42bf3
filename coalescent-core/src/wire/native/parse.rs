//! Parsing native frames.

use super::{
    BROADCAST, BYE, BYE_MAX, CANCEL, CHANNEL, COUNTED, DATA, FIXED, HELLO, HELLO_MAX, LENGTH_FIELD,
    NativeCodec, PING, PING_LEN, PONG, REPLY, REQUEST, key_len,
};
use crate::wire::{Head, Kind, MAX_PREFIX, Status, WireError};

/// The result of parsing the front of the buffer.
pub(super) enum Front {
    Frame(Head),
    Partial,
}

impl NativeCodec {
    /// Parses anything but a complete BROADCAST.
    #[inline(always)]
    pub(super) fn parse_other(&self, bytes: &[u8], limit: usize) -> Result<Front, WireError> {
        match parse_request(bytes, limit) {
            Some(head) => Ok(Front::Frame(head)),
            None => self.parse(bytes),
        }
    }

    pub(super) fn parse(&self, bytes: &[u8]) -> Result<Front, WireError> {
        let Some(fixed) = bytes.first_chunk::<FIXED>() else {
            return self.parse_short(bytes);
        };
        let [a, b, c, d, kind, ttl] = *fixed;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let Some(fields_len) = length.checked_sub(COUNTED) else {
            return Err(WireError::malformed(
                "its length leaves no room for a kind and a ttl",
            ));
        };
        let key = self.check_len(kind, fields_len)?;
        let Some(fields) = bytes
            .get(FIXED..)
            .filter(|fields| fields.len() >= fields_len)
        else {
            return Ok(Front::Partial);
        };
        let Some(kind) = parse_kind(kind, fields) else {
            return Ok(Front::Partial);
        };
        let len = u32::try_from(FIXED + fields_len).unwrap_or(u32::MAX);
        let prefix = FIXED as u8 + key;
        Ok(Front::Frame(Head {
            kind,
            ttl,
            verbatim: true,
            prefix,
            suffix: 0,
            len,
        }))
    }

    /// Checks the length of a frame's fields, before they have arrived, and returns how many of
    /// them precede the payload.
    #[inline]
    fn check_len(&self, kind: u8, fields_len: usize) -> Result<u8, WireError> {
        let key = key_len(kind);
        let Some(payload_len) = fields_len.checked_sub(usize::from(key)) else {
            return Err(WireError::malformed(
                "it is shorter than the fields of its kind",
            ));
        };
        match kind {
            HELLO if payload_len > HELLO_MAX => Err(WireError::too_large(HELLO_MAX)),
            HELLO => Ok(key),
            PING | PONG if payload_len != PING_LEN => Err(WireError::malformed(
                "a PING or PONG does not carry exactly 8 bytes",
            )),
            PING | PONG => Ok(key),
            BYE if payload_len > BYE_MAX => Err(WireError::malformed(
                "the reason of a BYE is longer than 256 bytes",
            )),
            BYE => Ok(key),
            _ if payload_len > self.limit() => Err(WireError::too_large(self.limit())),
            _ => Ok(key),
        }
    }

    /// Checks as much as possible of a frame whose first 6 bytes have not all arrived.
    #[cold]
    fn parse_short(&self, bytes: &[u8]) -> Result<Front, WireError> {
        let Some(length) = bytes.first_chunk::<LENGTH_FIELD>() else {
            return Ok(Front::Partial);
        };
        let length = u32::from_be_bytes(*length) as usize;
        let Some(fields_len) = length.checked_sub(COUNTED) else {
            return Err(WireError::malformed(
                "its length leaves no room for a kind and a ttl",
            ));
        };
        match bytes.get(LENGTH_FIELD) {
            Some(&kind) => {
                self.check_len(kind, fields_len)?;
            }
            None if fields_len > self.limit().max(HELLO_MAX) + (MAX_PREFIX - FIXED) => {
                return Err(WireError::too_large(self.limit()));
            }
            None => {}
        }
        Ok(Front::Partial)
    }
}

/// Reads the fields of a kind, which precede the payload. Returns `None` if they are incomplete.
#[inline]
fn parse_kind(kind: u8, fields: &[u8]) -> Option<Kind> {
    let id = || fields.first_chunk().map(|id| u32::from_be_bytes(*id));
    Some(match kind {
        DATA => Kind::Data,
        BROADCAST => Kind::Broadcast {
            nonce: u64::from_be_bytes(*fields.first_chunk()?),
        },
        REQUEST => Kind::Request { id: id()? },
        REPLY => Kind::Reply {
            id: id()?,
            status: Status::from_byte(*fields.get(4)?),
        },
        CANCEL => Kind::Cancel { id: id()? },
        CHANNEL => Kind::Channel {
            index: *fields.first()?,
        },
        HELLO => Kind::Hello,
        PING => Kind::Ping,
        PONG => Kind::Pong,
        BYE => Kind::Bye,
        other => Kind::Unknown(other),
    })
}

/// Splits the first frame off a sequence of complete frames. Returns the frame, the length of its
/// payload in bytes, and the rest; `None` if no complete frame is left.
pub(crate) fn split_frame(frames: &[u8]) -> Option<(&[u8], usize, &[u8])> {
    let length = u32::from_be_bytes(*frames.first_chunk::<LENGTH_FIELD>()?) as usize;
    let (frame, behind) = frames.split_at_checked(length.checked_add(LENGTH_FIELD)?)?;
    let kind = *frame.get(LENGTH_FIELD)?;
    let payload = length.checked_sub(COUNTED + usize::from(key_len(kind)))?;
    Some((frame, payload, behind))
}

/// Parses a complete BROADCAST. BROADCAST is by far the most frequent kind, so it has a fast path.
/// Returns `None` for every other kind, and for an incomplete or invalid BROADCAST.
#[inline(always)]
pub(super) fn parse_broadcast(bytes: &[u8], limit: usize) -> Option<Head> {
    let [a, b, c, d, BROADCAST, ttl, nonce @ ..] = *bytes.first_chunk::<MAX_PREFIX>()? else {
        return None;
    };
    let length = u32::from_be_bytes([a, b, c, d]);
    let len = length.checked_add(LENGTH_FIELD as u32)?;
    let payload_len = (len as usize).checked_sub(MAX_PREFIX)?;
    if payload_len > limit || len as usize > bytes.len() {
        return None;
    }
    let kind = Kind::Broadcast {
        nonce: u64::from_be_bytes(nonce),
    };
    Some(Head {
        kind,
        ttl,
        verbatim: true,
        prefix: MAX_PREFIX as u8,
        suffix: 0,
        len,
    })
}

/// Parses a complete REQUEST; the fast path of requests, like [`parse_broadcast`].
#[inline(always)]
fn parse_request(bytes: &[u8], limit: usize) -> Option<Head> {
    const PREFIX: usize = FIXED + 4;
    let [a, b, c, d, REQUEST, ttl, id @ ..] = *bytes.first_chunk::<PREFIX>()? else {
        return None;
    };
    let length = u32::from_be_bytes([a, b, c, d]);
    let len = length.checked_add(LENGTH_FIELD as u32)?;
    let payload_len = (len as usize).checked_sub(PREFIX)?;
    if payload_len > limit || len as usize > bytes.len() {
        return None;
    }
    let kind = Kind::Request {
        id: u32::from_be_bytes(id),
    };
    Some(Head {
        kind,
        ttl,
        verbatim: true,
        prefix: PREFIX as u8,
        suffix: 0,
        len,
    })
}
