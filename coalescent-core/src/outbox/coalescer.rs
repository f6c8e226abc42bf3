//! Coalescing: small frames are copied into one buffer, so that a run of them costs one queue
//! entry, one lock and one wake-up instead of one each.

use bytes::{Bytes, BytesMut};

use super::chunk::{Chunk, Count};

/// Payloads of up to this many bytes are coalesced by those who make frames; larger ones keep their
/// own memory. Up to this size a copy costs less than a slice of its own in a vectored write.
pub(crate) const COALESCE_MAX: usize = 4096;

/// A buffer that small frames are copied into, one behind another.
///
/// Its owner decides how large the buffer is, and when it is sealed.
#[derive(Debug, Default)]
pub(crate) struct Coalescer {
    bytes: BytesMut,
    count: Count,
}

impl Coalescer {
    /// Returns whether there are no frames in the buffer, nor parts of one.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        // A frame may take no bytes, such as an empty payload on `raw`.
        self.bytes.is_empty() && self.count == Count::default()
    }

    /// Returns whether there is a buffer to write to.
    #[inline]
    pub(crate) fn has_buffer(&self) -> bool {
        self.bytes.capacity() > 0
    }

    /// Returns how many more bytes fit into the buffer without an allocation.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    /// Gives an empty coalescer an empty buffer to write to.
    pub(crate) fn set_buffer(&mut self, buffer: BytesMut) {
        debug_assert!(self.is_empty() && buffer.is_empty());
        self.bytes = buffer;
    }

    /// Makes room for at least `additional` more bytes. Memory of runs that were split off is used
    /// again once they have been written.
    pub(crate) fn reserve(&mut self, additional: usize) {
        self.bytes.reserve(additional);
    }

    /// Copies a frame, or several, behind those in the buffer.
    #[inline]
    pub(crate) fn append(&mut self, prefix: &[u8], payload: &[u8], suffix: &[u8], count: Count) {
        self.append_part(prefix);
        self.append_part(payload);
        self.append_part(suffix);
        self.count.add(count);
    }

    /// Copies a part of a frame, which is counted elsewhere.
    #[inline]
    pub(crate) fn append_part(&mut self, part: &[u8]) {
        self.bytes.extend_from_slice(part);
    }

    /// Takes the frames out, together with the buffer.
    pub(crate) fn take(&mut self) -> (BytesMut, Count) {
        (
            std::mem::take(&mut self.bytes),
            std::mem::take(&mut self.count),
        )
    }

    /// Takes the frames out, and keeps the rest of the buffer for further ones.
    fn split(&mut self) -> (Bytes, Count) {
        let count = std::mem::take(&mut self.count);
        (self.bytes.split().freeze(), count)
    }
}

/// Chunks in the order in which they are to be written, built frame by frame: small frames are
/// coalesced, larger ones are chunks of their own.
#[derive(Debug, Default)]
pub(crate) struct ChunkList {
    chunks: Vec<Chunk>,
    /// Small frames, behind all that are in `chunks`.
    open: Coalescer,
}

impl ChunkList {
    /// Returns whether there are neither chunks nor small frames.
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.open.is_empty()
    }

    /// Returns the chunks, without the small frames that have not been sealed.
    pub(crate) fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// Returns the coalescer to append small frames to.
    #[inline]
    pub(crate) fn open(&mut self) -> &mut Coalescer {
        &mut self.open
    }

    /// Adds a chunk. The small frames before it must have been sealed.
    pub(crate) fn push(&mut self, chunk: Chunk) {
        debug_assert!(self.open.is_empty());
        self.chunks.push(chunk);
    }

    /// Makes a chunk of the small frames, which takes the buffer with it.
    pub(crate) fn seal(&mut self) {
        if !self.open.is_empty() {
            let (bytes, count) = self.open.take();
            self.chunks.push(Chunk::verbatim(bytes.freeze(), count));
        }
    }

    /// Makes a chunk of the small frames, and keeps the rest of the buffer for further ones.
    pub(crate) fn seal_and_keep_buffer(&mut self) {
        if !self.open.is_empty() {
            let (bytes, count) = self.open.split();
            self.chunks.push(Chunk::verbatim(bytes, count));
        }
    }

    /// Removes the chunks, and keeps the memory of the list. Small frames that have not been sealed
    /// stay.
    pub(crate) fn clear(&mut self) {
        self.chunks.clear();
    }

    /// Frees memory that is kept for further frames.
    pub(crate) fn shrink(&mut self) {
        self.chunks.shrink_to_fit();
        if self.open.is_empty() {
            self.open = Coalescer::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_frames_become_one_chunk_and_large_ones_stay_apart() {
        let mut list = ChunkList::default();
        assert!(list.is_empty());
        list.open().append(b"<", b"a", b">", Count::OWN);
        list.open().append(b"<", b"b", b">", Count::OWN);
        assert!(list.chunks().is_empty() && !list.is_empty());
        list.seal();
        assert!(!list.open().has_buffer());
        list.push(Chunk::verbatim(Bytes::from_static(b"large"), Count::OWN));
        list.open().append(b"", b"", b"", Count::OWN);
        list.seal();
        list.seal();

        let bodies: Vec<_> = list.chunks().iter().map(|chunk| &chunk.body[..]).collect();
        assert_eq!(bodies, [&b"<a><b>"[..], b"large", b""]);
        let counts: Vec<_> = list.chunks().iter().map(|chunk| chunk.count.own).collect();
        assert_eq!(counts, [2, 1, 1], "a frame without bytes is counted too");
    }

    #[test]
    fn a_buffer_that_is_kept_is_written_to_again() {
        let mut list = ChunkList::default();
        list.open().reserve(64);
        list.open().append(b"", b"beep", b"", Count::OWN);
        list.seal_and_keep_buffer();
        assert!(list.open().room() >= 60);
        list.open().append(b"", b"boop", b"", Count::OWN);
        list.seal_and_keep_buffer();
        let [first, second] = list.chunks() else {
            panic!("two chunks: {:?}", list.chunks());
        };
        assert_eq!(first.body.as_ptr().wrapping_add(4), second.body.as_ptr());
        list.clear();
        list.shrink();
        assert!(list.is_empty() && !list.open().has_buffer());
    }
}
