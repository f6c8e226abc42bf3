//! Encoded frames, as they go into an outbox and come out of it.

use bytes::Bytes;

use crate::wire::Framing;

/// Encoded frames that are queued for a peer as one unit: a run of whole frames, or one frame.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chunk {
    /// The bytes to write before and after the body. Empty for a run of whole frames.
    pub(crate) framing: Framing,
    /// A run of whole frames, or the payload of one frame. Shared with the outboxes of other peers.
    pub(crate) body: Bytes,
    /// The number of frames.
    pub(crate) count: Count,
}

impl Chunk {
    /// Makes a chunk of whole frames, to be written as they stand in `body`.
    pub(crate) fn verbatim(body: Bytes, count: Count) -> Self {
        Self {
            body,
            count,
            ..Self::default()
        }
    }

    /// Returns the number of bytes that the chunk takes on the wire.
    pub(super) fn len(&self) -> usize {
        self.framing.prefix().len() + self.body.len() + self.framing.suffix().len()
    }
}

/// Returns the number of frames in `chunks`.
pub(crate) fn frames(chunks: &[Chunk]) -> u64 {
    chunks.iter().map(|chunk| chunk.count.total()).sum()
}

/// A number of frames, split for the counters into this node's own and relayed ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) own: u32,
    pub(crate) relayed: u32,
}

impl Count {
    /// One frame of this node's own.
    pub(crate) const OWN: Self = Self { own: 1, relayed: 0 };

    /// Counts relayed frames.
    pub(crate) fn relayed(frames: u32) -> Self {
        Self {
            own: 0,
            relayed: frames,
        }
    }

    #[inline]
    pub(crate) fn add(&mut self, other: Self) {
        self.own = self.own.saturating_add(other.own);
        self.relayed = self.relayed.saturating_add(other.relayed);
    }

    pub(crate) fn total(self) -> u64 {
        u64::from(self.own) + u64::from(self.relayed)
    }
}

/// The number of frames that were queued and will not be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) frames: u64,
    /// The frames of channels.
    pub(crate) channel: u64,
}

impl Lost {
    pub(super) fn add(&mut self, entry: &Entry) {
        if entry.channel {
            self.channel += entry.count.total();
        } else {
            self.frames += entry.count.total();
        }
    }
}

/// A slice that a connection has taken out of an outbox, to write it to its socket.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) bytes: Bytes,
    /// The frames that end in this entry.
    pub(crate) count: Count,
    /// Whether the entry ends with a whole frame. Another connection can take over only there.
    pub(crate) ends_frame: bool,
    /// Whether the frames are of channels.
    pub(crate) channel: bool,
    /// The bytes of the outbox's limit that the entry uses until it has been written or dropped.
    pub(super) cost: usize,
}

#[cfg(all(test, feature = "test-util"))]
impl Entry {
    /// Makes an entry of one whole frame.
    pub(crate) fn new(bytes: Bytes, count: Count) -> Self {
        Self {
            bytes,
            count,
            ends_frame: true,
            channel: false,
            cost: 0,
        }
    }
}
