//! The router of coalescent: handlers by message type, with extractors.
//!
//! A [`Router`] stands in a peer's stack, inside a courier. For each
//! [`Message`](coalescent_core::Message) it calls the [handler](Handler) of the message's type. A
//! handler is an async function. Its arguments are [extractors](extract), which are created from
//! the frame, and its return value implements [`IntoReply`] and is sent back to the peer. To
//! [answer](Router#answering), return a value rather than wait to send one.
//!
//! ```text
//! courier ─ Message ─▶ Router ─────────────▶ inner services ─▶ read side of the mesh
//!                        │ handler, by type ▲
//!                        └──────────────────┘  unless the frame ends there
//! ```
//!
//! ```
//! use coalescent::{
//!     App, AppExt, IntoReply, MeshRouterExt, Message, Peer, Router, ends, transport::Memory,
//! };
//! use coalescent::extract::{Body, Type};
//! use serde::{Deserialize, Serialize};
//! # use coalescent::{BoxError, Frame, Reply, codec::Codec};
//! # use coalescent::middleware::{Next, from_fn};
//! # async fn courier(mut frame: Frame, next: Next) -> Result<Reply, BoxError> {
//! #     let codec = Codec::msgpack();
//! #     frame.set_message(codec.decode(&frame.payload_bytes())?);
//! #     Ok(match next.run(frame).await? {
//! #         Reply::Message(message) => Reply::Payload(codec.encode(&message)?),
//! #         reply => reply,
//! #     })
//! # }
//!
//! #[derive(Deserialize, Serialize)]
//! struct Ping {
//!     time: u64,
//! }
//!
//! #[derive(Deserialize, Serialize)]
//! struct Pong {
//!     time: u64,
//! }
//!
//! // Replies to a "ping" with a "pong".
//! async fn ping(Body(ping): Body<Ping>) -> impl IntoReply {
//!     Message::new("pong", &Pong { time: ping.time })
//! }
//!
//! // Called for all other message types.
//! async fn unknown(peer: Peer, Type(kind): Type) {
//!     println!("{} sent an unknown {kind:?}", peer.id());
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use coalescent::{HandlerFuture, middleware::FromFnLayer};
//! # struct Courier;
//! # impl Courier { fn new() -> FromFnLayer<CourierFn, (), (Frame,)> {
//! #     from_fn(|frame, next| Box::pin(courier(frame, next)))
//! # } }
//! # type CourierFn = fn(Frame, Next) -> HandlerFuture;
//! # let network = Memory::new();
//! # let transport = network.clone();
//! let alice = App::new()
//!     .with(Courier::new())
//!     .with(Router::new().route("ping", ends(ping)).fallback(unknown))
//! #   .transport(transport)
//!     .listen("127.0.0.1:1337")
//!     .await?;
//!
//! // Routes can be added while the mesh runs.
//! alice.route("beep", ("boop", "loud"))?;
//! #
//! # let codec = Codec::msgpack();
//! # let bob = App::new().transport(network).start().await?;
//! # let peer = bob.connect("127.0.0.1:1337").await?;
//! # let ping = codec.encode(&Message::new("ping", &Ping { time: 4 }))?;
//! # let reply = codec.decode(&peer.request_payload(ping).await?)?;
//! # assert_eq!((reply.kind(), reply.body::<Pong>()?.time), ("pong", 4));
//! # let beep = codec.encode(&Message::new("beep", &()))?;
//! # let reply = codec.decode(&peer.request_payload(beep).await?)?;
//! # assert_eq!(reply.kind(), "boop");
//! # Ok(())
//! # }
//! ```
//!
//! The courier is a layer of the crate `coalescent-layers`. Any other layer that calls
//! [`Frame::set_message`](coalescent_core::Frame::set_message) works too. Without an app, use the
//! router as a tower layer, or turn it into a service with [`Router::into_service`].

#![cfg_attr(docsrs, feature(doc_cfg))]

mod error;
pub mod extract;
mod handle;
mod handler;
mod into_reply;
mod macros;
pub mod middleware;
mod not_found;
mod observe;
mod route;
mod router;
mod service;
mod table;
mod typed;

pub use error::RouteError;
pub use extract::{FromFrame, FromFrameParts};
pub use handle::{MeshRouterExt, RouterHandle};
pub use handler::{Ends, Handler, HandlerFuture, ends};
pub use into_reply::IntoReply;
pub use not_found::NotFound;
pub use route::Route;
pub use router::Router;
pub use service::{RouterFuture, RouterService};
pub use typed::{Typed, TypedArguments};

/// Tests the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
