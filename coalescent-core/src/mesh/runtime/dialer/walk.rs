//! The addresses of one name, one after another, until a peer is found.
//!
//! A transport opens a connection to the first address that accepts it, of those that are
//! permitted. What is at its other end may be no peer: then a [`Walk`] goes on with the addresses
//! that were not used yet.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, io};

use tokio::time::{Instant, sleep_until};

use super::addresses::{is_one_socket, is_within, may_lead_here};
use super::seed::Seed;
use super::self_check::SelfCheck;
use crate::error::{BoxError, Error};
use crate::mesh::runtime::Runtime;
use crate::transport::address::Address;
use crate::transport::group::NetGroup;
use crate::transport::reach;
use crate::transport::{ATTEMPT_DELAY, Connected, Protection, Route, met_itself};

/// How many addresses of one name may accept the connection and turn out to be this node, or an
/// echo of it, before the dial is given up: 16.
const ATTEMPTS: usize = 16;

/// How many addresses of one name may accept the connection and be no peer, or refuse this node,
/// before the dial is given up: 4. The next dial tries these last.
const FAILED_ATTEMPTS: usize = 4;

/// The shortest time for an attempt to connect: 0.5 s. Transports start the attempts at the
/// addresses of a name one [`ATTEMPT_DELAY`] after another, and the next must have started before
/// the time of the last one is over.
const ATTEMPT_MIN: Duration = ATTEMPT_DELAY.saturating_mul(2);

/// An open connection, of which only the addresses of its ends are known.
pub(super) struct Opened {
    pub(super) connected: Connected,
    pub(super) protection: Protection,
    pub(super) there: Option<SocketAddr>,
    /// `None` if the transport does not tell the local address.
    pub(super) self_check: Option<SelfCheck>,
    /// Whether it may lead to this node itself.
    pub(super) may_lead_here: bool,
}

/// A way along the addresses of a name.
pub(super) struct Walk<'a> {
    runtime: &'a Runtime,
    seed: &'a Seed,
    /// The addresses to which a connection was opened.
    tried: Vec<SocketAddr>,
    /// Whether a connection was opened that has no socket address: there is no other to try then.
    opened_other: bool,
    /// How many of them failed, and are neither this node nor an echo.
    failed: usize,
    /// What is reported if no peer is found.
    failure: Option<Error>,
    /// The error to report if this node itself was at one of the addresses.
    pub(super) itself: Option<Error>,
    /// A group of which an address was not used, because another peer of that group is connected.
    full_group: Mutex<Option<NetGroup>>,
    /// Where the peer is that has told the name, if one has.
    told: Option<Option<IpAddr>>,
    /// Whether several addresses of one group may be connected.
    any_group: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(runtime: &'a Runtime, seed: &'a Seed) -> Self {
        Self {
            runtime,
            seed,
            tried: Vec::new(),
            opened_other: false,
            failed: 0,
            failure: None,
            itself: None,
            full_group: Mutex::default(),
            told: None,
            any_group: false,
        }
    }

    /// Has the walk lead to a contact, whose address somebody has told who is at `told`, if
    /// anybody has.
    pub(super) fn for_contact(&mut self, told: Option<Option<IpAddr>>) {
        self.told = told;
        self.any_group = true;
    }

    /// Returns the address to which the last connection was opened.
    pub(super) fn last(&self) -> Option<SocketAddr> {
        self.tried.last().copied()
    }

    pub(super) fn full_group(&self) -> MutexGuard<'_, Option<NetGroup>> {
        let group = self.full_group.lock();
        group.unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a connection to an address that was not used yet. Dead ends are tried last.
    ///
    /// # Errors
    ///
    /// If there is no such address, what was found at the others.
    pub(super) async fn next(&mut self) -> Result<Opened, Error> {
        let address = &self.seed.address;
        let route = self.runtime.transports().dialling(address)?;
        if self.tried.is_empty() && !self.opened_other {
            self.runtime.security().check(address, route.protection)?;
            self.permit_ban(None)?;
            if address.host().is_empty() {
                let security = self.runtime.security();
                security.permit_other(address, route.protection)?;
            }
            if self.is_own() {
                self.found_itself(None);
                self.opened_other = true;
            }
        }
        let over = self.tried.len() >= ATTEMPTS || self.failed >= FAILED_ATTEMPTS;
        let opened = if over || self.opened_other {
            Err(NotOpened::Exhausted)
        } else {
            self.open(route).await
        };
        match opened {
            Ok(opened) if opened.there.is_none() => {
                self.opened_other = true;
                Ok(opened)
            }
            Ok(opened)
                if opened
                    .there
                    .is_some_and(|there| !self.tried.contains(&there)) =>
            {
                self.tried.extend(opened.there);
                Ok(opened)
            }
            Err(NotOpened::Failed(error)) => Err(self.prefer(error)),
            // A transport may not ask which addresses are permitted.
            Ok(_) | Err(NotOpened::Exhausted) => {
                let failure = self.failure.take();
                Err(failure.unwrap_or_else(|| Error::dial(&self.seed.address, skipped())))
            }
        }
    }

    /// Whether the address, which is no socket address, is known to be this node: it is its key, or
    /// the node listens there.
    fn is_own(&self) -> bool {
        let address = &self.seed.address;
        if !address.host().is_empty() {
            return false;
        }
        match address.id() {
            Some(id) => self.runtime.peers().node().key() == Some(id),
            None => self.runtime.addresses().contains(address),
        }
    }

    /// Records that a peer is at an address.
    pub(super) fn found(&self, there: Option<SocketAddr>) {
        if let Some(there) = there {
            self.runtime.dialer().dead_ends().remove(there);
        }
    }

    /// Records that this node itself is at an address.
    pub(super) fn found_itself(&mut self, there: Option<SocketAddr>) {
        let error = || Error::itself(&self.seed.address, shown(there));
        self.itself.get_or_insert_with(error);
        self.skip(there, error());
    }

    /// Records that an echo of this node is at an address.
    pub(super) fn found_echo(&mut self, there: Option<SocketAddr>) {
        self.skip(there, Error::echo(&self.seed.address, shown(there)));
    }

    /// Records that the handshake has failed at an address.
    pub(super) fn failed(&mut self, there: Option<SocketAddr>, error: Error) {
        self.failed += 1;
        if error.is_busy() || error.is_own_ban() {
            self.failure = Some(self.prefer(error));
        } else {
            self.skip(there, error);
        }
    }

    fn skip(&mut self, there: Option<SocketAddr>, error: Error) {
        if let Some(there) = there {
            let mut dead_ends = self.runtime.dialer().dead_ends();
            dead_ends.insert(there, Instant::now());
        }
        self.failure = Some(self.prefer(error));
    }

    /// Returns the more telling error of this one and the last: one that says that a peer is busy,
    /// else one about others than this node.
    fn prefer(&mut self, error: Error) -> Error {
        match self.failure.take() {
            Some(last) if last.is_busy() || (error.is_itself() && !last.is_itself()) => last,
            _ => error,
        }
    }

    async fn open(&self, route: Route<'_>) -> Result<Opened, NotOpened> {
        let now = Instant::now();
        let postponed = Mutex::new(Vec::new());
        let postponed = || postponed.lock().unwrap_or_else(PoisonError::into_inner);
        let choose = |there| {
            if self.tried.contains(&there) {
                return Err(skipped());
            }
            if self.runtime.dialer().dead_ends().contains(there, now) {
                postponed().push(there);
                return Err(skipped());
            }
            Ok(())
        };
        let first = match self.connect(route, &choose).await {
            Ok(opened) => return Ok(opened),
            Err(not_opened) => not_opened,
        };
        let postponed = std::mem::take(&mut *postponed());
        if postponed.is_empty() {
            return Err(first);
        }
        let choose = |there| match postponed.contains(&there) {
            true => Ok(()),
            false => Err(skipped()),
        };
        match (self.connect(route, &choose).await, first) {
            (Err(NotOpened::Exhausted), first) => Err(first),
            (second, _) => second,
        }
    }

    /// Opens a connection to an address that `choose` accepts.
    async fn connect(
        &self,
        route: Route<'_>,
        choose: &(dyn Fn(SocketAddr) -> io::Result<()> + Sync),
    ) -> Result<Opened, NotOpened> {
        let (runtime, address) = (self.runtime, &self.seed.address);
        let Route {
            transport,
            protection,
        } = route;
        let listening = runtime.addrs();
        let self_checks = runtime.dialer().self_checks();
        let dialling = self_checks.dialling();
        let started = Mutex::new(Instant::now());
        let started = || started.lock().unwrap_or_else(PoisonError::into_inner);
        let permit = |there: SocketAddr| {
            choose(there)?;
            let allowed = runtime.security().permit(there, protection);
            allowed.map_err(io::Error::other)?;
            self.permit_ban(Some(there)).map_err(io::Error::other)?;
            if let Some(from) = self.told {
                permit_told(from, there).map_err(io::Error::other)?;
            }
            self.permit_group(there).map_err(io::Error::other)?;
            if may_lead_here(&listening, there) {
                dialling.may_lead_here();
            }
            *started() = Instant::now();
            Ok(())
        };
        let limit = runtime.peers().config().connect_timeout;
        // Each attempt has this time for itself, so it counts from the start of the last one.
        let time = limit.max(ATTEMPT_MIN);
        let mut connecting = pin!(transport.connect(address, &permit));
        let connected = loop {
            let deadline = *started() + time;
            tokio::select! {
                biased;
                connected = &mut connecting => break connected,
                () = sleep_until(deadline) => {}
            }
            if *started() + time <= Instant::now() {
                return Err(NotOpened::Failed(Error::dial_timeout(address, time)));
            }
        };
        let connected = connected.map_err(|error| not_opened(address, error))?;
        let Some(there) = connected.addr else {
            let allowed = runtime.security().permit_other(address, protection);
            allowed.map_err(NotOpened::Failed)?;
            return Ok(Opened {
                connected,
                protection,
                there: None,
                self_check: None,
                may_lead_here: false,
            });
        };
        // A transport may not ask which addresses are permitted.
        let allowed = runtime.security().permit(there, protection);
        allowed.map_err(NotOpened::Failed)?;
        if let Some(from) = self.told {
            permit_told(from, there).map_err(NotOpened::Failed)?;
        }
        let local = transport.local_addr(&connected.io);
        // The built-in transports check this themselves; one of the application's may not.
        if local.is_some_and(|local| is_one_socket(local, there)) {
            return Err(NotOpened::Failed(Error::dial(address, met_itself())));
        }
        self.claim_group(there).map_err(NotOpened::Failed)?;
        Ok(Opened {
            self_check: local.map(|local| self_checks.dialled(local, there)),
            may_lead_here: may_lead_here(&listening, there)
                && local.is_some_and(|local| is_within(local, there)),
            connected,
            protection,
            there: Some(there),
        })
    }

    /// Checks that neither the key that is dialled nor this address is banned.
    fn permit_ban(&self, there: Option<SocketAddr>) -> Result<(), Error> {
        let address = &self.seed.address;
        let ip = there.map(|there| there.ip());
        let node = self.runtime.peers().node();
        match node.banned(address.id(), ip.or(address.ip())) {
            Some(left) => Err(Error::own_ban(left).at(address)),
            None => Ok(()),
        }
    }

    /// Checks that a learned name does not lead to a group of which another learned address is
    /// connected.
    fn permit_group(&self, there: SocketAddr) -> Result<(), Error> {
        let group = NetGroup::of(there.ip()).filter(|_| !self.any_group);
        match group.filter(|group| !self.runtime.dialer().is_free(self.seed, *group)) {
            Some(group) => Err(self.full(group, there)),
            None => Ok(()),
        }
    }

    fn claim_group(&self, there: SocketAddr) -> Result<(), Error> {
        match NetGroup::of(there.ip()).filter(|_| !self.any_group) {
            Some(group) if !self.runtime.dialer().claim_group(self.seed, group) => {
                Err(self.full(group, there))
            }
            _ => Ok(()),
        }
    }

    fn full(&self, group: NetGroup, there: SocketAddr) -> Error {
        *self.full_group() = Some(group);
        Error::refused(format!(
            "{}: {there} waits, since another peer of its network is connected",
            self.seed.address
        ))
    }
}

/// Returns the other end as errors name it.
pub(super) fn shown(there: Option<SocketAddr>) -> String {
    there.map_or_else(|| "the other end".to_owned(), |there| there.to_string())
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

enum NotOpened {
    /// No address is left to try.
    Exhausted,
    Failed(Error),
}

/// The error that makes a transport try another address.
#[derive(Debug)]
struct Skipped;

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no other address is left to try")
    }
}

impl std::error::Error for Skipped {}

fn skipped() -> io::Error {
    io::Error::other(Skipped)
}

fn not_opened(address: &Address, error: io::Error) -> NotOpened {
    if error
        .get_ref()
        .is_some_and(<dyn std::error::Error + Send + Sync>::is::<Skipped>)
    {
        return NotOpened::Exhausted;
    }
    // An error of our own, from `permit`, is returned as it is.
    NotOpened::Failed(match error.downcast::<Error>() {
        Ok(own) => own,
        Err(error) => Error::dial(address, BoxError::from(error)),
    })
}
