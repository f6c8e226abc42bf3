//! The state of one node's overlay: what the engine wants, and who is connected.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coalescent_core::{Address, Mesh, Peer, WeakMesh};
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::time::Instant;

use super::engine::Engine;
use super::ids::{Key, TopicId};
use super::joiner::Joiner;
use super::known::Known;
use super::link::Link;
use super::meter::Meter;
use super::pending::Pending;
use super::places::Places;
use super::seeds::Seeds;
use super::settings::Settings;
use super::stats::OverlayStats;
use super::topic::Names;

/// How long after the start it is looked for seeds that were added, and for where this node
/// listens; each time twice as long after the last, and at last every [`SWEEP_EVERY`].
const LOOK_AFTER: Duration = Duration::from_millis(50);

/// How often the engine is told to forget what neighbours have announced and never sent.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

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

/// The neighbours in a topic.
pub(crate) type Neighbours = Arc<[Peer]>;

/// This node's part in one topic.
pub(crate) struct Topic {
    pub(crate) places: Places,
    pub(crate) tree: bool,
    pub(crate) joiner: Joiner,
    pub(super) neighbours: watch::Sender<Neighbours>,
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
    /// Boxed, since a map has room for eleven at least.
    pub(crate) topics: BTreeMap<TopicId, Box<Topic>>,
    /// Boxed likewise. In the order of the keys, so that a seed fixes what is done to all.
    pub(crate) links: BTreeMap<Key, Box<Link>>,
    pub(crate) known: Known,
    pub(crate) pending: Pending,
    pub(crate) seeds: Seeds,
    /// Whom this node has asked by its own choice, and when.
    pub(super) asked: BTreeMap<(TopicId, Key), Instant>,
    /// Where this node can be dialled.
    pub(crate) own: Option<Address>,
    pub(crate) rng: StdRng,
    pub(crate) stats: OverlayStats,
    meter: Meter,
    /// When the engine is next told to forget.
    sweep: Instant,
    /// When it is next looked for seeds, and how long after the last time.
    look: (Instant, Duration),
    /// Since when this node has had no neighbour.
    pub(crate) alone_since: Option<Instant>,
    /// Whether the task has something to do.
    pub(super) wake: bool,
    /// Whether this node leaves: nobody comes any more.
    pub(super) quit: bool,
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
        let mut rng = settings.rng();
        let engine = Engine::new(me, settings, rand::Rng::random(&mut rng));
        let seeds = Seeds::new(&mesh.seeds(), now, &mut rng);
        let mut state = Self {
            me,
            keys,
            itself,
            mesh: mesh.downgrade(),
            active: settings.active,
            engine,
            names: Names::default(),
            topics: BTreeMap::new(),
            links: BTreeMap::new(),
            known: Known::default(),
            pending: Pending::default(),
            seeds,
            asked: BTreeMap::new(),
            own: super::own::listening(mesh),
            rng,
            stats: OverlayStats::default(),
            meter: Meter::new(),
            sweep: now + SWEEP_EVERY,
            look: (now + LOOK_AFTER, LOOK_AFTER),
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
        let part = Box::new(Topic {
            places: Places::new(self.active),
            tree,
            joiner: Joiner::new(now, &mut self.rng),
            neighbours: watch::Sender::default(),
        });
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

    /// Ends: who watches neighbours learns it. Returns what owns the node that owns this.
    pub(crate) fn close(&mut self) -> BTreeMap<Key, Box<Link>> {
        self.quit = true;
        self.topics.clear();
        self.seeds.close();
        std::mem::take(&mut self.links)
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

    /// Looks for seeds that were added or removed, and for where this node listens: a mesh may
    /// begin to listen long after it has started.
    fn look(&mut self, now: Instant) {
        let (due, after) = self.look;
        let Some(mesh) = self.mesh.upgrade().filter(|_| now >= due) else {
            return;
        };
        self.seeds.follow(&mesh.seeds(), now, &mut self.rng);
        if self.own.is_none() {
            self.own = super::own::listening(&mesh);
        }
        let after = after.saturating_mul(2).min(SWEEP_EVERY);
        self.look = (now + after, after);
    }

    /// Does what is due, and returns when to look again.
    pub(crate) fn tick(&mut self, now: Instant, after: &mut Vec<After>) -> Instant {
        self.look(now);
        let mut effects = Vec::new();
        self.engine.fire(now, &mut effects);
        if now >= self.sweep {
            self.engine.sweep(now);
            self.names.sweep(now);
            self.forget_asked(now);
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
            Some(self.sweep.min(self.look.0)),
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
            tree_bytes: self.names.bytes(),
            ..self.stats
        }
    }
}
