//! Buffers for writing messages whose length is not known in advance.

use std::cell::{Cell, RefCell};
use std::mem;
use std::ops::{Deref, DerefMut};

use bytes::{Bytes, BytesMut};

/// The longest message that shares an allocation with others, in bytes. Outboxes copy messages up
/// to this length, unless their queue is empty, so that they rarely keep the other messages' memory
/// alive.
pub(crate) const SHARED_MAX: usize = 1280;

/// The size of a shared allocation, in bytes.
const SHARED_LEN: usize = 4096;

/// The longest message that is copied out of the scratch buffer, in bytes. For a longer one, the
/// buffer itself is handed out if it is not much larger than the message; it is recycled when the
/// last reference to the message is dropped.
const COPY_MAX: usize = 4096;

/// The largest buffer that is kept for short messages, in bytes.
const SMALL_MAX: usize = 2 * COPY_MAX;

/// The minimum capacity of a buffer, in bytes.
const MIN_CAPACITY: usize = 256;

/// The total capacity of the buffers that a thread keeps for long messages, in bytes. Allocating
/// them anew would cost a page fault per 4 KiB if the allocator has returned the memory to the
/// system.
const KEPT_MAX: usize = 256 * 1024;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static LARGE: RefCell<Large> = const { RefCell::new(Large::NONE) };
    /// The rest of the allocation that holds the last short messages. It is reused from the front
    /// once all of them are dropped, so that short-lived messages cost no allocation.
    static SHARED_BUFFER: RefCell<Option<BytesMut>> = const { RefCell::new(None) };
}

/// Recycled buffers of long messages.
struct Large {
    kept: Vec<Vec<u8>>,
    size: usize,
    /// Whether this thread's last message was long, so that the next one is expected to be.
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

/// The buffer of a long message, recycled when the message is dropped.
struct LongBuffer(Vec<u8>);

impl AsRef<[u8]> for LongBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for LongBuffer {
    fn drop(&mut self) {
        let buffer = mem::take(&mut self.0);
        // The thread may be terminating; then the buffer is freed.
        let _ = LARGE.try_with(|large| large.borrow_mut().put(buffer));
    }
}

/// An empty buffer that the thread recycles.
pub(super) struct Scratch(Vec<u8>);

impl Scratch {
    /// Takes the thread's buffer, so that a value of the application can write another message
    /// while it is being serialized.
    pub(super) fn take() -> Self {
        let large = LARGE.try_with(|large| large.borrow_mut().take());
        if let Ok(Some(buffer)) = large {
            return Self(buffer);
        }
        let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
        // Avoid growing a new buffer byte by byte.
        buffer.reserve(MIN_CAPACITY);
        Self(buffer)
    }

    /// Returns the written bytes.
    ///
    /// A message of medium length takes one allocation of exactly its length; converting a vector
    /// with spare capacity to `Bytes` would take another one.
    pub(super) fn into_bytes(mut self) -> Bytes {
        let long = self.0.len() > COPY_MAX;
        let _ = LARGE.try_with(|large| large.borrow_mut().expected = long);
        // A message must not keep much more memory alive than its length, which is what budgets
        // count.
        if long && self.0.capacity() <= 2 * self.0.len() {
            Bytes::from_owner(LongBuffer(mem::take(&mut self.0)))
        } else {
            copy_to_shared(&self.0).unwrap_or_else(|| Bytes::copy_from_slice(&self.0))
        }
    }
}

/// Copies a short message into the shared allocation. Returns `None` for a longer message.
fn copy_to_shared(message: &[u8]) -> Option<Bytes> {
    if message.len() > SHARED_MAX {
        return None;
    }
    let put = |shared: &RefCell<Option<BytesMut>>| {
        let mut shared = shared.borrow_mut();
        let shared = shared.get_or_insert_default();
        if shared.capacity() - shared.len() < message.len() {
            shared.reserve(SHARED_LEN);
        }
        shared.extend_from_slice(message);
        shared.split().freeze()
    };
    // The thread may be terminating.
    SHARED_BUFFER.try_with(put).ok()
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
        // The thread may be terminating; then the buffer is freed.
        match buffer.capacity() {
            0 => {}
            1..=SMALL_MAX => {
                buffer.clear();
                let _ = BUFFER.try_with(|slot| slot.set(buffer));
            }
            _ => drop(LongBuffer(buffer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_message_can_be_written_while_another_is_open() {
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
    fn a_thread_recycles_a_bounded_amount() {
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
        assert!(
            Scratch::take().capacity() <= SMALL_MAX,
            "the next short message gets a small buffer"
        );
    }

    #[test]
    fn a_message_never_holds_a_much_larger_buffer() {
        let write = |len| {
            let mut out = Scratch::take();
            out.resize(len, 1);
            out.into_bytes()
        };
        drop(write(100_000));
        let kept = write(5000);
        let place = write(100_000).as_ptr();
        assert_eq!(write(90_000).as_ptr(), place, "the buffer is free");
        assert_eq!(kept.len(), 5000);
    }

    #[test]
    fn short_lived_short_messages_reuse_their_shared_buffer() {
        let write = |byte| {
            let mut out = Scratch::take();
            out.resize(1000, byte);
            out.into_bytes()
        };
        let places: BTreeSet<_> = (0..100).map(|byte| write(byte).as_ptr().addr()).collect();
        let span = places.last().unwrap() - places.first().unwrap();
        assert!(span < SHARED_LEN, "{places:?}");
        // Bytes that are still referenced are not overwritten.
        let held: Vec<_> = (0..100).map(write).collect();
        for (byte, message) in held.iter().enumerate() {
            assert!(message.iter().all(|there| usize::from(*there) == byte));
        }
    }

    #[test]
    fn the_buffer_of_a_long_message_is_reused() {
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
        assert_ne!(second.as_ptr(), place, "the buffer is in use");
        drop(held);
        assert_eq!(write().as_ptr(), place);
    }
}
