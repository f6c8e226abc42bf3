//! A connection of QUIC as one stream of bytes.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use iroh::Endpoint;
use iroh::endpoint::{Connection, RecvStream, SendStream, VarInt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How long a stream that was dropped goes on sending what was written to it: 5 seconds.
pub const LINGER: Duration = Duration::from_secs(5);

/// How many dropped streams of one transport go on sending at a time. Further ones are closed at
/// once.
pub const MAX_LINGERING: usize = 256;

/// The first byte of a stream, from the side that opens it.
///
/// QUIC announces a stream with its first byte, and on some wires the opening side has nothing to
/// say before the other has spoken.
pub(crate) const OPENING: u8 = 0;

/// The code with which a connection is closed that is done, or dropped.
pub(crate) const DONE: VarInt = VarInt::from_u32(0);

/// The only stream of a connection of QUIC. Dropping it closes the connection, once the peer has
/// what was written, or after [`LINGER`].
pub(crate) struct Stream {
    /// `None` once dropped.
    parts: Option<Parts>,
    /// Done when the peer has all, or wants no more. Set by the shutdown.
    received: Option<Received>,
    lingering: Arc<Semaphore>,
}

type Received = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

struct Parts {
    send: SendStream,
    recv: RecvStream,
    connection: Connection,
    /// Connections end with the last handle of their endpoint.
    _endpoint: Endpoint,
}

impl Stream {
    pub(crate) fn new(
        send: SendStream,
        recv: RecvStream,
        connection: Connection,
        endpoint: Endpoint,
        lingering: Arc<Semaphore>,
    ) -> Self {
        Self {
            parts: Some(Parts {
                send,
                recv,
                connection,
                _endpoint: endpoint,
            }),
            received: None,
            lingering,
        }
    }

    fn parts(&mut self) -> io::Result<&mut Parts> {
        self.parts
            .as_mut()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Parts {
    /// Ends the stream, and returns a future that waits until the peer has all of it.
    fn finish(&mut self) -> Received {
        // It may have ended already, or the peer may have stopped it.
        let _ = self.send.finish();
        let stopped = self.send.stopped();
        Box::pin(async move {
            stopped.await?;
            Ok(())
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.parts()?.recv), cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.parts()?.send), cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let send = &mut self.parts()?.send;
        let mut written = 0;
        for buf in bufs.iter().filter(|buf| !buf.is_empty()) {
            match AsyncWrite::poll_write(Pin::new(&mut *send), cx, buf) {
                Poll::Ready(Ok(count)) => {
                    written += count;
                    if count < buf.len() {
                        break;
                    }
                }
                // What was written counts; the next call meets the same end.
                Poll::Ready(Err(_)) | Poll::Pending if written > 0 => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ends the stream, and waits until the peer's host has all of it: a connection of QUIC that is
    /// closed before loses what is under way.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.received.is_none() {
            let received = self.parts()?.finish();
            self.received = Some(received);
        }
        let Some(received) = &mut self.received else {
            return Poll::Ready(Ok(()));
        };
        let result = ready!(received.as_mut().poll(cx));
        self.received = Some(Box::pin(std::future::ready(Ok(()))));
        Poll::Ready(result)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let Some(mut parts) = self.parts.take() else {
            return;
        };
        let received = self.received.take().unwrap_or_else(|| parts.finish());
        let permit = Arc::clone(&self.lingering).try_acquire_owned();
        let (Ok(permit), Ok(runtime)) = (permit, Handle::try_current()) else {
            parts.connection.close(DONE, b"");
            return;
        };
        runtime.spawn(async move {
            // What was waited for in vain is lost, as with a socket whose peer is gone.
            let _ = timeout(LINGER, received).await;
            parts.connection.close(DONE, b"");
            drop((parts, permit));
        });
    }
}
