//! Ends a connection: says goodbye, handles the last frames of the peer, and closes the socket.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::clock;
use super::farewell::{Farewell, Written};
use super::handshake::{DISCARD_MAX, LINGER, discard};
use super::reader::{Input, Reader};
use super::watch::Watchdog;
use super::writer::Writer;
use crate::reason::DisconnectReason;
use crate::stack::PeerService;
use crate::transport::reset_at_close;
use crate::wire::{Kind, encode_reason};

/// The words that end a connection which another one replaces.
const REPLACED: &str = "already connected";

/// The ways in which a connection ends.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// The peer has ended its stream. The queue is written.
    Theirs(DisconnectReason),
    /// This node ends the connection. The queue and a BYE are written, and frames that the peer
    /// still sends are handled.
    Ours(DisconnectReason),
    /// As [`Ours`](Self::Ours), since another connection has taken over.
    Retired,
    /// The peer broke the rules. Only a BYE with the reason is written.
    Fault(DisconnectReason),
    /// The socket has failed, or the peer does not answer or read. Nothing is written.
    Broken(DisconnectReason),
}

impl End {
    /// Returns the way to end for a reason that the reader found.
    pub(super) fn of_input(reason: DisconnectReason) -> Self {
        match reason {
            DisconnectReason::Closed | DisconnectReason::Bye(_) => Self::Theirs(reason),
            DisconnectReason::Io(_) => Self::Broken(reason),
            reason => Self::Fault(reason),
        }
    }

    /// Returns the way to end for a reason that the watchdog found.
    pub(super) fn of_watch(reason: DisconnectReason) -> Self {
        match reason {
            DisconnectReason::FrameTimeout => Self::Fault(reason),
            reason => Self::Broken(reason),
        }
    }

    pub(super) fn reason(&self) -> DisconnectReason {
        match self {
            Self::Theirs(reason)
            | Self::Ours(reason)
            | Self::Fault(reason)
            | Self::Broken(reason) => reason.clone(),
            Self::Retired => DisconnectReason::Disconnected(REPLACED.to_owned()),
        }
    }
}

/// A connection that ends.
pub(super) struct Closing<IO, S: PeerService> {
    pub(super) reader: Reader<ReadHalf<IO>, S>,
    pub(super) writer: Writer<WriteHalf<IO>>,
    pub(super) watch: Watchdog,
}

impl<IO, S> Closing<IO, S>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
    S: PeerService,
{
    /// Ends the connection as politely as `end` allows, in a bounded time, and closes the socket.
    pub(super) async fn run(mut self, end: End) {
        let deadline = self.reader.peer().node().deadline();
        match end {
            End::Broken(_) => {}
            End::Theirs(_) => self.flush(deadline).await,
            End::Fault(reason) => self.reject(&reason).await,
            End::Ours(reason) => self.leave(&reason.goodbye(), deadline).await,
            End::Retired => self.leave(REPLACED, deadline).await,
        }
        self.close();
    }

    /// Writes the queue. An error only means that the peer no longer reads.
    async fn flush(&mut self, deadline: Instant) {
        let write = async {
            self.writer.run().await?;
            self.writer.finish(&[]).await
        };
        let _ = timeout_at(deadline, write).await;
    }

    /// Sends the peer a BYE that names its fault. It is disconnected whether it reads that or not.
    async fn reject(&mut self, reason: &DisconnectReason) {
        let peer = self.reader.peer();
        let bye = self.bye(&peer.node().farewell(peer, reason));
        self.writer.forget();
        let goodbye = async {
            self.writer.finish(&bye).await?;
            discard(self.reader.io_mut(), DISCARD_MAX).await
        };
        let _ = timeout(LINGER, goodbye).await;
    }

    /// Writes the queue and a BYE, and handles frames of the peer until it closes too, or until
    /// [`Farewell`] says that it was waited for long enough. Later bytes are read and discarded for
    /// a while, since closing a socket with unread bytes resets the connection. Some peers do not
    /// survive that: the original for Node.js exits.
    async fn leave(&mut self, words: &str, deadline: Instant) {
        let bye = self.bye(words);
        self.reader.go_on_reading();
        let Self {
            reader,
            writer,
            watch,
        } = self;
        let has_handshake = reader.has_handshake();
        let mut farewell = Farewell::new(deadline, clock::now());
        let peer = reader.peer().clone();
        let heard = || peer.counters().bytes_received();
        let is_queued = peer.outbox().used() > 0;
        let before = peer.outbox().written();
        let is_handled = AtomicBool::new(false);
        let written = {
            let mut read = std::pin::pin!(read_to_end(reader, watch, &is_handled));
            let mut write = std::pin::pin!(async {
                writer.run().await?;
                writer.finish(&bye).await
            });
            let (mut reading, mut writing) = (true, true);
            let mut until = farewell.deadline();
            while reading || writing {
                tokio::select! {
                    // Replies of the reader are written in the same poll.
                    biased;
                    () = &mut read, if reading => reading = false,
                    written = &mut write, if writing => {
                        writing = false;
                        if written.is_err() {
                            return;
                        }
                        let frames = is_queued || peer.outbox().written() != before;
                        let written = match (has_handshake, frames) {
                            (false, _) => Written::NoGoodbye,
                            (true, false) => Written::GoodbyeAlone,
                            (true, true) => Written::FramesAndGoodbye,
                        };
                        until = farewell.written(written, heard(), clock::now());
                    }
                    () = sleep_until(until) => {
                        match farewell.go_on(heard(), is_handled.load(Relaxed), clock::now()) {
                            Some(later) => until = later,
                            None => break,
                        }
                    }
                }
            }
            !writing
        };
        if written {
            let until = farewell.discard_until(clock::now());
            let _ = timeout_at(until, discard(self.reader.io_mut(), DISCARD_MAX)).await;
        }
    }

    /// Closes the socket. Resets it if a frame was only written in part, on a wire whose other side
    /// would take that part for a whole frame.
    fn close(self) {
        let has_handshake = self.reader.has_handshake();
        let read = self.reader.into_io();
        if let Some((write, torn)) = self.writer.into_io()
            && torn
            && !has_handshake
        {
            reset_at_close(&read.unsplit(write));
        }
    }

    /// Returns an encoded BYE; nothing if the wire has none.
    fn bye(&self, reason: &str) -> Bytes {
        let peer = self.reader.peer();
        let mut codec = peer.wire().codec(peer.node().config().max_frame);
        let mut bye = BytesMut::new();
        match codec.encode(Kind::Bye, 0, encode_reason(reason), &mut bye) {
            Ok(()) => bye.freeze(),
            Err(_) => Bytes::new(),
        }
    }
}

/// Reads and handles frames to the end of the peer's stream. `is_handled` says whenever it waits
/// whether all is handled that was read.
async fn read_to_end<R, S>(reader: &mut Reader<R, S>, watch: &mut Watchdog, is_handled: &AtomicBool)
where
    R: AsyncRead + Unpin,
    S: PeerService,
{
    loop {
        let input = clock::turns(|cx, now| {
            let polled = reader.poll(cx, now, watch);
            is_handled.store(polled.is_pending() && reader.has_handled_all(), Relaxed);
            polled.map(|input| match input {
                Input::Again | Input::Turn => None,
                input => Some(input),
            })
        });
        let mut input = input.await;
        if matches!(input, Input::Full) {
            input = reader.wait_for_room().await;
        }
        if matches!(input, Input::End(_)) {
            return;
        }
    }
}
