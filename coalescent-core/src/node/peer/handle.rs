//! How others tell a connection what to do.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use crate::node::Token;
use crate::reason::DisconnectReason;
use crate::signal::Signal;
use crate::transport::Direction;

/// The number of a connection, unique in its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkId(pub(crate) u64);

/// How many tokens of the other side one connection repeats; see
/// [`standing`](crate::node::standing). Two suffice between two nodes; what is more comes from
/// somebody who plays.
const MAX_REPEATED: u8 = 4;

/// How others end a connection, and what they have it ask.
#[derive(Debug)]
pub(crate) struct ConnectionHandle {
    id: LinkId,
    direction: Direction,
    command: Mutex<Option<Command>>,
    given: Signal,
    asks: Mutex<Asks>,
    asked: Signal,
}

/// What others have a connection ask of its other end, with a PING for each.
#[derive(Debug, Default)]
struct Asks {
    /// Whether it is there.
    alive: bool,
    /// Whether it knows these.
    tokens: Vec<Token>,
    repeated: u8,
    /// The last token that came by this connection.
    heard: Option<Token>,
}

/// Held by a connection until it has handed on all that it has read. Whoever gave it waits until
/// all of its kind are dropped.
pub(crate) type Quiesced = tokio::sync::mpsc::Sender<std::convert::Infallible>;

/// What others tell a connection.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    /// Read no more, but handle and hand on what has been read, then drop this.
    Quiesce(Quiesced),
    /// End, for this reason.
    End(DisconnectReason),
    /// Another connection has taken over what is written to the peer: read what is still to come,
    /// and end.
    Retire,
}

impl ConnectionHandle {
    pub(crate) fn new(id: LinkId, direction: Direction) -> Self {
        Self {
            id,
            direction,
            command: Mutex::new(None),
            given: Signal::default(),
            asks: Mutex::default(),
            asked: Signal::default(),
        }
    }

    pub(crate) fn id(&self) -> LinkId {
        self.id
    }

    /// Which side made the connection.
    pub(crate) fn direction(&self) -> Direction {
        self.direction
    }

    fn asks(&self) -> MutexGuard<'_, Asks> {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the other end asked whether it is there, with little time to answer.
    pub(crate) fn ask_alive(&self) {
        self.asks().alive = true;
        self.asked.raise();
    }

    /// Has the other end sent a token of its own, which came by another connection.
    pub(crate) fn repeat(&self, token: Token) {
        let mut asks = self.asks();
        if asks.repeated == MAX_REPEATED {
            return;
        }
        asks.repeated += 1;
        asks.tokens.push(token);
        drop(asks);
        self.asked.raise();
    }

    /// Keeps a token of the other side's for a connection that may be on its way.
    pub(crate) fn keep(&self, token: Token) {
        self.asks().heard = Some(token);
    }

    /// The token that was kept last.
    pub(crate) fn kept(&self) -> Option<Token> {
        self.asks().heard
    }

    /// Takes what is to be asked: whether the peer is there, and tokens.
    pub(crate) fn take_asks(&self) -> (bool, Vec<Token>) {
        let mut asks = self.asks();
        (
            std::mem::take(&mut asks.alive),
            std::mem::take(&mut asks.tokens),
        )
    }

    /// Ready once there is something to ask.
    pub(crate) fn poll_asked(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.asked.poll_raised(cx)
    }

    pub(crate) fn end(&self, reason: DisconnectReason) {
        self.give(Command::End(reason));
    }

    pub(crate) fn retire(&self) {
        self.give(Command::Retire);
    }

    pub(crate) fn quiesce(&self, quiesced: Quiesced) {
        self.give(Command::Quiesce(quiesced));
    }

    /// Gives a command. The first that ends the connection stands.
    fn give(&self, command: Command) {
        let mut given = self.command();
        if matches!(*given, None | Some(Command::Quiesce(_))) {
            *given = Some(command);
        }
        drop(given);
        self.given.raise();
    }

    fn command(&self) -> MutexGuard<'_, Option<Command>> {
        self.command.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready once with a command, when there is one.
    pub(crate) fn poll_given(&self, cx: &mut Context<'_>) -> Poll<Command> {
        loop {
            ready!(self.given.poll_raised(cx));
            let mut given = self.command();
            match &*given {
                None => {}
                Some(Command::Quiesce(_)) => {
                    if let Some(command) = given.take() {
                        return Poll::Ready(command);
                    }
                }
                Some(command) => return Poll::Ready(command.clone()),
            }
        }
    }
}
