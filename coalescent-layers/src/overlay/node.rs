//! One node's overlay: the lock around its state, and what is done once it is released.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use coalescent_core::{Mesh, Peer, WeakMesh};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::ids::{self, Key, TopicId};
use super::mirror::CHANNEL;
use super::settings::Settings;
use super::state::{After, Neighbours, State};
use super::stats::OverlayStats;

/// The weight of a fault against the rules of the channel.
pub const FAULT: u32 = 20;

/// What handles messages about payloads.
pub(crate) trait Listens: Send + Sync {
    /// Handles what a neighbour says about payloads, in the handler of the channel.
    fn heard(&self, peer: &Peer, message: &Bytes);

    /// Frees the memory of what need not be remembered any longer.
    fn sweep(&self);
}

/// What the parts of one app's overlay share.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Inner>);

struct Inner {
    settings: Settings,
    /// Set when the mesh has started.
    node: OnceLock<Node>,
    /// The topics beside the mesh itself.
    topics: OnceLock<Box<dyn Listens>>,
    /// Wakes the task.
    wake: Notify,
}

/// The overlay of a mesh that has started.
struct Node {
    mesh: WeakMesh,
    network: String,
    state: Mutex<State>,
}

impl Shared {
    pub(crate) fn new(settings: Settings) -> Self {
        Self(Arc::new(Inner {
            settings,
            node: OnceLock::new(),
            topics: OnceLock::new(),
            wake: Notify::new(),
        }))
    }

    /// Sets what handles messages of neighbours about payloads, in the handler of the channel, once
    /// they were judged. The first stays.
    pub(crate) fn set_topics(&self, topics: impl Listens + 'static) {
        let _ = self.0.topics.set(Box::new(topics));
    }

    /// Begins, with the mesh.
    pub(crate) fn start(&self, mesh: &Mesh) {
        let config = mesh.peers().config();
        let (me, keys) = own_key(mesh);
        let now = Instant::now();
        let topic = TopicId::of(&config.network, "");
        let state = State::new(me, keys, mesh, topic, &self.0.settings, now);
        let node = Node {
            mesh: mesh.downgrade(),
            network: config.network.clone(),
            state: Mutex::new(state),
        };
        let _ = self.0.node.set(node);
        // The task may have begun before.
        self.0.wake.notify_one();
    }

    /// Returns the number of a topic by its name; `None` before the mesh has started.
    pub(crate) fn topic_id(&self, name: &str) -> Option<TopicId> {
        Some(TopicId::of(&self.0.node.get()?.network, name))
    }

    /// Takes part in a topic, with a tree or not. One that it takes part in already is nothing new.
    pub(crate) fn join_topic(&self, topic: TopicId, tree: bool) {
        self.with(|state, now, after| state.join_topic(topic, tree, now, after));
    }

    /// Leaves a topic.
    pub(crate) fn leave_topic(&self, topic: TopicId) {
        self.with(|state, now, after| state.leave_topic(topic, now, after));
    }

    /// Returns the neighbours in a topic from now on; `None` if this node takes no part in it.
    pub(crate) fn watch_neighbours(&self, topic: TopicId) -> Option<watch::Receiver<Neighbours>> {
        self.with(|state, _, _| state.watch(topic)).flatten()
    }

    /// Returns what the overlay counts; `None` before the mesh has started.
    pub(crate) fn stats(&self) -> Option<OverlayStats> {
        self.with(|state, now, _| state.stats(now))
    }

    /// Notes a connection to a node that knows the channel.
    pub(crate) fn connected(&self, peer: &Peer) {
        if peer.has_channel(CHANNEL) {
            self.with(|state, now, after| state.connected(peer, now, after));
        }
    }

    /// Notes that a connection has ended.
    pub(crate) fn disconnected(&self, peer: &Peer) {
        self.with(|state, now, after| state.disconnected(peer, now, after));
    }

    /// Handles what a node said on the channel.
    pub(crate) fn heard(&self, peer: &Peer, payload: &Bytes) {
        self.with(|state, now, after| state.heard(peer, payload, now, after));
    }

    /// Leaves all topics, so that neighbours know that this node does not come back.
    pub(crate) fn quit(&self) {
        self.with(State::quit);
    }

    pub(crate) fn mesh(&self) -> Option<Mesh> {
        self.0.node.get()?.mesh.upgrade()
    }

    /// Waits until there is something to do for the task.
    pub(crate) async fn woken(&self) {
        self.0.wake.notified().await;
    }

    /// Changes the state, then does what follows from it without the lock. `None` before the mesh
    /// has started.
    pub(crate) fn with<T>(
        &self,
        change: impl FnOnce(&mut State, Instant, &mut Vec<After>) -> T,
    ) -> Option<T> {
        let node = self.0.node.get()?;
        let mut after = Vec::new();
        let mut state = node.state();
        let now = Instant::now();
        let result = change(&mut state, now, &mut after);
        let wake = state.take_wake();
        drop(state);
        if wake {
            self.0.wake.notify_one();
        }
        for one in after {
            self.do_after(one);
        }
        Some(result)
    }

    fn do_after(&self, after: After) {
        match after {
            After::Promote(peer) => {
                if let Err(error) = peer.promote() {
                    tracing::debug!(peer = %peer.id(), error = %error.report(), "a neighbour found no place");
                    self.with(|state, now, after| state.no_place(&peer, now, after));
                }
            }
            After::Hang(peer, why) => peer.disconnect(why),
            After::Penalize(peer, why) => peer.penalize(FAULT, why),
            After::Gossip(peer, message) => {
                if let Some(topics) = self.0.topics.get() {
                    topics.heard(&peer, &message);
                }
            }
            After::Sweep => {
                if let Some(topics) = self.0.topics.get() {
                    topics.sweep();
                }
            }
            After::Forward(peer, message) => self.answer(&peer, message),
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Node {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the number of this node, and whether it is a key that it proves.
fn own_key(mesh: &Mesh) -> (Key, bool) {
    if let Some(key) = mesh.public_key() {
        return (*key.as_bytes(), true);
    }
    (ids::of_node(mesh.id()), false)
}
