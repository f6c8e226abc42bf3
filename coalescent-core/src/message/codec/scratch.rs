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
#[path = "scratch_tests.rs"]
mod tests;
