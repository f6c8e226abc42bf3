//! Accepting peers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::connection::{ConnectionInfo, Established, establish};
use crate::error::Error;
use crate::mesh::runtime::Runtime;
use crate::mesh::runtime::admission::{AcceptBackoff, Reason, Refused, Ticket};
use crate::mesh::runtime::dialer::{Met, is_within};
use crate::node::Refusal;
use crate::transport::{BoxIo, Listener, tcp_stream};
use crate::wire::Wire;

/// How long a newcomer from this machine itself is kept waiting for a place in the handshake,
/// before it is refused. The queue of the kernel holds the others meanwhile.
const LOCAL_WAIT: Duration = Duration::from_millis(1500);

/// How long a newcomer from this machine, on a wire without node numbers, waits for this node's own
/// dials to say whether it is one of them.
const OWN_WAIT: Duration = Duration::from_millis(250);

/// How often that place is looked for.
const LOCAL_RETRY: Duration = Duration::from_millis(5);

/// Accepts connections until it is dropped.
pub(crate) async fn run(
    runtime: Arc<Runtime>,
    mut listener: Box<dyn Listener>,
    wire: Option<Wire>,
) {
    let mut backoff = AcceptBackoff::default();
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
        let met = runtime.dialer().ends().accepted(addr);
        if met.itself() {
            // The side that dialled tells.
            tracing::debug!(%addr, "this node dialled itself");
            continue;
        }
        match admit(&runtime, addr).await {
            Ok(ticket) => {
                let newcomer = Newcomer {
                    io,
                    addr,
                    met,
                    ticket,
                    wire: wire.clone(),
                };
                runtime.spawn(newcomer.enter(Arc::clone(&runtime)));
            }
            Err(refused) => {
                let error = Error::refused(format!("{addr}: {refused}"));
                runtime.peers().node().error_at(addr, error);
            }
        }
    }
}

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

/// A connection that has been accepted and has not introduced itself.
struct Newcomer {
    io: BoxIo,
    addr: SocketAddr,
    met: Met,
    ticket: Ticket,
    wire: Option<Wire>,
}

impl Newcomer {
    async fn enter(self, runtime: Arc<Runtime>) {
        let Self {
            io,
            addr,
            met,
            ticket,
            wire,
        } = self;
        if is_without_numbers(&runtime, wire.as_ref()) && is_from_here(&io, addr) {
            // If it takes longer, the dial finds out, and closes.
            let _ = tokio::time::timeout(OWN_WAIT, met.settled()).await;
            if met.itself() {
                return;
            }
        }
        let entered = tokio::select! {
            entered = introduce(&runtime, io, addr, wire, &ticket) => entered,
            refused = ticket.evicted() => Err(Error::refused(refused.to_string())),
        };
        let connection = match entered {
            Ok(Established::Connected(connection)) => connection,
            // The dialling side knows, and tells.
            Ok(Established::Myself | Established::Already(_)) => return,
            Err(_) if met.itself() => return,
            // A health check, for one.
            Err(error) if error.is_unsaid() => {
                return runtime.peers().node().went_silently(addr);
            }
            Err(error) => return runtime.peers().node().error_at(addr, error.at(addr)),
        };
        runtime.run(connection, async move { drop((ticket, met)) });
    }
}

/// Whether nodes have no numbers on this wire by which they would know each other.
fn is_without_numbers(runtime: &Runtime, wire: Option<&Wire>) -> bool {
    let config = runtime.peers().config();
    !wire.unwrap_or(&config.wire).has_handshake()
}

/// Whether a newcomer is on this machine, as far as is known.
fn is_from_here(io: &BoxIo, addr: SocketAddr) -> bool {
    let local = tcp_stream(&**io).and_then(|stream| stream.local_addr().ok());
    local.map_or(addr.ip().to_canonical().is_loopback(), |local| {
        is_within(local, addr)
    })
}

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
    let mut socket = ConnectionInfo::inbound().addr(addr);
    socket.wire = wire;
    socket.key = key;
    socket.listen = runtime.advertised();
    let admit = || ticket.establish().map_err(|_| Refusal::Full);
    establish(io, runtime.peers().node(), socket, admit).await
}
