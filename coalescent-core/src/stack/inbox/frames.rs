//! Frames of the read side, many at once.

use std::fmt;
use std::sync::Arc;

use super::{Heads, Kept, Lent};
use crate::frame::Frame;
use crate::frame::in_flight::ReadBatch;
use crate::message::Message;
use crate::node::peer::Peer;
use crate::wire::{Head, Kind};

/// Some frames that came together, lent by
/// [`MeshReader::next_frames`](crate::MeshReader::next_frames).
///
/// Those that were not taken out of it when it is dropped are the next that the reader finds.
pub struct Frames<'a>(Lent<'a>);

/// A frame that is only looked at, unless it is [kept](FrameRef::into_frame).
pub struct FrameRef<'a>(Source<'a>);

enum Source<'a> {
    /// As it stands in what was read.
    Block {
        arrival: &'a Arc<ReadBatch>,
        offset: usize,
        head: &'a Head,
    },
    /// With what layers have made of it.
    Whole(Frame),
}

impl<'a> Frames<'a> {
    pub(crate) fn new(kept: &'a mut Kept) -> Self {
        Self(kept.lend())
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = FrameRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<FrameRef<'a>> {
        let source = match &mut self.0 {
            Lent::Block {
                arrival,
                heads,
                range,
            } => {
                let heads: &'a Heads = heads;
                let (offset, head) = heads.get(range.next()?)?;
                Source::Block {
                    arrival,
                    offset: *offset,
                    head,
                }
            }
            Lent::Whole(frames) => Source::Whole(frames.pop_front()?),
        };
        Some(FrameRef(source))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.0 {
            Lent::Block { range, .. } => range.len(),
            Lent::Whole(frames) => frames.len(),
        };
        (left, Some(left))
    }
}

impl ExactSizeIterator for Frames<'_> {}

impl FrameRef<'_> {
    /// The frame's bytes; see [`Frame::payload`].
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        match &self.0 {
            Source::Block {
                arrival,
                offset,
                head,
            } => {
                let place = head.payload();
                let place = offset + place.start..offset + place.end;
                arrival.bytes.get(place).unwrap_or_default()
            }
            Source::Whole(frame) => frame.payload(),
        }
    }

    /// The peer that sent this frame to this node; see [`Frame::peer`].
    #[inline]
    #[must_use]
    pub fn peer(&self) -> &Peer {
        match &self.0 {
            Source::Block { arrival, .. } => arrival.link.peer(),
            Source::Whole(frame) => frame.peer(),
        }
    }

    /// What kind of frame stood on the wire.
    #[inline]
    #[must_use]
    pub fn kind(&self) -> Kind {
        match &self.0 {
            Source::Block { head, .. } => head.kind,
            Source::Whole(frame) => frame.kind(),
        }
    }

    /// How many more nodes may hear of this frame; see [`Frame::ttl`].
    #[must_use]
    pub fn ttl(&self) -> u8 {
        match &self.0 {
            Source::Block { head, .. } => head.ttl,
            Source::Whole(frame) => frame.ttl(),
        }
    }

    /// The message in the payload, once the courier has parsed it.
    #[inline]
    #[must_use]
    pub fn message(&self) -> Option<&Message> {
        match &self.0 {
            Source::Block { .. } => None,
            Source::Whole(frame) => frame.message(),
        }
    }

    /// Makes a frame of it that can be kept, without copying its bytes.
    #[must_use]
    pub fn into_frame(self) -> Frame {
        match self.0 {
            Source::Block {
                arrival,
                offset,
                head,
            } => Frame::of_block(Arc::clone(arrival), offset, head),
            Source::Whole(frame) => frame,
        }
    }
}

impl fmt::Debug for Frames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames")
            .field("left", &self.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for FrameRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameRef")
            .field("peer", self.peer().id())
            .field("kind", &self.kind())
            .field("ttl", &self.ttl())
            .field("bytes", &self.payload().len())
            .finish_non_exhaustive()
    }
}
