//! The place of one inbound connection, from its handshake to its end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::admission::Admission;
use super::eviction::Held;
use super::refused::{Reason, Refused};
use crate::node::peer::handle::ConnectionHandle;
use crate::node::peer::seat::{NoPlace, Role, Seat};
use crate::reason::{DisconnectReason, Goodbye};
use crate::transport::group::Groups;

/// The place of one inbound connection, which is freed when this is dropped.
#[derive(Debug)]
pub(crate) struct Ticket(pub(super) Arc<TicketSeat>);

/// What counts the connection of a ticket.
#[derive(Debug)]
pub(super) struct TicketSeat {
    admission: Admission,
    pub(super) id: u64,
    groups: Groups,
    evicted: Arc<Notify>,
    /// Locked before the counts.
    state: Mutex<State>,
}

/// What the connection of a ticket is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// In its handshake, unless it was evicted.
    Pending,
    /// As a contact, unless it was evicted.
    Contact,
    Established,
    /// As nothing: it has ended.
    Left,
}

impl Ticket {
    pub(super) fn new(admission: Admission, id: u64, groups: Groups, evicted: Arc<Notify>) -> Self {
        Self(Arc::new(TicketSeat {
            admission,
            id,
            groups,
            evicted,
            state: Mutex::new(State::Pending),
        }))
    }

    /// Returns what counts the connection, as a contact or as a peer.
    pub(crate) fn seat(&self) -> Arc<dyn Seat> {
        Arc::clone(&self.0) as Arc<dyn Seat>
    }

    /// Checks whether there is a place for this connection now, once its handshake will be done.
    ///
    /// # Errors
    ///
    /// Returns the reason if `max_inbound` peers are connected, and it cannot be a contact either.
    pub(crate) fn check(&self, now: Instant) -> Result<(), Refused> {
        let TicketSeat {
            admission, groups, ..
        } = &*self.0;
        let counts = admission.lock();
        counts.check_any(admission.limits, groups.share, now)
    }

    /// Waits until this connection is evicted from its handshake. Race it with the handshake.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an eviction is stored until this returns it once.
    pub(crate) async fn evicted(&self) -> Refused {
        self.0.evicted.notified().await;
        self.0.was_evicted()
    }
}

impl TicketSeat {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn was_evicted(&self) -> Refused {
        Refused {
            reason: Reason::Evicted,
            limit: self.admission.limits.max_pending,
        }
    }

    /// Notes that the connection has become one of a peer, which frees its place for handshakes or
    /// contacts. Does nothing if it is one already.
    ///
    /// # Errors
    ///
    /// Returns the reason if `max_inbound` peers are connected by now, or if this connection was
    /// evicted. Close it then.
    pub(super) fn establish(&self) -> Result<(), Refused> {
        let mut state = self.state();
        let mut counts = self.admission.lock();
        let here = match *state {
            State::Established => return Ok(()),
            State::Pending => counts.pending.iter().any(|place| place.id == self.id),
            State::Contact => counts.contacts.iter().any(|place| place.id == self.id),
            State::Left => false,
        };
        if !here {
            return Err(self.was_evicted());
        }
        counts.check(self.admission.limits)?;
        match *state {
            State::Pending => take(&mut counts.pending, self.id),
            _ => take(&mut counts.contacts, self.id),
        };
        counts.established += 1;
        *state = State::Established;
        Ok(())
    }

    /// Notes that the handshake has succeeded, with a contact. Does nothing to one that is a
    /// contact or a peer already. Returns the contact that gives way: end it. One that `takes_over`
    /// from an outbound connection to the same contact has a place even if all are taken, up to
    /// twice as many.
    ///
    /// # Errors
    ///
    /// Returns the reason if there is no place for one more contact, or if this connection was
    /// evicted. Close it then.
    pub(super) fn meet(
        &self,
        link: &Arc<ConnectionHandle>,
        takes_over: bool,
        now: Instant,
    ) -> Result<Option<Arc<ConnectionHandle>>, Refused> {
        let mut state = self.state();
        let mut counts = self.admission.lock();
        match *state {
            State::Established | State::Contact => return Ok(None),
            State::Pending if counts.pending.iter().any(|place| place.id == self.id) => {}
            State::Pending | State::Left => return Err(self.was_evicted()),
        }
        let limits = self.admission.limits;
        let more = takes_over && counts.contacts.len() < limits.max_contacts.saturating_mul(2);
        let gives_way = match more {
            true => None,
            false => counts.contact_room(limits, self.groups.share, now)?,
        };
        let evicted = gives_way.map(|oldest| counts.contacts.remove(oldest));
        counts.ending += usize::from(evicted.is_some());
        take(&mut counts.pending, self.id);
        counts.contacts.push(Held {
            id: self.id,
            groups: self.groups,
            since: now,
            handle: Arc::downgrade(link),
        });
        *state = State::Contact;
        Ok(evicted.and_then(|evicted| evicted.handle.upgrade()))
    }

    /// Counts the connection in this role, and ends the contact that gives way for it.
    fn enter(
        &self,
        role: Role,
        link: &Arc<ConnectionHandle>,
        takes_over: bool,
    ) -> Result<(), NoPlace> {
        if role == Role::Peer {
            return self.establish().map_err(|_| NoPlace);
        }
        let met = self.meet(link, takes_over, Instant::now());
        if let Some(evicted) = met.map_err(|_| NoPlace)? {
            evicted.reject(DisconnectReason::Disconnected(Goodbye::BUSY.into()));
        }
        Ok(())
    }

    /// Frees the place.
    fn leave(&self) {
        let state = std::mem::replace(&mut *self.state(), State::Left);
        let mut counts = self.admission.lock();
        match state {
            State::Pending if !take(&mut counts.pending, self.id) => {
                // The eviction has freed the place.
                return;
            }
            State::Contact if !take(&mut counts.contacts, self.id) => counts.ending -= 1,
            State::Established => counts.established -= 1,
            State::Left => return,
            State::Pending | State::Contact => {}
        }
        counts.leave(self.groups.all);
    }
}

impl Seat for TicketSeat {
    fn has_place(&self, role: Role) -> bool {
        let counts = self.admission.lock();
        let limits = self.admission.limits;
        match role {
            Role::Peer => counts.check(limits).is_ok(),
            Role::Contact => counts
                .contact_room(limits, self.groups.share, Instant::now())
                .is_ok(),
        }
    }

    fn take(&self, role: Role, link: &Arc<ConnectionHandle>) -> Result<(), NoPlace> {
        self.enter(role, link, false)
    }

    fn take_over(&self, role: Role, link: &Arc<ConnectionHandle>) -> Result<(), NoPlace> {
        self.enter(role, link, true)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Removes the place of a connection. Returns `false` if it was evicted.
fn take<H>(held: &mut Vec<Held<H>>, id: u64) -> bool {
    let found = held.iter().position(|place| place.id == id);
    found.map(|index| held.remove(index)).is_some()
}
