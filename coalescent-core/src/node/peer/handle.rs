//! The handle by which a connection is controlled.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use super::seat::{NoPlace, Role, Seat};
use crate::node::Token;
use crate::reason::DisconnectReason;
use crate::signal::Signal;
use crate::transport::Direction;

/// The number of a connection, unique in its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkId(pub(crate) u64);

/// How many tokens of the other node one connection repeats; see
/// [`standing`](crate::node::standing). Two suffice between two nodes; more are abuse.
const MAX_REPEATED: u8 = 4;

/// A handle to a connection: ends it, or has it ask the other end something.
#[derive(Debug)]
pub(crate) struct ConnectionHandle {
    id: LinkId,
    direction: Direction,
    /// What counts the connection, if anything does.
    seat: Option<Arc<dyn Seat>>,
    /// The command that has not been taken, or that ends the connection.
    command: Mutex<Option<Command>>,
    /// Wakes the connection when there is a command.
    given: Signal,
    asks: Mutex<Asks>,
    /// Wakes the connection when there is something to ask.
    asked: Signal,
}

/// What a connection is to ask the other end, with a PING for each.
#[derive(Debug, Default)]
struct Asks {
    /// Whether the peer is still there.
    alive: bool,
    /// The tokens to repeat.
    tokens: Vec<Token>,
    /// How many tokens have been repeated, at most [`MAX_REPEATED`].
    repeated: u8,
    /// The last token that came on this connection.
    heard: Option<Token>,
}

/// A guard that a connection holds until it has handed on all that it has read. The task that gave
/// it out waits until all clones are dropped.
pub(crate) type Quiesced = tokio::sync::mpsc::Sender<std::convert::Infallible>;

/// A command to a connection.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    /// Read no more, but handle and hand on what has been read, then drop the guard.
    Quiesce(Quiesced),
    /// End for this reason.
    End(DisconnectReason),
    /// End for this fault of the peer: write no more than a BYE.
    Reject(DisconnectReason),
    /// Another connection has taken over writing to the peer: read the rest, and end.
    Retire,
}

impl ConnectionHandle {
    pub(crate) fn new(id: LinkId, direction: Direction, seat: Option<Arc<dyn Seat>>) -> Self {
        Self {
            id,
            direction,
            seat,
            command: Mutex::new(None),
            given: Signal::default(),
            asks: Mutex::default(),
            asked: Signal::default(),
        }
    }

    pub(crate) fn id(&self) -> LinkId {
        self.id
    }

    /// Returns which side made the connection.
    pub(crate) fn direction(&self) -> Direction {
        self.direction
    }

    /// Has the connection counted in this role.
    ///
    /// # Errors
    ///
    /// If there is no place left.
    pub(crate) fn take_seat(self: &Arc<Self>, role: Role) -> Result<(), NoPlace> {
        match &self.seat {
            Some(seat) => seat.take(role, self),
            None => Ok(()),
        }
    }

    /// Has the connection counted in the role of another one that it takes the place of.
    ///
    /// # Errors
    ///
    /// As for [`take_seat`](Self::take_seat).
    pub(crate) fn take_over_seat(self: &Arc<Self>, role: Role) -> Result<(), NoPlace> {
        match &self.seat {
            Some(seat) => seat.take_over(role, self),
            None => Ok(()),
        }
    }

    fn asks(&self) -> MutexGuard<'_, Asks> {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the other end whether it is still there, with little time to answer.
    pub(crate) fn ask_alive(&self) {
        self.asks().alive = true;
        self.asked.raise();
    }

    /// Sends the other end a token of its own, which came on another connection.
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

    /// Keeps a token of the other node for a connection that may still be on its way.
    pub(crate) fn keep(&self, token: Token) {
        self.asks().heard = Some(token);
    }

    /// Returns the token that was kept last.
    pub(crate) fn kept(&self) -> Option<Token> {
        self.asks().heard
    }

    /// Takes what is to be asked: whether the peer is still there, and the tokens to repeat.
    pub(crate) fn take_asks(&self) -> (bool, Vec<Token>) {
        let mut asks = self.asks();
        (
            std::mem::take(&mut asks.alive),
            std::mem::take(&mut asks.tokens),
        )
    }

    /// Waits until there is something to ask.
    pub(crate) fn poll_asked(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.asked.poll_raised(cx)
    }

    pub(crate) fn end(&self, reason: DisconnectReason) {
        self.give(Command::End(reason));
    }

    /// Ends the connection because of a fault of the peer.
    pub(crate) fn reject(&self, reason: DisconnectReason) {
        self.give(Command::Reject(reason));
    }

    /// Has the connection polled.
    pub(crate) fn wake(&self) {
        self.given.raise();
    }

    pub(crate) fn retire(&self) {
        self.give(Command::Retire);
    }

    pub(crate) fn quiesce(&self, quiesced: Quiesced) {
        self.give(Command::Quiesce(quiesced));
    }

    /// Gives a command. Of those that end the connection the first one stands.
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

    /// Waits for a command. One that ends the connection stays, and is returned again when another
    /// command is given.
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
