//! Inbound connections of a node that has contacts, while places are scarce.
//!
//! Whether there is a place depends on what the other end turns out to be, which its HELLO says. So
//! that it can be refused before it takes this node for connected, its HELLO is then read before
//! this node sends its own.

use crate::node::Node;
use crate::node::peer::seat::{Role, Seat};
use crate::transport::Direction;
use crate::transport::identity::PublicKey;
use crate::wire::Hello;

/// A connection for which there may be no place.
pub(super) struct Scarce<'a> {
    node: &'a Node,
    seat: &'a dyn Seat,
    key: Option<PublicKey>,
}

impl<'a> Scarce<'a> {
    /// Returns `None` if there is a place for the connection whatever it turns out to be, or
    /// nothing counts it.
    pub(super) fn of(
        node: &'a Node,
        seat: Option<&'a dyn Seat>,
        direction: Direction,
        key: Option<PublicKey>,
    ) -> Option<Self> {
        if node.hooks().contacts.is_empty() || direction == Direction::Outbound {
            return None;
        }
        let seat = seat?;
        let places = [Role::Contact, Role::Peer].map(|role| seat.has_place(role));
        let scarce = places.contains(&false);
        scarce.then_some(Self { node, seat, key })
    }

    /// Returns whether there is a place for a connection whose other end says this. The place is
    /// not taken: it may be gone a moment later.
    pub(super) fn has_place(&self, hello: &Hello) -> bool {
        // Another connection to a node that is connected takes that one's place, or ends.
        self.seat.has_place(self.node.role(&hello.channels))
            || self.node.knows(self.key, hello.node)
    }
}
