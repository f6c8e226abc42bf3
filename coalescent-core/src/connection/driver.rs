//! The life of a connection: introduced, joined, running, ended.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::ConnectionInfo;
use super::control::Control;
use super::handshake::{DISCARD_MAX, Introduced, LINGER, discard, introduce, part};
use super::reader::{Reader, Stopped};
use super::stack_driver::IdleDriver;
use super::standby::{Outcome, Waiting};
use super::watch::Watchdog;
use super::writer::Writer;
use crate::error::Error;
use crate::node::hooks::BoxFuture;
use crate::node::peer::handle::{Command, ConnectionHandle, Quiesced};
use crate::node::peer::{Introduction, Peer};
use crate::node::standing::MAX_STANDING_TIME;
use crate::node::{Joined, Node, Refusal, Standing};
use crate::reason::DisconnectReason;
use crate::stack::PeerService;
use crate::transport::{Direction, reset_at_close};
use crate::wire::{Block, Kind, WireCodec, encode_reason};

/// A connection that has got past its handshake.
#[derive(Debug)]
pub(crate) enum Established<IO> {
    /// It has a peer, and can be run.
    Connected(Connection<IO>),
    /// The other end is this node itself, as far as can be told.
    Myself,
    /// The other end is, or says that it is, this peer, who is connected by another connection and
    /// stays so. This one has ended.
    Already(Peer),
}

/// A connection to a peer, to be run with a stack.
#[derive(Debug)]
pub(crate) struct Connection<IO> {
    io: IO,
    codec: WireCodec,
    buf: BytesMut,
    first: Option<Block>,
    stop: Arc<ConnectionHandle>,
    member: Member,
    /// Whether the peer was not connected before.
    new: bool,
    /// Whether another connection carries what is written to the peer.
    retired: bool,
}

/// A connection's place in the roster, given up when this is dropped.
#[derive(Debug)]
struct Member {
    peer: Peer,
    stop: Arc<ConnectionHandle>,
    left: bool,
}

impl Member {
    /// Gives the place up; what is queued for the peer can still be written. Returns whether the
    /// peer has left with it.
    fn part(&mut self, reason: &DisconnectReason) -> bool {
        self.left |= self.peer.node().part(&self.peer, self.stop.id(), reason);
        self.left
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Only where the connection was dropped while it ran.
        let reason = DisconnectReason::Disconnected("the connection was dropped".to_owned());
        if self.peer.is_connected() && self.part(&reason) {
            self.peer.node().departed(&self.peer, reason);
        }
        if self.left {
            self.peer.forget();
        }
    }
}

/// Brings a connection as far as a connected peer. `admit` has the last word, once the peer has
/// introduced itself, and may be asked again.
///
/// # Errors
///
/// Where the handshake fails, or one side refuses the other.
pub(crate) async fn establish<IO>(
    io: IO,
    node: &Arc<Node>,
    socket: ConnectionInfo,
    admit: impl FnMut() -> Result<(), Refusal>,
) -> Result<Established<IO>, Error>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let wire = socket
        .wire
        .clone()
        .unwrap_or_else(|| node.config().wire.clone());
    let origin = socket.origin();
    let introduced = introduce(io, node, wire, origin, socket.key, socket.listen).await?;
    let Introduced {
        mut io,
        mut codec,
        mut buf,
        mut block,
        intro,
    } = introduced;
    let stop = Arc::new(ConnectionHandle::new(node.next_link(), origin.direction));
    let entry = {
        let mut waiting = Waiting {
            io: &mut io,
            codec: &mut codec,
            buf: &mut buf,
            block: &mut block,
        };
        enter(&mut waiting, node, &intro, &stop, admit).await
    };
    let (peer, new, retired) = match entry {
        Ok(Entry::New(peer)) => (peer, true, false),
        Ok(Entry::Joined(Joined::TakesOver(peer) | Joined::Beside(peer))) => (peer, false, false),
        Ok(Entry::Joined(Joined::Yields(peer))) => (peer, false, true),
        Ok(Entry::Left(peer)) => return Ok(Established::Already(peer)),
        Err(NoEntry::Failed(error)) => return Err(error),
        Err(NoEntry::Refused(refusal, connected)) => {
            part(&mut io, &mut codec, refusal.words()).await;
            return match (refusal, connected) {
                (Refusal::Myself, _) => Ok(Established::Myself),
                (_, Some(peer)) if origin.direction == Direction::Outbound => {
                    Ok(Established::Already(peer))
                }
                _ => Err(Error::refused(refusal.words())),
            };
        }
    };
    let member = Member {
        peer,
        stop: Arc::clone(&stop),
        left: false,
    };
    Ok(Established::Connected(Connection {
        io,
        codec,
        buf,
        first: block,
        stop,
        member,
        new,
        retired,
    }))
}

/// How a connection gets into the roster.
enum Entry {
    /// As that of a peer that was not connected.
    New(Peer),
    /// Beside, or in place of, another one to the same peer.
    Joined(Joined),
    /// Not at all: the other side leaves it, since this peer is connected.
    Left(Peer),
}

/// Why it does not.
enum NoEntry {
    /// This node refuses it, because of this peer where there is one.
    Refused(Refusal, Option<Peer>),
    Failed(Error),
}

impl From<Refusal> for NoEntry {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal, None)
    }
}

/// Brings a connection that has introduced itself into the roster, as soon as nobody else is there
/// who is the same, or says so.
async fn enter<IO>(
    waiting: &mut Waiting<'_, IO>,
    node: &Arc<Node>,
    intro: &Introduction,
    stop: &Arc<ConnectionHandle>,
    mut admit: impl FnMut() -> Result<(), Refusal>,
) -> Result<Entry, NoEntry>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let since = Instant::now();
    loop {
        let Some(standing) = node.look_up(intro, stop)? else {
            admit()?;
            match node.join(intro, stop)? {
                Some(peer) => return Ok(Entry::New(peer)),
                None => continue,
            }
        };
        let refused = |peer: &Peer| NoEntry::Refused(Refusal::AlreadyConnected, Some(peer.clone()));
        let waits = timeout_at(since + MAX_STANDING_TIME, waiting.run(&standing, since));
        match waits.await {
            Ok(Ok(Outcome::Decided(Standing::Free | Standing::Wait(_)))) => {}
            Ok(Ok(Outcome::Decided(Standing::Joined(joined)))) => {
                if let Err(refusal) = admit() {
                    standing.give_back(joined);
                    return Err(refusal.into());
                }
                return Ok(Entry::Joined(joined));
            }
            Ok(Ok(Outcome::Left)) => return Ok(Entry::Left(standing.peer().clone())),
            Ok(Err(error)) => return Err(NoEntry::Failed(error)),
            Ok(Ok(Outcome::Decided(Standing::Refused))) | Err(_) => {
                return Err(refused(standing.peer()));
            }
        }
    }
}

/// How a connection ends.
#[derive(Debug)]
enum End {
    /// The peer sends no more. It gets what is queued for it.
    Theirs(DisconnectReason),
    /// This node wants to end. The peer gets what is queued for it, and a goodbye, and what it
    /// still sends is handled.
    Ours(DisconnectReason),
    /// Another connection has taken over.
    Retired,
    /// The peer did what it must not. It is told so, and gets nothing else.
    Fault(DisconnectReason),
    /// The connection is of no more use.
    Broken(DisconnectReason),
}

impl End {
    fn of_reader(reason: DisconnectReason) -> Self {
        match reason {
            DisconnectReason::Closed | DisconnectReason::Bye(_) => Self::Theirs(reason),
            DisconnectReason::Io(_) => Self::Broken(reason),
            reason => Self::Fault(reason),
        }
    }

    fn of_watch(reason: DisconnectReason) -> Self {
        match reason {
            DisconnectReason::FrameTimeout => Self::Fault(reason),
            reason => Self::Broken(reason),
        }
    }

    /// The end that a command asks for, or what is to be dropped in place of one.
    fn of_command(command: Command) -> Result<Self, Quiesced> {
        match command {
            Command::Quiesce(quiesced) => Err(quiesced),
            Command::End(reason) => Ok(Self::Ours(reason)),
            Command::Retire => Ok(Self::Retired),
        }
    }
}

impl<IO> Connection<IO> {
    pub(crate) fn peer(&self) -> &Peer {
        &self.member.peer
    }

    /// Whether another connection carries what is written to the peer.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired
    }
}

/// The two halves of a running connection, and what they share.
struct Running<IO, S: PeerService> {
    reader: Reader<ReadHalf<IO>, S>,
    writer: Writer<WriteHalf<IO>>,
    watch: Watchdog,
    stop: Arc<ConnectionHandle>,
}

impl<IO> Connection<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    /// Runs the connection until it has ended, and says why it did.
    // Not an async function, which would keep room for what it is made of beside what it makes of
    // that.
    pub(crate) fn run<S: PeerService>(
        self,
        stack: S,
    ) -> impl Future<Output = DisconnectReason> + use<IO, S> {
        let retired = self.retired;
        let (mut running, mut member) = self.start(stack);
        async move {
            let end = if retired {
                End::Retired
            } else {
                running.run(&mut member).await
            };
            let reason = match &end {
                End::Theirs(reason)
                | End::Ours(reason)
                | End::Fault(reason)
                | End::Broken(reason) => reason.clone(),
                End::Retired => DisconnectReason::Disconnected("already connected".to_owned()),
            };
            if !matches!(reason, DisconnectReason::Slow) {
                let peer = &member.peer;
                peer.node().spent(peer, running.watch.spent());
            }
            let left = member.part(&reason);
            // Boxed, so that a connection does not keep room for its end all the while.
            Box::pin(running.end(end)).await;
            running.close();
            if left {
                let node = member.peer.node();
                node.departed(&member.peer, reason.clone());
                for hook in &node.hooks().disconnect {
                    hook(member.peer.clone()).await;
                }
            }
            reason
        }
    }

    /// Makes the halves of the connection.
    fn start<S: PeerService>(self, stack: S) -> (Running<IO, S>, Member) {
        let Self {
            io,
            codec,
            buf,
            first,
            stop,
            member,
            new,
            retired: _,
        } = self;
        let peer = &member.peer;
        let node = peer.node();

        let hooks = new.then(|| connect_hooks(node, peer)).flatten();
        let (read, write) = tokio::io::split(io);
        let control = Arc::new(Control::default());
        let rest = IdleDriver::new(stop.id(), peer, stack);
        let mut reader = Reader::new(
            read,
            codec,
            peer.clone(),
            rest,
            Arc::clone(&control),
            Arc::clone(&stop),
        );
        reader.begin(hooks, first, buf);
        let running = Running {
            reader,
            watch: Watchdog::new(peer, Arc::clone(&control), Arc::clone(&stop)),
            writer: Writer::new(write, peer.clone(), stop.id(), control),
            stop,
        };
        // What came right behind the introduction may be the beginning of a frame.
        let partial = running.reader.partial();
        running.watch.decoded(false, partial, Instant::now());
        (running, member)
    }
}

impl<IO, S> Running<IO, S>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
    S: PeerService,
{
    async fn run(&mut self, member: &mut Member) -> End {
        let Self {
            reader,
            writer,
            watch,
            stop,
            ..
        } = self;
        let mut broken = None;
        loop {
            let failed = tokio::select! {
                // What the reader hands on is written next, without being woken for it.
                biased;
                stopped = reader.run(watch) => match (broken, stopped) {
                    (None, Stopped::Turn) => writer.write_some().await,
                    (Some(_), Stopped::Turn) => None,
                    (Some(kind), Stopped::Ended(DisconnectReason::Closed | DisconnectReason::Io(_))) => {
                        return End::Broken(DisconnectReason::Io(kind));
                    }
                    (_, Stopped::Ended(reason)) => return End::of_reader(reason),
                },
                error = writer.run_forever(), if broken.is_none() => Some(error),
                reason = watch.run() => return End::of_watch(reason),
                command = poll_fn(|cx| stop.poll_given(cx)) => match End::of_command(command) {
                    Ok(end) => return end,
                    Err(quiesced) => {
                        reader.quiesce(quiesced);
                        None
                    }
                },
            };
            if let Some(error) = failed {
                // What the peer said before can still be read, and handled. It gets nothing more,
                // so its place is free, and what waits for room to answer it waits in vain.
                broken = Some(error.kind());
                member.part(&DisconnectReason::Io(error.kind()));
                reader.expect_end();
            }
        }
    }

    /// Ends the connection as politely as its end allows, in a bounded time.
    async fn end(&mut self, end: End) {
        let deadline = self.reader.peer().node().deadline();
        match end {
            End::Broken(_) => {}
            End::Fault(reason) => {
                let words = self.last_words(&reason.to_string());
                let linger = Instant::now() + LINGER;
                self.writer.forget();
                if let Ok(Ok(())) = timeout_at(linger, self.writer.finish(&words)).await {
                    // Whether it reads that or not, it is disconnected.
                    let _ = timeout_at(linger, discard(self.reader.io_mut(), DISCARD_MAX)).await;
                }
            }
            End::Theirs(_) => {
                // What they still read they get; that they do not read any more is no error here.
                let write = async {
                    self.writer.run().await?;
                    self.writer.finish(&[]).await
                };
                let _ = timeout_at(deadline, write).await;
            }
            End::Ours(reason) => {
                let words = self.last_words(&reason.to_string());
                self.leave(&words, deadline).await;
            }
            End::Retired => {
                let words = self.last_words("already connected");
                self.leave(&words, deadline).await;
            }
        }
    }

    /// Writes what is queued and a goodbye, and handles what the peer sends until it closes too, or
    /// the time is up. What it sends then is thrown away for a moment more: closing on unread bytes
    /// would reset the connection, which a peer may take badly (the Node original ends).
    async fn leave(&mut self, words: &[u8], deadline: Instant) {
        let Self {
            reader,
            writer,
            watch,
            ..
        } = self;
        reader.go_on_reading();
        let has_handshake = reader.has_handshake();
        let write = async {
            writer.run().await?;
            writer.finish(words).await
        };
        tokio::pin!(write);
        let (mut reading, mut writing) = (true, true);
        let mut until = deadline;
        while reading || writing {
            tokio::select! {
                // What the reader hands on is written next, without being woken for it.
                biased;
                stopped = reader.run(watch), if reading => reading = matches!(stopped, Stopped::Turn),
                written = &mut write, if writing => {
                    writing = false;
                    if written.is_err() {
                        return;
                    }
                    if !has_handshake {
                        // Nobody on the other side was told to close.
                        until = deadline.min(Instant::now() + LINGER);
                    }
                }
                () = sleep_until(until) => break,
            }
        }
        if !writing {
            let _ = timeout(LINGER, discard(reader.io_mut(), DISCARD_MAX)).await;
        }
    }

    /// Closes the socket: with a reset, where a frame was begun and not ended on a wire whose other
    /// side would take its beginning for all of it.
    fn close(self) {
        let Self { reader, writer, .. } = self;
        let has_handshake = reader.has_handshake();
        let read = reader.into_io();
        if let Some((write, torn)) = writer.into_io()
            && torn
            && !has_handshake
        {
            reset_at_close(&read.unsplit(write));
        }
    }

    /// The goodbye, where the wire has one.
    fn last_words(&self, reason: &str) -> Bytes {
        let peer = self.reader.peer();
        let mut codec = peer.wire().codec(peer.node().config().max_frame);
        let mut bye = BytesMut::new();
        match codec.encode(Kind::Bye, 0, encode_reason(reason), &mut bye) {
            Ok(()) => bye.freeze(),
            Err(_) => Bytes::new(),
        }
    }
}

fn connect_hooks(node: &Arc<Node>, peer: &Peer) -> Option<BoxFuture> {
    if node.hooks().connect.is_empty() {
        return None;
    }
    let node = Arc::clone(node);
    let peer = peer.clone();
    Some(Box::pin(async move {
        for hook in &node.hooks().connect {
            hook(peer.clone()).await;
        }
    }))
}
