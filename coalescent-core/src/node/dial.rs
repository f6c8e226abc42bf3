//! Addresses that are suggested for dialling, and the results of dials.

use std::fmt;
use std::net::SocketAddr;

use crate::error::Error;
use crate::node::peer::Peer;
use crate::transport::address::Address;

/// Where an address of a peer comes from.
///
/// A plugin that finds peers in a way of its own makes a source of its own with
/// [`new`](Source::new).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source(&'static str);

impl Source {
    /// Stands for the seeds, which the user names.
    pub const SEED: Self = Self("seed");
    /// Stands for the book, which remembers addresses over restarts.
    pub const BOOK: Self = Self("book");
    /// Stands for other peers, who tell the addresses that they know.
    pub const PEERS: Self = Self("peers");
    /// Stands for multicast DNS, which finds peers on the local network.
    pub const MDNS: Self = Self("mdns");
    /// Stands for an overlay, which chooses neighbours among many nodes.
    pub const OVERLAY: Self = Self("overlay");

    /// Makes a source with this name. Sources of equal names are equal.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// Returns the name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// An address at which there may be a peer, for [`Mesh::suggest`](crate::Mesh::suggest).
///
/// ```
/// use coalescent_core::{Source, Suggestion};
///
/// const LOBBY: Source = Source::new("lobby");
/// let suggestion = Suggestion::new("198.51.100.7:1337".parse()?, LOBBY);
/// assert_eq!(suggestion.source().as_str(), "lobby");
/// # Ok::<(), coalescent_core::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    address: Address,
    source: Source,
    first: bool,
}

impl Suggestion {
    /// Makes a suggestion of this address.
    #[must_use]
    pub const fn new(address: Address, source: Source) -> Self {
        Self {
            address,
            source,
            first: false,
        }
    }

    /// Puts the address ahead of all others, seeds included, until it has been dialled once. It is
    /// meant for the few peers that this node was connected to before a restart.
    #[must_use]
    pub fn first(self) -> Self {
        Self {
            first: true,
            ..self
        }
    }

    /// Returns the address.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Returns where the address comes from.
    #[must_use]
    pub const fn source(&self) -> Source {
        self.source
    }

    /// Returns whether the address is put ahead of the others.
    #[must_use]
    pub const fn is_first(&self) -> bool {
        self.first
    }
}

/// A dial that has ended, for [`Registrar::on_dial`](crate::Registrar::on_dial).
#[derive(Debug)]
pub struct Dial {
    pub(crate) address: Address,
    pub(crate) source: Source,
    pub(crate) socket_addr: Option<SocketAddr>,
    pub(crate) result: Result<Peer, Error>,
}

impl Dial {
    /// Returns the address that was dialled.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Returns where the address comes from: [`Source::SEED`] if it is a seed, else the source that
    /// suggested it first.
    #[must_use]
    pub const fn source(&self) -> Source {
        self.source
    }

    /// Returns the socket address to which a connection was opened, whatever became of it; `None`
    /// if no connection was opened. Of several, it is the last.
    #[must_use]
    pub const fn socket_addr(&self) -> Option<SocketAddr> {
        self.socket_addr
    }

    /// Returns the peer at the other end: one that this dial has connected, or one that was
    /// connected already.
    ///
    /// # Errors
    ///
    /// - [`is_itself`](Error::is_itself) if only this node itself is there.
    /// - [`is_busy`](Error::is_busy) if the peer has no place for now.
    /// - [`is_refused`](Error::is_refused) if either side refused the other. On wires without node
    ///   numbers it also means that another connection leads to the address already.
    /// - [`is_dial`](Error::is_dial), [`is_timeout`](Error::is_timeout) or
    ///   [`is_handshake`](Error::is_handshake) if no peer answers there.
    pub const fn result(&self) -> Result<&Peer, &Error> {
        self.result.as_ref()
    }
}
