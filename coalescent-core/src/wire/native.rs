use bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder};

use super::{
    Block, Framing, Head, Kind, MAX_BLOCK_FRAMES, MAX_PREFIX, Packet, Status, WireError,
    clamp_frame,
};

/// The largest payload of a frame before [`NativeCodec::established`] is called, in bytes.
pub const HANDSHAKE_MAX_FRAME: usize = 1024;
/// The largest HELLO payload, in bytes.
pub const HELLO_MAX: usize = 1024;
/// The exact size of a PING or PONG payload, in bytes.
pub const PING_LEN: usize = 8;
/// The largest BYE payload, in bytes.
pub const BYE_MAX: usize = 256;

/// The length of the fields that every frame begins with: length, kind and ttl.
const FIXED: usize = 6;
/// The size of the length field, which `length` does not count.
const LENGTH_FIELD: usize = 4;
/// The bytes that `length` counts besides the fields of the kind: the kind and ttl bytes.
const COUNTED: usize = FIXED - LENGTH_FIELD;
/// The offset of the ttl byte in a frame.
const TTL_AT: usize = 5;

const DATA: u8 = 0x00;
const BROADCAST: u8 = 0x01;
const REQUEST: u8 = 0x02;
const REPLY: u8 = 0x03;
const CANCEL: u8 = 0x04;
const HELLO: u8 = 0x10;
const PING: u8 = 0x11;
const PONG: u8 = 0x12;
const BYE: u8 = 0x13;

/// A codec of the `native` wire: frames with a length prefix.
///
/// ```text
///  0        4      5     6
///  +--------+------+-----+----------------------+
///  | length | kind | ttl | fields of this kind  |
///  +--------+------+-----+----------------------+
///    u32 BE   u8     u8
///
///  00 DATA       payload
///  01 BROADCAST  nonce: u64, payload
///  02 REQUEST    id: u32, payload
///  03 REPLY      id: u32, status: u8, payload
///  04 CANCEL     id: u32
///  10 HELLO      a MessagePack map, at most 1 KiB
///  11 PING       8 bytes
///  12 PONG       8 bytes
///  13 BYE        a UTF-8 reason, at most 256 bytes
/// ```
///
/// `length` counts every byte after itself. Integers are big-endian. The frame limit counts payload
/// bytes: a payload of exactly the limit is accepted. A longer one is an error as soon as its
/// length field has arrived, before any of it is buffered. HELLO, PING, PONG and BYE have their own
/// limits, so a small frame limit does not exclude them.
///
/// Bytes after the `id` of a CANCEL are its payload and are ignored.
#[derive(Clone, Debug)]
pub struct NativeCodec {
    max_frame: usize,
    max_ttl: u8,
    established: bool,
}

/// The result of parsing the front of the buffer.
enum Front {
    Frame(Head),
    Partial,
}

impl NativeCodec {
    /// Creates the codec of one connection. `max_frame` is the largest payload, in bytes. Until
    /// [`NativeCodec::established`] is called, the limit is the smaller of it and
    /// [`HANDSHAKE_MAX_FRAME`].
    #[must_use]
    pub fn new(max_frame: usize) -> Self {
        Self {
            max_frame: clamp_frame(max_frame),
            max_ttl: u8::MAX,
            established: false,
        }
    }

    /// Limits the ttl of received BROADCAST frames to `max_ttl`.
    pub fn clamp_ttl(&mut self, max_ttl: u8) {
        self.max_ttl = max_ttl;
    }

    /// Raises the limit to the configured one. Call it once HELLO has been received.
    pub fn established(&mut self) {
        self.established = true;
    }

    fn limit(&self) -> usize {
        if self.established {
            self.max_frame
        } else {
            self.max_frame.min(HANDSHAKE_MAX_FRAME)
        }
    }

    /// Parses anything but a complete BROADCAST.
    #[inline(always)]
    fn parse_other(&self, bytes: &[u8], limit: usize) -> Result<Front, WireError> {
        match parse_request(bytes, limit) {
            Some(head) => Ok(Front::Frame(head)),
            None => self.parse(bytes),
        }
    }

    fn parse(&self, bytes: &[u8]) -> Result<Front, WireError> {
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
        let kind = match kind {
            DATA => Kind::Data,
            BROADCAST => match fields.first_chunk() {
                Some(nonce) => Kind::Broadcast {
                    nonce: u64::from_be_bytes(*nonce),
                },
                None => return Ok(Front::Partial),
            },
            REQUEST | CANCEL | REPLY => {
                let Some(id) = fields.first_chunk() else {
                    return Ok(Front::Partial);
                };
                let id = u32::from_be_bytes(*id);
                match kind {
                    REQUEST => Kind::Request { id },
                    CANCEL => Kind::Cancel { id },
                    _ => match fields.get(4) {
                        Some(status) => Kind::Reply {
                            id,
                            status: Status::from_byte(*status),
                        },
                        None => return Ok(Front::Partial),
                    },
                }
            }
            HELLO => Kind::Hello,
            PING => Kind::Ping,
            PONG => Kind::Pong,
            BYE => Kind::Bye,
            other => Kind::Unknown(other),
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

    /// Takes all complete frames from the front of `buf`; see
    /// [`WireCodec::next_block`](super::WireCodec::next_block).
    ///
    /// # Errors
    ///
    /// Fails as [`WireCodec::next_block`](super::WireCodec::next_block) does.
    pub fn next_block(&mut self, buf: &mut BytesMut, block: &mut Block) -> Result<bool, WireError> {
        block.clear();
        let mut at = 0;
        let mut others = false;
        let limit = self.limit();
        let bytes: &mut [u8] = buf;
        while block.heads.len() < MAX_BLOCK_FRAMES {
            let Some(rest) = bytes.get(at..) else { break };
            let mut head = match parse_broadcast(rest, limit) {
                Some(head) => head,
                None => match self.parse_other(rest, limit) {
                    Ok(Front::Frame(head)) => {
                        others = true;
                        head
                    }
                    Ok(Front::Partial) => break,
                    // Return the valid frames before the error first; the next call finds the error
                    // again.
                    Err(_) if at > 0 => break,
                    Err(error) => return Err(error),
                },
            };
            if matches!(head.kind, Kind::Broadcast { .. })
                && let Some(ttl) = bytes.get_mut(at + TTL_AT)
            {
                head.ttl = head.ttl.min(self.max_ttl);
                *ttl = head.ttl.saturating_sub(1);
            }
            block.heads.push((at, head));
            at += head.wire_len();
        }
        if at == 0 {
            return Ok(false);
        }
        block.bytes = buf.split_to(at).freeze();
        block.broadcasts = !others;
        Ok(true)
    }

    /// Returns how many bytes are missing from the frame at the front of `buf`, according to its
    /// length prefix and limited by the frame limit. Returns 0 if that is unknown.
    #[must_use]
    pub fn missing(&self, buf: &[u8]) -> usize {
        let Some(length) = buf.first_chunk::<LENGTH_FIELD>() else {
            return 0;
        };
        let claimed = u32::from_be_bytes(*length) as usize;
        let cap = self.limit().max(HELLO_MAX) + MAX_PREFIX;
        claimed
            .saturating_add(LENGTH_FIELD)
            .min(cap)
            .saturating_sub(buf.len())
    }

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
        let (byte, limit) = match kind {
            Kind::Data => (DATA, self.max_frame),
            Kind::Broadcast { .. } => (BROADCAST, self.max_frame),
            Kind::Request { .. } => (REQUEST, self.max_frame),
            Kind::Reply { .. } => (REPLY, self.max_frame),
            Kind::Cancel { .. } => (CANCEL, self.max_frame),
            Kind::Hello => (HELLO, HELLO_MAX),
            Kind::Ping => (PING, PING_LEN),
            Kind::Pong => (PONG, PING_LEN),
            Kind::Bye => (BYE, BYE_MAX),
            Kind::Unknown(DATA..=CANCEL | HELLO..=BYE) => {
                return Err(WireError::unsupported(
                    "a known kind under another name",
                    "native",
                ));
            }
            Kind::Unknown(byte) => (byte, self.max_frame),
            Kind::Plain | Kind::Nothing => {
                return Err(WireError::unsupported("a frame without a kind", "native"));
            }
        };
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
            _ => {}
        }
        Ok(Framing {
            prefix,
            prefix_len: FIXED as u8 + key,
            suffix: b"",
        })
    }

    pub(super) fn encode_parts(
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
fn parse_broadcast(bytes: &[u8], limit: usize) -> Option<Head> {
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

/// Returns the length of a kind's fields before the payload.
#[inline]
fn key_len(kind: u8) -> u8 {
    match kind {
        BROADCAST => 8,
        REQUEST | CANCEL => 4,
        REPLY => 5,
        _ => 0,
    }
}

impl Decoder for NativeCodec {
    type Item = Packet;
    type Error = WireError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Packet>, WireError> {
        match self.parse(src)? {
            Front::Partial => Ok(None),
            Front::Frame(head) => {
                let frame = src.split_to(head.wire_len()).freeze();
                let payload = frame.slice(head.payload());
                Ok(Some(Packet {
                    kind: head.kind,
                    ttl: head.ttl,
                    payload,
                }))
            }
        }
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Packet>, WireError> {
        match self.decode(src)? {
            None if !src.is_empty() => Err(WireError::truncated(src.len())),
            packet => Ok(packet),
        }
    }
}

impl Encoder<Packet> for NativeCodec {
    type Error = WireError;

    fn encode(&mut self, packet: Packet, dst: &mut BytesMut) -> Result<(), WireError> {
        self.encode_parts(packet.kind, packet.ttl, &packet.payload, dst)
    }
}
