//! Which inbound connections are admitted.
//!
//! This module only decides: it has no socket, and is told the time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::eviction::{Held, victim};
use super::refused::{Reason, Refused};
use super::ticket::Ticket;
use crate::node::peer::handle::ConnectionHandle;
use crate::transport::group::{Group, Groups};

/// How long a handshake may last before it can be evicted for a newcomer, if all places for
/// handshakes are taken: 1 s.
///
/// An honest handshake needs a few round trips. One that is meant to occupy the place lasts as long
/// as it is allowed to.
pub(crate) const PENDING_GRACE: Duration = Duration::from_secs(1);

/// How long a contact may last before it can be evicted for a newcomer, if all places for contacts
/// are taken: 10 s.
///
/// Two nodes are contacts while they find out whether they become peers, which takes a few round
/// trips.
pub(crate) const CONTACT_GRACE: Duration = Duration::from_secs(10);

/// How many inbound connections are admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AdmissionLimits {
    /// The number of peers whose handshake is done. Default: 64.
    pub(crate) max_inbound: usize,
    /// The number of connections from one address (for IPv6, one /64), or of one key where there
    /// are no addresses, in their handshake or after it. Loopback is exempt. Default: 8.
    pub(crate) max_per_ip: usize,
    /// The number of connections in their handshake. They do not count towards `max_inbound`, so
    /// connections that stay silent cannot keep peers out. Default: 32.
    pub(crate) max_pending: usize,
    /// The number of contacts, which do not count towards `max_inbound`: 0 if no connection begins
    /// as one. Default: 0.
    pub(crate) max_contacts: usize,
    /// Whether a connection beyond `max_inbound` is admitted to its handshake, since it can be told
    /// only after a part of that; see [`Ticket::check`]. Default: false.
    pub(crate) tell_late: bool,
}

impl Default for AdmissionLimits {
    fn default() -> Self {
        Self {
            max_inbound: 64,
            max_per_ip: 8,
            max_pending: 32,
            max_contacts: 0,
            tell_late: false,
        }
    }
}

/// Counts inbound connections and decides which to admit. Clones share the counts.
///
/// If all places for handshakes are taken, a newcomer evicts the oldest handshake of the address
/// that has most of them (the oldest of all such handshakes, if several addresses tie), provided
/// that
///
/// - the newcomer's address will still have fewer handshakes than that address, so no address can
///   take all the places, or
/// - that handshake has lasted for [`PENDING_GRACE`], so silent connections from many addresses
///   cannot lock others out for the whole handshake timeout.
///
/// Otherwise the newcomer is refused, so that in a rush of honest peers the first ones finish.
///
/// Contacts give way to other contacts by the same rule, after [`CONTACT_GRACE`]. Those that were
/// evicted have to end first: while as many as there are places for have not, no other is.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    pub(super) limits: AdmissionLimits,
    shared: Arc<Mutex<Counts>>,
}

/// The numbers of inbound connections.
#[cfg(test)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inbound {
    pub(crate) pending: usize,
    pub(crate) contacts: usize,
    pub(crate) established: usize,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) established: usize,
    /// In order of arrival.
    pub(super) pending: Vec<Held<Arc<Notify>>>,
    /// In the order in which they became contacts.
    pub(super) contacts: Vec<Held<Weak<ConnectionHandle>>>,
    /// The contacts that were evicted, and have not ended.
    pub(super) ending: usize,
    /// The number of connections of each group, in any state. A group without any has no entry.
    groups: HashMap<Group, usize>,
    next_id: u64,
}

impl Admission {
    /// Makes an admission without any connection.
    pub(crate) fn new(limits: AdmissionLimits) -> Self {
        Self {
            limits,
            shared: Arc::default(),
        }
    }

    /// Admits or refuses a connection that was just accepted.
    ///
    /// Keep the ticket as long as the connection is open: dropping it frees the place.
    ///
    /// # Errors
    ///
    /// Returns the limit that is reached.
    pub(crate) fn admit(&self, groups: impl Into<Groups>, now: Instant) -> Result<Ticket, Refused> {
        let groups: Groups = groups.into();
        let group = groups.all;
        let limits = self.limits;
        let mut counts = self.lock();
        if !limits.tell_late {
            counts.check_any(limits, groups.share, now)?;
        }
        let of_group = counts.groups.get(&group).copied().unwrap_or(0);
        if group.is_limited() && of_group >= limits.max_per_ip {
            return Err(Refused {
                reason: Reason::PerIp,
                limit: limits.max_per_ip,
            });
        }
        if counts.pending.len() >= limits.max_pending && !counts.make_room(groups.share, now) {
            return Err(Refused {
                reason: Reason::Pending,
                limit: limits.max_pending,
            });
        }
        let id = counts.next_id;
        counts.next_id += 1;
        let evicted = Arc::new(Notify::new());
        counts.pending.push(Held {
            id,
            groups,
            since: now,
            handle: Arc::clone(&evicted),
        });
        *counts.groups.entry(group).or_insert(0) += 1;
        drop(counts);
        Ok(Ticket::new(self.clone(), id, groups, evicted))
    }

    /// Returns the current counts.
    #[cfg(test)]
    pub(crate) fn inbound(&self) -> Inbound {
        let counts = self.lock();
        Inbound {
            pending: counts.pending.len(),
            contacts: counts.contacts.len(),
            established: counts.established,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Counts> {
        // No change of the counts can panic halfway.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// Checks whether there is a place for one more connection whose handshake is done.
    pub(super) fn check(&self, limits: AdmissionLimits) -> Result<(), Refused> {
        if self.established < limits.max_inbound {
            return Ok(());
        }
        Err(Refused {
            reason: Reason::Inbound,
            limit: limits.max_inbound,
        })
    }

    /// Checks whether there is a place for one more connection whose handshake is done, be it that
    /// of a peer or that of a contact.
    pub(super) fn check_any(
        &self,
        limits: AdmissionLimits,
        group: Group,
        now: Instant,
    ) -> Result<(), Refused> {
        let full = match self.check(limits) {
            Ok(()) => return Ok(()),
            Err(full) => full,
        };
        let room = limits.max_contacts > 0 && self.contact_room(limits, group, now).is_ok();
        if room { Ok(()) } else { Err(full) }
    }

    /// Evicts a handshake for one from `newcomer`, by the rules in [`Admission`]. Returns `false`
    /// if no handshake may be evicted.
    fn make_room(&mut self, newcomer: Group, now: Instant) -> bool {
        let Some(oldest) = victim(&self.pending, newcomer, PENDING_GRACE, now) else {
            return false;
        };
        let pending = self.pending.remove(oldest);
        self.leave(pending.groups.all);
        pending.handle.notify_one();
        true
    }

    /// Returns the contact that gives way to one more, if one has to.
    pub(super) fn contact_room(
        &self,
        limits: AdmissionLimits,
        newcomer: Group,
        now: Instant,
    ) -> Result<Option<usize>, Refused> {
        let limit = limits.max_contacts;
        if self.contacts.len() < limit {
            return Ok(None);
        }
        // They hold memory until they have ended.
        let oldest = victim(&self.contacts, newcomer, CONTACT_GRACE, now);
        let oldest = oldest.filter(|_| self.ending < limit);
        oldest.map(Some).ok_or(Refused {
            reason: Reason::Contacts,
            limit,
        })
    }

    pub(super) fn leave(&mut self, group: Group) {
        if let Some(count) = self.groups.get_mut(&group) {
            *count -= 1;
            if *count == 0 {
                self.groups.remove(&group);
            }
        }
    }
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
