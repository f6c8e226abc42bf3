//! What a connection shares with the frames it has read and with the roster.

use crate::frame::{Flow, Frame};
use crate::node::Token;
use crate::node::peer::Peer;
use crate::reason::DisconnectReason;
use crate::signal::Signal;
use crate::transport::Direction;
use crate::wire::Wire;
use bytes::Bytes;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The number of a connection, unique in its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkId(pub(crate) u64);

/// What the frames of one read have in common.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// The connection that read them.
    pub(crate) link: Arc<Link>,
    /// The frames, one after another.
    pub(crate) bytes: Bytes,
    /// The number of the buffer that `bytes` is a slice of, and the size of that buffer.
    pub(crate) buffer: u64,
    pub(crate) pins: usize,
    /// When they were read.
    pub(crate) at: Instant,
}

/// A connection, as its frames know it.
pub(crate) struct Link {
    peer: Peer,
    slots: Box<[Slot]>,
    /// Whether frames are staged for the read side, which those that others bring there must not overtake.
    staging: AtomicBool,
    /// Wakes those that wait for that.
    unstaged: Notify,
}

/// Whether the frame that is handled in one of the connection's calls is to be relayed.
///
/// The layer that decides may run in another task than the connection, so the two agree on one
/// number: the frame's, shifted left by two, and one of the states below.
#[derive(Debug, Default)]
struct Slot {
    mark: AtomicU64,
    /// The payload that a layer put in place of the frame's own, and the number of that frame.
    rewritten: Mutex<Option<Bytes>>,
    has_rewritten: AtomicU64,
    /// The number of the frame that was cloned elsewhere.
    shared: AtomicU64,
}

const OPEN: u64 = 0;
const CLOSED: u64 = 1;
const WAIT: u64 = 2;
const DROP: u64 = 3;

/// What a layer decided about a frame: to relay it like this, with this payload where a layer put
/// another in place of its own.
pub(crate) type Mark = (Flow, Option<Bytes>);

impl Link {
    pub(crate) fn new(peer: Peer, slots: usize) -> Self {
        Self {
            peer,
            slots: (0..slots.max(1)).map(|_| Slot::default()).collect(),
            staging: AtomicBool::new(false),
            unstaged: Notify::new(),
        }
    }

    /// Tells whether frames are staged.
    pub(super) fn set_staging(&self, staging: bool) {
        self.staging.store(staging, Ordering::Release);
        if !staging {
            self.unstaged.notify_waiters();
        }
    }

    /// Waits until no frames are staged.
    pub(crate) async fn unstaged(&self) {
        loop {
            let unstaged = self.unstaged.notified();
            if !self.staging.load(Ordering::Acquire) {
                return;
            }
            unstaged.await;
        }
    }

    #[inline]
    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(crate) fn wire(&self) -> &Wire {
        self.peer.wire()
    }

    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// What tells this connection from all others that there are.
    #[inline]
    pub(crate) fn place(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Marks a frame to be relayed. Returns false where its call has ended, so that nobody looks any
    /// more.
    ///
    /// For frames that are not being called in this thread; see [`current`](super::current).
    pub(crate) fn mark(
        &self,
        slot: usize,
        seq: u64,
        flow: Flow,
        rewritten: Option<&Bytes>,
    ) -> bool {
        let Some(slot) = self.slots.get(slot) else {
            return false;
        };
        let open = seq << 2 | OPEN;
        let state = match flow {
            Flow::Wait => WAIT,
            Flow::Drop => DROP,
        };
        if let Some(payload) = rewritten {
            if slot.mark.load(Ordering::Acquire) != open {
                return slot.is_marked(seq);
            }
            *slot
                .rewritten
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(payload.clone());
            slot.has_rewritten.store(seq, Ordering::Release);
        }
        let marked = seq << 2 | state;
        slot.mark
            .compare_exchange(open, marked, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
            || slot.is_marked(seq)
    }

    /// Lets the frame `seq` be marked, in the place of the one before.
    #[inline]
    pub(crate) fn open(&self, slot: usize, seq: u64) {
        if let Some(slot) = self.slots.get(slot) {
            slot.mark.store(seq << 2 | OPEN, Ordering::Release);
        }
    }

    /// Whether nobody has marked the frame `seq`, or cloned it, but where it is called.
    #[inline]
    pub(crate) fn is_untouched(&self, slot: usize, seq: u64) -> bool {
        self.slots.get(slot).is_some_and(|slot| {
            slot.mark.load(Ordering::Acquire) == seq << 2 | OPEN
                && slot.shared.load(Ordering::Acquire) != seq
        })
    }

    /// Notes that the frame `seq` was cloned, elsewhere than where it is called.
    pub(crate) fn share(&self, slot: usize, seq: u64) {
        if let Some(slot) = self.slots.get(slot)
            && slot.mark.load(Ordering::Acquire) >> 2 == seq
        {
            slot.shared.store(seq, Ordering::Release);
        }
    }

    /// The frame `seq` is over, and nobody has a hold of it any more: there is nothing to agree on.
    #[inline]
    pub(crate) fn shut(&self, slot: usize, seq: u64) {
        if let Some(slot) = self.slots.get(slot) {
            slot.mark.store(seq << 2 | CLOSED, Ordering::Release);
        }
    }

    /// What was decided about the frame `seq` so far.
    pub(crate) fn marked(&self, slot: usize, seq: u64) -> Option<Mark> {
        self.slots.get(slot)?.take(seq)
    }

    /// What was decided about the frame `seq`; from now on, deciding is too late.
    pub(crate) fn close(&self, slot: usize, seq: u64) -> Option<Mark> {
        let slot = self.slots.get(slot)?;
        // The common case of a relay needs no locked instruction here.
        if !slot.is_marked(seq) {
            let closed = seq << 2 | CLOSED;
            let open = seq << 2 | OPEN;
            if slot
                .mark
                .compare_exchange(open, closed, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
            {
                return None;
            }
        }
        slot.take(seq)
    }

    /// Relays a frame whose call has ended: at once, and dropped where there is no room.
    pub(crate) fn relay_late(&self, frame: &Frame, payload: &Bytes) {
        let (_, pins) = frame.pinned();
        super::relay::relay_late(&self.peer, frame.kind(), frame.ttl(), payload, pins);
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("peer", self.peer.id())
            .finish_non_exhaustive()
    }
}

impl Slot {
    fn is_marked(&self, seq: u64) -> bool {
        let mark = self.mark.load(Ordering::Acquire);
        mark >> 2 == seq && matches!(mark & 3, WAIT | DROP)
    }

    fn take(&self, seq: u64) -> Option<Mark> {
        let mark = self.mark.load(Ordering::Acquire);
        if mark >> 2 != seq {
            return None;
        }
        let flow = match mark & 3 {
            WAIT => Flow::Wait,
            DROP => Flow::Drop,
            _ => return None,
        };
        let rewritten = if self.has_rewritten.load(Ordering::Acquire) == seq {
            self.rewritten
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take()
        } else {
            None
        };
        Some((flow, rewritten))
    }
}

/// How many tokens of the other side one connection repeats; see [`standing`](crate::node::standing). Two suffice
/// between two nodes; what is more comes from somebody who plays.
const MAX_REPEATED: u8 = 4;

/// How others end a connection, and what they have it ask.
#[derive(Debug)]
pub(crate) struct Stop {
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

impl Stop {
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
    pub(super) fn take_asks(&self) -> (bool, Vec<Token>) {
        let mut asks = self.asks();
        (
            std::mem::take(&mut asks.alive),
            std::mem::take(&mut asks.tokens),
        )
    }

    /// Ready once there is something to ask.
    pub(super) fn poll_asked(&self, cx: &mut Context<'_>) -> Poll<()> {
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
    pub(super) fn poll_given(&self, cx: &mut Context<'_>) -> Poll<Command> {
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
