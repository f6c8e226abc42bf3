//! The writing half of a connection: takes entries from the outbox, and writes them vectored.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

use super::control::Control;
use crate::node::peer::Peer;
use crate::node::peer::handle::LinkId;
use crate::outbox::{Count, Entry};

/// How many slices are written at once. Linux accepts 1,024; more than a few dozen gain nothing.
const MAX_SLICES: usize = 64;

/// Writes the outbox of one peer to one connection.
#[derive(Debug)]
pub(super) struct Writer<W> {
    /// `None` only after [`into_io`](Self::into_io).
    io: Option<W>,
    peer: Peer,
    link: LinkId,
    control: Arc<Control>,
    /// Control frames to write next.
    urgent: Bytes,
    /// Entries taken from the outbox.
    batch: VecDeque<Entry>,
    /// How many bytes of the first entry are written.
    at: usize,
    /// Whether a frame is written in part, so that nothing else may be written before its end.
    mid_frame: bool,
    unflushed: bool,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    pub(super) fn new(io: W, peer: Peer, link: LinkId, control: Arc<Control>) -> Self {
        Self {
            io: Some(io),
            peer,
            link,
            control,
            urgent: Bytes::new(),
            batch: VecDeque::new(),
            at: 0,
            mid_frame: false,
            unflushed: false,
        }
    }

    /// Writes until there is nothing to write and never will be: the outbox was closed and is
    /// empty, or another connection has taken over. Control frames are written meanwhile.
    ///
    /// # Errors
    ///
    /// If the socket fails.
    ///
    /// # Cancel safety
    ///
    /// Safe: the next call continues where this one stopped.
    pub(super) async fn run(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_run(cx, false)).await
    }

    /// Writes what the socket takes. Ready when there is nothing to write and never will be, or,
    /// with an error, when the socket fails. With `stand_by`, it is not ready while another
    /// connection writes to the peer.
    pub(super) fn poll_run(
        &mut self,
        cx: &mut Context<'_>,
        stand_by: bool,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.urgent.is_empty()
                && !self.mid_frame
                && let Poll::Ready(frames) = self.control.poll_take(cx)
            {
                self.urgent = frames;
            }
            if self.urgent.is_empty() && self.batch.is_empty() {
                match self
                    .peer
                    .outbox()
                    .poll_take(self.link.0, stand_by, cx, &mut self.batch)
                {
                    Poll::Ready(true) => {}
                    Poll::Ready(false) => {
                        ready!(self.poll_flush(cx))?;
                        return Poll::Ready(Ok(()));
                    }
                    Poll::Pending => {
                        ready!(self.poll_flush(cx))?;
                        return Poll::Pending;
                    }
                }
            }
            ready!(self.poll_write(cx))?;
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let begins_with_nothing = |entry: &Entry| entry.bytes.len() <= self.at;
        if self.urgent.is_empty() && self.batch.front().is_none_or(begins_with_nothing) {
            // A write of nothing writes 0 bytes, which would look like a closed socket.
            self.advance(0);
            return Poll::Ready(Ok(()));
        }
        let written = match (self.urgent.is_empty(), self.batch.len()) {
            // A single slice needs no list of slices.
            (false, 0) => ready!(io(&mut self.io)?.poll_write(cx, &self.urgent))?,
            (true, 1) => {
                let first = self
                    .batch
                    .front()
                    .and_then(|entry| entry.bytes.get(self.at..));
                ready!(io(&mut self.io)?.poll_write(cx, first.unwrap_or_default()))?
            }
            _ => ready!(self.poll_write_vectored(cx))?,
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.unflushed = true;
        self.advance(written);
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut filled = 0;
        if !self.urgent.is_empty() {
            slices[0] = IoSlice::new(&self.urgent);
            filled = 1;
        }
        for (index, (slice, entry)) in slices[filled..].iter_mut().zip(&self.batch).enumerate() {
            let begun = if index == 0 { self.at } else { 0 };
            *slice = IoSlice::new(entry.bytes.get(begun..).unwrap_or_default());
            filled += 1;
        }
        io(&mut self.io)?.poll_write_vectored(cx, &slices[..filled])
    }

    /// Accounts for `written` more bytes that the socket has taken.
    fn advance(&mut self, mut written: usize) {
        self.peer.counters().add_bytes_sent(written);
        let urgent = written.min(self.urgent.len());
        self.urgent.advance(urgent);
        if self.urgent.is_empty() {
            self.urgent = Bytes::new();
        }
        written -= urgent;
        let of_frames = written;
        let mut count = Count::default();
        let mut of_channels = Count::default();
        let mut finished = 0;
        for entry in &self.batch {
            let left = entry.bytes.len() - self.at;
            if written < left {
                self.at += written;
                break;
            }
            written -= left;
            self.at = 0;
            if entry.channel {
                of_channels.add(entry.count);
            } else {
                count.add(entry.count);
            }
            self.mid_frame = !entry.ends_frame;
            finished += 1;
        }
        self.mid_frame |= self.at > 0;
        if of_frames > 0 || finished > 0 {
            self.peer
                .outbox()
                .wrote(of_frames, self.batch.drain(..finished));
            self.peer
                .counters()
                .add_written(u64::from(count.own), u64::from(count.relayed));
        }
        if of_channels.own > 0 {
            let counters = self.peer.counters();
            counters.add_channel_sent(of_channels.total());
        }
        self.peer.tell_meter();
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(io(&mut self.io)?.poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Returns the socket, and whether its last frame was written only in part.
    pub(super) fn into_io(mut self) -> Option<(W, bool)> {
        let torn = self.mid_frame;
        Some((self.io.take()?, torn))
    }

    /// Drops the entries that were taken, except for the rest of a frame that is written in part.
    /// Counts their frames as dropped.
    pub(super) fn forget(&mut self) {
        let ends = self
            .batch
            .iter()
            .position(|entry| entry.ends_frame)
            .map_or(0, |at| at + 1);
        let begun = if self.mid_frame { ends } else { 0 };
        let mut rest = self.batch.split_off(begun);
        let lost = self.peer.outbox().lose(&mut rest);
        self.peer.lost(lost);
    }

    /// Writes the entries that were taken, and then `last`, and shuts the writing direction down.
    ///
    /// # Errors
    ///
    /// If the socket fails.
    pub(super) async fn finish(&mut self, last: &[u8]) -> io::Result<()> {
        let mut last = Some(Bytes::copy_from_slice(last));
        std::future::poll_fn(|cx| {
            loop {
                while !self.batch.is_empty() || !self.urgent.is_empty() {
                    ready!(self.poll_write(cx))?;
                }
                match last.take() {
                    Some(last) => self.urgent = last,
                    None => break,
                }
            }
            ready!(self.poll_flush(cx))?;
            io(&mut self.io)?.poll_shutdown(cx)
        })
        .await
    }
}

/// Returns the socket.
fn io<W: Unpin>(io: &mut Option<W>) -> io::Result<Pin<&mut W>> {
    match io {
        Some(io) => Ok(Pin::new(io)),
        None => Err(io::ErrorKind::NotConnected.into()),
    }
}

impl<W> Drop for Writer<W> {
    fn drop(&mut self) {
        // Entries that were taken and not written are lost with this connection.
        let lost = self.peer.outbox().lose(&mut self.batch);
        self.peer.lost(lost);
    }
}

#[cfg(all(test, feature = "test-util"))]
mod tests {
    use super::*;
    use crate::Config;
    use crate::node::Peers;

    /// A socket that takes one byte at a time. A write of nothing is an error.
    #[derive(Default)]
    struct Sink(Vec<u8>);

    impl AsyncWrite for Sink {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            assert!(!bytes.is_empty(), "a write of nothing");
            self.0.extend_from_slice(&bytes[..1]);
            Poll::Ready(Ok(1))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn empty_slices_are_skipped() {
        for (slices, last) in [
            (&[""; 3][..], &b""[..]),
            (&["", "", "ab", "", "c", "", ""], b""),
            (&["", "ab", ""], b"bye"),
            (&[""; 200], b"bye"),
        ] {
            let peer = crate::test_util::peer(&Peers::new(Config::default()));
            let mut writer = Writer::new(Sink::default(), peer.clone(), LinkId(0), Arc::default());
            writer.batch = slices
                .iter()
                .map(|slice| Entry::new(Bytes::from_static(slice.as_bytes()), Count::OWN))
                .collect();
            writer.finish(last).await.unwrap();
            let expected = [slices.concat().as_bytes(), last].concat();
            assert_eq!(writer.io.as_ref().unwrap().0, expected);
            assert_eq!(peer.stats().sent, slices.len() as u64);
            assert!(writer.batch.is_empty());
        }
    }
}
