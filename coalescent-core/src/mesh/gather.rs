//! What the writers of a mesh and of a peer have in common.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio_util::sync::ReusableBoxFuture;

use crate::error::Error;
use crate::node::{BATCH, PAYLOAD_COST, Sent};
use crate::wire::WireError;

/// The largest number of bytes of one write that becomes one frame: 64 KiB. If
/// [`Config::max_frame`](crate::Config::max_frame) is lower, that is the limit.
pub const WRITE_CHUNK: usize = 64 * 1024;

/// A boxed future that is [`Sync`], since it can be polled only through `&mut`. So the writer is
/// `Sync` too.
type SyncFuture<T> = ReusableBoxFuture<'static, T>;

/// Where a writer writes to.
pub(super) trait Target: Clone + Send + Sync + 'static {
    /// Returns the largest payload, in bytes.
    fn limit(&self) -> usize;

    /// Returns whether frames are lines.
    fn cuts_lines(&self) -> bool;

    /// Queues one payload, waiting for room. Returns what happened to it.
    fn send(self, payload: Bytes) -> impl Future<Output = (Sent, Option<Error>)> + Send + 'static;

    /// Queues all payloads that can be sent, waiting for room. Returns the error of the first that
    /// cannot.
    fn send_all(
        self,
        payloads: Vec<Bytes>,
    ) -> impl Future<Output = (Sent, Option<Error>)> + Send + 'static;

    /// Waits until all that is queued is written.
    fn flushed(self) -> impl Future<Output = Result<(), Error>> + Send + 'static;
}

/// A writer to one target: gathers payloads, and cuts bytes into frames.
pub(super) struct Gather<T> {
    target: T,
    /// The payloads that will be sent together.
    gathered: Vec<Bytes>,
    /// Their cost in bytes, to be compared with [`BATCH`].
    gathered_cost: usize,
    /// The payloads that wait for room.
    writing: Option<SyncFuture<(Sent, Option<Error>)>>,
    flushing: Option<SyncFuture<Result<(), Error>>>,
    /// The beginning of a line, on the `lines` wire.
    line: BytesMut,
    sent: Sent,
    /// The error of the first payload that could not be sent, until it is told.
    failed: Option<Error>,
}

impl<T: Target> Gather<T> {
    pub(super) fn new(target: T) -> Self {
        Self {
            target,
            gathered: Vec::new(),
            gathered_cost: 0,
            writing: None,
            flushing: None,
            line: BytesMut::new(),
            sent: Sent::default(),
            failed: None,
        }
    }

    pub(super) fn target(&self) -> &T {
        &self.target
    }

    /// Returns what happened to the payloads written so far.
    pub(super) fn sent(&self) -> Sent {
        self.sent
    }

    /// Appends a payload to those that will be sent together.
    fn gather(&mut self, payload: Bytes) {
        self.gathered_cost += payload.len() + PAYLOAD_COST;
        self.gathered.push(payload);
    }

    /// Begins to send the gathered payloads. Those before must be queued: see
    /// [`poll_written`](Self::poll_written).
    fn send_gathered(&mut self) {
        self.gathered_cost = 0;
        let target = self.target.clone();
        let mut payloads = std::mem::take(&mut self.gathered);
        let writing = match payloads.len() {
            0 => return,
            1 => SyncFuture::new(target.send(payloads.remove(0))),
            _ => SyncFuture::new(target.send_all(payloads)),
        };
        self.writing = Some(writing);
        self.flushing = None;
    }

    /// Waits until the payloads that were begun to be sent are queued.
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(writing) = &mut self.writing {
            let (sent, failed) = ready!(writing.poll(cx));
            self.sent += sent;
            self.failed = self.failed.take().or(failed);
            self.writing = None;
        }
        Poll::Ready(())
    }

    /// Tells the error of a payload that could not be sent, once.
    fn told(&mut self) -> Result<(), Error> {
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Sends everything, and waits until it is written to the socket.
    pub(super) fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.poll_written(cx));
        if !self.line.is_empty() {
            let line = self.line.split().freeze();
            self.gather(line);
        }
        self.send_gathered();
        ready!(self.poll_written(cx));
        let target = &self.target;
        let flushing = self
            .flushing
            .get_or_insert_with(|| SyncFuture::new(target.clone().flushed()));
        let flushed = ready!(flushing.poll(cx));
        self.flushing = None;
        Poll::Ready(self.told().and(flushed))
    }

    /// Like [`poll_flushed`](Self::poll_flushed), for writers of bytes.
    pub(super) fn poll_bytes_flushed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flushed(cx).map_err(io_error)
    }

    /// Gathers the whole lines in `bytes`, and keeps the beginning of the next. Returns how many
    /// bytes it took: if a line is longer than the frame limit, only those before it.
    fn gather_lines(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let max = self.target.limit();
        let end = memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1);
        let (whole, rest) = bytes.split_at(end);
        let whole = Bytes::copy_from_slice(whole);
        let mut taken = 0;
        for at in memchr::memchr_iter(b'\n', &whole) {
            if self.line.len() + at - taken > max {
                return self.too_long(taken, max);
            }
            let line = whole.slice(taken..at);
            taken = at + 1;
            if !self.line.is_empty() {
                self.line.extend_from_slice(&line);
                let line = self.line.split().freeze();
                self.gather(line);
            } else if !line.is_empty() {
                self.gather(line);
            }
        }
        if self.line.len() + rest.len() > max {
            return self.too_long(taken, max);
        }
        self.line.extend_from_slice(rest);
        Ok(bytes.len())
    }

    /// Refuses a line that is too long, unless lines before it were taken in this write.
    fn too_long(&mut self, taken: usize, max: usize) -> io::Result<usize> {
        if taken > 0 {
            return Ok(taken);
        }
        self.line.clear();
        let text = format!("a line is longer than {max} bytes, the frame limit");
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_written(cx));
        self.told().map_err(io_error)?;
        let max = if self.target.cuts_lines() {
            WRITE_CHUNK
        } else {
            WRITE_CHUNK.min(self.target.limit())
        };
        let bytes = buf.get(..buf.len().min(max)).unwrap_or_default();
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let taken = if self.target.cuts_lines() {
            self.gather_lines(bytes)
        } else {
            self.gather(Bytes::copy_from_slice(bytes));
            Ok(bytes.len())
        };
        // Sent at once, since nothing more may be written.
        self.send_gathered();
        // A payload is encoded when its future is first polled, so what fails, fails here.
        let _ = self.poll_written(cx);
        self.told().map_err(io_error)?;
        Poll::Ready(taken)
    }

    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.poll_written(cx));
        if self.gathered_cost >= BATCH {
            self.send_gathered();
            ready!(self.poll_written(cx));
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn start_send(&mut self, payload: Bytes) -> Result<(), Error> {
        let limit = self.target.limit();
        if payload.len() > limit {
            return Err(Error::encode(WireError::too_large(limit)));
        }
        self.gather(payload);
        Ok(())
    }
}

/// Implements [`AsyncWrite`](tokio::io::AsyncWrite) and [`Sink`](futures_sink::Sink) for a writer,
/// by the [`Gather`] that is its only field. The caller has imported both.
macro_rules! writes_by_gather {
    ($writer:ty) => {
        impl AsyncWrite for $writer {
            fn poll_write(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                self.0.poll_write(cx, buf)
            }

            fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.0.poll_bytes_flushed(cx)
            }

            fn poll_shutdown(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                self.0.poll_bytes_flushed(cx)
            }
        }

        impl Sink<Bytes> for $writer {
            type Error = Error;

            fn poll_ready(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
            ) -> Poll<Result<(), Error>> {
                self.0.poll_ready(cx)
            }

            fn start_send(mut self: Pin<&mut Self>, payload: Bytes) -> Result<(), Error> {
                self.0.start_send(payload)
            }

            fn poll_flush(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
            ) -> Poll<Result<(), Error>> {
                self.0.poll_flushed(cx)
            }

            fn poll_close(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
            ) -> Poll<Result<(), Error>> {
                self.0.poll_flushed(cx)
            }
        }
    };
}

pub(super) use writes_by_gather;

fn io_error(error: Error) -> io::Error {
    let kind = if error.is_closed() {
        io::ErrorKind::BrokenPipe
    } else {
        io::ErrorKind::InvalidInput
    };
    io::Error::new(kind, error)
}
