//! The state of one node's overlay: what the engine wants, and who is connected.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use coalescent_core::{Address, Direction, Mesh, Peer, WeakMesh};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::time::Instant;

use super::address::Rules;
use super::engine::{Effect, Engine};
use super::fill::{Kind, filled};
use super::guard::{Learned, Refused, Ruling, Scene, judge, judge_gossip};
use super::ids::{self, Key, TopicId};
use super::joiner::Joiner;
use super::known::Known;
use super::link::{IDLE, LEAVE, LEFT, Link};
use super::meter::Meter;
use super::mirror::{CHANNEL, Gossip, Message, Part, Priority, Swarm};
use super::node::Neighbours;
use super::pending::Pending;
use super::places::{Forced, Places};
use super::seeds::Seeds;
use super::settings::Settings;
use super::stats::OverlayStats;
use super::topic::Names;

/// How long an answer is awaited of somebody whom this node has asked to be its neighbour.
const ASKED_FOR: Duration = Duration::from_secs(10);

/// Of how many such an answer is awaited.
const MAX_ASKED: usize = 64;

/// How often the engine is told to forget what neighbours have announced and never sent.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// What a node is told that says too much that is not heeded.
pub(crate) const EXCESS: &str = "overlay/1: too much that is not heeded";

/// What is done when the state is not locked any more.
pub(crate) enum After {
    /// A contact has become a neighbour.
    Promote(Peer),
    /// Nobody needs the connection.
    Hang(Peer, &'static str),
    /// A node has broken the rules of the channel.
    Penalize(Peer, String),
    /// A neighbour has said something about payloads.
    Gossip(Peer, Bytes),
    /// It is time to forget what is too old.
    Sweep,
    /// The payload of a tree goes to a neighbour.
    Forward(Peer, Bytes),
}

/// This node's part in one topic.
pub(crate) struct Topic {
    pub(crate) places: Places,
    pub(crate) tree: bool,
    pub(crate) joiner: Joiner,
    neighbours: watch::Sender<Neighbours>,
}

/// The state of one node's overlay.
pub(crate) struct State {
    pub(crate) me: Key,
    pub(crate) keys: bool,
    /// The mesh itself, among the topics.
    pub(crate) itself: TopicId,
    pub(crate) mesh: WeakMesh,
    pub(crate) active: usize,
    pub(crate) engine: Engine,
    pub(crate) names: Names,
    pub(crate) topics: HashMap<TopicId, Topic>,
    pub(crate) links: HashMap<Key, Link>,
    pub(crate) known: Known,
    pub(crate) pending: Pending,
    pub(crate) seeds: Seeds,
    /// Whom this node has asked by its own choice, and when.
    asked: HashMap<(TopicId, Key), Instant>,
    /// Where this node can be dialled.
    pub(crate) own: Option<Address>,
    pub(crate) rng: StdRng,
    pub(crate) stats: OverlayStats,
    meter: Meter,
    /// When the engine is next told to forget.
    sweep: Instant,
    /// Since when this node has had no neighbour.
    pub(crate) alone_since: Option<Instant>,
    /// Whether the task has something to do.
    wake: bool,
    quit: bool,
}

impl State {
    pub(crate) fn new(
        me: Key,
        keys: bool,
        mesh: &Mesh,
        itself: TopicId,
        settings: &Settings,
        now: Instant,
    ) -> Self {
        let mut rng = match settings.seed {
            Some(seed) => StdRng::seed_from_u64(seed),
            None => StdRng::from_os_rng(),
        };
        let engine = Engine::new(me, settings, rand::Rng::random(&mut rng));
        let seeds = Seeds::new(mesh.seeds(), now, &mut rng);
        let mut state = Self {
            me,
            keys,
            itself,
            mesh: mesh.downgrade(),
            active: settings.active,
            engine,
            names: Names::default(),
            topics: HashMap::new(),
            links: HashMap::new(),
            known: Known::default(),
            pending: Pending::default(),
            seeds,
            asked: HashMap::new(),
            own: super::own::listening(mesh),
            rng,
            stats: OverlayStats::default(),
            meter: Meter::new(),
            sweep: now + SWEEP_EVERY,
            alone_since: None,
            wake: false,
            quit: false,
        };
        state.join_topic(itself, false, now, &mut Vec::new());
        state
    }

    /// Returns whether the task has to look at the state, once.
    pub(crate) fn take_wake(&mut self) -> bool {
        std::mem::take(&mut self.wake)
    }

    /// Returns how many neighbours suffice in a topic.
    pub(crate) fn few(&self) -> usize {
        self.active.div_ceil(2)
    }

    pub(crate) fn join_topic(
        &mut self,
        topic: TopicId,
        tree: bool,
        now: Instant,
        after: &mut Vec<After>,
    ) {
        if self.quit || self.topics.contains_key(&topic) {
            return;
        }
        let part = Topic {
            places: Places::new(self.active),
            tree,
            joiner: Joiner::new(now, &mut self.rng),
            neighbours: watch::Sender::default(),
        };
        self.topics.insert(topic, part);
        self.wake = true;
        let connected: Vec<_> = self.links.keys().copied().collect();
        let mut effects = Vec::new();
        self.engine.join(topic, connected, now, &mut effects);
        self.carry_out(effects, now, after);
    }

    pub(crate) fn leave_topic(&mut self, topic: TopicId, now: Instant, after: &mut Vec<After>) {
        if !self.topics.contains_key(&topic) {
            return;
        }
        let mut effects = Vec::new();
        self.engine.quit(topic, now, &mut effects);
        self.carry_out(effects, now, after);
        let Some(part) = self.topics.remove(&topic) else {
            return;
        };
        let _ = part.neighbours.send(Neighbours::default());
        if topic == self.itself {
            self.stats.downs += part.places.len() as u64;
        }
        for key in part.places.keys() {
            self.hang_up(key, after);
        }
    }

    pub(crate) fn quit(&mut self, now: Instant, after: &mut Vec<After>) {
        self.quit = true;
        let topics: Vec<_> = self.topics.keys().copied().collect();
        for topic in topics {
            let mut effects = Vec::new();
            self.engine.quit(topic, now, &mut effects);
            self.carry_out(effects, now, after);
        }
    }

    /// Ends: who watches neighbours learns it.
    pub(crate) fn close(&mut self) {
        self.quit = true;
        self.topics.clear();
    }

    pub(crate) fn neighbours(&self, topic: TopicId) -> Option<Neighbours> {
        Some(self.topics.get(&topic)?.neighbours.borrow().clone())
    }

    pub(crate) fn watch(&self, topic: TopicId) -> Option<watch::Receiver<Neighbours>> {
        Some(self.topics.get(&topic)?.neighbours.subscribe())
    }

    pub(crate) fn broadcast(
        &mut self,
        topic: TopicId,
        content: Bytes,
        now: Instant,
        after: &mut Vec<After>,
    ) {
        let mut effects = Vec::new();
        self.engine.broadcast(topic, content, now, &mut effects);
        self.carry_out(effects, now, after);
    }

    pub(crate) fn connected(&mut self, peer: &Peer, now: Instant, after: &mut Vec<After>) {
        let Some(key) = ids::of_peer(peer) else {
            return;
        };
        if self.links.get(&key).is_some_and(|link| link.peer == *peer) {
            // A contact that has become a peer.
            return;
        }
        let link = Link::new(peer.clone(), now);
        if let Some(listen) = link
            .listen()
            .and_then(|listen| self.acceptable(&key, &link, listen))
        {
            self.learn(key, listen, now);
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
        for (key, address) in learned {
            self.learn(key, address, now);
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
        if refused && self.known.get(&from).is_some() {
            // Others who are refused are told of it: so those who come together find each other.
            self.engine.remember(topic, from, now, &mut effects);
        }
        self.carry_out(effects, now, after);
        if matches!(message.part, Part::Swarm(Swarm::Disconnect { .. }))
            && let Some(link) = self.links.get_mut(&from)
        {
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

    fn judge(
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
        let reachable = |key: &Key| links.contains_key(key) || known.get(key).is_some();
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
    fn make_room(
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

    fn learn(&mut self, key: Key, address: Address, now: Instant) {
        self.known.heard(key, address, now);
        if !self.known.is_over(self.topics.len()) {
            return;
        }
        let mut of_use: std::collections::HashSet<Key> = self.links.keys().copied().collect();
        let topics: Vec<_> = self.topics.keys().copied().collect();
        for topic in topics {
            of_use.extend(self.engine.passive(topic, now));
        }
        let pending = &self.pending;
        let of_use = |key: &Key| of_use.contains(key) || pending.contains(key);
        self.known.prune(self.topics.len(), of_use);
    }

    pub(crate) fn carry_out(&mut self, effects: Vec<Effect>, now: Instant, after: &mut Vec<After>) {
        for effect in effects {
            match effect {
                Effect::Send { to, topic, bytes } => {
                    if let Some(bytes) = self.outward(&to, bytes, after) {
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
    fn hang_up(&mut self, key: &Key, after: &mut Vec<After>) {
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
    fn tell_neighbours(&mut self, topic: TopicId) {
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
            own.or_else(|| self.known.get(key)).cloned()
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
        if self.known.get(&to).is_none() {
            self.pending.unreachable(to, now);
        } else if !self.pending.push(to, bytes, now) {
            self.stats.refuse(Refused::Full);
        }
        self.wake = true;
    }

    fn ask(&mut self, topic: TopicId, key: Key, now: Instant) {
        if self.asked.len() >= MAX_ASKED {
            self.asked
                .retain(|_, at| now.saturating_duration_since(*at) < ASKED_FOR);
        }
        if self.asked.len() < MAX_ASKED {
            self.asked.insert((topic, key), now);
        }
    }

    fn send(&mut self, to: &Key, bytes: Bytes, leaves: bool, now: Instant) {
        let Some(link) = self.links.get_mut(to) else {
            return;
        };
        link.idle = now + if leaves { LEAVE } else { IDLE };
        if let Err(error) = link.peer.try_send_on(CHANNEL, bytes) {
            tracing::debug!(peer = %link.peer.id(), %error, "a message of the overlay was not sent");
            self.stats.refuse(Refused::Full);
        }
    }

    /// Does what is due, and returns when to look again.
    pub(crate) fn tick(&mut self, now: Instant, after: &mut Vec<After>) -> Instant {
        let mut effects = Vec::new();
        self.engine.fire(now, &mut effects);
        if now >= self.sweep {
            self.engine.sweep(now);
            self.names.sweep(now);
            after.push(After::Sweep);
            self.sweep = now + SWEEP_EVERY;
            if cfg!(feature = "metrics") {
                let stats = self.stats(now);
                self.meter.tell(&stats);
            }
        }
        self.carry_out(effects, now, after);
        while let Some((key, alive)) = self.pending.due(now) {
            if !self.links.contains_key(&key) {
                self.gone(key, alive, now, after);
            }
        }
        self.rejoin(now, after);
        let idle = self.let_idle_go(now, after);
        let few = self.few();
        let joins = self
            .topics
            .values()
            .map(|part| part.joiner.next(part.places.len(), few));
        let all = [
            Some(self.sweep),
            self.engine.next(),
            self.pending.next(),
            idle,
            self.seeds.next(),
            joins.min(),
        ];
        let next = all.into_iter().flatten().min();
        next.unwrap_or(self.sweep)
    }

    /// Lets contacts go that nobody needs, and returns when to look again.
    fn let_idle_go(&mut self, now: Instant, after: &mut Vec<After>) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        let topics = &self.topics;
        for (key, link) in &mut self.links {
            if link.closing || topics.values().any(|part| part.places.contains(key)) {
                continue;
            }
            let due = link.idle;
            if due <= now {
                link.closing = true;
                after.push(After::Hang(link.peer.clone(), "not needed"));
            } else {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        next
    }

    pub(crate) fn stats(&mut self, now: Instant) -> OverlayStats {
        let itself = self.itself;
        let passive = self.engine.passive(itself, now);
        let part = self.topics.get(&itself);
        let is_passive = |key: &&Key| part.is_none_or(|part| !part.places.contains(key));
        OverlayStats {
            neighbours: part.map_or(0, |part| part.places.len()),
            passive: passive.iter().filter(is_passive).count(),
            known: self.known.len(),
            connections: self.links.len(),
            topics: self.topics.len(),
            ..self.stats
        }
    }
}
