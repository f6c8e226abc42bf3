//! Trees: what the engine is told of payloads, and what it says.

use bytes::Bytes;
use coalescent_core::Peer;
use tokio::time::Instant;

use super::forward::ToSend;
use super::names::stub;
use super::payload::Content;
use crate::overlay::guard::{Ruling, announced};
use crate::overlay::heard::EXCESS;
use crate::overlay::ids::{self, Key, TopicId};
use crate::overlay::mirror::{Few, Gossip, Message, Part};
use crate::overlay::node::Shared;
use crate::overlay::state::{After, State};

/// What stands for a payload that does not exist: each copy is one of it, as far as the engine
/// knows.
const COPY: Key = [0; 32];

/// How many payloads that are announced beyond the rate count as one message that is not heeded.
const IDS_A_MESSAGE: usize = 8;

impl Shared {
    /// Gives a payload of this node to a tree. Returns what goes to whom first, or `None` if there
    /// have been too many.
    pub(super) fn tree_publish(
        &self,
        topic: TopicId,
        id: &Key,
        content: &Content,
    ) -> Option<ToSend> {
        self.with(|state, now, after| {
            if !state.names.has_room(now) {
                return None;
            }
            let taken = state.names.keep(topic, id, content, 0, now);
            let mut own = Vec::new();
            let stand_in = Bytes::copy_from_slice(&taken.stand_in);
            state.broadcast(topic, stand_in, now, &mut own);
            Some(gather(own, after).without(&taken.announcers))
        })
        .flatten()
    }

    /// Passes a payload of a neighbour on, down a tree. Returns what goes to whom first.
    pub(super) fn tree_pass(
        &self,
        topic: TopicId,
        from: &Peer,
        id: &Key,
        content: &Content,
        hops: u16,
    ) -> Option<ToSend> {
        let from = ids::of_peer(from)?;
        self.with(|state, now, after| {
            if !state.names.has_room(now) {
                return None;
            }
            let taken = state.names.keep(topic, id, content, hops, now);
            let mut own = Vec::new();
            if state.is_neighbour(topic, &from) {
                let received = stub(topic, &taken.stand_in, hops.saturating_sub(1));
                state.engine_receive(from, &received, now, &mut own);
            } else {
                // It has left meanwhile. The engine would take it for one again.
                let stand_in = Bytes::copy_from_slice(&taken.stand_in);
                state.broadcast(topic, stand_in, now, &mut own);
            }
            Some(gather(own, after).without(&taken.announcers))
        })
        .flatten()
    }

    /// Tells a neighbour that this node has got a payload from another before.
    pub(super) fn tree_copy(&self, topic: TopicId, from: &Peer) {
        let Some(from) = ids::of_peer(from) else {
            return;
        };
        self.with(|state, now, after| {
            if state.is_neighbour(topic, &from) {
                let copy = stub(topic, &COPY, 0);
                // The engine answers only what it remembers.
                if !state.engine_receive(from, &copy, now, after) {
                    state.engine_receive(from, &copy, now, after);
                }
            }
        });
    }

    /// Gives the engine what a neighbour says of a tree, other than payloads.
    pub(super) fn tree_heard(&self, sender: &Peer, mut message: Message<'_>) {
        let topic = TopicId(message.topic);
        let Some(from) = ids::of_peer(sender) else {
            return;
        };
        self.with(|state, now, after| {
            let part = state.topics.get_mut(&topic).filter(|part| part.tree);
            let Some(place) = part.and_then(|part| part.places.get_mut(&from)) else {
                return;
            };
            match &message.part {
                Part::Gossip(Gossip::Prune) => place.branch = false,
                Part::Gossip(Gossip::Graft { .. }) => place.branch = true,
                _ => {}
            }
            // What has arrived before is no matter of the rate.
            if let Part::Gossip(Gossip::IHave(ids)) = &mut message.part {
                if ids.0.is_empty() {
                    return;
                }
                let all = ids.0.len();
                let ruling = announced(&mut place.ids, ids, now);
                let over = all.saturating_sub(ids.0.len());
                if over > 0 && state.exceeds(&from, over.div_ceil(IDS_A_MESSAGE), now) {
                    after.push(After::Penalize(sender.clone(), EXCESS.to_owned()));
                }
                if let Ruling::Drop(why) = ruling {
                    return state.stats.refuse(why);
                }
            }
            state.names.inward(&from, &mut message, now);
            state.engine_receive(from, &message, now, after);
        });
    }
}

impl ToSend {
    /// Leaves out who has announced the payload, and so has it: each would take the copy for a
    /// reason to leave this branch of the tree, which this node may just have asked for.
    fn without(mut self, announcers: &[Key]) -> Self {
        let has = |key: Key| announcers.contains(&key);
        self.peers
            .retain(|peer| !ids::of_peer(peer).is_some_and(has));
        self
    }
}

/// Takes the payloads out of what is to be done: all are the same message.
fn gather(own: Vec<After>, after: &mut Vec<After>) -> ToSend {
    let mut to_send = ToSend::default();
    for one in own {
        match one {
            After::Forward(peer, message) => {
                to_send.message = message;
                to_send.peers.push(peer);
            }
            other => after.push(other),
        }
    }
    to_send
}

impl State {
    fn is_neighbour(&self, topic: TopicId, key: &Key) -> bool {
        let part = self.topics.get(&topic);
        part.is_some_and(|part| part.tree && part.places.contains(key))
    }

    /// Gives the engine a message of a neighbour. Returns whether it answers with something.
    fn engine_receive(
        &mut self,
        from: Key,
        message: &Message<'_>,
        now: Instant,
        after: &mut Vec<After>,
    ) -> bool {
        let mut effects = Vec::new();
        self.engine.receive(from, message, now, &mut effects);
        let answers = effects.iter().any(|effect| effect.is_to(&from));
        self.carry_out(effects, now, after);
        answers
    }

    /// Translates what the engine says of a tree. Returns what is to be sent now.
    pub(crate) fn outward(
        &mut self,
        topic: TopicId,
        to: &Key,
        bytes: Bytes,
        after: &mut Vec<After>,
    ) -> Option<Bytes> {
        if bytes.get(32) != Some(&1) {
            return Some(bytes);
        }
        let is_payload = bytes.get(33) == Some(&0);
        let part = self.topics.get_mut(&topic);
        if let Some(place) = part.and_then(|part| part.places.get_mut(to)) {
            match bytes.get(33) {
                Some(1) => place.branch = false,
                Some(2) => place.branch = true,
                _ => {}
            }
        }
        let bytes = self.names.outward(bytes)?;
        if !is_payload {
            return Some(bytes);
        }
        if let Some(link) = self.links.get(to) {
            after.push(After::Forward(link.peer.clone(), bytes));
        }
        None
    }
}

/// Leaves out of an announcement what has arrived already.
pub(super) fn without_seen(message: &mut Message<'_>, has: impl Fn(&Key) -> bool) {
    if let Part::Gossip(Gossip::IHave(Few(ids))) = &mut message.part {
        ids.retain(|(id, _)| !has(id));
    }
}
