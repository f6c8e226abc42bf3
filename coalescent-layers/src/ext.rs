//! The layers as methods of [`ServiceBuilder`].

use tower::ServiceBuilder;
use tower_layer::Stack;

use crate::{CatchPanic, Courier, SmartRelay, Tattletale};

/// Adds the layers of this crate to tower's [`ServiceBuilder`], for stacks without an
/// [`App`](coalescent_core::App).
///
/// Use one builder per node and build the stack of every connection from it, so that the layers can
/// share state between peers.
///
/// A builder applies layers but does not register plugins. A [`SmartRelay`] added this way does not
/// learn what its own node broadcasts, so it treats a broadcast that returns to its author as new.
/// The courier's verbs ([`MeshExt`](crate::MeshExt), [`PeerExt`](crate::PeerExt)) fail because they
/// find no courier. If either matters, register the layers as plugins too:
///
/// ```
/// use coalescent::{Config, Courier, Inbox, Peers, Plugin, ServiceBuilderExt, SmartRelay};
/// use tower::{Service, ServiceBuilder};
///
/// // Sufficient for a node that only listens and relays.
/// let peers = Peers::new(Config::default());
/// let stack = ServiceBuilder::new().smart_relay().courier().service(peers.inbox());
///
/// // For a node that also sends.
/// let (relay, courier) = (SmartRelay::new(), Courier::new());
/// let peers = Peers::with_plugins(Config::default(), [&relay as &dyn Plugin, &courier]);
/// let stack = ServiceBuilder::new().layer(relay).layer(courier).service(peers.inbox());
/// ```
pub trait ServiceBuilderExt<L>: sealed::Sealed<L> + Sized {
    /// Adds a [`Tattletale`] with default options: relays every frame, in trees and stars.
    fn tattletale(self) -> ServiceBuilder<Stack<Tattletale, L>>;

    /// Adds a [`SmartRelay`] with default options: relays every frame once, in any mesh.
    fn smart_relay(self) -> ServiceBuilder<Stack<SmartRelay, L>>;

    /// Adds a [`Courier`] with default options: parses MessagePack messages.
    fn courier(self) -> ServiceBuilder<Stack<Courier, L>>;

    /// Adds a [`CatchPanic`]: turns panics into errors.
    fn catch_panic(self) -> ServiceBuilder<Stack<CatchPanic, L>>;
}

impl<L> ServiceBuilderExt<L> for ServiceBuilder<L> {
    fn tattletale(self) -> ServiceBuilder<Stack<Tattletale, L>> {
        self.layer(Tattletale::new())
    }

    fn smart_relay(self) -> ServiceBuilder<Stack<SmartRelay, L>> {
        self.layer(SmartRelay::new())
    }

    fn courier(self) -> ServiceBuilder<Stack<Courier, L>> {
        self.layer(Courier::new())
    }

    fn catch_panic(self) -> ServiceBuilder<Stack<CatchPanic, L>> {
        self.layer(CatchPanic::new())
    }
}

mod sealed {
    pub trait Sealed<L> {}

    impl<L> Sealed<L> for tower::ServiceBuilder<L> {}
}
