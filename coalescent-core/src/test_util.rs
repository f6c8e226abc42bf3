//! Frames and peers without a connection, for the tests of layers; with the feature `test-util`.
//!
//! A layer's service is called with a [`frame`], and what it answers is looked at; whether it asked
//! for the frame to be passed on, [`relayed`] tells. Tests of whole meshes run [`App`](crate::App)s
//! over [`transport::Memory`](crate::transport::Memory).
//!
//! ```
//! use coalescent_core::wire::Kind;
//! use coalescent_core::{Flow, Relay, test_util};
//!
//! let frame = test_util::frame(Kind::Broadcast { nonce: 1 }, "beep");
//! assert!(test_util::relayed(&frame).is_none());
//!
//! frame.relay(Relay { flow: Flow::Wait, direct: false });
//! let relayed = test_util::relayed(&frame).unwrap();
//! assert_eq!(relayed.flow, Flow::Wait);
//! assert_eq!(relayed.payload, "beep");
//! ```

use crate::config::Config;
use crate::connection::{Link, Stop, Ticket};
use crate::frame::{Flow, Frame};
use crate::peer::{Direction, Introduction, Origin, Peer};
use crate::peers::Peers;
use crate::wire::Kind;
use bytes::Bytes;
use std::sync::Arc;

/// What a layer asked the connection to pass on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relayed {
    /// What is done about peers that have no room.
    pub flow: Flow,
    /// The payload that the other peers would get.
    pub payload: Bytes,
}

/// Makes a peer of `peers` that is not in the roster: what is queued for it stays queued, and
/// broadcasts pass it by.
///
/// Its wire is the one in the [`Config`] of `peers`.
#[must_use]
pub fn peer(peers: &Peers) -> Peer {
    let node = peers.node();
    let intro = Introduction {
        key: None,
        node_id: None,
        agent: None,
        listen: None,
        wire: node.config().wire.clone(),
        origin: Origin {
            addr: None,
            direction: Direction::Inbound,
        },
    };
    let link = Arc::new(Stop::new(node.next_link()));
    Peer::new(Arc::clone(node), intro, &link)
}

/// Makes a frame that a peer of a node of its own sent, with the default options.
#[must_use]
pub fn frame(kind: Kind, payload: impl Into<Bytes>) -> Frame {
    frame_from(&peer(&Peers::new(Config::default())), kind, payload)
}

/// Makes a frame that `peer` sent, with the ttl in the [`Config`] of its node.
#[must_use]
pub fn frame_from(peer: &Peer, kind: Kind, payload: impl Into<Bytes>) -> Frame {
    // The place a frame is marked in starts out open for the frame of number 0.
    let ticket = Ticket {
        slot: 0,
        seq: 0,
        block: 0,
        pins: 0,
    };
    let ttl = peer.node().config().ttl;
    let link = Arc::new(Link::new(peer.clone(), 1));
    Frame::new(link, kind, ttl, payload.into(), ticket)
}

/// Tells what a layer asked for with [`Frame::relay`], for this frame or a clone of it.
///
/// Meant to be asked once: of a payload that a layer rewrote, only the first answer has the new bytes.
#[must_use]
pub fn relayed(frame: &Frame) -> Option<Relayed> {
    let (flow, rewritten) = frame.mark()?;
    let payload = rewritten.unwrap_or_else(|| frame.payload().clone());
    Some(Relayed { flow, payload })
}
