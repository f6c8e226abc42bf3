//! A connection's place in the roster of its node.

use std::sync::Arc;
use std::time::Duration;

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
        if self.peer.is_contact() {
            return;
        }
        if let Some(hooks) = self.peer.begin() {
            // It has left before its connection could run the hooks. Polled once, so that each
            // peer of whom the hooks for its end tell was told of before.
            let _ = tokio::time::timeout(Duration::ZERO, hooks).await;
        }
        for hook in &node.hooks().disconnect {
            hook(self.peer.clone()).await;
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        // A peer that is still connected has another connection, and stays, or this connection was
        // dropped before its end was announced.
        let reason = DisconnectReason::Disconnected("the connection was dropped".to_owned());
        if self.peer.is_connected() && self.give_up(&reason) {
            self.peer.node().finish_departure(&self.peer, reason);
        }
        if self.peer.is_in_channels() {
            // Another connection goes on with what this one has left.
            self.peer.wake();
        }
        if self.peer_left {
            self.peer.end_departure();
        }
    }
}
