//! How a connection becomes a peer, or a contact, of the roster.

use std::sync::Arc;

use tokio::time::Instant;

use crate::node::event::Event;
use crate::node::peer::handle::ConnectionHandle;
use crate::node::peer::{Introduction, Peer};
use crate::node::roster::{Refusal, roster_id};
use crate::node::standing::StandBy;
use crate::node::{Node, Roster};

impl Node {
    /// Lets a connection whose peer has introduced itself stand by, if that peer is already
    /// connected, or claims to be one that is.
    ///
    /// # Errors
    ///
    /// If the peer is refused.
    pub(crate) fn look_up(
        self: &Arc<Self>,
        intro: &Introduction,
        link: &Arc<ConnectionHandle>,
    ) -> Result<Option<StandBy>, Refusal> {
        self.check_not_myself(intro)?;
        self.stand_by(intro, link, Instant::now())
    }

    /// Adds a connection whose peer has introduced itself to the roster. Returns `None` if the peer
    /// is already connected.
    ///
    /// # Errors
    ///
    /// If the peer is refused.
    pub(crate) fn join(
        self: &Arc<Self>,
        intro: &Introduction,
        link: &Arc<ConnectionHandle>,
    ) -> Result<Option<Peer>, Refusal> {
        self.check_not_myself(intro)?;
        let mut roster = self.roster();
        if roster.closed.is_some() {
            return Err(Refusal::ShuttingDown);
        }
        if roster.known(intro).is_some() {
            return Ok(None);
        }
        let peer = Peer::new(Arc::clone(self), intro.clone(), link);
        roster.add(&peer, intro);
        if peer.is_contact() {
            drop(roster);
            self.met_contact(&peer);
            return Ok(Some(peer));
        }
        self.meter.connected(peer.direction());
        drop(roster);
        self.emit(Event::PeerConnected { peer: peer.clone() });
        Ok(Some(peer))
    }

    /// Checks whether a connection that has introduced itself leads to this node, or claims to.
    ///
    /// Keys are proven, so they alone decide if both sides have one.
    fn check_not_myself(&self, intro: &Introduction) -> Result<(), Refusal> {
        let same_number = intro.node_id == Some(self.id);
        match (self.key.get(), &intro.key) {
            (Some(mine), Some(key)) if mine == key => Err(Refusal::Myself),
            (Some(_), Some(_)) if same_number => Err(Refusal::Impostor),
            _ if same_number => Err(Refusal::Myself),
            _ => Ok(()),
        }
    }
}

impl Roster {
    fn add(&mut self, peer: &Peer, intro: &Introduction) {
        if peer.is_contact() {
            self.contacts.insert(peer.serial(), peer.clone());
        } else {
            self.peers.insert(peer.serial(), peer.clone());
            self.list = None;
        }
        if let Some(id) = roster_id(intro.key, intro.node_id) {
            self.by_id.insert(id, peer.serial());
        }
    }
}
