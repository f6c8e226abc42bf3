//! Frames on their way from one connection to the read side of the mesh.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::backlog::Batch;
use crate::frame::Frame;
use crate::frame::call::CallOutcome;
use crate::stack::inbox::{Heads, Kept};

/// Frames that the inbox took and the read side has not received.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    /// The order of the frames since the last hand-over.
    order: Vec<Part>,
    /// The frames that are kept whole, in order.
    whole: VecDeque<Frame>,
    /// Frames gathered for the read side that it had no room for.
    kept: VecDeque<Kept>,
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

    /// Notes what the inbox took in a call of a frame, whose head has the `index` in the first
    /// block. Returns whether that made an empty delivery begin.
    #[inline]
    pub(super) fn note(&mut self, outcome: CallOutcome, index: usize) -> bool {
        let first = self.is_empty();
        if !outcome.is_plain() && outcome.whole() == 0 {
            return false;
        }
        if outcome.is_plain() {
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

    /// Gathers what is on its way. The list of heads goes along where the `first` batch is done
    /// with.
    pub(super) fn gather(&mut self, first: Option<&mut Batch>, done: bool) -> &mut VecDeque<Kept> {
        let plain = self
            .order
            .iter()
            .filter(|part| matches!(part, Part::Plain(_)));
        let listed = first
            .as_ref()
            .map_or(0, |batch| batch.block.heads.capacity());
        // Only where the list is not long against what its frames count for.
        let few = |range: &Range<usize>| range.len().saturating_mul(8) < listed;
        let take = done && plain.count() == 1;
        let mut first = first;
        for part in self.order.drain(..) {
            match (part, &mut first) {
                (Part::Plain(range), Some(batch)) => {
                    let arrival = Arc::clone(&batch.arrival);
                    let kept = if take && !few(&range) {
                        Kept::block(arrival, std::mem::take(&mut batch.block.heads), range)
                    } else {
                        let heads: Heads =
                            batch.block.heads.get(range).unwrap_or_default().to_vec();
                        let range = 0..heads.len();
                        Kept::block(arrival, heads, range)
                    };
                    self.kept.push_back(kept);
                }
                (Part::Plain(_), None) => {}
                (Part::Whole(count), _) => {
                    if count >= self.whole.len()
                        && let Some(all) = Kept::all(&mut self.whole)
                    {
                        self.kept.push_back(all);
                        continue;
                    }
                    let count = count.min(self.whole.len());
                    for frame in self.whole.drain(..count) {
                        let frame = match self.kept.back_mut() {
                            Some(kept) => kept.add(frame),
                            None => Some(frame),
                        };
                        self.kept.extend(frame.map(Kept::whole));
                    }
                }
            }
        }
        &mut self.kept
    }

    /// Returns the gathered frames that found no room.
    pub(super) fn rest(&mut self) -> &mut VecDeque<Kept> {
        &mut self.kept
    }

    /// Releases memory that is kept for later frames.
    pub(super) fn fall_idle(&mut self) {
        self.order.shrink_to_fit();
        self.whole.shrink_to_fit();
        self.kept.shrink_to_fit();
    }
}
