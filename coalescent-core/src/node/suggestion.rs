//! Addresses that are suggested for dialling.

use std::fmt;

use crate::transport::address::Address;

/// Where an address of a peer comes from.
///
/// A plugin that finds peers in a way of its own makes a source of its own with
/// [`new`](Source::new).
///
/// ```
/// use coalescent::Source;
///
/// const TRACKER: Source = Source::new("tracker");
/// assert_eq!(TRACKER.to_string(), "tracker");
/// assert_ne!(TRACKER, Source::SEED);
/// ```
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
/// use coalescent::{Source, Suggestion};
///
/// const LOBBY: Source = Source::new("lobby");
/// let suggestion = Suggestion::new("198.51.100.7:1337".parse()?, LOBBY);
/// assert_eq!(suggestion.source().as_str(), "lobby");
/// # Ok::<(), coalescent::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    pub(crate) address: Address,
    pub(crate) source: Source,
    pub(crate) first: bool,
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
}
