//! Frames of the read side, many at a time, without building a [`Frame`] for each.

use std::fmt;
use std::sync::Arc;

use super::group::{FrameGroup, GroupFramesMut, Heads};
use crate::frame::Frame;
use crate::frame::in_flight::ReadBatch;
use crate::message::Message;
use crate::node::peer::Peer;
use crate::wire::{Head, Kind};

/// An iterator over frames that arrived together, lent by
/// [`MeshReader::next_frames`](crate::MeshReader::next_frames).
///
/// Frames that are left when it is dropped are the next that the reader returns.
pub struct Frames<'a>(GroupFramesMut<'a>);

/// A borrowed view of a frame. [`into_frame`](FrameRef::into_frame) makes an owned [`Frame`] of it.
pub struct FrameRef<'a>(Source<'a>);

enum Source<'a> {
    /// A frame that no layer has changed, by its place in the block that was read.
    Block {
        batch: &'a Arc<ReadBatch>,
        offset: usize,
        head: &'a Head,
    },
    /// A built frame, with what layers have made of it.
    Whole(Frame),
}

impl<'a> Frames<'a> {
    pub(crate) fn new(group: &'a mut FrameGroup) -> Self {
        Self(group.frames_mut())
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = FrameRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<FrameRef<'a>> {
        let source = match &mut self.0 {
            GroupFramesMut::Block {
                batch,
                heads,
                range,
            } => {
                let heads: &'a Heads = heads;
                let (offset, head) = heads.get(range.next()?)?;
                Source::Block {
                    batch,
                    offset: *offset,
                    head,
                }
            }
            GroupFramesMut::Whole(frames) => Source::Whole(frames.pop_front()?),
        };
        Some(FrameRef(source))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.0 {
            GroupFramesMut::Block { range, .. } => range.len(),
            GroupFramesMut::Whole(frames) => frames.len(),
        };
        (left, Some(left))
    }
}

impl ExactSizeIterator for Frames<'_> {}

impl FrameRef<'_> {
    /// Returns the payload; see [`Frame::payload`].
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        match &self.0 {
            Source::Block {
                batch,
                offset,
                head,
            } => {
                let payload = head.payload();
                let payload = offset + payload.start..offset + payload.end;
                batch.bytes.get(payload).unwrap_or_default()
            }
            Source::Whole(frame) => frame.payload(),
        }
    }

    /// Returns the peer that sent this frame to this node; see [`Frame::peer`].
    #[inline]
    #[must_use]
    pub fn peer(&self) -> &Peer {
        match &self.0 {
            Source::Block { batch, .. } => batch.in_flight.peer(),
            Source::Whole(frame) => frame.peer(),
        }
    }

    /// Returns the kind of the frame on its wire.
    #[inline]
    #[must_use]
    pub fn kind(&self) -> Kind {
        match &self.0 {
            Source::Block { head, .. } => head.kind,
            Source::Whole(frame) => frame.kind(),
        }
    }

    /// Returns how many more hops the frame may make; see [`Frame::ttl`].
    #[must_use]
    pub fn ttl(&self) -> u8 {
        match &self.0 {
            Source::Block { head, .. } => head.ttl,
            Source::Whole(frame) => frame.ttl(),
        }
    }

    /// Returns the message in the payload, if the courier has parsed it.
    #[inline]
    #[must_use]
    pub fn message(&self) -> Option<&Message> {
        match &self.0 {
            Source::Block { .. } => None,
            Source::Whole(frame) => frame.message(),
        }
    }

    /// Makes an owned [`Frame`], without copying the payload.
    #[must_use]
    pub fn into_frame(self) -> Frame {
        match self.0 {
            Source::Block {
                batch,
                offset,
                head,
            } => Frame::of_block(Arc::clone(batch), offset, head),
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
