//! Broadcasts: payloads that this node sends to all its peers.
//!
//! A payload is encoded once for each wire, and pushed to the outbox of each peer ([`single`]).
//! Many are coalesced first ([`batch`]): small ones become runs that all peers of a wire share
//! ([`run`]), so that the lock and the wake-up of an outbox are paid once for a run.

mod batch;
mod buffers;
mod run;
mod single;

use std::ops::{Add, AddAssign};
use std::time::Duration;

use batch::{Batch, Unsent};
pub use buffers::{BATCH, PAYLOAD_COST};
pub(crate) use buffers::{KEPT_RUNS, RUN_BYTES, RunBuffers};
use bytes::Bytes;
use tokio::time::timeout;

use crate::error::{Error, report};
use crate::node::payload::Payload;
use crate::node::peer::Peer;
use crate::node::{Node, Peers};
use crate::reason::DropReason;
use crate::wire::WireError;

/// How many bytes may be queued for a peer before the next batch is coalesced. Filling the outbox
/// would gain nothing: what waits there has left the CPU cache by the time it is written.
const AHEAD: usize = 512 * 1024;

/// Upper bound of that wait. A stalled peer's outbox must be allowed to fill, or it would never be
/// detected as slow.
const AHEAD_GRACE: Duration = Duration::from_millis(10);

/// The result of sending a payload to several peers.
#[must_use = "tells for how many peers it was dropped; `let _ = ..` if that does not matter"]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// The number of peers it was queued for.
    pub queued: usize,
    /// The number of connected peers that do not get it: they had no room, left while it waited
    /// for room, or their wire has no place for it.
    pub dropped: usize,
}

impl Sent {
    fn dropped(frames: u64) -> Self {
        Self {
            queued: 0,
            dropped: as_number(frames),
        }
    }
}

impl Add for Sent {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            queued: self.queued + other.queued,
            dropped: self.dropped + other.dropped,
        }
    }
}

impl AddAssign for Sent {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Peers {
    /// Queues `payload` for every peer as a broadcast, waiting for room in each outbox.
    ///
    /// Without peers this does nothing, and succeeds. A peer whose wire cannot carry what others
    /// can, such as a newline on [`lines`](crate::Wire::lines), does not get it, and neither does
    /// one that accepts only smaller payloads: it counts as [`dropped`](field@Sent::dropped), in
    /// the counters of that peer too.
    ///
    /// # Errors
    ///
    /// [`is_encode`](Error::is_encode) if the payload is larger than
    /// [`Config::max_frame`](crate::Config::max_frame), whoever is connected, or if no peer has a
    /// wire that can carry it. Then no peer gets it, and nothing is counted.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is done, some peers get the payload and others do not.
    pub async fn broadcast_payload(&self, payload: impl Into<Bytes>) -> Result<Sent, Error> {
        self.broadcast_payload_where(payload, |_| true).await
    }

    /// Queues `payload` as a broadcast for the peers that `to` selects, waiting for room in each
    /// outbox.
    ///
    /// # Errors
    ///
    /// As for [`broadcast_payload`](Peers::broadcast_payload), among the selected peers.
    ///
    /// # Cancel safety
    ///
    /// As for [`broadcast_payload`](Peers::broadcast_payload).
    pub async fn broadcast_payload_where(
        &self,
        payload: impl Into<Bytes>,
        to: impl Fn(&Peer) -> bool,
    ) -> Result<Sent, Error> {
        let (mut sent, waiting) = self.offer(&payload.into(), to)?;
        for (peer, chunk) in waiting {
            match peer.outbox().push(&[chunk], &mut 0).await {
                Ok(()) => sent.queued += 1,
                Err(_) => sent.dropped += 1,
            }
        }
        Ok(sent)
    }

    /// Queues `payload` as a broadcast for the peers that have room for it now. For the others it
    /// is dropped, and counted.
    ///
    /// # Errors
    ///
    /// As for [`broadcast_payload`](Peers::broadcast_payload).
    pub fn try_broadcast_payload(&self, payload: impl Into<Bytes>) -> Result<Sent, Error> {
        let (mut sent, waiting) = self.offer(&payload.into(), |_| true)?;
        for (peer, _) in waiting {
            peer.dropped(DropReason::Full, 1);
            sent.dropped += 1;
        }
        Ok(sent)
    }

    /// Queues each of `payloads` for every peer as a broadcast of its own, in order, waiting for
    /// room in each outbox. Does the same as [`broadcast_payload`](Peers::broadcast_payload) for
    /// each, and is many times as fast for small payloads.
    ///
    /// About [`BATCH`] bytes are taken from `payloads` at a time, and coalesced before any peer
    /// gets the first of them. So an iterator that blocks delays the payloads that it gave before.
    /// The result is the sum over the payloads: two of them queued for three peers are six.
    ///
    /// Payloads of no more than [`BATCH`] in all, with [`PAYLOAD_COST`] added for each, go to the
    /// same peers: those that are connected when the future is first polled. Of more than that, a
    /// peer that connects in the meantime gets the rest.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), coalescent::Error> {
    /// # let mesh = coalescent::App::new().start().await?;
    /// let sent = mesh.broadcast_payloads(["beep", "boop"]).await?;
    /// assert_eq!(sent.dropped, 0);
    /// let numbers = (0..1000).map(|number| number.to_string());
    /// let sent = mesh.broadcast_payloads(numbers).await?;
    /// # assert_eq!(sent.queued, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`broadcast_payload`](Peers::broadcast_payload), for the first payload that cannot be
    /// sent. Those before it were queued, and those after it are not taken from `payloads`: pass
    /// the iterator `by_ref()` to go on with them.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is done, some peers get some of the payloads, each peer
    /// the first of them.
    pub async fn broadcast_payloads<P>(
        &self,
        payloads: impl IntoIterator<Item = P>,
    ) -> Result<Sent, Error>
    where
        P: Payload,
    {
        match self.broadcast_until_failed(payloads).await {
            (sent, None) => Ok(sent),
            (_, Some(error)) => Err(error),
        }
    }

    /// Does what [`broadcast_payloads`](Peers::broadcast_payloads) does, and returns what was sent
    /// before the payload that could not be.
    pub(crate) async fn broadcast_until_failed<P>(
        &self,
        payloads: impl IntoIterator<Item = P>,
    ) -> (Sent, Option<Error>)
    where
        P: Payload,
    {
        let mut payloads = payloads.into_iter();
        let mut sent = Sent::default();
        loop {
            let offered = self.offer_batch(&mut payloads);
            sent += offered.sent;
            self.eased().await;
            // Other tasks get their turn, even if no peer has to be waited for.
            tokio::task::coop::consume_budget().await;
            for unsent in offered.waiting {
                sent += unsent.push().await;
            }
            // A smaller batch was the last one. An iterator that has ended is not asked again: it
            // might go on.
            if offered.failed.is_some() || offered.size < BATCH {
                return (sent, offered.failed);
            }
        }
    }

    /// Queues the next [`BATCH`] of broadcasts as far as there is room.
    fn offer_batch<P>(&self, payloads: &mut impl Iterator<Item = P>) -> Offered
    where
        P: Payload,
    {
        let list = self.list();
        let mut batch = Batch::new(self.node(), &list);
        let (size, failed) = batch.fill(payloads);
        let (sent, waiting) = batch.offer(&list);
        Offered {
            sent,
            waiting,
            size,
            failed,
        }
    }

    /// Waits until no more than [`AHEAD`] bytes are queued for any peer, at most [`AHEAD_GRACE`].
    async fn eased(&self) {
        let peers = self.list();
        let is_waited_for = |peer: &Peer| peer.outbox().used() > AHEAD && peer.is_trusted();
        if !peers.iter().any(is_waited_for) {
            return;
        }
        let eased = async {
            for peer in peers.iter().filter(|peer| is_waited_for(peer)) {
                peer.outbox().eased(AHEAD).await;
            }
        };
        // After the timeout the next batch is coalesced all the same.
        let _ = timeout(AHEAD_GRACE, eased).await;
    }

    /// Waits until all that is queued for the peers now has been written to their sockets, or
    /// dropped.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: waiting changes nothing.
    pub async fn flushed(&self) {
        for peer in self.list().iter() {
            peer.flushed().await;
        }
    }
}

/// What became of a batch of broadcasts.
struct Offered {
    sent: Sent,
    /// What peers had no room for.
    waiting: Vec<Unsent>,
    /// The size of the batch: less than [`BATCH`] if it was the last one.
    size: usize,
    /// The error of the payload that the batch ends before, if that cannot be sent.
    failed: Option<Error>,
}

/// Checks a payload against the frame limit of this node, which holds on every wire.
#[inline]
fn check_size(node: &Node, len: usize) -> Result<(), Error> {
    let limit = node.config().max_frame;
    if len > limit {
        return Err(Error::encode(WireError::too_large(limit)));
    }
    Ok(())
}

/// Reports frames that a peer's wire has no place for.
fn unencodable(node: &Node, peer: &Peer, error: &WireError, frames: u64) -> Sent {
    node.error(Some(peer), Error::encode(report(error).to_string()));
    peer.dropped(DropReason::Unencodable, frames);
    Sent::dropped(frames)
}

/// Counts frames that are larger than the peer takes. They are not reported as errors one by one:
/// the peer chooses that limit, and could cause as many as it likes.
fn too_large(peer: &Peer, frames: u64) -> Sent {
    peer.dropped(DropReason::TooLarge, frames);
    Sent::dropped(frames)
}

fn as_number(frames: u64) -> usize {
    usize::try_from(frames).unwrap_or(usize::MAX)
}
