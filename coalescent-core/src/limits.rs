//! The bounds of memory that are published, computed where all of their parts are known.

use crate::config::{Config, PENDING_BYTES};
use crate::connection::{KEPT_MAX, MAX_CONTROL, READ_MAX};
use crate::mesh::FRAME_COST;
use crate::node::event::EVENT_CAPACITY;
use crate::node::throttle::THROTTLE_BYTES;
use crate::node::{KEPT_RUNS, RUN_BYTES};
use crate::wire::{MAX_BLOCK_FRAMES, MAX_PREFIX};

/// What an event costs at most that nobody reads, with the peer that it names.
const EVENT_BYTES: usize = 4 * 1024;

/// What is kept of a connected peer besides what it sends and is sent.
const PEER_BYTES: usize = 512 * 1024;

impl Config {
    /// The most bytes that one connected peer can make this node keep; see the [module's
    /// docs](crate::config).
    #[must_use]
    pub fn peer_bytes(&self) -> usize {
        let reading = self
            .buffer_bytes()
            .saturating_mul(self.concurrency.max(1) + 1);
        // An outbox always has room for one frame.
        let outbox = self.outbox.max(self.max_frame).saturating_mul(2);
        reading
            .saturating_add(self.read_ahead)
            .saturating_add(outbox)
            .saturating_add(2 * MAX_CONTROL + PEER_BYTES + KEPT_MAX * READ_MAX)
    }

    /// The most bytes that peers can make this node keep, all together; see the [module's
    /// docs](crate::config).
    #[must_use]
    pub fn node_bytes(&self) -> usize {
        let peers = self.max_inbound.saturating_add(self.max_peers);
        let pending = self.max_pending.saturating_mul(PENDING_BYTES);
        peers
            .saturating_mul(self.peer_bytes())
            .saturating_add(pending)
            .saturating_add(self.inbox)
            // The frames of one block find room, whatever the limit.
            .saturating_add(self.buffer_bytes() + MAX_BLOCK_FRAMES * FRAME_COST)
            .saturating_add(KEPT_RUNS * RUN_BYTES)
            .saturating_add(EVENT_CAPACITY * EVENT_BYTES + THROTTLE_BYTES)
    }

    /// The largest buffer that a connection reads into.
    fn buffer_bytes(&self) -> usize {
        self.max_frame
            .saturating_add(MAX_PREFIX)
            .saturating_mul(2)
            .max(READ_MAX)
    }
}
