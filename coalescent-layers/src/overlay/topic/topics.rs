//! The topics that one node is subscribed to.

use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use coalescent_core::{Extensions, Mesh, Peer, TopicName};
use rand::Rng;
use tokio::time::Instant;

use super::handed::{Handed, Waiting};
use super::payload::{Content, MAX_HOPS};
use super::state::{Arrival, State};
use super::tree::without_seen;
use crate::overlay::ids::{Key, TopicId};
use crate::overlay::mirror::{CHANNEL, Gossip, Message, Part, Raw, Scope};
use crate::overlay::node::{FAULT, Listens, Shared};
use crate::overlay::settings::Settings;

/// The topics of one node.
#[derive(Clone)]
pub(crate) struct Topics(Arc<Inner>);

/// What the overlay's state holds of the topics, which hold it.
struct WeakTopics(Weak<Inner>);

impl Listens for WeakTopics {
    fn heard(&self, peer: &Peer, message: &Bytes) {
        if let Some(inner) = self.0.upgrade() {
            inner.heard(peer, message);
        }
    }

    fn sweep(&self) {
        if let Some(inner) = self.0.upgrade() {
            inner.sweep();
        }
    }
}

pub(super) struct Inner {
    pub(super) shared: Shared,
    /// The names of topics with trees.
    trees: Vec<TopicName>,
    entries: Mutex<HashMap<TopicId, Entry>>,
    /// The nonce of the next payload that this node publishes.
    nonce: AtomicU64,
}

struct Entry {
    state: Arc<State>,
    /// How many handles there are.
    handles: usize,
    /// Whether it stays when there is none.
    stays: bool,
}

impl Topics {
    pub(crate) fn new(shared: &Shared, settings: &Settings) -> Self {
        let inner = Arc::new(Inner {
            shared: shared.clone(),
            trees: settings.trees.clone(),
            entries: Mutex::default(),
            nonce: AtomicU64::new(settings.rng().random()),
        });
        shared.set_topics(WeakTopics(Arc::downgrade(&inner)));
        Self(inner)
    }

    /// Subscribes to what the app has named, once the mesh has started.
    pub(crate) fn start(&self, mesh: &Mesh, settings: &Settings) {
        let named = settings.topics.iter().chain(&settings.trees);
        for name in named.chain(mesh.peers().topics()) {
            self.0.subscribe(name, true);
        }
    }

    /// Ends the topics when the result is dropped, with the mesh.
    pub(crate) fn until_dropped(&self) -> Ends {
        Ends(self.clone())
    }

    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }
}

/// Ends the topics of a mesh when it is dropped: who reads or waits learns it.
pub(crate) struct Ends(Topics);

impl Drop for Ends {
    fn drop(&mut self) {
        let Topics(inner) = &self.0;
        let entries = std::mem::take(&mut *inner.entries());
        drop(inner.shared.with(|state, _, _| state.close()));
        for entry in entries.into_values() {
            entry.state.read_by.end();
        }
    }
}

impl Inner {
    fn entries(&self) -> MutexGuard<'_, HashMap<TopicId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frees the memory of what need not be remembered any longer.
    fn sweep(&self) {
        let states: Vec<_> = {
            let entries = self.entries();
            entries
                .values()
                .map(|entry| Arc::clone(&entry.state))
                .collect()
        };
        let now = Instant::now();
        for state in states {
            state.sweep(now);
        }
    }

    pub(super) fn next_nonce(&self) -> u64 {
        use std::sync::atomic::Ordering::Relaxed;
        self.nonce.fetch_add(1, Relaxed)
    }

    /// Subscribes to a topic, for a handle or to stay. `None` before the mesh has started, or when
    /// it has ended.
    pub(super) fn subscribe(&self, name: &TopicName, stays: bool) -> Option<Arc<State>> {
        let id = self.shared.topic_id(name)?;
        let mut entries = self.entries();
        let entry = match entries.entry(id) {
            Occupied(entry) => entry.into_mut(),
            Vacant(vacant) => {
                let tree = self.trees.contains(name);
                self.shared.join_topic(id, tree);
                let neighbours = self.shared.watch_neighbours(id)?;
                let state = State::new(name.clone(), id, tree, neighbours);
                vacant.insert(Entry {
                    state: Arc::new(state),
                    handles: 0,
                    stays: false,
                })
            }
        };
        entry.stays |= stays;
        entry.handles = entry.handles.saturating_add(usize::from(!stays));
        Some(Arc::clone(&entry.state))
    }

    /// Notes that a handle is dropped. Leaves the topic if that was the last one.
    pub(super) fn release(&self, id: TopicId) {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(&id) else {
            return;
        };
        entry.handles = entry.handles.saturating_sub(1);
        if entry.handles > 0 || entry.stays {
            return;
        }
        let entry = entries.remove(&id);
        // Under the lock: who subscribes again must not find it joined.
        self.shared.leave_topic(id);
        drop(entries);
        if let Some(entry) = entry {
            entry.state.read_by.end();
        }
    }

    fn get(&self, id: TopicId) -> Option<Arc<State>> {
        self.entries()
            .get(&id)
            .map(|entry| Arc::clone(&entry.state))
    }

    /// Handles what a neighbour says about payloads, in the handler of the channel.
    fn heard(&self, peer: &Peer, bytes: &Bytes) {
        let Ok(mut message) = Message::decode(bytes) else {
            return;
        };
        let Some(state) = self.get(TopicId(message.topic)) else {
            return;
        };
        if let Part::Gossip(Gossip::Gossip { id, content, scope }) = &message.part {
            let (id, content) = (*id, range_of(bytes, *content));
            let result = match (scope, content) {
                (Scope::Swarm(hops), Some(content)) => {
                    self.payload(&state, peer, id, content, *hops)
                }
                _ => Err("a payload that no node sends"),
            };
            if let Err(why) = result {
                peer.penalize(FAULT, format!("{CHANNEL}: {why}"));
            }
            return;
        }
        if state.tree {
            without_seen(&mut message, |id| state.has_seen(id));
            self.shared.tree_heard(peer, message);
        }
    }

    /// Handles a payload. An error is the fault of the neighbour.
    fn payload(
        &self,
        state: &Arc<State>,
        peer: &Peer,
        id: Key,
        content: Content,
        hops: u16,
    ) -> Result<(), &'static str> {
        // One that has arrived is not hashed again.
        let arrival = state.copied(&id, peer);
        let arrival = match arrival {
            Some(arrival) => arrival,
            None => {
                if hops > MAX_HOPS {
                    return Ok(());
                }
                if content.id() != id {
                    return Err("a payload has another's id");
                }
                state.arrived(&id, peer, Instant::now())
            }
        };
        match arrival {
            Arrival::New => {}
            // Told once there is a verdict.
            Arrival::Copy { open: true } => return Ok(()),
            Arrival::Copy { open: false } => {
                if state.tree {
                    self.shared.tree_copy(state.id, peer);
                }
                return Ok(());
            }
        }
        let payload = content.payload();
        let mut extensions = Extensions::new();
        extensions.insert(state.name.clone());
        extensions.insert(state.read_by.clone());
        extensions.insert(content.nonce());
        extensions.insert(Handed(Arc::new(Waiting {
            shared: self.shared.clone(),
            state: Arc::clone(state),
            from: peer.clone(),
            id,
            content,
            hops,
            settled: AtomicBool::new(false),
        })));
        // If there is no room, it may come another way.
        if let Err(error) = peer.hand_in(payload, extensions) {
            tracing::debug!(peer = %peer.id(), topic = %state.name, error = %error.report(), "a payload was lost");
            peer.count_channel_dropped(1);
        }
        Ok(())
    }
}

/// Returns the content of a message, which is a part of its bytes.
fn range_of(bytes: &Bytes, content: Raw<'_>) -> Option<Content> {
    Content::of(bytes.slice_ref(content.0))
}
