//! The published bounds of memory.
//!
//! They are computed here because this module may import all of their parts, which the module of
//! [`Config`] may not.

use crate::config::{Config, PENDING_BYTES};
use crate::connection::{KEPT_MAX, MAX_CONTROL, READ_MAX, requests_ahead};
use crate::mesh::FRAME_COST;
use crate::node::channel::CHANNEL_INBOX;
use crate::node::event::EVENT_CAPACITY;
use crate::node::throttle::THROTTLE_BYTES;
use crate::node::{KEPT_RUNS, RUN_BYTES};
use crate::outbox::{CHANNEL_OUTBOX, ENTRY_COST};
use crate::wire::{MAX_BLOCK_FRAMES, MAX_PREFIX};

/// The most bytes that an unread event costs, including the peer that it refers to.
const EVENT_BYTES: usize = 4 * 1024;

/// The most bytes that a connected peer costs apart from the frames that it sends and is sent.
const PEER_BYTES: usize = 512 * 1024;

impl Config {
    /// Returns the most memory, in bytes, that one connected peer can make this node use. The
    /// [module's docs](crate::config) explain the parts.
    #[must_use]
    pub fn peer_bytes(&self) -> usize {
        // The buffer with an incomplete frame becomes one that frames wait in. Unfinished calls
        // hold another, and what they hold besides is a part of `read_ahead`.
        let reading = self.buffer_bytes().saturating_mul(2);
        // An empty outbox takes one frame, whatever its limit.
        let outbox = self.outbox.max(self.max_frame).saturating_mul(2);
        reading
            .saturating_add(self.read_ahead)
            .saturating_add(requests_ahead(self.max_frame))
            .saturating_add(outbox)
            .saturating_add(2 * MAX_CONTROL + PEER_BYTES + KEPT_MAX * READ_MAX)
    }

    /// Returns the most memory, in bytes, that one connected peer can make this node use in
    /// addition to [`peer_bytes`](Config::peer_bytes) if plugins have registered this many
    /// [channels](crate::Registrar::channel).
    #[must_use]
    pub fn channels_bytes(&self, channels: usize) -> usize {
        if channels == 0 {
            return 0;
        }
        // An empty queue takes one frame, whatever its limit.
        let waiting = CHANNEL_INBOX.max(self.max_frame.saturating_add(ENTRY_COST));
        let in_hand = self.max_frame;
        let outbox = CHANNEL_OUTBOX.max(self.max_frame.saturating_add(ENTRY_COST));
        waiting
            .saturating_add(in_hand)
            .saturating_mul(channels)
            .saturating_add(outbox)
    }

    /// Returns the most memory, in bytes, that one [contact](crate::Registrar::contacts) can make
    /// this node use in addition to [`channels_bytes`](Config::channels_bytes).
    #[must_use]
    pub fn contact_bytes(&self) -> usize {
        // No frame waits: the first one for the stack makes it a peer, or ends it.
        self.buffer_bytes()
            .saturating_add(2 * MAX_CONTROL + PEER_BYTES + KEPT_MAX * READ_MAX)
    }

    /// Returns the most memory, in bytes, that all contacts together can make this node use in
    /// addition to [`node_bytes`](Config::node_bytes) and
    /// [`channels_bytes`](Config::channels_bytes), if a plugin has registered
    /// [contacts](crate::Registrar::contacts).
    #[must_use]
    pub fn contacts_bytes(&self) -> usize {
        // Inbound ones, as many that have taken over from outbound ones, as many that have given
        // way and not ended, and outbound ones.
        let contacts = self.max_contacts.saturating_mul(4);
        contacts.saturating_mul(self.contact_bytes())
    }

    /// Returns the most memory, in bytes, that all peers together can make this node use. The
    /// [module's docs](crate::config) explain the parts.
    #[must_use]
    pub fn node_bytes(&self) -> usize {
        let peers = self.max_inbound.saturating_add(self.max_peers);
        let pending = self.max_pending.saturating_mul(PENDING_BYTES);
        peers
            .saturating_mul(self.peer_bytes())
            .saturating_add(pending)
            .saturating_add(self.inbox)
            // An empty inbox takes the frames of one block, whatever its limit.
            .saturating_add(self.buffer_bytes() + MAX_BLOCK_FRAMES * FRAME_COST)
            .saturating_add(KEPT_RUNS * RUN_BYTES)
            .saturating_add(EVENT_CAPACITY * EVENT_BYTES + THROTTLE_BYTES)
    }

    /// Returns the size of the largest buffer that a connection reads into.
    fn buffer_bytes(&self) -> usize {
        self.max_frame
            .saturating_add(MAX_PREFIX)
            .saturating_mul(2)
            .max(READ_MAX)
    }
}
