//! The identity of a peer: what distinguishes it from others, and what is known before it joins.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::transport::Direction;
use crate::transport::address::Address;
use crate::transport::identity::PublicKey;
use crate::wire::{NodeId, Wire};

/// The identity of a peer, in logs, events and maps.
///
/// With an identity, or over a transport that proves keys, it is the peer's public key, proven at
/// each connection: two processes with the same key are one peer, of which the second is refused
/// while the first is connected. Without one, on the native wire, it is the number that the peer's
/// process chose for itself, which nothing proves: somebody else who claims it waits until the peer
/// has gone. On wires without a handshake it is a number that this node gave the connection.
///
/// ```
/// use coalescent::App;
/// use coalescent::identity::Identity;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let alice = App::new().listen("127.0.0.1:0").await?;
/// let bob = App::new().start().await?;
/// let peer = bob.connect(&alice.local_addrs()[0].to_string()).await?;
/// assert_eq!(peer.id().key(), None); // in plaintext nobody proves a key
/// assert_eq!(peer.id().to_string(), alice.id().to_string());
///
/// let (key, app) = (Identity::generate(), App::new());
/// let alice = app.identity(key.clone()).listen("127.0.0.1:0").await?;
/// let bob = App::new().identity(Identity::generate()).start().await?;
/// let peer = bob.connect(&alice.local_addrs()[0].to_string()).await?;
/// assert_eq!(peer.id().key(), Some(key.id()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum PeerId {
    /// A proven public key.
    Key(PublicKey),
    /// The number that a running application chose for itself.
    Node(NodeId),
    /// The number of a connection to a peer that does not introduce itself.
    Connection(u64),
}

impl PeerId {
    /// Returns the peer's key, as [`Mesh::allow`](crate::Mesh::allow) and
    /// [`Address::with_id`](crate::Address::with_id) take it; `None` if it has proven none.
    #[must_use]
    pub const fn key(&self) -> Option<PublicKey> {
        match self {
            Self::Key(key) => Some(*key),
            Self::Node(_) | Self::Connection(_) => None,
        }
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(_) => write!(f, "Key({self})"),
            Self::Node(node) => f.debug_tuple("Node").field(node).finish(),
            Self::Connection(number) => f.debug_tuple("Connection").field(number).finish(),
        }
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => key.fmt(f),
            Self::Node(node) => node.fmt(f),
            Self::Connection(number) => write!(f, "connection-{number}"),
        }
    }
}

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// Its address, if the transport has addresses.
    pub(crate) addr: Option<SocketAddr>,
    /// Its address with a scheme, if that is not its socket address.
    pub(crate) place: Option<Arc<Address>>,
    /// Which side made the connection.
    pub(crate) direction: Direction,
}

impl Endpoint {
    /// Returns its address to be shown: the socket address, or else the one with a scheme.
    pub(crate) fn shown(&self) -> Option<Shown<'_>> {
        match (self.addr, &self.place) {
            (Some(addr), _) => Some(Shown::Addr(addr)),
            (None, Some(place)) => Some(Shown::Place(place)),
            (None, None) => None,
        }
    }
}

/// An address as logs show it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shown<'a> {
    Addr(SocketAddr),
    Place(&'a Address),
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addr(addr) => addr.fmt(f),
            Self::Place(place) => place.fmt(f),
        }
    }
}

/// What a connection has learned of its peer before it joins the roster.
#[derive(Clone, Debug)]
pub(crate) struct Introduction {
    /// The public key that it has proven.
    pub(crate) key: Option<PublicKey>,
    /// The number that it chose for itself.
    pub(crate) node_id: Option<NodeId>,
    /// The name and version of its program.
    pub(crate) agent: Option<String>,
    /// Where others can dial it, as far as it says.
    pub(crate) listen: Option<String>,
    /// Where it sees this node.
    pub(crate) seen: Option<SocketAddr>,
    /// The names of its channels.
    pub(crate) channels: Vec<String>,
    /// The largest payload that it takes, in bytes.
    pub(crate) max_payload: Option<usize>,
    pub(crate) wire: Wire,
    pub(crate) origin: Endpoint,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_as_hex() {
        let id = PeerId::Key(PublicKey::repeated(0xab));
        assert_eq!(format!("{id:?}"), format!("Key({})", "ab".repeat(32)));
        assert_eq!(
            format!("{:?}", PeerId::Connection(3)),
            "Connection(3)",
            "others as before"
        );
    }

    #[test]
    fn only_an_id_that_is_a_key_has_one() {
        let key = PublicKey::repeated(7);
        assert_eq!(PeerId::Key(key).key(), Some(key));
        assert_eq!(PeerId::Connection(3).key(), None);
    }
}
