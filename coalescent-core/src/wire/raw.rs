use bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder};

use super::{
    Block, Framing, Head, Kind, MAX_BLOCK_FRAMES, MAX_PREFIX, Packet, WireError, clamp_frame,
    plain_payload,
};

/// A codec of the `raw` wire: bytes without framing.
///
/// ```text
///  +--------------------------+
///  | all bytes that were read |
///  +--------------------------+
/// ```
///
/// Each read yields the whole buffer as one frame, split into several frames if it is longer than
/// the frame limit. Writing has no limit, and writes nothing for an empty payload.
#[derive(Clone, Debug)]
pub struct RawCodec {
    max_frame: usize,
}

impl RawCodec {
    /// Creates the codec of one connection. `max_frame` is the largest frame to read, in bytes (at
    /// least 1).
    #[must_use]
    pub fn new(max_frame: usize) -> Self {
        Self {
            max_frame: clamp_frame(max_frame).max(1),
        }
    }

    /// Takes the contents of `buf`; see [`WireCodec::next_block`](super::WireCodec::next_block).
    pub fn next_block(&mut self, buf: &mut BytesMut, block: &mut Block) -> bool {
        block.clear();
        let mut at = 0;
        while at < buf.len() && block.heads.len() < MAX_BLOCK_FRAMES {
            let len = (buf.len() - at).min(self.max_frame);
            block
                .heads
                .push((at, Head::plain(len, 0, Kind::Plain, true)));
            at += len;
        }
        if at == 0 {
            return false;
        }
        block.bytes = buf.split_to(at).freeze();
        true
    }

    /// Returns the framing of a payload, which is empty, or `None` if frames of this kind are not
    /// written on this wire.
    ///
    /// # Errors
    ///
    /// Fails as [`WireCodec::encode`](super::WireCodec::encode) does.
    pub fn framing(&self, kind: Kind) -> Result<Option<Framing>, WireError> {
        Ok(plain_payload(kind, "raw")?.then_some(Framing {
            prefix: [0; MAX_PREFIX],
            prefix_len: 0,
            suffix: b"",
        }))
    }

    pub(super) fn encode_parts(
        &self,
        kind: Kind,
        payload: &[u8],
        dst: &mut BytesMut,
    ) -> Result<(), WireError> {
        if self.framing(kind)?.is_some() {
            dst.extend_from_slice(payload);
        }
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Packet;
    type Error = WireError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Packet>, WireError> {
        if src.is_empty() {
            return Ok(None);
        }
        let payload = src.split_to(src.len().min(self.max_frame)).freeze();
        Ok(Some(Packet {
            kind: Kind::Plain,
            ttl: 0,
            payload,
        }))
    }
}

impl Encoder<Packet> for RawCodec {
    type Error = WireError;

    fn encode(&mut self, packet: Packet, dst: &mut BytesMut) -> Result<(), WireError> {
        self.encode_parts(packet.kind, &packet.payload, dst)
    }
}
