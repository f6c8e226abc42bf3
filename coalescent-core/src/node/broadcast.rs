//! What this node says to all its peers.
//!
//! One payload is put into a frame once for each wire, and into each peer's outbox. Many at a time
//! are put together first: small ones into runs, which all peers of a wire share, so that neither a
//! lock nor a wake-up is paid for each.

use std::collections::VecDeque;
use std::ops::{Add, AddAssign};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::time::timeout;

use super::{Node, Peers, Sent};
use crate::error::Error;
use crate::node::payload::Payload;
use crate::node::peer::Peer;
use crate::outbox::{Chunk, Count, Refused};
use crate::reason::DropReason;
use crate::wire::{Kind, Wire, WireError, broadcast_prefix};

/// About how many bytes of payloads are put together at once.
pub const BATCH: usize = 64 * 1024;

/// What each payload counts for in a [`BATCH`] in addition to its bytes: about what stands around
/// it on the wire.
pub const PAYLOAD_COST: usize = 16;

/// Payloads up to this many bytes are copied into one run with those around them; larger ones keep
/// their own memory. To copy one costs less, up to here, than to write it as slices of its own.
const SMALL_MAX: usize = 4096;

/// How many bytes may wait for a peer before more are put together for it, if many payloads are
/// given at once. To fill an outbox would gain nothing: what waits there has left the processor's
/// cache by the time it is written.
const AHEAD: usize = 512 * 1024;

/// How long that is waited for. A peer that takes nothing is to fill its outbox: only then is it
/// known to be slow, and at last disconnected.
const AHEAD_GRACE: Duration = Duration::from_millis(10);

/// How many buffers that runs were written into are kept for being used again, in each node.
pub(crate) const KEPT_RUNS: usize = 8;

/// The size of such a buffer.
pub(crate) const RUN_BYTES: usize = BATCH + SMALL_MAX + 2 * PAYLOAD_COST;

/// How many nonces are drawn at once.
const NONCES: u64 = 256;

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
    /// Queues `payload` for every peer as a broadcast, waiting for room in each.
    ///
    /// # Cancel safety
    ///
    /// When dropped before it is done, some peers get the payload and others do not.
    pub async fn broadcast_payload(&self, payload: impl Into<Bytes>) -> Sent {
        self.broadcast_payload_where(payload, |_| true).await
    }

    /// Queues `payload` as a broadcast for the peers that `to` picks, waiting for room in each.
    ///
    /// # Cancel safety
    ///
    /// As for [`broadcast_payload`](Peers::broadcast_payload).
    pub async fn broadcast_payload_where(
        &self,
        payload: impl Into<Bytes>,
        to: impl Fn(&Peer) -> bool,
    ) -> Sent {
        let (mut sent, waiting) = self.offer(&payload.into(), to);
        for (peer, chunk) in waiting {
            match peer.outbox().push(&[chunk], &mut 0).await {
                Ok(()) => sent.queued += 1,
                Err(_) => sent.dropped += 1,
            }
        }
        sent
    }

    /// Queues `payload` as a broadcast for those peers that have room for it now; for the others it
    /// is dropped, and counted.
    pub fn try_broadcast_payload(&self, payload: impl Into<Bytes>) -> Sent {
        let (mut sent, waiting) = self.offer(&payload.into(), |_| true);
        for (peer, _) in waiting {
            peer.dropped(DropReason::Full, 1);
            sent.dropped += 1;
        }
        sent
    }

    /// Queues each of `payloads` for every peer as a broadcast of its own, in order, waiting for
    /// room in each peer: as [`broadcast_payload`](Peers::broadcast_payload) does with one, and for
    /// small payloads many times as fast.
    ///
    /// About [`BATCH`] bytes are taken from `payloads` at a time, and put together before any peer
    /// gets the first of them. So an iterator that blocks holds back what it gave before. What is
    /// said is the sum over the payloads: two of them queued for three peers are six.
    ///
    /// Payloads that are no more than [`BATCH`] in all, [`PAYLOAD_COST`] each counted in, are for
    /// the same peers: those that are connected when the call is first polled. Of more than that, a
    /// peer that comes meanwhile gets the rest.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), coalescent_core::Error> {
    /// # let mesh = coalescent_core::App::new().start().await?;
    /// mesh.broadcast_payloads(["beep", "boop"]).await;
    /// mesh.broadcast_payloads((0..1000).map(|number| number.to_string())).await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// When dropped before it is done, some peers get some of the payloads, each peer the first of
    /// them.
    pub async fn broadcast_payloads<P>(&self, payloads: impl IntoIterator<Item = P>) -> Sent
    where
        P: Payload,
    {
        let mut payloads = payloads.into_iter();
        let mut sent = Sent::default();
        let mut size = 0;
        loop {
            let (some, waiting) = self.offer_some(&mut payloads, &mut size);
            sent += some;
            self.eased().await;
            // Others have their turn, also where nobody has to be waited for.
            tokio::task::coop::consume_budget().await;
            for Waiting { peer, chunks } in waiting {
                let frames = frames(&chunks);
                let mut progress = 0;
                match peer.outbox().push(&chunks, &mut progress).await {
                    Ok(()) => sent.queued += frames,
                    Err(_) => {
                        let lost = self::frames(chunks.get(progress..).unwrap_or_default());
                        sent.dropped += lost;
                        sent.queued += frames - lost;
                    }
                }
            }
            // There were no more. What has ended is not asked again: it might go on.
            if size < BATCH {
                return sent;
            }
        }
    }

    /// Waits until no more than [`AHEAD`] waits for any peer, or a short while.
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
        // In vain or not, it goes on.
        let _ = timeout(AHEAD_GRACE, eased).await;
    }

    /// Waits until all that is queued for the peers now has been written to their sockets, or
    /// dropped.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing changes by waiting.
    pub async fn flushed(&self) {
        for peer in self.list().iter() {
            peer.flushed().await;
        }
    }

    /// Queues a broadcast where there is room, and returns the peers that have none.
    fn offer(&self, payload: &Bytes, to: impl Fn(&Peer) -> bool) -> (Sent, Vec<(Peer, Chunk)>) {
        let node = self.node();
        let nonce = node.next_nonces(1);
        let list = self.list();
        if node.is_announced() {
            node.announce(Some(nonce), payload);
            if list.iter().any(|peer| !peer.wire().has_handshake()) {
                node.announce(None, payload);
            }
        }
        let ttl = node.config().ttl;
        let mut sent = Sent::default();
        let mut waiting = Vec::new();
        let mut encoded = ByWire::new();
        for peer in list.iter().filter(|peer| to(peer)) {
            let kind = own_kind(peer.wire(), nonce);
            let chunk = encoded.get(peer, || peer.encode(kind, ttl, payload.clone(), Count::OWN));
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => {
                    sent += unencodable(node, peer, error, 1);
                    continue;
                }
            };
            let (fitting, left_out) = peer.fitting(std::slice::from_ref(chunk));
            sent += too_large(peer, left_out);
            if fitting.is_empty() {
                continue;
            }
            match peer.outbox().try_push(&fitting) {
                Ok(_) => sent.queued += 1,
                Err(Refused::Full) => waiting.push((peer.clone(), chunk.clone())),
                Err(Refused::Closed) => sent.dropped += 1,
            }
        }
        (sent, waiting)
    }

    /// Queues the next [`BATCH`] of broadcasts where there is room, and returns the peers that have
    /// none for all of them. Sets `size` to how much it took from `payloads`; less than a batch
    /// where there were no more.
    fn offer_some<P>(
        &self,
        payloads: &mut impl Iterator<Item = P>,
        size: &mut usize,
    ) -> (Sent, Vec<Waiting>)
    where
        P: Payload,
    {
        let node = self.node();
        let list = self.list();
        let mut runs: Vec<(&Peer, Run)> = Vec::new();
        for peer in list.iter() {
            if !runs.iter().any(|(first, _)| first.wire() == peer.wire()) {
                runs.push((peer, Run::default()));
            }
        }
        let plain = runs.iter().any(|(peer, _)| !peer.wire().has_handshake());
        let announced = node.is_announced();
        let ttl = node.config().ttl;
        let quick = matches!(&runs[..], [(peer, _)] if *peer.wire() == Wire::native())
            && !announced
            && node.config().max_frame >= SMALL_MAX;
        let (mut nonce, mut last) = (0, 0);
        *size = 0;
        while *size < BATCH {
            let Some(payload) = payloads.next() else {
                break;
            };
            if nonce == last {
                nonce = node.next_nonces(NONCES);
                last = nonce.wrapping_add(NONCES);
            }
            // The framing counts too: payloads may be empty.
            let bytes = payload.as_ref();
            *size += bytes.len() + PAYLOAD_COST;
            if let (true, [(_, run)]) = (quick && bytes.len() <= SMALL_MAX, &mut runs[..]) {
                run.add_quickly(node, ttl, nonce, bytes);
            } else {
                let payload = payload.into_bytes();
                if announced {
                    node.announce(Some(nonce), &payload);
                    if plain {
                        node.announce(None, &payload);
                    }
                }
                for (peer, run) in &mut runs {
                    run.add(peer, nonce, &payload);
                }
            }
            nonce = nonce.wrapping_add(1);
        }
        if nonce != last {
            node.return_nonces(nonce, last);
        }
        for (_, run) in &mut runs {
            run.seal_last(node);
        }
        let mut sent = Sent::default();
        let mut waiting = Vec::new();
        for peer in list.iter() {
            let run = runs.iter().find(|(first, _)| first.wire() == peer.wire());
            let Some((_, run)) = run else { continue };
            if let Some(error) = &run.error {
                sent += unencodable(node, peer, error, run.unencodable);
            }
            let (chunks, left_out) = peer.fitting(&run.chunks);
            sent += too_large(peer, left_out);
            let taken = match peer.outbox().try_push(&chunks) {
                Ok(taken) => taken,
                Err(Refused::Full) => 0,
                Err(Refused::Closed) => {
                    sent.dropped += frames(&chunks);
                    continue;
                }
            };
            let (queued, rest) = chunks.split_at(taken);
            sent.queued += frames(queued);
            if !rest.is_empty() {
                waiting.push(Waiting {
                    peer: peer.clone(),
                    chunks: rest.to_vec(),
                });
            }
        }
        (sent, waiting)
    }
}

/// A peer that has no room, and what it is still to get.
struct Waiting {
    peer: Peer,
    chunks: Vec<Chunk>,
}

/// How many frames the chunks are.
fn frames(chunks: &[Chunk]) -> usize {
    let frames: u64 = chunks.iter().map(|chunk| chunk.count.total()).sum();
    usize::try_from(frames).unwrap_or(usize::MAX)
}

/// What a broadcast of this node's own is on a wire.
fn own_kind(wire: &Wire, nonce: u64) -> Kind {
    if wire.has_handshake() {
        Kind::Broadcast { nonce }
    } else {
        Kind::Plain
    }
}

/// Reports frames that a peer's wire has no place for.
fn unencodable(node: &Node, peer: &Peer, error: &WireError, frames: usize) -> Sent {
    node.error(Some(peer), Error::encode(error.to_string()));
    peer.dropped(DropReason::Unencodable, frames as u64);
    Sent {
        queued: 0,
        dropped: frames,
    }
}

/// Counts frames that are larger than what a peer takes. There is no error for each, of which the
/// peer could make as many as it likes.
fn too_large(peer: &Peer, frames: u64) -> Sent {
    peer.dropped(DropReason::TooLarge, frames);
    Sent {
        queued: 0,
        dropped: usize::try_from(frames).unwrap_or(usize::MAX),
    }
}

/// Broadcasts for the peers of one wire.
#[derive(Default)]
struct Run {
    chunks: Vec<Chunk>,
    /// Small frames, behind all that are in `chunks`.
    tail: BytesMut,
    tail_frames: u32,
    /// How many frames the wire has no place for, and why not the last.
    unencodable: usize,
    error: Option<WireError>,
}

impl Run {
    fn add(&mut self, peer: &Peer, nonce: u64, payload: &Bytes) {
        if payload.len() <= SMALL_MAX {
            return self.add_small(peer, nonce, payload);
        }
        self.seal();
        self.add_chunk(peer, nonce, payload.clone());
    }

    /// Adds a small frame, on the native wire, whose frame limit it is within.
    #[inline]
    fn add_quickly(&mut self, node: &Node, ttl: u8, nonce: u64, payload: &[u8]) {
        let len = u16::try_from(payload.len()).unwrap_or(u16::MAX);
        let prefix = broadcast_prefix(ttl, nonce, len);
        if self.tail.capacity() == 0 {
            self.tail = node.runs().take();
        }
        self.tail.extend_from_slice(&prefix);
        self.tail.extend_from_slice(payload);
        self.tail_frames += 1;
    }

    fn add_small(&mut self, peer: &Peer, nonce: u64, payload: &[u8]) {
        let kind = own_kind(peer.wire(), nonce);
        match peer.framing(kind, peer.node().config().ttl, payload) {
            Ok(Some(framing)) => {
                if self.tail.capacity() == 0 {
                    self.tail = peer.node().runs().take();
                }
                self.tail.put_slice(framing.prefix());
                self.tail.put_slice(payload);
                self.tail.put_slice(framing.suffix());
                self.tail_frames += 1;
            }
            Ok(None) => {
                self.seal();
                self.add_chunk(peer, nonce, Bytes::copy_from_slice(payload));
            }
            Err(error) => self.fail(error),
        }
    }

    fn add_chunk(&mut self, peer: &Peer, nonce: u64, payload: Bytes) {
        let kind = own_kind(peer.wire(), nonce);
        let ttl = peer.node().config().ttl;
        match peer.encode(kind, ttl, payload, Count::OWN) {
            Ok(chunk) => self.chunks.push(chunk),
            Err(error) => self.fail(error),
        }
    }

    fn fail(&mut self, error: WireError) {
        self.unencodable += 1;
        self.error = Some(error);
    }

    /// Makes a chunk of the tail.
    fn seal(&mut self) {
        if self.tail_frames > 0 {
            let tail = std::mem::take(&mut self.tail).freeze();
            self.push_tail(tail);
        }
    }

    /// Makes a chunk of the tail, and lets its buffer be used again. A small tail does not keep all
    /// of a buffer.
    fn seal_last(&mut self, node: &Node) {
        if self.tail_frames == 0 {
            return;
        }
        let mut tail = std::mem::take(&mut self.tail);
        if tail.len() < BATCH / 2 {
            self.push_tail(Bytes::copy_from_slice(&tail));
            tail.clear();
            node.runs().keep(tail.freeze());
        } else {
            let tail = tail.freeze();
            node.runs().keep(tail.clone());
            self.push_tail(tail);
        }
    }

    fn push_tail(&mut self, tail: Bytes) {
        let count = Count {
            own: std::mem::take(&mut self.tail_frames),
            relayed: 0,
        };
        self.chunks.push(Chunk::verbatim(tail, count));
    }
}

/// The buffers that runs were written into.
#[derive(Debug, Default)]
pub(crate) struct Runs(Mutex<VecDeque<Bytes>>);

impl Runs {
    fn kept(&self) -> MutexGuard<'_, VecDeque<Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty buffer: one that no peer waits for any more, or another one.
    fn take(&self) -> BytesMut {
        let again = {
            let mut kept = self.kept();
            let at = kept.iter().position(Bytes::is_unique);
            at.and_then(|at| kept.remove(at))
        };
        match again.and_then(|again| again.try_into_mut().ok()) {
            Some(mut again) if again.capacity() >= RUN_BYTES => {
                again.clear();
                again
            }
            _ => BytesMut::with_capacity(RUN_BYTES),
        }
    }

    fn keep(&self, run: Bytes) {
        let mut kept = self.kept();
        if kept.len() == KEPT_RUNS {
            kept.pop_front();
        }
        kept.push_back(run);
    }
}

/// What was encoded for each wire, kept for the next peer of the same wire.
struct ByWire<'a> {
    /// A node speaks a handful of wires at most, nearly always one, which needs no list.
    first: Option<Encoded<'a>>,
    others: Vec<Encoded<'a>>,
}

type Encoded<'a> = (&'a Wire, Result<Chunk, WireError>);

impl<'a> ByWire<'a> {
    fn new() -> Self {
        Self {
            first: None,
            others: Vec::new(),
        }
    }

    /// Gets what was made for the peer's wire, or makes it.
    fn get(
        &mut self,
        peer: &'a Peer,
        make: impl FnOnce() -> Result<Chunk, WireError>,
    ) -> &Result<Chunk, WireError> {
        let wire = peer.wire();
        if self.first.as_ref().is_none_or(|(first, _)| *first == wire) {
            return &self.first.get_or_insert_with(|| (wire, make())).1;
        }
        let found = self.others.iter().position(|(other, _)| *other == wire);
        let at = found.unwrap_or_else(|| {
            self.others.push((wire, make()));
            self.others.len() - 1
        });
        &self.others[at].1
    }
}
