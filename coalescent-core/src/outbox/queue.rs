//! The queue of one outbox: what is copied, what is kept as it is, and what each entry costs.

use std::collections::VecDeque;

use bytes::BytesMut;

use super::chunk::{Chunk, Count, Entry};
use super::coalescer::Coalescer;
use crate::message::codec::SHARED_MAX;

/// What each entry of an outbox counts for in addition to its bytes: its bookkeeping, and the
/// overhead of the allocator.
pub const ENTRY_COST: usize = 128;

/// Chunks of up to this many bytes are copied into a shared buffer; larger ones keep their own
/// memory. Room for 1 KiB of the application's data, and for what a message adds to it.
pub(crate) const COPY_MAX: usize = 1280;

// Messages that share memory are copied here, so that they hardly ever keep the others' memory.
const _: () = assert!(SHARED_MAX <= COPY_MAX);

/// The smallest and the largest buffer that small frames are copied into.
const TAIL_MIN: usize = 512;
const TAIL_MAX: usize = 16 * 1024;

/// The size of the buffer for the prefix or suffix of a large body, if no other buffer is open.
const AROUND: usize = 64;

/// How many entries, and about how many bytes, a connection takes at once.
const TAKE_ENTRIES: usize = 64;
const TAKE_BYTES: usize = 256 * 1024;

/// How many entries an idle peer keeps memory for.
const IDLE_ENTRIES: usize = 8;

/// The entries that wait to be written, with the bytes they cost.
pub(super) struct Queue {
    /// The entries in the order in which they are to be written.
    entries: VecDeque<Entry>,
    /// Small frames, always behind all entries. Becomes an entry when it is full, when a large
    /// body follows, or when a connection takes it.
    tail: Coalescer,
    /// The bytes of `used` that the open tail accounts for: its whole buffer.
    tail_cost: usize,
    /// The size of the next tail. Doubles with each tail, and starts again when the peer is idle.
    next_tail: usize,
    /// The bytes of the limit in use: by entries, by the open tail, and by what a connection has
    /// taken and not yet reported as written.
    used: usize,
    /// The most bytes that may be in use. One chunk is taken in even above it.
    limit: usize,
    /// The bytes taken in since the beginning.
    taken: u64,
    /// The bytes written or dropped since the beginning.
    done: u64,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            tail: Coalescer::default(),
            tail_cost: 0,
            next_tail: TAIL_MIN,
            used: 0,
            limit,
            taken: 0,
            done: 0,
        }
    }

    /// Returns the bytes in use.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Returns the bytes taken in since the beginning.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Returns the bytes written or dropped since the beginning.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// Returns whether at least half of the limit is free.
    #[inline]
    pub(super) fn is_half_free(&self) -> bool {
        self.used <= self.limit / 2
    }

    /// Takes in a chunk of at least one byte, if there is room for it.
    pub(super) fn push(&mut self, chunk: &Chunk) -> bool {
        self.push_within(chunk, self.limit)
    }

    /// Whether a chunk of `len` bytes is taken in within this limit, whatever its shape.
    pub(super) fn fits(&self, len: usize, limit: usize) -> bool {
        let cost = len.max(self.next_tail) + 3 * ENTRY_COST + 2 * AROUND;
        self.used == 0 || self.used.saturating_add(cost) <= limit
    }

    /// Takes in a chunk of at least one byte, if not more than `limit` bytes are in use then.
    pub(super) fn push_within(&mut self, chunk: &Chunk, limit: usize) -> bool {
        let len = chunk.len();
        // A chunk without a prefix is written as it is, and its memory shared with other peers.
        let verbatim = len == chunk.body.len();
        let alone = verbatim && self.entries.is_empty() && self.tail.is_empty();
        let copied = len <= COPY_MAX && !alone;
        let fits_tail = self.tail.room() >= len;
        let cost = if copied {
            if fits_tail {
                0
            } else {
                self.next_tail.max(len) + ENTRY_COST
            }
        } else {
            chunk.body.len() + 3 * ENTRY_COST + 2 * AROUND
        };
        // An empty queue takes one chunk, however small the limit.
        if self.used + cost > limit && self.used > 0 {
            return false;
        }
        if copied {
            if !fits_tail {
                self.seal();
                self.open_tail(self.next_tail.max(len));
                self.next_tail = (self.next_tail * 2).min(TAIL_MAX);
            }
            let framing = &chunk.framing;
            self.tail
                .append(framing.prefix(), &chunk.body, framing.suffix(), chunk.count);
        } else {
            self.push_body(chunk);
        }
        self.taken += len as u64;
        true
    }

    /// Adds a chunk whose body is an entry of its own. Its prefix ends the tail before it, and its
    /// suffix begins the one behind it.
    fn push_body(&mut self, chunk: &Chunk) {
        let (prefix, suffix) = (chunk.framing.prefix(), chunk.framing.suffix());
        self.put_around(prefix);
        self.seal_at(prefix.is_empty());
        let cost = chunk.body.len() + ENTRY_COST;
        self.used += cost;
        self.entries.push_back(Entry {
            bytes: chunk.body.clone(),
            count: chunk.count,
            ends_frame: suffix.is_empty(),
            channel: false,
            cost,
        });
        self.put_around(suffix);
    }

    /// Copies the prefix or the suffix of a large body into the tail.
    fn put_around(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.tail.room() < bytes.len() {
            self.seal();
            self.open_tail(AROUND);
        }
        self.tail.append_part(bytes);
    }

    fn open_tail(&mut self, size: usize) {
        self.tail.set_buffer(BytesMut::with_capacity(size));
        self.tail_cost = size + ENTRY_COST;
        self.used += self.tail_cost;
    }

    /// Makes an entry of the tail, which ends with a whole frame.
    fn seal(&mut self) {
        self.seal_at(true);
    }

    fn seal_at(&mut self, ends_frame: bool) {
        let cost = std::mem::take(&mut self.tail_cost);
        let is_empty = self.tail.is_empty();
        let (bytes, count) = self.tail.take();
        if is_empty {
            // The buffer is freed unused, and its cost returned.
            self.used = self.used.saturating_sub(cost);
            return;
        }
        self.entries.push_back(Entry {
            bytes: bytes.freeze(),
            count,
            ends_frame,
            channel: false,
            cost,
        });
    }

    /// Makes the tail an entry if there is no other, and returns whether there is still none.
    pub(super) fn is_drained(&mut self) -> bool {
        if self.entries.is_empty() {
            self.seal();
        }
        self.entries.is_empty()
    }

    /// Moves the next entries into `batch`.
    pub(super) fn take(&mut self, batch: &mut VecDeque<Entry>) {
        let mut bytes = 0;
        let mut ends_frame = true;
        // Never stops within a frame: another connection may take what follows.
        while !ends_frame || (batch.len() < TAKE_ENTRIES && bytes < TAKE_BYTES) {
            if self.is_drained() {
                break;
            }
            let Some(entry) = self.entries.pop_front() else {
                break;
            };
            bytes += entry.bytes.len();
            ends_frame = entry.ends_frame;
            batch.push_back(entry);
        }
    }

    /// Frees the memory that an idle peer does not need, here and in the writer's `batch`.
    pub(super) fn shrink_idle(&mut self, batch: &mut VecDeque<Entry>) {
        self.next_tail = TAIL_MIN;
        if self.entries.capacity() > IDLE_ENTRIES {
            self.entries = VecDeque::new();
        }
        if batch.capacity() > IDLE_ENTRIES {
            *batch = VecDeque::new();
        }
    }

    /// Returns the cost of an entry that has been written or dropped.
    pub(super) fn release(&mut self, entry: &Entry) {
        self.used = self.used.saturating_sub(entry.cost);
        self.done += entry.bytes.len() as u64;
    }

    /// Drops all entries, and returns the number of their frames.
    pub(super) fn clear(&mut self) -> Count {
        self.seal();
        let mut lost = Count::default();
        for entry in std::mem::take(&mut self.entries) {
            lost.add(entry.count);
            self.release(&entry);
        }
        lost
    }
}
