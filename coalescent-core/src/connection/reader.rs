//! The reading half of a connection: reads frames, answers control frames, feeds the work.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::buf::Limit;
use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::io::poll_read_buf;

use super::buffer::{Buffer, READ_MAX, READ_MIN};
use super::control::Control;
use super::stack_driver::{IdleDriver, StackDriver, Step};
use super::watch::Watchdog;
use crate::node::as_token;
use crate::node::hooks::BoxFuture;
use crate::node::peer::Peer;
use crate::node::peer::handle::{ConnectionHandle, Quiesced};
use crate::reason::DisconnectReason;
use crate::stack::PeerService;
use crate::wire::{Block, Kind, WireCodec, decode_reason};

/// A read that brings as much and does not fill its room may be a part of what is there: streams
/// that decrypt give a record of 16 KiB at a time. It is taken apart together with what follows at
/// once, so that the work of a block is not done for each.
const PART: usize = 4 * 1024;

/// After this long with nothing read, a connection gives its buffer back.
const IDLE: Duration = Duration::from_secs(1);

/// After this many bytes, what is written to the same peer has its turn, however much there is to
/// read.
const TURN: usize = 256 * 1024;

/// After this many turns, others have theirs: the connection's clock, and the other connections.
const TURNS: usize = 2;

/// Why reading ended, other than by the peer's own will.
pub(super) type Ended = DisconnectReason;

/// Reads what one peer sends, over one connection, and works on it.
pub(super) struct Reader<R, S: PeerService> {
    io: R,
    codec: WireCodec,
    peer: Peer,
    activity: Activity<S>,
    control: Arc<Control>,
    stop: Arc<ConnectionHandle>,
    /// Nothing more will be read, for this reason.
    ended: Option<Ended>,
    read_ahead: usize,
    /// How many bytes were read since the writer had its turn, and how many turns it had since
    /// others had theirs.
    turn: usize,
    turns: usize,
    /// Whether `buf` may hold whole frames, since decoding stopped where enough was read ahead.
    undecoded: bool,
    /// Whether nothing more is read, for now.
    quiet: Quiet,
    /// How long what the peer sent may take, once it is gone.
    drain: Option<Pin<Box<Sleep>>>,
}

/// What a connection holds for its frames: next to nothing while none come.
enum Activity<S: PeerService> {
    /// Taken out only as it changes to the other.
    Rest(Option<IdleDriver<S>>),
    Busy(Box<Busy<S>>),
}

struct Busy<S: PeerService> {
    buffer: Buffer,
    work: StackDriver<S>,
    idle: Option<Pin<Box<Sleep>>>,
    read_since_idle: bool,
    /// The end, which was found behind what was read last: it counts once that is taken apart and
    /// there is room for more.
    end: Option<Ended>,
}

impl<S: PeerService> Activity<S> {
    /// What is there for frames of `peer`, made where it is not.
    #[inline]
    fn busy(&mut self, peer: &Peer) -> &mut Busy<S> {
        if let Self::Rest(rest) = self
            && let Some(rest) = rest.take()
        {
            *self = Self::Busy(Box::new(Busy {
                buffer: Buffer::new(BytesMut::new()),
                work: rest.wake(peer),
                idle: None,
                read_since_idle: false,
                end: None,
            }));
        }
        match self {
            Self::Busy(busy) => busy,
            Self::Rest(_) => unreachable!("it is taken out only just before"),
        }
    }

    /// Gives back what is there for frames, if there is nothing to do with any.
    fn rest(&mut self) {
        if let Self::Busy(busy) = self
            && busy.work.can_sleep()
            && let Self::Busy(busy) = std::mem::replace(self, Self::Rest(None))
        {
            *self = Self::Rest(Some(busy.work.fall_asleep()));
        }
    }
}

/// Whether a connection reads.
enum Quiet {
    /// It does.
    No,
    /// It does not, and drops this once what it has read is handed on.
    Soon(#[allow(dead_code, reason = "it is only dropped")] Quiesced),
    /// It does not, and has nothing left to hand on.
    Now,
}

enum Event {
    HandOn,
    Read,
    Decode,
    Turn,
    End(Ended),
}

/// Why reading has stopped.
pub(super) enum Stopped {
    /// For the writer to have its turn: much was read, and there may be more.
    Turn,
    /// For good.
    Ended(Ended),
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
        rest: IdleDriver<S>,
        control: Arc<Control>,
        stop: Arc<ConnectionHandle>,
    ) -> Self {
        Self {
            read_ahead: peer.node().config().read_ahead,
            io,
            codec,
            peer,
            activity: Activity::Rest(Some(rest)),
            control,
            stop,
            ended: None,
            turn: 0,
            turns: 0,
            undecoded: false,
            quiet: Quiet::No,
            drain: None,
        }
    }

    /// Reads no more, but for answers that are waited for; drops `quiesced` once all that was read
    /// has been handed on.
    pub(super) fn quiesce(&mut self, quiesced: Quiesced) {
        self.quiet = Quiet::Soon(quiesced);
    }

    /// Reads again.
    pub(super) fn go_on_reading(&mut self) {
        self.quiet = Quiet::No;
    }

    /// Begins with `hooks`, which run before the first frame, and with what came with the
    /// introduction: the block `first`, and `buf` behind it.
    pub(super) fn begin(&mut self, hooks: Option<BoxFuture>, first: Option<Block>, buf: BytesMut) {
        let nothing = buf.is_empty() && !self.codec.may_hold_frames(&buf);
        if hooks.is_none() && first.is_none() && nothing {
            return;
        }
        let busy = self.activity.busy(&self.peer);
        busy.buffer = Buffer::new(buf);
        if let Some(hooks) = hooks {
            busy.work.run_hooks(hooks);
        }
        if let Some(block) = first {
            self.take(block, Instant::now());
        }
        self.decode(false, Instant::now());
    }

    /// Reads and works until it is the writer's turn, or until the peer has ended what it sends,
    /// and all of it is handled, or until something is wrong with it.
    ///
    /// # Cancel safety
    ///
    /// Safe: the next call goes on where this one was.
    pub(super) async fn run(&mut self, watch: &Watchdog) -> Stopped {
        loop {
            let event = std::future::poll_fn(|cx| self.poll_event(cx, watch)).await;
            match event {
                Event::HandOn => {
                    let work = &mut self.activity.busy(&self.peer).work;
                    if !work.hand_on() {
                        watch.reading(false);
                        // Boxed, so that a connection does not keep room for this all the while.
                        let room = Box::pin(work.wait_for_room());
                        match &mut self.drain {
                            None => room.await,
                            // The peer is gone, and what it said is given no more than this time.
                            Some(drain) => tokio::select! {
                                () = room => {}
                                () = drain => return Stopped::Ended(DisconnectReason::Closed),
                            },
                        }
                    }
                }
                Event::Read => {
                    let now = Instant::now();
                    let completed = self.decode(self.ended.is_some(), now);
                    watch.read(completed, self.partial(), now);
                }
                Event::Decode => {
                    let now = Instant::now();
                    let completed = self.decode(self.ended.is_some(), now);
                    watch.decoded(completed, self.partial(), now);
                }
                Event::Turn => return Stopped::Turn,
                Event::End(reason) => return Stopped::Ended(reason),
            }
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>, watch: &Watchdog) -> Poll<Event> {
        let (idle, large, backlog) = match &mut self.activity {
            Activity::Rest(_) => (true, false, 0),
            Activity::Busy(busy) => {
                let idle = match busy.work.poll(cx, Instant::now()) {
                    Step::HandOn => return Poll::Ready(Event::HandOn),
                    Step::End(reason) => return Poll::Ready(Event::End(reason)),
                    Step::Idle => true,
                    Step::Busy => false,
                };
                (idle, busy.buffer.is_large(), busy.work.backlog())
            }
        };
        let room = idle || backlog < self.read_ahead;
        if self.undecoded && room && !self.is_over() {
            return Poll::Ready(Event::Decode);
        }
        if let Some(reason) = self.ended.clone() {
            let over = idle || self.poll_drain(cx).is_ready();
            return if over {
                Poll::Ready(Event::End(reason))
            } else {
                Poll::Pending
            };
        }
        if self.drain.is_some() && self.poll_drain(cx).is_ready() {
            return Poll::Ready(Event::End(DisconnectReason::Closed));
        }
        if idle && matches!(self.quiet, Quiet::Soon(_)) {
            self.quiet = Quiet::Now;
        }
        let quiet = !matches!(self.quiet, Quiet::No) && !self.peer.requests().is_open();
        if !room || quiet {
            watch.reading(false);
            return Poll::Pending;
        }
        watch.reading(true);
        if self.turn >= TURN {
            self.turn = 0;
            self.turns += 1;
            // Of small frames there are too many in as many bytes.
            if self.turns < TURNS && large {
                return Poll::Ready(Event::Turn);
            }
            self.turns = 0;
            // Woken after the runtime has looked at its sockets, which a mere wake-up would put
            // off.
            let _ = std::pin::pin!(tokio::task::yield_now()).poll(cx);
            return Poll::Pending;
        }
        self.poll_read(cx).map(|()| Event::Read)
    }

    /// Bounds how long handlers may take after the peer has gone, since nobody else notices.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.peer.node().config().drain;
        self.drain
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)))
            .as_mut()
            .poll(cx)
    }

    /// The socket can no longer be written to: the end of what can be read is near.
    pub(super) fn expect_end(&mut self) {
        let limit = self.peer.node().config().drain;
        self.drain
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Whether the wire has a handshake, and so a goodbye.
    pub(super) fn has_handshake(&self) -> bool {
        self.peer.wire().has_handshake()
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let left = TURN.saturating_sub(self.turn);
        let read = match &mut self.activity {
            Activity::Busy(busy) if busy.end.is_some() => {
                self.ended = busy.end.take();
                return Poll::Ready(());
            }
            Activity::Busy(busy) if !busy.buffer.is_none() => {
                // The peer's word for a frame's size is taken only as far as it has already sent as
                // much.
                let read = busy.buffer.bytes();
                let missing = self.codec.missing(read).min(read.len().max(READ_MAX));
                let most = busy.buffer.make_room(missing);
                let mut room = busy.buffer.bytes_mut().limit(most);
                poll_read_all(&mut self.io, cx, &mut room, left)
            }
            _ => self.poll_read_first(cx),
        };
        let Poll::Ready((read, end)) = read else {
            self.turn = 0;
            self.turns = 0;
            self.poll_idle(cx);
            return Poll::Pending;
        };
        if read == 0 {
            self.ended = end;
            return Poll::Ready(());
        }
        self.turn += read;
        self.peer.counters().add_bytes_received(read);
        let busy = self.activity.busy(&self.peer);
        busy.buffer.filled();
        busy.read_since_idle = true;
        busy.end = end;
        Poll::Ready(())
    }

    /// Reads what ends a silence.
    fn poll_read_first(&mut self, cx: &mut Context<'_>) -> Poll<(usize, Option<Ended>)> {
        let mut first = [0; READ_MIN];
        let mut first = ReadBuf::new(&mut first);
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut first));
        let first = first.filled();
        if !first.is_empty() {
            self.activity.busy(&self.peer).buffer.start(first);
        }
        Poll::Ready((first.len(), end_of(read.map(|()| first.len()))))
    }

    /// Gives back what is there for frames when nothing has come for a while.
    fn poll_idle(&mut self, cx: &mut Context<'_>) {
        let Activity::Busy(busy) = &mut self.activity else {
            return;
        };
        if !busy.buffer.is_none() {
            let idle = busy
                .idle
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(IDLE)));
            loop {
                if idle.as_mut().poll(cx).is_pending() {
                    return;
                }
                if !std::mem::take(&mut busy.read_since_idle) && busy.buffer.bytes().is_empty() {
                    break;
                }
                idle.as_mut().reset(Instant::now() + IDLE);
            }
            busy.idle = None;
            busy.buffer.fall_idle();
            busy.work.fall_idle();
        }
        self.activity.rest();
    }

    /// Takes apart what was read by `now`; with `last`, there is no more to come. Returns whether a
    /// frame was completed.
    fn decode(&mut self, last: bool, now: Instant) -> bool {
        let mut completed = false;
        self.undecoded = false;
        // Where the peer did not end the stream itself, what stands there last is the part of a
        // frame whose rest is lost.
        let clean = matches!(self.ended, Some(DisconnectReason::Closed));
        while !self.is_over() {
            let Busy { buffer, work, .. } = self.activity.busy(&self.peer);
            let more = last || self.codec.may_hold_frames(buffer.bytes());
            if completed && !more {
                break;
            }
            if completed && work.backlog() >= self.read_ahead {
                self.undecoded = true;
                break;
            }
            let mut block = work.take_block();
            let found = if last && clean {
                self.codec.finish(buffer.bytes_mut(), &mut block)
            } else {
                self.codec.next_block(buffer.bytes_mut(), &mut block)
            };
            match found {
                Ok(true) => {
                    completed = true;
                    self.take(block, now);
                }
                Ok(false) => {
                    work.put_block(block);
                    if last && !buffer.bytes().is_empty() {
                        buffer.fall_idle();
                    }
                    break;
                }
                Err(error) => {
                    // A reset connection is what it is, whatever came before.
                    if !matches!(self.ended, Some(DisconnectReason::Io(_))) {
                        self.ended = Some(DisconnectReason::Protocol(error.to_string()));
                    }
                    buffer.fall_idle();
                    break;
                }
            }
        }
        completed
    }

    /// How long the frame is of which bytes are there and others are missing, as far as is known;
    /// `None` where there is no such.
    pub(super) fn partial(&self) -> Option<usize> {
        match &self.activity {
            Activity::Rest(_) => None,
            Activity::Busy(busy) => {
                let begun = busy.buffer.bytes();
                (!begun.is_empty()).then(|| begun.len() + self.codec.missing(begun))
            }
        }
    }

    /// Whether the peer has said its last, so that nothing after it counts.
    fn is_over(&self) -> bool {
        is_over(self.ended.as_ref())
    }

    /// Answers the control frames of a block, and gives the rest to the work.
    fn take(&mut self, mut block: Block, now: Instant) {
        let Busy { buffer, work, .. } = self.activity.busy(&self.peer);
        let mut frames = 0;
        let mut heads = 0..block.heads.len();
        if block.broadcasts {
            frames = heads.len() as u64;
            heads.start = heads.end;
        }
        for index in heads {
            let Some(&(offset, head)) = block.heads.get(index) else {
                break;
            };
            match head.kind {
                Kind::Data | Kind::Broadcast { .. } | Kind::Plain | Kind::Request { .. } => {
                    frames += 1;
                }
                Kind::Reply { id, status } => {
                    frames += 1;
                    self.peer
                        .requests()
                        .complete(id, status, block.payload(offset, &head));
                }
                Kind::Cancel { id } => work.cancel(id, frames > 0),
                Kind::Ping => {
                    let mut pong = BytesMut::new();
                    let payload = block.payload(offset, &head);
                    let encoded = self.codec.encode(Kind::Pong, 0, &payload, &mut pong);
                    if encoded.is_err() || !self.control.push(&pong) {
                        self.ended = Some(DisconnectReason::Protocol(
                            "pings faster than answers are read".into(),
                        ));
                    }
                    if let Some(token) = as_token(&payload) {
                        self.peer.node().heard(&self.peer, &self.stop, token);
                    }
                }
                Kind::Bye => {
                    let reason = decode_reason(&block.payload(offset, &head));
                    self.ended = Some(DisconnectReason::Bye(reason));
                }
                Kind::Hello => {
                    self.ended = Some(DisconnectReason::Protocol("a second HELLO".into()));
                }
                Kind::Unknown(_) => self.peer.counters().add_unknown(),
                Kind::Pong => {
                    let payload = block.payload(offset, &head);
                    if let Some(after) = self.control.answered(&payload) {
                        self.peer.answered(after);
                    }
                }
                Kind::Nothing => {}
            }
            if is_over(self.ended.as_ref()) {
                block.heads.truncate(index + 1);
                break;
            }
        }
        if frames > 0 {
            self.peer.counters().add_received(frames);
            let last = block.heads.last().map_or(0, |(_, head)| head.wire_len());
            buffer.took(&block.bytes, last);
            work.add(block, buffer.whole(), now);
        } else {
            work.put_block(block);
        }
    }

    /// Gives the socket back, at the end.
    pub(super) fn into_io(self) -> R {
        self.io
    }

    pub(super) fn io_mut(&mut self) -> &mut R {
        &mut self.io
    }
}

/// Whether that is the end of what counts.
fn is_over(ended: Option<&Ended>) -> bool {
    matches!(
        ended,
        Some(DisconnectReason::Bye(_) | DisconnectReason::Protocol(_))
    )
}

/// Whether that is the end of what can be read.
fn end_of(read: io::Result<usize>) -> Option<Ended> {
    match read {
        Ok(0) => Some(DisconnectReason::Closed),
        Ok(_) => None,
        Err(error) => Some(DisconnectReason::Io(error.kind())),
    }
}

/// Reads what is there now, as far as there is `room`, and no more than `most` bytes and a read
/// more. Returns how much that was, and why there will never be more, where that is so.
fn poll_read_all<R: AsyncRead + Unpin>(
    io: &mut R,
    cx: &mut Context<'_>,
    room: &mut Limit<&mut BytesMut>,
    most: usize,
) -> Poll<(usize, Option<Ended>)> {
    let mut all = 0;
    loop {
        let Poll::Ready(read) = poll_read_buf(Pin::new(&mut *io), cx, room) else {
            return if all > 0 {
                Poll::Ready((all, None))
            } else {
                Poll::Pending
            };
        };
        let some = *read.as_ref().unwrap_or(&0);
        all += some;
        let ended = end_of(read);
        if ended.is_some() || some < PART || all >= most || !room.has_remaining_mut() {
            return Poll::Ready((all, ended));
        }
    }
}
