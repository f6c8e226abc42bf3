//! Relaying: hands the frames that a relay has decided to pass on to all other peers, in runs.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::clock;
use crate::frame::in_flight::{InFlight, RelayDecision};
use crate::frame::{DerivedRelay, Flow};
use crate::node::by_wire::ByWire;
use crate::node::outgoing::{SHARED_PART, copy_if_small, encode_relayed, relayed_kind};
use crate::node::peer::Peer;
use crate::outbox::{Chunk, Count, Refused, frames};
use crate::reason::DropReason;
use crate::wire::{Block, Head, Kind};

/// Consecutive frames of one block that go to the same peers with the same flow.
#[derive(Debug)]
struct Segment {
    flow: Flow,
    frames: SegmentFrames,
}

#[derive(Debug)]
enum SegmentFrames {
    /// Neighbours in the block that can be forwarded as they stand: their bytes, and their indices
    /// in the block's list of heads.
    Run {
        bytes: Range<usize>,
        heads: Range<usize>,
    },
    /// A frame that has to be encoded again.
    Single { kind: Kind, ttl: u8, payload: Bytes },
}

/// The frames of one connection that are to be relayed, and the peers that had no room for them.
#[derive(Debug, Default)]
pub(super) struct Relays {
    segments: Vec<Segment>,
    /// Whether a frame was ever relayed.
    used: bool,
    /// The payload bytes of all single frames in `segments`.
    singles: usize,
    /// The peers that had no room, with the chunks that they are still to get.
    stalled: VecDeque<Stalled>,
}

/// Chunks that a peer had no room for.
#[derive(Debug)]
struct Stalled {
    peer: Peer,
    /// Shared by all peers that had no room.
    chunks: Arc<[Chunk]>,
    /// How many of the chunks the peer has got.
    progress: usize,
    flow: Flow,
    /// With [`Flow::Drop`]: when the rest is dropped.
    until: Instant,
}

impl Relays {
    /// Creates an empty list; `used` says whether the connection has relayed frames before.
    pub(super) fn new(used: bool) -> Self {
        let mut relays = Self::default();
        relays.used = used;
        relays
    }

    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.stalled.is_empty()
    }

    /// Returns whether frames of this connection are relayed, as far as is known.
    pub(super) fn is_used(&self) -> bool {
        self.used || !self.is_empty()
    }

    /// Returns the payload bytes of the frames that are in no run.
    pub(super) fn singles(&self) -> usize {
        self.singles
    }

    /// Adds the frame `index` of its block, which begins at `offset`, to the run before it. Returns
    /// whether it can: it directly follows the run, is forwarded as it stands, and has the same
    /// flow.
    #[inline]
    pub(super) fn extend(&mut self, index: usize, offset: usize, head: &Head, flow: Flow) -> bool {
        if let Some(Segment {
            flow: last,
            frames: SegmentFrames::Run { bytes, heads },
        }) = self.segments.last_mut()
            && head.verbatim
            && matches!(head.kind, Kind::Broadcast { .. } | Kind::Plain)
            && *last == flow
            && bytes.end == offset
            && heads.end == index
        {
            bytes.end += head.wire_len();
            heads.end += 1;
            return true;
        }
        false
    }

    /// Adds the frame `index` of the block, whose read buffer has `buffer` bytes.
    pub(super) fn add(
        &mut self,
        in_flight: &InFlight,
        block: &Block,
        index: usize,
        decision: RelayDecision,
        buffer: usize,
    ) {
        let (flow, rewritten) = decision;
        let Some((offset, head)) = block.heads.get(index) else {
            return;
        };
        let relayable = matches!(head.kind, Kind::Broadcast { .. } | Kind::Plain);
        if rewritten.is_some() || !head.verbatim || !relayable {
            let payload = rewritten.unwrap_or_else(|| block.payload(*offset, head));
            let payload = copy_if_small(payload, &block.bytes, buffer);
            self.add_single(in_flight, head, payload, flow);
            return;
        }
        if self.extend(index, *offset, head, flow) {
            return;
        }
        let frames = SegmentFrames::Run {
            bytes: *offset..offset + head.wire_len(),
            heads: index..index + 1,
        };
        self.segments.push(Segment { flow, frames });
    }

    /// Adds a frame that is no longer in a block, or whose payload was replaced.
    pub(super) fn add_single(
        &mut self,
        in_flight: &InFlight,
        head: &Head,
        payload: Bytes,
        flow: Flow,
    ) {
        let (kind, ttl) = relayed_kind(in_flight.peer().node(), head.kind, head.ttl, &payload);
        self.add_own(flow, kind, ttl, payload);
    }

    /// Adds a frame that a layer has derived from another one.
    pub(super) fn add_derived(&mut self, in_flight: &InFlight, derived: DerivedRelay) {
        let DerivedRelay {
            kind,
            ttl,
            payload,
            flow,
        } = derived;
        let (kind, ttl) = relayed_kind(in_flight.peer().node(), kind, ttl, &payload);
        self.add_own(flow, kind, ttl, payload);
    }

    fn add_own(&mut self, flow: Flow, kind: Kind, ttl: u8, payload: Bytes) {
        self.singles += payload.len();
        self.segments.push(Segment {
            flow,
            frames: SegmentFrames::Single { kind, ttl, payload },
        });
    }

    /// Frees the memory that is kept for further frames.
    pub(super) fn fall_idle(&mut self) {
        self.segments.shrink_to_fit();
        self.stalled.shrink_to_fit();
    }

    /// Pushes all frames that were added to the other peers, as far as there is room; the rest is
    /// left to [`wait`](Relays::wait).
    ///
    /// `buffer` is the size of the read buffer that the block is a part of.
    pub(super) fn push(&mut self, in_flight: &InFlight, block: &Block, buffer: usize) {
        if self.segments.is_empty() {
            return;
        }
        self.used = true;
        let node = in_flight.peer().node();
        let targets = node.targets();
        let mut encoded = ByWire::new();
        let until = clock::now() + node.config().relay_grace;
        for peer in targets.iter().filter(|peer| *peer != in_flight.peer()) {
            let encode = || self.encode(in_flight, block, buffer, peer);
            encoded
                .get_or_make(peer.wire(), encode)
                .offer(peer, until, &mut self.stalled);
        }
        self.segments.clear();
        self.singles = 0;
    }

    /// Encodes the segments for the wire of `peer`.
    fn encode(&self, in_flight: &InFlight, block: &Block, buffer: usize, peer: &Peer) -> Encoded {
        let mut encoded = Encoded::default();
        for Segment { flow, frames } in &self.segments {
            match frames {
                SegmentFrames::Run { bytes, heads } if peer.wire() == in_flight.wire() => {
                    let run = if bytes.len() >= buffer / SHARED_PART {
                        block.bytes.slice(bytes.clone())
                    } else {
                        Bytes::copy_from_slice(&block.bytes[bytes.clone()])
                    };
                    let frames = u32::try_from(heads.len()).unwrap_or(u32::MAX);
                    encoded.add(*flow, Chunk::verbatim(run, Count::relayed(frames)));
                }
                SegmentFrames::Run { heads, .. } => {
                    for (offset, head) in block.heads.get(heads.clone()).unwrap_or_default() {
                        let payload = block.payload(*offset, head);
                        let payload = copy_if_small(payload, &block.bytes, buffer);
                        let (kind, ttl) = relayed_kind(peer.node(), head.kind, head.ttl, &payload);
                        encoded.add_frame(peer, *flow, kind, ttl, payload);
                    }
                }
                SegmentFrames::Single { kind, ttl, payload } => {
                    encoded.add_frame(peer, *flow, *kind, *ttl, payload.clone());
                }
            }
        }
        encoded
    }

    /// Waits for room in the outboxes that had none, as the flow of the frames says.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the next call continues where this one stopped.
    pub(super) async fn wait(&mut self) {
        while let Some(stalled) = self.stalled.front_mut() {
            stalled.push().await;
            self.stalled.pop_front();
        }
    }
}

impl Drop for Relays {
    fn drop(&mut self) {
        // The connection has failed while other peers had no room for its frames.
        for stalled in self.stalled.drain(..) {
            stalled.drop_rest(DropReason::Disconnected);
        }
    }
}

impl Stalled {
    /// Pushes the chunks, waiting for room, and counts those that are dropped.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the next call continues where this one stopped.
    async fn push(&mut self) {
        let push = self.peer.push_fitting(&self.chunks, &mut self.progress);
        let pushed = match self.flow {
            Flow::Wait => Some(push.await),
            Flow::Drop => tokio::time::timeout_at(self.until, push).await.ok(),
        };
        match pushed {
            Some(Ok(())) => {}
            Some(Err(_)) => self.drop_rest(DropReason::Disconnected),
            None => {
                self.peer.outbox().mark_slow();
                self.drop_rest(DropReason::Full);
            }
        }
    }

    fn drop_rest(&self, reason: DropReason) {
        let rest = self.chunks.get(self.progress..).unwrap_or_default();
        self.peer.dropped(reason, frames(rest));
    }
}

/// Segments encoded for one wire.
#[derive(Debug, Default)]
struct Encoded {
    groups: Vec<Group>,
    /// How many frames the wire has no place for.
    unencodable: u64,
}

/// Consecutive chunks of the same flow.
#[derive(Debug)]
struct Group {
    flow: Flow,
    chunks: Vec<Chunk>,
    /// The chunks again, made when the first peer has no room for all of them.
    shared: OnceCell<Arc<[Chunk]>>,
}

impl Encoded {
    #[inline]
    fn add(&mut self, flow: Flow, chunk: Chunk) {
        match self.groups.last_mut() {
            Some(group) if group.flow == flow => group.chunks.push(chunk),
            _ => self.groups.push(Group {
                flow,
                chunks: vec![chunk],
                shared: OnceCell::new(),
            }),
        }
    }

    fn add_frame(&mut self, peer: &Peer, flow: Flow, kind: Kind, ttl: u8, payload: Bytes) {
        match encode_relayed(peer, kind, ttl, payload) {
            Ok(chunk) => self.add(flow, chunk),
            Err(_) => self.unencodable += 1,
        }
    }

    /// Pushes the chunks to one peer; those that it has no room for are added to `stalled`.
    fn offer(&self, peer: &Peer, until: Instant, stalled: &mut VecDeque<Stalled>) {
        peer.dropped(DropReason::Unencodable, self.unencodable);
        // If the peer already waits for chunks, these wait behind them, to keep the order.
        let mut behind = stalled.iter().any(|stalled| stalled.peer == *peer);
        for group in &self.groups {
            let progress = if behind {
                0
            } else {
                match peer.try_push_fitting(&group.chunks) {
                    Ok(taken) => taken,
                    Err(Refused::Full) => 0,
                    Err(Refused::Closed) => {
                        // The peer is leaving, and the source is still read to its end.
                        peer.dropped(DropReason::Disconnected, frames(&group.chunks));
                        continue;
                    }
                }
            };
            let rest = group.chunks.get(progress..).unwrap_or_default();
            if rest.is_empty() {
                continue;
            }
            if group.flow == Flow::Drop && peer.outbox().is_slow() {
                peer.dropped(DropReason::Full, frames(rest));
                continue;
            }
            behind = true;
            stalled.push_back(Stalled {
                peer: peer.clone(),
                chunks: Arc::clone(group.shared.get_or_init(|| group.chunks.as_slice().into())),
                progress,
                flow: group.flow,
                until,
            });
        }
    }
}
