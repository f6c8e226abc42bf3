//! Drives a connection: reads, handles, writes and watches until one of them ends it.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::time::Instant;

use super::clock;
use super::closing::{Closing, End};
use super::control::Control;
use super::membership::Membership;
use super::reader::{Input, Reader};
use super::stack_driver::IdleDriver;
use super::watch::Watchdog;
use super::writer::Writer;
use crate::node::peer::Peer;
use crate::node::peer::handle::{Command, ConnectionHandle};
use crate::reason::DisconnectReason;
use crate::stack::PeerService;
use crate::wire::{Block, WireCodec};

/// A connection that has a peer, to be run with a stack.
#[derive(Debug)]
pub(crate) struct Connection<IO> {
    pub(super) io: IO,
    pub(super) codec: WireCodec,
    /// Frames, and bytes behind them, that were read together with the introduction.
    pub(super) first: Option<Block>,
    pub(super) buf: BytesMut,
    pub(super) handle: Arc<ConnectionHandle>,
    pub(super) membership: Membership,
    /// Whether another connection has taken over all writes to the peer.
    pub(super) retired: bool,
}

/// The states of a connection that has a peer.
#[derive(Debug)]
enum State {
    /// Frames go both ways.
    Open,
    /// A write failed with this error. Frames that the peer sent before are still read and handled,
    /// until its stream ends. Its place in the roster is free.
    WriteFailed(io::ErrorKind),
    /// The connection is being ended in this way.
    Ending(End),
}

/// An event that may change the state of a connection.
enum Event {
    Input(Input),
    WriteFailed(io::ErrorKind),
    /// The watchdog gave the peer up.
    GivenUp(DisconnectReason),
    /// Another task told the connection to do something.
    Told(Command),
}

/// A running connection.
struct Driver<IO, S: PeerService> {
    reader: Reader<ReadHalf<IO>, S>,
    edge: Edge<WriteHalf<IO>>,
    state: State,
    membership: Membership,
}

/// The parts of a connection that are polled also while its reader waits for room: the writer, the
/// watchdog, and the commands of other tasks.
struct Edge<W> {
    writer: Writer<W>,
    /// False once a write has failed. The driver then polls the writer no more.
    writes: bool,
    watch: Watchdog,
    handle: Arc<ConnectionHandle>,
}

impl<IO> Connection<IO> {
    pub(crate) fn peer(&self) -> &Peer {
        self.membership.peer()
    }

    /// Returns whether another connection has taken over all writes to the peer.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired
    }
}

impl<IO> Connection<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    /// Runs the connection until it has ended, and returns the reason.
    // Not an async function: its future would have room for both the connection and its driver, and
    // would be larger for as long as the connection runs.
    pub(crate) fn run<S: PeerService>(
        self,
        stack: S,
    ) -> impl Future<Output = DisconnectReason> + use<IO, S> {
        let mut driver = self.into_driver(stack);
        async move {
            let end = driver.run_to_ending().await;
            let reason = end.reason();
            let peer_left = driver.give_up(&reason);
            // Boxed, so that no connection has room for its end while it runs.
            let membership = Box::pin(driver.close(end)).await;
            if peer_left {
                membership.announce(&reason).await;
            }
            reason
        }
    }

    fn into_driver<S: PeerService>(self, stack: S) -> Driver<IO, S> {
        let now = clock::now();
        let peer = self.membership.peer().clone();
        let (read, write) = tokio::io::split(self.io);
        let control = Arc::new(Control::default());
        let handle = self.handle;
        let idle = IdleDriver::new(handle.id(), &peer, stack);
        let mut watch = Watchdog::new(&peer, Arc::clone(&control), Arc::clone(&handle), now);
        let mut reader = Reader::new(
            read,
            self.codec,
            peer.clone(),
            idle,
            Arc::clone(&control),
            Arc::clone(&handle),
        );
        reader.begin(self.first, self.buf, now);
        // The bytes behind the introduction may be a part of a frame.
        watch.decoded(false, reader.partial(), now);
        Driver {
            reader,
            edge: Edge {
                writer: Writer::new(write, peer, handle.id(), control),
                writes: true,
                watch,
                handle,
            },
            state: if self.retired {
                State::Ending(End::Retired)
            } else {
                State::Open
            },
            membership: self.membership,
        }
    }
}

impl<IO, S> Driver<IO, S>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
    S: PeerService,
{
    /// Runs the connection until its state is [`State::Ending`].
    async fn run_to_ending(&mut self) -> End {
        loop {
            if let State::Ending(end) = &self.state {
                return end.clone();
            }
            let mut event = self.next_event().await;
            if matches!(event, Event::Input(Input::Full)) {
                event = self.wait_for_room().await;
            }
            self.handle_event(event);
        }
    }

    /// Gives up the place in the roster. Returns whether the peer has left with this connection.
    fn give_up(&mut self, reason: &DisconnectReason) -> bool {
        if !reason.is_slow() {
            let peer = self.membership.peer();
            peer.node().spent(peer, self.edge.watch.spent(clock::now()));
        }
        self.membership.give_up(reason)
    }

    /// Ends the connection in this way.
    async fn close(self, end: End) -> Membership {
        let closing = Closing {
            reader: self.reader,
            writer: self.edge.writer,
            watch: self.edge.watch,
        };
        closing.run(end).await;
        self.membership
    }

    async fn next_event(&mut self) -> Event {
        let Self { reader, edge, .. } = self;
        clock::turns(|cx, now| {
            match reader.poll(cx, now, &mut edge.watch) {
                Poll::Ready(Input::Again) => return Poll::Ready(None),
                Poll::Ready(Input::Turn) => {
                    return Poll::Ready(match edge.poll_write(cx) {
                        Poll::Ready(failed) => Some(failed),
                        Poll::Pending => None,
                    });
                }
                Poll::Ready(input) => return Poll::Ready(Some(Event::Input(input))),
                Poll::Pending => {}
            }
            // Replies of the reader are written in the same poll.
            edge.poll(cx, now).map(Some)
        })
        .await
    }

    /// Waits for room for the results that the reader has, or for another event.
    async fn wait_for_room(&mut self) -> Event {
        let Self {
            reader,
            edge,
            membership,
            ..
        } = self;
        let peer = membership.peer();
        // Boxed, so that no connection has room for this while it runs.
        let mut room = Box::pin(reader.wait_for_room());
        clock::turns(|cx, now| match room.as_mut().poll(cx) {
            Poll::Ready(input) => Poll::Ready(Some(Event::Input(input))),
            Poll::Pending => {
                peer.poll_channels(cx);
                edge.poll(cx, now).map(Some)
            }
        })
        .await
    }

    fn handle_event(&mut self, event: Event) {
        let end = match event {
            Event::Input(Input::End(reason)) => match (&self.state, &reason) {
                // The failed write was noticed first.
                (State::WriteFailed(kind), DisconnectReason::Closed | DisconnectReason::Io(_)) => {
                    End::Broken(DisconnectReason::Io(*kind))
                }
                _ => End::of_input(reason),
            },
            Event::Input(Input::Again | Input::Turn | Input::Full) => return,
            Event::WriteFailed(kind) => {
                self.edge.writes = false;
                self.membership.give_up(&DisconnectReason::Io(kind));
                self.reader.expect_end();
                self.state = State::WriteFailed(kind);
                return;
            }
            Event::GivenUp(reason) => End::of_watch(reason),
            Event::Told(Command::Quiesce(quiesced)) => {
                self.reader.quiesce(quiesced);
                return;
            }
            Event::Told(Command::End(reason)) => End::Ours(reason),
            Event::Told(Command::Reject(reason)) => End::Fault(reason),
            Event::Told(Command::Retire) => End::Retired,
        };
        self.state = State::Ending(end);
    }
}

impl<W: AsyncWrite + Unpin> Edge<W> {
    fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Event> {
        if let Poll::Ready(failed) = self.poll_write(cx) {
            return Poll::Ready(failed);
        }
        if let Poll::Ready(reason) = self.watch.poll(cx, now) {
            return Poll::Ready(Event::GivenUp(reason));
        }
        self.handle.poll_given(cx).map(Event::Told)
    }

    /// Writes as much as the socket takes. Ready if that fails.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if self.writes
            && let Poll::Ready(Err(error)) = self.writer.poll_run(cx, true)
        {
            return Poll::Ready(Event::WriteFailed(error.kind()));
        }
        Poll::Pending
    }
}
