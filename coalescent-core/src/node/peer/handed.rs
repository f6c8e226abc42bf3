//! Frames that plugins hand in to the stack of a peer.
//!
//! They wait with the peer until one of its connections takes them over: at once if a channel's
//! handler has handed them in, so that they stand in the order of arrival, or else when the
//! connection has room for them.

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::Extensions;

use crate::error::Error;

/// The most bytes of frames that were [handed in](crate::Peer::hand_in) and wait for the connection
/// of one peer: 256 KiB.
///
/// Each frame counts [`HANDED_COST`] in addition to its payload. An empty queue takes one frame
/// even if it is larger. What a handler of a channel hands in is taken over at once, and counts in
/// [`Config::read_ahead`](crate::Config::read_ahead) from then on.
pub const HANDED_IN: usize = 256 * 1024;

/// What each frame that was handed in counts for in addition to its payload, in bytes: its
/// bookkeeping, and its extensions.
pub const HANDED_COST: usize = 512;

/// A frame that was handed in.
#[derive(Debug)]
pub(crate) struct HandedFrame {
    pub(crate) payload: Bytes,
    pub(crate) extensions: Extensions,
}

/// The frames that were handed in, and that no connection has taken over.
#[derive(Debug, Default)]
pub(super) struct HandedIn {
    /// Whether frames wait.
    any: AtomicBool,
    /// How many connections call handlers of channels: they look for frames without being woken.
    calling: AtomicUsize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<HandedFrame>,
    cost: usize,
    /// Whether the peer has left.
    closed: bool,
}

impl HandedFrame {
    fn cost(&self) -> usize {
        self.payload.len().saturating_add(HANDED_COST)
    }
}

impl HandedIn {
    /// Whether frames wait.
    #[inline]
    pub(super) fn any(&self) -> bool {
        self.any.load(Relaxed)
    }

    /// Whether a connection calls a handler, and looks for frames afterwards.
    pub(super) fn is_looked_at(&self) -> bool {
        self.calling.load(SeqCst) > 0
    }

    /// Notes that a connection calls a handler of a channel, and looks for frames afterwards.
    pub(super) fn calls_handler(&self) -> CallsHandler<'_> {
        self.calling.fetch_add(1, SeqCst);
        CallsHandler(self)
    }

    /// Takes no more frames. Returns how many are lost.
    pub(super) fn close(&self) -> u64 {
        let mut waiting = self.waiting();
        waiting.closed = true;
        waiting.cost = 0;
        let frames = std::mem::take(&mut waiting.frames);
        self.any.store(false, Relaxed);
        // Extensions may own the peer.
        drop(waiting);
        frames.len() as u64
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, frame: HandedFrame) -> Result<(), Error> {
        let mut waiting = self.waiting();
        if waiting.closed {
            return Err(Error::closed());
        }
        let cost = waiting.cost.saturating_add(frame.cost());
        if cost > HANDED_IN && !waiting.frames.is_empty() {
            return Err(Error::handed_full());
        }
        waiting.cost = cost;
        waiting.frames.push_back(frame);
        self.any.store(true, Relaxed);
        Ok(())
    }

    pub(super) fn pop(&self) -> Option<HandedFrame> {
        let mut waiting = self.waiting();
        let frame = waiting.frames.pop_front();
        if let Some(frame) = &frame {
            waiting.cost = waiting.cost.saturating_sub(frame.cost());
        }
        if waiting.frames.is_empty() {
            waiting.frames = VecDeque::new();
            self.any.store(false, Relaxed);
        }
        frame
    }
}

/// Notes that a connection calls a handler of a channel, until it is dropped.
pub(crate) struct CallsHandler<'a>(&'a HandedIn);

impl Drop for CallsHandler<'_> {
    fn drop(&mut self) {
        // Before the connection looks for frames: who hands one in after that wakes it.
        self.0.calling.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(len: usize) -> HandedFrame {
        HandedFrame {
            payload: Bytes::from(vec![0; len]),
            extensions: Extensions::new(),
        }
    }

    #[test]
    fn the_room_is_bounded_and_an_empty_queue_takes_one_frame() {
        let handed = HandedIn::default();
        assert!(handed.push(frame(2 * HANDED_IN)).is_ok());
        assert!(handed.push(frame(0)).is_err_and(|error| error.is_full()));
        assert!(handed.pop().is_some() && handed.pop().is_none());
        let taken = (0..).take_while(|_| handed.push(frame(0)).is_ok()).count();
        assert_eq!(taken, HANDED_IN / HANDED_COST);
        while handed.pop().is_some() {}
        assert_eq!(handed.waiting().cost, 0);
        assert!(!handed.any.load(Relaxed));
    }
}
