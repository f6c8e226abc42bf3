//! What tells peers apart, and where they come from.

use std::fmt;
use std::net::SocketAddr;

use crate::transport::Direction;
use crate::wire::NodeId;

/// What tells one peer from another, in logs, events and maps.
///
/// With an identity it is the peer's public key, proven at each connection: two processes with the
/// same key are one peer, of which the second is refused while the first is there. Without, on the
/// native wire, it is the number the peer's running application chose for itself, which nothing
/// proves: somebody else who claims it waits until the peer has gone. On wires without a handshake
/// it is a number this node gave the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum PeerId {
    /// A proven ed25519 public key.
    Key([u8; 32]),
    /// The number a running application chose for itself.
    Node(NodeId),
    /// The number of a connection to a peer that does not introduce itself.
    Connection(u64),
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => key.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            Self::Node(node) => node.fmt(f),
            Self::Connection(number) => write!(f, "connection-{number}"),
        }
    }
}

/// Where the connection to a peer comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint {
    pub(crate) addr: Option<SocketAddr>,
    pub(crate) direction: Direction,
}
