//! Who may come in, and when to accept again after an error: decisions only.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, io};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::transport::group::Group;

/// How long a connection may be in its handshake before a newcomer may take its place when all are
/// taken.
///
/// An honest handshake needs a few round trips; one that only wants to hold the place takes all the
/// time it is given.
pub(crate) const PENDING_GRACE: Duration = Duration::from_secs(1);

/// How many may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AdmissionLimits {
    /// Peers that have ended their handshake. Default: 64.
    pub(crate) max_inbound: usize,
    /// Connections from one address, in their handshake or after it; of IPv6, from one /64.
    /// Loopback is exempt. Default: 8.
    pub(crate) max_per_ip: usize,
    /// Connections in their handshake. They don't count towards `max_inbound`, so that whoever
    /// connects and is silent can't keep peers out. Default: 32.
    pub(crate) pending_handshakes: usize,
}

impl Default for AdmissionLimits {
    fn default() -> Self {
        Self {
            max_inbound: 64,
            max_per_ip: 8,
            pending_handshakes: 32,
        }
    }
}

/// Counts inbound connections and decides which to take. Clones share the count.
///
/// When all places for handshakes are taken, the oldest handshake of the address that holds most of
/// them (the oldest such, if several do) gives way to a newcomer, provided that either
///
/// - the newcomer's address will still hold fewer than that one, so that no address takes all the
///   places, or
/// - that handshake has lasted for [`PENDING_GRACE`], so that silent connections from many
///   addresses can't lock others out for the whole handshake timeout.
///
/// Otherwise the newcomer is refused: in a rush of honest peers, those that came first get done.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    limits: AdmissionLimits,
    shared: Arc<Mutex<Counts>>,
}

/// How many inbound connections there are.
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
    /// Connections in either state; a group without any has no entry.
    groups: HashMap<Group, usize>,
    next_id: u64,
}

#[derive(Debug)]
struct Pending {
    id: u64,
    group: Group,
    since: Instant,
    evicted: Arc<Notify>,
}

impl Admission {
    /// Makes an empty count.
    pub(crate) fn new(limits: AdmissionLimits) -> Self {
        Self {
            limits,
            shared: Arc::default(),
        }
    }

    /// Decides on a connection that was just accepted. `ip` is absent on transports without
    /// addresses.
    ///
    /// The connection keeps the ticket for as long as it is open: dropping it gives the place back.
    ///
    /// # Errors
    ///
    /// The reason why there is no place.
    pub(crate) fn admit(&self, ip: Option<IpAddr>, now: Instant) -> Result<Ticket, Refused> {
        let group = Group::of(ip);
        let limits = self.limits;
        let mut counts = self.lock();
        if counts.established >= limits.max_inbound {
            return Err(Refused {
                reason: Reason::Inbound,
                limit: limits.max_inbound,
            });
        }
        let of_group = counts.groups.get(&group).copied().unwrap_or(0);
        if group.is_limited() && of_group >= limits.max_per_ip {
            return Err(Refused {
                reason: Reason::PerIp,
                limit: limits.max_per_ip,
            });
        }
        if counts.pending.len() >= limits.pending_handshakes && !counts.make_room(group, now) {
            return Err(Refused {
                reason: Reason::Pending,
                limit: limits.pending_handshakes,
            });
        }
        let id = counts.next_id;
        counts.next_id += 1;
        let evicted = Arc::new(Notify::new());
        counts.pending.push(Pending {
            id,
            group,
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

    /// Returns the present counts.
    #[cfg(test)]
    pub(crate) fn inbound(&self) -> Inbound {
        let counts = self.lock();
        Inbound {
            pending: counts.pending.len(),
            established: counts.established,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Nothing in here panics halfway through a change.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// Evicts a handshake in favor of one from `newcomer`, see [`Admission`]. Returns false if none
    /// has to give way.
    fn make_room(&mut self, newcomer: Group, now: Instant) -> bool {
        let mut held: HashMap<Group, usize> = HashMap::new();
        for pending in &self.pending {
            *held.entry(pending.group).or_insert(0) += 1;
        }
        let most = held.values().copied().max().unwrap_or(0);
        let mine = held.get(&newcomer).copied().unwrap_or(0);
        let greedy = |pending: &Pending| held.get(&pending.group) == Some(&most);
        let Some(oldest) = self.pending.iter().position(greedy) else {
            return false;
        };
        let lasted =
            |pending: &Pending| now.saturating_duration_since(pending.since) >= PENDING_GRACE;
        if mine + 1 >= most && !self.pending.get(oldest).is_some_and(lasted) {
            return false;
        }
        let pending = self.pending.remove(oldest);
        self.leave(pending.group);
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

    /// Takes a handshake out of the list; false if it was evicted.
    fn take_pending(&mut self, id: u64) -> bool {
        let found = self.pending.iter().position(|pending| pending.id == id);
        found.map(|index| self.pending.remove(index)).is_some()
    }
}

/// Holds the place of one inbound connection, and gives it back when dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    admission: Admission,
    id: u64,
    group: Group,
    evicted: Arc<Notify>,
    established: AtomicBool,
}

impl Ticket {
    /// Notes that the handshake has ended well; the connection no longer takes a place for
    /// handshakes. On an established connection this does nothing.
    ///
    /// # Errors
    ///
    /// As many peers as allowed got there before, or the place went to another connection. Close
    /// this one.
    pub(crate) fn establish(&self) -> Result<(), Refused> {
        if self.is_established() {
            return Ok(());
        }
        let limits = self.admission.limits;
        let mut counts = self.admission.lock();
        if !counts.pending.iter().any(|pending| pending.id == self.id) {
            return Err(Refused {
                reason: Reason::Evicted,
                limit: limits.pending_handshakes,
            });
        }
        if counts.established >= limits.max_inbound {
            return Err(Refused {
                reason: Reason::Inbound,
                limit: limits.max_inbound,
            });
        }
        counts.take_pending(self.id);
        counts.established += 1;
        self.established.store(true, Ordering::Relaxed);
        drop(counts);
        Ok(())
    }

    fn is_established(&self) -> bool {
        self.established.load(Ordering::Relaxed)
    }

    /// Waits until this place went to another connection: to be raced with the handshake.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an eviction is kept until it was seen here once.
    pub(crate) async fn evicted(&self) -> Refused {
        self.evicted.notified().await;
        Refused {
            reason: Reason::Evicted,
            limit: self.admission.limits.pending_handshakes,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut counts = self.admission.lock();
        if self.is_established() {
            counts.established -= 1;
        } else if !counts.take_pending(self.id) {
            // An eviction has given the place back.
            return;
        }
        counts.leave(self.group);
    }
}

/// Tells why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    reason: Reason,
    limit: usize,
}

/// The limit that a connection met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum Reason {
    /// `max_inbound` peers are connected.
    Inbound,
    /// `max_per_ip` connections come from its address.
    PerIp,
    /// `pending_handshakes` connections are in their handshake.
    Pending,
    /// Its handshake had to give way to a newcomer's.
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
                    "{limit} connections from one address; raise max_per_ip to take more"
                )
            }
            Reason::Pending => {
                write!(
                    f,
                    "{limit} handshakes under way; raise pending_handshakes to take more"
                )
            }
            Reason::Evicted => write!(
                f,
                "gave way to a newcomer, as {limit} handshakes were under way; raise \
                 pending_handshakes to take more"
            ),
        }
    }
}

impl std::error::Error for Refused {}

/// The pause after the first failure to accept.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause after failures to accept.
pub(crate) const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Decides how long to wait after a failure to accept: 50 ms, doubling to 1 s.
///
/// When file descriptors run out, the connection stays in the queue, and accepting again at once
/// would fail at once.
#[derive(Debug, Default)]
pub(crate) struct AcceptBackoff {
    /// The last pause, if the last thing was one.
    pause: Option<Duration>,
}

impl AcceptBackoff {
    /// Returns the pause after a failure; `None` if it was the matter of one connection, which is
    /// gone from the queue with it, so that the next can be accepted at once.
    pub(crate) fn failed(&mut self, error: &io::Error) -> Option<Duration> {
        if is_of_one_connection(error.kind()) {
            return None;
        }
        let pause = self
            .pause
            .map_or(ACCEPT_PAUSE, |last| (last * 2).min(ACCEPT_PAUSE_MAX));
        self.pause = Some(pause);
        self.pause
    }

    /// Notes that a connection was accepted: the next pause is short again.
    pub(crate) fn succeeded(&mut self) {
        self.pause = None;
    }
}

/// Errors that a connection had before it was accepted. Linux hands those of the network to
/// `accept`, too.
fn is_of_one_connection(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
