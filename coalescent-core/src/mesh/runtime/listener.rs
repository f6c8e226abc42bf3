//! Accepting peers.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Runtime;
use super::accept_backoff::AcceptBackoff;
use super::admission::{Reason, Refused, Ticket};
use super::dialer::{SelfCheck, is_within};
use super::entrance::{Bound, Entrance};
use super::security::NOT_ALLOWED;
use crate::connection::{Connection, ConnectionInfo, Established, establish, turn_away};
use crate::error::Error;
use crate::node::Refusal;
use crate::node::event::Event;
use crate::node::peer::{Peer, PeerId};
use crate::reason::Goodbye;
use crate::transport::address::Address;
use crate::transport::group::{Group, Groups};
use crate::transport::{
    BoxIo, IntoListener, Io, Listener, Protection, Whence, no_address, tcp_stream, tune_tcp,
};
use crate::wire::Wire;

/// Why a connection of this node to itself is refused.
const MYSELF: &str = "the connection leads to this node itself";

/// How long a newcomer from this machine waits for a place in the handshake before it is refused:
/// 1.5 s. Meanwhile other newcomers wait in the kernel's queue.
const LOCAL_WAIT: Duration = Duration::from_millis(1500);

/// How often a waiting newcomer looks for a place.
const LOCAL_RETRY: Duration = Duration::from_millis(5);

/// How long a newcomer from this machine, on a wire without node numbers, waits until it is known
/// whether this node itself has dialled it: 250 ms.
const OWN_WAIT: Duration = Duration::from_millis(250);

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
        // One of a scheme that the app has no transport for is taken for one that secures nothing.
        let route = self.transports.get(bound.address.scheme());
        let protection = route.map_or(Protection::Plain, |route| route.protection);
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
        let address = bound.address.clone();
        self.listening().push(bound);
        self.peers.node().emit(Event::Listening {
            addr: address.clone(),
        });
        let entrance = Entrance::new(address, protection);
        self.spawn(run(Arc::clone(self), listener, entrance, wire));
    }

    /// Takes a place for a connection from `addr`; see [`Mesh::admit`](crate::Mesh::admit).
    pub(crate) async fn admit(self: &Arc<Self>, addr: SocketAddr) -> Result<Admitted, Error> {
        if self.stop.is_cancelled() {
            return Err(Error::ended());
        }
        let protection = Protection::Plain;
        self.security.permit(addr, protection)?;
        if let Some(left) = self.peers.node().banned(None, Some(addr.ip())) {
            return Err(Error::own_ban(left).at(addr));
        }
        let self_check = self.dialer().self_checks().accepted(addr);
        if self_check.is_itself() {
            return Err(Error::refused(MYSELF));
        }
        let admitted = admit(self, Group::of(Some(addr.ip())).into(), is_loopback(addr)).await;
        let ticket = admitted.map_err(|refused| Error::refused(format!("{addr}: {refused}")))?;
        Ok(Admitted {
            runtime: Arc::clone(self),
            addr,
            self_check,
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
    self_check: SelfCheck,
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
        let Self {
            runtime,
            addr,
            self_check,
            ticket,
            wire,
        } = self;
        let io: BoxIo = Box::new(io);
        tune_tcp(&*io);
        let newcomer = Newcomer {
            io,
            whence: Whence::at(addr),
            protection: Protection::Plain,
            is_local: is_loopback(addr),
            self_check: Some(self_check),
            ticket,
            wire,
        };
        // Boxed, so that the caller's future does not reserve space for the handshake.
        let entering = Box::pin(newcomer.enter(&runtime));
        let entered = tokio::select! {
            () = runtime.stop.cancelled() => return Err(Error::ended()),
            entered = entering => entered,
        };
        let entered = match entered {
            Entry::Entered(entered) => entered,
            Entry::Myself => return Err(Error::refused(MYSELF)),
            Entry::Already => return Err(Error::refused(Refusal::AlreadyConnected.words())),
            Entry::Failed(error) => return Err(error.at(addr)),
        };
        let peer = entered.connection.peer().clone();
        runtime.tasks.spawn(entered.run(&runtime));
        Ok(peer)
    }
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
        let io = connected.io;
        let node = runtime.peers().node();
        // First of all: who is banned costs nothing more than this.
        if node.banned(whence.key.as_ref(), whence.ip()).is_some() {
            node.refused_banned(&whence);
            runtime.turn_away_plain(io, protection, wire.as_ref(), &Goodbye::BANNED);
            continue;
        }
        let self_checks = runtime.dialer().self_checks();
        let self_check = whence.addr.map(|addr| self_checks.accepted(addr));
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
                runtime.tasks.spawn(newcomer.serve(Arc::clone(&runtime)));
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

/// An admitted connection whose handshake has not begun.
struct Newcomer {
    io: BoxIo,
    whence: Whence,
    protection: Protection,
    /// Whether it comes from this machine, as far as its address tells.
    is_local: bool,
    /// `None` if it has no address to be known by.
    self_check: Option<SelfCheck>,
    ticket: Ticket,
    wire: Option<Wire>,
}

impl Newcomer {
    /// Performs the handshake, and runs the connection.
    fn serve(self, runtime: Arc<Runtime>) -> impl Future<Output = ()> + Send + 'static {
        let entering = Box::pin({
            let runtime = Arc::clone(&runtime);
            async move {
                tokio::select! {
                    () = runtime.stop.cancelled() => None,
                    entered = self.enter_or_report(&runtime) => entered,
                }
            }
        });
        async move {
            // This frees the memory of the handshake before the connection takes its own. With
            // both at once, each of thousands of connections leaves a hole that nothing fills.
            let entered = entering.await;
            if let Some(entered) = entered {
                entered.run(&runtime).await;
            }
        }
    }

    /// Performs the handshake, and reports a failure.
    async fn enter_or_report(self, runtime: &Runtime) -> Option<Box<Entered>> {
        let whence = self.whence.clone();
        let node = runtime.peers().node();
        match self.enter(runtime).await {
            Entry::Entered(entered) => return Some(entered),
            // The dialling side knows, and reports it.
            Entry::Myself | Entry::Already => {}
            // A health check, for example.
            Entry::Failed(error) if error.is_unsaid() => node.went_silently(&whence),
            Entry::Failed(error) if error.is_own_ban() => node.refused_banned(&whence),
            Entry::Failed(error) => node.error_at(&whence, error.at(&whence)),
        }
        None
    }

    /// Performs the handshake.
    async fn enter(self, runtime: &Runtime) -> Entry {
        if is_without_node_numbers(runtime, self.wire.as_ref())
            && let Some(self_check) = &self.self_check
            && self.is_from_this_machine()
        {
            // On a timeout the dialling side finds out, and closes the connection.
            let _ = tokio::time::timeout(OWN_WAIT, self_check.settled()).await;
            if self_check.is_itself() {
                return Entry::Myself;
            }
        }
        let Self {
            io,
            whence,
            protection,
            self_check,
            ticket,
            wire,
            is_local: _,
        } = self;
        let entered = tokio::select! {
            entered = introduce(runtime, io, whence, protection, wire, &ticket) => entered,
            refused = ticket.evicted() => Err(Error::refused(refused.to_string())),
        };
        match entered {
            Ok(Established::Connected(connection)) => Entry::Entered(Box::new(Entered {
                connection,
                ticket,
                self_check,
            })),
            Ok(Established::Myself) => Entry::Myself,
            Ok(Established::Already(_)) => Entry::Already,
            Err(_) if self_check.as_ref().is_some_and(SelfCheck::is_itself) => Entry::Myself,
            Err(error) => Entry::Failed(error),
        }
    }

    /// Whether it is on this machine, as far as the addresses of both ends tell.
    fn is_from_this_machine(&self) -> bool {
        let local = tcp_stream(&*self.io).and_then(|stream| stream.local_addr().ok());
        match (local, self.whence.addr) {
            (Some(local), Some(addr)) => is_within(local, addr),
            _ => self.is_local,
        }
    }
}

/// How the handshake of a newcomer ended.
enum Entry {
    Entered(Box<Entered>),
    /// It was this node itself that had dialled.
    Myself,
    /// The peer stays connected by another connection.
    Already,
    Failed(Error),
}

/// A connection whose handshake is done.
struct Entered {
    connection: Connection<BoxIo>,
    ticket: Ticket,
    self_check: Option<SelfCheck>,
}

impl Entered {
    /// Runs the connection. Its places are given back when it ends.
    fn run(self, runtime: &Runtime) -> impl Future<Output = ()> + Send + 'static {
        let Self {
            connection,
            ticket,
            self_check,
        } = self;
        runtime.serve(connection, async move { drop((ticket, self_check)) })
    }
}

/// Whether nodes on this wire have no numbers by which they recognize each other.
fn is_without_node_numbers(runtime: &Runtime, wire: Option<&Wire>) -> bool {
    let config = runtime.peers().config();
    !wire.unwrap_or(&config.wire).has_handshake()
}

/// Secures an accepted connection, and performs the handshake on it.
async fn introduce(
    runtime: &Runtime,
    io: BoxIo,
    whence: Whence,
    protection: Protection,
    wire: Option<Wire>,
    ticket: &Ticket,
) -> Result<Established<BoxIo>, Error> {
    runtime.tune(&io, wire.as_ref());
    let limit = runtime.peers().config().handshake_timeout;
    let security = runtime.security();
    let accepting = security.accept(io, whence.key, protection);
    let secured = tokio::time::timeout(limit, accepting).await;
    let (io, key) = secured.map_err(|_| Error::handshake_timeout(limit))??;
    let node = runtime.peers().node();
    let spoken = wire.as_ref().unwrap_or(&runtime.peers().config().wire);
    if let Some(left) = node.banned(key.as_ref(), whence.ip()) {
        turn_away(io, spoken, &Goodbye::BANNED);
        return Err(Error::own_ban(left));
    }
    if let Some(key) = &key
        && !security.is_allowed(key)
    {
        turn_away(io, spoken, &Goodbye::from(NOT_ALLOWED));
        return Err(Error::not_allowed(PeerId::Key(*key)));
    }
    if security.has_identity()
        && let Err(refused) = ticket.check()
    {
        turn_away(io, spoken, &Goodbye::BUSY);
        return Err(Error::refused(refused.to_string()));
    }
    let mut info = ConnectionInfo::inbound();
    info.addr = whence.addr;
    info.place = whence.place;
    info.wire = wire;
    info.key = key;
    info.listen = runtime.advertised_to(whence.addr);
    let admit = || ticket.establish().map_err(|_| Refusal::Full);
    establish(io, runtime.peers().node(), info, admit).await
}
