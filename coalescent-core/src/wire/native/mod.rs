//! The `native` wire.

mod encode;
mod parse;

use bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder};

pub(crate) use self::encode::{broadcast_prefix, reply_prefix};
pub(crate) use self::parse::split_frame;
use self::parse::{Front, parse_broadcast};
use super::{Block, Kind, MAX_BLOCK_FRAMES, MAX_PREFIX, Packet, WireError, clamp_frame};

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
const CHANNEL: u8 = 0x05;
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
///  05 CHANNEL    index: u8, payload
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
/// Bytes after the `id` of a CANCEL are its payload and are ignored. The `index` of a CHANNEL is
/// the position of the channel's name in the HELLO of its sender.
#[derive(Clone, Debug)]
pub struct NativeCodec {
    max_frame: usize,
    max_ttl: u8,
    established: bool,
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
}

/// Returns the length of a kind's fields before the payload.
#[inline]
fn key_len(kind: u8) -> u8 {
    match kind {
        BROADCAST => 8,
        REQUEST | CANCEL => 4,
        REPLY => 5,
        CHANNEL => 1,
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
