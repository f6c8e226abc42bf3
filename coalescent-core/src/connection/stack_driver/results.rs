//! The results of calls: replies to the peer, frames to relay, and frames for the read side.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::backlog::{Backlog, Batch};
use super::delivery::Delivery;
use super::replies::Replies;
use crate::connection::relay::Relays;
use crate::error::Error;
use crate::frame::call::{CallOutcome, CallScope};
use crate::frame::in_flight::InFlight;
use crate::node::outgoing::copy_if_small;
use crate::node::peer::Peer;
use crate::node::peer::handle::LinkId;
use crate::reason::DropReason;
use crate::stack::inbox::{FrameGroup, Queue};
use crate::stack::reply::Reply;
use crate::text::truncate;
use crate::wire::{Block, Head, Kind, Status, encode_reason};

/// Results of more than this many bytes are handed on before the next frame is handled, since a
/// small frame may cause large ones. Counts replies, frames that are relayed one by one, and
/// payloads that layers made.
const LARGE: usize = 64 * 1024;

/// Results that are not handed on yet.
pub(super) struct Results {
    pub(super) relays: Relays,
    pub(super) delivery: Delivery,
    replies: Replies,
    read_side: Arc<Queue>,
    /// The length of the payloads for the read side that layers made, in bytes.
    rewritten: usize,
    /// How many frames reached the inbox while nobody reads, and are not counted yet.
    discarded: u64,
}

impl Results {
    /// Returns no results. `relayed` says whether the connection has relayed frames before.
    pub(super) fn new(read_side: Arc<Queue>, relayed: bool) -> Self {
        Self {
            relays: Relays::new(relayed),
            delivery: Delivery::default(),
            replies: Replies::default(),
            read_side,
            rewritten: 0,
            discarded: 0,
        }
    }

    /// Returns whether there is anything to hand on.
    pub(super) fn has_any(&self) -> bool {
        self.refer_to_block() || !self.replies.is_empty()
    }

    /// Returns whether results reference the first batch, so that it must not end.
    pub(super) fn refer_to_block(&self) -> bool {
        !self.relays.is_empty() || !self.delivery.is_empty()
    }

    /// Returns whether the results must be handed on before more frames are handled.
    #[inline]
    pub(super) fn is_large(&self) -> bool {
        self.replies.bytes() + self.rewritten + self.relays.singles() > LARGE
    }

    /// Takes the result of a call if it needs no more bookkeeping: no reply to a frame that asked
    /// for none, a small reply to a request, or a relay that extends the run before. Returns false,
    /// having done nothing, for any other result, and if somebody still holds the frame.
    ///
    /// The frame is given by its slot and number, and by its index, offset and head in the first
    /// batch.
    #[inline]
    pub(super) fn take_usual<E>(
        &mut self,
        in_flight: &InFlight,
        (slot, seq): (usize, u64),
        (index, offset, head): (usize, usize, &Head),
        outcome: CallOutcome,
        result: &Poll<Result<Reply, E>>,
    ) -> bool {
        if !outcome.is_over() || !in_flight.is_untouched(slot, seq) {
            return false;
        }
        let taken = match (result, head.kind, outcome.flow()) {
            (Poll::Ready(Ok(Reply::Payload(payload))), Kind::Request { id }, None) => {
                self.replies.add_small(in_flight.peer(), id, payload)
            }
            (_, Kind::Request { .. }, _) => false,
            (Poll::Ready(Ok(Reply::None)), _, None) => outcome.is_kept(),
            (Poll::Ready(Ok(Reply::None)), _, Some(flow)) => {
                self.relays.extend(index, offset, head, flow)
            }
            _ => false,
        };
        if taken {
            in_flight.shut(slot, seq);
            self.note(in_flight, outcome, index);
        }
        taken
    }

    /// Takes over the frames derived from a frame that are relayed, if its call has made any.
    #[inline]
    pub(super) fn take_derived(
        &mut self,
        in_flight: &InFlight,
        scope: &CallScope<'_>,
        outcome: CallOutcome,
    ) {
        if outcome.has_derived() {
            for derived in scope.take_derived() {
                self.relays.add_derived(in_flight, derived);
            }
        }
    }

    /// Notes what the inbox did with a frame in a call. `index` is the frame's in the first batch,
    /// or `usize::MAX` if it no longer stands there.
    #[inline]
    pub(super) fn note(&mut self, in_flight: &InFlight, outcome: CallOutcome, index: usize) {
        self.discarded += u64::from(outcome.discarded());
        if self.delivery.note(outcome, index) {
            in_flight.set_staging(true);
        }
    }

    /// Notes that the inbox took all `count` frames of the first batch.
    pub(super) fn take_plain(&mut self, in_flight: &InFlight, count: usize) {
        if !self.read_side.is_read() {
            self.discarded += count as u64;
        } else if self.delivery.take_plain(0..count) {
            in_flight.set_staging(true);
        }
    }

    /// Adds the payloads made by layers that the calls since the last time have staged.
    #[inline]
    pub(super) fn add_rewritten(&mut self, scope: &CallScope<'_>) {
        self.rewritten += scope.take_rewritten();
    }

    /// Counts the frames that the inbox has discarded.
    pub(super) fn count_discarded(&mut self, peer: &Peer) {
        let discarded = std::mem::take(&mut self.discarded);
        if discarded > 0 {
            peer.counters().add_delivered(discarded);
        }
    }

    /// Turns the result of a call into a reply, if the peer asked for one, and reports an error.
    /// Returns whether the peer must not have sent the frame.
    pub(super) fn finish(
        &mut self,
        peer: &Peer,
        head: &Head,
        result: Result<Reply, Error>,
    ) -> bool {
        let request = match head.kind {
            Kind::Request { id } => Some(id),
            _ => None,
        };
        let error = match result {
            // Nobody asked, and who sent it to this node may not be its author.
            Ok(_) if head.is_bare() => return false,
            Ok(Reply::None) => {
                self.reply(peer, request, Status::NoAnswer, Bytes::new());
                return false;
            }
            Ok(Reply::Payload(payload)) => {
                self.reply_payload(peer, request, payload);
                return false;
            }
            Ok(Reply::Message(_)) => Error::no_courier(),
            Err(error) => error,
        };
        if request.is_some() {
            self.reply_failed(peer, request, &error.reason());
            if error.is_refusal() {
                return false;
            }
        }
        // The peer need not have made what it passed on, and on a wire without kinds it may have
        // passed on everything.
        let own = matches!(head.kind, Kind::Data | Kind::Request { .. }) && !head.is_bare();
        let offence = own && error.is_offence();
        report(peer, error);
        offence
    }

    /// Replies with the reason for a failure, cut to what the peer accepts.
    fn reply_failed(&mut self, peer: &Peer, request: Option<u32>, reason: &str) {
        let reason = truncate(reason, peer.limit());
        let reason = Bytes::copy_from_slice(encode_reason(reason));
        self.reply(peer, request, Status::Failed, reason);
    }

    fn reply(&mut self, peer: &Peer, request: Option<u32>, status: Status, payload: Bytes) {
        let Some(id) = request else { return };
        let kind = Kind::Reply { id, status };
        if let Err(error) = self.replies.add(peer, kind, payload) {
            report(peer, Error::encode(error));
        }
    }

    fn reply_payload(&mut self, peer: &Peer, request: Option<u32>, payload: Bytes) {
        let kind = match request {
            Some(id) => Kind::Reply {
                id,
                status: Status::Ok,
            },
            None => Kind::Data,
        };
        if let Err(error) = self.replies.add(peer, kind, payload) {
            self.reply_failed(peer, request, "the reply is too large");
            report(peer, Error::encode(error));
        }
    }

    /// Gives the frames that are relayed to the other peers, as far as these have room.
    pub(super) fn push_relays(&mut self, in_flight: &InFlight, backlog: &Backlog) {
        match backlog.front() {
            Some(Batch {
                block, read_batch, ..
            }) => {
                self.relays.push(in_flight, block, read_batch.buffer_len);
            }
            None => self.relays.push(in_flight, &Block::default(), 0),
        }
    }

    /// Gives the frames that the inbox took to the read side, as far as it has room.
    pub(super) fn deliver(&mut self, in_flight: &InFlight, backlog: &mut Backlog) {
        self.rewritten = 0;
        if self.delivery.is_empty() {
            return;
        }
        let (first, done) = backlog.front_mut();
        let frames = self.delivery.gather(first, done);
        let before = count(frames);
        let diverted = self.read_side.diverted_for(in_flight.peer());
        let read_side = diverted.as_ref().unwrap_or(&self.read_side);
        if let Some(heads) = read_side.offer(frames) {
            backlog.keep_heads(heads);
        }
        self.count_delivered(in_flight, before);
    }

    /// Counts the frames that the read side got out of `before`. If it got all of them, frames that
    /// others bring there need not wait any more.
    fn count_delivered(&mut self, in_flight: &InFlight, before: usize) {
        let left = count(self.delivery.rest());
        in_flight
            .peer()
            .counters()
            .add_delivered((before - left) as u64);
        if self.delivery.is_empty() {
            in_flight.set_staging(false);
        }
    }

    /// Gives the replies to the outbox of the peer, as far as it has room. Pending while some wait
    /// for it: that holds back a peer that asks and does not read its answers, and it is
    /// disconnected when its patience is used up.
    pub(super) fn poll_replies(
        &mut self,
        peer: &Peer,
        connection: LinkId,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if !self.replies.is_empty() {
            let lost = ready!(self.replies.poll_push(peer, connection.0, cx));
            peer.dropped(DropReason::Disconnected, lost);
        }
        Poll::Ready(())
    }

    /// Waits for room for all results but the replies.
    ///
    /// # Cancel safety
    ///
    /// Safe: the next call continues where this one stopped.
    pub(super) async fn wait_for_room(&mut self, in_flight: &InFlight) {
        self.relays.wait().await;
        let before = count(self.delivery.rest());
        let diverted = self.read_side.diverted_for(in_flight.peer());
        let read_side = diverted.as_ref().unwrap_or(&self.read_side);
        read_side.push(self.delivery.rest()).await;
        self.count_delivered(in_flight, before);
    }

    /// Drops the replies, and counts them.
    pub(super) fn lose_replies(&mut self, peer: &Peer) {
        let lost = self.replies.lose();
        peer.dropped(DropReason::Disconnected, lost);
    }

    /// Releases memory that is kept for later results.
    pub(super) fn fall_idle(&mut self) {
        self.replies.fall_idle();
        self.delivery.fall_idle();
        self.relays.fall_idle();
    }
}

fn count(frames: &VecDeque<FrameGroup>) -> usize {
    frames.iter().map(FrameGroup::len).sum()
}

/// Reports an error about the peer. The error budget is the caller's to spend.
pub(super) fn report(peer: &Peer, error: Error) {
    peer.node().error(Some(peer), error);
}

/// Copies a reply that is a small slice of the frame's buffer, so as not to keep the buffer alive.
pub(super) fn unpin(reply: Reply, whole: &Bytes, buffer_len: usize) -> Reply {
    match reply {
        Reply::Payload(payload) => Reply::Payload(copy_if_small(payload, whole, buffer_len)),
        reply => reply,
    }
}
