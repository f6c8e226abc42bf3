//! Splitting stdin into lines.

use bytes::{Buf, Bytes, BytesMut};

/// The mark with which a text may announce that it is UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Splits chunks into lines.
pub(crate) struct Lines {
    max: usize,
    chunk: Bytes,
    end: bool,
    /// The beginning of a line whose end is in a later chunk.
    partial: BytesMut,
    /// Set while the rest of a line that is too long is being skipped.
    skipping: bool,
    number: u64,
}

impl Lines {
    /// Splits into lines of at most `max` bytes.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            chunk: Bytes::new(),
            end: false,
            partial: BytesMut::new(),
            skipping: false,
            number: 0,
        }
    }

    /// Sets the next chunk. `end` says that no other follows.
    pub(crate) fn feed(&mut self, chunk: Bytes, end: bool) {
        self.chunk = chunk;
        self.end = end;
    }

    /// Returns the next line and its number, with `None` in place of a line that is too long. A
    /// byte order mark before the first line is removed.
    pub(crate) fn next(&mut self) -> Option<(u64, Option<Bytes>)> {
        let line = match memchr::memchr(b'\n', &self.chunk) {
            Some(at) => {
                let line = self.chunk.split_to(at);
                self.chunk.advance(1);
                self.join(line)
            }
            None => {
                self.keep_rest();
                let nothing = self.partial.is_empty()
                    || (self.number == 0 && self.partial == BYTE_ORDER_MARK);
                // The last line may lack its newline.
                if !self.end || (nothing && !self.skipping) {
                    return None;
                }
                self.join(Bytes::new())
            }
        };
        self.number += 1;
        Some((self.number, line))
    }

    /// Keeps the rest of the chunk as the beginning of a line, unless that is too long already.
    fn keep_rest(&mut self) {
        let rest = std::mem::take(&mut self.chunk);
        if !self.skipping && self.partial.len() + rest.len() <= self.room() {
            self.partial.extend_from_slice(&rest);
        } else {
            self.partial = BytesMut::new();
            self.skipping = true;
        }
    }

    /// Returns the maximum length of the next line as it is read, with any byte order mark.
    fn room(&self) -> usize {
        let mark = if self.number == 0 {
            BYTE_ORDER_MARK.len()
        } else {
            0
        };
        self.max.saturating_add(mark)
    }

    /// Joins the beginning of a line with its end, or returns `None` if it is too long.
    fn join(&mut self, line: Bytes) -> Option<Bytes> {
        let skipped = std::mem::take(&mut self.skipping);
        if skipped || self.partial.len() + line.len() > self.room() {
            self.partial = BytesMut::new();
            return None;
        }
        let mut whole = if self.partial.is_empty() {
            line
        } else {
            self.partial.extend_from_slice(&line);
            self.partial.split().freeze()
        };
        if self.number == 0 && whole.starts_with(BYTE_ORDER_MARK) {
            whole.advance(BYTE_ORDER_MARK.len());
        }
        (whole.len() <= self.max).then_some(whole)
    }
}
