//! Which side opened a connection.

use std::fmt;

/// The side that opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Direction {
    /// The peer connected to this node.
    Inbound,
    /// This node connected to the peer.
    Outbound,
}

impl Direction {
    /// Returns a one-word label.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
