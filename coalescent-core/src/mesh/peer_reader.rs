//! The read side of one peer.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use futures_core::Stream;
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};
use tokio_util::sync::ReusableBoxFuture;

use super::reader::MeshReader;
use crate::frame::Frame;
use crate::node::peer::Peer;
use crate::stack::inbox::frames::Frames;
use crate::stack::inbox::{Diversion, Queue};

/// The read side of one peer: a [`Stream`] of the frames that it sends, after the middleware, and
/// an [`AsyncRead`] of their payloads.
///
/// While there is a reader of a peer, its frames go there instead of to the readers of the mesh.
/// Otherwise it is like a [`MeshReader`]: it keeps frames until they are read, up to
/// [`Config::inbox`](crate::Config::inbox) bytes of its own, and then holds back this peer alone;
/// several readers of one peer share its frames.
///
/// Handlers, relays and requests are before the read side, and not affected. Frames that reached
/// the mesh's read side before are not moved. When the last reader of the peer is dropped, what it
/// has not read is discarded, and the frames after that go to the mesh again. So make the reader
/// before the peer sends what is meant for it: in a hook for connected peers
/// ([`Registrar::on_connect`](crate::Registrar::on_connect)), or before it is asked.
///
/// It ends when the peer has left and all its frames were read.
///
/// ```
/// # use coalescent::{App, transport::Memory};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let network = Memory::new();
/// # let alice = App::new().transport(network.clone()).listen("alice:1").await?;
/// # let bob = App::new().transport(network).start().await?;
/// let mut all = bob.reader();
/// let peer = bob.connect("alice:1").await?;
/// let mut reader = peer.reader();
/// alice.connected(1).await?;
///
/// let _ = alice.broadcast_payload("for whoever reads alice").await?;
/// let frame = reader.next_frame().await.ok_or("she has left")?;
/// assert_eq!(frame.payload(), b"for whoever reads alice");
///
/// drop(reader); // from now on, readers of the mesh get her frames
/// let _ = alice.broadcast_payload("for whoever reads the mesh").await?;
/// assert!(all.next_frame().await.is_some());
/// # Ok(())
/// # }
/// ```
pub struct PeerReader {
    peer: Peer,
    queue: Arc<Queue>,
    reader: MeshReader,
    /// Ready when the peer has left; `None` once that is noted.
    left: Option<ReusableBoxFuture<'static, ()>>,
    /// Dropped last.
    _diversion: Diversion,
}

impl Peer {
    /// Makes a reader of what this peer alone sends, after the middleware. While there is one,
    /// readers of the mesh do not get this peer's frames.
    ///
    /// ```
    /// use coalescent::Peer;
    /// use tokio::io::AsyncBufReadExt;
    ///
    /// async fn first_line(peer: &Peer) -> std::io::Result<String> {
    ///     let mut line = String::new();
    ///     peer.reader().read_line(&mut line).await?;
    ///     Ok(line)
    /// }
    /// ```
    #[must_use]
    pub fn reader(&self) -> PeerReader {
        let (diversion, queue) = Diversion::of(self);
        let peer = self.clone();
        PeerReader {
            reader: MeshReader::of(Arc::clone(&queue)),
            queue,
            left: Some(ReusableBoxFuture::new(async move {
                peer.closed().await;
            })),
            peer: self.clone(),
            _diversion: diversion,
        }
    }
}

impl PeerReader {
    /// Returns the peer whose frames this reads.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Waits for the next frame. Returns `None` when the peer has left and all its frames were
    /// read.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no frame is lost when the future is dropped.
    pub async fn next_frame(&mut self) -> Option<Frame> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Waits for frames, and lends some that arrived together; see
    /// [`MeshReader::next_frames`]. Returns `None` when the peer has left and all its frames were
    /// read.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no frame is lost when the future is dropped.
    pub async fn next_frames(&mut self) -> Option<Frames<'_>> {
        if !std::future::poll_fn(|cx| self.poll(cx, MeshReader::poll_group)).await {
            return None;
        }
        self.reader.group()
    }

    /// Returns the next frame if one is there already.
    pub fn try_next_frame(&mut self) -> Option<Frame> {
        match Pin::new(self).poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(frame) => frame,
            Poll::Pending => None,
        }
    }

    /// Polls the reader, whose queue is ended when the peer has left: by then it has all frames.
    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut MeshReader, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let polled = poll(&mut self.reader, cx);
        if polled.is_ready() {
            return polled;
        }
        let Some(left) = &mut self.left else {
            return Poll::Pending;
        };
        ready!(left.poll(cx));
        self.left = None;
        self.queue.end();
        poll(&mut self.reader, cx)
    }
}

impl Stream for PeerReader {
    type Item = Frame;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        self.poll(cx, |reader, cx| Pin::new(reader).poll_next(cx))
    }
}

impl AsyncBufRead for PeerReader {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        let filled = this.poll(cx, |reader, cx| {
            Pin::new(reader).poll_fill_buf(cx).map_ok(|_| ())
        });
        ready!(filled)?;
        // What it has is lent again.
        Pin::new(&mut this.reader).poll_fill_buf(cx)
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        Pin::new(&mut self.reader).consume(amount);
    }
}

impl AsyncRead for PeerReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll(cx, |reader, cx| Pin::new(reader).poll_read(cx, buf))
    }
}

impl fmt::Debug for PeerReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerReader")
            .field("peer", self.peer.id())
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}
