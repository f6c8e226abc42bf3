//! Accepting peers.

use crate::admission::{AcceptBackoff, Reason, Refused, Ticket};
use crate::connection::{Established, Socket, establish};
use crate::error::Error;
use crate::mesh::runtime::Runtime;
use crate::peers::Refusal;
use crate::transport::{BoxIo, Listener};
use crate::wire::Wire;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a newcomer from this machine itself is kept waiting for a place in the handshake, before
/// it is refused. The queue of the kernel holds the others meanwhile.
const LOCAL_WAIT: Duration = Duration::from_millis(1500);

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
        match admit(&runtime, addr).await {
            Ok(ticket) => {
                let newcomer = Newcomer {
                    io,
                    addr,
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
    ticket: Ticket,
    wire: Option<Wire>,
}

impl Newcomer {
    async fn enter(self, runtime: Arc<Runtime>) {
        let Self {
            io,
            addr,
            ticket,
            wire,
        } = self;
        let entered = tokio::select! {
            entered = introduce(&runtime, io, addr, wire, &ticket) => entered,
            refused = ticket.evicted() => Err(Error::refused(refused.to_string())),
        };
        let connection = match entered {
            Ok(Established::Connected(connection)) => connection,
            // The dialling side knows, and tells.
            Ok(Established::Myself | Established::Already(_)) => return,
            // A health check, for one.
            Err(error) if error.is_unsaid() => {
                return runtime.peers().node().went_silently(addr);
            }
            Err(error) => return runtime.peers().node().error_at(addr, error.at(addr)),
        };
        runtime.run(connection, async move { drop(ticket) });
    }
}

async fn introduce(
    runtime: &Runtime,
    io: BoxIo,
    addr: SocketAddr,
    wire: Option<Wire>,
    ticket: &Ticket,
) -> Result<Established<BoxIo>, Error> {
    let limit = runtime.peers().config().handshake_timeout;
    let secured = tokio::time::timeout(limit, runtime.security().accept(io)).await;
    let (io, key) = secured.map_err(|_| Error::handshake_timeout(limit))??;
    let mut socket = Socket::inbound().addr(addr);
    socket.wire = wire;
    socket.key = key;
    socket.listen = runtime.advertised();
    let admit = || ticket.establish().map_err(|_| Refusal::Full);
    establish(io, runtime.peers().node(), socket, admit).await
}
