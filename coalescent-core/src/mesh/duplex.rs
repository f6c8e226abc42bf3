//! The mesh as a duplex stream: what is written goes to every peer, what is read came from them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::{fmt, io};

use bytes::{Buf, Bytes, BytesMut};
use futures_core::Stream;
use futures_sink::Sink;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::ReusableBoxFuture;

use super::Mesh;
use crate::error::Error;
use crate::frame::Frame;
use crate::node::{BATCH, PAYLOAD_COST, Peers, Sent};
use crate::stack::inbox::frames::Frames;
use crate::stack::inbox::{Batch, Queue};
use crate::wire::Wire;

/// How many bytes of one write become one frame at most, or the frame limit where that is less.
pub const WRITE_CHUNK: usize = 64 * 1024;

/// A future that is only ever polled through `&mut`, so that who holds it can still be [`Sync`].
type Wait<T> = ReusableBoxFuture<'static, T>;

/// The read side of a mesh, as frames ([`Stream`]) and as bytes ([`AsyncRead`]).
///
/// As bytes, it yields the payloads one after another, in the order in which they came through the
/// stack; on the `lines` wire each with the newline that ended it. Frames of one peer keep their
/// order.
///
/// From the first reader on, frames are kept until they are read, up to
/// [`Config::inbox`](crate::Config::inbox); then the peers are held back. Several readers share the
/// frames between them: each frame goes to one. When the last is dropped, frames are discarded
/// again.
///
/// A reader takes many frames at once, and keeps them for itself until it has read them: all that
/// wait, while it is the only one, or else a part of what one read of a connection brought. So
/// readers share by reads, not by single frames, and one that is made later finds nothing of what
/// another has taken before. What a reader has not read when it is dropped goes back to the others,
/// ahead of what came after it. They come one by one ([`next_frame`](MeshReader::next_frame)), or
/// those of one read together ([`next_frames`](MeshReader::next_frames)).
pub struct MeshReader {
    queue: Arc<Queue>,
    batch: Batch,
    /// The rest of the frame that is being read as bytes.
    rest: Bytes,
    newline: bool,
}

impl MeshReader {
    pub(super) fn new(peers: &Peers) -> Self {
        let queue = Queue::of(peers.node());
        let batch = queue.open();
        Self {
            queue,
            batch,
            rest: Bytes::new(),
            newline: false,
        }
    }

    /// Waits for the next frame; `None` when the mesh has ended.
    ///
    /// # Cancel safety
    ///
    /// A frame is not lost when the wait is dropped.
    #[inline]
    pub fn next_frame(&mut self) -> impl Future<Output = Option<Frame>> + Send + Sync + '_ {
        NextFrame(self)
    }

    /// Waits for frames, and lends some that came together: one at least, and at most those that
    /// one read of a connection brought. `None` when the mesh has ended.
    ///
    /// For those who look at many frames and keep few: a [`Frame`] has a share in the buffer it was
    /// read into, to be kept and sent about, which costs as much as all the rest of reading a small
    /// one. What is not taken out of [`Frames`] comes again.
    ///
    /// ```
    /// # use coalescent_core::MeshReader;
    /// async fn count(mut reader: MeshReader) -> usize {
    ///     let mut bytes = 0;
    ///     while let Some(frames) = reader.next_frames().await {
    ///         for frame in frames {
    ///             bytes += frame.payload().len();
    ///         }
    ///     }
    ///     bytes
    /// }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// No frame is lost when the wait is dropped.
    pub async fn next_frames(&mut self) -> Option<Frames<'_>> {
        if !std::future::poll_fn(|cx| self.poll_together(cx)).await {
            return None;
        }
        self.batch.together().map(Frames::new)
    }

    /// Waits for frames; ready with `false` when the mesh has ended.
    fn poll_together(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Self { queue, batch, .. } = self;
        loop {
            if batch.together().is_some() {
                queue.settle(batch);
                return Poll::Ready(true);
            }
            if !ready!(queue.poll_fill(batch, cx)) {
                return Poll::Ready(false);
            }
        }
    }

    /// Waits for frames that did not come with the one before, and takes the first.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        let Self { queue, batch, .. } = self;
        loop {
            if let Some(frame) = batch.pop() {
                queue.settle(batch);
                return Poll::Ready(Some(frame));
            }
            if !ready!(queue.poll_fill(batch, cx)) {
                return Poll::Ready(None);
            }
        }
    }

    /// Takes the next frame if one is there now: for readers that make one step of many frames.
    pub fn try_next_frame(&mut self) -> Option<Frame> {
        let waker = Waker::noop();
        match Pin::new(self).poll_next(&mut Context::from_waker(waker)) {
            Poll::Ready(frame) => frame,
            Poll::Pending => None,
        }
    }
}

/// The future of [`MeshReader::next_frame`]. Not an async function, so that the frame is made where
/// the caller keeps it: to move it once more costs as much as to make it.
struct NextFrame<'a>(&'a mut MeshReader);

impl Future for NextFrame<'_> {
    type Output = Option<Frame>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        Pin::new(&mut *self.0).poll_next(cx)
    }
}

impl Stream for MeshReader {
    type Item = Frame;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        match self.batch.pop_again() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => self.poll_more(cx),
        }
    }
}

impl AsyncBufRead for MeshReader {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        while this.rest.is_empty() {
            if std::mem::take(&mut this.newline) {
                this.rest = Bytes::from_static(b"\n");
                break;
            }
            match ready!(Pin::new(&mut *this).poll_next(cx)) {
                None => return Poll::Ready(Ok(&[])),
                Some(frame) => {
                    this.newline = *frame.peer().wire() == Wire::lines();
                    this.rest = frame.into_payload();
                }
            }
        }
        Poll::Ready(Ok(&this.rest))
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        let amount = amount.min(self.rest.len());
        self.rest.advance(amount);
    }
}

impl AsyncRead for MeshReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let available = ready!(self.as_mut().poll_fill_buf(cx))?;
        let amount = available.len().min(buf.remaining());
        buf.put_slice(available.get(..amount).unwrap_or_default());
        self.consume(amount);
        Poll::Ready(Ok(()))
    }
}

impl Drop for MeshReader {
    fn drop(&mut self) {
        self.queue.close(&mut self.batch);
    }
}

impl fmt::Debug for MeshReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshReader")
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

/// The write side of a mesh, as frames ([`Sink`]) and as bytes ([`AsyncWrite`]): each connected
/// peer gets what is written.
///
/// As a sink, it gathers the frames it is fed, and sends them together once they are about
/// [`BATCH`] bytes, or when it is flushed: `feed` for many frames, and `send`, which flushes, for
/// the last of them.
///
/// As bytes, each write becomes a frame, of at most [`WRITE_CHUNK`] bytes, that is on its way at
/// once, behind what was fed before; on the `lines` wire, each line does, all whole lines of a
/// write together. What stands after the last newline is no frame yet: it waits for the next write,
/// a flush, or the end.
///
/// Writing waits for room in every peer's outbox, so that a file larger than memory can be copied
/// here. Without peers, what is written goes nowhere, as in the original. Flushing waits until all
/// is written to the peers' sockets. Shutting this down does not end the mesh.
///
/// # Cancel safety
///
/// What was taken stays in the writer when the wait for it is dropped, and goes on with the next
/// write or flush. A frame or a write that was still waited for was not taken. When the writer
/// itself is dropped without a flush, what it has gathered is lost, and what waits for room reaches
/// some of the peers only, each the first of it.
pub struct MeshWriter {
    peers: Peers,
    /// The frames that will be sent together, and how much of a [`BATCH`] they are.
    gathered: Vec<Bytes>,
    size: usize,
    /// The frames that are waiting for room.
    writing: Option<Wait<Sent>>,
    flushing: Option<Wait<()>>,
    /// On the `lines` wire: the beginning of a line.
    line: BytesMut,
    sent: Sent,
}

impl MeshWriter {
    pub(super) fn new(peers: Peers) -> Self {
        Self {
            peers,
            gathered: Vec::new(),
            size: 0,
            writing: None,
            flushing: None,
            line: BytesMut::new(),
            sent: Sent::default(),
        }
    }

    /// What became of the frames written so far, summed over the peers. Those that are gathered, or
    /// wait for room, do not count yet; after a flush, all do.
    pub fn sent(&self) -> Sent {
        self.sent
    }

    /// Puts a frame behind those that will be sent together.
    fn gather(&mut self, frame: Bytes) {
        self.size += frame.len() + PAYLOAD_COST;
        self.gathered.push(frame);
    }

    /// Begins to send what is gathered. What was begun before must have been waited for with
    /// [`poll_written`](Self::poll_written).
    fn start(&mut self) {
        self.size = 0;
        let peers = self.peers.clone();
        let mut frames = std::mem::take(&mut self.gathered);
        let writing = match frames.len() {
            0 => return,
            1 => {
                let frame = frames.remove(0);
                Wait::new(async move { peers.broadcast_payload(frame).await })
            }
            _ => Wait::new(async move { peers.broadcast_payloads(frames).await }),
        };
        self.writing = Some(writing);
        self.flushing = None;
    }

    /// Waits until what was begun has been queued for every peer.
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(writing) = &mut self.writing {
            self.sent += ready!(writing.poll(cx));
            self.writing = None;
        }
        Poll::Ready(())
    }

    fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.poll_written(cx));
        if !self.line.is_empty() {
            let line = self.line.split().freeze();
            self.gather(line);
        }
        self.start();
        ready!(self.poll_written(cx));
        let peers = self.peers.clone();
        let flushing = self
            .flushing
            .get_or_insert_with(|| Wait::new(async move { peers.flushed().await }));
        ready!(flushing.poll(cx));
        self.flushing = None;
        Poll::Ready(())
    }

    fn cuts_lines(&self) -> bool {
        self.peers.config().wire == Wire::lines()
    }

    /// Gathers the whole lines in `bytes`, and keeps the beginning of the next. Returns how many
    /// bytes it took: fewer where a line is too long, up to that line.
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

    /// Refuses a line, once those before it were taken.
    fn too_long(&mut self, taken: usize, max: usize) -> io::Result<usize> {
        if taken > 0 {
            return Ok(taken);
        }
        self.line.clear();
        let text = format!("a line is longer than {max} bytes, the frame limit");
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    }
}

impl AsyncWrite for MeshWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_written(cx));
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
        // Begun at once, so that it is on its way whether or not anything more is written.
        self.start();
        let _ = self.poll_written(cx);
        Poll::Ready(taken)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flushed(cx).map(Ok)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flushed(cx).map(Ok)
    }
}

impl Sink<Bytes> for MeshWriter {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.poll_written(cx));
        if self.size >= BATCH {
            self.start();
            ready!(self.poll_written(cx));
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Bytes) -> Result<(), Error> {
        self.gather(frame);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_flushed(cx).map(Ok)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_flushed(cx).map(Ok)
    }
}

impl fmt::Debug for MeshWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshWriter")
            .field("peers", &self.peers)
            .finish_non_exhaustive()
    }
}

impl AsyncRead for Mesh {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(self.own_reader()).poll_read(cx, buf)
    }
}

impl Stream for Mesh {
    type Item = Frame;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        Pin::new(self.own_reader()).poll_next(cx)
    }
}

impl AsyncWrite for Mesh {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.own_writer()).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(self.own_writer()), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.own_writer()).poll_shutdown(cx)
    }
}

impl Sink<Bytes> for Mesh {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Sink::poll_ready(Pin::new(self.own_writer()), cx)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Bytes) -> Result<(), Error> {
        Sink::start_send(Pin::new(self.own_writer()), frame)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Sink::poll_flush(Pin::new(self.own_writer()), cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Sink::poll_close(Pin::new(self.own_writer()), cx)
    }
}

// So that tasks can share a reference to a mesh across their waits.
const _: () = {
    const fn is_sync<T: Send + Sync>() {}
    is_sync::<Mesh>();
    is_sync::<MeshReader>();
    is_sync::<MeshWriter>();
};
