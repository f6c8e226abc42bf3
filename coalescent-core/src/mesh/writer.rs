//! The write side of a mesh.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::{fmt, io};

use bytes::{Bytes, BytesMut};
use futures_sink::Sink;
use tokio::io::AsyncWrite;
use tokio_util::sync::ReusableBoxFuture;

use crate::error::Error;
use crate::node::{BATCH, PAYLOAD_COST, Peers, Sent};
use crate::wire::{Wire, WireError};

/// The largest number of bytes of one write that becomes one frame: 64 KiB. If
/// [`Config::max_frame`](crate::Config::max_frame) is lower, that is the limit.
pub const WRITE_CHUNK: usize = 64 * 1024;

/// A boxed future that is [`Sync`], since it can be polled only through `&mut`. So the writer is
/// `Sync` too.
type SyncFuture<T> = ReusableBoxFuture<'static, T>;

/// The write side of a mesh: a [`Sink`] of payloads, and an [`AsyncWrite`]. Every connected peer
/// gets what is written.
///
/// As a sink, it gathers the payloads it is fed and sends them together, once they amount to about
/// [`BATCH`] bytes or when it is flushed. Use `feed` for many payloads, and `send`, which flushes,
/// for the last of them.
///
/// As bytes, each write becomes one frame of at most [`WRITE_CHUNK`] bytes, which is sent at once,
/// after what was fed before. On the `lines` wire each line becomes a frame, and all whole lines of
/// one write are sent together. Bytes after the last newline wait for the next write, a flush or
/// the shutdown.
///
/// Writing waits for room in every peer's outbox, so a file larger than memory can be copied here.
/// Without peers, what is written is discarded, as in the original. Flushing waits until everything
/// is written to the peers' sockets. Shutting the writer down does not end the mesh.
///
/// # Errors
///
/// A payload that is larger than [`Config::max_frame`](crate::Config::max_frame), or that no peer
/// has a wire for, fails with [`is_encode`](Error::is_encode); as bytes with
/// [`InvalidInput`](io::ErrorKind::InvalidInput). Nothing else is lost by it: the writer goes on
/// with what was written before and after. What is too large is refused when it is fed. What no
/// wire can carry is found when it is sent: a write fails with it, and of payloads that were fed
/// together the flush fails with the first such error, once all others are written. A peer whose
/// wire cannot carry what another's can is counted in [`sent`](MeshWriter::sent) as dropped.
///
/// # Cancel safety
///
/// A write or frame whose future is dropped before it is ready was not taken. What was taken stays
/// in the writer, and is sent with the next write or flush. If the writer itself is dropped without
/// a flush, the payloads it has gathered are lost, and of payloads that wait for room each peer
/// gets a prefix, which may be empty.
pub struct MeshWriter {
    peers: Peers,
    /// The payloads that will be sent together.
    gathered: Vec<Bytes>,
    /// Their cost in bytes, to be compared with [`BATCH`].
    gathered_cost: usize,
    /// The broadcast that waits for room.
    writing: Option<SyncFuture<(Sent, Option<Error>)>>,
    flushing: Option<SyncFuture<()>>,
    /// The beginning of a line, on the `lines` wire.
    line: BytesMut,
    sent: Sent,
    /// The error of the first payload that could not be sent, until it is told.
    failed: Option<Error>,
}

impl MeshWriter {
    pub(super) fn new(peers: Peers) -> Self {
        Self {
            peers,
            gathered: Vec::new(),
            gathered_cost: 0,
            writing: None,
            flushing: None,
            line: BytesMut::new(),
            sent: Sent::default(),
            failed: None,
        }
    }

    /// Returns what happened to the payloads written so far, summed over the peers. Payloads that
    /// are gathered or wait for room are not counted yet; after a flush, all are.
    pub fn sent(&self) -> Sent {
        self.sent
    }

    /// Appends a payload to those that will be sent together.
    fn gather(&mut self, payload: Bytes) {
        self.gathered_cost += payload.len() + PAYLOAD_COST;
        self.gathered.push(payload);
    }

    /// Begins to broadcast the gathered payloads. The broadcast before must be done: see
    /// [`poll_written`](Self::poll_written).
    fn send_gathered(&mut self) {
        self.gathered_cost = 0;
        let peers = self.peers.clone();
        let mut payloads = std::mem::take(&mut self.gathered);
        let writing = match payloads.len() {
            0 => return,
            1 => {
                let payload = payloads.remove(0);
                SyncFuture::new(async move {
                    match peers.broadcast_payload(payload).await {
                        Ok(sent) => (sent, None),
                        Err(error) => (Sent::default(), Some(error)),
                    }
                })
            }
            _ => SyncFuture::new(broadcast_all(peers, payloads)),
        };
        self.writing = Some(writing);
        self.flushing = None;
    }

    /// Waits until the broadcast that was begun is queued for every peer.
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

    /// Sends everything, and waits until it is written to the peers' sockets.
    fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.poll_written(cx));
        if !self.line.is_empty() {
            let line = self.line.split().freeze();
            self.gather(line);
        }
        self.send_gathered();
        ready!(self.poll_written(cx));
        let peers = self.peers.clone();
        let flushing = self
            .flushing
            .get_or_insert_with(|| SyncFuture::new(async move { peers.flushed().await }));
        ready!(flushing.poll(cx));
        self.flushing = None;
        Poll::Ready(self.told())
    }

    fn cuts_lines(&self) -> bool {
        self.peers.config().wire == Wire::lines()
    }

    /// Gathers the whole lines in `bytes`, and keeps the beginning of the next. Returns how many
    /// bytes it took: if a line is longer than the frame limit, only those before it.
    fn gather_lines(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let max = self.peers.config().max_frame;
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
}

/// Broadcasts all payloads that can be sent. Returns the error of the first that cannot.
async fn broadcast_all(peers: Peers, payloads: Vec<Bytes>) -> (Sent, Option<Error>) {
    let mut payloads = payloads.into_iter();
    let (mut sent, failed) = peers.broadcast_until_failed(payloads.by_ref()).await;
    if failed.is_some() {
        while payloads.len() > 0 {
            let (some, _) = peers.broadcast_until_failed(payloads.by_ref()).await;
            sent += some;
        }
    }
    (sent, failed)
}

fn invalid(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

impl AsyncWrite for MeshWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_written(cx));
        self.told().map_err(invalid)?;
        let max = if self.cuts_lines() {
            WRITE_CHUNK
        } else {
            WRITE_CHUNK.min(self.peers.config().max_frame)
        };
        let bytes = buf.get(..buf.len().min(max)).unwrap_or_default();
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let taken = if self.cuts_lines() {
            self.gather_lines(bytes)
        } else {
            self.gather(Bytes::copy_from_slice(bytes));
            Ok(bytes.len())
        };
        // Sent at once, since nothing more may be written.
        self.send_gathered();
        // A payload is encoded when the broadcast is first polled, so what fails, fails here.
        let _ = self.poll_written(cx);
        self.told().map_err(invalid)?;
        Poll::Ready(taken)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flushed(cx).map_err(invalid)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flushed(cx).map_err(invalid)
    }
}

impl Sink<Bytes> for MeshWriter {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.poll_written(cx));
        if self.gathered_cost >= BATCH {
            self.send_gathered();
            ready!(self.poll_written(cx));
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, payload: Bytes) -> Result<(), Error> {
        let limit = self.peers.config().max_frame;
        if payload.len() > limit {
            return Err(Error::encode(WireError::too_large(limit)));
        }
        self.gather(payload);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_flushed(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_flushed(cx)
    }
}

impl fmt::Debug for MeshWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshWriter")
            .field("peers", &self.peers)
            .finish_non_exhaustive()
    }
}
