//! Where this node itself can be dialled.

use coalescent_core::{Address, Mesh, Peer, WeakMesh};

/// Returns where this node listens, as far as it knows by itself: what it advertises, or the
/// address that it listens at, unless that is every address.
pub(crate) fn listening(mesh: &Mesh) -> Option<Address> {
    let advertised = mesh.peers().config().advertise.as_ref();
    if let Some(advertised) = advertised.and_then(|advertised| advertised.parse().ok()) {
        return Some(advertised);
    }
    let addrs = mesh.local_addrs().into_iter();
    let mut addrs = addrs.filter(|addr| !addr.ip().is_unspecified());
    addrs.next().and_then(|addr| Address::try_from(addr).ok())
}

/// Returns where this node listens if it is where a peer sees it.
pub(crate) fn seen(mesh: &WeakMesh, by: &Peer) -> Option<Address> {
    let mesh = mesh.upgrade()?;
    let port = mesh.local_addrs().first()?.port();
    let mut seen = by.seen_addr()?;
    seen.set_port(port);
    Address::try_from(seen).ok()
}
