//! Dialling contacts: when a dial may be made, and what counts its connection.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::dial::{Dialled, Purpose, dial};
use super::handle::Shared;
use super::seed::Seed;
use crate::error::Error;
use crate::mesh::runtime::Runtime;
use crate::node::peer::Peer;
use crate::node::peer::handle::ConnectionHandle;
use crate::node::peer::seat::{NoPlace, Role, Seat};
use crate::transport::address::Address;
use crate::transport::reach;

/// How many addresses that others have told are dialled for contacts at a time: 8. So addresses at
/// which nobody answers leave places for dials of this node's own choice.
pub(crate) const TOLD_DIALS: usize = 8;

/// How long the dial of a told address waits for its turn: 10 s.
pub(crate) const TURN_WAIT: Duration = Duration::from_secs(10);

impl Runtime {
    /// Connects to an address as to a contact; see [`Mesh::contact`](crate::Mesh::contact).
    pub(crate) async fn contact(
        self: &Arc<Self>,
        address: &Address,
        from: Option<&Peer>,
    ) -> Result<Peer, Error> {
        self.may_dial(address)?;
        if let Some(known) = address
            .id()
            .and_then(|key| self.peers().node().find_key(key))
        {
            return Ok(known);
        }
        let told = from.map(|from| from.addr().map(|addr| addr.ip()));
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
        let seat = self.dialer().contact_seat(address)?;
        let seed = Seed::from(address.clone());
        let purpose = Purpose::Contact {
            seat: seat.seat(),
            told,
        };
        let dialled = dial(self, &seed, &purpose).await;
        match dialled.result? {
            Dialled::Peer(connected) => {
                let (connection, guard) = *connected;
                let peer = connection.peer().clone();
                self.run(connection, async move { drop((seat, guard)) });
                Ok(peer)
            }
            Dialled::Already(peer) => Ok(peer),
            Dialled::Claimed(_) => Err(Error::refused(format!("{address} is connected"))),
        }
    }

    /// Waits for the turn of a told address.
    async fn turn(&self, address: &Address) -> Result<tokio::sync::SemaphorePermit<'_>, Error> {
        let deadline = Instant::now() + TURN_WAIT;
        let turn = async {
            let permit = self.dialer().told_dials().acquire().await;
            self.dialer().afford().await;
            permit.map_err(|_| Error::ended())
        };
        timeout_at(deadline, turn).await.map_err(|_| {
            Error::busy(format!(
                "{address} was not dialled within {TURN_WAIT:?}: this node dials few of the \
                 addresses that it is told at a time; try again later"
            ))
        })?
    }
}

/// Checks that an address may be dialled which a peer has told that is at `from`.
///
/// # Errors
///
/// [`is_refused`](Error::is_refused) if it is one of this machine or of a private network, and the
/// peer is at none.
pub(super) fn permit_told(from: Option<IpAddr>, there: SocketAddr) -> Result<(), Error> {
    if reach::may_tell(from, there.ip()) {
        return Ok(());
    }
    Err(Error::refused(format!(
        "{there} is not dialled, since somebody has told it who is not as near"
    )))
}

/// Counts one outbound connection, first as a contact. The place is freed when this is dropped.
#[derive(Debug)]
pub(super) struct OutboundTicket(Arc<OutboundSeat>);

#[derive(Debug)]
struct OutboundSeat {
    shared: Arc<Shared>,
    /// What the connection is counted as; `None` once it has ended. Locked before the plan.
    role: Mutex<Option<Role>>,
}

impl OutboundTicket {
    /// Counts a contact that is about to be dialled.
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::new(OutboundSeat {
            shared: Arc::clone(shared),
            role: Mutex::new(Some(Role::Contact)),
        }))
    }

    pub(super) fn seat(&self) -> Arc<dyn Seat> {
        Arc::clone(&self.0) as Arc<dyn Seat>
    }
}

impl OutboundSeat {
    fn role(&self) -> MutexGuard<'_, Option<Role>> {
        self.role.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat for OutboundSeat {
    fn take(&self, role: Role, _: &Arc<ConnectionHandle>) -> Result<(), NoPlace> {
        let mut counted = self.role();
        match (*counted, role) {
            (None, _) => Err(NoPlace),
            (Some(Role::Peer), _) | (_, Role::Contact) => Ok(()),
            (Some(Role::Contact), Role::Peer) if self.shared.promote_contact() => {
                *counted = Some(Role::Peer);
                Ok(())
            }
            (Some(Role::Contact), Role::Peer) => Err(NoPlace),
        }
    }
}

impl Drop for OutboundTicket {
    fn drop(&mut self) {
        if let Some(role) = self.0.role().take() {
            self.0.shared.leave_contact(role);
        }
    }
}

/// Waits until `next` has the time come.
pub(super) async fn until_affordable(mut take: impl FnMut(Instant) -> Option<Instant>) {
    while let Some(at) = take(Instant::now()) {
        sleep_until(at).await;
    }
}
