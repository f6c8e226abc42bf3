use bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder};

use super::{
    Block, Framing, Head, Kind, MAX_BLOCK_FRAMES, MAX_PREFIX, Packet, WireError, clamp_frame,
    plain_payload,
};
use crate::transport::foreign::is_tls_record;

/// A codec of the `lines` wire: one frame per line.
///
/// ```text
///  +---------+------+------+
///  | payload | (\r) |  \n  |
///  +---------+------+------+
/// ```
///
/// One `\r` before the `\n` belongs to the line end: it is dropped, and does not count against the
/// frame limit. A payload that ends in `\r` therefore arrives without it, except through a relay,
/// which preserves payloads by writing a second `\r`.
///
/// An empty line is not a frame, so writing an empty payload writes nothing. A payload that
/// contains `\n` is rejected. If the stream ends cleanly, the bytes after the last `\n` form a
/// frame, as in Node and in shells; a trailing `\r` is part of that payload.
///
/// A connection that begins with a TLS handshake is an error, because such a peer has an identity,
/// and this node has none.
#[derive(Clone, Debug)]
pub struct LinesCodec {
    max_frame: usize,
    /// The length of the prefix of the buffer that is known to contain no `\n`, so that a long line
    /// arriving in small pieces is scanned only once.
    scanned: usize,
    /// Whether the first bytes of the connection are still to be looked at.
    at_start: bool,
}

impl LinesCodec {
    /// Creates the codec of one connection. `max_frame` is the largest payload of a line, in bytes.
    #[must_use]
    pub fn new(max_frame: usize) -> Self {
        Self {
            max_frame: clamp_frame(max_frame),
            scanned: 0,
            at_start: true,
        }
    }

    /// Fails if the connection begins with a TLS handshake, which would be read as lines.
    #[cold]
    fn check_start(&mut self, first: &[u8]) -> Result<(), WireError> {
        match is_tls_record(first) {
            Some(true) => return Err(WireError::tls()),
            Some(false) => self.at_start = false,
            // A line that is whole is taken.
            None => self.at_start = memchr::memchr(b'\n', first).is_none(),
        }
        Ok(())
    }

    /// Parses the line at the front of `bytes`, whose first `scanned` bytes contain no `\n`.
    #[inline]
    fn parse(&self, bytes: &[u8], scanned: usize) -> Result<Option<Head>, WireError> {
        let fresh = bytes.get(scanned..).unwrap_or_default();
        let Some(end) = memchr::memchr(b'\n', fresh).and_then(|at| at.checked_add(scanned)) else {
            // A trailing `\r` may turn out to belong to the line end.
            let payload_len = bytes.len() - usize::from(bytes.last() == Some(&b'\r'));
            if payload_len > self.max_frame {
                return Err(WireError::too_large(self.max_frame));
            }
            return Ok(None);
        };
        let line = bytes.get(..end).unwrap_or_default();
        let carriage_return = line.last() == Some(&b'\r');
        let payload_len = end - usize::from(carriage_return);
        if payload_len > self.max_frame {
            return Err(WireError::too_large(self.max_frame));
        }
        let kind = if payload_len == 0 {
            Kind::Nothing
        } else {
            Kind::Plain
        };
        Ok(Some(Head::plain(
            end + 1,
            1 + u8::from(carriage_return),
            kind,
            !carriage_return,
        )))
    }

    /// Takes all complete lines from the front of `buf`; see
    /// [`WireCodec::next_block`](super::WireCodec::next_block).
    ///
    /// # Errors
    ///
    /// Fails as [`WireCodec::next_block`](super::WireCodec::next_block) does.
    pub fn next_block(&mut self, buf: &mut BytesMut, block: &mut Block) -> Result<bool, WireError> {
        block.clear();
        if self.at_start {
            self.check_start(buf)?;
        }
        let mut at = 0;
        let mut scanned = self.scanned;
        while block.heads.len() < MAX_BLOCK_FRAMES {
            let rest = buf.get(at..).unwrap_or_default();
            let head = match self.parse(rest, scanned) {
                Ok(Some(head)) => head,
                Ok(None) => {
                    scanned = rest.len();
                    break;
                }
                Err(_) if at > 0 => break,
                Err(error) => return Err(error),
            };
            scanned = 0;
            block.heads.push((at, head));
            at += head.wire_len();
        }
        self.scanned = scanned;
        if at == 0 {
            return Ok(false);
        }
        block.bytes = buf.split_to(at).freeze();
        Ok(true)
    }

    /// Takes the last, unterminated line once the stream has ended.
    ///
    /// # Errors
    ///
    /// Returns an error that [`is_too_large`](WireError::is_too_large) if the line exceeds the
    /// limit.
    pub(super) fn finish(
        &mut self,
        buf: &mut BytesMut,
        block: &mut Block,
    ) -> Result<bool, WireError> {
        if self.next_block(buf, block)? {
            return Ok(true);
        }
        self.scanned = 0;
        if buf.is_empty() {
            return Ok(false);
        }
        if buf.len() > self.max_frame {
            return Err(WireError::too_large(self.max_frame));
        }
        block.bytes = buf.split().freeze();
        block
            .heads
            .push((0, Head::plain(block.bytes.len(), 0, Kind::Plain, false)));
        Ok(true)
    }

    /// Returns the framing of `payload`, or `None` if frames of this kind are not written on this
    /// wire.
    ///
    /// # Errors
    ///
    /// Fails as [`WireCodec::encode`](super::WireCodec::encode) does.
    pub fn framing(&self, kind: Kind, payload: &[u8]) -> Result<Option<Framing>, WireError> {
        if !plain_payload(kind, "lines")? {
            return Ok(None);
        }
        if payload.len() > self.max_frame {
            return Err(WireError::too_large(self.max_frame));
        }
        if memchr::memchr(b'\n', payload).is_some() {
            return Err(WireError::newline());
        }
        let suffix: &[u8] = if payload.is_empty() { b"" } else { b"\n" };
        Ok(Some(Framing {
            prefix: [0; MAX_PREFIX],
            prefix_len: 0,
            suffix,
        }))
    }

    pub(super) fn encode_parts(
        &self,
        kind: Kind,
        payload: &[u8],
        dst: &mut BytesMut,
    ) -> Result<(), WireError> {
        if let Some(framing) = self.framing(kind, payload)? {
            dst.reserve(payload.len() + 1);
            dst.extend_from_slice(payload);
            dst.extend_from_slice(framing.suffix());
        }
        Ok(())
    }
}

impl Decoder for LinesCodec {
    type Item = Packet;
    type Error = WireError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Packet>, WireError> {
        if self.at_start {
            self.check_start(src)?;
        }
        loop {
            let Some(head) = self.parse(src, self.scanned)? else {
                self.scanned = src.len();
                return Ok(None);
            };
            self.scanned = 0;
            let line = src.split_to(head.wire_len());
            if head.kind != Kind::Nothing {
                let payload = line.freeze().slice(head.payload());
                return Ok(Some(Packet {
                    kind: head.kind,
                    ttl: 0,
                    payload,
                }));
            }
        }
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Packet>, WireError> {
        if let Some(packet) = self.decode(src)? {
            return Ok(Some(packet));
        }
        self.scanned = 0;
        if src.is_empty() {
            return Ok(None);
        }
        if src.len() > self.max_frame {
            return Err(WireError::too_large(self.max_frame));
        }
        Ok(Some(Packet {
            kind: Kind::Plain,
            ttl: 0,
            payload: src.split().freeze(),
        }))
    }
}

impl Encoder<Packet> for LinesCodec {
    type Error = WireError;

    fn encode(&mut self, packet: Packet, dst: &mut BytesMut) -> Result<(), WireError> {
        self.encode_parts(packet.kind, &packet.payload, dst)
    }
}
