//! Remembers the first bytes that were received over a connection.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::foreign::FIRST;

/// A connection that records the first bytes that it receives.
#[derive(Debug)]
pub(crate) struct Heard<IO> {
    io: IO,
    /// How many bytes more are recorded.
    left: usize,
    first: Note,
}

/// The record of a [`Heard`] connection, which outlives it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Note(Arc<Mutex<Vec<u8>>>);

impl<IO> Heard<IO> {
    pub(crate) fn new(io: IO) -> (Self, Note) {
        let first = Note::default();
        let note = first.clone();
        let left = FIRST;
        (Self { io, left, first }, note)
    }
}

impl Note {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the first bytes, as many as were received and at most [`FIRST`].
    pub(crate) fn first(&self) -> Vec<u8> {
        self.bytes().clone()
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Heard<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if self.left > 0 {
            let read = buf.filled().get(before..).unwrap_or_default();
            let read = read.get(..self.left).unwrap_or(read);
            self.first.bytes().extend_from_slice(read);
            self.left -= read.len();
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Heard<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
