//! The peer, the mesh and the way of a frame: the core of coalescent.
//!
//! Most people use this through the crate `coalescent`, which adds the layers and the router. Depend
//! on this one to write a middleware or a plugin of your own.
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
//! - The stack is a tower `Service<Frame>`: the [`App`]'s layers around the [`Inbox`], built once for
//!   each connection; see [`stack`].
//! - The connection writes the stack's [`Reply`] to the peer, and hands what
//!   [`Frame::relay`] asked for to the others: into each one's [`outbox`].
//! - The [`Mesh`] reads what reached the inbox, and writes to all [`Peers`].

mod app;
mod changes;
pub mod config;
pub mod connection;
mod error;
pub mod event;
mod frame;
mod mesh;
mod message;
pub mod outbox;
mod payload;
mod peer;
mod peers;
mod reason;
mod request;
mod signal;
pub mod stack;
mod stats;
#[cfg(feature = "test-util")]
pub mod test_util;
mod text;
mod throttle;
pub mod transport;
pub mod wire;

#[doc(no_inline)]
pub use http::Extensions;

pub use app::registrar::{Plugin, Registrar};
pub use app::{App, AppExt};
pub use changes::{PeerChange, PeerChanges};
pub use config::Config;
pub use error::{BoxError, Error};
pub use event::{DisconnectReason, DropReason, Event, Events};
pub use frame::{Flow, Frame, Relay};
pub use mesh::{FRAME_COST, FrameRef, Frames, Mesh, MeshReader, MeshWriter, WRITE_CHUNK, WeakMesh};
#[doc(inline)]
pub use message::codec;
pub use message::{Message, MessageType};
pub use payload::Payload;
pub use peer::{Peer, PeerId};
pub use peers::{BATCH, PAYLOAD_COST, Peers, Sent};
pub use request::RequestFuture;
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
