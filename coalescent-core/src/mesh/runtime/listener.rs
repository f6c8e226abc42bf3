//! Accepting peers.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Runtime;
use super::accept_backoff::AcceptBackoff;
use super::dialer::{Here, SelfCheck};
use super::entrance::{Bound, Entrance, local_addr};
use super::newcomer::{Entered, Entry, Newcomer, is_without_node_numbers};
use super::refused::{Reason, Refused};
use super::ticket::Ticket;
use crate::connection::turn_away;
use crate::error::Error;
use crate::node::Refusal;
use crate::node::event::Event;
use crate::node::peer::Peer;
use crate::reason::Goodbye;
use crate::transport::address::Address;
use crate::transport::group::{Group, Groups};
use crate::transport::{
    BoxIo, IntoListener, Io, Listener, Protection, Whence, no_address, tune_tcp,
};
use crate::wire::Wire;

/// Why a connection of this node to itself is refused.
const MYSELF: &str = "the connection leads to this node itself";

/// How long a newcomer from this machine waits for a place in the handshake before it is refused:
/// 1.5 s. Meanwhile other newcomers wait in the kernel's queue.
const LOCAL_WAIT: Duration = Duration::from_millis(1500);

/// How often a waiting newcomer looks for a place.
const LOCAL_RETRY: Duration = Duration::from_millis(5);

impl Runtime {
    /// Accepts peers at all addresses of `addr`, in tasks of their own. Returns the first address.
    pub(crate) async fn listen(
        self: &Arc<Self>,
        addr: &str,
        wire: Option<Wire>,
    ) -> Result<Address, Error> {
        if self.stop.is_cancelled() {
            return Err(Error::closed());
        }
        let failed = |error| Error::listen(addr, error);
        let (route, text) = self.transports.listening(addr)?;
        let protection = route.protection;
        let listeners = route.transport.listen_all(text).await.map_err(failed)?;
        let mut all = Vec::with_capacity(listeners.len());
        for listener in listeners {
            let bound = Bound::of(&*listener).map_err(failed)?;
            self.permit_bound(&bound, protection)?;
            all.push((listener, bound));
        }
        let first = all.first().map(|(_, bound)| bound.address.clone());
        for (listener, bound) in all {
            self.accept_at(bound, protection, listener, wire.clone());
        }
        first.ok_or_else(|| failed(no_address()))
    }

    /// Accepts peers at a socket that listens already, in a task of its own.
    pub(crate) fn listen_on(
        self: &Arc<Self>,
        listener: impl IntoListener,
        wire: Option<Wire>,
    ) -> Result<Address, Error> {
        if self.stop.is_cancelled() {
            return Err(Error::ended());
        }
        let failed = |error| Error::listen("the given socket", error);
        let listener = listener.into_listener().map_err(failed)?;
        let bound = Bound::of(&*listener).map_err(failed)?;
        let protection = self.transports.protection_of_given(&bound.address);
        self.permit_bound(&bound, protection)?;
        let address = bound.address.clone();
        self.accept_at(bound, protection, listener, wire);
        Ok(address)
    }

    /// Accepts peers where `listener` is bound, in a task of its own.
    fn accept_at(
        self: &Arc<Self>,
        bound: Bound,
        protection: Protection,
        listener: Box<dyn Listener>,
        wire: Option<Wire>,
    ) {
        let entrance = Entrance::new(bound.clone(), protection);
        let addr = bound.address.clone();
        self.listening().push(bound);
        self.peers.node().emit(Event::Listening { addr });
        self.spawn(run(Arc::clone(self), listener, entrance, wire));
    }

    /// Takes a place for a connection from `addr`; see [`Mesh::admit`](crate::Mesh::admit).
    pub(crate) async fn admit(self: &Arc<Self>, addr: SocketAddr) -> Result<Admitted, Error> {
        if self.stop.is_cancelled() {
            return Err(Error::ended());
        }
        let protection = Protection::Plain;
        self.security.check_list(addr, protection)?;
        self.security.permit(addr, protection)?;
        if let Some(left) = self.peers.node().banned(None, Some(addr.ip())) {
            return Err(Error::own_ban(left).at(addr));
        }
        let admitted = admit(self, Group::of(Some(addr.ip())).into(), is_loopback(addr)).await;
        let ticket = admitted.map_err(|refused| Error::refused(format!("{addr}: {refused}")))?;
        Ok(Admitted {
            runtime: Arc::clone(self),
            addr,
            ticket,
            wire: None,
        })
    }

    /// Tells whoever is at the other end of an accepted connection why it is refused, if that takes
    /// no TLS handshake.
    fn turn_away_plain(
        &self,
        io: BoxIo,
        protection: Protection,
        wire: Option<&Wire>,
        words: &Goodbye,
    ) {
        if !self.security.encrypts(protection) {
            turn_away(io, wire.unwrap_or(&self.peers.config().wire), words);
        }
    }
}

/// A place for a connection that was accepted elsewhere, from [`Mesh::admit`](crate::Mesh::admit).
/// Dropping it gives the place back.
#[must_use = "the place is given back when this is dropped"]
pub struct Admitted {
    runtime: Arc<Runtime>,
    addr: SocketAddr,
    ticket: Ticket,
    wire: Option<Wire>,
}

impl Admitted {
    /// Sets another wire than the app's.
    pub fn wire(mut self, wire: Wire) -> Self {
        self.wire = Some(wire);
        self
    }

    /// Makes a peer of the connection for which the place was taken; see
    /// [`Mesh::accept`](crate::Mesh::accept).
    ///
    /// # Errors
    ///
    /// Those of [`Mesh::accept`](crate::Mesh::accept).
    ///
    /// # Cancel safety
    ///
    /// As for [`Mesh::accept`](crate::Mesh::accept).
    pub async fn accept(self, io: impl Io) -> Result<Peer, Error> {
        let addr = self.addr;
        let (runtime, newcomer) = self.newcomer(Box::new(io));
        // Boxed, so that the caller's future does not reserve space for the handshake.
        let entering = Box::pin(newcomer.enter(&runtime));
        let entered = tokio::select! {
            () = runtime.stop.cancelled() => return Err(Error::ended()),
            entered = entering => entered,
        };
        match entered {
            Entry::Entered(entered) => Ok(run_entered(&runtime, *entered)),
            Entry::Myself => Err(Error::refused(MYSELF)),
            Entry::Already => Err(Error::refused(Refusal::AlreadyConnected.words())),
            Entry::Failed(error) => Err(error.at(addr)),
        }
    }

    /// Makes a peer of the connection, like [`accept`](Admitted::accept), where nobody waits for
    /// the result. Why it becomes none is reported as for a connection that the app's own listener
    /// has accepted: as an [event](Event::Error) and in the log, which strangers cannot flood.
    ///
    /// # Cancel safety
    ///
    /// As for [`Mesh::accept`](crate::Mesh::accept).
    pub async fn accept_or_report(self, io: impl Io) -> Option<Peer> {
        let (runtime, newcomer) = self.newcomer(Box::new(io));
        let entering = Box::pin(newcomer.enter_or_report(&runtime));
        let entered = tokio::select! {
            () = runtime.stop.cancelled() => None,
            entered = entering => entered,
        };
        entered.map(|entered| run_entered(&runtime, *entered))
    }

    fn newcomer(self, io: BoxIo) -> (Arc<Runtime>, Newcomer) {
        tune_tcp(&*io);
        let self_checks = self.runtime.dialer().self_checks();
        let here = here(&self.runtime, local_addr(&*io), self.wire.as_ref());
        let self_check = self_checks.accepted(self.addr, here);
        let newcomer = Newcomer {
            io,
            whence: Whence::at(self.addr),
            protection: Protection::Plain,
            is_local: is_loopback(self.addr),
            self_check: Some(self_check),
            ticket: self.ticket,
            wire: self.wire,
        };
        (self.runtime, newcomer)
    }
}

/// Says where a newcomer on `wire` was accepted.
fn here(runtime: &Runtime, addr: Option<SocketAddr>, wire: Option<&Wire>) -> Here {
    Here::new(addr, !is_without_node_numbers(runtime, wire))
}

/// Runs the connection of a newcomer in a task of its own, and returns its peer.
fn run_entered(runtime: &Arc<Runtime>, entered: Entered) -> Peer {
    let peer = entered.connection.peer().clone();
    runtime.tasks().spawn(entered.run(runtime));
    peer
}

impl fmt::Debug for Admitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

/// Accepts connections until it is dropped.
async fn run(
    runtime: Arc<Runtime>,
    mut listener: Box<dyn Listener>,
    entrance: Entrance,
    wire: Option<Wire>,
) {
    let protection = entrance.protection;
    let mut backoff = AcceptBackoff::default();
    runtime.started.cancelled().await;
    loop {
        let connected = match listener.accept().await {
            Ok(connected) => connected,
            Err(error) => {
                if let Some(pause) = backoff.failed(&error) {
                    runtime.peers().node().error(None, Error::accept(error));
                    tokio::time::sleep(pause).await;
                }
                continue;
            }
        };
        backoff.succeeded();
        let whence = entrance.whence(&connected);
        let here = here(&runtime, entrance.local_addr(&connected), wire.as_ref());
        let io = connected.io;
        let node = runtime.peers().node();
        // First of all: who is banned costs nothing more than this.
        if node.banned(whence.key, whence.ip()).is_some() {
            node.refused_banned(&whence);
            runtime.turn_away_plain(io, protection, wire.as_ref(), &Goodbye::BANNED);
            continue;
        }
        let self_checks = runtime.dialer().self_checks();
        let self_check = whence.addr.map(|addr| self_checks.accepted(addr, here));
        if self_check.as_ref().is_some_and(SelfCheck::is_itself) {
            // The side that has dialled reports it.
            tracing::debug!(addr = %whence, "this node dialled itself");
            continue;
        }
        let is_local = entrance.is_local(&whence);
        match admit(&runtime, entrance.groups(&whence), is_local).await {
            Ok(ticket) => {
                let newcomer = Newcomer {
                    io,
                    whence,
                    protection,
                    is_local,
                    self_check,
                    ticket,
                    wire: wire.clone(),
                };
                runtime.tasks().spawn(newcomer.serve(Arc::clone(&runtime)));
            }
            Err(refused) => {
                let error = Error::refused(format!("{whence}: {refused}"));
                node.error_at(&whence, error);
                runtime.turn_away_plain(io, protection, wire.as_ref(), &Goodbye::BUSY);
            }
        }
    }
}

/// Admits or refuses a newcomer. One from this machine waits for a place in the handshake.
async fn admit(runtime: &Runtime, groups: Groups, is_local: bool) -> Result<Ticket, Refused> {
    let deadline = Instant::now() + LOCAL_WAIT;
    loop {
        let now = Instant::now();
        match runtime.admission().admit(groups, now) {
            Err(refused) if refused.reason() == Reason::Pending && is_local && now < deadline => {
                tokio::time::sleep(LOCAL_RETRY).await;
            }
            result => return result,
        }
    }
}

fn is_loopback(addr: SocketAddr) -> bool {
    addr.ip().to_canonical().is_loopback()
}
