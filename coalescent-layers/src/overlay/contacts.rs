//! Who is connected, and where others can be dialled.

use std::collections::HashSet;

use coalescent_core::{Address, Direction, Peer};
use tokio::time::Instant;

use super::address::Rules;
use super::ids::{self, Key, TopicId};
use super::link::Link;
use super::state::{After, State, Topic};
use crate::discovery::place::Place;

impl State {
    pub(crate) fn connected(&mut self, peer: &Peer, now: Instant, after: &mut Vec<After>) {
        let Some(key) = ids::of_peer(peer).filter(|_| !self.quit) else {
            return;
        };
        if self.links.get(&key).is_some_and(|link| link.peer == *peer) {
            // A contact that has become a peer.
            return;
        }
        let link = Box::new(Link::new(peer.clone(), now));
        if let Some(listen) = link
            .listen()
            .and_then(|listen| self.acceptable(&key, &link, listen))
        {
            self.learn(key, listen, link.place(), now);
        }
        let wanted = self.pending.contains(&key);
        let waiting = self.pending.connected(&key);
        self.links.insert(key, link);
        for message in waiting {
            self.send(&key, message, false, now);
        }
        if peer.direction() == Direction::Outbound {
            if self.own.is_none() {
                self.own = super::own::seen(&self.mesh, peer);
            }
            // The engine does not know of it: another source has suggested it, or it is a seed.
            if !wanted {
                self.join_through(key, now, after);
            }
        }
        self.wake = true;
    }

    /// Joins the topics in which this node wants neighbours through a node that is connected.
    pub(crate) fn join_through(&mut self, key: Key, now: Instant, after: &mut Vec<After>) {
        let few = self.few();
        let wanted = |topic: &Topic| !topic.places.contains(&key) && topic.places.len() < few;
        let topics = self.topics.iter();
        let topics = topics.filter(|(id, topic)| {
            wanted(topic) || **id == self.itself && !topic.places.contains(&key)
        });
        let topics: Vec<_> = topics.map(|(id, _)| *id).collect();
        for topic in topics {
            self.join(topic, key, now, after);
        }
    }

    pub(crate) fn join(
        &mut self,
        topic: TopicId,
        through: Key,
        now: Instant,
        after: &mut Vec<After>,
    ) {
        let mut effects = Vec::new();
        self.engine.join(topic, vec![through], now, &mut effects);
        self.carry_out(effects, now, after);
    }

    pub(crate) fn disconnected(&mut self, peer: &Peer, now: Instant, after: &mut Vec<After>) {
        self.seeds.disconnected(peer, now, &mut self.rng);
        self.wake = true;
        let Some(key) = ids::of_peer(peer) else {
            return;
        };
        let Some(link) = self.links.get(&key).filter(|link| link.peer == *peer) else {
            return;
        };
        let alive = link.closing;
        self.links.remove(&key);
        self.gone(key, alive, now, after);
    }

    /// Tells the engine that a peer is not connected.
    pub(crate) fn gone(&mut self, key: Key, alive: bool, now: Instant, after: &mut Vec<After>) {
        let mut effects = Vec::new();
        self.engine.gone(key, alive, now, &mut effects);
        self.carry_out(effects, now, after);
        if !alive {
            self.known.forget(&key);
        }
    }

    /// Notes that there is no place for a neighbour among the peers.
    pub(crate) fn no_place(&mut self, peer: &Peer, now: Instant, after: &mut Vec<After>) {
        let Some(key) = ids::of_peer(peer) else {
            return;
        };
        if let Some(link) = self.links.get_mut(&key).filter(|link| link.peer == *peer) {
            link.closing = true;
            self.gone(key, true, now, after);
            after.push(After::Hang(peer.clone(), "busy"));
        }
    }

    /// Returns the address of a node that is connected, if it may be dialled and told.
    fn acceptable(&self, key: &Key, link: &Link, listen: Address) -> Option<Address> {
        let mesh = self.mesh.upgrade()?;
        let may_dial = |address: &Address| mesh.may_dial(address);
        let rules = Rules {
            me: &self.me,
            keys: self.keys,
            may_dial: &may_dial,
        };
        rules.believed(key, listen, link.place())
    }

    /// Remembers an address, which somebody at `teller` has told.
    pub(super) fn learn(&mut self, key: Key, address: Address, teller: Place, now: Instant) {
        self.known.heard(key, address, teller, now);
        if !self.known.is_over(self.topics.len()) {
            return;
        }
        let mut of_use: HashSet<Key> = self.links.keys().copied().collect();
        let topics: Vec<_> = self.topics.keys().copied().collect();
        for topic in topics {
            of_use.extend(self.engine.passive(topic, now));
        }
        let pending = &self.pending;
        let of_use = |key: &Key| of_use.contains(key) || pending.contains(key);
        self.known.prune(self.topics.len(), of_use);
    }
}
