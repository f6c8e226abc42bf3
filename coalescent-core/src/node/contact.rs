//! Contacts: connections on which only channels are shared, until one of the two nodes makes a peer
//! of the other.
//!
//! A contact is in the roster like a peer, by its id and as the one that newcomers may claim to be,
//! but apart from those that are listed and broadcast to. Whichever node promotes the other sends
//! frames for its stack from then on; with the first of them, the other node promotes too. So what
//! is sent right behind a promotion is not lost.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::Error;
use crate::node::Node;
use crate::node::event::Event;
use crate::node::peer::seat::Role;
use crate::node::peer::{Introduction, Peer, PeerId};
use crate::reason::{DisconnectReason, Goodbye};
use crate::transport::Direction;

/// Why a contact does not become a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NotPromoted {
    /// There is no place for one more peer.
    Full,
    /// The node shuts down.
    ShuttingDown,
    /// It has left, or is leaving.
    Gone,
}

impl Peer {
    /// Makes a peer of a [contact](Peer::is_contact): it is among the
    /// [peers](crate::Mesh::peers), [`Event::PeerConnected`](crate::Event::PeerConnected) and the
    /// [connect hooks](crate::Registrar::on_connect) tell of it, and it gets what is broadcast and
    /// relayed from now on. Does nothing to a peer.
    ///
    /// What was sent to it on channels before is written before any broadcast. The other node makes
    /// a peer of this one with the first frame for its stack; before that, it broadcasts nothing to
    /// this node, unless it does so of its own.
    ///
    /// # Errors
    ///
    /// [`is_busy`](Error::is_busy) if [`Config::max_peers`](crate::Config::max_peers) outbound, or
    /// [`Config::max_inbound`](crate::Config::max_inbound) inbound peers are connected: it stays a
    /// contact. [`is_closed`](Error::is_closed) if it is gone, or this node shuts down.
    pub fn promote(&self) -> Result<(), Error> {
        match self.node().promote(self, false) {
            Ok(()) => Ok(()),
            Err(NotPromoted::Full) => Err(Error::busy(match self.direction() {
                Direction::Outbound => {
                    "there is no place for another outbound peer: raise max_peers to take more"
                }
                Direction::Inbound => {
                    "there is no place for another inbound peer: raise max_inbound to take more"
                }
            })),
            Err(NotPromoted::ShuttingDown | NotPromoted::Gone) => Err(Error::closed()),
        }
    }

    /// Makes a peer of a contact that has sent a frame for the stack: it has done the same before.
    ///
    /// # Errors
    ///
    /// The reason to end the connection, if this cannot be.
    pub(crate) fn promoted_by_frame(&self) -> Result<(), DisconnectReason> {
        self.node().promote(self, true).map_err(|not| match not {
            NotPromoted::Full => DisconnectReason::Disconnected(Goodbye::BUSY.into()),
            NotPromoted::ShuttingDown => DisconnectReason::Shutdown,
            NotPromoted::Gone => DisconnectReason::Disconnected("it has left".to_owned()),
        })
    }
}

impl Node {
    /// Returns what a connection begins as whose other end has introduced itself like this.
    pub(crate) fn role(&self, intro: &Introduction) -> Role {
        let contacts = &self.hooks().contacts;
        if contacts.iter().any(|name| intro.channels.contains(name)) {
            Role::Contact
        } else {
            Role::Peer
        }
    }

    /// Makes a peer of a contact. With `late`, also of one that is leaving, so that what it has
    /// sent before is still handled as that of a peer.
    fn promote(&self, peer: &Peer, late: bool) -> Result<(), NotPromoted> {
        let mut roster = self.roster();
        if !peer.is_contact() {
            return if peer.is_connected() || late {
                Ok(())
            } else {
                Err(NotPromoted::Gone)
            };
        }
        if roster.closed.is_some() {
            return Err(NotPromoted::ShuttingDown);
        }
        let leaving = roster.leaving.contains_key(&peer.serial());
        if !roster.contacts.contains_key(&peer.serial()) && !(late && leaving) {
            return Err(NotPromoted::Gone);
        }
        let links = peer.links().usable.clone();
        for link in &links {
            let taken = link.take_seat(Role::Peer);
            taken.map_err(|_| NotPromoted::Full)?;
        }
        peer.set_joined();
        if roster.contacts.remove(&peer.serial()).is_some() {
            roster.peers.insert(peer.serial(), peer.clone());
            roster.list = None;
            self.meter().connected(peer.direction());
        }
        // What was sent on channels may be what the other node needs to make sense of the rest.
        peer.outbox().channels_first();
        // Under the lock: the event that the peer has left must not come before.
        self.emit(Event::PeerConnected { peer: peer.clone() });
        drop(roster);
        // Its connection runs the hooks.
        peer.wake();
        Ok(())
    }

    /// Tells the plugins that a contact is there.
    pub(super) fn met_contact(&self, peer: &Peer) {
        self.call_contact_hooks(&self.hooks().contact, peer);
    }

    /// Tells the plugins that a contact has ended without having become a peer.
    pub(super) fn lost_contact(&self, peer: &Peer) {
        self.call_contact_hooks(&self.hooks().contact_end, peer);
    }

    fn call_contact_hooks(&self, hooks: &[crate::node::hooks::ContactHook], peer: &Peer) {
        for hook in hooks {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| hook(peer))) {
                self.error(Some(peer), Error::hook(&*panic));
            }
        }
    }

    /// Returns the connected peers, and the contacts.
    pub(crate) fn everyone(&self) -> Vec<Peer> {
        let roster = self.roster();
        let all = roster.peers.values().chain(roster.contacts.values());
        all.cloned().collect()
    }

    /// Finds the peer or contact that has proven this key.
    pub(crate) fn find_key(&self, key: &[u8; 32]) -> Option<Peer> {
        let roster = self.roster();
        let serial = roster.by_id.get(&PeerId::Key(*key))?;
        roster.get(*serial)
    }
}

impl Peer {
    /// Returns whether frames for its stack may be sent: it is no contact.
    pub(in crate::node) fn check_promoted(&self) -> Result<(), Error> {
        if self.is_contact() {
            return Err(Error::unsupported(
                "this is a contact, with which only channels are shared: make a peer of it with \
                 `Peer::promote`",
            ));
        }
        Ok(())
    }
}

/// The contacts of a node, apart from its peers.
pub(super) type Contacts = std::collections::BTreeMap<u64, Peer>;
