//! Contacts: connections on which only channels are shared, until one of the two nodes makes a peer
//! of the other.
//!
//! A contact is in the roster like a peer, by its id and as the one that newcomers may claim to be,
//! but apart from those that are listed and broadcast to. Whichever node promotes the other sends
//! frames for its stack from then on; with the first of them, the other node promotes too. So what
//! is sent right behind a promotion is not lost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::error::Error;
use crate::node::Node;
use crate::node::event::Event;
use crate::node::hooks::{BoxFuture, ContactHook};
use crate::node::peer::handle::ConnectionHandle;
use crate::node::peer::seat::Role;
use crate::node::peer::{Peer, PeerId};
use crate::reason::{DisconnectReason, Goodbye};
use crate::transport::Direction;
use crate::transport::identity::PublicKey;
use crate::wire::NodeId;

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
    /// Returns whether this is only a contact: its plugins and those of this node talk on
    /// [channels](crate::Registrar::channel), and nothing else passes between them. It is not among
    /// the [peers](crate::Mesh::peers), no event tells of it, and no broadcast goes to it.
    ///
    /// See [`Registrar::contacts`](crate::Registrar::contacts) for how connections begin as
    /// contacts, and [`promote`](Peer::promote) for how they become peers. A contact that has ended
    /// stays one.
    #[must_use]
    pub fn is_contact(&self) -> bool {
        self.stage().role() == Role::Contact
    }

    /// Makes a peer of a [contact](Peer::is_contact): it is among the
    /// [peers](crate::Mesh::peers), [`Event::PeerConnected`](crate::Event::PeerConnected) and the
    /// [connect hooks](crate::Registrar::on_connect) tell of it, and it gets what is broadcast and
    /// relayed from now on. Does nothing to a peer.
    ///
    /// What was sent to it on channels before is written before any broadcast. The other node makes
    /// a peer of this one with the first frame for its stack, and broadcasts nothing to this node
    /// before that, unless it has promoted this one of its own.
    ///
    /// # Errors
    ///
    /// [`is_busy`](Error::is_busy) if [`Config::max_peers`](crate::Config::max_peers) outbound, or
    /// [`Config::max_inbound`](crate::Config::max_inbound) inbound peers are connected: it stays a
    /// contact. [`is_closed`](Error::is_closed) if it is gone, or this node shuts down.
    pub fn promote(&self) -> Result<(), Error> {
        match self.node().promote(self, None) {
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

    /// Makes a peer of a contact that has sent a frame for the stack, on its connection `by`: it
    /// has done the same before.
    ///
    /// # Errors
    ///
    /// The reason to end the connection, if this cannot be.
    pub(crate) fn promoted_by_frame(
        &self,
        by: &Arc<ConnectionHandle>,
    ) -> Result<(), DisconnectReason> {
        self.node()
            .promote(self, Some(by))
            .map_err(|not| match not {
                NotPromoted::Full => DisconnectReason::Disconnected(Goodbye::BUSY.into()),
                NotPromoted::ShuttingDown => DisconnectReason::Shutdown,
                NotPromoted::Gone => DisconnectReason::Disconnected("it has left".to_owned()),
            })
    }
}

impl Node {
    /// Returns what a connection begins as whose other end lists these channels.
    pub(crate) fn role(&self, channels: &[String]) -> Role {
        let contacts = &self.hooks().contacts;
        if contacts.iter().any(|name| channels.contains(name)) {
            Role::Contact
        } else {
            Role::Peer
        }
    }

    /// Makes a peer of a contact. With a connection `by` that it has sent frames on, also of one
    /// that is leaving, so that what it has sent before is still handled as that of a peer.
    fn promote(&self, peer: &Peer, by: Option<&Arc<ConnectionHandle>>) -> Result<(), NotPromoted> {
        let mut roster = self.roster();
        if !peer.is_contact() {
            return if peer.is_connected() || by.is_some() {
                Ok(())
            } else {
                Err(NotPromoted::Gone)
            };
        }
        if roster.closed.is_some() {
            return Err(NotPromoted::ShuttingDown);
        }
        let here = roster.contacts.contains_key(&peer.serial());
        let leaves = roster.leaving.contains_key(&peer.serial());
        let mut links = peer.links().usable.clone();
        match by {
            _ if here => {}
            // Its connection is counted until it has ended, though it is usable no more.
            Some(by) if leaves => links = vec![Arc::clone(by)],
            _ => return Err(NotPromoted::Gone),
        }
        let mut links = links.iter();
        if let Some(link) = links.next() {
            let taken = link.take_seat(Role::Peer);
            taken.map_err(|_| NotPromoted::Full)?;
        }
        for link in links {
            // One is enough to be a peer, and none may stay counted as that of a contact.
            if link.take_seat(Role::Peer).is_err() {
                link.reject(DisconnectReason::Disconnected(Goodbye::BUSY.into()));
            }
        }
        peer.stage().join();
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

    fn call_contact_hooks(&self, hooks: &[ContactHook], peer: &Peer) {
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

    /// Returns whether the node is connected that says that this is its number, and has proven this
    /// key if it has one.
    pub(crate) fn knows(&self, key: Option<PublicKey>, node_id: NodeId) -> bool {
        let id = key.map_or(PeerId::Node(node_id), PeerId::Key);
        self.roster().by_id.contains_key(&id)
    }

    /// Finds the peer or contact that has proven this key.
    pub(crate) fn find_key(&self, key: &PublicKey) -> Option<Peer> {
        let roster = self.roster();
        let serial = roster.by_id.get(&PeerId::Key(*key))?;
        roster.get(*serial)
    }
}

impl Peer {
    /// Begins the stay of a peer, the first time that this is called. Returns the connect hooks
    /// then, if there are any: no frame is to be handled before they are done.
    pub(crate) fn begin(&self) -> Option<BoxFuture> {
        if !self.stage().begin() || self.node().hooks().connect.is_empty() {
            return None;
        }
        let node = Arc::clone(self.node());
        let peer = self.clone();
        Some(Box::pin(async move {
            for hook in &node.hooks().connect {
                hook(peer.clone()).await;
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::task::{Context, Poll, Waker};

    use http::Extensions;

    use super::*;
    use crate::config::Config;
    use crate::node::Peers;
    use crate::node::hooks::{Channel, Hooks};
    use crate::node::peer::handle::Command;
    use crate::node::peer::seat::{NoPlace, Seat};
    use crate::node::peer::{Endpoint, Introduction};

    /// Counts a connection, and has a place for a peer or not.
    #[derive(Debug)]
    struct Counted(bool, Mutex<Option<Role>>);

    impl Seat for Counted {
        fn has_place(&self, _: Role) -> bool {
            true
        }

        fn take(&self, role: Role, _: &Arc<ConnectionHandle>) -> Result<(), NoPlace> {
            if role == Role::Peer && !self.0 {
                return Err(NoPlace);
            }
            *self.1.lock().expect("no panic") = Some(role);
            Ok(())
        }

        fn take_over(&self, role: Role, link: &Arc<ConnectionHandle>) -> Result<(), NoPlace> {
            self.take(role, link)
        }
    }

    fn link(node: &Node, seat: &Arc<Counted>) -> Arc<ConnectionHandle> {
        let seat: Arc<dyn Seat> = Arc::clone(seat) as _;
        let id = node.next_link();
        Arc::new(ConnectionHandle::new(id, Direction::Inbound, Some(seat)))
    }

    fn told(link: &ConnectionHandle) -> Poll<Command> {
        link.poll_given(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn of_two_connections_the_one_without_a_place_ends() {
        for (first, second) in [(true, false), (false, true), (true, true)] {
            let (config, values) = (Config::default(), Extensions::new());
            let hooks = Hooks {
                channels: vec![Channel::new("c".to_owned(), |_, _| async {})],
                contacts: vec!["c".to_owned()],
                ..Hooks::default()
            };
            let peers = Peers::with_hooks(config, hooks, values, false);
            let node = peers.node();
            let seats = [first, second].map(|place| Arc::new(Counted(place, Mutex::default())));
            let links = [link(node, &seats[0]), link(node, &seats[1])];
            let intro = Introduction {
                key: None,
                node_id: Some(NodeId::random()),
                agent: None,
                listen: None,
                seen: None,
                channels: vec!["c".to_owned()],
                max_payload: None,
                wire: peers.config().wire.clone(),
                origin: Endpoint {
                    place: None,
                    addr: None,
                    direction: Direction::Inbound,
                },
            };
            let peer = node.join(&intro, &links[0]).expect("no refusal");
            let peer = peer.expect("a contact");
            peer.links().usable.push(Arc::clone(&links[1]));
            assert_eq!(peer.promote().is_ok(), first);
            let counted = seats.map(|seat| *seat.1.lock().expect("no panic"));
            let expected = [first, first && second].map(|is_peer| is_peer.then_some(Role::Peer));
            assert_eq!(counted, expected);
            assert!(told(&links[0]).is_pending());
            let rejected = matches!(told(&links[1]), Poll::Ready(Command::Reject(_)));
            assert_eq!(rejected, first && !second);
        }
    }
}
