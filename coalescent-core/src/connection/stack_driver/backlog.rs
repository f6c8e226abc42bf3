//! Frames that were read and wait for their call.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use http::Extensions;
use tokio::time::Instant;

use crate::frame::Frame;
use crate::frame::call::CallScope;
use crate::frame::in_flight::{InFlight, ReadBatch};
use crate::node::peer::{HANDED_COST, HandedFrame};
use crate::wire::{Block, Head, Kind};

/// How many withdrawn requests are remembered until their frames would be handled.
const MAX_WITHDRAWN: usize = 64;

/// The cost of a batch in the backlog, in bytes, in addition to its buffer and its list of heads:
/// bookkeeping, and the overhead of the allocator.
pub const BATCH_COST: usize = 192;

/// The number of the first buffer made by [`Backlog::compact`]. Read buffers are counted from 0,
/// and those of copied frames down from the largest number.
const COMPACTED: u64 = 1 << 62;

/// The bit in the number of a buffer that was handed in. The others are of its address, which no
/// other buffer has as long as it lives.
const HANDED: u64 = 1 << 61;

/// How many frames that were handed in may stand between batches of one buffer, for this to be
/// counted once.
const HANDED_BETWEEN: usize = 16;

/// The frames of one block. One read may give several blocks.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) block: Block,
    /// The part of the batch that its frames reference.
    pub(super) read_batch: Arc<ReadBatch>,
    /// The cost of the batch, in bytes.
    cost: usize,
    /// Whether its frames for the stack are all requests.
    asks: bool,
    /// Whether it was compacted.
    compact: bool,
    /// The extensions of its only frame, if that was handed in.
    handed: Option<Box<RefCell<Option<Extensions>>>>,
}

/// A queue of read batches. The first one is being handled.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    batches: VecDeque<Batch>,
    /// The cost of all batches, in bytes.
    cost: usize,
    /// The part of the cost that is due to batches of requests alone.
    requests_cost: usize,
    /// How many batches were compacted.
    compacted: u64,
    /// Whether batches were added since the last compaction.
    grown: bool,
    /// The index of the next frame to handle in the first batch.
    next: usize,
    /// Ids of requests that the peer withdrew before their call.
    withdrawn: VecDeque<u32>,
    /// An empty block, kept for its allocation.
    spare: Option<Block>,
}

/// The front of the backlog.
pub(super) enum Next {
    /// Nothing: every frame was handled.
    Nothing,
    /// The end of the first batch.
    BlockEnd,
    /// A frame for the stack.
    Frame,
}

/// Frames that were never handled, counted by whether relays would have passed them on.
#[derive(Debug, Default)]
pub(super) struct Unhandled {
    pub(super) broadcasts: u64,
    pub(super) others: u64,
}

impl Batch {
    /// Makes a batch of the frames of `block`, which keep the buffer `number` of `buffer_len` bytes
    /// alive.
    #[inline]
    fn new(
        in_flight: &Arc<InFlight>,
        block: Block,
        (buffer_len, number): (usize, u64),
        cost: usize,
        at: Instant,
    ) -> Self {
        let read_batch = Arc::new(ReadBatch {
            in_flight: Arc::clone(in_flight),
            bytes: block.bytes.clone(),
            buffer: number,
            buffer_len,
            at,
        });
        Self {
            block,
            read_batch,
            cost,
            asks: false,
            compact: false,
            handed: None,
        }
    }

    /// Returns the frame with this offset and head, and begins its call. The frame references
    /// `copy` instead of this batch if there is one.
    #[inline]
    pub(super) fn begin_frame(
        &self,
        scope: &CallScope<'_>,
        (offset, head): (usize, &Head),
        copy: Option<&Arc<ReadBatch>>,
        slot: usize,
        seq: u64,
    ) -> Frame {
        let (batch, payload) = match copy {
            Some(copy) => (copy, 0..copy.bytes.len()),
            None => (&self.read_batch, self.block.payload_range(offset, head)),
        };
        let batch = scope.begin(seq, true, batch);
        let mut frame = Frame::new(batch, head, payload, slot, seq);
        if let Some(extensions) = &self.handed
            && let Some(extensions) = extensions.take()
        {
            frame.set_handed(extensions);
        }
        frame
    }

    /// Returns whether its only frame was handed in.
    fn is_handed(&self) -> bool {
        self.handed.is_some()
    }

    /// Copies the payload of the frame with this offset and head, as a batch of its own.
    #[cold]
    pub(super) fn copy_of(&self, offset: usize, head: &Head, seq: u64) -> Arc<ReadBatch> {
        let range = self.block.payload_range(offset, head);
        let payload = self.block.bytes.get(range).unwrap_or_default();
        Arc::new(ReadBatch {
            in_flight: Arc::clone(&self.read_batch.in_flight),
            bytes: Bytes::copy_from_slice(payload),
            // Buffers are counted from 0, and frames too.
            buffer: u64::MAX - seq,
            buffer_len: payload.len(),
            at: self.read_batch.at,
        })
    }

    /// Keeps only the requests from the index `next` on that are not withdrawn, in a buffer of
    /// their own.
    fn compact(&mut self, next: usize, number: u64, withdrawn: &mut VecDeque<u32>) {
        let waiting = self.block.heads.get(next..).unwrap_or_default();
        let mut heads = Vec::with_capacity(waiting.len());
        let mut bytes = Vec::with_capacity(waiting.iter().map(size_of_request).sum());
        for &(offset, head) in waiting {
            let Kind::Request { id } = head.kind else {
                continue;
            };
            if take_withdrawn(withdrawn, id) {
                continue;
            }
            heads.push((bytes.len(), head));
            let frame = self.block.bytes.get(offset..offset + head.wire_len());
            bytes.extend_from_slice(frame.unwrap_or_default());
        }
        heads.shrink_to_fit();
        self.block = Block {
            // Without the room of those that were withdrawn.
            bytes: bytes.into_boxed_slice().into(),
            heads,
            broadcasts: false,
        };
        self.read_batch = Arc::new(ReadBatch {
            in_flight: Arc::clone(&self.read_batch.in_flight),
            bytes: self.block.bytes.clone(),
            buffer: number,
            buffer_len: self.block.bytes.len(),
            at: self.read_batch.at,
        });
        self.cost = cost_of(&self.block) + self.block.bytes.len();
        self.compact = true;
    }
}

/// Returns the cost of a batch apart from its buffer.
fn cost_of(block: &Block) -> usize {
    BATCH_COST + block.heads.capacity() * size_of::<(usize, Head)>()
}

fn size_of_request((_, head): &(usize, Head)) -> usize {
    match head.kind {
        Kind::Request { .. } => head.wire_len(),
        _ => 0,
    }
}

/// Removes the id of a request from those that were withdrawn. Returns whether it was there.
fn take_withdrawn(withdrawn: &mut VecDeque<u32>, id: u32) -> bool {
    let at = withdrawn.iter().position(|withdrawn| *withdrawn == id);
    at.and_then(|at| withdrawn.remove(at)).is_some()
}

impl Backlog {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Returns the memory that the waiting frames keep alive, in bytes.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    /// Returns the part of the cost that is due to batches of requests alone.
    pub(super) fn requests_cost(&self) -> usize {
        self.requests_cost
    }

    /// Adds the frames of `block`, read at `at` into the buffer `number`, of `buffer_len` bytes.
    /// `asks` says whether those for the stack are all requests.
    ///
    /// A frame keeps its whole buffer alive, however small a part of it the frame is. So the whole
    /// buffer is counted, once for consecutive batches of one buffer, since control frames between
    /// them may have split one read.
    pub(super) fn add(
        &mut self,
        in_flight: &Arc<InFlight>,
        block: Block,
        asks: bool,
        (buffer_len, number): (usize, u64),
        at: Instant,
    ) {
        let mut before = self.batches.iter().rev().take(HANDED_BETWEEN + 1);
        let counted = before
            .find(|batch| !batch.is_handed())
            .is_some_and(|last| last.read_batch.buffer == number && last.asks == asks);
        let pinned = if counted {
            0
        } else {
            buffer_len.max(block.bytes.len())
        };
        let cost = cost_of(&block) + pinned;
        self.cost += cost;
        if asks {
            self.requests_cost += cost;
            self.grown = true;
        }
        let mut batch = Batch::new(in_flight, block, (buffer_len, number), cost, at);
        batch.asks = asks;
        self.batches.push_back(batch);
    }

    /// Adds a frame that was handed in at `at`.
    pub(super) fn add_handed(
        &mut self,
        in_flight: &Arc<InFlight>,
        handed: HandedFrame,
        at: Instant,
    ) {
        let HandedFrame {
            payload,
            extensions,
        } = handed;
        let buffer_len = payload.len();
        let number = HANDED | (payload.as_ptr().addr() as u64 & (HANDED - 1));
        let block = Block {
            heads: vec![(0, Head::bare(Kind::Data, buffer_len))],
            bytes: payload,
            broadcasts: false,
        };
        let cost = cost_of(&block) + buffer_len + HANDED_COST;
        self.cost += cost;
        let mut batch = Batch::new(in_flight, block, (buffer_len, number), cost, at);
        batch.handed = Some(Box::new(RefCell::new(Some(extensions))));
        self.batches.push_back(batch);
    }

    /// Copies the requests that wait in batches of their own, so that they keep alive nothing else:
    /// not what was read together with them, such as replies. Drops those that were withdrawn.
    ///
    /// `first` says whether the first batch may be changed: nothing refers to it.
    pub(super) fn compact(&mut self, first: bool) {
        if !std::mem::take(&mut self.grown) {
            return;
        }
        for (index, batch) in self.batches.iter_mut().enumerate() {
            if !batch.asks || batch.compact || index == 0 && !first {
                continue;
            }
            let next = if index == 0 {
                std::mem::take(&mut self.next)
            } else {
                0
            };
            let number = COMPACTED.wrapping_add(self.compacted);
            self.compacted += 1;
            self.cost -= batch.cost;
            self.requests_cost -= batch.cost;
            batch.compact(next, number, &mut self.withdrawn);
            self.cost += batch.cost;
            self.requests_cost += batch.cost;
        }
    }

    /// Returns the first batch, and the index of its next frame.
    #[inline]
    pub(super) fn first(&mut self) -> Option<(&Batch, &mut usize)> {
        Some((self.batches.front()?, &mut self.next))
    }

    /// Returns the first batch, and the head of its next frame.
    pub(super) fn front_frame(&self) -> Option<(&Batch, &Head)> {
        let batch = self.batches.front()?;
        let (_, head) = batch.block.heads.get(self.next)?;
        Some((batch, head))
    }

    /// Returns the first batch.
    #[inline]
    pub(super) fn front(&self) -> Option<&Batch> {
        self.batches.front()
    }

    /// Returns the first batch, and whether all its frames were handled.
    pub(super) fn front_mut(&mut self) -> (Option<&mut Batch>, bool) {
        let next = self.next;
        let first = self.batches.front_mut();
        let done = first
            .as_ref()
            .is_some_and(|first| next >= first.block.heads.len());
        (first, done)
    }

    /// Returns whether the first batch holds only broadcasts, none of which was handled.
    pub(super) fn is_untouched_broadcasts(&self) -> bool {
        self.next == 0 && self.front().is_some_and(|first| first.block.broadcasts)
    }

    /// Returns the index of the next frame in the first batch.
    pub(super) fn position(&self) -> usize {
        self.next
    }

    /// Passes over frames that are not for the stack, and looks at the front.
    pub(super) fn next(&mut self) -> Next {
        let Some(Batch { block, .. }) = self.batches.front() else {
            return Next::Nothing;
        };
        while let Some((_, head)) = block.heads.get(self.next) {
            let wanted = match head.kind {
                Kind::Request { id } if !self.withdrawn.is_empty() => {
                    !take_withdrawn(&mut self.withdrawn, id)
                }
                kind => kind.is_payload(),
            };
            if wanted {
                return Next::Frame;
            }
            self.next += 1;
        }
        Next::BlockEnd
    }

    /// Passes over the next frame, and returns its head.
    pub(super) fn skip(&mut self) -> Option<Head> {
        let (_, head) = *self.batches.front()?.block.heads.get(self.next)?;
        self.next += 1;
        Some(head)
    }

    /// Removes the first batch.
    pub(super) fn end_block(&mut self) {
        self.next = 0;
        if let Some(batch) = self.batches.pop_front() {
            self.cost -= batch.cost;
            if batch.asks {
                self.requests_cost -= batch.cost;
            }
            if !batch.is_handed() {
                let mut block = batch.block;
                block.clear();
                self.spare = Some(block);
            }
        }
        if self.batches.is_empty() {
            self.withdrawn.clear();
        }
    }

    /// Remembers that the peer withdrew the request `id`. Forgets the oldest one if there are many.
    pub(super) fn withdraw(&mut self, id: u32) {
        if self.withdrawn.len() == MAX_WITHDRAWN {
            self.withdrawn.pop_front();
        }
        self.withdrawn.push_back(id);
    }

    /// Returns whether a waiting request may have been withdrawn.
    #[inline]
    pub(super) fn has_withdrawn(&self) -> bool {
        !self.withdrawn.is_empty()
    }

    /// Returns an empty block to decode into.
    pub(super) fn take_block(&mut self) -> Block {
        self.spare.take().unwrap_or_default()
    }

    /// Takes an unused block back.
    pub(super) fn put_block(&mut self, block: Block) {
        self.spare = Some(block);
    }

    /// Keeps an empty list of heads for its allocation, unless a block is kept already.
    pub(super) fn keep_heads(&mut self, heads: Vec<(usize, Head)>) {
        self.spare.get_or_insert_with(|| Block {
            heads,
            ..Block::default()
        });
    }

    /// Counts the frames that were not handled.
    pub(super) fn unhandled(&self) -> Unhandled {
        let mut unhandled = Unhandled::default();
        let mut next = self.next;
        for batch in &self.batches {
            for (_, head) in batch.block.heads.get(next..).unwrap_or_default() {
                match head.kind {
                    Kind::Broadcast { .. } | Kind::Plain => unhandled.broadcasts += 1,
                    kind => unhandled.others += u64::from(kind.is_payload()),
                }
            }
            next = 0;
        }
        unhandled
    }

    /// Releases memory that is kept for later frames.
    pub(super) fn fall_idle(&mut self) {
        self.spare = None;
        if self.batches.is_empty() {
            self.batches = VecDeque::new();
        }
    }
}

#[cfg(all(test, feature = "test-util"))]
#[path = "backlog_tests.rs"]
mod tests;
