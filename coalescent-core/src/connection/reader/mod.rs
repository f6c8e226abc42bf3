//! The reading half of a connection: reads frames, answers control frames, and drives the stack.

mod decode;
mod socket;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio::time::{Instant, Sleep};

use super::buffer::Buffer;
use super::control::Control;
use super::stack_driver::{HandedOn, IdleDriver, StackDriver, Step};
use super::watch::Watchdog;
use crate::node::peer::Peer;
use crate::node::peer::handle::{ConnectionHandle, Quiesced};
use crate::reason::DisconnectReason;
use crate::stack::PeerService;
use crate::wire::{Block, WireCodec};

/// After this many bytes read, the writer has its turn, even if there is more to read.
const TURN: usize = 256 * 1024;

/// After this many turns, the connection yields to its own timers and to other connections. If its
/// frames are small, it yields after each turn.
const TURNS: usize = 2;

/// Reads what one peer sends over one connection, and has the stack handle it.
pub(super) struct Reader<R, S: PeerService> {
    io: R,
    codec: WireCodec,
    peer: Peer,
    control: Arc<Control>,
    handle: Arc<ConnectionHandle>,
    activity: Activity<S>,
    stream: Stream,
    undecoded: Undecoded,
    quiet: Quiet,
    /// How many bytes of frames may wait for their calls before reading stops.
    read_ahead: usize,
    /// How many bytes were read since the writer had its turn.
    read: usize,
    /// How many turns the writer had since the connection yielded.
    turns: usize,
    /// Limits the time for the last frames once the peer is gone, since nothing else would end a
    /// handler that hangs.
    drain: Option<Pin<Box<Sleep>>>,
}

/// The memory that a connection holds for frames: next to nothing while it is idle.
enum Activity<S: PeerService> {
    /// `None` only while it changes to the other.
    Idle(Option<IdleDriver<S>>),
    Busy(Box<Busy<S>>),
}

struct Busy<S: PeerService> {
    buffer: Buffer,
    driver: StackDriver<S>,
    /// Fires when nothing may have been read for a while.
    idle: Option<Pin<Box<Sleep>>>,
    read_since_idle: bool,
}

/// The states of the stream that the peer sends.
enum Stream {
    /// More may come.
    Open,
    /// The end was read right behind the last bytes. It counts once these are decoded and there is
    /// room for more.
    EndSeen(DisconnectReason),
    /// Nothing more is read, for this reason.
    Ended(DisconnectReason),
}

/// The state of the bytes in the buffer.
enum Undecoded {
    /// They were decoded. A part of a frame may be left.
    Nothing,
    /// They were just read.
    Read,
    /// They hold whole frames, since decoding stopped at the limit of reading ahead.
    Frames,
}

/// Whether this node has told the connection to read no more, since the node is to end.
enum Quiet {
    /// It has not.
    No,
    /// It has. The guard is dropped once all that was read is handed on.
    Soon(#[allow(dead_code, reason = "it is only dropped")] Quiesced),
    /// It has, and all that was read is handed on.
    Now,
}

/// The result of polling the reader.
pub(super) enum Input {
    /// It has done something, and must be polled again.
    Again,
    /// Much was read, and there may be more: now it is the writer's turn.
    Turn,
    /// Results other than replies wait for room; see [`Reader::wait_for_room`].
    Full,
    /// Nothing more will come and all frames are handled, or the stream must be ended.
    End(DisconnectReason),
}

impl<S: PeerService> Activity<S> {
    /// Returns the memory for frames of `peer`. Allocates it if the connection is idle.
    #[inline]
    fn busy(&mut self, peer: &Peer) -> &mut Busy<S> {
        if let Self::Idle(driver) = self
            && let Some(driver) = driver.take()
        {
            *self = Self::Busy(Box::new(Busy {
                buffer: Buffer::new(BytesMut::new()),
                driver: driver.wake(peer),
                idle: None,
                read_since_idle: false,
            }));
        }
        match self {
            Self::Busy(busy) => busy,
            Self::Idle(_) => unreachable!("it is taken out only just before"),
        }
    }

    /// Drops the memory for frames, unless there are any.
    fn fall_asleep(&mut self) {
        if let Self::Busy(busy) = self
            && busy.driver.can_sleep()
            && let Self::Busy(busy) = std::mem::replace(self, Self::Idle(None))
        {
            *self = Self::Idle(Some(busy.driver.fall_asleep()));
        }
    }
}

impl Stream {
    /// Returns whether the peer said its last, or has no place among the peers, so that nothing
    /// behind that counts.
    fn is_over(&self) -> bool {
        matches!(
            self,
            Self::Ended(
                DisconnectReason::Bye(_)
                    | DisconnectReason::Protocol(_)
                    | DisconnectReason::Disconnected(_)
                    | DisconnectReason::Shutdown
            )
        )
    }
}

impl<R, S> Reader<R, S>
where
    R: AsyncRead + Unpin,
    S: PeerService,
{
    pub(super) fn new(
        io: R,
        codec: WireCodec,
        peer: Peer,
        driver: IdleDriver<S>,
        control: Arc<Control>,
        handle: Arc<ConnectionHandle>,
    ) -> Self {
        Self {
            read_ahead: peer.node().config().read_ahead,
            io,
            codec,
            peer,
            control,
            handle,
            activity: Activity::Idle(Some(driver)),
            stream: Stream::Open,
            undecoded: Undecoded::Nothing,
            quiet: Quiet::No,
            read: 0,
            turns: 0,
            drain: None,
        }
    }

    /// Starts with the connect hooks of a new peer, which run before the first frame, and with
    /// frames that were read together with the introduction: the block `first`, and then `buf`.
    pub(super) fn begin(&mut self, first: Option<Block>, buf: BytesMut, now: Instant) {
        let nothing = buf.is_empty() && !self.codec.may_hold_frames(&buf);
        self.welcome();
        if first.is_none() && nothing {
            return;
        }
        let busy = self.activity.busy(&self.peer);
        busy.buffer = Buffer::new(buf);
        if let Some(block) = first {
            self.take(block, now);
        }
        self.decode(now);
    }

    /// Has the connect hooks run before the next frame, if a contact has become a peer, or the peer
    /// is new.
    pub(super) fn welcome(&mut self) {
        if !self.peer.stage().has_begun()
            && let Some(hooks) = self.peer.begin()
        {
            self.activity.busy(&self.peer).driver.run_hooks(hooks);
        }
    }

    /// Stops reading, except while replies are waited for. Drops `quiesced` once all that was read
    /// is handed on.
    pub(super) fn quiesce(&mut self, quiesced: Quiesced) {
        self.quiet = Quiet::Soon(quiesced);
    }

    /// Reads again.
    pub(super) fn go_on_reading(&mut self) {
        self.quiet = Quiet::No;
    }

    /// Expects the end of the peer's stream, since the socket can no longer be written to.
    pub(super) fn expect_end(&mut self) {
        self.drain_timer();
    }

    /// Returns whether all that was read is handled, and no reply is waited for.
    pub(super) fn has_handled_all(&self) -> bool {
        let is_idle = match &self.activity {
            Activity::Idle(_) => true,
            Activity::Busy(busy) => busy.driver.can_sleep(),
        };
        let is_decoded = matches!(self.undecoded, Undecoded::Nothing);
        is_idle && is_decoded && !self.peer.is_in_channels() && !self.peer.requests().is_open()
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Returns whether the wire has a handshake, and so a BYE.
    pub(super) fn has_handshake(&self) -> bool {
        self.peer.wire().has_handshake()
    }

    pub(super) fn io_mut(&mut self) -> &mut R {
        &mut self.io
    }

    /// Returns the socket.
    pub(super) fn into_io(self) -> R {
        self.io
    }

    /// Handles frames that were read, and then reads once.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        watch: &mut Watchdog,
    ) -> Poll<Input> {
        self.welcome();
        if matches!(self.undecoded, Undecoded::Read) {
            let completed = self.decode(now);
            watch.read(completed, self.partial(), now);
        }
        self.peer.poll_channels(cx);
        let (idle, waiting) = match self.poll_stack(cx, now, watch) {
            Ok(found) => found,
            Err(input) => return Poll::Ready(input),
        };
        let room = idle || waiting < self.read_ahead;
        if matches!(self.undecoded, Undecoded::Frames) && room && !self.stream.is_over() {
            let completed = self.decode(now);
            watch.decoded(completed, self.partial(), now);
            return Poll::Ready(Input::Again);
        }
        let handled = idle && !self.peer.is_in_channels();
        if let Some(end) = self.poll_end(cx, handled) {
            return end.map(Input::End);
        }
        if !room || self.is_quiet(handled) {
            watch.reading(false, now);
            return Poll::Pending;
        }
        watch.reading(true, now);
        if self.read >= TURN {
            return self.poll_turn(cx);
        }
        ready!(self.poll_read(cx, now));
        // Decoded in the next turn, which knows when this was read.
        self.undecoded = Undecoded::Read;
        Poll::Ready(Input::Again)
    }

    /// Drives the stack until there is nothing to hand on. Returns whether all frames are handled,
    /// and the size of those that wait, in bytes.
    fn poll_stack(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        watch: &mut Watchdog,
    ) -> Result<(bool, usize), Input> {
        let Activity::Busy(busy) = &mut self.activity else {
            return Ok((true, 0));
        };
        let read_ahead = self.read_ahead;
        let driver = &mut busy.driver;
        loop {
            let step = if driver.replies_wait() {
                Step::HandOn
            } else {
                driver.poll(cx, now)
            };
            match step {
                Step::HandOn => match driver.hand_on(cx) {
                    HandedOn::All => {}
                    HandedOn::AllButReplies => return Ok((false, driver.ahead(read_ahead))),
                    HandedOn::Some => {
                        watch.reading(false, now);
                        return Err(Input::Full);
                    }
                },
                Step::End(reason) => return Err(Input::End(reason)),
                Step::Idle => return Ok((true, driver.ahead(read_ahead))),
                Step::Busy => return Ok((false, driver.ahead(read_ahead))),
            }
        }
    }

    /// Returns the result of this poll if the stream has ended, or the time for its last frames
    /// has.
    fn poll_end(&mut self, cx: &mut Context<'_>, idle: bool) -> Option<Poll<DisconnectReason>> {
        if let Stream::Ended(reason) = &self.stream {
            let reason = reason.clone();
            let over = idle || self.drain_timer().poll(cx).is_ready();
            return Some(if over {
                Poll::Ready(reason)
            } else {
                Poll::Pending
            });
        }
        let expired = self.drain.is_some() && self.drain_timer().poll(cx).is_ready();
        expired.then_some(Poll::Ready(DisconnectReason::Closed))
    }

    /// Returns whether nothing is to be read, other than replies that are waited for.
    fn is_quiet(&mut self, idle: bool) -> bool {
        if idle && matches!(self.quiet, Quiet::Soon(_)) {
            self.quiet = Quiet::Now;
        }
        !matches!(self.quiet, Quiet::No) && !self.peer.requests().is_open()
    }

    /// Lets others have their turn: the writer, or, after [`TURNS`], everybody.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        self.read = 0;
        self.turns += 1;
        let large = matches!(&self.activity, Activity::Busy(busy) if busy.buffer.is_large());
        // With small frames the same number of bytes is too many frames to read without yielding.
        if self.turns < TURNS && large {
            return Poll::Ready(Input::Turn);
        }
        self.turns = 0;
        // Wakes after the runtime has looked at its sockets, which a mere wake-up would delay.
        let _ = std::pin::pin!(tokio::task::yield_now()).poll(cx);
        Poll::Pending
    }

    /// Waits for room for the results, but no longer than the peer's frames may take once the peer
    /// is gone.
    ///
    /// # Cancel safety
    ///
    /// Safe: the next call continues where this one stopped.
    pub(super) async fn wait_for_room(&mut self) -> Input {
        let room = self.activity.busy(&self.peer).driver.wait_for_room();
        match &mut self.drain {
            None => room.await,
            Some(drain) => tokio::select! {
                () = room => {}
                () = drain => return Input::End(DisconnectReason::Closed),
            },
        }
        Input::Again
    }

    /// Returns the timer that limits how long handlers may take after the peer has gone, and starts
    /// it if it does not run.
    fn drain_timer(&mut self) -> Pin<&mut Sleep> {
        let limit: Duration = self.peer.node().config().drain;
        let timer = &mut self.drain;
        timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)))
            .as_mut()
    }
}
