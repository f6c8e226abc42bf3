//! Frames of one read buffer, which the queue stores, counts and hands out together.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::FRAME_COST;
use crate::frame::Frame;
use crate::frame::in_flight::{BufferId, ReadBatch};
use crate::wire::Head;

/// The frames of a block: the offset of each in the block's bytes, and its head.
pub(crate) type Heads = Vec<(usize, Head)>;

/// Consecutive frames of one read buffer.
#[derive(Debug)]
pub(crate) struct FrameGroup {
    frames: GroupFrames,
    pub(super) buffer: BufferId,
    /// How many bytes the frames keep alive: the whole buffer.
    pub(super) buffer_len: usize,
    /// The bytes of the payloads that layers have put in place of received ones.
    pub(super) rewritten: usize,
    /// How much the group counts for in the queue's limit, in bytes. The queue sets it, since the
    /// buffer is counted once for consecutive groups of the same one.
    pub(super) cost: usize,
}

#[derive(Debug)]
enum GroupFrames {
    /// Frames that no layer has changed, as indices into their block: the `Frame`s are built when
    /// they are read, if at all.
    Block {
        batch: Arc<ReadBatch>,
        heads: Heads,
        /// The frames in `heads` that have not been taken out.
        range: Range<usize>,
    },
    /// Built frames, with what layers have made of them.
    Whole(VecDeque<Frame>),
}

/// The frames of a [`FrameGroup`], borrowed for reading: those that are taken out leave the group.
pub(super) enum GroupFramesMut<'a> {
    Block {
        batch: &'a Arc<ReadBatch>,
        heads: &'a Heads,
        range: &'a mut Range<usize>,
    },
    Whole(&'a mut VecDeque<Frame>),
}

impl FrameGroup {
    /// Groups the frames of a block at `range` of its `heads`.
    pub(crate) fn block(batch: Arc<ReadBatch>, heads: Heads, range: Range<usize>) -> Self {
        Self {
            buffer: batch.buffer_id(),
            buffer_len: batch.bytes_kept_alive(),
            frames: GroupFrames::Block {
                batch,
                heads,
                range,
            },
            rewritten: 0,
            cost: 0,
        }
    }

    /// Makes a group of one built frame.
    pub(crate) fn whole(frame: Frame) -> Self {
        Self {
            buffer: frame.read_batch().buffer_id(),
            buffer_len: frame.read_batch().bytes_kept_alive(),
            rewritten: frame.rewritten_len(),
            frames: GroupFrames::Whole(VecDeque::from([frame])),
            cost: 0,
        }
    }

    /// Takes all of `frames` as one group, or none if there are none or their buffers differ.
    pub(crate) fn all(frames: &mut VecDeque<Frame>) -> Option<Self> {
        let first = frames.front()?.read_batch();
        let (buffer, buffer_len) = (first.buffer_id(), first.bytes_kept_alive());
        let mut rewritten = 0;
        for frame in frames.iter() {
            if frame.read_batch().buffer_id() != buffer {
                return None;
            }
            rewritten += frame.rewritten_len();
        }
        let empty = VecDeque::with_capacity(frames.len());
        Some(Self {
            frames: GroupFrames::Whole(std::mem::replace(frames, empty)),
            buffer,
            buffer_len,
            rewritten,
            cost: 0,
        })
    }

    /// Adds a built frame. Gives it back if the group is of another buffer, or of a block.
    pub(crate) fn add(&mut self, frame: Frame) -> Option<Frame> {
        match &mut self.frames {
            GroupFrames::Whole(frames) if frame.read_batch().buffer_id() == self.buffer => {
                self.rewritten += frame.rewritten_len();
                frames.push_back(frame);
            }
            _ => return Some(frame),
        }
        None
    }

    /// Returns how many frames have not been taken out.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        match &self.frames {
            GroupFrames::Block { range, .. } => range.len(),
            GroupFrames::Whole(frames) => frames.len(),
        }
    }

    /// Takes out the next frame.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<Frame> {
        match &mut self.frames {
            GroupFrames::Block {
                batch,
                heads,
                range,
            } => {
                let (offset, head) = heads.get(range.next()?)?;
                Some(Frame::of_block(Arc::clone(batch), *offset, head))
            }
            GroupFrames::Whole(frames) => frames.pop_front(),
        }
    }

    pub(super) fn frames_mut(&mut self) -> GroupFramesMut<'_> {
        match &mut self.frames {
            GroupFrames::Block {
                batch,
                heads,
                range,
            } => GroupFramesMut::Block {
                batch,
                heads,
                range,
            },
            GroupFrames::Whole(frames) => GroupFramesMut::Whole(frames),
        }
    }

    /// Splits off the first `count` frames, or nothing if the group has no more than that. The
    /// buffer and the rewritten bytes remain counted with this group, which is read last.
    pub(super) fn split(&mut self, count: usize) -> Option<Self> {
        if self.len() <= count {
            return None;
        }
        let frames = match &mut self.frames {
            GroupFrames::Block {
                batch,
                heads,
                range,
            } => {
                let first = range.start..range.start + count;
                range.start = first.end;
                let heads = heads.get(first).unwrap_or_default().to_vec();
                GroupFrames::Block {
                    batch: Arc::clone(batch),
                    range: 0..heads.len(),
                    heads,
                }
            }
            GroupFrames::Whole(frames) => {
                let rest = frames.split_off(count);
                GroupFrames::Whole(std::mem::replace(frames, rest))
            }
        };
        let cost = count * FRAME_COST;
        self.cost = self.cost.saturating_sub(cost);
        Some(Self {
            frames,
            buffer: self.buffer,
            buffer_len: self.buffer_len,
            rewritten: 0,
            cost,
        })
    }

    /// Returns the list of heads, cleared, so that a connection can fill it again.
    pub(super) fn into_spare_list(self) -> Option<Heads> {
        match self.frames {
            GroupFrames::Block { mut heads, .. } => {
                heads.clear();
                Some(heads)
            }
            GroupFrames::Whole(_) => None,
        }
    }
}
