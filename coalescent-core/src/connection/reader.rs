//! The reading half of a connection: reads frames, answers control frames, feeds the work.

use super::buffer::{Buffer, READ_MAX, READ_MIN};
use super::control::Control;
use super::watch::Watch;
use super::work::{Step, Work};
use crate::event::DisconnectReason;
use crate::peer::Peer;
use crate::stack::PeerService;
use crate::wire::{Block, Kind, WireCodec, decode_reason};
use bytes::{BufMut, BytesMut};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::io::poll_read_buf;

/// After this long with nothing read, a connection gives its buffer back.
const IDLE: Duration = Duration::from_secs(1);

/// After this many bytes, what is written to the same peer has its turn, however much there is to read.
const TURN: usize = 256 * 1024;

/// After this many turns, others have theirs: the connection's clock, and the other connections.
const TURNS: usize = 2;

/// Why reading ended, other than by the peer's own will.
pub(super) type Ended = DisconnectReason;

/// Reads what one peer sends, over one connection, and works on it.
pub(super) struct Reader<R, S: PeerService> {
    io: R,
    codec: WireCodec,
    buffer: Buffer,
    idle: Option<Pin<Box<Sleep>>>,
    read_since_idle: bool,
    peer: Peer,
    work: Work<S>,
    control: Arc<Control>,
    /// Nothing more will be read, for this reason.
    ended: Option<Ended>,
    read_ahead: usize,
    /// How many bytes were read since the writer had its turn, and how many turns it had since others had theirs.
    turn: usize,
    turns: usize,
    /// Whether `buf` may hold whole frames, since decoding stopped where enough was read ahead.
    undecoded: bool,
    /// How long what the peer sent may take, once it is gone.
    drain: Option<Pin<Box<Sleep>>>,
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
        buf: BytesMut,
        first: Option<Block>,
        peer: Peer,
        work: Work<S>,
        control: Arc<Control>,
    ) -> Self {
        let read_ahead = peer.node().config().read_ahead;
        let mut reader = Self {
            io,
            codec,
            buffer: Buffer::new(buf),
            idle: None,
            read_since_idle: false,
            peer,
            work,
            control,
            ended: None,
            read_ahead,
            turn: 0,
            turns: 0,
            undecoded: false,
            drain: None,
        };
        if let Some(block) = first {
            reader.take(block, Instant::now());
        }
        reader.decode(false, Instant::now());
        reader
    }

    /// Reads and works until it is the writer's turn, or until the peer has ended what it sends, and all of it is handled,
    /// or until something is wrong with it.
    ///
    /// # Cancel safety
    ///
    /// Safe: the next call goes on where this one was.
    pub(super) async fn run(&mut self, watch: &Watch) -> Stopped {
        loop {
            let event = std::future::poll_fn(|cx| self.poll_event(cx, watch)).await;
            match event {
                Event::HandOn => {
                    if !self.work.hand_on() {
                        watch.reading(false);
                        // Boxed, so that a connection does not keep room for this all the while.
                        Box::pin(self.work.wait_for_room()).await;
                    }
                }
                Event::Read => {
                    let now = Instant::now();
                    let completed = self.decode(self.ended.is_some(), now);
                    watch.read(completed, self.is_mid_frame(), now);
                }
                Event::Decode => {
                    let now = Instant::now();
                    let completed = self.decode(self.ended.is_some(), now);
                    watch.decoded(completed, self.is_mid_frame(), now);
                }
                Event::Turn => return Stopped::Turn,
                Event::End(reason) => return Stopped::Ended(reason),
            }
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>, watch: &Watch) -> Poll<Event> {
        let idle = match self.work.poll(cx) {
            Step::HandOn => return Poll::Ready(Event::HandOn),
            Step::End(reason) => return Poll::Ready(Event::End(reason)),
            Step::Idle => true,
            Step::Busy => false,
        };
        let room = idle || self.work.backlog() < self.read_ahead;
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
        if !room {
            watch.reading(false);
            return Poll::Pending;
        }
        watch.reading(true);
        if self.turn >= TURN {
            self.turn = 0;
            self.turns += 1;
            // Of small frames there are too many in as many bytes.
            if self.turns < TURNS && self.buffer.is_large() {
                return Poll::Ready(Event::Turn);
            }
            self.turns = 0;
            // Woken after the runtime has looked at its sockets, which a mere wake-up would put off.
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
        let read = if self.buffer.is_none() {
            self.poll_read_first(cx)
        } else {
            // The peer's word for a frame's size is taken only as far as it has already sent as much.
            let read = self.buffer.bytes();
            let missing = self.codec.missing(read).min(read.len().max(READ_MAX));
            let most = self.buffer.make_room(missing);
            let mut room = self.buffer.bytes_mut().limit(most);
            poll_read_buf(Pin::new(&mut self.io), cx, &mut room)
        };
        match read {
            Poll::Ready(Ok(0)) => {
                self.ended = Some(DisconnectReason::Closed);
                Poll::Ready(())
            }
            Poll::Ready(Ok(read)) => {
                self.turn += read;
                self.peer.counters().add_bytes_received(read);
                self.buffer.filled();
                self.read_since_idle = true;
                Poll::Ready(())
            }
            Poll::Ready(Err(error)) => {
                self.ended = Some(DisconnectReason::Io(error.kind()));
                Poll::Ready(())
            }
            Poll::Pending => {
                self.turn = 0;
                self.turns = 0;
                self.poll_idle(cx);
                Poll::Pending
            }
        }
    }

    /// Reads what ends a silence.
    fn poll_read_first(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut first = [0; READ_MIN];
        let mut first = ReadBuf::new(&mut first);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut first))?;
        let read = first.filled();
        if !read.is_empty() {
            self.buffer.start(read);
        }
        Poll::Ready(Ok(read.len()))
    }

    /// Gives the buffer back when nothing has come for a while.
    fn poll_idle(&mut self, cx: &mut Context<'_>) {
        if self.buffer.is_none() {
            return;
        }
        let idle = self
            .idle
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(IDLE)));
        while idle.as_mut().poll(cx).is_ready() {
            if !std::mem::take(&mut self.read_since_idle) && self.buffer.bytes().is_empty() {
                self.idle = None;
                self.buffer.fall_idle();
                self.work.fall_idle();
                return;
            }
            idle.as_mut().reset(Instant::now() + IDLE);
        }
    }

    /// Takes apart what was read by `now`; with `last`, there is no more to come. Returns whether a frame was
    /// completed.
    fn decode(&mut self, last: bool, now: Instant) -> bool {
        let mut completed = false;
        self.undecoded = false;
        while !self.is_over() {
            let more = last || self.codec.may_hold_frames(self.buffer.bytes());
            if completed && !more {
                break;
            }
            if completed && self.work.backlog() >= self.read_ahead {
                self.undecoded = true;
                break;
            }
            let mut block = self.work.take_block();
            let found = if last {
                self.codec.finish(self.buffer.bytes_mut(), &mut block)
            } else {
                self.codec.next_block(self.buffer.bytes_mut(), &mut block)
            };
            match found {
                Ok(true) => {
                    completed = true;
                    self.take(block, now);
                }
                Ok(false) => {
                    self.work.put_block(block);
                    break;
                }
                Err(error) => {
                    // A reset connection is what it is, whatever it was cut off in.
                    if !matches!(self.ended, Some(DisconnectReason::Io(_))) {
                        self.ended = Some(DisconnectReason::Protocol(error.to_string()));
                    }
                    self.buffer.fall_idle();
                    break;
                }
            }
        }
        completed
    }

    /// Whether bytes of a frame are there that is not complete, as far as is known.
    pub(super) fn is_mid_frame(&self) -> bool {
        !self.buffer.bytes().is_empty()
    }

    /// Whether the peer has said its last, so that nothing after it counts.
    fn is_over(&self) -> bool {
        matches!(
            self.ended,
            Some(DisconnectReason::Bye(_) | DisconnectReason::Protocol(_))
        )
    }

    /// Answers the control frames of a block, and gives the rest to the work.
    fn take(&mut self, mut block: Block, now: Instant) {
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
                Kind::Cancel { id } => self.work.cancel(id, frames > 0),
                Kind::Ping => {
                    let mut pong = BytesMut::new();
                    let payload = block.payload(offset, &head);
                    let encoded = self.codec.encode(Kind::Pong, 0, &payload, &mut pong);
                    if encoded.is_err() || !self.control.push(&pong) {
                        self.ended = Some(DisconnectReason::Protocol(
                            "pings faster than answers are read".into(),
                        ));
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
            if self.is_over() {
                block.heads.truncate(index + 1);
                break;
            }
        }
        if frames > 0 {
            self.peer.counters().add_received(frames);
            let last = block.heads.last().map_or(0, |(_, head)| head.wire_len());
            self.buffer.took(&block.bytes, last);
            let (size, number) = self.buffer.whole();
            self.work.add(block, size, number, now);
        } else {
            self.work.put_block(block);
        }
    }

    pub(super) fn io_mut(&mut self) -> &mut R {
        &mut self.io
    }
}
