//! The read buffers of a connection, whose size adapts to how much the peer sends.
//!
//! An idle connection has no buffer: the first read after an idle period goes to an array on the
//! thread's stack.
//!
//! Frames are slices of the buffer they were read into, and relays hand such slices on, so a buffer
//! stays in use after it was read into. A few are kept and reused once nobody references them,
//! since a new allocation costs a page fault for each 4 KiB.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// The size of the buffer of a connection with little traffic, in bytes.
pub(super) const READ_MIN: usize = 1024;

/// The size of the buffer of a connection with much traffic, in bytes. If a buffer was filled, the
/// next one is four times larger, up to this.
///
/// It holds two of the largest frames that a duplex stream is cut into, with their framing.
pub(crate) const READ_MAX: usize = 2 * (64 * 1024 + 64);

/// A read stops at the end of a frame of at least this many bytes, so that no part of the next
/// frame must be copied into the next buffer. The copy would cost more than the read that it saves.
const LARGE: usize = 8 * 1024;

/// How many buffers of [`READ_MAX`] bytes are kept for reuse.
pub(crate) const KEPT_MAX: usize = 4;

/// The current buffer of one connection, and earlier ones kept for reuse.
#[derive(Debug)]
pub(super) struct Buffer {
    buf: BytesMut,
    /// The size of the allocation that `buf` is a part of, and of the next one, in bytes.
    size: usize,
    next_size: usize,
    /// The number of the buffer, counted from the first.
    number: u64,
    /// The first slice that was taken out of the buffer. The whole allocation can be recovered
    /// from it.
    first: Option<Bytes>,
    /// First slices of earlier buffers, oldest first.
    kept: VecDeque<Bytes>,
    /// The length of the last frame, if it was large and its length was known before all of it had
    /// arrived; else 0.
    large: usize,
}

impl Buffer {
    /// Starts with bytes that were read before.
    pub(super) fn new(buf: BytesMut) -> Self {
        let buf = if buf.is_empty() { BytesMut::new() } else { buf };
        Self {
            size: buf.capacity(),
            buf,
            next_size: READ_MIN,
            number: 0,
            first: None,
            kept: VecDeque::new(),
            large: 0,
        }
    }

    /// Returns the bytes that were read and not taken out.
    pub(super) fn bytes(&self) -> &BytesMut {
        &self.buf
    }

    /// Returns the bytes that were read, to take frames out of their front.
    pub(super) fn bytes_mut(&mut self) -> &mut BytesMut {
        &mut self.buf
    }

    /// Returns the size of the allocation in bytes, and the number of the buffer.
    pub(super) fn whole(&self) -> (usize, u64) {
        (self.size, self.number)
    }

    /// Notes that `slice` was taken out of the front, whose last frame has `last` bytes.
    pub(super) fn took(&mut self, slice: &Bytes, last: usize) {
        if last < LARGE {
            self.large = 0;
        } else if self.large > 0 {
            self.large = last;
        }
        if self.first.is_none() && self.size == READ_MAX {
            self.first = Some(slice.clone());
        }
    }

    /// Notes that something was read.
    pub(super) fn filled(&mut self) {
        if self.buf.len() == self.buf.capacity() {
            self.next_size = (self.size * 4).clamp(READ_MIN, READ_MAX);
        }
    }

    /// Makes room for the next read, in a new buffer if the rest of this one is too small. At least
    /// `missing` bytes are expected, if that is not 0. Returns how many bytes to read at most.
    pub(super) fn make_room(&mut self, missing: usize) -> usize {
        let begun = missing > 0 && self.buf.len() + missing >= LARGE;
        if begun {
            self.large = self.buf.len() + missing;
        }
        let room = self.buf.capacity() - self.buf.len();
        let wanted = match (begun, self.buf.is_empty()) {
            // Its first bytes are here, and need not be moved if the rest fits.
            (true, _) => missing,
            (false, true) => self.expected().max(self.next_size / 4),
            (false, false) => missing.max(self.next_size / 4),
        };
        if room < wanted.max(1) {
            let expected = if self.buf.is_empty() {
                self.expected()
            } else {
                0
            };
            self.renew(missing.max(expected));
        }
        let room = self.buf.capacity() - self.buf.len();
        match self.large {
            0 => room,
            large => {
                let first = if missing > 0 { missing } else { large };
                let others = room.saturating_sub(first) / large;
                first.saturating_add(others.saturating_mul(large)).min(room)
            }
        }
    }

    /// Returns whether the peer sends large frames, as far as is known.
    pub(super) fn is_large(&self) -> bool {
        self.large > 0
    }

    /// Returns how much room to make for the next frame before any of it has arrived.
    fn expected(&self) -> usize {
        self.large.min(READ_MAX)
    }

    /// Continues in another buffer, with room for at least `missing` bytes.
    fn renew(&mut self, missing: usize) {
        // For a frame of unknown length the room doubles. A read without room would be taken for
        // the end of the stream.
        let held = self.buf.len();
        let size = self.next_size.max(held + missing.max(held).max(READ_MIN));
        let mut next = self
            .again(size)
            .unwrap_or_else(|| BytesMut::with_capacity(size));
        next.extend_from_slice(&self.buf);
        let before = self.first.take();
        self.begin(next);
        if let Some(before) = before {
            if self.kept.len() == KEPT_MAX {
                self.kept.pop_front();
            }
            self.kept.push_back(before);
        }
    }

    /// Returns a kept buffer of at least `size` bytes that nobody references any more: the last
    /// such buffer, which is most likely in the CPU's caches.
    fn again(&mut self, size: usize) -> Option<BytesMut> {
        let at = self.kept.iter().rposition(Bytes::is_unique)?;
        let mut again = self.kept.remove(at)?.try_into_mut().ok()?;
        again.clear();
        (again.capacity() >= size).then_some(again)
    }

    fn begin(&mut self, buf: BytesMut) {
        self.size = buf.capacity();
        self.buf = buf;
        self.number += 1;
        self.first = None;
    }

    /// Returns whether there is no buffer.
    pub(super) fn is_none(&self) -> bool {
        self.size == 0
    }

    /// Makes a buffer of bytes that were read while there was none.
    pub(super) fn start(&mut self, read: &[u8]) {
        let mut buf = BytesMut::with_capacity(READ_MIN.max(read.len()));
        buf.extend_from_slice(read);
        self.begin(buf);
        self.filled();
    }

    /// Drops all buffers, with bytes that were not taken out.
    pub(super) fn fall_idle(&mut self) {
        self.next_size = READ_MIN;
        self.kept = VecDeque::new();
        self.large = 0;
        self.begin(BytesMut::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fills the buffer, and takes all of it out.
    fn fill(buffer: &mut Buffer) -> Bytes {
        let room = buffer.buf.capacity() - buffer.buf.len();
        buffer.bytes_mut().extend_from_slice(&vec![1; room]);
        buffer.filled();
        let all = buffer.bytes_mut().split().freeze();
        buffer.took(&all, 1);
        all
    }

    #[test]
    fn grows_with_what_comes_and_falls_back() {
        let mut buffer = Buffer::new(BytesMut::new());
        let mut sizes = Vec::new();
        for _ in 0..6 {
            buffer.make_room(0);
            sizes.push(buffer.whole().0);
            drop(fill(&mut buffer));
        }
        assert_eq!(sizes[0], READ_MIN);
        assert!(
            sizes
                .windows(2)
                .all(|pair| pair[1] == (pair[0] * 4).min(READ_MAX)),
            "{sizes:?}"
        );
        assert_eq!(sizes.last(), Some(&READ_MAX));
        buffer.fall_idle();
        assert!(buffer.is_none());
        assert!(buffer.kept.is_empty());
        buffer.start(b"the first");
        assert_eq!(buffer.whole().0, READ_MIN);
        assert_eq!(&buffer.bytes()[..], b"the first");
    }

    #[test]
    fn a_buffer_is_reused_once_nobody_references_it() {
        let mut buffer = Buffer::new(BytesMut::new());
        buffer.next_size = READ_MAX;
        buffer.make_room(0);
        let held = fill(&mut buffer);
        let place = held.as_ptr();
        buffer.make_room(0);
        assert_ne!(buffer.buf.as_ptr(), place, "it is in use");
        drop(fill(&mut buffer));
        drop(held);
        buffer.make_room(0);
        assert_eq!(buffer.buf.as_ptr(), place);
        assert_eq!(buffer.whole(), (READ_MAX, 3), "as another one");
        assert!(buffer.kept.len() <= KEPT_MAX);
    }

    #[test]
    fn reads_large_frames_to_their_end() {
        for size in [LARGE, 65_550, READ_MAX, READ_MAX + 1, 1_000_000] {
            let mut buffer = Buffer::new(BytesMut::new());
            let (mut sent, mut moved) = (0, 0);
            while sent < 50 * size {
                let whole = sent / size * size;
                let held = buffer.bytes().len();
                // As the native wire tells it, and as the reader trusts it.
                let missing = if held < 4 { 0 } else { size - held };
                let before = buffer.whole();
                let most = buffer.make_room(missing.min(held.max(READ_MAX)));
                assert!(most > 0, "nothing read is the end of a stream");
                if before != buffer.whole() {
                    moved += held;
                }
                buffer.bytes_mut().extend_from_slice(&vec![1; most]);
                buffer.filled();
                sent += most;
                let take = sent / size * size - whole;
                if take > 0 {
                    let taken = buffer.bytes_mut().split_to(take).freeze();
                    buffer.took(&taken, size);
                }
            }
            // Only the first bytes of frames are moved, when their buffer must grow.
            let beginnings = if size <= READ_MAX { 2 } else { 50 };
            assert!(moved <= beginnings * size, "{size}: {moved} bytes moved");
        }
    }

    #[test]
    fn grows_with_a_frame_whose_length_is_not_known() {
        let mut buffer = Buffer::new(BytesMut::new());
        while buffer.bytes().len() < 10 * READ_MAX {
            let most = buffer.make_room(0);
            assert!(most > 0, "nothing read is the end of a stream");
            buffer.bytes_mut().extend_from_slice(&vec![1; most]);
            buffer.filled();
            assert!(buffer.whole().0 <= 2 * buffer.bytes().len().max(READ_MAX));
        }
    }

    #[test]
    fn bytes_that_were_not_taken_out_stay() {
        let mut buffer = Buffer::new(BytesMut::new());
        buffer.make_room(0);
        buffer.bytes_mut().extend_from_slice(b"the beginning");
        buffer.make_room(READ_MAX);
        assert_eq!(&buffer.bytes()[..], b"the beginning");
        assert!(buffer.whole().0 >= READ_MAX);
    }
}
