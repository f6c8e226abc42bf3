//! The layers of coalescent.
//!
//! | layer | purpose | state |
//! |---|---|---|
//! | [`Tattletale`] | relays every broadcast, in trees and stars | none |
//! | [`SmartRelay`] | relays every broadcast once, in any mesh | the frames seen, per node |
//! | [`Courier`] | converts between payloads and messages | none; one codec per node |
//! | [`CatchPanic`] | turns panics into errors | none |
//! | [`Validate`] | judges frames before a relay passes them on | none |
//! | `Signed` (feature `tls`) | signs, and checks signatures | the messages accepted, per node |
//! | [`TraceContext`] | continues the trace that a message belongs to | none |
//!
//! When another peer's outbox is full, [`Tattletale`] waits for it and thereby slows the source
//! down; [`SmartRelay`] waits for a short grace period, then drops the frame for that peer and
//! counts it. [`SmartRelay`], [`Courier`], [`Validate`] and `Signed` need an inner service that is
//! `Clone`, see [What must be `Clone`](#what-must-be-clone).
//!
//! [`Discovery`] is a plugin that finds peers, and [`Streams`] one that opens streams to single
//! peers. They see no frames, and may stand at any position: as layers they add nothing. `Overlay`
//! (feature `overlay`) is a plugin that chooses the peers of a node, for meshes of hundreds and
//! thousands.
//!
//! Each layer is a tower [`Layer`](tower_layer::Layer) around a `Service<Frame, Response = Reply>`
//! and a [`Plugin`](coalescent_core::Plugin). Add it to an [`App`](coalescent_core::App) with
//! [`with`](coalescent_core::AppExt::with), which applies both. For stacks without an app, see
//! [`ServiceBuilderExt`].
//!
//! # Order
//!
//! The layer added first is outermost: it sees a frame first and its reply last. The position of a
//! relay therefore decides what is relayed. Outside the courier, it relays everything that this
//! node receives:
//!
//! ```
//! # use coalescent::{App, AppExt, Courier, SmartRelay};
//! # let _ =
//! App::new().with(SmartRelay::new()).with(Courier::new())
//! # ;
//! ```
//!
//! Inside the courier, it relays only payloads that parse as messages; a malformed one stops at the
//! first node that receives it:
//!
//! ```
//! # use coalescent::{App, AppExt, Courier, SmartRelay};
//! # let _ =
//! App::new().with(Courier::new()).with(SmartRelay::new())
//! # ;
//! ```
//!
//! With a [`Validate`] inside of it, it relays only what the check accepts, as soon as it does:
//!
//! ```
//! # use coalescent::{App, AppExt, Courier, Frame, SmartRelay, Validate, Verdict};
//! # let check = async |_: Frame| Verdict::Accept;
//! # let _ =
//! App::new().with(SmartRelay::new()).with(Courier::new()).with(Validate::new(check))
//! # ;
//! ```
//!
//! With `relay_after`, at any position, it relays only what all services inside it accepted,
//! including the handlers:
//!
//! ```
//! # use coalescent::{App, AppExt, Courier, SmartRelay};
//! # let _ =
//! App::new().with(SmartRelay::new().relay_after()).with(Courier::new())
//! # ;
//! ```
//!
//! The last three differ in latency and in the handling of copies. A relay inside the courier
//! passes a message on before its handler has finished, but parses a copy before recognizing it.
//! With a [`Validate`] or `relay_after`, the relay stands outside the courier, and copies are
//! recognized first. With the former relaying waits for the check, with the latter for the handler.
//!
//! # Per peer or shared
//!
//! The layers are applied once for each connection, so a layer's state is per peer by default:
//! tower's `ConcurrencyLimitLayer::new(8)` allows each peer 8 calls at a time. To limit the whole
//! node, use a layer that shares state between the services it makes:
//! `GlobalConcurrencyLimitLayer::new(8)` allows 8 calls for all peers together. Of the layers in
//! this crate only [`SmartRelay`] and `Signed` remember what they have seen, and they share it: a
//! frame that one peer sent is a copy, or a replay, when another peer sends it.
//!
//! # What must be `Clone`
//!
//! [`SmartRelay`] does not pass copies to its inner service, [`Courier`] no payloads that do not
//! parse, [`Validate`] none that is not accepted, and `Signed` none that it withholds. In all these
//! cases the inner service has already been made ready and may hold a permit that others wait for.
//! The layers return that permit by replacing the ready service with a clone that is not ready, and
//! dropping it. A layer whose service is not `Clone`, such as tower's `RateLimit`, must therefore
//! stand outside all of them or inside a `BufferLayer`.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod catch_panic;
pub mod courier;
mod deferred;
#[cfg(feature = "discover")]
pub mod discover;
pub mod discovery;
mod ext;
mod macros;
#[cfg(feature = "overlay")]
pub mod overlay;
mod sealed;
#[cfg(feature = "tls")]
pub mod signed;
pub mod smart_relay;
pub mod streams;
pub mod tattletale;
pub mod trace;
pub mod validate;

#[doc(inline)]
pub use self::catch_panic::CatchPanic;
#[doc(inline)]
pub use self::courier::{Courier, MeshExt, PeerExt};
#[cfg(feature = "discover")]
#[doc(inline)]
pub use self::discover::{MeshDiscoverExt, PeerDiscover};
#[doc(inline)]
pub use self::discovery::Discovery;
pub use self::ext::ServiceBuilderExt;
#[cfg(feature = "overlay")]
#[doc(inline)]
pub use self::overlay::topic::Topic;
#[cfg(feature = "overlay")]
#[doc(inline)]
pub use self::overlay::{MeshOverlayExt, Overlay};
#[cfg(feature = "tls")]
#[doc(inline)]
pub use self::signed::Signed;
#[doc(inline)]
pub use self::smart_relay::SmartRelay;
#[doc(inline)]
pub use self::streams::{MeshStreamsExt, PeerStreamsExt, Streams};
#[doc(inline)]
pub use self::tattletale::Tattletale;
#[doc(inline)]
pub use self::trace::TraceContext;
#[doc(inline)]
pub use self::validate::Validate;

/// Replaces a service that is ready, but will not be called, with a clone that is not ready, which
/// returns any permit held by its readiness.
fn release<S: Clone>(ready: &mut S) {
    let unready = ready.clone();
    drop(std::mem::replace(ready, unready));
}

/// Tests the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
