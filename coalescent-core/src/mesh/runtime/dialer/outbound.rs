//! What counts the connections that are dialled as contacts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::handle::Dialer;
use super::shared::Shared;
use crate::error::Error;
use crate::node::peer::handle::ConnectionHandle;
use crate::node::peer::seat::{NoPlace, Role, Seat};
use crate::transport::address::Address;

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
    /// Takes a place for a contact that is about to be dialled.
    ///
    /// # Errors
    ///
    /// [`is_busy`](Error::is_busy) if there is none.
    pub(super) fn new(dialer: &Dialer, address: &Address) -> Result<Self, Error> {
        let shared = Arc::clone(dialer.shared());
        shared.reserve_contact().map_err(|limit| {
            Error::busy(format!(
                "{address} was not dialled: {limit} outbound contacts are connected or dialled; let \
                 some go, or raise max_contacts"
            ))
        })?;
        Ok(Self(Arc::new(OutboundSeat {
            shared,
            role: Mutex::new(Some(Role::Contact)),
        })))
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
    fn has_place(&self, _: Role) -> bool {
        // The place of the contact is taken, and for a peer the last word is that of `take`.
        true
    }

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

    fn take_over(&self, role: Role, link: &Arc<ConnectionHandle>) -> Result<(), NoPlace> {
        // A peer is not let go because of who has dialled. Without a place among the peers, it
        // keeps that of a contact.
        let _ = self.take(role, link);
        Ok(())
    }
}

impl Drop for OutboundTicket {
    fn drop(&mut self) {
        if let Some(role) = self.0.role().take() {
            self.0.shared.leave_contact(role);
        }
    }
}
