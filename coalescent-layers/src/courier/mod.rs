//! Messages: a type and a body, in place of bytes.
//!
//! [`Courier`] parses each payload into a [`Message`](coalescent_core::Message), for the layers and
//! handlers inside of it ([`Frame::message`](coalescent_core::Frame::message)), and writes the
//! messages that they answer with as payloads. As a plugin it gives the verbs their codec:
//! [`MeshExt`] for all peers, [`PeerExt`] for one.
//!
//! What its envelope looks like in bytes is in [`codec`](coalescent_core::codec). The codec is one
//! for the whole mesh: a node that speaks to Node's courier or to browsers speaks
//! [JSON](Courier::json) with all its peers.
//!
//! # What does not parse
//!
//! Such a frame goes no further, and is an error: an
//! [`Event::Error`](coalescent_core::Event::Error) that names the peer. The peer stays, and its
//! next frame is parsed as if nothing had been. The error is an
//! [offence](coalescent_core::Error::offence): of those that the peer sent to this node, more than
//! [`Config::error_budget`](coalescent_core::Config::error_budget) in a minute disconnect it. What
//! it may have passed on, which it can do without a courier of its own, is not counted.
//!
//! # Where it belongs
//!
//! Outside of all that looks at messages, such as a router. A relay outside of it passes on all
//! payloads, a relay inside only those that parse; see [the crate](crate#order).
//!
//! ```text
//! App::new().with(Courier::new()).with(router)     the router sees messages, its answers are written
//! App::new().with(router).with(Courier::new())     the router sees none, its answers fail
//! ```
//!
//! What is inside must be `Clone`, see [the crate](crate#what-must-be-clone).
//!
//! # Per peer or shared
//!
//! It has no state but its codec, which never changes. There is nothing in it that could be full: a
//! message is parsed in place, its body stays a slice of the payload.
//!
//! # Example
//!
//! ```
//! use coalescent_core::{App, AppExt, Error, Frame, Message, Reply, transport::Memory};
//! use coalescent_layers::{Courier, MeshExt, PeerExt};
//! use tower::{layer::layer_fn, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! // Answers each message with one of type "pong" and the same number, plus one.
//! let pong = layer_fn(|_inner| {
//!     service_fn(async |frame: Frame| {
//!         let ping = frame.message().ok_or_else(Error::no_courier)?;
//!         let time: u64 = ping.body()?;
//!         Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Reply::from(Message::new("pong", &(time + 1))))
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
//! // A broadcast is answered too, by a message of its own.
//! let mut heard = bob.reader();
//! bob.broadcast("ping", &1).await?;
//! let frame = heard.next_frame().await.expect("bob runs");
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
