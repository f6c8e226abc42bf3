//! The handle to one stream.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use coalescent_core::Peer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::error::StreamError;
use super::session::Session;
use super::state::Stream;
use super::table::Key;

/// A stream to one peer: bytes in both directions, apart from messages and other streams.
///
/// It is like a TCP connection: [`AsyncRead`] and [`AsyncWrite`], which
/// [`tokio::io::split`] separates. Made with [`open`](super::PeerStreamsExt::open) on one side, it
/// comes to [`Streams::on`](super::Streams::on) or [`Incoming`](super::Incoming) on the other.
///
/// # Reading
///
/// Reading ends when the peer has shut the stream down, and fails if the peer resets it, or leaves
/// before. What has arrived by then is read first. Bytes that wait to be read count against the
/// window of the stream, and hold back the peer's writing to this stream alone.
///
/// # Writing
///
/// Writing waits for the peer to read, and for room in [`SEND_BUFFER`](super::SEND_BUFFER). A flush
/// waits until all was given to the connection, where it is written in turns with messages. Nothing
/// needs a flush to be sent. `shutdown` waits for the same, and ends this direction: the peer reads
/// to the end, and may still write.
///
/// Neither says that the peer has read it all. Where that matters, read the answer of the peer, or
/// wait for the end of its direction.
///
/// # Drop
///
/// Dropping a stream resets it, with the reason `dropped`. If it was shut down before, what was
/// written still arrives, and the peer's direction alone is reset, if it has not ended.
///
/// # Cancel safety
///
/// A read or write whose future is dropped has read or written nothing.
pub struct PeerStream {
    session: Arc<Session>,
    key: Key,
    name: Arc<str>,
}

impl PeerStream {
    pub(super) fn new(session: Arc<Session>, key: Key, name: Arc<str>) -> Self {
        Self { session, key, name }
    }

    /// Returns the peer at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.session.peer()
    }

    /// Returns the name that the stream was opened with. It comes from the side that opened it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Resets both directions: what waits to be written or read is dropped, and operations on
    /// either side fail with `reason`, of at most [`MAX_REASON`](super::MAX_REASON) bytes.
    ///
    /// A stream both of whose directions have ended stays as it is.
    pub fn reset(&self, reason: &str) {
        let _ = self.session.with(|table, wakes| {
            let reason = super::frame::cut(reason, super::MAX_REASON);
            table.with(self.key, |stream| stream.reset(reason, wakes))
        });
    }

    /// Accepts the stream, which the other side has opened.
    pub(super) fn accept(&self) {
        let _ = self
            .session
            .with(|table, _| table.with(self.key, Stream::accept));
    }

    /// Waits until the other side has accepted the stream.
    pub(super) async fn accepted(&self) -> Result<(), StreamError> {
        poll_fn(|cx| {
            self.session.with(|table, _| {
                let accepted = table.with(self.key, |stream| stream.poll_accepted(cx.waker()));
                accepted.unwrap_or_else(|error| Poll::Ready(Err(error)))
            })
        })
        .await
    }

    /// Has `look` look at the next bytes, and removes as many as it returns.
    fn poll_take(
        &self,
        cx: &Context<'_>,
        look: impl FnOnce(&[u8]) -> usize,
    ) -> Poll<io::Result<()>> {
        self.session.with(|table, _| {
            let front = ready!(table.poll_front(self.key, cx.waker()));
            let taken = look(front.map_err(StreamError::reading)?);
            if taken > 0 {
                table.consume(self.key, taken);
            }
            Poll::Ready(Ok(()))
        })
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_take(cx, |front| {
            let amount = front.len().min(buf.remaining());
            buf.put_slice(front.get(..amount).unwrap_or_default());
            amount
        })
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.session.with(|table, _| {
            let chunk = table.chunk();
            table.with(self.key, |stream| {
                stream.poll_write(bytes, chunk, cx.waker())
            })
        });
        let written = ready!(written.unwrap_or_else(|error| Poll::Ready(Err(error))));
        Poll::Ready(written.map_err(io::Error::from))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self
            .session
            .with(|table, _| table.with(self.key, |stream| stream.poll_flush(cx.waker())));
        let flushed = ready!(flushed.unwrap_or_else(|error| Poll::Ready(Err(error))));
        Poll::Ready(flushed.map_err(io::Error::from))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self
            .session
            .with(|table, _| table.with(self.key, |stream| stream.poll_shutdown(cx.waker())));
        let ended = ready!(ended.unwrap_or_else(|error| Poll::Ready(Err(error))));
        Poll::Ready(ended.map_err(io::Error::from))
    }
}

impl Drop for PeerStream {
    fn drop(&mut self) {
        self.session
            .with(|table, wakes| table.let_go(self.key, wakes));
    }
}

impl fmt::Debug for PeerStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerStream")
            .field("name", &self.name)
            .field("peer", self.peer().id())
            .field("number", &self.key.number)
            .finish_non_exhaustive()
    }
}
