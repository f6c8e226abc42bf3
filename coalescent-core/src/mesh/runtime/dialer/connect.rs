//! What the application asks for: connections, and who is at an address.

use std::sync::Arc;

use super::dial::{Dialled, Purpose, dial, look};
use super::probe::Probe;
use super::seed::Seed;
use crate::error::Error;
use crate::mesh::runtime::Runtime;
use crate::node::peer::Peer;
use crate::transport::address::Address;
use crate::wire::Wire;

impl Runtime {
    /// Connects to a peer; see [`Mesh::connect`](crate::Mesh::connect).
    pub(crate) async fn connect(
        self: &Arc<Self>,
        addr: &str,
        wire: Option<Wire>,
    ) -> Result<Peer, Error> {
        let seed = Seed::parse(addr, wire)?;
        self.transports.dialling(&seed.address)?;
        // The application asks for a connection: one is made even if another leads there already.
        let dialled = tokio::select! {
            dial = dial(self, &seed, &Purpose::Asked) => dial.result?,
            () = self.stop.cancelled() => return Err(Error::closed()),
        };
        let (connection, guard) = match dialled {
            Dialled::Peer(peer) => *peer,
            Dialled::Already(peer) => return asked(peer),
            Dialled::Claimed(_) => return Err(Error::refused(format!("{addr} is connected"))),
        };
        let peer = connection.peer().clone();
        let peer = asked(peer)?;
        let counted = self.dialer.count_unseeded();
        self.run(connection, async move { drop((counted, guard)) });
        Ok(peer)
    }

    /// Asks who is at an address; see [`Mesh::probe`](crate::Mesh::probe).
    pub(crate) async fn probe(&self, address: &Address) -> Result<Probe, Error> {
        self.transports.dialling(address)?;
        let seed = Seed::from(address.clone());
        tokio::select! {
            probe = look(self, &seed) => probe,
            () = self.stop.cancelled() => Err(Error::closed()),
        }
    }
}

/// Makes a peer of a contact, since the application asks for a peer.
fn asked(peer: Peer) -> Result<Peer, Error> {
    if peer.is_contact() {
        peer.promote()?;
    }
    Ok(peer)
}
