//! Counters of frames, of one peer and of the whole node.

use std::ops::{Add, AddAssign};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How many frames went which way. Control frames (handshake, liveness) are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Frames that arrived.
    pub received: u64,
    /// Frames that came through the stack to the read side of the mesh, read or discarded there.
    pub delivered: u64,
    /// Own frames, one for each peer they were written to.
    pub sent: u64,
    /// Others' frames, one for each peer they were written to.
    pub relayed: u64,
    /// Frames that had arrived before.
    pub duplicates: u64,
    /// Frames accepted for a peer and not written to it.
    pub dropped: u64,
    /// Frames of a kind that is not known here, skipped.
    pub unknown: u64,
}

impl Add for Stats {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            received: self.received + other.received,
            delivered: self.delivered + other.delivered,
            sent: self.sent + other.sent,
            relayed: self.relayed + other.relayed,
            duplicates: self.duplicates + other.duplicates,
            dropped: self.dropped + other.dropped,
            unknown: self.unknown + other.unknown,
        }
    }
}

impl AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// The counters of one peer. Kept with the peer, so that peers do not contend for them.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    received: AtomicU64,
    delivered: AtomicU64,
    sent: AtomicU64,
    relayed: AtomicU64,
    duplicates: AtomicU64,
    dropped: AtomicU64,
    unknown: AtomicU64,
}

impl Counters {
    pub(crate) fn add_received(&self, frames: u64) {
        self.received.fetch_add(frames, Relaxed);
    }

    pub(crate) fn add_delivered(&self) {
        self.delivered.fetch_add(1, Relaxed);
    }

    pub(crate) fn add_written(&self, own: u64, relayed: u64) {
        if own > 0 {
            self.sent.fetch_add(own, Relaxed);
        }
        if relayed > 0 {
            self.relayed.fetch_add(relayed, Relaxed);
        }
    }

    pub(crate) fn add_duplicate(&self) {
        self.duplicates.fetch_add(1, Relaxed);
    }

    pub(crate) fn add_dropped(&self, frames: u64) {
        self.dropped.fetch_add(frames, Relaxed);
    }

    pub(crate) fn add_unknown(&self) {
        self.unknown.fetch_add(1, Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Stats {
        Stats {
            received: self.received.load(Relaxed),
            delivered: self.delivered.load(Relaxed),
            sent: self.sent.load(Relaxed),
            relayed: self.relayed.load(Relaxed),
            duplicates: self.duplicates.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            unknown: self.unknown.load(Relaxed),
        }
    }
}
