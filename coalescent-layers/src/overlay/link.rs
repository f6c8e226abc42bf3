//! The connections to nodes that know the channel, contacts and peers.

use std::time::Duration;

use coalescent_core::{Address, Peer};
use tokio::time::Instant;

use super::bucket::Bucket;
use crate::discovery::listening;
use crate::discovery::place::Place;

/// How many messages of one node, other than payloads, are heeded at once, and how often one more.
pub const MESSAGES_AT_ONCE: u32 = 64;

/// How often one more is heeded.
pub const MESSAGE_EVERY: Duration = Duration::from_millis(100);

/// How many messages of one node about payloads of trees are heeded at once, other than payloads. A
/// burst brings one for each payload until the tree has formed.
pub const GOSSIP_AT_ONCE: u32 = 16 * 1024;

/// How often one more is heeded.
pub const GOSSIP_EVERY: Duration = Duration::from_millis(1);

/// How many messages of one node about payloads are passed over, since they are too many, or belong
/// to a topic in which it is no neighbour, until they count as faults: those on their way while a
/// neighbour is lost, or a topic left, are none.
pub const EXCESS_AT_ONCE: u32 = 16 * 1024;

/// How often one more is passed over.
pub const EXCESS_EVERY: Duration = Duration::from_millis(10);

/// How often one node may join at once, and how often once more: each time others are told of it.
pub const JOINS_AT_ONCE: u32 = 4;

/// How often it may join once more.
pub const JOIN_EVERY: Duration = Duration::from_secs(2);

/// A contact that nobody needs is let go after this time without a message.
pub const IDLE: Duration = Duration::from_secs(3);

/// It is let go after this time if this node has taken leave of it, unless it hangs up first.
pub const LEAVE: Duration = Duration::from_millis(500);

/// It is let go after this time if the other node has taken leave of this one.
pub const LEFT: Duration = Duration::from_millis(100);

/// A connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: Peer,
    /// When it is let go, if nobody needs it then.
    pub(crate) idle: Instant,
    /// Whether it is being closed.
    pub(crate) closing: bool,
    /// What the node may still say.
    pub(crate) messages: Bucket,
    /// What it may still say about payloads of trees.
    pub(crate) gossip: Bucket,
    /// How much it may still say that is not heeded.
    pub(crate) excess: Bucket,
    /// How often it may still join.
    pub(crate) joins: Bucket,
}

impl Link {
    pub(crate) fn new(peer: Peer, now: Instant) -> Self {
        Self {
            peer,
            idle: now + IDLE,
            closing: false,
            messages: Bucket::new(MESSAGES_AT_ONCE, MESSAGE_EVERY),
            gossip: Bucket::new(GOSSIP_AT_ONCE, GOSSIP_EVERY),
            excess: Bucket::new(EXCESS_AT_ONCE, EXCESS_EVERY),
            joins: Bucket::new(JOINS_AT_ONCE, JOIN_EVERY),
        }
    }

    /// Returns where the node is.
    pub(crate) fn place(&self) -> Place {
        Place::of_peer(self.peer.addr().map(|addr| addr.ip()))
    }

    /// Returns where it says that it listens.
    pub(crate) fn listen(&self) -> Option<Address> {
        listening::said_by(&self.peer)
    }
}
