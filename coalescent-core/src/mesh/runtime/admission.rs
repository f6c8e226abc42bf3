//! Which inbound connections are admitted.
//!
//! This module only decides: it has no socket, and is told the time.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::transport::group::{Group, Groups};

/// How long a handshake may last before it can be evicted for a newcomer, if all places for
/// handshakes are taken: 1 s.
///
/// An honest handshake needs a few round trips. One that is meant to occupy the place lasts as long
/// as it is allowed to.
pub(crate) const PENDING_GRACE: Duration = Duration::from_secs(1);

/// How many inbound connections are admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AdmissionLimits {
    /// The number of peers whose handshake is done. Default: 64.
    pub(crate) max_inbound: usize,
    /// The number of connections from one address (for IPv6, one /64), or of one key where there are
    /// no addresses, in their handshake or after it. Loopback is exempt. Default: 8.
    pub(crate) max_per_ip: usize,
    /// The number of connections in their handshake. They do not count towards `max_inbound`, so
    /// connections that stay silent cannot keep peers out. Default: 32.
    pub(crate) max_pending: usize,
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
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    limits: AdmissionLimits,
    shared: Arc<Mutex<Counts>>,
}

/// The numbers of inbound connections.
#[cfg(test)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inbound {
    pub(crate) pending: usize,
    pub(crate) established: usize,
}

#[derive(Debug, Default)]
struct Counts {
    established: usize,
    /// In order of arrival.
    pending: Vec<Pending>,
    /// The number of connections of each group, in either state. A group without any has no entry.
    groups: HashMap<Group, usize>,
    next_id: u64,
}

#[derive(Debug)]
struct Pending {
    id: u64,
    groups: Groups,
    since: Instant,
    evicted: Arc<Notify>,
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
            counts.check(limits)?;
        }
        let of_group = counts.groups.get(&group).copied().unwrap_or(0);
        if group.is_limited() && of_group >= limits.max_per_ip {
            return Err(Refused {
                reason: Reason::PerIp,
                limit: limits.max_per_ip,
            });
        }
        if counts.pending.len() >= limits.max_pending && !counts.make_room(groups.pending, now) {
            return Err(Refused {
                reason: Reason::Pending,
                limit: limits.max_pending,
            });
        }
        let id = counts.next_id;
        counts.next_id += 1;
        let evicted = Arc::new(Notify::new());
        counts.pending.push(Pending {
            id,
            groups,
            since: now,
            evicted: Arc::clone(&evicted),
        });
        *counts.groups.entry(group).or_insert(0) += 1;
        drop(counts);
        Ok(Ticket {
            admission: self.clone(),
            id,
            group,
            evicted,
            established: AtomicBool::new(false),
        })
    }

    /// Returns the current counts.
    #[cfg(test)]
    pub(crate) fn inbound(&self) -> Inbound {
        let counts = self.lock();
        Inbound {
            pending: counts.pending.len(),
            established: counts.established,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // No change of the counts can panic halfway.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// Checks whether there is a place for one more connection whose handshake is done.
    fn check(&self, limits: AdmissionLimits) -> Result<(), Refused> {
        if self.established < limits.max_inbound {
            return Ok(());
        }
        Err(Refused {
            reason: Reason::Inbound,
            limit: limits.max_inbound,
        })
    }

    /// Evicts a handshake for one from `newcomer`, by the rules in [`Admission`]. Returns `false`
    /// if no handshake may be evicted.
    fn make_room(&mut self, newcomer: Group, now: Instant) -> bool {
        let mut held: HashMap<Group, usize> = HashMap::new();
        for pending in &self.pending {
            *held.entry(pending.groups.pending).or_insert(0) += 1;
        }
        let most = held.values().copied().max().unwrap_or(0);
        let mine = held.get(&newcomer).copied().unwrap_or(0);
        let greedy = |pending: &Pending| held.get(&pending.groups.pending) == Some(&most);
        let Some(oldest) = self.pending.iter().position(greedy) else {
            return false;
        };
        let lasted =
            |pending: &Pending| now.saturating_duration_since(pending.since) >= PENDING_GRACE;
        if mine + 1 >= most && !self.pending.get(oldest).is_some_and(lasted) {
            return false;
        }
        let pending = self.pending.remove(oldest);
        self.leave(pending.groups.all);
        pending.evicted.notify_one();
        true
    }

    fn leave(&mut self, group: Group) {
        if let Some(count) = self.groups.get_mut(&group) {
            *count -= 1;
            if *count == 0 {
                self.groups.remove(&group);
            }
        }
    }

    /// Removes a handshake from the list. Returns `false` if it was evicted.
    fn take_pending(&mut self, id: u64) -> bool {
        let found = self.pending.iter().position(|pending| pending.id == id);
        found.map(|index| self.pending.remove(index)).is_some()
    }
}

/// The place of one inbound connection, which is freed when this is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    admission: Admission,
    id: u64,
    group: Group,
    evicted: Arc<Notify>,
    established: AtomicBool,
}

impl Ticket {
    /// Notes that the handshake has succeeded, which frees the place for handshakes. Does nothing
    /// if the connection is established already.
    ///
    /// # Errors
    ///
    /// Returns the reason if `max_inbound` peers are connected by now, or if this connection was
    /// evicted. Close it then.
    pub(crate) fn establish(&self) -> Result<(), Refused> {
        if self.is_established() {
            return Ok(());
        }
        let limits = self.admission.limits;
        let mut counts = self.admission.lock();
        if !counts.pending.iter().any(|pending| pending.id == self.id) {
            return Err(Refused {
                reason: Reason::Evicted,
                limit: limits.max_pending,
            });
        }
        counts.check(limits)?;
        counts.take_pending(self.id);
        counts.established += 1;
        self.established.store(true, Ordering::Relaxed);
        drop(counts);
        Ok(())
    }

    /// Checks whether there is a place for this connection now, once its handshake will be done.
    ///
    /// # Errors
    ///
    /// Returns the reason if `max_inbound` peers are connected.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        self.admission.lock().check(self.admission.limits)
    }

    fn is_established(&self) -> bool {
        self.established.load(Ordering::Relaxed)
    }

    /// Waits until this connection is evicted. Race it with the handshake.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an eviction is stored until this returns it once.
    pub(crate) async fn evicted(&self) -> Refused {
        self.evicted.notified().await;
        Refused {
            reason: Reason::Evicted,
            limit: self.admission.limits.max_pending,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut counts = self.admission.lock();
        if self.is_established() {
            counts.established -= 1;
        } else if !counts.take_pending(self.id) {
            // The eviction has freed the place.
            return;
        }
        counts.leave(self.group);
    }
}

/// The reason why a connection was refused, with the limit it met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    reason: Reason,
    limit: usize,
}

/// Which limit a connection met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum Reason {
    /// `max_inbound` peers are connected.
    Inbound,
    /// `max_per_ip` connections come from its address, or of its key.
    PerIp,
    /// `max_pending` connections are in their handshake.
    Pending,
    /// It was evicted for a newcomer while in its handshake.
    Evicted,
}

impl Refused {
    /// Returns the limit that was met.
    pub(crate) fn reason(&self) -> Reason {
        self.reason
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.limit;
        match self.reason {
            Reason::Inbound => {
                write!(
                    f,
                    "{limit} inbound peers are connected; raise max_inbound to take more"
                )
            }
            Reason::PerIp => {
                write!(
                    f,
                    "{limit} connections from one address or key; raise max_per_ip to take more"
                )
            }
            Reason::Pending => {
                write!(
                    f,
                    "{limit} handshakes under way; raise max_pending to take more"
                )
            }
            Reason::Evicted => write!(
                f,
                "gave way to a newcomer, as {limit} handshakes were under way; raise \
                 max_pending to take more"
            ),
        }
    }
}

impl std::error::Error for Refused {}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
