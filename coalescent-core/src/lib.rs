//! The peer, the mesh and the way of a frame: the core of coalescent.
//!
//! Most people use this through the crate `coalescent`, which adds the layers and the router.
//! Depend on this one to write a middleware or a plugin of your own.
//!
//! # The way of a frame
//!
//! ```text
//! socket ─ wire ─ connection ─▶ stack: your layers ▶ Inbox ─▶ Mesh (read side)
//!                     ▲                 │ Frame::relay
//!                     └── outbox ◀──────┴── Reply
//! ```
//!
//! - A socket comes from a [`transport`], dialled or accepted.
//! - Its [`wire`] says where a frame ends and what kind it is.
//! - Its [`connection`] reads many frames at once, and calls the peer's stack with each [`Frame`].
//! - The stack is a tower `Service<Frame>`: the [`App`]'s layers around the [`Inbox`], built once
//!   for each connection; see [`stack`].
//! - The connection writes the stack's [`Reply`] to the peer, and hands what [`Frame::relay`] asked
//!   for to the others: into each one's [`outbox`].
//! - The [`Mesh`] reads what reached the inbox, and writes to all [`Peers`].

mod app;
pub mod config;
pub mod connection;
mod error;
mod frame;
mod limits;
mod mesh;
mod message;
mod node;
pub mod outbox;
mod reason;
mod signal;
pub mod stack;
mod stats;
#[cfg(feature = "test-util")]
pub mod test_util;
mod text;
pub mod transport;
pub mod wire;

pub use app::registrar::{Plugin, Registrar};
pub use app::{App, AppExt};
pub use config::Config;
pub use error::{BoxError, Error};
pub use frame::{Flow, Frame, Relay};
#[doc(no_inline)]
pub use http::Extensions;
pub use mesh::{FRAME_COST, FrameRef, Frames, Mesh, MeshReader, MeshWriter, WRITE_CHUNK, WeakMesh};
#[doc(inline)]
pub use message::codec;
pub use message::{Message, MessageType};
pub use node::changes::{PeerChange, PeerChanges};
#[doc(inline)]
pub use node::event;
pub use node::event::{DisconnectReason, DropReason, Event, Events};
pub use node::payload::Payload;
pub use node::peer::{Peer, PeerId};
pub use node::request::RequestFuture;
pub use node::{BATCH, PAYLOAD_COST, Peers, Sent};
pub use stack::reply::Reply;
pub use stack::{Inbox, PeerLayer, PeerService};
pub use stats::Stats;
pub use transport::Direction;
#[doc(inline)]
pub use transport::address;
pub use transport::address::{Address, AddressError};
#[cfg(feature = "tls")]
#[doc(inline)]
pub use transport::identity;
pub use wire::{NodeId, Wire};
