//! Tools for testing layers and whole meshes; requires the feature `test-util`.
//!
//! - To test one layer by calling it: [`frame`], [`peer`] and [`relayed`].
//! - To check that a layer is a well-behaved tower service: [`conformance`].
//! - To measure the cost of a stack per frame: [`Driver`].
//! - To test a stack from the outside and the inside: [`Recorder`].
//! - To test many nodes: [`MemoryMesh`] and [`topology`].
//! - To test what peers without addresses mean to an application: [`KeyNetwork`].
//! - To check that an error type follows the convention of this project: [`check_levels`].
//! - To check that a transport of your own is one that connections can rely on: [`transport`].
//!
//! # One layer
//!
//! Call the layer's service with a [`frame`], and inspect its answer. [`relayed`] returns whether
//! the layer asked for the frame to be relayed.
//!
//! ```
//! use coalescent::wire::Kind;
//! use coalescent::{Flow, Relay, test_util};
//!
//! let frame = test_util::frame(Kind::Broadcast { nonce: 1 }, "beep");
//! assert!(test_util::relayed(&frame).is_none());
//!
//! frame.relay(Relay::new(Flow::Wait));
//! let relayed = test_util::relayed(&frame).unwrap();
//! assert_eq!(relayed.flow, Flow::Wait);
//! assert_eq!(relayed.payload, "beep");
//! ```
//!
//! # A middleware in a mesh
//!
//! A middleware can be tested in a few lines: check that it is a well-behaved service, and run it
//! in a mesh on paused time.
//!
//! ```
//! use coalescent::test_util::{MemoryMesh, Recorder, conformance};
//! use coalescent::{Flow, Frame, Relay};
//! use tower::{ServiceBuilder, util::MapRequestLayer};
//!
//! /// Relays what it hears, louder.
//! fn shout() -> MapRequestLayer<impl Fn(Frame) -> Frame + Clone> {
//!     MapRequestLayer::new(|mut frame: Frame| {
//!         let louder = frame.payload().to_ascii_uppercase();
//!         frame.set_payload(louder);
//!         frame.relay(Relay::new(Flow::Wait));
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
//! let _ = nodes[0].broadcast_payload("hello").await.unwrap();
//!
//! assert_eq!(far.expect_frame().await.payload(), b"HELLO");
//! assert_eq!(nodes[1].stats().relayed, 1);
//! # }
//! ```

pub mod conformance;
mod driver;
mod keys;
mod mesh;
#[cfg(test)]
mod mesh_tests;
mod recorder;
pub mod topology;
pub mod transport;
mod wait;

use std::sync::Arc;

use bytes::Bytes;
pub use driver::Driver;
pub use keys::{KeyNetwork, KeyNode};
pub use mesh::{MemoryMesh, Nodes};
pub use recorder::Recorder;
use tokio::time::Instant;
pub use wait::DEADLINE;

use crate::config::Config;
pub use crate::error::check_levels;
use crate::frame::in_flight::{InFlight, ReadBatch};
use crate::frame::{Flow, Frame};
use crate::node::Peers;
use crate::node::peer::handle::ConnectionHandle;
use crate::node::peer::{Endpoint, Introduction, Peer};
use crate::transport::Direction;
use crate::wire::{Head, Kind};

/// What a layer asked the connection to relay.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Relayed {
    /// What to do about peers whose outboxes are full.
    pub flow: Flow,
    /// The payload that the other peers would receive.
    pub payload: Bytes,
}

/// Creates a peer of `peers` that is not in the roster: data queued for it stays queued, and
/// broadcasts skip it.
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
        seen: None,
        channels: Vec::new(),
        max_payload: None,
        wire: node.config().wire.clone(),
        origin: Endpoint {
            place: None,
            addr: None,
            direction: Direction::Inbound,
        },
    };
    let link = Arc::new(ConnectionHandle::new(
        node.next_link(),
        Direction::Inbound,
        None,
    ));
    Peer::new(Arc::clone(node), intro, &link)
}

/// Creates a frame from a peer of a new node with the default options.
#[must_use]
pub fn frame(kind: Kind, payload: impl Into<Bytes>) -> Frame {
    frame_from(&peer(&Peers::new(Config::default())), kind, payload)
}

/// Creates a frame from `peer`, with the ttl of the [`Config`] of its node.
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
    // Place 0 of a new connection is open for the frame with number 0.
    Frame::new(arrival, &head, payload, 0, 0)
}

/// Returns what a layer asked for with [`Frame::relay`], for this frame or a clone of it.
///
/// Call it once per frame: if a layer rewrote the payload, only the first call returns the new
/// bytes.
#[must_use]
pub fn relayed(frame: &Frame) -> Option<Relayed> {
    let (flow, rewritten) = frame.decision()?;
    let payload = rewritten.unwrap_or_else(|| frame.payload_bytes());
    Some(Relayed { flow, payload })
}
