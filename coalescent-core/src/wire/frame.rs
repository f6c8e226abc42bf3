//! Frames on a wire: kinds, heads, and blocks of complete frames.

use std::ops::Range;

use bytes::Bytes;

/// The maximum number of frames in one [`Block`].
///
/// The list of heads takes 32 bytes per frame, so at most 64 KiB. Down to frames of 64 bytes, a
/// block holds the largest buffer that a connection reads into, so that the whole read can be
/// forwarded as one slice.
pub const MAX_BLOCK_FRAMES: usize = 2048;

/// The number of hops that a broadcast may travel, unless [`Config::ttl`](crate::Config::ttl) says
/// otherwise: 32.
pub const DEFAULT_TTL: u8 = 32;

/// The kind of a frame on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A frame for the receiving peer alone.
    Data,
    /// A frame for every node of the mesh.
    Broadcast {
        /// Distinguishes this frame from other frames with the same payload. Relays preserve it.
        nonce: u64,
    },
    /// A frame whose sender waits for a reply.
    Request {
        /// Chosen by the requester and repeated in the reply.
        id: u32,
    },
    /// The answer to a request.
    Reply {
        /// The `id` of the request.
        id: u32,
        /// The outcome of the request.
        status: Status,
    },
    /// Cancels a request: its sender no longer waits for the reply.
    Cancel {
        /// The `id` of the request.
        id: u32,
    },
    /// A frame for the plugin whose channel has this index in the sender's
    /// [`Hello::channels`](super::Hello::channels).
    Channel {
        /// The position of the channel's name in the list of the sender.
        index: u8,
    },
    /// The first frame in each direction: a [`Hello`](super::Hello).
    Hello,
    /// Requests a [`Kind::Pong`] with the same 8 bytes.
    Ping,
    /// Answers a [`Kind::Ping`] with its 8 bytes.
    Pong,
    /// Announces that the sender closes the connection. The payload is the reason.
    Bye,
    /// A kind that this version does not know. It is skipped and counted.
    Unknown(u8),
    /// A payload on a wire without frame kinds (`lines`, `raw`, and custom wires).
    Plain,
    /// Bytes that are not a frame, such as an empty line.
    Nothing,
}

impl Kind {
    /// Returns whether the frame is handled by the connection itself, not by the stack.
    #[must_use]
    pub fn is_control(self) -> bool {
        matches!(
            self,
            Self::Cancel { .. }
                | Self::Channel { .. }
                | Self::Hello
                | Self::Ping
                | Self::Pong
                | Self::Bye
        )
    }

    /// Returns whether the frame carries a payload for the receiver's stack.
    #[inline]
    #[must_use]
    pub fn is_payload(self) -> bool {
        matches!(
            self,
            Self::Data | Self::Broadcast { .. } | Self::Request { .. } | Self::Plain
        )
    }
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Status {
    /// The request succeeded; the payload is the answer.
    Ok = 0,
    /// The stack returned no answer.
    NoAnswer = 1,
    /// The request failed; the payload is the reason, as UTF-8.
    Failed = 2,
}

impl Status {
    /// Decodes a status byte. An unknown byte decodes as [`Status::Failed`], so that the requester
    /// does not keep waiting.
    #[must_use]
    pub fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Self::Ok,
            1 => Self::NoAnswer,
            _ => Self::Failed,
        }
    }

    /// Returns the byte that encodes the status.
    #[must_use]
    pub fn to_byte(self) -> u8 {
        self as u8
    }
}

/// The description of one frame, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The kind of the frame, with the fields of that kind.
    pub kind: Kind,
    /// The ttl as received, before a relay decrements it. 0 on wires without a ttl.
    pub ttl: u8,
    /// Whether the frame's bytes can be forwarded unchanged on an equal wire. False for a line that
    /// ended in `\r\n` or at the end of the stream, and for frames of custom wires.
    pub verbatim: bool,
    pub(super) prefix: u8,
    pub(super) suffix: u8,
    pub(super) len: u32,
}

impl Head {
    /// Returns the length of the whole frame on the wire, in bytes.
    #[inline]
    #[must_use]
    pub fn wire_len(&self) -> usize {
        self.len as usize
    }

    /// Returns the range of the payload, relative to the first byte of the frame.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> Range<usize> {
        usize::from(self.prefix)..self.wire_len().saturating_sub(usize::from(self.suffix))
    }

    /// Returns the length of the payload, in bytes.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        self.payload().len()
    }

    /// Creates the head of a payload of `len` bytes that stands without its frame.
    pub(crate) fn bare(kind: Kind, len: usize) -> Self {
        Self::plain(len, 0, kind, false)
    }

    /// Whether it is the head of a payload without its frame: one that was handed in.
    pub(crate) fn is_bare(&self) -> bool {
        matches!(self.kind, Kind::Data) && !self.verbatim
    }

    /// Creates the head of a frame that was not read from a wire.
    #[cfg(feature = "test-util")]
    pub(crate) fn new(kind: Kind, ttl: u8) -> Self {
        Self {
            ttl,
            ..Self::plain(0, 0, kind, true)
        }
    }

    pub(super) fn plain(len: usize, suffix: u8, kind: Kind, verbatim: bool) -> Self {
        // Frame sizes are capped at MAX_FRAME_CEILING, far below u32::MAX.
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        Self {
            kind,
            ttl: 0,
            verbatim,
            prefix: 0,
            suffix,
            len,
        }
    }
}

/// A sequence of complete frames in one shared buffer, usually the result of one read.
///
/// The frames are contiguous, so a run of consecutive frames is one slice of [`Block::bytes`].
/// Reuse a block between calls to keep the allocation of its list.
#[derive(Debug, Default)]
pub struct Block {
    /// The bytes of all frames. In each BROADCAST with a ttl above 0, the ttl byte is already
    /// decremented, so that the bytes can be forwarded unchanged.
    pub bytes: Bytes,
    /// The offset in `bytes` and the head of each frame.
    pub heads: Vec<(usize, Head)>,
    /// Whether all of the frames are known to be broadcasts.
    pub(crate) broadcasts: bool,
}

impl Block {
    /// Creates an empty block without allocating.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Removes all frames, but keeps the allocation of the list.
    pub fn clear(&mut self) {
        self.bytes = Bytes::new();
        self.heads.clear();
        self.broadcasts = false;
    }

    /// Returns the payload of a frame of this block, as a slice of the block's buffer.
    ///
    /// # Panics
    ///
    /// Panics if `offset` and `head` are not an entry of this block's [`Block::heads`].
    #[inline]
    #[must_use]
    pub fn payload(&self, offset: usize, head: &Head) -> Bytes {
        self.bytes.slice(self.payload_range(offset, head))
    }

    /// Returns the range of a frame's payload in [`Block::bytes`].
    #[inline]
    pub(crate) fn payload_range(&self, offset: usize, head: &Head) -> Range<usize> {
        let payload = head.payload();
        offset + payload.start..offset + payload.end
    }

    /// Returns the bytes of a frame of this block, as a slice of the block's buffer.
    ///
    /// # Panics
    ///
    /// Panics if `offset` and `head` are not an entry of this block's [`Block::heads`].
    #[must_use]
    pub fn frame(&self, offset: usize, head: &Head) -> Bytes {
        self.bytes.slice(offset..offset + head.wire_len())
    }
}

/// A frame with its payload: the item of the [`Decoder`](tokio_util::codec::Decoder) and
/// [`Encoder`](tokio_util::codec::Encoder) implementations.
///
/// ```
/// use coalescent::wire::{Kind, Packet};
///
/// let beep = Packet::new(Kind::Data, "beep");
/// assert_eq!((beep.kind, beep.ttl, &beep.payload[..]), (Kind::Data, 0, &b"beep"[..]));
/// let boop = Packet::new(Kind::Broadcast { nonce: 7 }, "boop").ttl(2);
/// assert_eq!(boop.ttl, 2);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Packet {
    /// The kind of the frame.
    pub kind: Kind,
    /// The number of hops left; 0 on wires without a ttl.
    pub ttl: u8,
    /// The payload.
    pub payload: Bytes,
}

impl Packet {
    /// Creates a frame of this kind. A broadcast has the [`DEFAULT_TTL`], other kinds have none.
    #[inline]
    #[must_use]
    pub fn new(kind: Kind, payload: impl Into<Bytes>) -> Self {
        let ttl = match kind {
            Kind::Broadcast { .. } => DEFAULT_TTL,
            _ => 0,
        };
        Self {
            kind,
            ttl,
            payload: payload.into(),
        }
    }

    /// Sets the number of hops left.
    #[inline]
    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }
}

/// The bytes to write before and after a payload, so that a large payload need not be copied.
#[derive(Clone, Copy, Debug, Default)]
pub struct Framing {
    pub(super) prefix: [u8; MAX_PREFIX],
    pub(super) prefix_len: u8,
    pub(super) suffix: &'static [u8],
}

/// The length of the longest frame prefix, that of a native BROADCAST, in bytes.
pub const MAX_PREFIX: usize = 14;

impl Framing {
    /// Returns the bytes to write before the payload.
    #[must_use]
    pub fn prefix(&self) -> &[u8] {
        self.prefix
            .get(..usize::from(self.prefix_len))
            .unwrap_or(&self.prefix)
    }

    /// Writes the line end as `\r\n` if the payload ends in `\r`, because the reader drops one `\r`
    /// before the `\n`.
    ///
    /// Otherwise a relayed line would lose one `\r` per hop and look like a new line each time, so
    /// that nodes in a cycle would relay it once per `\r`.
    pub(crate) fn keep_carriage_return(&mut self, payload: &[u8]) {
        if self.suffix == b"\n" && payload.last() == Some(&b'\r') {
            self.suffix = b"\r\n";
        }
    }

    /// Returns the bytes to write after the payload.
    #[must_use]
    pub fn suffix(&self) -> &'static [u8] {
        self.suffix
    }
}
