//! What counts a connection: as that of a contact, or as that of a peer.

use std::fmt;
use std::sync::Arc;

use super::handle::ConnectionHandle;

/// What a connection is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// That of a contact, which shares only channels with this node.
    Contact,
    Peer,
}

/// There is no place left for a connection in a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoPlace;

/// Counts one connection.
pub(crate) trait Seat: fmt::Debug + Send + Sync {
    /// Returns whether there is a place in this role now.
    fn has_place(&self, role: Role) -> bool;

    /// Counts the connection `link` in this role. It does nothing for a connection that is counted
    /// so already, or as that of a peer.
    ///
    /// # Errors
    ///
    /// If there is no place left. The connection then stays counted as it was.
    fn take(&self, role: Role, link: &Arc<ConnectionHandle>) -> Result<(), NoPlace>;

    /// Counts the connection `link` in the role of another connection to the same node, which it
    /// takes the place of.
    ///
    /// # Errors
    ///
    /// If there is no place left, and the other connection is not let go for it.
    fn take_over(&self, role: Role, link: &Arc<ConnectionHandle>) -> Result<(), NoPlace>;
}
