//! What the connections of one node have in common: who joins the roster, and who leaves it.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::broadcast::RunBuffers;
use super::hooks::Hooks;
use super::patience::{Culprit, Penance, Remembered};
use super::standing::{StandBy, roster_id};
use super::{Closed, Node, Roster};
use crate::config::Config;
use crate::node::event::Event;
use crate::node::peer::handle::{ConnectionHandle, LinkId};
use crate::node::peer::{Introduction, Peer};
use crate::reason::{DisconnectReason, DropReason};
use crate::stats::meter::Meter;
use crate::wire::NodeId;

/// How a connection stands to a peer that was connected by another one before.
#[derive(Debug)]
pub(crate) enum Joined {
    /// This connection takes over, and the other one ends.
    TakesOver(Peer),
    /// The peer stays connected by the other one; this one goes on when that ends.
    Beside(Peer),
    /// The peer stays connected by the other one; this one ends.
    Yields(Peer),
}

impl Node {
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn id(&self) -> NodeId {
        self.id
    }

    /// Says what key this node proves to have.
    #[cfg(feature = "tls")]
    pub(crate) fn set_key(&self, key: [u8; 32]) {
        let _ = self.key.set(key);
    }

    pub(crate) fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    pub(super) fn run_buffers(&self) -> &RunBuffers {
        &self.run_buffers
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

    /// Gives back those that were not used, from `first` up to `end`, if nobody has taken others
    /// since: what a node says one after another has numbers without gaps, which relays remember
    /// with less.
    pub(crate) fn return_nonces(&self, first: u64, end: u64) {
        let _ = self.nonce.compare_exchange(end, first, Relaxed, Relaxed);
    }

    /// Whether anybody wants to be told of what this node is about to send.
    pub(crate) fn is_announced(&self) -> bool {
        !self.hooks.broadcast.is_empty()
    }

    /// Tells the hooks what this node is about to send: a broadcast with this nonce, or, without
    /// one, a frame on wires that have none.
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

    fn slow(&self) -> MutexGuard<'_, Remembered> {
        self.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is held against a peer that comes now, since it was too slow before.
    pub(crate) fn penance(&self, culprit: Option<Culprit>) -> Option<Penance> {
        self.slow()
            .penance(culprit?, self.config.patience, Instant::now())
    }

    /// Notes how much of its patience a peer has used up that leaves by itself.
    pub(crate) fn spent(&self, peer: &Peer, spent: Duration) {
        if let (false, Some(culprit)) = (spent.is_zero(), peer.culprit()) {
            self.slow()
                .spent(culprit, spent, self.config.patience, Instant::now());
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
        if frames == 0 {
            return;
        }
        let targets = self.targets();
        for other in targets.iter().filter(|other| *other != peer) {
            other.dropped(DropReason::Disconnected, frames);
        }
    }

    /// Ends the event streams.
    pub(crate) fn end(&self) {
        // Peers know the node, which would keep itself alive.
        if let Some(closed) = &mut self.roster().closed {
            closed.targets = Arc::default();
        }
        self.finish_reports();
        self.events.end();
    }

    /// Whether a connection that has introduced itself leads to this node, or says so.
    ///
    /// Keys are proven, so they alone say where both sides have one.
    fn is_myself(&self, intro: &Introduction) -> Result<(), Refusal> {
        let same_number = intro.node_id == Some(self.id);
        match (self.key.get(), &intro.key) {
            (Some(mine), Some(key)) if mine == key => Err(Refusal::Myself),
            (Some(_), Some(_)) if same_number => Err(Refusal::Impostor),
            _ if same_number => Err(Refusal::Myself),
            _ => Ok(()),
        }
    }

    /// Has a connection whose peer has introduced itself stand by, if that peer is connected
    /// already, or says that it is one who is.
    ///
    /// # Errors
    ///
    /// Where the peer is refused, with the words to tell it.
    pub(crate) fn look_up(
        self: &Arc<Self>,
        intro: &Introduction,
        link: &Arc<ConnectionHandle>,
    ) -> Result<Option<StandBy>, Refusal> {
        self.is_myself(intro)?;
        self.stand_by(intro, link, Instant::now())
    }

    /// Takes a connection whose peer has introduced itself into the roster. `None` where the peer
    /// is connected already.
    ///
    /// # Errors
    ///
    /// Where the peer is refused, with the words to tell it.
    pub(crate) fn join(
        self: &Arc<Self>,
        intro: &Introduction,
        link: &Arc<ConnectionHandle>,
    ) -> Result<Option<Peer>, Refusal> {
        self.is_myself(intro)?;
        let mut roster = self.roster();
        if roster.closed.is_some() {
            return Err(Refusal::ShuttingDown);
        }
        if roster.known(intro).is_some() {
            return Ok(None);
        }
        let peer = Peer::new(Arc::clone(self), intro.clone(), link);
        roster.peers.insert(peer.serial(), peer.clone());
        if let Some(id) = roster_id(intro.key, intro.node_id) {
            roster.by_id.insert(id, peer.serial());
        }
        roster.list = None;
        self.meter.connected(peer.direction());
        drop(roster);
        self.emit(Event::PeerConnected { peer: peer.clone() });
        Ok(Some(peer))
    }

    /// Takes a connection out again. The peer leaves with its last connection that could carry what
    /// is written to it; otherwise the next one takes over.
    ///
    /// Returns whether the peer has left.
    pub(crate) fn part(&self, peer: &Peer, link: LinkId, reason: &DisconnectReason) -> bool {
        if let (DisconnectReason::Slow, Some(culprit)) = (reason, peer.culprit()) {
            self.slow()
                .slow(culprit, self.config.patience, Instant::now());
        }
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
        let theirs = matches!(
            reason,
            DisconnectReason::Closed | DisconnectReason::Bye(_) | DisconnectReason::Io(_)
        );
        if theirs && self.inherit(&mut roster, peer) {
            return false;
        }
        // By the connection, not by its address or id: a peer that came back meanwhile is another.
        roster.peers.remove(&peer.serial());
        roster.leaving.insert(peer.serial(), peer.clone());
        if peer.node_id().is_some() && roster.by_id.get(peer.id()) == Some(&peer.serial()) {
            roster.by_id.remove(peer.id());
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
        self.free(peer);
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
    /// It has a key of its own, and the number of this node.
    Impostor,
    AlreadyConnected,
    ShuttingDown,
    Full,
}

impl Refusal {
    /// What the other side is told.
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

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
