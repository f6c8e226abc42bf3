//! The types that this crate's extension traits are implemented for.

use coalescent_core::{Mesh, Peers};

/// A handle to all peers of one node.
///
/// It is the sealed supertrait of [`MeshExt`](crate::MeshExt) and `MeshDiscoverExt`, whose methods
/// are written once in terms of it.
pub trait AsPeers {
    /// Returns the peers of the node.
    fn as_peers(&self) -> &Peers;
}

impl AsPeers for Peers {
    fn as_peers(&self) -> &Peers {
        self
    }
}

impl AsPeers for Mesh {
    fn as_peers(&self) -> &Peers {
        self.peers()
    }
}
