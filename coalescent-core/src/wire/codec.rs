use bytes::{Bytes, BytesMut};

use super::custom::CustomCodec;
use super::{Block, Framing, Kind, LinesCodec, NativeCodec, RawCodec, WireError};

/// The frame codec of one connection, for any wire.
///
/// Created by [`Wire::codec`](super::Wire::codec). It holds the state of one connection, so do not
/// share it between connections.
#[derive(Debug)]
pub struct WireCodec(AnyCodec);

#[derive(Debug)]
enum AnyCodec {
    Native(NativeCodec),
    Lines(LinesCodec),
    Raw(RawCodec),
    Custom(CustomCodec),
}

impl WireCodec {
    pub(super) fn native(max_frame: usize) -> Self {
        Self(AnyCodec::Native(NativeCodec::new(max_frame)))
    }

    pub(super) fn lines(max_frame: usize) -> Self {
        Self(AnyCodec::Lines(LinesCodec::new(max_frame)))
    }

    pub(super) fn raw(max_frame: usize) -> Self {
        Self(AnyCodec::Raw(RawCodec::new(max_frame)))
    }

    pub(super) fn custom(codec: CustomCodec) -> Self {
        Self(AnyCodec::Custom(codec))
    }

    /// Takes all complete frames from the front of `buf` into `block`, at most
    /// [`MAX_BLOCK_FRAMES`](super::MAX_BLOCK_FRAMES), and returns whether there were any.
    ///
    /// The previous contents of `block` are dropped. In the block's bytes, the ttl of each
    /// BROADCAST is already decremented (unless it is 0), so that the bytes can be forwarded
    /// unchanged; [`Head::ttl`](super::Head::ttl) holds the received ttl. On a custom wire a block
    /// holds a single payload, without its framing.
    ///
    /// This method allocates no space for frames that have not arrived. The caller chooses how much
    /// to read into `buf`; [`WireCodec::missing`] gives a hint.
    ///
    /// # Errors
    ///
    /// Fails if the bytes at the front are not a valid frame, or if the frame exceeds its limit.
    /// Valid frames before the faulty one are returned first; the next call returns the error.
    pub fn next_block(&mut self, buf: &mut BytesMut, block: &mut Block) -> Result<bool, WireError> {
        match &mut self.0 {
            AnyCodec::Native(codec) => codec.next_block(buf, block),
            AnyCodec::Lines(codec) => codec.next_block(buf, block),
            AnyCodec::Raw(codec) => Ok(codec.next_block(buf, block)),
            AnyCodec::Custom(codec) => codec.next_block(buf, block),
        }
    }

    /// Takes the remaining frames from `buf` after the peer has closed the stream cleanly. Call it
    /// instead of [`WireCodec::next_block`], until it returns false.
    ///
    /// If the connection was lost instead, the remaining bytes are an incomplete frame: use only
    /// [`WireCodec::next_block`], which returns the complete ones.
    ///
    /// # Errors
    ///
    /// Fails as [`WireCodec::next_block`] does. On the `native` wire, returns an error that
    /// [`is_truncated`](WireError::is_truncated) if the stream ended within a frame. On `lines`,
    /// the bytes after the last `\n` are a frame.
    pub fn finish(&mut self, buf: &mut BytesMut, block: &mut Block) -> Result<bool, WireError> {
        match &mut self.0 {
            AnyCodec::Native(codec) => match codec.next_block(buf, block)? {
                false if !buf.is_empty() => Err(WireError::truncated(buf.len())),
                found => Ok(found),
            },
            AnyCodec::Lines(codec) => codec.finish(buf, block),
            AnyCodec::Raw(codec) => Ok(codec.next_block(buf, block)),
            AnyCodec::Custom(codec) => codec.finish(buf, block),
        }
    }

    /// Appends one frame to `dst`.
    ///
    /// Wires other than `native` write the payloads of [`Kind::Data`], [`Kind::Broadcast`] and
    /// [`Kind::Plain`]. They have no control frames, so they write nothing for them. `lines` and
    /// `raw` write nothing for an empty payload.
    ///
    /// # Errors
    ///
    /// Leaves `dst` unchanged and returns an error that
    /// - [`is_too_large`](WireError::is_too_large) if the payload exceeds the limit (`raw` has no
    ///   limit for writing),
    /// - [`is_newline`](WireError::is_newline) if the payload contains `\n` on `lines`,
    /// - [`is_unsupported`](WireError::is_unsupported) for [`Kind::Request`], [`Kind::Reply`],
    ///   [`Kind::Cancel`] and [`Kind::Channel`] on wires other than `native`, and for
    ///   [`Kind::Plain`] on `native`.
    pub fn encode(
        &mut self,
        kind: Kind,
        ttl: u8,
        payload: &[u8],
        dst: &mut BytesMut,
    ) -> Result<(), WireError> {
        match &mut self.0 {
            AnyCodec::Native(codec) => codec.encode_parts(kind, ttl, payload, dst),
            AnyCodec::Lines(codec) => codec.encode_parts(kind, payload, dst),
            AnyCodec::Raw(codec) => codec.encode_parts(kind, payload, dst),
            AnyCodec::Custom(codec) => codec.encode(kind, Bytes::copy_from_slice(payload), dst),
        }
    }

    /// Returns the bytes to write before and after `payload`, so that a large payload is written
    /// without a copy. Returns `None` if the frame has no such form; use [`WireCodec::encode`] for
    /// it.
    ///
    /// # Errors
    ///
    /// Fails as [`WireCodec::encode`] does.
    pub fn framing(
        &self,
        kind: Kind,
        ttl: u8,
        payload: &[u8],
    ) -> Result<Option<Framing>, WireError> {
        match &self.0 {
            AnyCodec::Native(codec) => codec.framing(kind, ttl, payload.len()).map(Some),
            AnyCodec::Lines(codec) => codec.framing(kind, payload),
            AnyCodec::Raw(codec) => codec.framing(kind),
            AnyCodec::Custom(_) => Ok(None),
        }
    }

    /// Returns whether frames may remain that were read but not returned yet; `buf` is the unparsed
    /// rest. A custom codec may have buffered bytes itself.
    pub(crate) fn may_hold_frames(&self, buf: &[u8]) -> bool {
        !buf.is_empty() || matches!(self.0, AnyCodec::Custom(_))
    }

    /// Returns how many more bytes complete the frame at the front of `buf`, according to its
    /// length prefix. Returns 0 if that is unknown, and never more than the frame limit plus a
    /// header.
    #[must_use]
    pub fn missing(&self, buf: &[u8]) -> usize {
        match &self.0 {
            AnyCodec::Native(codec) => codec.missing(buf),
            AnyCodec::Lines(_) | AnyCodec::Raw(_) | AnyCodec::Custom(_) => 0,
        }
    }

    /// Limits the ttl of received BROADCAST frames to `max_ttl`, so that no peer can send a frame
    /// farther than this node's own frames travel. Has no effect on wires without a ttl.
    pub fn clamp_ttl(&mut self, max_ttl: u8) {
        if let AnyCodec::Native(codec) = &mut self.0 {
            codec.clamp_ttl(max_ttl);
        }
    }

    /// Raises the frame limit from the handshake's,
    /// [`HANDSHAKE_MAX_FRAME`](super::HANDSHAKE_MAX_FRAME), to the configured one. Wires without a
    /// handshake use the configured limit from the start.
    pub fn established(&mut self) {
        if let AnyCodec::Native(codec) = &mut self.0 {
            codec.established();
        }
    }
}
