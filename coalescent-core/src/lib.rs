//! The core of coalescent: peers, the mesh, and the path of a frame between them.
//!
//! Most applications use the crate `coalescent`, which adds the layers and the router. Depend on
//! this crate to write a middleware or a plugin.
//!
//! # The path of a frame
//!
//! ```text
//! socket ─ wire ─ connection ─▶ stack: your layers ▶ Inbox ─▶ Mesh (read side)
//!                     ▲                 │ Frame::relay
//!                     └── outbox ◀──────┴── Reply
//! ```
//!
//! A frame that comes in passes these modules:
//!
//! 1. [`transport`]: makes or accepts the socket, and says who is at its other end.
//! 2. [`wire`]: finds where each frame of the byte stream ends, and of which kind it is.
//! 3. [`connection`]: reads many frames at a time, and calls the peer's stack with each as a
//!    [`Frame`].
//! 4. [`stack`]: a tower `Service<Frame>`, made of the [`App`]'s layers around the [`Inbox`]. It is
//!    built once for each connection. A layer may answer with a [`Reply`], or have the frame passed
//!    on with [`Frame::relay`].
//! 5. The connection writes the reply to the peer, and puts relayed frames into the [`outbox`] of
//!    each other peer.
//! 6. [`Mesh`]: its read side yields the frames that have reached the inbox.
//!
//! A broadcast goes out through [`Mesh`] or [`Peers`], which encode it once for each wire and put
//! it into each peer's [`outbox`]. From there the peer's connection writes it to the socket.

#![cfg_attr(docsrs, feature(doc_cfg))]

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

pub use app::plugin::Plugin;
pub use app::registrar::Registrar;
pub use app::{App, AppExt, Starting};
pub use config::Config;
pub use error::{BoxError, Error, Refusal, Report, report};
pub use frame::{Flow, Frame, Held, Relay, Verdict};
#[doc(no_inline)]
pub use http::Extensions;
pub use mesh::{
    Admitted, DISCOVERED_MAX, FRAME_COST, FrameRef, Frames, Mesh, MeshReader, MeshWriter, OneMore,
    PeerReader, PeerWriter, Probe, WRITE_CHUNK, Wanted, WeakMesh,
};
#[doc(inline)]
pub use message::codec;
pub use message::{Ask, Message, MessageType, TopicName};
pub use node::bans::{BAN_REASON_MAX, BANS_MAX, BANS_OF_NETWORK, Ban, BanTarget, FORGIVEN_AFTER};
pub use node::changes::{PeerChange, PeerChanges};
pub use node::channel::CHANNEL_INBOX;
#[doc(inline)]
pub use node::event;
pub use node::event::{DisconnectReason, DropReason, Event, Events};
pub use node::hooks::Dial;
pub use node::payload::Payload;
pub use node::peer::requests::{REQUEST_COST, REQUEST_WINDOW};
pub use node::peer::{HANDED_COST, HANDED_IN, Peer, PeerId};
pub use node::request::RequestFuture;
pub use node::suggestion::{Source, Suggestion};
pub use node::{BATCH, PAYLOAD_COST, Peers, Sent};
pub use reason::Goodbye;
pub use stack::reply::Reply;
pub use stack::{AnyLayer, CloneService, Inbox, PeerLayer, PeerService, READ_BY_GRACE, ReadBy};
pub use stats::Stats;
pub use transport::Direction;
#[doc(inline)]
pub use transport::address;
pub use transport::address::{Address, AddressError};
#[doc(inline)]
pub use transport::identity;
pub use transport::identity::PublicKey;
pub use wire::{NodeId, Wire};

/// Tests the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
