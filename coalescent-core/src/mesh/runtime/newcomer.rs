//! One newcomer: its handshake, until it is a peer.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Runtime;
use super::dialer::{SelfCheck, is_within};
use super::entrance::local_addr;
use super::security::NOT_ALLOWED;
use super::ticket::Ticket;
use crate::connection::{Connection, ConnectionInfo, Established, establish, turn_away};
use crate::error::Error;
use crate::reason::Goodbye;
use crate::transport::{BoxIo, Protection, Whence};
use crate::wire::Wire;

/// How long a newcomer from this machine, on a wire without node numbers, waits until it is known
/// whether this node itself has dialled it: 250 ms.
const OWN_WAIT: Duration = Duration::from_millis(250);

/// An admitted connection whose handshake has not begun.
pub(super) struct Newcomer {
    pub(super) io: BoxIo,
    pub(super) whence: Whence,
    pub(super) protection: Protection,
    /// Whether it comes from this machine, as far as its address tells.
    pub(super) is_local: bool,
    /// `None` if it has no address to be known by.
    pub(super) self_check: Option<SelfCheck>,
    pub(super) ticket: Ticket,
    pub(super) wire: Option<Wire>,
}

impl Newcomer {
    /// Performs the handshake, and runs the connection.
    pub(super) fn serve(self, runtime: Arc<Runtime>) -> impl Future<Output = ()> + Send + 'static {
        let entering = Box::pin({
            let runtime = Arc::clone(&runtime);
            async move {
                tokio::select! {
                    biased;
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
    pub(super) async fn enter_or_report(self, runtime: &Runtime) -> Option<Box<Entered>> {
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
    pub(super) async fn enter(self, runtime: &Runtime) -> Entry {
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
            Err(error) => match self_check {
                Some(self_check) if self_check.is_told_by(&error) => Entry::Myself,
                _ => Entry::Failed(error),
            },
        }
    }

    /// Whether it is on this machine, as far as the addresses of both ends tell.
    fn is_from_this_machine(&self) -> bool {
        match (local_addr(&*self.io), self.whence.addr) {
            (Some(local), Some(addr)) => is_within(local, addr),
            _ => self.is_local,
        }
    }
}

/// How the handshake of a newcomer ended.
pub(super) enum Entry {
    Entered(Box<Entered>),
    /// It was this node itself that had dialled.
    Myself,
    /// The peer stays connected by another connection.
    Already,
    Failed(Error),
}

/// A connection whose handshake is done.
pub(super) struct Entered {
    pub(super) connection: Connection<BoxIo>,
    ticket: Ticket,
    self_check: Option<SelfCheck>,
}

impl Entered {
    /// Runs the connection. Its places are given back when it ends.
    pub(super) fn run(self, runtime: &Runtime) -> impl Future<Output = ()> + Send + 'static {
        let Self {
            connection,
            ticket,
            self_check,
        } = self;
        runtime.serve(connection, async move { drop((ticket, self_check)) })
    }
}

/// Whether nodes on this wire have no numbers by which they recognize each other.
pub(super) fn is_without_node_numbers(runtime: &Runtime, wire: Option<&Wire>) -> bool {
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
    let (io, key) = secured.map_err(|_| security.timeout(limit, protection))??;
    let node = runtime.peers().node();
    let spoken = wire.as_ref().unwrap_or(&runtime.peers().config().wire);
    if let Some(left) = node.banned(key, whence.ip()) {
        turn_away(io, spoken, &Goodbye::BANNED);
        return Err(Error::own_ban(left));
    }
    if let Some(key) = &key
        && !security.is_allowed(key)
    {
        turn_away(io, spoken, &Goodbye::from(NOT_ALLOWED));
        return Err(Error::not_allowed(key));
    }
    if security.has_identity()
        && let Err(refused) = ticket.check(Instant::now())
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
    establish(io, runtime.peers().node(), info, Some(ticket.seat())).await
}
