//! Accepting peers.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Runtime;
use super::accept_backoff::AcceptBackoff;
use super::dialer::{SelfCheck, is_within};
use super::refused::{Reason, Refused};
use super::ticket::Ticket;
use crate::connection::{Connection, ConnectionInfo, Established, establish, turn_away};
use crate::error::Error;
use crate::node::Refusal;
use crate::node::event::Event;
use crate::node::peer::Peer;
use crate::reason::Goodbye;
use crate::transport::{BoxIo, IntoListener, Io, Listener, no_address, tcp_stream, tune_tcp};
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
    ) -> Result<SocketAddr, Error> {
        if self.stop.is_cancelled() {
            return Err(Error::closed());
        }
        let failed = |error| Error::listen(addr, error);
        let listeners = self.transport.listen_all(addr).await.map_err(failed)?;
        let mut bound = Vec::with_capacity(listeners.len());
        for listener in listeners {
            let local = listener.local_addr().map_err(failed)?;
            self.security.permit(local)?;
            bound.push((listener, local));
        }
        let first = bound.first().map(|(_, local)| *local);
        for (listener, local) in bound {
            self.accept_at(local, listener, wire.clone());
        }
        first.ok_or_else(|| failed(no_address()))
    }

    /// Accepts peers at a socket that listens already, in a task of its own.
    pub(crate) fn listen_on(
        self: &Arc<Self>,
        listener: impl IntoListener,
        wire: Option<Wire>,
    ) -> Result<SocketAddr, Error> {
        if self.stop.is_cancelled() {
            return Err(Error::ended());
        }
        let failed = |error| Error::listen("the given socket", error);
        let listener = listener.into_listener().map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        self.security.permit(local)?;
        self.accept_at(local, listener, wire);
        Ok(local)
    }

    /// Accepts peers at `local`, where `listener` is, in a task of its own.
    fn accept_at(
        self: &Arc<Self>,
        local: SocketAddr,
        listener: Box<dyn Listener>,
        wire: Option<Wire>,
    ) {
        self.listening().push(local);
        self.peers.node().emit(Event::Listening { addr: local });
        self.spawn(run(Arc::clone(self), listener, wire));
    }

    /// Takes a place for a connection from `addr`; see [`Mesh::admit`](crate::Mesh::admit).
    pub(crate) async fn admit(self: &Arc<Self>, addr: SocketAddr) -> Result<Admitted, Error> {
        if self.stop.is_cancelled() {
            return Err(Error::ended());
        }
        self.security.permit(addr)?;
        if let Some(left) = self.peers.node().banned(None, Some(addr.ip())) {
            return Err(Error::own_ban(left).at(addr));
        }
        let self_check = self.dialer().self_checks().accepted(addr);
        if self_check.is_itself() {
            return Err(Error::refused(MYSELF));
        }
        let admitted = admit(self, addr).await;
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
    fn turn_away_plain(&self, io: BoxIo, wire: Option<&Wire>, words: &Goodbye) {
        if !self.security.is_encrypted() {
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
            addr,
            self_check,
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
async fn run(runtime: Arc<Runtime>, mut listener: Box<dyn Listener>, wire: Option<Wire>) {
    let mut backoff = AcceptBackoff::default();
    runtime.started.cancelled().await;
    loop {
        let (io, addr) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(pause) = backoff.failed(&error) {
                    runtime.peers().node().error(None, Error::accept(error));
                    tokio::time::sleep(pause).await;
                }
                continue;
            }
        };
        backoff.succeeded();
        // First of all: who is banned costs nothing more than this.
        if runtime
            .peers()
            .node()
            .banned(None, Some(addr.ip()))
            .is_some()
        {
            runtime.peers().node().refused_banned(addr);
            runtime.turn_away_plain(io, wire.as_ref(), &Goodbye::BANNED);
            continue;
        }
        let self_check = runtime.dialer().self_checks().accepted(addr);
        if self_check.is_itself() {
            // The side that has dialled reports it.
            tracing::debug!(%addr, "this node dialled itself");
            continue;
        }
        match admit(&runtime, addr).await {
            Ok(ticket) => {
                let newcomer = Newcomer {
                    io,
                    addr,
                    self_check,
                    ticket,
                    wire: wire.clone(),
                };
                runtime.tasks.spawn(newcomer.serve(Arc::clone(&runtime)));
            }
            Err(refused) => {
                let error = Error::refused(format!("{addr}: {refused}"));
                runtime.peers().node().error_at(addr, error);
                runtime.turn_away_plain(io, wire.as_ref(), &Goodbye::BUSY);
            }
        }
    }
}

/// Admits or refuses a newcomer. One from this machine waits for a place in the handshake.
async fn admit(runtime: &Runtime, addr: SocketAddr) -> Result<Ticket, Refused> {
    let deadline = Instant::now() + LOCAL_WAIT;
    loop {
        let now = Instant::now();
        match runtime.admission().admit(Some(addr.ip()), now) {
            Err(refused)
                if refused.reason() == Reason::Pending
                    && addr.ip().to_canonical().is_loopback()
                    && now < deadline =>
            {
                tokio::time::sleep(LOCAL_RETRY).await;
            }
            result => return result,
        }
    }
}

/// An admitted connection whose handshake has not begun.
struct Newcomer {
    io: BoxIo,
    addr: SocketAddr,
    self_check: SelfCheck,
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
        let addr = self.addr;
        match self.enter(runtime).await {
            Entry::Entered(entered) => return Some(entered),
            // The dialling side knows, and reports it.
            Entry::Myself | Entry::Already => {}
            // A health check, for example.
            Entry::Failed(error) if error.is_unsaid() => runtime.peers().node().went_silently(addr),
            Entry::Failed(error) if error.is_own_ban() => {
                runtime.peers().node().refused_banned(addr);
            }
            Entry::Failed(error) => runtime.peers().node().error_at(addr, error.at(addr)),
        }
        None
    }

    /// Performs the handshake.
    async fn enter(self, runtime: &Runtime) -> Entry {
        let Self {
            io,
            addr,
            self_check,
            ticket,
            wire,
        } = self;
        if is_without_node_numbers(runtime, wire.as_ref()) && is_from_this_machine(&io, addr) {
            // On a timeout the dialling side finds out, and closes the connection.
            let _ = tokio::time::timeout(OWN_WAIT, self_check.settled()).await;
            if self_check.is_itself() {
                return Entry::Myself;
            }
        }
        let entered = tokio::select! {
            entered = introduce(runtime, io, addr, wire, &ticket) => entered,
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
            Err(_) if self_check.is_itself() => Entry::Myself,
            Err(error) => Entry::Failed(error),
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
    self_check: SelfCheck,
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

/// Whether a newcomer is on this machine, as far as the addresses tell.
fn is_from_this_machine(io: &BoxIo, addr: SocketAddr) -> bool {
    let local = tcp_stream(&**io).and_then(|stream| stream.local_addr().ok());
    local.map_or(addr.ip().to_canonical().is_loopback(), |local| {
        is_within(local, addr)
    })
}

/// Secures an accepted connection, and performs the handshake on it.
async fn introduce(
    runtime: &Runtime,
    io: BoxIo,
    addr: SocketAddr,
    wire: Option<Wire>,
    ticket: &Ticket,
) -> Result<Established<BoxIo>, Error> {
    runtime.tune(&io, wire.as_ref());
    let limit = runtime.peers().config().handshake_timeout;
    let secured = tokio::time::timeout(limit, runtime.security().accept(io)).await;
    let (io, key) = secured.map_err(|_| Error::handshake_timeout(limit))??;
    let node = runtime.peers().node();
    let spoken = wire.as_ref().unwrap_or(&runtime.peers().config().wire);
    if let Some(left) = node.banned(key.as_ref(), Some(addr.ip())) {
        turn_away(io, spoken, &Goodbye::BANNED);
        return Err(Error::own_ban(left));
    }
    if runtime.security().is_encrypted()
        && let Err(refused) = ticket.check(Instant::now())
    {
        turn_away(io, spoken, &Goodbye::BUSY);
        return Err(Error::refused(refused.to_string()));
    }
    let mut info = ConnectionInfo::inbound().addr(addr);
    info.wire = wire;
    info.key = key;
    info.listen = runtime.advertised();
    establish(io, runtime.peers().node(), info, Some(ticket.seat())).await
}
