use std::pin::Pin;
use std::task::{Context, Poll};
use std::{fmt, io};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::TlsError;
use crate::transport::identity::PublicKey;

/// An encrypted stream to a peer that proved its key.
///
/// Written bytes are buffered, up to [`SEND_BUFFER`](super::SEND_BUFFER): flush the stream to send
/// them. A read returns 0 bytes only if the peer shut down its side. If the connection ends without
/// that, the read fails with [`UnexpectedEof`](io::ErrorKind::UnexpectedEof), so that an attacker
/// cannot truncate the stream unnoticed. Shutting down notifies the peer, and leaves this side
/// readable.
///
/// On a stream from [`connect`](super::Tls::connect), a peer that rejects this node's key says so
/// in its first bytes: the first read then fails with
/// [`PermissionDenied`](io::ErrorKind::PermissionDenied), which contains a [`TlsError`] for which
/// [`is_refused`](TlsError::is_refused) is true. A write may fail earlier, with a less specific
/// error.
pub struct TlsStream<IO> {
    /// Boxed, because it is larger than a kilobyte and is moved through many futures.
    inner: Box<tokio_rustls::TlsStream<IO>>,
    own: PublicKey,
    peer: PublicKey,
}

impl<IO> TlsStream<IO> {
    pub(super) fn new(
        inner: Box<tokio_rustls::TlsStream<IO>>,
        own: PublicKey,
        peer: PublicKey,
    ) -> Self {
        Self { inner, own, peer }
    }

    /// Returns the key that the peer proved.
    #[must_use]
    pub fn peer(&self) -> PublicKey {
        self.peer
    }

    /// Returns the underlying socket, for its addresses and options.
    #[must_use]
    pub fn get_ref(&self) -> &IO {
        self.inner.get_ref().0
    }
}

impl<IO> fmt::Debug for TlsStream<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let own = self.own;
        Pin::new(&mut *self.inner)
            .poll_read(cx, buf)
            .map_err(|error| TlsError::explain(error, own))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.inner).poll_shutdown(cx)
    }
}
