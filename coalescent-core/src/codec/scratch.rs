//! Where messages are written before it is known how long they are.

use std::{
    cell::Cell,
    mem,
    ops::{Deref, DerefMut},
};

use bytes::Bytes;

/// The longest message that is copied out of the buffer it was written to, in bytes; of a longer one, the
/// buffer itself is given away. What a thread keeps is at most twice as long.
const COPY_MAX: usize = 4096;

/// What a buffer has room for at least, in bytes.
const LEAST: usize = 256;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A buffer that the thread keeps, empty.
pub(super) struct Scratch(Vec<u8>);

impl Scratch {
    /// Takes the buffer, so that a value of the application may write another message while it is serialized.
    pub(super) fn take() -> Self {
        let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
        // Where there is none, not one byte after another.
        buffer.reserve(LEAST);
        Self(buffer)
    }

    /// Returns what was written.
    ///
    /// A short message takes one allocation, of just its length: `Bytes` of a vector with room to spare
    /// would take one more.
    pub(super) fn into_bytes(mut self) -> Bytes {
        if self.0.len() > COPY_MAX {
            Bytes::from(mem::take(&mut self.0))
        } else {
            Bytes::copy_from_slice(&self.0)
        }
    }
}

impl Deref for Scratch {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut buffer = mem::take(&mut self.0);
        if (1..=2 * COPY_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            // A thread that ends keeps nothing.
            let _ = BUFFER.try_with(|slot| slot.set(buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_can_be_written_while_another_is() {
        let mut outer = Scratch::take();
        outer.extend_from_slice(b"out");
        let mut inner = Scratch::take();
        inner.extend_from_slice(b"in");
        assert_eq!(inner.into_bytes(), "in");
        outer.extend_from_slice(b"er");
        assert_eq!(outer.into_bytes(), "outer");
        assert!(Scratch::take().is_empty());
    }

    #[test]
    fn a_thread_keeps_little() {
        for len in [0, COPY_MAX, COPY_MAX + 1, 1 << 20] {
            let mut out = Scratch::take();
            out.resize(len, 1);
            assert_eq!(out.into_bytes().len(), len);
            assert!(Scratch::take().capacity() <= 2 * COPY_MAX);
        }
    }
}
