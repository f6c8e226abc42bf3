//! Many payloads for all peers, coalesced for each wire.

use bytes::Bytes;

use super::run::Run;
use super::{BATCH, PAYLOAD_COST, Sent, as_number, check_size, too_large, unencodable};
use crate::error::Error;
use crate::node::Node;
use crate::node::by_wire::ByWire;
use crate::node::payload::Payload;
use crate::node::peer::Peer;
use crate::outbox::{COALESCE_MAX, Chunk, Refused, frames};
use crate::wire::Wire;

/// How many nonces are drawn from the node at once.
const NONCES_DRAWN: u64 = 256;

/// A batch of broadcasts that are encoded for each wire before they are queued.
pub(super) struct Batch<'a> {
    node: &'a Node,
    runs: ByWire<'a, Run<'a>>,
    /// Whether hooks are told of each broadcast.
    announced: bool,
    /// Whether peers without nonces are among the targets.
    has_plain: bool,
    /// Whether small payloads can be framed without asking the wire: all peers are on the native
    /// one, its limit is at least [`COALESCE_MAX`], and nobody is told.
    quick: bool,
}

impl<'a> Batch<'a> {
    /// Creates an empty batch for the peers in `list`.
    pub(super) fn new(node: &'a Node, list: &'a [Peer]) -> Self {
        let mut runs = ByWire::new();
        for peer in list {
            runs.get_or_make(peer.wire(), || Run::new(peer));
        }
        let has_plain = runs.iter_mut().any(|(wire, _)| !wire.has_handshake());
        let announced = node.is_announced();
        let quick = runs.only().is_some_and(|run| *run.wire() == Wire::native())
            && !announced
            && node.config().max_frame >= COALESCE_MAX;
        Self {
            node,
            runs,
            announced,
            has_plain,
            quick,
        }
    }

    /// Takes payloads until the batch is full, there are no more, or one cannot be sent. Returns
    /// the size of the batch, and the error of the last payload if it is not part of the batch.
    pub(super) fn fill<P: Payload>(
        &mut self,
        payloads: &mut impl Iterator<Item = P>,
    ) -> (usize, Option<Error>) {
        let ttl = self.node.config().ttl;
        let mut nonces = Nonces::new(self.node);
        let mut size = 0;
        while size < BATCH {
            let Some(payload) = payloads.next() else {
                break;
            };
            let nonce = nonces.draw();
            let bytes = payload.as_ref();
            // The framing counts too: payloads may be empty.
            size += bytes.len() + PAYLOAD_COST;
            if self.quick
                && bytes.len() <= COALESCE_MAX
                && let Some(run) = self.runs.only()
            {
                run.add_quickly(self.node, ttl, nonce, bytes);
            } else if let Err(error) = self.add(nonce, &payload.into_bytes()) {
                return (size, Some(error));
            }
        }
        (size, None)
    }

    fn add(&mut self, nonce: u64, payload: &Bytes) -> Result<(), Error> {
        check_size(self.node, payload.len())?;
        if self.announced {
            self.node.announce(Some(nonce), payload);
            if self.has_plain {
                self.node.announce(None, payload);
            }
        }
        let (mut carried, mut without) = (0_usize, 0_usize);
        for (_, run) in self.runs.iter_mut() {
            match run.add(nonce, payload) {
                true => carried += 1,
                false => without += 1,
            }
        }
        if without > 0 {
            return self.settle(carried > 0);
        }
        Ok(())
    }

    /// Counts the payload that some wires could not carry as one that their peers do not get, if
    /// another wire carries it. Otherwise nobody gets it, which is an error.
    #[cold]
    fn settle(&mut self, is_carried: bool) -> Result<(), Error> {
        let mut failed = None;
        for (_, run) in self.runs.iter_mut() {
            if is_carried {
                run.count_refused();
            } else {
                failed = run.take_refused().or(failed);
            }
        }
        failed.map_or(Ok(()), |error| Err(Error::encode(error)))
    }

    /// Queues the batch for the peers in `list` as far as there is room. Returns the peers without
    /// room for all of it.
    pub(super) fn offer(mut self, list: &[Peer]) -> (Sent, Vec<Unsent>) {
        for (_, run) in self.runs.iter_mut() {
            run.seal_last(self.node);
        }
        let mut sent = Sent::default();
        let mut waiting = Vec::new();
        for peer in list {
            if let Some(run) = self.runs.get(peer.wire()) {
                let (some, unsent) = self.offer_to(peer, run);
                sent += some;
                waiting.extend(unsent);
            }
        }
        (sent, waiting)
    }

    fn offer_to(&self, peer: &Peer, run: &Run<'_>) -> (Sent, Option<Unsent>) {
        let mut sent = Sent::default();
        if let Some((error, frames)) = run.failed() {
            sent += unencodable(self.node, peer, error, frames);
        }
        let (chunks, left_out) = peer.fitting(run.chunks());
        sent += too_large(peer, left_out);
        let taken = match peer.outbox().try_push(&chunks) {
            Ok(taken) => taken,
            Err(Refused::Full) => 0,
            Err(Refused::Closed) => {
                sent.dropped += as_number(frames(&chunks));
                return (sent, None);
            }
        };
        let (queued, rest) = chunks.split_at(taken);
        sent.queued += as_number(frames(queued));
        let unsent = (!rest.is_empty()).then(|| Unsent {
            peer: peer.clone(),
            chunks: rest.to_vec(),
        });
        (sent, unsent)
    }
}

/// The chunks of a batch that a peer had no room for.
pub(super) struct Unsent {
    peer: Peer,
    chunks: Vec<Chunk>,
}

impl Unsent {
    /// Queues the chunks, waiting for room.
    pub(super) async fn push(self) -> Sent {
        let all = as_number(frames(&self.chunks));
        let mut progress = 0;
        let pushed = self.peer.outbox().push(&self.chunks, &mut progress).await;
        let lost = match pushed {
            Ok(()) => 0,
            Err(_) => as_number(frames(self.chunks.get(progress..).unwrap_or_default())),
        };
        Sent {
            queued: all - lost,
            dropped: lost,
        }
    }
}

/// Nonces for a batch, drawn from the node many at a time. Unused ones are given back, so that the
/// broadcasts of a node have nonces without gaps, which relays remember in less memory.
struct Nonces<'a> {
    node: &'a Node,
    next: u64,
    end: u64,
}

impl<'a> Nonces<'a> {
    #[inline]
    fn new(node: &'a Node) -> Self {
        Self {
            node,
            next: 0,
            end: 0,
        }
    }

    #[inline]
    fn draw(&mut self) -> u64 {
        if self.next == self.end {
            self.next = self.node.next_nonces(NONCES_DRAWN);
            self.end = self.next.wrapping_add(NONCES_DRAWN);
        }
        let nonce = self.next;
        self.next = nonce.wrapping_add(1);
        nonce
    }
}

impl Drop for Nonces<'_> {
    fn drop(&mut self) {
        if self.next != self.end {
            self.node.return_nonces(self.next, self.end);
        }
    }
}
