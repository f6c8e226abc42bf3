//! The connections of an [`Internet`](crate::internet::Internet): bytes that arrive in order, after
//! the latency of their link.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// The bytes that may be under way in one direction: what a socket's buffers would hold.
const WINDOW: usize = 256 * 1024;

/// Bytes that are under way.
#[derive(Default)]
struct Bytes {
    buffer: BytesMut,
    /// When how many of the bytes arrive. Empty without latency.
    due: VecDeque<(Instant, usize)>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Nothing more is written. What is there is read first.
    ended: bool,
    /// The connection is cut, or the reader is gone.
    reset: bool,
}

impl Bytes {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()]
            .into_iter()
            .flatten()
        {
            waker.wake();
        }
    }
}

/// One direction of a connection.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<Bytes>>);

impl Pipe {
    fn bytes(&self) -> MutexGuard<'_, Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reset(&self) {
        let mut bytes = self.bytes();
        bytes.reset = true;
        bytes.wake();
    }
}

/// Both directions of a connection, for the network that may cut it.
pub(super) struct Cable([Pipe; 2]);

impl Cable {
    /// Breaks the connection, as a reset does.
    pub(super) fn cut(&self) {
        self.0.iter().for_each(Pipe::reset);
    }

    pub(super) fn is_cut(&self) -> bool {
        // The ends are gone if the network alone holds the pipes.
        self.0.iter().all(|pipe| Arc::strong_count(&pipe.0) == 1)
            || self.0.iter().all(|pipe| pipe.bytes().reset)
    }

    /// Frees the buffers of what was read, and returns the bytes that the connection still takes.
    pub(super) fn trim(&self) -> usize {
        let each = |pipe: &Pipe| {
            let mut bytes = pipe.bytes();
            if bytes.buffer.is_empty() {
                bytes.buffer = BytesMut::new();
                bytes.due = VecDeque::new();
            }
            // The two counters of the `Arc` are beside what it holds.
            let due = bytes.due.capacity() * size_of::<(Instant, usize)>();
            bytes.buffer.capacity() + due + size_of::<Mutex<Bytes>>() + 2 * size_of::<usize>()
        };
        self.0.iter().map(each).sum::<usize>() + 2 * size_of::<End>()
    }
}

/// One end of a connection.
pub(super) struct End {
    /// The address of this end, as the other one sees it.
    pub(super) here: SocketAddr,
    incoming: Pipe,
    outgoing: Pipe,
    latency: Duration,
    /// Wakes the reader when the next bytes arrive. There only while it waits.
    arrival: Option<Pin<Box<Sleep>>>,
}

/// Makes a connection between two addresses whose bytes take so long.
pub(super) fn connection([a, b]: [SocketAddr; 2], latency: Duration) -> (End, End, Cable) {
    let pipes = [Pipe::default(), Pipe::default()];
    let end = |here, incoming: &Pipe, outgoing: &Pipe| End {
        here,
        incoming: incoming.clone(),
        outgoing: outgoing.clone(),
        latency,
        arrival: None,
    };
    let [to_a, to_b] = &pipes;
    let ends = (end(a, to_a, to_b), end(b, to_b, to_a));
    (ends.0, ends.1, Cable(pipes))
}

impl End {
    /// Puts as much on its way as the window permits.
    fn put<'a>(
        &self,
        cx: &mut Context<'_>,
        parts: impl Iterator<Item = &'a [u8]>,
    ) -> Poll<io::Result<usize>> {
        let mut bytes = self.outgoing.bytes();
        if bytes.reset || bytes.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut room = WINDOW.saturating_sub(bytes.buffer.len());
        if room == 0 {
            bytes.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut written = 0;
        for part in parts {
            let taken = part.get(..room).unwrap_or(part);
            bytes.buffer.extend_from_slice(taken);
            written += taken.len();
            room -= taken.len();
            if room == 0 {
                break;
            }
        }
        if !self.latency.is_zero() {
            let at = Instant::now() + self.latency;
            match bytes.due.back_mut() {
                Some((last, count)) if *last == at => *count += written,
                _ => bytes.due.push_back((at, written)),
            }
        }
        if let Some(reader) = bytes.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(written))
    }
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self {
            incoming, arrival, ..
        } = &mut *self;
        let mut bytes = incoming.bytes();
        if bytes.reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let mut there = bytes.buffer.len();
        if let Some((at, _)) = bytes.due.front() {
            let (at, now) = (*at, Instant::now());
            let arrived = bytes.due.iter().take_while(|(at, _)| *at <= now);
            there = arrived.map(|(_, count)| count).sum();
            if there == 0 {
                let sleep = arrival.get_or_insert_with(|| Box::pin(sleep_until(at)));
                if sleep.deadline() != at {
                    sleep.as_mut().reset(at);
                }
                if sleep.as_mut().poll(cx).is_pending() {
                    bytes.reader = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                there = bytes.due.front().map_or(0, |(_, count)| *count);
            }
        }
        *arrival = None;
        if there == 0 {
            if bytes.ended {
                return Poll::Ready(Ok(()));
            }
            bytes.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut taken = there.min(buf.remaining());
        buf.put_slice(&bytes.buffer[..taken]);
        bytes.buffer.advance(taken);
        while let Some((_, count)) = bytes.due.front_mut() {
            if *count > taken {
                *count -= taken;
                break;
            }
            taken -= *count;
            bytes.due.pop_front();
            if taken == 0 {
                break;
            }
        }
        if let Some(writer) = bytes.writer.take() {
            writer.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.put(cx, std::iter::once(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.put(cx, bufs.iter().map(|buf| &**buf))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = self.outgoing.bytes();
        bytes.ended = true;
        bytes.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut bytes = self.outgoing.bytes();
        bytes.ended = true;
        bytes.wake();
        drop(bytes);
        self.incoming.reset();
    }
}
