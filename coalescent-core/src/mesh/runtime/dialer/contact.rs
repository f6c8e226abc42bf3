//! Dialling contacts, at addresses of this node's own choice and at told ones.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use super::dial::{Dialled, Purpose, dial};
use super::outbound::OutboundTicket;
use super::seed::Seed;
use super::walk::permit_told;
use crate::error::Error;
use crate::mesh::runtime::Runtime;
use crate::node::peer::Peer;
use crate::transport::address::{Address, TCP};

/// How long the dial of a told address waits for its turn: 10 s.
pub(crate) const TURN_WAIT: Duration = Duration::from_secs(10);

impl Runtime {
    /// Connects to an address as to a contact; see [`Mesh::contact`](crate::Mesh::contact). `told`
    /// is where the node is seen that has told the address.
    pub(crate) async fn contact(
        self: &Arc<Self>,
        address: &Address,
        told: Option<Option<IpAddr>>,
    ) -> Result<Peer, Error> {
        self.may_dial(address)?;
        if let Some(known) = address
            .id()
            .and_then(|key| self.peers().node().find_key(&key))
        {
            return Ok(known);
        }
        if told.is_some() && address.scheme() != TCP {
            return Err(Error::refused(format!(
                "{address} is not dialled, since peers tell each other only HOST:PORT"
            )));
        }
        if let (Some(from), Some(there)) = (told, address.ip()) {
            permit_told(from, SocketAddr::new(there, address.port()))?;
        }
        let dialling = Box::pin(self.dial_contact(address, told));
        tokio::select! {
            contact = dialling => contact,
            () = self.stop.cancelled() => Err(Error::ended()),
        }
    }

    async fn dial_contact(
        self: &Arc<Self>,
        address: &Address,
        told: Option<Option<IpAddr>>,
    ) -> Result<Peer, Error> {
        let _turn = match told {
            Some(_) => Some(self.turn(address).await?),
            None => None,
        };
        let ticket = OutboundTicket::new(self.dialer(), address)?;
        let seed = Seed::from(address.clone());
        let purpose = Purpose::Contact {
            seat: ticket.seat(),
            told,
        };
        let dialled = dial(self, &seed, &purpose).await;
        match dialled.result? {
            Dialled::Peer(connected) => {
                let (connection, guard) = *connected;
                let peer = connection.peer().clone();
                self.run(connection, async move { drop((ticket, guard)) });
                Ok(peer)
            }
            Dialled::Already(peer) => Ok(peer),
            Dialled::Claimed(_) => Err(Error::refused(format!("{address} is connected"))),
        }
    }

    /// Waits for the turn of a told address.
    async fn turn(&self, address: &Address) -> Result<SemaphorePermit<'_>, Error> {
        let busy = |_| {
            Error::busy(format!(
                "{address} was not dialled within {TURN_WAIT:?}: this node dials few of the \
                 addresses that it is told at a time; try again later"
            ))
        };
        let turn = timeout(TURN_WAIT, self.dialer().told_turn()).await;
        turn.map_err(busy)?.ok_or_else(Error::ended)
    }
}
