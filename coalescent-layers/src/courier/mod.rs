//! Messages, which have a type and a body, instead of plain bytes.
//!
//! [`Courier`] parses each payload into a [`Message`](coalescent_core::Message) for the layers and
//! handlers inside it ([`Frame::message`](coalescent_core::Frame::message)), and encodes the
//! messages that they reply with. As a plugin it provides the codec for the methods that send
//! messages: [`MeshExt`] for all peers, [`PeerExt`] for one.
//!
//! The encoding is described in [`codec`](coalescent_core::codec). All nodes of a mesh must use the
//! same codec: to talk to Node's courier or to browsers, a node must use [JSON](Courier::json) with
//! all its peers.
//!
//! # Payloads that do not parse
//!
//! Such a frame goes no further and becomes an [`Event::Error`](coalescent_core::Event::Error) that
//! names the peer. The peer stays connected, and its next frame is parsed as usual. The error is an
//! [offence](coalescent_core::Error::offence): a peer that sends more than
//! [`Config::error_budget`](coalescent_core::Config::error_budget) of them to this node within a
//! minute is disconnected. Frames that the peer may only have relayed do not count, because a node
//! can relay without a courier.
//!
//! # Where it belongs
//!
//! Outside all layers that use messages, such as a router. A relay outside the courier relays all
//! payloads, a relay inside only those that parse; see [the crate documentation](crate#order).
//!
//! ```text
//! the router sees messages, and its replies are encoded:
//!     App::new().with(Courier::new()).with(router)
//! the router sees no messages, and its replies fail:
//!     App::new().with(router).with(Courier::new())
//! ```
//!
//! The inner service must be `Clone`, see [the crate documentation](crate#what-must-be-clone).
//!
//! # Per peer or shared
//!
//! The only state is the codec, which never changes. The courier has no queue: a message is parsed
//! in place, and its body remains a slice of the payload.
//!
//! # Example
//!
//! ```
//! use coalescent::{
//!     App, AppExt, Courier, Error, Frame, MeshExt, Message, PeerExt, Reply, transport::Memory,
//! };
//! use tower::{layer::layer_fn, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! // Replies to each message with a "pong" that carries its number plus one.
//! let pong = layer_fn(|_inner| {
//!     service_fn(async |frame: Frame| {
//!         let ping = frame.message().ok_or_else(Error::no_courier)?;
//!         let time: u64 = ping.body()?;
//!         let pong = Message::new("pong", &(time + 1));
//!         Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Reply::from(pong))
//!     })
//! });
//! let network = Memory::new();
//! let app = || App::new().transport(network.clone()).with(Courier::new());
//! let alice = app().layer(pong).listen("alice:1").await?;
//! let bob = app().start().await?;
//! let peer = bob.connect("alice:1").await?;
//!
//! // A request waits for its reply.
//! let reply = peer.request("ping", &41).await?;
//! assert_eq!((reply.kind(), reply.body()?), ("pong", 42));
//!
//! // A reply to a broadcast arrives as a separate message.
//! let mut reader = bob.reader();
//! let _ = bob.broadcast("ping", &1).await?;
//! let frame = reader.next_frame().await.expect("bob runs");
//! assert_eq!(frame.message().expect("bob has a courier").body::<u64>()?, 2);
//! # drop(alice);
//! # Ok(())
//! # }
//! ```

mod layer;
mod service;
mod verbs;

pub use self::layer::Courier;
pub use self::service::{CourierService, ResponseFuture};
pub use self::verbs::{MeshExt, PeerExt};
