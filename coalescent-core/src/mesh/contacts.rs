//! Connections that a plugin begins, which are no peers yet.

use std::net::IpAddr;

use super::Mesh;
use crate::error::Error;
use crate::node::peer::Peer;
use crate::transport::address::Address;

impl Mesh {
    /// Returns the addresses of the seeds, in the order in which they were added.
    #[must_use]
    pub fn seeds(&self) -> Vec<Address> {
        self.runtime().dialer().seeds()
    }

    /// Connects to an address as to a [contact](Peer::is_contact), once. If the node there is
    /// connected already, this returns that contact or peer. If it lists none of the channels of
    /// [`Registrar::contacts`](crate::Registrar::contacts), it becomes an ordinary peer.
    ///
    /// The dial counts towards [`Config::max_contacts`](crate::Config::max_contacts) until it has
    /// failed, the contact has ended, or it is [promoted](Peer::promote); then it counts towards
    /// [`Config::max_peers`](crate::Config::max_peers), beside those whom this node dials to fill
    /// its places.
    ///
    /// # Told addresses
    ///
    /// `from` is the peer that has told the address, and `None` for one of this node's own choice,
    /// such as a seed. A told address is dialled within the same budget as
    /// [suggestions](Mesh::suggest), one a second and 8 after a quiet time, and by at most half as
    /// many dials at a time as there are places for contacts. This waits for its turn for at most
    /// 10 s. Who is on the internet is believed about the internet alone: no loopback, private or
    /// link-local address is taken from it, whatever the name resolves to; and who is in a private
    /// network, about no loopback address.
    ///
    /// ```
    /// # use coalescent::{Address, App, Error, Mesh};
    /// async fn contact_seeds(mesh: &Mesh) {
    ///     for seed in mesh.seeds() {
    ///         match mesh.contact(&seed, None).await {
    ///             Ok(peer) if peer.is_contact() => println!("{seed} knows the channel"),
    ///             Ok(_) => println!("{seed} is an ordinary peer"),
    ///             Err(error) if error.is_busy() => println!("{seed} has no place: later"),
    ///             Err(error) => println!("{}", error.report()),
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`is_busy`](Error::is_busy) if this node has no place for one more outbound contact, a
    ///   told address has not had its turn, or the other side is busy: try again later. A node
    ///   whose last place is taken at this very moment says so only after its introduction: then
    ///   this returns the contact, which ends with a
    ///   [reason that is busy](crate::DisconnectReason::is_busy).
    /// - [`is_refused`](Error::is_refused), and not busy, if somebody has told the address who is
    ///   not believed about it, or the node there is an ordinary peer and `max_peers` is reached.
    /// - Those of [`connect`](Mesh::connect).
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the dial is abandoned. A connection that is already made stays.
    pub async fn contact(&self, address: &Address, from: Option<&Peer>) -> Result<Peer, Error> {
        let told = from.map(|from| from.addr().map(|addr| addr.ip()));
        self.runtime().contact(address, told).await
    }

    /// Connects as [`contact`](Mesh::contact) does, to an address that somebody has told who need
    /// not be connected any more. `teller` is where that node was seen; `None` if its transport has
    /// no addresses.
    ///
    /// # Errors
    ///
    /// Those of [`contact`](Mesh::contact).
    ///
    /// # Cancel safety
    ///
    /// That of [`contact`](Mesh::contact).
    pub async fn contact_told(
        &self,
        address: &Address,
        teller: Option<IpAddr>,
    ) -> Result<Peer, Error> {
        self.runtime().contact(address, Some(teller)).await
    }
}
