//! A connection's place in the roster of its node.

use std::sync::Arc;

use crate::node::peer::Peer;
use crate::node::peer::handle::ConnectionHandle;
use crate::reason::DisconnectReason;

/// A connection's place in the roster, given up when this is dropped.
#[derive(Debug)]
pub(super) struct Membership {
    peer: Peer,
    handle: Arc<ConnectionHandle>,
    /// Whether the peer left with this connection.
    peer_left: bool,
}

impl Membership {
    pub(super) fn new(peer: Peer, handle: Arc<ConnectionHandle>) -> Self {
        Self {
            peer,
            handle,
            peer_left: false,
        }
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Gives the place up. The queue of the peer can still be written. Returns whether the
    /// peer has left with this connection.
    pub(super) fn give_up(&mut self, reason: &DisconnectReason) -> bool {
        let node = self.peer.node();
        self.peer_left |= node.begin_departure(&self.peer, self.handle.id(), reason);
        self.peer_left
    }

    /// Tells everyone that the peer has left, and runs the disconnect hooks. Of a contact only the
    /// hooks for its end are told.
    pub(super) async fn announce(&self, reason: &DisconnectReason) {
        let node = self.peer.node();
        node.finish_departure(&self.peer, reason.clone());
        self.peer.run_disconnect_hooks().await;
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        // A peer that is still connected has another connection, and stays, or this connection was
        // dropped before its end was announced.
        let reason = DisconnectReason::Disconnected("the connection was dropped".to_owned());
        let is_unrun = self.peer.is_connected() && self.give_up(&reason);
        if is_unrun {
            self.peer.node().finish_unrun(&self.peer, reason);
        }
        if self.peer.is_in_channels() || self.peer.has_handed() {
            // Another connection goes on with what this one has left.
            self.peer.wake();
        }
        // Otherwise a task ends it, once the disconnect hooks have run.
        if self.peer_left && !is_unrun {
            self.peer.end_departure();
        }
    }
}
