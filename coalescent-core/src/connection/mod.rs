//! One peer's connection: reads frames, calls the stack with them, and writes the results.
//!
//! # The states of a connection
//!
//! ```text
//! handshake ─▶ (standby) ─▶ driver: Open ─▶ (WriteFailed) ─▶ Ending ─▶ closed
//! ```
//!
//! - *Handshake* (`handshake.rs`, begun by `establish.rs`): both ends send a HELLO, on wires that
//!   have one.
//! - *Standby* (`standby.rs`): the peer claims to be one that is connected already. The connection
//!   waits for the decision about both.
//! - *Open*, *WriteFailed* and *Ending* (`driver.rs`, `enum State`): the connection has a peer, and
//!   runs in one task, which polls the reader, the writer, the watchdog and the commands of other
//!   tasks, in this order.
//! - *Closing* (`closing.rs`, `enum End`): the queue and a BYE are written, as far as the way of
//!   ending allows. How long the peer then has to close is said by `farewell.rs`.
//!
//! The driver of the stack has states of its own (`stack_driver/mod.rs`, `enum State`), and is
//! replaced by an `IdleDriver` while the connection is idle (`stack_driver/idle.rs`).
//!
//! # The way of a frame
//!
//! ```text
//!             ┌────────────────── reader ──────────────────┐
//!   socket ──▶│ socket.rs ─▶ decode.rs ─▶ control frames   │
//!             │ (buffer.rs)      │                         │
//!             │            stack_driver:                   │
//!             │            backlog ─▶ calls ─▶ results     │
//!             │                         │         │        │
//!             └─────────────────────────┼─────────┼────────┘
//!                                     stack    replies, relay.rs, delivery.rs
//!             ┌──────────────────────────────────────▼─────┐
//!   socket ◀──│ writer.rs ◀──── outbox (one for each peer) │
//!             └────────────────────────────────────────────┘
//! ```
//!
//! Calls overlap: see [`Config::concurrency`](crate::Config::concurrency). The reader continues
//! while handlers wait, up to [`Config::read_ahead`](crate::Config::read_ahead) bytes, so that
//! control frames and replies can overtake them. Consecutive frames with the same relay decision
//! are handed on together, as one slice of the buffer they were read into.
//!
//! Decisions are given the time, and read no clock: see `clock.rs`, and the timers in `watch/`.
//!
//! # Two connections to one node
//!
//! Two nodes keep one connection between them. A second one whose other end is a connected peer, by
//! its key, or, if it has none, by the number that it claims, stands by: it is not that peer, and
//! no frame is written to it or handled. The first connection is asked with a PING whether its peer
//! is there, which has 5 s to answer, or up to
//! [`Config::answer_within`](crate::Config::answer_within) if much is on its way to it. If it does
//! not answer, its connection ends, and the second becomes a new peer. If it does, the second is
//! sent a BYE `already connected`.
//!
//! If both connections were made at the same time, the one dialled by the greater number stays, and
//! no frame is lost or arrives twice. That both lead to one node must be proven: over the second, a
//! PING of eight bytes is sent, `c0 2e`, a byte of flags, and five at random. A node that gets such
//! a PING on one of two young connections to a peer sends it, byte for byte, on the other one, if
//! the flags are right: bit 0 says that the sender dialled the connection on which it came, bit 1
//! that the sender dialled the one on which it is to come back. Nodes that do not know of this
//! answer the PING as any other, and keep the first connection until one side ends it.

mod buffer;
mod clock;
mod closing;
mod control;
mod driver;
mod establish;
mod farewell;
mod handshake;
mod introduction;
mod membership;
mod probe;
mod reader;
mod relay;
mod scarce;
mod stack_driver;
mod standby;
mod watch;
mod writer;

use std::net::SocketAddr;
use std::sync::Arc;

pub(crate) use buffer::{KEPT_MAX, READ_MAX};
pub use control::MAX_CONTROL;
pub(crate) use driver::Connection;
pub(crate) use establish::{Established, establish};
pub(crate) use handshake::turn_away;
pub(crate) use introduction::check_hello;
pub(crate) use probe::probe;
pub use stack_driver::{BATCH_COST, CALL_COST, READY_TIMEOUT, requests_ahead};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::Error;
use crate::node::peer::Endpoint;
use crate::node::{Peers, Refusal};
use crate::reason::DisconnectReason;
use crate::stack::PeerService;
use crate::transport::address::Address;
use crate::transport::identity::PublicKey;
use crate::transport::{Direction, watch_silence};
use crate::wire::Wire;

/// A description of a connection before its handshake.
///
/// ```
/// use coalescent::App;
/// use coalescent::connection::ConnectionInfo;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (alice, bob) = (App::new().start().await?, App::new().start().await?);
/// let (left, right) = tokio::io::duplex(64 * 1024);
///
/// let (to_bob, to_alice) = tokio::join!(
///     alice.adopt(left, ConnectionInfo::outbound()),
///     bob.adopt(right, ConnectionInfo::inbound().addr("127.0.0.1:9".parse()?)),
/// );
/// assert_eq!(to_bob?.addr(), None);
/// assert_eq!(to_alice?.addr(), Some("127.0.0.1:9".parse()?));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    pub(crate) direction: Direction,
    pub(crate) addr: Option<SocketAddr>,
    pub(crate) wire: Option<Wire>,
    pub(crate) key: Option<PublicKey>,
    pub(crate) listen: Option<String>,
    /// The address of the other end with a scheme, if that is not its socket address.
    pub(crate) place: Option<Arc<Address>>,
    /// Whether it takes a place of an inbound connection.
    pub(crate) counted: bool,
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
            place: None,
            counted: false,
        }
    }

    /// Sets the address of the other end.
    #[must_use]
    pub fn addr(mut self, addr: SocketAddr) -> Self {
        self.addr = Some(addr);
        self
    }

    /// Sets the wire, in place of [`Config::wire`](crate::Config::wire).
    #[must_use]
    pub fn wire(mut self, wire: Wire) -> Self {
        self.wire = Some(wire);
        self
    }

    /// Sets the public key that the other end has proven.
    #[must_use]
    pub fn key(mut self, key: PublicKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Sets the address of the other end with its scheme, where there is no socket address: what
    /// events and logs show, and [`Peer::address`](crate::Peer::address) returns.
    #[must_use]
    pub fn address(mut self, address: Address) -> Self {
        self.place = Some(Arc::new(address));
        self
    }

    /// Has [`Mesh::adopt`](crate::Mesh::adopt) count the connection among those that come to the
    /// listeners: towards [`Config::max_inbound`](crate::Config::max_inbound),
    /// [`Config::max_per_ip`](crate::Config::max_per_ip), by its key if it has no address, and
    /// [`Config::max_pending`](crate::Config::max_pending). Without it, the server that has
    /// accepted the connection must limit the number. One that this side made is not counted.
    #[must_use]
    pub fn counted(mut self) -> Self {
        self.counted = true;
        self
    }

    fn origin(&self) -> Endpoint {
        Endpoint {
            addr: self.addr,
            place: self.place.clone(),
            direction: self.direction,
        }
    }
}

/// Runs a connection to one peer over `io` until it is disconnected, and returns the reason. The
/// `stack` is called with each frame that the peer sends.
///
/// An [`App`](crate::App) does this for each of its connections. Use it to run a stack of your own
/// without an app.
///
/// ```
/// use coalescent::connection::{self, ConnectionInfo};
/// use coalescent::{Config, Peers};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), coalescent::Error> {
/// let here = Peers::new(Config::default());
/// let there = Peers::new(Config::default());
/// let (left, right) = tokio::io::duplex(64 * 1024);
///
/// tokio::spawn({
///     let there = there.clone();
///     async move {
///         let info = ConnectionInfo::inbound();
///         connection::serve(right, there.inbox(), &there, info).await
///     }
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
/// If no peer gets connected: the handshake fails, or one side refuses the other.
///
/// # Cancel safety
///
/// Dropping the future cuts the connection: frames that are queued for the peer are dropped, and
/// counted, and the peer has left.
// Declares that the future is `Send`, which the compiler does not infer of an `async fn` in a
// spawned block if the error of the stack is a `BoxError`.
#[allow(clippy::manual_async_fn, reason = "explained above")]
pub fn serve<IO, S>(
    io: IO,
    stack: S,
    peers: &Peers,
    info: ConnectionInfo,
) -> impl Future<Output = Result<DisconnectReason, Error>> + Send
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: PeerService,
{
    async move {
        let config = peers.config();
        if !info.wire.as_ref().unwrap_or(&config.wire).has_handshake() {
            watch_silence(&io, config.ping_every, config.answer_within);
        }
        match establish(io, peers.node(), info, None).await? {
            Established::Connected(connection) => Ok(connection.run(stack).await),
            Established::Myself => Err(Error::refused("connected to itself")),
            Established::Already(_) => Err(Error::refused(Refusal::AlreadyConnected.words())),
        }
    }
}
