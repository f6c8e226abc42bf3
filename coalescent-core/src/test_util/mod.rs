//! What tests of layers and of whole meshes are made of; with the feature `test-util`.
//!
//! | to test | there is |
//! |---|---|
//! | one layer, called by hand | [`frame`], [`peer`], [`relayed`] |
//! | that a layer is a good tower service | [`conformance`] |
//! | what a stack costs a frame | [`Driver`] |
//! | a stack, from outside and inside | [`Recorder`] |
//! | many nodes | [`MemoryMesh`], [`topology`] |
//!
//! # One layer
//!
//! A layer's service is called with a [`frame`], and what it answers is looked at; whether it asked
//! for the frame to be passed on, [`relayed`] tells.
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
//!
//! # A middleware in a mesh
//!
//! A test of one's own middleware takes few lines: a check that it is a good service, and a mesh on
//! paused time in which it runs.
//!
//! ```
//! use coalescent_core::test_util::{MemoryMesh, Recorder, conformance};
//! use coalescent_core::{Flow, Frame, Relay};
//! use tower::{ServiceBuilder, util::MapRequestLayer};
//!
//! /// Passes on what it hears, louder.
//! fn shout() -> MapRequestLayer<impl Fn(Frame) -> Frame + Clone> {
//!     MapRequestLayer::new(|mut frame: Frame| {
//!         let louder = frame.payload().to_ascii_uppercase();
//!         frame.set_payload(louder);
//!         frame.relay(Relay { flow: Flow::Wait, direct: false });
//!         frame
//!     })
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! // #[tokio::test(start_paused = true)] async fn a_shout_is_heard_far_away() { …
//! conformance::check(shout()).await;
//!
//! let nodes = MemoryMesh::new(3).line().start(|_, app| app.layer(shout())).await;
//! let mut far = nodes.recorder(2);
//!
//! nodes[0].broadcast_payload("hello").await;
//!
//! assert_eq!(far.expect_frame().await.payload(), b"HELLO");
//! assert_eq!(nodes[1].stats().relayed, 1);
//! # }
//! ```

pub mod conformance;
mod driver;
mod mesh;
#[cfg(test)]
mod mesh_tests;
mod recorder;
pub mod topology;

use std::sync::Arc;

use bytes::Bytes;
pub use driver::Driver;
pub use mesh::{MemoryMesh, Nodes};
pub use recorder::{DEADLINE, Recorder};
use tokio::time::Instant;

use crate::config::Config;
use crate::frame::in_flight::{InFlight, ReadBatch};
use crate::frame::{Flow, Frame};
use crate::node::Peers;
use crate::node::peer::handle::ConnectionHandle;
use crate::node::peer::{Endpoint, Introduction, Peer};
use crate::transport::Direction;
use crate::wire::{Head, Kind};

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
        max_payload: None,
        wire: node.config().wire.clone(),
        origin: Endpoint {
            addr: None,
            direction: Direction::Inbound,
        },
    };
    let link = Arc::new(ConnectionHandle::new(node.next_link(), Direction::Inbound));
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
    let bytes = payload.into();
    let payload = 0..bytes.len();
    let arrival = Arc::new(ReadBatch {
        in_flight: Arc::new(InFlight::new(peer.clone(), 1)),
        buffer_len: bytes.len(),
        bytes,
        buffer: 0,
        at: Instant::now(),
    });
    let head = Head::new(kind, peer.node().config().ttl);
    // The place a frame is marked in starts out open for the frame of number 0.
    Frame::new(arrival, &head, payload, 0, 0)
}

/// Tells what a layer asked for with [`Frame::relay`], for this frame or a clone of it.
///
/// Meant to be asked once: of a payload that a layer rewrote, only the first answer has the new
/// bytes.
#[must_use]
pub fn relayed(frame: &Frame) -> Option<Relayed> {
    let (flow, rewritten) = frame.decision()?;
    let payload = rewritten.unwrap_or_else(|| frame.payload_bytes());
    Some(Relayed { flow, payload })
}
