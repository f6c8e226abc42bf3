//! What is known of the peers that are connected.

use coalescent_core::{Address, Mesh, Peer, Source};

use crate::discovery::listening;

/// The address by which a dial of this node has reached a peer, and where it came from; kept with
/// the peer.
#[derive(Clone, Debug)]
pub(super) struct DialledAs(pub(super) Address, pub(super) Source);

/// Returns the addresses to dial first after a start: those of the connected peers that this node
/// has dialled. Seeds, which are known anyway, come last.
pub(super) fn anchors(mesh: &Mesh) -> Vec<Address> {
    let peers = mesh.peers().list();
    let dialled = peers.iter().filter_map(Peer::get::<DialledAs>);
    let (seeds, others): (Vec<_>, Vec<_>) =
        dialled.partition(|DialledAs(_, source)| *source == Source::SEED);
    let all = others.into_iter().chain(seeds);
    all.map(|DialledAs(address, _)| address).collect()
}

/// Returns the addresses, without identities, at which the connected peers can be dialled.
pub(super) fn connected(mesh: &Mesh) -> Vec<Address> {
    let peers = mesh.peers().list();
    let addresses = peers.iter().flat_map(|peer| {
        let dialled = peer.get::<DialledAs>().map(|DialledAs(address, _)| address);
        [dialled, listening::said_by(peer)]
    });
    addresses
        .flatten()
        .map(|address| address.with_id(None))
        .collect()
}
