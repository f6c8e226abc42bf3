//! Frames on their way from one connection to the read side of the mesh.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::backlog::Batch;
use crate::frame::Frame;
use crate::frame::call::CallOutcome;
use crate::stack::inbox::{FrameGroup, Heads};

/// Frames that the inbox took and the read side has not received.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    /// The order of the frames since the last hand-over.
    order: Vec<Part>,
    /// The frames that are kept whole, in order.
    whole: VecDeque<Frame>,
    /// Frames gathered for the read side that it had no room for.
    kept: VecDeque<FrameGroup>,
}

#[derive(Debug)]
enum Part {
    /// Consecutive frames of the first block, by the indexes of their heads.
    Plain(Range<usize>),
    /// This many of the whole frames.
    Whole(usize),
}

impl Delivery {
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty() && self.kept.is_empty()
    }

    /// Notes the frames that the inbox took in a call with a frame, whose head has the `index` in
    /// the first block. Returns whether that made an empty delivery begin.
    #[inline]
    pub(super) fn note(&mut self, outcome: CallOutcome, index: usize) -> bool {
        let first = self.is_empty();
        if !outcome.is_in_place() && outcome.whole() == 0 {
            return false;
        }
        if outcome.is_in_place() {
            match self.order.last_mut() {
                Some(Part::Plain(range)) if range.end == index => range.end += 1,
                _ => self.order.push(Part::Plain(index..index + 1)),
            }
        }
        let whole = outcome.whole() as usize;
        match self.order.last_mut() {
            _ if whole == 0 => {}
            Some(Part::Whole(count)) => *count += whole,
            _ => self.order.push(Part::Whole(whole)),
        }
        first
    }

    /// Notes that the inbox took the frames of the first block with these heads, unchanged. Returns
    /// whether that made an empty delivery begin.
    pub(super) fn take_plain(&mut self, heads: Range<usize>) -> bool {
        let first = self.is_empty();
        self.order.push(Part::Plain(heads));
        first
    }

    /// Takes the list that whole frames are staged in, for the time of a call scope.
    pub(super) fn take_whole(&mut self) -> VecDeque<Frame> {
        std::mem::take(&mut self.whole)
    }

    /// Puts the list of whole frames back.
    pub(super) fn put_whole(&mut self, whole: VecDeque<Frame>) {
        self.whole = whole;
    }

    /// Gathers the frames for the read side, in order. Moves the list of heads out of the `first`
    /// batch instead of copying it, if all its frames are handled (`done`).
    pub(super) fn gather(
        &mut self,
        mut first: Option<&mut Batch>,
        done: bool,
    ) -> &mut VecDeque<FrameGroup> {
        let is_plain = |part: &&Part| matches!(part, Part::Plain(_));
        let last_use = done && self.order.iter().filter(is_plain).count() == 1;
        for part in self.order.drain(..) {
            match (part, &mut first) {
                (Part::Plain(range), Some(batch)) => {
                    self.kept.push_back(keep_plain(batch, range, last_use));
                }
                (Part::Plain(_), None) => {}
                (Part::Whole(count), _) => keep_whole(&mut self.whole, count, &mut self.kept),
            }
        }
        &mut self.kept
    }

    /// Returns the gathered frames that found no room.
    pub(super) fn rest(&mut self) -> &mut VecDeque<FrameGroup> {
        &mut self.kept
    }

    /// Releases memory that is kept for later frames.
    pub(super) fn fall_idle(&mut self) {
        self.order.shrink_to_fit();
        self.whole.shrink_to_fit();
        self.kept.shrink_to_fit();
    }
}

/// Returns these frames of the batch as the read side keeps them. After their `last_use`, its heads
/// need not stay.
fn keep_plain(batch: &mut Batch, range: Range<usize>, last_use: bool) -> FrameGroup {
    let read_batch = Arc::clone(&batch.read_batch);
    // A list that is long against the frames in it would cost more than they count for.
    let few = range.len().saturating_mul(8) < batch.block.heads.capacity();
    if last_use && !few {
        return FrameGroup::block(read_batch, std::mem::take(&mut batch.block.heads), range);
    }
    let heads: Heads = batch.block.heads.get(range).unwrap_or_default().to_vec();
    let range = 0..heads.len();
    FrameGroup::block(read_batch, heads, range)
}

/// Moves the first `count` whole frames to `kept`.
fn keep_whole(whole: &mut VecDeque<Frame>, count: usize, kept: &mut VecDeque<FrameGroup>) {
    if count >= whole.len()
        && let Some(all) = FrameGroup::all(whole)
    {
        kept.push_back(all);
        return;
    }
    let count = count.min(whole.len());
    for frame in whole.drain(..count) {
        let frame = match kept.back_mut() {
            Some(last) => last.add(frame),
            None => Some(frame),
        };
        kept.extend(frame.map(FrameGroup::whole));
    }
}
