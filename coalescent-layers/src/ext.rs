//! The layers as methods of [`ServiceBuilder`].

use tower::ServiceBuilder;
use tower_layer::Stack;

use crate::{CatchPanic, Courier, SmartRelay, Tattletale};

/// Adds the layers to tower's [`ServiceBuilder`], for stacks without an
/// [`App`](coalescent_core::App).
///
/// One builder is for one node: make it once, and build the stack of each connection from it, so
/// that what a layer shares between peers is shared.
///
/// A builder applies layers, and knows no plugins. So a [`SmartRelay`] made here does not know what
/// its own node says: a broadcast that comes back in a circle is taken for news. And the courier's
/// verbs ([`MeshExt`](crate::MeshExt), [`PeerExt`](crate::PeerExt)) find no courier. Where either
/// matters, register them:
///
/// ```
/// use coalescent_core::{Config, Inbox, Peers, Plugin};
/// use coalescent_layers::{Courier, ServiceBuilderExt, SmartRelay};
/// use tower::{Service, ServiceBuilder};
///
/// // Enough for a node that only listens and relays.
/// let peers = Peers::new(Config::default());
/// let stack = ServiceBuilder::new().smart_relay().courier().service(peers.inbox());
///
/// // For a node that speaks too.
/// let (relay, courier) = (SmartRelay::new(), Courier::new());
/// let peers = Peers::with_plugins(Config::default(), [&relay as &dyn Plugin, &courier]);
/// let stack = ServiceBuilder::new().layer(relay).layer(courier).service(peers.inbox());
/// ```
pub trait ServiceBuilderExt<L>: sealed::Sealed<L> + Sized {
    /// Relays each frame to all other peers, in trees and stars: adds a [`Tattletale`] with the
    /// default options.
    fn tattletale(self) -> ServiceBuilder<Stack<Tattletale, L>>;

    /// Relays each frame to all other peers once: adds a [`SmartRelay`] with the default options.
    fn smart_relay(self) -> ServiceBuilder<Stack<SmartRelay, L>>;

    /// Parses MessagePack messages: adds a [`Courier`] with the default options.
    fn courier(self) -> ServiceBuilder<Stack<Courier, L>>;

    /// Makes errors of panics: adds a [`CatchPanic`].
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
