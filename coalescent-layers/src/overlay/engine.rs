//! The engine, with its timers: events in, effects out.

use std::time::Duration;

use bytes::Bytes;
use iroh_gossip::proto::topic::{InEvent, Message as Theirs, OutEvent, State, Timer};
use iroh_gossip::proto::util::TimerMap;
use iroh_gossip::proto::{Command, Config, Event, PeerData, Scope};
use rand_engine::SeedableRng;
use rand_engine::rngs::StdRng;
use tokio::time::Instant;

use super::ids::{Key, TopicId};
use super::mirror::{self, Few, Info, Message, Part, Swarm};
use super::settings::Settings;

/// A peer that does not exist: the engine is told of it in order to look after itself.
const NOBODY: Key = [0xff; 32];

/// How many peers a neighbour is told that is let go: as many as the engine tells.
const REPLY: usize = 7;

/// So many timers may have been there at once without being worth to free their room.
const SPARE: usize = 8;

/// All timers are due before this time has passed.
const FAR: Duration = Duration::from_secs(24 * 60 * 60);

/// The largest number of peers that the engine is asked for at once.
const PROBE: usize = 64;

/// What the engine wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// To send this to a peer, connected or not.
    Send {
        /// To whom.
        to: Key,
        /// In which topic.
        topic: TopicId,
        /// The encoded message.
        bytes: Bytes,
    },
    /// It has a new neighbour.
    Up(TopicId, Key),
    /// It has lost a neighbour.
    Down(TopicId, Key),
    /// A payload of a tree is new.
    Received(TopicId),
}

/// The engine of one node, for all of its topics.
///
/// The topics are kept here: the engine's own table of them has room for three times as many, and
/// notes for each peer that ever sends something in which topics it does.
pub(crate) struct Engine {
    me: Key,
    config: Config,
    /// For the choices of the next topic.
    seed: u64,
    /// In the order of their ids. By a pointer, since a state is large, and most nodes have one.
    topics: Vec<(TopicId, Box<State<Key, StdRng>>)>,
    timers: TimerMap<(TopicId, Timer<Key>)>,
    /// How many timers there are.
    armed: usize,
    /// The most that there have been since there was no room for more than needed.
    most: usize,
}

impl Effect {
    /// Returns whether it is to send something to this peer.
    pub(crate) fn is_to(&self, peer: &Key) -> bool {
        matches!(self, Self::Send { to, .. } if to == peer)
    }
}

/// How long a node in a tree waits for a payload that it has been told of until it asks for it: the
/// payload may have more hops to make than the word of it. The engine's own 80 ms are less than one
/// round trip of a slow link, and each early question brings a copy.
const ASK_AFTER: Duration = Duration::from_secs(1);

/// How long it then waits until it asks the next one: a round trip.
const ASK_NEXT_AFTER: Duration = Duration::from_millis(400);

impl Engine {
    /// Makes the engine of the node `me`, without topics.
    ///
    /// It is told no address of any peer: it keeps those of all that it has ever heard of. They
    /// are put into its messages on their way out.
    pub(crate) fn new(me: Key, settings: &Settings, seed: u64) -> Self {
        let mut config = Config::default();
        config.membership.active_view_capacity = settings.active;
        config.membership.passive_view_capacity = settings.passive;
        config.broadcast.graft_timeout_1 = ASK_AFTER;
        config.broadcast.graft_timeout_2 = ASK_NEXT_AFTER;
        config.broadcast.cache_evict_interval = settings.evict_every;
        config.broadcast.message_cache_retention = super::topic::KEPT_FOR;
        config.broadcast.message_id_retention = super::topic::GIVEN_FOR;
        Self {
            me,
            config,
            seed,
            topics: Vec::new(),
            timers: TimerMap::new(),
            armed: 0,
            most: 0,
        }
    }

    /// Returns when a timer is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.timers.first().copied()
    }

    /// Fires the timers that are due.
    pub(crate) fn fire(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        while let Some((_, (topic, timer))) = self.timers.pop_before(now) {
            self.armed = self.armed.saturating_sub(1);
            self.handle(topic, InEvent::TimerExpired(timer), now, effects);
        }
    }

    /// Takes part in a topic, and joins it through these peers.
    pub(crate) fn join(
        &mut self,
        topic: TopicId,
        through: Vec<Key>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        if let Err(at) = self.find(topic) {
            let (data, config) = (Some(PeerData::default()), self.config.clone());
            let rng = StdRng::seed_from_u64(self.seed);
            self.seed = self.seed.wrapping_add(1);
            let state = Box::new(State::with_rng(self.me, data, config, rng));
            self.topics.reserve_exact(1);
            self.topics.insert(at, (topic, state));
        }
        self.command(topic, Command::Join(through), now, effects);
    }

    /// Leaves a topic.
    pub(crate) fn quit(&mut self, topic: TopicId, now: Instant, effects: &mut Vec<Effect>) {
        self.command(topic, Command::Quit, now, effects);
        if let Ok(at) = self.find(topic) {
            self.topics.remove(at);
        }
    }

    /// Sends a payload down the tree of a topic.
    pub(crate) fn broadcast(
        &mut self,
        topic: TopicId,
        content: Bytes,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let broadcast = Command::Broadcast(content, Scope::Swarm);
        self.command(topic, broadcast, now, effects);
    }

    fn command(
        &mut self,
        topic: TopicId,
        command: Command<Key>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        self.handle(topic, InEvent::Command(command), now, effects);
    }

    /// Handles a message that was judged.
    pub(crate) fn receive(
        &mut self,
        from: Key,
        message: &Message<'_>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        self.receive_bytes(from, &message.encode(), now, effects);
    }

    /// Handles the bytes of a message that was judged.
    pub(crate) fn receive_bytes(
        &mut self,
        from: Key,
        bytes: &[u8],
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        if let Some((topic, rest)) = mirror::split(bytes)
            && let Ok(theirs) = postcard::from_bytes::<Theirs<Key>>(rest)
        {
            self.handle(topic, InEvent::RecvMessage(from, theirs), now, effects);
        }
    }

    /// Notes that the connection to a peer is gone, or could not be made. If the peer is `alive`,
    /// it stays one of those to try later.
    pub(crate) fn gone(&mut self, peer: Key, alive: bool, now: Instant, effects: &mut Vec<Effect>) {
        for topic in self.topics() {
            if alive {
                self.receive(peer, &goodbye(topic), now, effects);
            }
            self.handle(topic, InEvent::PeerDisconnected(peer), now, effects);
            self.forget(topic, peer, now);
        }
    }

    /// Has the engine forget that a peer that is no neighbour has ever sent anything in a topic.
    ///
    /// It keeps an entry for each peer whose last message was a goodbye, for ever. A message of
    /// another kind ends that.
    pub(crate) fn forget(&mut self, topic: TopicId, peer: Key, now: Instant) {
        let walk = Swarm::Shuffle {
            origin: peer,
            nodes: Few(Vec::new()),
            ttl: 0,
        };
        // It would be answered, with nothing.
        self.receive(peer, &of(topic, walk), now, &mut Vec::new());
    }

    /// Has the engine remember a peer, as if it had told of itself.
    pub(crate) fn remember(
        &mut self,
        topic: TopicId,
        peer: Key,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let nodes = Few(vec![nothing(peer)]);
        let told = of(topic, Swarm::ShuffleReply { nodes });
        self.receive(peer, &told, now, effects);
    }

    /// Lets a neighbour go, for the sake of another that is about to come, and tells it whom else
    /// to ask.
    pub(crate) fn let_go(
        &mut self,
        topic: TopicId,
        neighbour: Key,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        // The end of a walk that the neighbour has begun: the engine answers with whom it knows.
        let walk = Swarm::Shuffle {
            origin: neighbour,
            nodes: Few(vec![nothing(neighbour); REPLY]),
            ttl: 0,
        };
        self.receive(neighbour, &of(topic, walk), now, effects);
        let goodbye = goodbye(topic);
        effects.push(Effect::Send {
            to: neighbour,
            topic,
            bytes: goodbye.encode(),
        });
        let before = effects.len();
        self.receive(neighbour, &goodbye, now, effects);
        // Its place is taken already: nobody else is to be asked.
        let after = effects.split_off(before);
        let sent = |effect: &Effect| matches!(effect, Effect::Send { .. });
        effects.extend(after.into_iter().filter(|effect| !sent(effect)));
    }

    /// Returns the peers of a topic that the engine knows and is not connected to.
    ///
    /// It does not tell, so it is asked by its own means: for the answer to a walk of nobody.
    pub(crate) fn passive(&mut self, topic: TopicId, now: Instant) -> Vec<Key> {
        let mut effects = Vec::new();
        let walk = Swarm::Shuffle {
            origin: NOBODY,
            // The answer names as many peers as the question.
            nodes: Few(vec![nothing(self.me); PROBE]),
            ttl: 0,
        };
        self.receive(NOBODY, &of(topic, walk), now, &mut effects);
        let answers = effects.iter().filter_map(|effect| match effect {
            Effect::Send { to, bytes, .. } if *to == NOBODY => Some(mirror::named(bytes)),
            _ => None,
        });
        // If there are not so many, it names neighbours too.
        answers.flatten().collect()
    }

    /// Forgets what neighbours have announced and never sent.
    pub(crate) fn sweep(&mut self, now: Instant) {
        // The engine looks for such when anybody is gone.
        for topic in self.topics() {
            self.handle(
                topic,
                InEvent::PeerDisconnected(NOBODY),
                now,
                &mut Vec::new(),
            );
        }
        self.shrink(now);
    }

    /// Frees the room that many timers took.
    fn shrink(&mut self, now: Instant) {
        if self.most < SPARE || self.armed > self.most / 4 {
            return;
        }
        let mut old = std::mem::take(&mut self.timers);
        while let Some((due, timer)) = old.pop_before(now + FAR) {
            self.timers.insert(due, timer);
        }
        self.most = self.armed;
    }

    fn topics(&self) -> Vec<TopicId> {
        self.topics.iter().map(|(topic, _)| *topic).collect()
    }

    fn find(&self, topic: TopicId) -> Result<usize, usize> {
        self.topics
            .binary_search_by(|(other, _)| other.0.cmp(&topic.0))
    }

    /// Has the state of a topic handle an event, if there is one.
    fn handle(
        &mut self,
        topic: TopicId,
        event: InEvent<Key>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let at = self.find(topic).ok();
        let Some((_, state)) = at.and_then(|at| self.topics.get_mut(at)) else {
            return;
        };
        for out in state.handle(event, now) {
            effects.push(match out {
                OutEvent::SendMessage(to, message) => Effect::Send {
                    to,
                    topic,
                    bytes: mirror::join(topic, &message),
                },
                OutEvent::EmitEvent(Event::NeighborUp(peer)) => Effect::Up(topic, peer),
                OutEvent::EmitEvent(Event::NeighborDown(peer)) => Effect::Down(topic, peer),
                OutEvent::EmitEvent(Event::Received(_)) => Effect::Received(topic),
                OutEvent::ScheduleTimer(after, timer) => {
                    self.timers.insert(now + after, (topic, timer));
                    self.armed = self.armed.saturating_add(1);
                    self.most = self.most.max(self.armed);
                    continue;
                }
                // One topic gives up a connection even if another needs it, and then not again.
                // So it is not heeded: whoever is nobody's neighbour is let go.
                OutEvent::DisconnectPeer(_) | OutEvent::PeerData(..) => continue,
            });
        }
    }
}

fn of(topic: TopicId, swarm: Swarm<'_>) -> Message<'_> {
    Message {
        topic: topic.0,
        part: Part::Swarm(swarm),
    }
}

/// Returns a message of one who stays alive, but no neighbour.
fn goodbye(topic: TopicId) -> Message<'static> {
    let goodbye = Swarm::Disconnect {
        alive: true,
        respond: false,
    };
    of(topic, goodbye)
}

/// Returns a peer without an address.
fn nothing(id: Key) -> Info<'static> {
    Info { id, data: None }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
