//! The write side of a mesh.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_sink::Sink;
use tokio::io::AsyncWrite;

use super::gather::{Gather, Target, writes_by_gather};
use crate::error::Error;
use crate::node::{Peers, Sent};
use crate::wire::Wire;

/// The write side of a mesh: a [`Sink`] of payloads, and an [`AsyncWrite`]. Every connected peer
/// gets what is written.
///
/// As a sink, it gathers the payloads it is fed and sends them together, once they amount to about
/// [`BATCH`](crate::BATCH) bytes or when it is flushed. Use `feed` for many payloads, and `send`,
/// which flushes, for the last of them.
///
/// As bytes, each write becomes one frame of at most [`WRITE_CHUNK`](crate::WRITE_CHUNK) bytes,
/// which is sent at once, after what was fed before. On the `lines` wire each line becomes a frame,
/// and all whole lines of one write are sent together. Bytes after the last newline wait for the
/// next write, a flush or the shutdown.
///
/// Writing waits for room in every peer's outbox, so a file larger than memory can be copied here.
/// Without peers, what is written is discarded, as in the original. Flushing waits until everything
/// is written to the peers' sockets. Shutting the writer down does not end the mesh.
///
/// ```
/// use futures_util::SinkExt;
/// use tokio::io::AsyncWriteExt;
///
/// # use coalescent::{App, transport::Memory};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let network = Memory::new();
/// # let alice = App::new().transport(network.clone()).listen("alice:1").await?;
/// # let bob = App::new().transport(network).start().await?;
/// let mut heard = alice.reader();
/// bob.connect("alice:1").await?;
/// let mut writer = bob.writer();
///
/// // As payloads, each of which is a frame, ..
/// writer.feed("beep".into()).await?;
/// writer.send("boop".into()).await?;
/// // .. or as bytes.
/// writer.write_all(b"and so on").await?;
/// AsyncWriteExt::flush(&mut writer).await?;
///
/// assert_eq!(writer.sent().queued, 3);
/// for expected in ["beep", "boop", "and so on"] {
///     let frame = heard.next_frame().await.ok_or("the mesh has ended")?;
///     assert_eq!(frame.payload(), expected.as_bytes());
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// A payload that is larger than [`Config::max_frame`](crate::Config::max_frame), or that no peer
/// has a wire for, fails with [`is_encode`](Error::is_encode); as bytes with
/// [`InvalidInput`](io::ErrorKind::InvalidInput). Nothing else is lost by it: the writer goes on
/// with what was written before and after. What is too large is refused when it is fed. What no
/// wire can carry is found when it is sent: a write fails with it, and of payloads that were fed
/// together the flush fails with the first such error, once all others are written. A peer whose
/// wire cannot carry what another's can is counted in [`sent`](MeshWriter::sent) as dropped.
///
/// # Cancel safety
///
/// A write or frame whose future is dropped before it is ready was not taken. What was taken stays
/// in the writer, and is sent with the next write or flush. If the writer itself is dropped without
/// a flush, the payloads it has gathered are lost, and of payloads that wait for room each peer
/// gets a prefix, which may be empty.
pub struct MeshWriter(Gather<Peers>);

impl MeshWriter {
    pub(super) fn new(peers: Peers) -> Self {
        Self(Gather::new(peers))
    }

    /// Returns what happened to the payloads written so far, summed over the peers. Payloads that
    /// are gathered or wait for room are not counted yet; after a flush, all are.
    pub fn sent(&self) -> Sent {
        self.0.sent()
    }
}

impl Target for Peers {
    fn limit(&self) -> usize {
        self.config().max_frame
    }

    fn cuts_lines(&self) -> bool {
        self.config().wire == Wire::lines()
    }

    async fn send(self, payload: Bytes) -> (Sent, Option<Error>) {
        match self.broadcast_payload(payload).await {
            Ok(sent) => (sent, None),
            Err(error) => (Sent::default(), Some(error)),
        }
    }

    async fn send_all(self, payloads: Vec<Bytes>) -> (Sent, Option<Error>) {
        let mut payloads = payloads.into_iter();
        let (mut sent, failed) = self.broadcast_until_failed(payloads.by_ref()).await;
        if failed.is_some() {
            while payloads.len() > 0 {
                let (some, _) = self.broadcast_until_failed(payloads.by_ref()).await;
                sent += some;
            }
        }
        (sent, failed)
    }

    async fn flushed(self) -> Result<(), Error> {
        Peers::flushed(&self).await;
        Ok(())
    }
}

writes_by_gather!(MeshWriter);

impl fmt::Debug for MeshWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshWriter")
            .field("peers", self.0.target())
            .finish_non_exhaustive()
    }
}
