//! What is asked of the core.

use coalescent_core::{Address, Error, Mesh, Peer};

/// Connects to an address as to a contact.
pub(crate) async fn contact(
    mesh: &Mesh,
    address: &Address,
    _from: Option<&Peer>,
) -> Result<Peer, Error> {
    mesh.connect(&address.to_string()).await
}

/// Returns whether a peer is only a contact.
pub(crate) fn is_contact(_peer: &Peer) -> bool {
    false
}

/// Makes a peer of a contact.
pub(crate) fn promote(_peer: &Peer) -> Result<(), Error> {
    Ok(())
}

/// Returns the seeds of a mesh.
pub(crate) fn seeds(_mesh: &Mesh) -> Vec<Address> {
    Vec::new()
}
