//! The mesh as a duplex stream.
//!
//! Each handle has a reader and a writer of its own, made when they are first used.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Mesh, MeshReader, MeshWriter, PeerReader, PeerWriter};
use crate::error::Error;
use crate::frame::Frame;

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

    fn start_send(mut self: Pin<&mut Self>, payload: Bytes) -> Result<(), Error> {
        Sink::start_send(Pin::new(self.own_writer()), payload)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Sink::poll_flush(Pin::new(self.own_writer()), cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Sink::poll_close(Pin::new(self.own_writer()), cx)
    }
}

// A task can hold a reference to a mesh across an await only if the mesh is `Sync`.
const _: () = {
    const fn is_sync<T: Send + Sync>() {}
    is_sync::<Mesh>();
    is_sync::<MeshReader>();
    is_sync::<MeshWriter>();
    is_sync::<PeerReader>();
    is_sync::<PeerWriter>();
};
