//! Which peer's frames this thread is handling, and the handlers that wait to send to that peer.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Peer;

thread_local! {
    /// The peer whose frames this thread is handling, by its address; 0 for none.
    static HANDLED: Cell<usize> = const { Cell::new(0) };
}

/// The time in which this thread handles frames of one peer. Nests.
pub(crate) struct Handling {
    outer: usize,
}

impl Handling {
    /// Begins to handle frames of `peer` on this thread, until the value is dropped.
    pub(crate) fn of(peer: &Peer) -> Self {
        let outer = HANDLED.replace(peer.place());
        Self { outer }
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        HANDLED.set(self.outer);
    }
}

/// What waits for room to send to a peer, and holds back that peer's frames meanwhile: a handler of
/// them, or its reply.
pub(crate) struct Stuck(Peer);

impl Drop for Stuck {
    fn drop(&mut self) {
        self.0.0.stuck.fetch_sub(1, Relaxed);
    }
}

impl Peer {
    /// Returns an address that no other peer has while this one exists.
    fn place(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Returns whether this thread is handling a frame of the peer.
    pub(super) fn is_handled(&self) -> bool {
        HANDLED.get() == self.place()
    }

    /// Returns whether this thread is handling a frame of any peer.
    pub(super) fn is_in_a_handler() -> bool {
        HANDLED.get() != 0
    }

    /// Counts what holds back the peer's frames while it waits to send to the peer.
    pub(crate) fn stick(&self) -> Stuck {
        self.0.stuck.fetch_add(1, Relaxed);
        Stuck(self.clone())
    }

    /// Returns whether a handler of the peer's frames, or a reply, waits for room to send to it.
    pub(crate) fn has_stuck_handlers(&self) -> bool {
        self.0.stuck.load(Relaxed) > 0
    }
}
