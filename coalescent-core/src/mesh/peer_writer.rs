//! The write side of one peer.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_sink::Sink;
use tokio::io::AsyncWrite;

use super::gather::{Gather, Target, writes_by_gather};
use crate::error::Error;
use crate::node::Sent;
use crate::node::peer::Peer;
use crate::wire::{Kind, Wire};

/// The write side of one peer: a [`Sink`] of payloads, and an [`AsyncWrite`]. The peer alone gets
/// what is written, as with [`Peer::send_payload`]; relays do not pass it on. The original's
/// `pipe(socket)`.
///
/// As a sink, it gathers the payloads it is fed and sends them together, once they amount to about
/// [`BATCH`](crate::BATCH) bytes or when it is flushed. As bytes, each write becomes one frame of
/// at most [`WRITE_CHUNK`](crate::WRITE_CHUNK) bytes, which is sent at once; on the `lines` wire
/// each line becomes a frame. See [`MeshWriter`](crate::MeshWriter), with which it has all this in
/// common.
///
/// Writing waits for room in the peer's outbox, so a file larger than memory can be copied here.
/// Messages of others to that peer come between the frames, and the peer reads both from one
/// stream: to send bytes apart from messages, use the streams of `coalescent-layers`. Flushing
/// waits until everything is written to the peer's socket. Shutting the writer down does not
/// disconnect the peer.
///
/// ```
/// use tokio::io::AsyncWriteExt;
///
/// # use coalescent::{App, transport::Memory};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let network = Memory::new();
/// # let alice = App::new().transport(network.clone()).listen("alice:1").await?;
/// # let bob = App::new().transport(network).start().await?;
/// let mut heard = alice.reader();
/// let peer = bob.connect("alice:1").await?;
/// let mut writer = peer.writer();
/// writer.write_all(b"for alice alone").await?;
/// writer.flush().await?;
/// let frame = heard.next_frame().await.ok_or("the mesh has ended")?;
/// assert_eq!(frame.payload(), b"for alice alone");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`is_closed`](Error::is_closed) if the peer is gone; as bytes,
/// [`BrokenPipe`](io::ErrorKind::BrokenPipe). A flush fails so too if the peer leaves before it is
/// done, since some of what was written may not have arrived. A payload that does not fit the
/// peer's wire, or is larger than the frame limit or [`Peer::max_payload`], fails with
/// [`is_encode`](Error::is_encode); as bytes with
/// [`InvalidInput`](io::ErrorKind::InvalidInput). Nothing else is lost by it.
///
/// # Cancel safety
///
/// A write or frame whose future is dropped before it is ready was not taken. What was taken stays
/// in the writer, and is sent with the next write or flush. If the writer itself is dropped without
/// a flush, the payloads it has gathered are lost, and of those that wait for room the peer gets a
/// prefix, which may be empty.
pub struct PeerWriter(Gather<Peer>);

impl Peer {
    /// Makes a writer. This peer alone gets what is written to it.
    ///
    /// ```
    /// use coalescent::Peer;
    /// use tokio::io::AsyncWriteExt;
    ///
    /// async fn send_file(peer: &Peer, mut file: tokio::fs::File) -> std::io::Result<()> {
    ///     let mut writer = peer.writer();
    ///     tokio::io::copy(&mut file, &mut writer).await?;
    ///     writer.flush().await
    /// }
    /// ```
    #[must_use]
    pub fn writer(&self) -> PeerWriter {
        PeerWriter(Gather::new(self.clone()))
    }
}

impl PeerWriter {
    /// Returns the peer to which this writes.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.0.target()
    }
}

impl Target for Peer {
    fn limit(&self) -> usize {
        Peer::limit(self)
    }

    fn cuts_lines(&self) -> bool {
        *self.wire() == Wire::lines()
    }

    async fn send(self, payload: Bytes) -> (Sent, Option<Error>) {
        let failed = self.send_payload(payload).await.err();
        (Sent::default(), failed)
    }

    async fn send_all(self, payloads: Vec<Bytes>) -> (Sent, Option<Error>) {
        if let Err(contact) = self.check_promoted() {
            return (Sent::default(), Some(contact));
        }
        let mut failed = None;
        let mut chunks = Vec::with_capacity(payloads.len());
        for payload in payloads {
            match self.encode_own(Kind::Data, payload) {
                Ok(chunk) => chunks.push(chunk),
                Err(error) => failed = failed.or(Some(Error::encode(error))),
            }
        }
        let pushed = self.outbox().push(&chunks, &mut 0).await;
        let closed = pushed.err().map(|_| Error::closed());
        (Sent::default(), closed.or(failed))
    }

    async fn flushed(self) -> Result<(), Error> {
        Peer::flushed(&self).await;
        if self.is_connected() {
            Ok(())
        } else {
            Err(Error::closed())
        }
    }
}

writes_by_gather!(PeerWriter);

impl fmt::Debug for PeerWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerWriter")
            .field("peer", self.peer())
            .finish_non_exhaustive()
    }
}
