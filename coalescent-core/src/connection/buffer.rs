//! What a connection reads into: one buffer after another, in sizes that follow the peer.
//!
//! A connection on which nothing comes has none: what ends the silence is read into the stack of
//! the thread first.
//!
//! Frames are slices of the buffer they were read into, and relays hand on such slices, so a buffer
//! is in use for longer than it is read into. A few are kept until they are free again: to have
//! them anew costs a page fault for each 4 KiB.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// The buffer of a connection on which little comes.
pub(super) const READ_MIN: usize = 1024;

/// The buffer of a connection on which much comes. A buffer that was filled makes the next one four
/// times larger, up to this.
///
/// It is two of the largest frames that a duplex stream is cut into, with what stands around them.
pub(crate) const READ_MAX: usize = 2 * (64 * 1024 + 64);

/// From this many bytes on, a frame is read up to its end, so that no part of the next one has to
/// be copied into the next buffer: to copy it costs more than the reads that are saved by taking
/// all that is there.
const LARGE: usize = 8 * 1024;

/// How many used buffers of [`READ_MAX`] are kept for being used again.
pub(crate) const KEPT_MAX: usize = 4;

/// The buffer of one connection, and those it has used before.
#[derive(Debug)]
pub(super) struct Buffer {
    buf: BytesMut,
    /// The size of the allocation that `buf` is a part of, and of the next one.
    size: usize,
    next_size: usize,
    /// Which buffer that is, counted from the first.
    number: u64,
    /// The first slice that was taken out of it, by which all of it can be had back.
    first: Option<Bytes>,
    /// First slices of buffers before that, oldest first.
    kept: VecDeque<Bytes>,
    /// How large the last frame was, where it was large and its length was known before all of it
    /// was there.
    large: usize,
}

impl Buffer {
    /// Begins with what was read before.
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

    /// What was read and not taken out.
    pub(super) fn bytes(&self) -> &BytesMut {
        &self.buf
    }

    /// What was read, to take frames out of its front.
    pub(super) fn bytes_mut(&mut self) -> &mut BytesMut {
        &mut self.buf
    }

    /// The size of the allocation, and its number.
    pub(super) fn whole(&self) -> (usize, u64) {
        (self.size, self.number)
    }

    /// Notes that `slice` was taken out of the front, of which the last frame was `last` bytes.
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

    /// Makes room for the next read, of which at least `missing` bytes are expected, where that is
    /// known: what is left of the buffer if that is enough, or another one. Returns how many bytes
    /// to read at most.
    pub(super) fn make_room(&mut self, missing: usize) -> usize {
        let begun = missing > 0 && self.buf.len() + missing >= LARGE;
        if begun {
            self.large = self.buf.len() + missing;
        }
        let room = self.buf.capacity() - self.buf.len();
        let wanted = match (begun, self.buf.is_empty()) {
            // What is there of it already need not be moved.
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

    /// Whether what comes are large frames, as far as is known.
    pub(super) fn is_large(&self) -> bool {
        self.large > 0
    }

    /// How large the next frame is expected to be, as far as room is made for it before any of it
    /// is there.
    fn expected(&self) -> usize {
        self.large.min(READ_MAX)
    }

    /// Goes on in another buffer, with room for at least `missing` bytes.
    fn renew(&mut self, missing: usize) {
        // A frame whose length is not known grows to twice what has come of it: a read of no room
        // would be taken for the end.
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

    /// A buffer of at least `size` that was used before, and that nobody uses any more: the last of
    /// them, which the caches know best.
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

    /// Whether there is none.
    pub(super) fn is_none(&self) -> bool {
        self.size == 0
    }

    /// Takes in what was read when there was none.
    pub(super) fn start(&mut self, read: &[u8]) {
        let mut buf = BytesMut::with_capacity(READ_MIN.max(read.len()));
        buf.extend_from_slice(read);
        self.begin(buf);
        self.filled();
    }

    /// Gives back what it holds. What was read and not taken out must have been dealt with.
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
    fn uses_a_buffer_again_once_nobody_does() {
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
            // All that is moved is the beginning of frames for which a buffer grows as they come.
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
    fn keeps_what_was_not_taken_out() {
        let mut buffer = Buffer::new(BytesMut::new());
        buffer.make_room(0);
        buffer.bytes_mut().extend_from_slice(b"the beginning");
        buffer.make_room(READ_MAX);
        assert_eq!(&buffer.bytes()[..], b"the beginning");
        assert!(buffer.whole().0 >= READ_MAX);
    }
}
