use bytes::{Bytes, BytesMut};

use super::custom::CustomCodec;
use super::{Block, Framing, Kind, LinesCodec, NativeCodec, RawCodec, WireError};

/// Reads and writes the frames of one connection, whatever its wire.
///
/// Made by [`Wire::codec`](super::Wire::codec). It keeps the state of one connection, so each has
/// its own.
#[derive(Debug)]
pub struct WireCodec(Inner);

#[derive(Debug)]
enum Inner {
    Native(NativeCodec),
    Lines(LinesCodec),
    Raw(RawCodec),
    Custom(CustomCodec),
}

impl WireCodec {
    pub(super) fn native(max_frame: usize) -> Self {
        Self(Inner::Native(NativeCodec::new(max_frame)))
    }

    pub(super) fn lines(max_frame: usize) -> Self {
        Self(Inner::Lines(LinesCodec::new(max_frame)))
    }

    pub(super) fn raw(max_frame: usize) -> Self {
        Self(Inner::Raw(RawCodec::new(max_frame)))
    }

    pub(super) fn custom(codec: CustomCodec) -> Self {
        Self(Inner::Custom(codec))
    }

    /// Takes all complete frames at the front of `buf` into `block`, at most
    /// [`MAX_BLOCK_FRAMES`](super::MAX_BLOCK_FRAMES), and returns whether there was one.
    ///
    /// What was in `block` before is dropped. In the block's bytes the ttl of each BROADCAST is
    /// lowered by one unless it is 0, so that the bytes can be forwarded as they stand;
    /// [`Head::ttl`](super::Head::ttl) keeps the ttl as it was received. A block of an
    /// application's own wire is one payload, without the framing.
    ///
    /// Nothing is allocated for frames that have not arrived: the caller decides how much it reads
    /// into `buf`, with [`WireCodec::missing`] as a hint.
    ///
    /// # Errors
    ///
    /// When the bytes at the front are no frame, or one over its limit. Good frames before them are
    /// returned first, and the error by the next call.
    pub fn next_block(&mut self, buf: &mut BytesMut, block: &mut Block) -> Result<bool, WireError> {
        match &mut self.0 {
            Inner::Native(codec) => codec.next_block(buf, block),
            Inner::Lines(codec) => codec.next_block(buf, block),
            Inner::Raw(codec) => Ok(codec.next_block(buf, block)),
            Inner::Custom(codec) => codec.next_block(buf, block),
        }
    }

    /// Takes what is left in `buf` when the stream has ended as its sender meant it to: call it in
    /// place of [`WireCodec::next_block`], until it returns false. Of a stream that was cut off,
    /// what is left is the part of a frame whose rest is lost: take the whole frames with
    /// [`WireCodec::next_block`], and no more.
    ///
    /// # Errors
    ///
    /// As [`WireCodec::next_block`], and [`is_truncated`](WireError::is_truncated) on the `native`
    /// wire if the stream ended within a frame. On `lines` what stands after the last `\n` is a
    /// frame.
    pub fn finish(&mut self, buf: &mut BytesMut, block: &mut Block) -> Result<bool, WireError> {
        match &mut self.0 {
            Inner::Native(codec) => match codec.next_block(buf, block)? {
                false if !buf.is_empty() => Err(WireError::truncated(buf.len())),
                found => Ok(found),
            },
            Inner::Lines(codec) => codec.finish(buf, block),
            Inner::Raw(codec) => Ok(codec.next_block(buf, block)),
            Inner::Custom(codec) => codec.finish(buf, block),
        }
    }

    /// Appends one frame to `dst`.
    ///
    /// Wires other than `native` write the payload of [`Kind::Data`], [`Kind::Broadcast`] and
    /// [`Kind::Plain`], and nothing at all for control frames: they have none. Of an empty payload
    /// nothing is written on `lines` and `raw`.
    ///
    /// # Errors
    ///
    /// Leaves `dst` as it was, and returns an error that
    /// - [`is_too_large`](WireError::is_too_large) if the payload is over the limit (`raw` has none
    ///   for writing),
    /// - [`is_newline`](WireError::is_newline) if it contains `\n` on `lines`,
    /// - [`is_unsupported`](WireError::is_unsupported) for [`Kind::Request`] and [`Kind::Reply`] on
    ///   wires other than `native`, and [`Kind::Plain`] on it.
    pub fn encode(
        &mut self,
        kind: Kind,
        ttl: u8,
        payload: &[u8],
        dst: &mut BytesMut,
    ) -> Result<(), WireError> {
        match &mut self.0 {
            Inner::Native(codec) => codec.encode_parts(kind, ttl, payload, dst),
            Inner::Lines(codec) => codec.encode_parts(kind, payload, dst),
            Inner::Raw(codec) => codec.encode_parts(kind, payload, dst),
            Inner::Custom(codec) => codec.encode(kind, Bytes::copy_from_slice(payload), dst),
        }
    }

    /// Returns the bytes to write before and after `payload`, so that a large one is written
    /// without a copy. `None`: this frame has no such form, [`WireCodec::encode`] it.
    ///
    /// # Errors
    ///
    /// As [`WireCodec::encode`].
    pub fn framing(
        &self,
        kind: Kind,
        ttl: u8,
        payload: &[u8],
    ) -> Result<Option<Framing>, WireError> {
        match &self.0 {
            Inner::Native(codec) => codec.framing(kind, ttl, payload.len()).map(Some),
            Inner::Lines(codec) => codec.framing(kind, payload),
            Inner::Raw(codec) => codec.framing(kind),
            Inner::Custom(_) => Ok(None),
        }
    }

    /// Tells whether there may be frames that were read and not taken out, where `buf` is what is
    /// left: a codec of the application's may have taken in more than it has given out.
    pub(crate) fn may_hold_frames(&self, buf: &[u8]) -> bool {
        !buf.is_empty() || matches!(self.0, Inner::Custom(_))
    }

    /// Returns how many more bytes would complete the frame at the front of `buf`, as far as its
    /// sender claims; 0 where that is not known. Never more than the frame limit and a header.
    #[must_use]
    pub fn missing(&self, buf: &[u8]) -> usize {
        match &self.0 {
            Inner::Native(codec) => codec.missing(buf),
            Inner::Lines(_) | Inner::Raw(_) | Inner::Custom(_) => 0,
        }
    }

    /// Takes a higher ttl in a BROADCAST that arrives for this one, so that nobody makes a frame go
    /// farther than this node's own frames. Wires without a ttl have nothing to clamp.
    pub fn clamp_ttl(&mut self, max_ttl: u8) {
        if let Inner::Native(codec) = &mut self.0 {
            codec.clamp_ttl(max_ttl);
        }
    }

    /// Lifts the limit of the handshake, [`HANDSHAKE_MAX_FRAME`](super::HANDSHAKE_MAX_FRAME), to
    /// the frame limit. Wires without a handshake have the frame limit from the start.
    pub fn established(&mut self) {
        if let Inner::Native(codec) = &mut self.0 {
            codec.established();
        }
    }
}
