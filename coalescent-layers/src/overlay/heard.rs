//! What becomes of what a node says on the channel.

use bytes::Bytes;
use coalescent_core::{Address, Peer};
use tokio::time::Instant;

use super::address::Rules;
use super::engine::Effect;
use super::guard::{Learned, Refused, Ruling, Scene, judge, judge_gossip};
use super::ids::{self, Key, TopicId};
use super::link::{IDLE, LEFT};
use super::mirror::{CHANNEL, Gossip, Message, Part, Priority, Swarm};
use super::places::Forced;
use super::state::{After, State};
use crate::discovery::place::Place;

/// What a node is told that says too much that is not heeded.
pub(crate) const EXCESS: &str = "overlay/1: too much that is not heeded";

impl State {
    pub(crate) fn heard(
        &mut self,
        peer: &Peer,
        payload: &Bytes,
        now: Instant,
        after: &mut Vec<After>,
    ) {
        let Some(from) = ids::of_peer(peer) else {
            return;
        };
        let mut message = match Message::decode(payload) {
            Ok(message) => message,
            Err(error) => {
                self.stats.faults += 1;
                after.push(After::Penalize(peer.clone(), error.to_string()));
                return;
            }
        };
        if !self.links.get(&from).is_some_and(|link| link.peer == *peer) {
            // Its first message may come before it is announced.
            self.connected(peer, now, after);
        }
        let topic = TopicId(message.topic);
        let mut learned = Vec::new();
        let ruling = self.judge(from, &mut message, &mut learned, now);
        match ruling {
            Ruling::Take => self.stats.taken += 1,
            Ruling::Drop(why) => {
                self.stats.refuse(why);
                let is_gossip = matches!(message.part, Part::Gossip(_));
                if is_gossip && self.exceeds(&from, 1, now) {
                    after.push(After::Penalize(peer.clone(), EXCESS.to_owned()));
                }
                return;
            }
            Ruling::Fault(why) => {
                self.stats.faults += 1;
                let why = format!("{CHANNEL}: {why}");
                return after.push(After::Penalize(peer.clone(), why));
            }
        }
        let teller = Place::of_peer(peer.addr().map(|addr| addr.ip()));
        for (key, address) in learned {
            self.learn(key, address, teller, now);
        }
        if let Part::Gossip(gossip) = &message.part {
            let judged = match gossip {
                Gossip::Gossip { .. } => payload.clone(),
                _ => message.encode(),
            };
            return after.push(After::Gossip(peer.clone(), judged));
        }
        self.wake = true;
        let mut effects = Vec::new();
        let refused = self.make_room(topic, from, &mut message, now, &mut effects);
        self.engine.receive(from, &message, now, &mut effects);
        if refused && self.known.contains(&from) {
            // Others who are refused are told of it: so those who come together find each other.
            self.engine.remember(topic, from, now, &mut effects);
        }
        self.carry_out(effects, now, after);
        if matches!(message.part, Part::Swarm(Swarm::Disconnect { .. }))
            && let Some(link) = self.links.get_mut(&from)
        {
            self.engine.forget(topic, from, now);
            // Unless the engine asks again at once, this is all that there was to say.
            link.idle = link.idle.min(now + LEFT);
        }
    }

    /// Notes that so many messages of a node are not heeded. Returns whether they are too many.
    pub(crate) fn exceeds(&mut self, from: &Key, messages: usize, now: Instant) -> bool {
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        let link = self.links.get_mut(from);
        link.is_some_and(|link| link.excess.take(messages, now) < messages)
    }

    pub(super) fn judge(
        &mut self,
        from: Key,
        message: &mut Message<'_>,
        learned: &mut Vec<Learned>,
        now: Instant,
    ) -> Ruling {
        let Some(link) = self.links.get_mut(&from) else {
            return Ruling::Drop(Refused::Nobody);
        };
        link.idle = now + IDLE;
        let is_payload = matches!(message.part, Part::Gossip(Gossip::Gossip { .. }));
        let is_join = matches!(message.part, Part::Swarm(Swarm::Join(_)));
        let messages = match message.part {
            Part::Swarm(_) => &mut link.messages,
            Part::Gossip(_) => &mut link.gossip,
        };
        if !is_payload && messages.take(1, now) == 0 || is_join && link.joins.take(1, now) == 0 {
            return Ruling::Drop(Refused::Rate);
        }
        if let Part::Gossip(gossip) = &message.part {
            let Some(part) = self.topics.get(&TopicId(message.topic)) else {
                return Ruling::Drop(Refused::Topic);
            };
            return judge_gossip(gossip, part.tree, part.places.contains(&from));
        }
        let (place, listen) = (link.place(), link.listen());
        let mesh = self.mesh.upgrade();
        let may_dial = |address: &Address| mesh.as_ref().is_some_and(|mesh| mesh.may_dial(address));
        let (links, known) = (&self.links, &self.known);
        let reachable = |key: &Key| links.contains_key(key) || known.contains(key);
        let part = self.topics.get_mut(&TopicId(message.topic));
        let mut scene = Scene {
            rules: Rules {
                me: &self.me,
                keys: self.keys,
                may_dial: &may_dial,
            },
            from,
            place,
            listen,
            reachable: &reachable,
            tree: part.as_ref().map(|part| part.tree),
            ids: part.and_then(|part| Some(&mut part.places.get_mut(&from)?.ids)),
        };
        judge(&mut scene, message, learned, now)
    }

    /// Makes room for a sender who must not be refused, or has it refused all the same. Returns
    /// whether it is refused.
    pub(super) fn make_room(
        &mut self,
        topic: TopicId,
        from: Key,
        message: &mut Message<'_>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let forces = matches!(
            message.part,
            Part::Swarm(
                Swarm::Join(_)
                    | Swarm::Neighbor {
                        priority: Priority::High,
                        ..
                    }
            )
        );
        let Some(part) = self.topics.get_mut(&topic).filter(|_| forces) else {
            return false;
        };
        if part.places.contains(&from) {
            return false;
        }
        match part.places.force(now, &mut self.rng) {
            Forced::Free => false,
            Forced::Instead(neighbour) => {
                self.engine.let_go(topic, neighbour, now, effects);
                false
            }
            Forced::Refused => {
                self.stats.refuse(Refused::Forced);
                // Of one that may be refused, the engine takes leave with the names of others.
                message.part = Part::Swarm(Swarm::Neighbor {
                    priority: Priority::Low,
                    data: None,
                });
                true
            }
        }
    }
}
