//! What stands on a wire: kinds, heads, and blocks of whole frames.

use std::ops::Range;

use bytes::Bytes;

/// The number of frames that one [`Block`] holds at most.
///
/// A block's list of heads takes 32 bytes a frame, so at most 64 KiB. Frames of 64 bytes fill the
/// largest buffer that a connection reads into before that, so that they can be forwarded as one
/// slice.
pub const MAX_BLOCK_FRAMES: usize = 2048;

/// Names what kind of frame stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A frame for this peer's stack alone.
    Data,
    /// A frame for every stack of the mesh.
    Broadcast {
        /// Tells this frame from another one of equal bytes; relays keep it.
        nonce: u64,
    },
    /// A frame whose sender waits for the reply.
    Request {
        /// Chosen by the requester, repeated by the reply.
        id: u32,
    },
    /// The answer to a request.
    Reply {
        /// The request's `id`.
        id: u32,
        /// What became of the request.
        status: Status,
    },
    /// The sender of a request no longer waits.
    Cancel {
        /// The request's `id`.
        id: u32,
    },
    /// The first frame in each direction: a [`Hello`](super::Hello).
    Hello,
    /// Asks for a [`Kind::Pong`] with the same 8 bytes.
    Ping,
    /// Answers a [`Kind::Ping`] with its 8 bytes.
    Pong,
    /// The sender closes after this; the payload is the reason.
    Bye,
    /// A kind that this version does not know: to be skipped, and counted.
    Unknown(u8),
    /// A payload on a wire that tells no kinds (`lines`, `raw`, and an application's own).
    Plain,
    /// Bytes that are no frame, such as an empty line.
    Nothing,
}

impl Kind {
    /// Tells whether the frame is for the connection itself, and not for a stack.
    #[must_use]
    pub fn is_control(self) -> bool {
        matches!(
            self,
            Self::Cancel { .. } | Self::Hello | Self::Ping | Self::Pong | Self::Bye
        )
    }

    /// Tells whether the frame carries a payload for the stack of the receiver.
    #[inline]
    #[must_use]
    pub fn is_payload(self) -> bool {
        matches!(
            self,
            Self::Data | Self::Broadcast { .. } | Self::Request { .. } | Self::Plain
        )
    }
}

/// Tells what became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Status {
    /// The payload is the answer.
    Ok = 0,
    /// The stack made no answer.
    NoAnswer = 1,
    /// The request failed; the payload is the reason, as UTF-8.
    Failed = 2,
}

impl Status {
    /// Reads a status byte. A byte that this version does not know reads as [`Status::Failed`]:
    /// whatever it says, it is neither an answer nor its absence, and the requester must not wait
    /// on.
    #[must_use]
    pub fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Self::Ok,
            1 => Self::NoAnswer,
            _ => Self::Failed,
        }
    }

    /// Returns the byte that stands for the status on the wire.
    #[must_use]
    pub fn to_byte(self) -> u8 {
        self as u8
    }
}

/// Describes one frame, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What kind of frame it is, with the fields of that kind.
    pub kind: Kind,
    /// The ttl as it was received, before a relay lowers it. 0 on wires without a ttl.
    pub ttl: u8,
    /// Whether the frame's bytes can be forwarded on an equal wire as they stand. False for a line
    /// that ended in `\r\n` or in the end of the stream, and for frames of an application's own
    /// wire.
    pub verbatim: bool,
    pub(super) prefix: u8,
    pub(super) suffix: u8,
    pub(super) len: u32,
}

impl Head {
    /// Returns the number of bytes that the whole frame takes on the wire.
    #[inline]
    #[must_use]
    pub fn wire_len(&self) -> usize {
        self.len as usize
    }

    /// Returns where the payload stands, counted from the frame's first byte.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> Range<usize> {
        usize::from(self.prefix)..self.wire_len().saturating_sub(usize::from(self.suffix))
    }

    /// Returns the number of bytes in the payload.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        self.payload().len()
    }

    /// The head of a frame that stood on no wire.
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

/// Holds consecutive whole frames in one shared buffer: what one read brought.
///
/// The frames lie one after another without gaps, so a run of neighbours is one slice of
/// [`Block::bytes`]. Reuse a block between calls: its list keeps its allocation.
#[derive(Debug, Default)]
pub struct Block {
    /// The bytes of all frames. In each BROADCAST with a ttl above 0 the ttl byte is already
    /// lowered by one, so that the bytes can be forwarded as they stand.
    pub bytes: Bytes,
    /// Each frame's offset in `bytes`, and its head.
    pub heads: Vec<(usize, Head)>,
    /// Whether it is known that all of them are broadcasts.
    pub(crate) broadcasts: bool,
}

impl Block {
    /// Returns an empty block. Allocates nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the frames, and keeps the list's allocation.
    pub fn clear(&mut self) {
        self.bytes = Bytes::new();
        self.heads.clear();
        self.broadcasts = false;
    }

    /// Returns the payload of a frame of this block, as a slice that shares the block's buffer.
    ///
    /// # Panics
    ///
    /// If `offset` and `head` are not a pair out of [`Block::heads`] of this block.
    #[inline]
    #[must_use]
    pub fn payload(&self, offset: usize, head: &Head) -> Bytes {
        self.bytes.slice(self.payload_range(offset, head))
    }

    /// Where in [`Block::bytes`] the payload of a frame of this block stands.
    #[inline]
    pub(crate) fn payload_range(&self, offset: usize, head: &Head) -> Range<usize> {
        let payload = head.payload();
        offset + payload.start..offset + payload.end
    }

    /// Returns the bytes of a frame of this block, as a slice that shares the block's buffer.
    ///
    /// # Panics
    ///
    /// If `offset` and `head` are not a pair out of [`Block::heads`] of this block.
    #[must_use]
    pub fn frame(&self, offset: usize, head: &Head) -> Bytes {
        self.bytes.slice(offset..offset + head.wire_len())
    }
}

/// One frame with its payload: the item of the wires' [`Decoder`](tokio_util::codec::Decoder)s and
/// [`Encoder`](tokio_util::codec::Encoder)s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What kind of frame it is.
    pub kind: Kind,
    /// How many more hops it may go; 0 on wires without a ttl.
    pub ttl: u8,
    /// What it carries.
    pub payload: Bytes,
}

/// The bytes to write before and after a payload, so that a large payload need not be copied.
#[derive(Clone, Copy, Debug, Default)]
pub struct Framing {
    pub(super) prefix: [u8; MAX_PREFIX],
    pub(super) prefix_len: u8,
    pub(super) suffix: &'static [u8],
}

/// The longest prefix of a frame: that of a native BROADCAST.
pub const MAX_PREFIX: usize = 14;

impl Framing {
    /// Returns the bytes to write before the payload.
    #[must_use]
    pub fn prefix(&self) -> &[u8] {
        self.prefix
            .get(..usize::from(self.prefix_len))
            .unwrap_or(&self.prefix)
    }

    /// Ends a line so that its payload arrives as it is where it ends in `\r`: one `\r` before the
    /// `\n` is dropped there.
    ///
    /// Else a line would lose another `\r` at each relay, and be a new one to the next: a circle of
    /// nodes would pass on as many as there are.
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
