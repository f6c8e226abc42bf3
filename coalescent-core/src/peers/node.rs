//! What the connections of one node have in common: who joins the roster, and who leaves it.

use super::broadcast::Runs;
use super::{Closed, Node, Roster};
use crate::config::Config;
use crate::connection::{LinkId, Stop};
use crate::event::{DisconnectReason, DropReason, Event};
use crate::mesh::{Mesh, WeakMesh, inbox};
use crate::meter::Meter;
use crate::peer::{Direction, Introduction, Peer, PeerId};
use crate::registrar::Hooks;
use crate::wire::NodeId;
use bytes::Bytes;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, MutexGuard, PoisonError};
use tokio::time::Instant;

/// How a connection stands to the roster once it has joined.
#[derive(Debug)]
pub(crate) enum Joined {
    /// Its peer is new, and connected from now on.
    New(Peer),
    /// Its peer was connected already; this connection takes over, and the other one ends.
    TakesOver(Peer),
    /// Its peer was connected already, and stays so by the other connection; this one stands by.
    StandsBy(Peer),
    /// Its peer was connected already, and stays so by the other connection; this one ends.
    Yields(Peer),
}

impl Node {
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn id(&self) -> NodeId {
        self.id
    }

    pub(crate) fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    pub(super) fn runs(&self) -> &Runs {
        &self.runs
    }

    pub(crate) fn inbox(&self) -> &inbox::Queue {
        &self.inbox
    }

    pub(crate) fn mesh(&self) -> Option<Mesh> {
        self.mesh.get().and_then(WeakMesh::upgrade)
    }

    pub(crate) fn set_mesh(&self, mesh: WeakMesh) {
        let _ = self.mesh.set(mesh);
    }

    pub(crate) fn next_link(&self) -> LinkId {
        LinkId(self.links.fetch_add(1, Relaxed))
    }

    pub(crate) fn next_nonce(&self) -> u64 {
        self.next_nonces(1)
    }

    /// The first of so many nonces that nobody else gets.
    pub(crate) fn next_nonces(&self, count: u64) -> u64 {
        self.nonce.fetch_add(count, Relaxed)
    }

    /// Whether anybody wants to be told of what this node is about to send.
    pub(crate) fn is_announced(&self) -> bool {
        !self.hooks.broadcast.is_empty()
    }

    /// Tells the hooks what this node is about to send: a broadcast with this nonce, or, without one,
    /// a frame on wires that have none.
    pub(crate) fn announce(&self, nonce: Option<u64>, payload: &Bytes) {
        for hook in &self.hooks.broadcast {
            hook(nonce, payload);
        }
    }

    pub(super) fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn list(&self) -> Arc<[Peer]> {
        self.roster().list()
    }

    /// The peers to relay to.
    pub(crate) fn targets(&self) -> Arc<[Peer]> {
        let mut roster = self.roster();
        match &roster.closed {
            Some(closed) => Arc::clone(&closed.targets),
            None => roster.list(),
        }
    }

    /// When a connection that ends now must have ended.
    pub(crate) fn deadline(&self) -> Instant {
        let deadline = Instant::now() + self.config.drain;
        match &self.roster().closed {
            Some(closed) => closed.deadline.min(deadline),
            None => deadline,
        }
    }

    /// Begins to leave: refuses connections from now on.
    pub(crate) fn close(&self) {
        let deadline = Instant::now() + self.config.drain;
        let mut roster = self.roster();
        if roster.closed.is_none() {
            let targets = roster.list();
            roster.closed = Some(Closed { targets, deadline });
        }
    }

    /// Counts frames of `peer` that were received and will not be relayed, as each of the others
    /// would have got them.
    pub(crate) fn lost(&self, peer: &Peer, frames: u64) {
        let targets = self.targets();
        for other in targets.iter().filter(|other| *other != peer) {
            other.dropped(DropReason::Disconnected, frames);
        }
    }

    /// Ends the read side and the event streams.
    pub(crate) fn end(&self) {
        // Peers know the node, which would keep itself alive.
        if let Some(closed) = &mut self.roster().closed {
            closed.targets = Arc::default();
        }
        self.inbox.end();
        self.finish_reports();
        self.events.end();
    }

    /// Takes a connection whose peer has introduced itself into the roster.
    ///
    /// Two nodes keep one connection between them. Of two that each dialled, the one dialled by the
    /// greater node id stays; both nodes know that, so neither has to ask. Of two that one node
    /// dialled, that node gives up the later one; the other lets it stand by until it does.
    ///
    /// # Errors
    ///
    /// Where the peer is refused, with the words to tell it.
    pub(crate) fn join(
        self: &Arc<Self>,
        intro: Introduction,
        link: &Arc<Stop>,
    ) -> Result<Joined, Refusal> {
        if intro.node_id == Some(self.id) {
            return Err(Refusal::Myself);
        }
        let mut roster = self.roster();
        if roster.closed.is_some() {
            return Err(Refusal::ShuttingDown);
        }
        let known = intro
            .node_id
            .and_then(|node_id| roster.by_node.get(&node_id).copied());
        if let Some(peer) = known.and_then(|serial| roster.peers.get(&serial)).cloned() {
            let key = match peer.id() {
                PeerId::Key(key) => Some(*key),
                _ => None,
            };
            let mut links = peer.links();
            if key != intro.key || links.usable.len() > 1 {
                return Err(Refusal::AlreadyConnected);
            }
            let old = peer.origin().direction;
            let new = intro.origin.direction;
            if old == new {
                if new == Direction::Outbound {
                    drop(links);
                    return Ok(Joined::Yields(peer));
                }
                links.usable.push(Arc::clone(link));
                drop(links);
                return Ok(Joined::StandsBy(peer));
            }
            let i_am_greater = intro.node_id.is_some_and(|node_id| self.id > node_id);
            if i_am_greater != (new == Direction::Outbound) {
                drop(links);
                return Ok(Joined::Yields(peer));
            }
            let loser = std::mem::replace(&mut links.usable, vec![Arc::clone(link)]);
            drop(links);
            peer.set_origin(intro.origin);
            self.meter.turned(old, new);
            peer.outbox().activate(link.id().0);
            for link in loser {
                link.retire();
            }
            return Ok(Joined::TakesOver(peer));
        }
        let node_id = intro.node_id;
        let peer = Peer::new(Arc::clone(self), intro, link);
        roster.peers.insert(peer.serial(), peer.clone());
        if let Some(node_id) = node_id {
            roster.by_node.insert(node_id, peer.serial());
        }
        roster.list = None;
        self.meter.connected(peer.direction());
        drop(roster);
        self.emit(Event::PeerConnected { peer: peer.clone() });
        Ok(Joined::New(peer))
    }

    /// Takes a connection out again. The peer leaves with its last connection that could carry what
    /// is written to it; otherwise the next one takes over.
    ///
    /// Returns whether the peer has left.
    pub(crate) fn part(&self, peer: &Peer, link: LinkId, reason: &DisconnectReason) -> bool {
        let mut roster = self.roster();
        let mut links = peer.links();
        let Some(at) = links.usable.iter().position(|usable| usable.id() == link) else {
            return false;
        };
        links.usable.remove(at);
        if let Some(next) = links.usable.first() {
            if at == 0 {
                peer.outbox().activate(next.id().0);
            }
            return false;
        }
        drop(links);
        // By the connection, not by its address or id: a peer that came back meanwhile is another.
        roster.peers.remove(&peer.serial());
        roster.leaving.insert(peer.serial(), peer.clone());
        if let Some(node_id) = peer.node_id() {
            roster.by_node.remove(&node_id);
        }
        roster.list = None;
        self.meter.disconnected(peer.direction(), reason);
        drop(roster);
        peer.outbox().close();
        self.is_leaving(peer, reason);
        true
    }

    /// Counts frames for a peer that has left, and whose counters were taken over.
    pub(crate) fn dropped_late(&self, frames: u64) {
        self.roster().departed.dropped += frames;
    }

    /// Tells the world that `peer` has left, once nothing more is written to it.
    pub(crate) fn departed(&self, peer: &Peer, reason: DisconnectReason) {
        peer.leave(&reason);
        peer.tell_meter();
        let mut roster = self.roster();
        roster.leaving.remove(&peer.serial());
        roster.departed += peer.depart();
        drop(roster);
        self.emit(Event::PeerDisconnected {
            peer: peer.clone(),
            reason,
        });
    }
}

impl Roster {
    /// The peers as a list, made anew where somebody has come or gone.
    fn list(&mut self) -> Arc<[Peer]> {
        let peers = &self.peers;
        let list = self
            .list
            .get_or_insert_with(|| peers.values().cloned().collect());
        Arc::clone(list)
    }
}

/// Why a connection does not become a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Myself,
    AlreadyConnected,
    ShuttingDown,
    Full,
}

impl Refusal {
    /// What the other side is told.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Myself => "connected to itself",
            Self::AlreadyConnected => "already connected",
            Self::ShuttingDown => "shutting down",
            Self::Full => "no place left",
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
