//! What one reader has taken out of the queue.

use std::collections::VecDeque;

use super::group::{FrameGroup, Heads};
use super::queue::{SHARED_FILL, SPARE_LISTS};
use crate::frame::Frame;

/// The groups that one reader has taken out of the queue and not read yet.
///
/// A reader locks the queue only to fill its prefetch, not for each frame. What it has read counts
/// towards the queue's limit until the next fill, or until it is a quarter of the limit.
#[derive(Debug)]
pub(crate) struct Prefetch {
    /// Identifies the reader among the queue's wakers.
    pub(super) reader: u64,
    /// The group that is being read.
    pub(super) current: Option<FrameGroup>,
    /// The groups after it.
    pub(super) following: VecDeque<FrameGroup>,
    /// Lists of heads whose frames were read, to be returned to the queue.
    pub(super) spare_lists: Vec<Heads>,
    /// How much the groups that were read count for, in bytes, to be returned to the queue.
    pub(super) freed: usize,
}

impl Prefetch {
    pub(super) fn new(reader: u64) -> Self {
        Self {
            reader,
            current: None,
            following: VecDeque::new(),
            spare_lists: Vec::new(),
            freed: 0,
        }
    }

    /// Takes the next frame of the group that is being read.
    #[inline]
    pub(crate) fn pop_current(&mut self) -> Option<Frame> {
        self.current.as_mut().and_then(FrameGroup::pop)
    }

    /// Takes the next frame.
    pub(crate) fn pop(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.pop_current() {
                return Some(frame);
            }
            self.advance()?;
        }
    }

    /// Returns the first group that has frames left.
    pub(crate) fn group(&mut self) -> Option<&mut FrameGroup> {
        while self.current.as_ref().is_none_or(|group| group.len() == 0) {
            self.advance()?;
        }
        self.current.as_mut()
    }

    /// Finishes the current group, and goes to the next.
    fn advance(&mut self) -> Option<()> {
        if let Some(read) = self.current.take() {
            self.freed += read.cost;
            if self.spare_lists.len() < SPARE_LISTS {
                self.spare_lists.extend(read.into_spare_list());
            }
        }
        self.current = Some(self.following.pop_front()?);
        Some(())
    }

    /// Frees memory that an idle reader does not need.
    pub(super) fn shrink(&mut self) {
        if self.following.capacity() > SHARED_FILL {
            self.following = VecDeque::new();
        }
        self.spare_lists = Vec::new();
    }
}
