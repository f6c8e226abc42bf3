//! Carries out what the engine wants.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::engine::Effect;
use super::fill::{Kind, filled};
use super::guard::Refused;
use super::ids::{Key, TopicId};
use super::link::{IDLE, LEAVE};
use super::mirror::CHANNEL;
use super::state::{After, Neighbours, State};

/// How long an answer is awaited of somebody whom this node has asked to be its neighbour.
const ASKED_FOR: Duration = Duration::from_secs(10);

/// Of how many such an answer is awaited.
const MAX_ASKED: usize = 64;

impl State {
    pub(crate) fn carry_out(&mut self, effects: Vec<Effect>, now: Instant, after: &mut Vec<After>) {
        for effect in effects {
            match effect {
                Effect::Send { to, topic, bytes } => {
                    if let Some(bytes) = self.outward(topic, &to, bytes, after) {
                        self.deliver(to, topic, bytes, now);
                    }
                }
                Effect::Up(topic, key) => self.up(topic, key, now, after),
                Effect::Down(topic, key) => self.down(topic, key, now, after),
                Effect::Received(_) => {}
            }
        }
    }

    fn up(&mut self, topic: TopicId, key: Key, now: Instant, after: &mut Vec<After>) {
        let own = self.asked.remove(&(topic, key)).is_some();
        if let Some(part) = self.topics.get_mut(&topic) {
            part.places.up(key, own, now);
        }
        self.tell_neighbours(topic);
        if topic == self.itself {
            self.stats.ups += 1;
            if let Some(link) = self.links.get(&key) {
                after.push(After::Promote(link.peer.clone()));
            }
        }
    }

    fn down(&mut self, topic: TopicId, key: Key, now: Instant, after: &mut Vec<After>) {
        if let Some(part) = self.topics.get_mut(&topic) {
            part.places.down(&key);
            part.joiner.lost(now, &mut self.rng);
        }
        self.wake = true;
        self.tell_neighbours(topic);
        if topic == self.itself {
            self.stats.downs += 1;
        }
        self.hang_up(&key, after);
    }

    /// Lets a peer go that is nobody's neighbour any more.
    pub(super) fn hang_up(&mut self, key: &Key, after: &mut Vec<After>) {
        if self.is_needed(key) {
            return;
        }
        if let Some(link) = self.links.get_mut(key).filter(|link| !link.closing) {
            link.closing = true;
            after.push(After::Hang(link.peer.clone(), "no neighbour any more"));
        }
    }

    fn is_needed(&self, key: &Key) -> bool {
        self.topics.values().any(|part| part.places.contains(key))
    }

    /// Tells who watches the neighbours in a topic.
    pub(super) fn tell_neighbours(&mut self, topic: TopicId) {
        let Some(part) = self.topics.get(&topic) else {
            return;
        };
        let links = part.places.keys().filter_map(|key| self.links.get(key));
        let peers: Neighbours = links.map(|link| link.peer.clone()).collect();
        part.neighbours.send_replace(peers);
    }

    fn deliver(&mut self, to: Key, topic: TopicId, bytes: Bytes, now: Instant) {
        let (bytes, kind) = filled(&self.me, bytes, |key| {
            let own = self.own.as_ref().filter(|_| *key == self.me);
            own.cloned().or_else(|| Some(self.known.get(key)?.0))
        });
        match kind {
            Kind::Walk => self.stats.rounds += 1,
            Kind::Join => self.stats.joins += 1,
            Kind::Ask | Kind::Tell | Kind::Leave | Kind::Other => {}
        }
        let alone = self
            .topics
            .get(&topic)
            .is_some_and(|part| part.places.len() == 0);
        if matches!(kind, Kind::Join | Kind::Ask) || kind == Kind::Tell && alone {
            self.ask(topic, to, now);
        }
        if self.links.contains_key(&to) {
            self.send(&to, bytes, kind == Kind::Leave, now);
            return;
        }
        if !self.known.contains(&to) {
            self.pending.unreachable(to, now);
        } else if !self.pending.push(to, bytes, now) {
            self.stats.refuse(Refused::Full);
        }
        self.wake = true;
    }

    fn ask(&mut self, topic: TopicId, key: Key, now: Instant) {
        if self.asked.len() >= MAX_ASKED {
            self.forget_asked(now);
        }
        if self.asked.len() < MAX_ASKED {
            self.asked.insert((topic, key), now);
        }
    }

    /// Forgets whom this node has asked and who has not answered.
    pub(super) fn forget_asked(&mut self, now: Instant) {
        self.asked
            .retain(|_, at| now.saturating_duration_since(*at) < ASKED_FOR);
    }

    pub(super) fn send(&mut self, to: &Key, bytes: Bytes, leaves: bool, now: Instant) {
        let Some(link) = self.links.get_mut(to) else {
            return;
        };
        link.idle = now + if leaves { LEAVE } else { IDLE };
        if let Err(error) = link.peer.try_send_on(CHANNEL, bytes) {
            tracing::debug!(peer = %link.peer.id(), error = %error.report(), "a message of the overlay was not sent");
            self.stats.refuse(Refused::Full);
        }
    }
}
