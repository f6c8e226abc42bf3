//! Encoding native frames.

use bytes::BytesMut;

use super::{
    BROADCAST, BYE, BYE_MAX, CANCEL, CHANNEL, COUNTED, DATA, FIXED, HELLO, HELLO_MAX, LENGTH_FIELD,
    NativeCodec, PING, PING_LEN, PONG, REPLY, REQUEST, TTL_AT, key_len,
};
use crate::wire::{Framing, Kind, MAX_PREFIX, Status, WireError};

impl NativeCodec {
    /// Returns the bytes to write before a payload of `payload_len` bytes.
    ///
    /// # Errors
    ///
    /// Returns an error that
    /// - [`is_too_large`](WireError::is_too_large) if the payload exceeds the limit of its kind,
    /// - [`is_malformed`](WireError::is_malformed) if the payload of a PING or PONG is not 8 bytes,
    /// - [`is_unsupported`](WireError::is_unsupported) for [`Kind::Plain`], [`Kind::Nothing`], and
    ///   a [`Kind::Unknown`] whose byte is that of a known kind.
    pub fn framing(&self, kind: Kind, ttl: u8, payload_len: usize) -> Result<Framing, WireError> {
        let (byte, limit) = self.kind_byte(kind)?;
        if payload_len > limit {
            return Err(WireError::too_large(limit));
        }
        if matches!(kind, Kind::Ping | Kind::Pong) && payload_len != PING_LEN {
            return Err(WireError::malformed(
                "a PING or PONG does not carry exactly 8 bytes",
            ));
        }
        let key = key_len(byte);
        let length = u32::try_from(COUNTED + usize::from(key) + payload_len)
            .map_err(|_| WireError::too_large(limit))?;
        let mut prefix = [0; MAX_PREFIX];
        prefix[..LENGTH_FIELD].copy_from_slice(&length.to_be_bytes());
        prefix[LENGTH_FIELD] = byte;
        prefix[TTL_AT] = ttl;
        match kind {
            Kind::Broadcast { nonce } => {
                prefix[FIXED..FIXED + 8].copy_from_slice(&nonce.to_be_bytes());
            }
            Kind::Request { id } | Kind::Cancel { id } => {
                prefix[FIXED..FIXED + 4].copy_from_slice(&id.to_be_bytes());
            }
            Kind::Reply { id, status } => {
                prefix[FIXED..FIXED + 4].copy_from_slice(&id.to_be_bytes());
                prefix[FIXED + 4] = status.to_byte();
            }
            Kind::Channel { index } => prefix[FIXED] = index,
            _ => {}
        }
        Ok(Framing {
            prefix,
            prefix_len: FIXED as u8 + key,
            suffix: b"",
        })
    }

    pub(in crate::wire) fn encode_parts(
        &self,
        kind: Kind,
        ttl: u8,
        payload: &[u8],
        dst: &mut BytesMut,
    ) -> Result<(), WireError> {
        let framing = self.framing(kind, ttl, payload.len())?;
        dst.reserve(framing.prefix().len() + payload.len());
        dst.extend_from_slice(framing.prefix());
        dst.extend_from_slice(payload);
        Ok(())
    }

    /// Returns the byte that encodes the kind, and the payload limit of the kind in bytes.
    #[inline]
    fn kind_byte(&self, kind: Kind) -> Result<(u8, usize), WireError> {
        Ok(match kind {
            Kind::Data => (DATA, self.max_frame),
            Kind::Broadcast { .. } => (BROADCAST, self.max_frame),
            Kind::Request { .. } => (REQUEST, self.max_frame),
            Kind::Reply { .. } => (REPLY, self.max_frame),
            Kind::Cancel { .. } => (CANCEL, self.max_frame),
            Kind::Channel { .. } => (CHANNEL, self.max_frame),
            Kind::Hello => (HELLO, HELLO_MAX),
            Kind::Ping => (PING, PING_LEN),
            Kind::Pong => (PONG, PING_LEN),
            Kind::Bye => (BYE, BYE_MAX),
            Kind::Unknown(DATA..=CHANNEL | HELLO..=BYE) => {
                return Err(WireError::unsupported(
                    "a known kind under another name",
                    "native",
                ));
            }
            Kind::Unknown(byte) => (byte, self.max_frame),
            Kind::Plain | Kind::Nothing => {
                return Err(WireError::unsupported("a frame without a kind", "native"));
            }
        })
    }
}

/// Returns the prefix of a BROADCAST with a small payload. Faster than [`NativeCodec::framing`];
/// the caller has checked the frame limit.
#[inline]
pub(crate) fn broadcast_prefix(ttl: u8, nonce: u64, payload_len: u16) -> [u8; MAX_PREFIX] {
    const FIELDS: u32 = (MAX_PREFIX - LENGTH_FIELD) as u32;
    let length = FIELDS + u32::from(payload_len);
    let mut prefix = [0; MAX_PREFIX];
    prefix[..LENGTH_FIELD].copy_from_slice(&length.to_be_bytes());
    prefix[LENGTH_FIELD] = BROADCAST;
    prefix[TTL_AT] = ttl;
    prefix[FIXED..].copy_from_slice(&nonce.to_be_bytes());
    prefix
}

/// Returns the prefix of a REPLY with [`Status::Ok`] and a small payload; see [`broadcast_prefix`].
#[inline]
pub(crate) fn reply_prefix(ttl: u8, id: u32, payload_len: u16) -> [u8; FIXED + 5] {
    let length = (COUNTED + 5) as u32 + u32::from(payload_len);
    let mut prefix = [0; FIXED + 5];
    prefix[..LENGTH_FIELD].copy_from_slice(&length.to_be_bytes());
    prefix[LENGTH_FIELD] = REPLY;
    prefix[TTL_AT] = ttl;
    prefix[FIXED..FIXED + 4].copy_from_slice(&id.to_be_bytes());
    prefix[FIXED + 4] = Status::Ok.to_byte();
    prefix
}
