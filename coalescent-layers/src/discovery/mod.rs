//! Peers that find each other.
//!
//! [`Discovery`] adds what most want in one word. It consists of plugins, which can also be added
//! one by one, with [`with`](coalescent_core::AppExt::with) at any position, or with
//! [`plugin`](coalescent_core::AppExt::plugin):
//!
//! | plugin | finds peers | needs |
//! |---|---|---|
//! | [`AddressBook`] | that were known before, even before a restart | a file, for the latter |
//! | [`Exchange`] | that other peers know | somebody to ask: a seed, or the book |
//! | `Mdns` (feature `mdns`) | on the local network | multicast |
//!
//! ```
//! use coalescent::{App, AppExt, SmartRelay};
//! use coalescent::discovery::{book::AddressBook, exchange::Exchange};
//!
//! let book = AddressBook::new();
//! # let _ =
//! App::new().with(Exchange::new(book.book())).with(book).with(SmartRelay::new())
//! # ;
//! ```
//!
//! None of them dials: they suggest addresses, and the mesh decides whom to dial. Nothing ever
//! phones home: a node talks to its seeds, to the peers that it learned of, and with mDNS to the
//! local network.

pub mod book;
pub mod exchange;
pub(crate) mod listening;
#[cfg(feature = "mdns")]
pub mod mdns;
pub(crate) mod place;

use std::path::PathBuf;

use coalescent_core::{Plugin, Registrar};

use self::book::AddressBook;
use self::exchange::Exchange;
use crate::macros::no_layer;

/// Finds peers: remembers them, and asks those that are connected for others.
///
/// Without it, an app knows its seeds alone. With it, the nodes that know each other stay a mesh
/// when the seeds are gone, and newcomers need to know any one of them.
///
/// ```
/// use coalescent::{App, AppExt, SmartRelay};
/// use coalescent::discovery::Discovery;
///
/// # let _ =
/// App::new()
///     .seeds(["198.51.100.7:1337"])
///     .with(Discovery::new().book("peers.book"))
///     .with(SmartRelay::new())
/// # ;
/// ```
///
/// # Where it belongs
///
/// At any position: as a layer it does nothing. Added with
/// [`plugin`](coalescent_core::AppExt::plugin), it is the same.
///
/// # What it shares
///
/// Others find the [`Book`](book::Book) among the values of the mesh:
/// `mesh.get::<Book>()`. Two apps must not use the same `Discovery`, or they share it too.
#[derive(Clone, Debug, Default)]
#[must_use = "it finds nobody until it is added to an app, with `with`"]
pub struct Discovery {
    book: AddressBook,
    alone: bool,
    passive: bool,
    #[cfg(feature = "mdns")]
    mdns: Option<mdns::Mdns>,
}

impl Discovery {
    /// Exchanges addresses with peers, and remembers them for as long as the mesh runs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers peers over restarts, in this file. Its folder must exist; the file need not. See
    /// [`AddressBook`] about what happens when it cannot be read or written.
    pub fn book(mut self, path: impl Into<PathBuf>) -> Self {
        self.book = self.book.file(path);
        self
    }

    /// Sets whether peers are asked for addresses, and answered. Default: true. Without it, a node
    /// remembers only peers that it has met.
    pub fn exchange(mut self, exchange: bool) -> Self {
        self.alone = !exchange;
        self
    }

    /// Sets whether this node only introduces others to each other: it answers who asks, and
    /// neither asks nor dials what it learns. For a seed that is to have no peers of its own
    /// choice. Default: false.
    pub fn passive(mut self, passive: bool) -> Self {
        self.passive = passive;
        self
    }

    /// Finds peers on the local network too, see [`Mdns`](mdns::Mdns). Default: it does not.
    ///
    /// Every machine on the local network then learns that this node is there.
    #[cfg(feature = "mdns")]
    pub fn mdns(self) -> Self {
        self.mdns_with(mdns::Mdns::new())
    }

    /// Finds peers on the local network too, as configured in `mdns`: on a certain interface, for
    /// example.
    #[cfg(feature = "mdns")]
    pub fn mdns_with(mut self, mdns: mdns::Mdns) -> Self {
        self.mdns = Some(mdns);
        self
    }
}

impl Plugin for Discovery {
    fn register(&self, app: &mut Registrar) {
        app.registered::<Self>();
        self.book.clone().passive(self.passive).register(app);
        if !self.alone {
            let exchange = Exchange::new(self.book.book());
            exchange.passive(self.passive).register(app);
        }
        #[cfg(feature = "mdns")]
        self.mdns.register(app);
    }
}

no_layer!(Discovery);
no_layer!(AddressBook);
no_layer!(Exchange);
#[cfg(feature = "mdns")]
no_layer!(mdns::Mdns);
