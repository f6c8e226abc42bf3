//! Topics: parts of the traffic that only nodes get that have subscribed to them.
//!
//! [`MeshOverlayExt::topic`](crate::MeshOverlayExt::topic) gives a [`Topic`], which publishes and
//! reads. In each topic the overlay chooses neighbours of its own among the subscribers; two topics
//! may share a connection, and leaving one does not cut a peer that another needs.
//!
//! # Flood or tree
//!
//! | | flood (default) | [`tree`](crate::Overlay::tree) |
//! |---|---|---|
//! | a payload goes | to all neighbours in the topic | down a tree that forms by itself |
//! | copies of each | about as many as neighbours but one | hardly any once the tree is warm |
//! | when a node fails | nothing is missed | what was on its way is asked for after a second |
//! | for | small payloads, and when every millisecond counts | large payloads, and lines that cost
//! |
//!
//! All nodes must use the same for a topic: with both, payloads are missed.
//!
//! # The way of a payload
//!
//! ```text
//! neighbour ─▶ seen before? ─▶ the stack ─▶ verdict ─▶ the other neighbours
//!                                 │
//!                                 └─▶ handlers ─▶ Topic::recv
//! ```
//!
//! A payload passes the stack of the neighbour that has brought it as a frame sent to this node
//! alone, with the [`TopicName`](coalescent_core::TopicName) among its extensions: relays leave it
//! alone, the courier parses it, a router's [topics] handle it, and in the end it waits for
//! [`Topic::recv`]. A slow stack holds the connection back. The layer of the
//! [`Overlay`](crate::Overlay) passes it on: at once, or, if there is a
//! [`Validate`](crate::Validate) further in, when that accepts it. Who sends a payload that is
//! rejected pays for it, as do those who sent copies of it meanwhile.
//!
//! # When there is no room
//!
//! [`Topic::publish`] waits for room at the neighbours. What is passed on waits for
//! [`FORWARD_GRACE`] at most, and then is dropped for that neighbour alone, and counted
//! ([`TopicStats::dropped`], [`Stats::channel_dropped`](coalescent_core::Stats::channel_dropped)).
//! Payloads take at most three quarters of the room that channels have at a peer
//! ([`CHANNEL_BULK`](coalescent_core::outbox::CHANNEL_BULK)), so that the overlay's own messages
//! find some.
//!
//! # Memory
//!
//! Of each topic, the payloads of the last 30 to 60 s are remembered, at most twice
//! [`REMEMBERED`]: 12 MiB. The trees of a node keep payloads in [`TREE_BYTES`] to send them to
//! neighbours that ask, and remember what they have been given in 32 MiB more. What waits to be
//! read takes [`TOPIC_INBOX`] for each topic.
//!
//! [topics]: https://docs.rs/coalescent-router

mod answers;
mod forward;
mod handed;
mod handle;
mod names;
mod payload;
mod seen;
mod service;
mod state;
mod topics;
mod tree;

pub use self::answers::ANSWERS;
pub use self::forward::FORWARD_GRACE;
pub use self::handle::Topic;
pub(crate) use self::names::Names;
pub use self::names::{
    ANNOUNCERS, CLAIMED, CLAIMED_FOR, GIVEN, GIVEN_FOR, KEPT_COST, KEPT_FOR, TREE_BYTES,
};
pub use self::payload::{MAX_HOPS, TopicNonce};
pub use self::seen::{REMEMBERED, REMEMBERED_FOR};
pub use self::service::{OverlayService, ResponseFuture};
pub use self::state::{COPIES, OPEN, TOPIC_INBOX, TopicStats};
pub(crate) use self::topics::Topics;
