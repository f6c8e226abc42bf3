//! Handing on what a relay decided: runs of frames, each to all other peers.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use crate::frame::Flow;
use crate::frame::in_flight::{InFlight, RelayDecision};
use crate::node::Node;
use crate::node::outgoing::{SHARED_PART, copy_if_small, for_wire, outgoing};
use crate::node::peer::Peer;
use crate::outbox::{Chunk, Count, Refused};
use crate::reason::DropReason;
use crate::wire::{Block, Head, Kind, Wire};

/// Consecutive frames of one block that go to the same peers in the same way.
#[derive(Debug)]
struct Segment {
    flow: Flow,
    what: What,
}

#[derive(Debug)]
enum What {
    /// Neighbours in the block that can go out as they stand: from one offset to another, and which
    /// of the block's frames they are.
    Run {
        bytes: std::ops::Range<usize>,
        heads: std::ops::Range<usize>,
    },
    /// A frame that cannot.
    Single { kind: Kind, ttl: u8, payload: Bytes },
}

/// What is to be handed on from one connection, and to whom it still is.
#[derive(Debug, Default)]
pub(super) struct Relays {
    segments: Vec<Segment>,
    /// Whether anything was ever handed on.
    used: bool,
    /// How many bytes of them are frames by themselves.
    singles: usize,
    /// Peers that had no room, with what they are still to get.
    stalled: VecDeque<Stalled>,
}

#[derive(Debug)]
struct Stalled {
    peer: Peer,
    /// Shared by all peers that were behind.
    chunks: Arc<[Chunk]>,
    /// How many of the chunks it has got.
    progress: usize,
    flow: Flow,
    until: Instant,
}

impl Relays {
    /// Begins with nothing to hand on; `used` says whether there was something before.
    pub(super) fn new(used: bool) -> Self {
        let mut relays = Self::default();
        relays.used = used;
        relays
    }

    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.stalled.is_empty()
    }

    /// Adds a frame as it stands in its block to the run of those before it, if they go the same
    /// way: the frame `index`, which begins at `offset`.
    #[inline]
    pub(super) fn extend(&mut self, index: usize, offset: usize, head: &Head, flow: Flow) -> bool {
        if let Some(Segment {
            flow: last,
            what: What::Run { bytes, heads },
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

    /// Adds the frame at `index` of the block, which is a part of a buffer of `buffer` bytes.
    pub(super) fn add(
        &mut self,
        link: &InFlight,
        block: &Block,
        index: usize,
        mark: RelayDecision,
        buffer: usize,
    ) {
        let (flow, rewritten) = mark;
        let Some((offset, head)) = block.heads.get(index) else {
            return;
        };
        let relayable = matches!(head.kind, Kind::Broadcast { .. } | Kind::Plain);
        if rewritten.is_some() || !head.verbatim || !relayable {
            let payload = rewritten.unwrap_or_else(|| block.payload(*offset, head));
            let payload = copy_if_small(payload, &block.bytes, buffer);
            self.add_single(link, head, payload, flow);
            return;
        }
        if self.extend(index, *offset, head, flow) {
            return;
        }
        let what = What::Run {
            bytes: *offset..offset + head.wire_len(),
            heads: index..index + 1,
        };
        self.segments.push(Segment { flow, what });
    }

    /// Adds a frame that is no longer in a block, or has another payload now.
    pub(super) fn add_single(&mut self, link: &InFlight, head: &Head, payload: Bytes, flow: Flow) {
        let (kind, ttl) = outgoing(link.peer().node(), head.kind, head.ttl, &payload);
        self.singles += payload.len();
        self.segments.push(Segment {
            flow,
            what: What::Single { kind, ttl, payload },
        });
    }

    /// Gives back the memory that is kept for frames to come.
    pub(super) fn fall_idle(&mut self) {
        self.segments.shrink_to_fit();
        self.stalled.shrink_to_fit();
    }

    /// Hands on all that was added, as far as there is room; the rest is left to
    /// [`wait`](Relays::wait).
    ///
    /// `buffer` is the size of the buffer that the block is a part of.
    pub(super) fn push(&mut self, link: &InFlight, block: &Block, buffer: usize) {
        if self.segments.is_empty() {
            return;
        }
        self.used = true;
        let node = Arc::clone(link.peer().node());
        let list = node.targets();
        let mut encoded: Vec<(&Wire, Encoded)> = Vec::new();
        let until = Instant::now() + node.config().relay_grace;
        for peer in list.iter().filter(|peer| *peer != link.peer()) {
            let at = encoded.iter().position(|(wire, _)| *wire == peer.wire());
            let at = at.unwrap_or_else(|| {
                encoded.push((peer.wire(), self.encode(link, block, buffer, peer)));
                encoded.len() - 1
            });
            let Some((_, encoded)) = encoded.get(at) else {
                continue;
            };
            encoded.offer(peer, until, &mut self.stalled);
        }
        self.segments.clear();
        self.singles = 0;
    }

    /// Whether frames of this connection are relayed, as far as is known.
    pub(super) fn is_used(&self) -> bool {
        self.used || !self.is_empty()
    }

    /// How many bytes are to be handed on that are not a part of a run.
    pub(super) fn singles(&self) -> usize {
        self.singles
    }

    /// Makes chunks of the segments, for the wire of `peer`.
    fn encode(&self, link: &InFlight, block: &Block, buffer: usize, peer: &Peer) -> Encoded {
        let node = link.peer().node();
        let mut encoded = Encoded::default();
        for segment in &self.segments {
            match &segment.what {
                What::Run { bytes, heads } if peer.wire() == link.wire() => {
                    let run = if bytes.len() >= buffer / SHARED_PART {
                        block.bytes.slice(bytes.clone())
                    } else {
                        Bytes::copy_from_slice(&block.bytes[bytes.clone()])
                    };
                    let frames = u32::try_from(heads.len()).unwrap_or(u32::MAX);
                    encoded.add(segment.flow, Chunk::verbatim(run, Count::relayed(frames)));
                }
                What::Run { heads, .. } => {
                    for (offset, head) in block.heads.get(heads.clone()).unwrap_or_default() {
                        let payload = block.payload(*offset, head);
                        let payload = copy_if_small(payload, &block.bytes, buffer);
                        let (kind, ttl) = outgoing(node, head.kind, head.ttl, &payload);
                        encoded.frame(node, peer, segment.flow, kind, ttl, payload);
                    }
                }
                What::Single { kind, ttl, payload } => {
                    encoded.frame(node, peer, segment.flow, *kind, *ttl, payload.clone());
                }
            }
        }
        encoded
    }

    /// Waits for room in the peers that had none, as their frames' flow says.
    ///
    /// # Cancel safety
    ///
    /// Safe: the next call goes on where this one was.
    pub(super) async fn wait(&mut self) {
        while let Some(Stalled {
            peer,
            chunks,
            progress,
            flow,
            until,
        }) = self.stalled.front_mut()
        {
            let push = peer.push_fitting(chunks, progress);
            let done = match flow {
                // The peer is gone where this fails, and what it did not get is counted below.
                Flow::Wait => Some(push.await),
                Flow::Drop => tokio::time::timeout_at(*until, push).await.ok(),
            };
            let frames = frames(chunks, *progress);
            match done {
                Some(Ok(())) => {}
                Some(Err(_)) => peer.dropped(DropReason::Disconnected, frames),
                None => {
                    peer.outbox().mark_slow();
                    peer.dropped(DropReason::Full, frames);
                }
            }
            self.stalled.pop_front();
        }
    }
}

/// How many frames the chunks from `progress` on are.
fn frames(chunks: &[Chunk], progress: usize) -> u64 {
    let rest = chunks.get(progress..).unwrap_or_default();
    rest.iter().map(|chunk| chunk.count.total()).sum()
}

impl Drop for Relays {
    fn drop(&mut self) {
        // Where the connection breaks while others have no room for what its peer said.
        for stalled in self.stalled.drain(..) {
            let lost = frames(&stalled.chunks, stalled.progress);
            stalled.peer.dropped(DropReason::Disconnected, lost);
        }
    }
}

/// Consecutive chunks of the same flow.
#[derive(Debug)]
struct Group {
    flow: Flow,
    chunks: Vec<Chunk>,
    /// The chunks again, where there are peers that have no room for all of them.
    shared: OnceCell<Arc<[Chunk]>>,
}

/// Segments as chunks for one wire.
#[derive(Debug, Default)]
struct Encoded {
    groups: Vec<Group>,
    /// Frames that this wire has no place for.
    unencodable: u64,
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

    fn frame(&mut self, node: &Node, peer: &Peer, flow: Flow, kind: Kind, ttl: u8, payload: Bytes) {
        let (kind, ttl) = for_wire(node, peer.wire(), kind, ttl, &payload);
        match peer.encode(kind, ttl, payload, Count::relayed(1)) {
            Ok(chunk) => self.add(flow, chunk),
            Err(_) => self.unencodable += 1,
        }
    }

    /// Gives the chunks to one peer; what it has no room for goes to `stalled`.
    fn offer(&self, peer: &Peer, until: Instant, stalled: &mut VecDeque<Stalled>) {
        peer.dropped(DropReason::Unencodable, self.unencodable);
        // Behind what a peer still waits for, everything waits, so that its order stays.
        let mut behind = stalled.iter().any(|stalled| stalled.peer == *peer);
        for Group {
            flow,
            chunks,
            shared,
        } in &self.groups
        {
            let progress = if behind {
                0
            } else {
                match peer.try_push_fitting(chunks) {
                    Ok(taken) => taken,
                    Err(Refused::Full) => 0,
                    Err(Refused::Closed) => {
                        // It leaves, and this node has let it go: the source is read to its end.
                        peer.dropped(DropReason::Disconnected, frames(chunks, 0));
                        continue;
                    }
                }
            };
            if progress == chunks.len() {
                continue;
            }
            if *flow == Flow::Drop && peer.outbox().is_slow() {
                peer.dropped(DropReason::Full, frames(chunks, progress));
                continue;
            }
            behind = true;
            stalled.push_back(Stalled {
                peer: peer.clone(),
                chunks: Arc::clone(shared.get_or_init(|| chunks.as_slice().into())),
                progress,
                flow: *flow,
                until,
            });
        }
    }
}
