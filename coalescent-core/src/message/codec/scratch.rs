//! Where messages are written before it is known how long they are.

use std::cell::{Cell, RefCell};
use std::mem;
use std::ops::{Deref, DerefMut};

use bytes::{Bytes, BytesMut};

/// The longest message that shares memory with others, in bytes. Outboxes copy what is not longer,
/// but for what nothing else waits before, and so hardly ever keep the others' memory.
pub(crate) const SHARED_MAX: usize = 1280;

/// How much memory such messages share.
const SHARED: usize = 4096;

/// The longest message that is copied out of the buffer it was written to, in bytes; of a longer
/// one, the buffer itself is given away, if it is not much larger, and comes back when nobody holds
/// the message any more.
const COPY_MAX: usize = 4096;

/// The largest buffer that is kept for short messages.
const SMALL_MAX: usize = 2 * COPY_MAX;

/// What a buffer has room for at least, in bytes.
const LEAST: usize = 256;

/// How many bytes a thread keeps in buffers of long messages, for the next ones. To have them anew
/// costs a page fault for each 4 KiB, where the allocator gives freed memory back to the system.
const KEPT_MAX: usize = 256 * 1024;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static LARGE: RefCell<Large> = const { RefCell::new(Large::NONE) };
    /// The rest of the memory that the last short messages were put into. It is used again from the front once nobody holds
    /// any of them, so that a message that does not live long costs no allocation.
    static TOGETHER: RefCell<Option<BytesMut>> = const { RefCell::new(None) };
}

/// Buffers that long messages were written to.
struct Large {
    kept: Vec<Vec<u8>>,
    size: usize,
    /// Whether the last message of this thread was a long one, so that the next is expected to be.
    expected: bool,
}

impl Large {
    const NONE: Self = Self {
        kept: Vec::new(),
        size: 0,
        expected: false,
    };

    fn take(&mut self) -> Option<Vec<u8>> {
        let buffer = self.kept.pop_if(|_| self.expected)?;
        self.size -= buffer.capacity();
        Some(buffer)
    }

    fn put(&mut self, mut buffer: Vec<u8>) {
        if self.size + buffer.capacity() <= KEPT_MAX {
            buffer.clear();
            self.size += buffer.capacity();
            self.kept.push(buffer);
        }
    }
}

/// The buffer of a long message, for as long as somebody holds that.
struct Lent(Vec<u8>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let buffer = mem::take(&mut self.0);
        // A thread that ends keeps nothing.
        let _ = LARGE.try_with(|large| large.borrow_mut().put(buffer));
    }
}

/// A buffer that the thread keeps, empty.
pub(super) struct Scratch(Vec<u8>);

impl Scratch {
    /// Takes the buffer, so that a value of the application may write another message while it is
    /// serialized.
    pub(super) fn take() -> Self {
        let large = LARGE.try_with(|large| large.borrow_mut().take());
        if let Ok(Some(buffer)) = large {
            return Self(buffer);
        }
        let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
        // Where there is none, not one byte after another.
        buffer.reserve(LEAST);
        Self(buffer)
    }

    /// Returns what was written.
    ///
    /// A message of medium length takes one allocation, of just its length: `Bytes` of a vector
    /// with room to spare would take one more.
    pub(super) fn into_bytes(mut self) -> Bytes {
        let long = self.0.len() > COPY_MAX;
        let _ = LARGE.try_with(|large| large.borrow_mut().expected = long);
        // A message that is kept does not keep much more than itself, as what it counts for says.
        if long && self.0.capacity() <= 2 * self.0.len() {
            Bytes::from_owner(Lent(mem::take(&mut self.0)))
        } else {
            put_together(&self.0).unwrap_or_else(|| Bytes::copy_from_slice(&self.0))
        }
    }
}

/// Copies a short message into the memory that it shares with others; `None` for one that is not
/// short.
fn put_together(message: &[u8]) -> Option<Bytes> {
    if message.len() > SHARED_MAX {
        return None;
    }
    let put = |together: &RefCell<Option<BytesMut>>| {
        let mut together = together.borrow_mut();
        let together = together.get_or_insert_default();
        if together.capacity() - together.len() < message.len() {
            together.reserve(SHARED);
        }
        together.extend_from_slice(message);
        together.split().freeze()
    };
    // The thread may be at its end.
    TOGETHER.try_with(put).ok()
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
        // A thread that ends keeps nothing.
        match buffer.capacity() {
            0 => {}
            1..=SMALL_MAX => {
                buffer.clear();
                let _ = BUFFER.try_with(|slot| slot.set(buffer));
            }
            _ => drop(Lent(buffer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
        let kept =
            || LARGE.with_borrow(|large| large.kept.iter().map(Vec::capacity).sum::<usize>());
        for len in [0, COPY_MAX, COPY_MAX + 1, 1 << 20] {
            let messages: Vec<_> = (0..100)
                .map(|_| {
                    let mut out = Scratch::take();
                    out.resize(len, 1);
                    out.into_bytes()
                })
                .collect();
            assert!(messages.iter().all(|message| message.len() == len));
            drop(messages);
            assert!(kept() <= KEPT_MAX);
            assert_eq!(kept(), LARGE.with_borrow(|large| large.size));
        }
        drop(Scratch::take().into_bytes());
        assert!(Scratch::take().capacity() <= SMALL_MAX, "short ones again");
    }

    #[test]
    fn a_message_that_is_kept_keeps_no_buffer_much_larger_than_it() {
        let write = |len| {
            let mut out = Scratch::take();
            out.resize(len, 1);
            out.into_bytes()
        };
        drop(write(100_000));
        let kept = write(5000);
        let place = write(100_000).as_ptr();
        assert_eq!(write(90_000).as_ptr(), place, "it is free");
        assert_eq!(kept.len(), 5000);
    }

    #[test]
    fn short_messages_that_do_not_live_long_share_memory_that_is_used_again() {
        let write = |byte| {
            let mut out = Scratch::take();
            out.resize(1000, byte);
            out.into_bytes()
        };
        let places: BTreeSet<_> = (0..100).map(|byte| write(byte).as_ptr().addr()).collect();
        let span = places.last().unwrap() - places.first().unwrap();
        assert!(span < SHARED, "{places:?}");
        // What is held is left alone.
        let held: Vec<_> = (0..100).map(write).collect();
        for (byte, message) in held.iter().enumerate() {
            assert!(message.iter().all(|there| usize::from(*there) == byte));
        }
    }

    #[test]
    fn the_buffer_of_a_long_message_is_used_again() {
        let write = || {
            let mut out = Scratch::take();
            out.resize(10_000, 1);
            out.into_bytes()
        };
        let first = write();
        let held = first.slice(10..);
        let place = first.as_ptr();
        drop(first);
        let second = write();
        assert_ne!(second.as_ptr(), place, "it is in use");
        drop(held);
        assert_eq!(write().as_ptr(), place);
    }
}
