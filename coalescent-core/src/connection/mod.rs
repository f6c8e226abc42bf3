//! One peer's connection: read a frame, make the stack ready, call it, write the reply, flush.
//!
//! ```text
//!             ┌──────────── reader ────────────┐
//!   socket ──▶│ wire ─▶ control frames         │
//!             │      └▶ work: ready, call ─────┼──▶ stack
//!             └──────────────┬─────────────────┘
//!                            │ replies, and runs to relay
//!             ┌──────────────▼─────────────────┐
//!   socket ◀──│ writer ◀── outbox (of each peer)│
//!             └────────────────────────────────┘
//! ```
//!
//! All of it runs in one task. The reader goes on reading while a handler waits, as far as
//! [`Config::read_ahead`](crate::Config::read_ahead), so that control frames and replies get past
//! it. What relays decide for consecutive frames is handed on together, as one slice of the buffer
//! they were read into.
//!
//! # Two connections to one node
//!
//! Two nodes keep one connection between them. A second one whose other end is a peer that is
//! connected, by its key, or, where it has none, by the number that it claims, stands by: it is not
//! that peer, and no frame is written to it or handled. The first is asked with a PING whether it
//! is there, and has 5 s to answer, or up to
//! [`Config::answer_within`](crate::Config::answer_within) if much is on its way to it. If it does
//! not answer, it has ended, and the second becomes a new peer. If it does, the second is told BYE
//! `already connected`.
//!
//! Of two that were made at the same time, the one dialled by the greater number stays, and no
//! frame is lost or comes twice. That both lead to one node must be proven: the second is sent a
//! PING of eight bytes, `c0 2e`, a byte of flags, and five at random. A node that gets such a PING
//! on one of two young connections to a peer sends it, byte for byte, on the other one, if the
//! flags are right: bit 0 says that the sender dialled the connection on which it came, bit 1 that
//! the sender dialled the one on which it is to come back. So nodes that know nothing of this
//! answer a PING as any other, and keep the first connection until one side ends it.

mod buffer;
mod clock;
mod closing;
mod control;
mod driver;
mod establish;
mod handshake;
mod reader;
mod relay;
mod stack_driver;
mod standby;
mod watch;
mod writer;

use std::net::SocketAddr;

pub(crate) use buffer::{KEPT_MAX, READ_MAX};
pub use control::MAX_CONTROL;
pub(crate) use driver::Connection;
pub(crate) use establish::{Established, establish};
pub use stack_driver::{BATCH_COST, READY_TIMEOUT};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::Error;
use crate::node::peer::Endpoint;
use crate::node::{Peers, Refusal};
use crate::reason::DisconnectReason;
use crate::stack::PeerService;
use crate::transport::{Direction, watch_silence};
use crate::wire::Wire;

/// What is known of a connection before its peer has said anything.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    pub(crate) direction: Direction,
    pub(crate) addr: Option<SocketAddr>,
    pub(crate) wire: Option<Wire>,
    pub(crate) key: Option<[u8; 32]>,
    pub(crate) listen: Option<String>,
}

impl ConnectionInfo {
    /// Describes a connection that the other side made.
    #[must_use]
    pub fn inbound() -> Self {
        Self::new(Direction::Inbound)
    }

    /// Describes a connection that this side made.
    #[must_use]
    pub fn outbound() -> Self {
        Self::new(Direction::Outbound)
    }

    fn new(direction: Direction) -> Self {
        Self {
            direction,
            addr: None,
            wire: None,
            key: None,
            listen: None,
        }
    }

    /// Says what address the other end has.
    #[must_use]
    pub fn addr(mut self, addr: SocketAddr) -> Self {
        self.addr = Some(addr);
        self
    }

    /// Says what wire is spoken, in place of [`Config::wire`](crate::Config::wire).
    #[must_use]
    pub fn wire(mut self, wire: Wire) -> Self {
        self.wire = Some(wire);
        self
    }

    /// Says what ed25519 public key the other end has proven to have.
    #[must_use]
    pub fn key(mut self, key: [u8; 32]) -> Self {
        self.key = Some(key);
        self
    }

    fn origin(&self) -> Endpoint {
        Endpoint {
            addr: self.addr,
            direction: self.direction,
        }
    }
}

/// Runs one peer over `io` until it is disconnected, and says why it was: each frame that the peer
/// sends goes through `stack`.
///
/// This is what an [`App`](crate::App) does for each of its connections; use it to run a stack of
/// your own without one.
///
/// ```
/// use coalescent_core::connection::{self, ConnectionInfo};
/// use coalescent_core::{Config, Peers};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), coalescent_core::Error> {
/// let here = Peers::new(Config::default());
/// let there = Peers::new(Config::default());
/// let (left, right) = tokio::io::duplex(64 * 1024);
///
/// tokio::spawn({
///     let there = there.clone();
///     async move { connection::serve(right, there.inbox(), &there, ConnectionInfo::inbound()).await }
/// });
/// let stack = here.inbox();
/// let running = connection::serve(left, stack, &here, ConnectionInfo::outbound());
/// # let mut events = here.events();
/// tokio::select! {
///     ended = running => { ended?; }
///     event = events.next() => println!("{event:?}"),
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Where the connection does not get as far as a connected peer: the handshake fails, or one side
/// refuses the other.
///
/// # Cancel safety
///
/// When dropped, the connection is cut: what is queued for the peer is dropped, and counted, and
/// the peer has left.
// Says that it is `Send` where an `async fn` would leave it to be found out: for stacks whose error
// is a `BoxError` the compiler does not find it out in a spawned block.
#[allow(clippy::manual_async_fn, reason = "said above")]
pub fn serve<IO, S>(
    io: IO,
    stack: S,
    peers: &Peers,
    socket: ConnectionInfo,
) -> impl Future<Output = Result<DisconnectReason, Error>> + Send
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: PeerService,
{
    async move {
        let config = peers.config();
        if !socket.wire.as_ref().unwrap_or(&config.wire).has_handshake() {
            watch_silence(&io, config.ping_every, config.answer_within);
        }
        match establish(io, peers.node(), socket, || Ok(())).await? {
            Established::Connected(connection) => Ok(connection.run(stack).await),
            Established::Myself => Err(Error::refused("connected to itself")),
            Established::Already(_) => Err(Error::refused(Refusal::AlreadyConnected.words())),
        }
    }
}
