//! The roster: the peers that are connected or leaving, and the newcomers that stand by for them.

use std::sync::{Arc, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::node::peer::{Introduction, Peer, PeerId};
use crate::node::standing::place::Place;
use crate::node::{Closed, Node, Roster};
use crate::reason::DropReason;
use crate::transport::identity::PublicKey;
use crate::wire::NodeId;

/// Why a connection does not become a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It leads to this node.
    Myself,
    /// It has a key of its own, and the node id of this node.
    Impostor,
    /// The peer is connected, and its connection answers.
    AlreadyConnected,
    /// The node shuts down.
    ShuttingDown,
    /// There is no place left.
    Full,
}

impl Refusal {
    /// Returns the words that the other side is told.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Myself => "connected to itself",
            Self::Impostor => "this node has that number",
            Self::AlreadyConnected => "already connected",
            Self::ShuttingDown => "shutting down",
            Self::Full => "no place left",
        }
    }
}

impl Roster {
    /// Returns the connected peers as a list.
    pub(super) fn list(&mut self) -> Arc<[Peer]> {
        let peers = &self.peers;
        let list = self
            .list
            .get_or_insert_with(|| peers.values().cloned().collect());
        Arc::clone(list)
    }

    /// Returns the connected peer or contact that a newcomer claims to be: by its key, or by its
    /// node id if it has no key. On wires without an introduction each connection is a peer.
    pub(super) fn known(&self, intro: &Introduction) -> Option<Peer> {
        let serial = self.by_id.get(&roster_id(intro.key, intro.node_id)?)?;
        self.get(*serial)
    }

    /// Returns the connected peer or contact of this number.
    pub(super) fn get(&self, serial: u64) -> Option<Peer> {
        let peer = self.peers.get(&serial);
        peer.or_else(|| self.contacts.get(&serial)).cloned()
    }

    pub(super) fn add_place(&mut self, place: &Arc<Place>) {
        self.standing.push(Arc::clone(place));
    }

    pub(super) fn remove_place(&mut self, place: &Arc<Place>) {
        self.standing.retain(|other| !Arc::ptr_eq(other, place));
    }

    /// Returns the newcomers that stand by for `peer`.
    pub(super) fn standing_for(&self, peer: &Peer) -> Vec<Arc<Place>> {
        let of_peer = |place: &&Arc<Place>| place.serial() == peer.serial();
        self.standing.iter().filter(of_peer).cloned().collect()
    }
}

/// Returns the id that a peer has in the roster, if it has introduced itself.
pub(super) fn roster_id(key: Option<PublicKey>, node_id: Option<NodeId>) -> Option<PeerId> {
    let node_id = node_id?;
    Some(key.map_or(PeerId::Node(node_id), PeerId::Key))
}

impl Node {
    pub(super) fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the connected peers.
    pub(crate) fn list(&self) -> Arc<[Peer]> {
        self.roster().list()
    }

    /// Returns the peers to relay to: the connected ones, and during a shutdown those that were
    /// connected when it began.
    pub(crate) fn targets(&self) -> Arc<[Peer]> {
        let mut roster = self.roster();
        match &roster.closed {
            Some(closed) => Arc::clone(&closed.targets),
            None => roster.list(),
        }
    }

    /// Returns the deadline for a connection that begins to end now.
    pub(crate) fn deadline(&self) -> Instant {
        let deadline = Instant::now() + self.config.drain;
        match &self.roster().closed {
            Some(closed) => closed.deadline.min(deadline),
            None => deadline,
        }
    }

    /// Begins the shutdown: refuses connections from now on.
    pub(crate) fn close(&self) {
        let deadline = Instant::now() + self.config.drain;
        let mut roster = self.roster();
        if roster.closed.is_none() {
            let targets = roster.list();
            roster.closed = Some(Closed { targets, deadline });
        }
    }

    /// Ends the node: drops its targets, reports what is left to report, and ends the event
    /// streams.
    pub(crate) fn end(&self) {
        // Peers own the node, which would keep itself alive.
        if let Some(closed) = &mut self.roster().closed {
            closed.targets = Arc::default();
        }
        self.finish_reports();
        self.events.end();
    }

    /// Counts frames of `peer` that were received and will not be relayed as dropped for each of
    /// the other peers.
    pub(crate) fn lost(&self, peer: &Peer, frames: u64) {
        if frames == 0 {
            return;
        }
        let targets = self.targets();
        for other in targets.iter().filter(|other| *other != peer) {
            other.dropped(DropReason::Disconnected, frames);
        }
    }
}
