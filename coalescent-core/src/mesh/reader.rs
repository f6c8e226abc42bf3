//! The read side of a mesh.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::{fmt, io};

use bytes::{Buf, Bytes};
use futures_core::Stream;
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};

use crate::frame::Frame;
use crate::node::Peers;
use crate::stack::inbox::frames::Frames;
use crate::stack::inbox::{Prefetch, Queue, ReadBy};
use crate::wire::Wire;

/// The read side of a mesh: a [`Stream`] of frames, and an [`AsyncRead`] of their payloads.
///
/// As bytes, it yields the payloads one after another, in the order in which the frames passed the
/// stack. Payloads of the `lines` wire get back the newline that ended them. Frames of one peer
/// keep their order.
///
/// While there is a reader, frames are kept until they are read, up to
/// [`Config::inbox`](crate::Config::inbox) bytes; then the peers get backpressure. When the last
/// reader is dropped, frames are discarded.
///
/// Several readers share the frames: each frame goes to one of them. A reader takes many frames at
/// a time out of the shared queue, and keeps them to itself until it has read them. The only reader
/// takes all frames that wait; with several, each takes a part of the frames that one socket read
/// brought. So a reader that is made later does not get frames that another has taken. Frames that
/// a reader has not read when it is dropped go back to the front of the queue.
///
/// Read frames one by one with [`next_frame`](MeshReader::next_frame), or many at a time with
/// [`next_frames`](MeshReader::next_frames). To read what one peer sends, apart from the others,
/// see [`Peer::reader`](crate::Peer::reader).
///
/// ```
/// use tokio::io::AsyncBufReadExt;
///
/// # use coalescent::{App, transport::Memory};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let network = Memory::new();
/// # let alice = App::new().transport(network.clone()).listen("alice:1").await?;
/// # let bob = App::new().transport(network).start().await?;
/// let mut frames = alice.reader();
/// bob.connect("alice:1").await?;
///
/// // As frames, which say who has sent them, ..
/// let _ = bob.broadcast_payload("beep").await?;
/// let frame = frames.next_frame().await.ok_or("the mesh has ended")?;
/// assert_eq!((frame.payload(), frame.peer().node_id()), (&b"beep"[..], Some(bob.id())));
///
/// // .. or as bytes.
/// let _ = bob.broadcast_payloads(["bo", "op\n"]).await?;
/// let mut line = String::new();
/// frames.read_line(&mut line).await?;
/// assert_eq!(line, "boop\n");
/// # Ok(())
/// # }
/// ```
pub struct MeshReader {
    queue: Arc<Queue>,
    prefetch: Prefetch,
    /// The unread rest of the payload that is being read as bytes.
    rest: Bytes,
    /// Whether a newline follows that payload.
    newline: bool,
}

impl MeshReader {
    pub(super) fn new(peers: &Peers) -> Self {
        Self::of(Queue::of(peers.node()))
    }

    /// Makes a reader of this queue.
    pub(super) fn of(queue: Arc<Queue>) -> Self {
        let prefetch = queue.open();
        Self {
            queue,
            prefetch,
            rest: Bytes::new(),
            newline: false,
        }
    }

    /// Waits for the next frame. Returns `None` when the mesh has ended and all frames were read.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no frame is lost when the future is dropped.
    #[inline]
    pub fn next_frame(&mut self) -> impl Future<Output = Option<Frame>> + Send + Sync + '_ {
        NextFrame(self)
    }

    /// Waits for frames, and lends some that arrived together: at least one, and at most those of
    /// one socket read. Returns `None` when the mesh has ended and all frames were read.
    ///
    /// Use this to look at many frames and keep few of them. An owned [`Frame`] holds a reference
    /// to its read buffer, which for a small frame costs as much as the rest of reading it. Frames
    /// that you do not take out of [`Frames`] are returned again by the next call.
    ///
    /// ```
    /// # use coalescent::MeshReader;
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
    /// Cancel safe: no frame is lost when the future is dropped.
    pub async fn next_frames(&mut self) -> Option<Frames<'_>> {
        if !std::future::poll_fn(|cx| self.poll_group(cx)).await {
            return None;
        }
        self.group()
    }

    /// Lends the frames of the prefetch that arrived together.
    pub(super) fn group(&mut self) -> Option<Frames<'_>> {
        self.prefetch.group().map(Frames::new)
    }

    /// Waits until the prefetch has frames. Ready with `false` when the mesh has ended.
    pub(super) fn poll_group(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Self {
            queue, prefetch, ..
        } = self;
        loop {
            if prefetch.group().is_some() {
                queue.settle(prefetch);
                return Poll::Ready(true);
            }
            if !ready!(queue.poll_fill(prefetch, cx)) {
                return Poll::Ready(false);
            }
        }
    }

    /// Takes the next frame of the prefetch, which is filled if it is empty.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        let Self {
            queue, prefetch, ..
        } = self;
        loop {
            if let Some(frame) = prefetch.pop() {
                queue.settle(prefetch);
                return Poll::Ready(Some(frame));
            }
            if !ready!(queue.poll_fill(prefetch, cx)) {
                return Poll::Ready(None);
            }
        }
    }

    /// Returns the next frame if one is there already. Use it to process several frames in one
    /// step.
    pub fn try_next_frame(&mut self) -> Option<Frame> {
        let waker = Waker::noop();
        match Pin::new(self).poll_next(&mut Context::from_waker(waker)) {
            Poll::Ready(frame) => frame,
            Poll::Pending => None,
        }
    }
}

impl ReadBy {
    /// Makes a reader. Several share the frames; without any, frames are discarded.
    #[must_use]
    pub fn reader(&self) -> MeshReader {
        MeshReader::of(Arc::clone(self.queue()))
    }
}

/// The future of [`MeshReader::next_frame`].
///
/// It is not an async function because that would move the frame once more, which costs as much as
/// making it.
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
        match self.prefetch.pop_current() {
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
        self.queue.close(&mut self.prefetch);
    }
}

impl fmt::Debug for MeshReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshReader")
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}
