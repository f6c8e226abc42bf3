//! Tattletale, SmartRelay and Courier: the layers of coalescent.
//!
//! | layer | does | its state | a peer that is full | needs of what is inside |
//! |---|---|---|---|---|
//! | [`Tattletale`] | relays all, in trees and stars | none | is waited for, at its source's cost | |
//! | [`SmartRelay`] | relays each frame once, in any mesh | what was seen, one set for the node | is dropped for after a short grace, counted | `Clone` |
//! | [`Courier`] | parses payloads into messages, writes messages as payloads | none; one codec for the node | | `Clone` |
//! | [`CatchPanic`] | makes errors of panics | none | | |
//! | [`TraceContext`] | joins the trace a message belongs to | none | | |
//!
//! Each is a tower [`Layer`](tower_layer::Layer) around a `Service<Frame, Response = Reply>`, and a
//! [`Plugin`](coalescent_core::Plugin): add it to an [`App`](coalescent_core::App) with
//! [`with`](coalescent_core::AppExt::with), which applies both. Without an app, see
//! [`ServiceBuilderExt`].
//!
//! # Order
//!
//! The layer added first is outermost: it sees a frame first, and its reply last. So the place of a
//! relay says what is relayed. Outside the courier, all that this node hears:
//!
//! ```
//! # use coalescent_core::{App, AppExt};
//! # use coalescent_layers::{Courier, SmartRelay};
//! # let _ =
//! App::new().with(SmartRelay::new()).with(Courier::new())
//! # ;
//! ```
//!
//! Inside of it, only what parses as a message; a malformed one goes no further than the first node
//! that gets it:
//!
//! ```
//! # use coalescent_core::{App, AppExt};
//! # use coalescent_layers::{Courier, SmartRelay};
//! # let _ =
//! App::new().with(Courier::new()).with(SmartRelay::new())
//! # ;
//! ```
//!
//! And with `relay_after`, wherever it stands, only what everything inside of it accepted, handlers
//! too:
//!
//! ```
//! # use coalescent_core::{App, AppExt};
//! # use coalescent_layers::{Courier, SmartRelay};
//! # let _ =
//! App::new().with(SmartRelay::new().relay_after()).with(Courier::new())
//! # ;
//! ```
//!
//! The last two look alike, and differ in time and in copies. The relay inside the courier passes a
//! message on before its handler is done, and a copy is parsed before it is known to be one;
//! `relay_after` outside of it recognizes copies first, and waits for the handler.
//!
//! # Per peer, or shared
//!
//! The layers are applied once for each connection, so that the state of a layer is per peer:
//! tower's `ConcurrencyLimitLayer::new(8)` lets each peer have 8 calls at a time. To limit the
//! node, a layer must share state between the services it makes:
//! `GlobalConcurrencyLimitLayer::new(8)` lets all peers together have 8. Of the layers
//! here only [`SmartRelay`] has state, and it is shared: a frame that one peer sent is a copy when
//! another sends it.
//!
//! # What must be `Clone`
//!
//! [`SmartRelay`] keeps copies from the services inside of it, and [`Courier`] what does not parse.
//! The inner service has been made ready for that frame, and may hold a permit that other peers
//! wait for. Readiness is given back by dropping the service, and going on with a clone that is not
//! ready yet. Hence a layer whose service is not `Clone`, such as tower's `RateLimit`, stands
//! outside of both, or in a `BufferLayer`.

pub mod catch_panic;
pub mod courier;
mod deferred;
#[cfg(feature = "discover")]
pub mod discover;
mod ext;
mod macros;
mod sealed;
pub mod smart_relay;
pub mod tattletale;
pub mod trace;

#[doc(inline)]
pub use self::catch_panic::CatchPanic;
#[doc(inline)]
pub use self::courier::{Courier, MeshExt, PeerExt};
#[cfg(feature = "discover")]
#[doc(inline)]
pub use self::discover::{DiscoverExt, PeerDiscover};
pub use self::ext::ServiceBuilderExt;
#[doc(inline)]
pub use self::smart_relay::SmartRelay;
#[doc(inline)]
pub use self::tattletale::Tattletale;
#[doc(inline)]
pub use self::trace::TraceContext;

/// Puts an unready clone in the place of a service that was made ready and is not called, so that
/// what readiness holds (a permit of a limit that others share) is free again.
fn release<S: Clone>(ready: &mut S) {
    let unready = ready.clone();
    drop(std::mem::replace(ready, unready));
}
