//! What the frames came to: replies to their peer, and what relays hand on.

use bytes::Bytes;
use tokio::time::Instant;

use super::{Batch, OWED_MAX, Work};
use crate::error::Error;
use crate::node::outgoing::copy_if_small;
use crate::reason::DropReason;
use crate::stack::PeerService;
use crate::stack::inbox::Kept;
use crate::stack::reply::Reply;
use crate::text::truncate;
use crate::wire::{Block, Head, Kind, Status, encode_reason};

/// What a frame that its sender must not have sent costs of the budget.
const OFFENCE: u32 = 1;

impl<S: PeerService> Work<S> {
    /// Writes down what became of a frame.
    #[inline]
    pub(super) fn finish(&mut self, head: &Head, result: Result<Reply, Error>) {
        // What nearly all frames come to, inlined where that is found out.
        if !matches!((&result, head.kind), (Ok(Reply::None), kind) if !matches!(kind, Kind::Request { .. }))
        {
            self.finish_slowly(head, result);
        }
    }

    fn finish_slowly(&mut self, head: &Head, result: Result<Reply, Error>) {
        let request = match head.kind {
            Kind::Request { id } => Some(id),
            _ => None,
        };
        let error = match result {
            Ok(Reply::None) => {
                return self.reply(request, Status::NoAnswer, Bytes::new());
            }
            Ok(Reply::Payload(payload)) => return self.reply_payload(request, payload),
            Ok(Reply::Message(_)) => Error::no_courier(),
            Err(error) => error,
        };
        if request.is_some() {
            self.reply_failed(request, &error.reason());
        }
        // What it passed on it need not have made, and on a wire without kinds it may have passed
        // on all.
        let own = matches!(head.kind, Kind::Data | Kind::Request { .. });
        if own && error.is_offence() {
            self.budget.spend(OFFENCE, Instant::now());
        }
        self.fail(error);
    }

    /// Says why there is no answer, in as many words as the peer takes.
    fn reply_failed(&mut self, request: Option<u32>, reason: &str) {
        let reason = truncate(reason, self.link.peer().limit());
        let reason = Bytes::copy_from_slice(encode_reason(reason));
        self.reply(request, Status::Failed, reason);
    }

    fn reply(&mut self, request: Option<u32>, status: Status, payload: Bytes) {
        let Some(id) = request else { return };
        if let Err(error) = self.push_reply(Kind::Reply { id, status }, payload) {
            self.fail(error);
        }
    }

    fn reply_payload(&mut self, request: Option<u32>, payload: Bytes) {
        let kind = match request {
            Some(id) => Kind::Reply {
                id,
                status: Status::Ok,
            },
            None => Kind::Data,
        };
        if let Err(error) = self.push_reply(kind, payload) {
            self.reply_failed(request, "the reply is too large");
            self.fail(error);
        }
    }

    fn push_reply(&mut self, kind: Kind, payload: Bytes) -> Result<(), Error> {
        let peer = self.link.peer();
        self.replies.add(peer, kind, payload).map_err(Error::encode)
    }

    /// Tells an error that concerns the peer, and is not counted against it.
    pub(super) fn fail(&self, error: Error) {
        self.link.peer().node().error(Some(self.link.peer()), error);
    }

    /// Hands on what the frames so far came to, as far as there is room: relayed frames to the
    /// other peers, replies to this one. Returns whether that was all.
    pub(in crate::connection) fn hand_on(&mut self) -> bool {
        self.push_relays();
        self.deliver();
        if !self.replies.is_empty() {
            let peer = self.link.peer();
            let lost = self.replies.offer(peer, self.id.0);
            peer.dropped(DropReason::Disconnected, lost);
        }
        !self.has_results()
    }

    /// Gives what relays have decided to the other peers, as far as there is room.
    fn push_relays(&mut self) {
        match self.backlog.front() {
            Some(Batch { block, arrival, .. }) => {
                self.relays.push(&self.link, block, arrival.buffer_len);
            }
            None => self.relays.push(&self.link, &Block::default(), 0),
        }
    }

    /// Whether so much is to be handed on that it should be, before more frames are handled.
    pub(super) fn owes_much(&self) -> bool {
        self.replies.bytes() + self.unpacked + self.relays.singles() > OWED_MAX
    }

    /// Hands what the inbox has taken to the read side, as far as there is room.
    pub(super) fn deliver(&mut self) {
        self.unpacked = 0;
        if self.delivery.is_empty() {
            return;
        }
        let next = self.next;
        let first = self.backlog.front_mut();
        let done = first
            .as_ref()
            .is_some_and(|first| next >= first.block.heads.len());
        let frames = self.delivery.gather(first, done);
        let before = frames.iter().map(Kept::len).sum();
        let empty = self.read_side.offer(frames);
        if let (Some(heads), None) = (empty, &self.spare) {
            self.spare = Some(Block {
                heads,
                ..Block::default()
            });
        }
        self.delivered(before);
    }

    /// Counts what was delivered of `before` frames, and lets others bring frames to the read side
    /// again if that was all.
    fn delivered(&mut self, before: usize) {
        let left: usize = self.delivery.rest().iter().map(Kept::len).sum();
        let counters = self.link.peer().counters();
        counters.add_delivered((before - left) as u64);
        if self.delivery.is_empty() {
            self.link.set_staging(false);
        }
    }

    /// Waits for room for what [`hand_on`](Work::hand_on) had no room for, where its flow says so.
    ///
    /// # Cancel safety
    ///
    /// Safe: the next call goes on where this one was.
    pub(in crate::connection) async fn wait_for_room(&mut self) {
        self.relays.wait().await;
        let before = self.delivery.rest().iter().map(Kept::len).sum();
        self.read_side.push(self.delivery.rest()).await;
        self.delivered(before);
        // A peer that asks and does not read what it is answered is held back here, and
        // disconnected when its patience is used up.
        let peer = self.link.peer();
        let lost = self.replies.push(peer).await;
        peer.dropped(DropReason::Disconnected, lost);
    }

    /// Hands on what relays have decided, as far as there is room, and counts what has not been
    /// handled.
    pub(super) fn lose_backlog(&mut self) {
        let undecided = self.lose_calls();
        self.push_relays();
        let mut next = self.next;
        let (mut broadcasts, mut others) = (0, 0);
        for batch in &self.backlog {
            for (_, head) in batch.block.heads.get(next..).unwrap_or_default() {
                match head.kind {
                    Kind::Broadcast { .. } | Kind::Plain => broadcasts += 1,
                    kind => others += u64::from(kind.is_payload()),
                }
            }
            next = 0;
        }
        let peer = self.link.peer();
        if self.relays_frames() {
            peer.node().lost(peer, broadcasts + undecided);
        } else {
            others += broadcasts;
        }
        peer.dropped(DropReason::Disconnected, others);
    }

    /// Whether frames of this connection are relayed, as far as is known.
    pub(super) fn relays_frames(&self) -> bool {
        self.link.peer().node().hooks().relays || self.relays.is_used()
    }

    pub(super) fn lose_replies(&mut self) {
        let lost = self.replies.lose();
        self.link.peer().dropped(DropReason::Disconnected, lost);
    }
}

/// A reply that does not keep the frame's buffer alive for a small part of it.
pub(super) fn unpin(reply: Reply, whole: &Bytes, buffer_len: usize) -> Reply {
    match reply {
        Reply::Payload(payload) => Reply::Payload(copy_if_small(payload, whole, buffer_len)),
        reply => reply,
    }
}
