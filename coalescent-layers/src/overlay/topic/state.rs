//! One topic of one node: what has arrived, and what is judged.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};

use coalescent_core::{Peer, ReadBy, TopicName};
use tokio::sync::watch;
use tokio::time::Instant;

use super::seen::Seen;
use crate::overlay::ids::{Key, TopicId};
use crate::overlay::state::Neighbours;

/// How many payloads of one topic may be without a verdict at a time, for neighbours that send
/// copies meanwhile to be known.
pub const OPEN: usize = 1024;

/// How many neighbours are remembered that have sent a copy while a payload had no verdict.
pub const COPIES: usize = 16;

/// How many bytes of a topic wait to be read: 4 MiB.
pub const TOPIC_INBOX: usize = 4 * 1024 * 1024;

/// One topic, as long as this node is subscribed to it.
#[derive(Debug)]
pub(crate) struct State {
    pub(super) name: TopicName,
    pub(super) id: TopicId,
    /// Whether payloads go down a tree.
    pub(super) tree: bool,
    pub(super) read_by: ReadBy,
    pub(super) neighbours: watch::Receiver<Neighbours>,
    lists: Mutex<Lists>,
    pub(super) counts: Counts,
}

#[derive(Debug, Default)]
struct Lists {
    seen: Seen,
    /// The payloads without a verdict, and who has sent copies of each.
    open: HashMap<Key, Vec<Peer>>,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) published: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) copies: AtomicU64,
    pub(super) forwarded: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) withheld: AtomicU64,
}

/// What the node counts of one topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicStats {
    /// How many payloads this node has published.
    pub published: u64,
    /// How many payloads have arrived, each once.
    pub received: u64,
    /// How many copies of them have arrived.
    pub copies: u64,
    /// How many payloads were queued for neighbours, own ones and others', once for each.
    pub forwarded: u64,
    /// How many payloads were not queued for a neighbour, since it had no room.
    pub dropped: u64,
    /// How many payloads were not passed on, since no layer has accepted them.
    pub withheld: u64,
    /// How many payloads nobody read in time.
    pub unread: u64,
}

/// What is to be done with a payload that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    New,
    /// It has arrived before.
    Copy {
        /// Nobody has said yet whether it is passed on.
        open: bool,
    },
}

impl State {
    pub(super) fn new(
        name: TopicName,
        id: TopicId,
        tree: bool,
        neighbours: watch::Receiver<Neighbours>,
    ) -> Self {
        Self {
            name,
            id,
            tree,
            read_by: ReadBy::new(TOPIC_INBOX),
            neighbours,
            lists: Mutex::default(),
            counts: Counts::default(),
        }
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn neighbours(&self) -> Neighbours {
        self.neighbours.borrow().clone()
    }

    /// Returns whether a payload has arrived.
    pub(super) fn has_seen(&self, id: &Key) -> bool {
        self.lists().seen.contains(id)
    }

    /// Notes that this node has published a payload.
    pub(super) fn said(&self, id: &Key, now: Instant) {
        self.lists().seen.insert(id, now);
    }

    /// Notes that a neighbour has sent a payload, if it is a copy.
    pub(super) fn copied(&self, id: &Key, from: &Peer) -> Option<Arrival> {
        let mut lists = self.lists();
        if !lists.seen.contains(id) {
            return None;
        }
        let open = lists.open.get_mut(id);
        let is_open = open.is_some();
        if let Some(copies) = open
            && copies.len() < COPIES
            && !copies.contains(from)
        {
            copies.push(from.clone());
        }
        drop(lists);
        add(&self.counts.copies);
        Some(Arrival::Copy { open: is_open })
    }

    /// Notes that a payload has arrived, which its hash has proven to be itself.
    pub(super) fn arrived(&self, id: &Key, from: &Peer, now: Instant) -> Arrival {
        // Two connections may bring it at the same time.
        if let Some(copy) = self.copied(id, from) {
            return copy;
        }
        let mut lists = self.lists();
        if !lists.seen.insert(id, now) {
            return Arrival::Copy { open: false };
        }
        if lists.open.len() < OPEN {
            lists.open.insert(*id, Vec::new());
        }
        drop(lists);
        add(&self.counts.received);
        Arrival::New
    }

    /// Notes the end of a payload's verdict, and returns who has sent copies until then. If it is
    /// to be judged again, a copy is new.
    pub(super) fn judged(&self, id: &Key, again: bool) -> Vec<Peer> {
        let mut lists = self.lists();
        if again {
            lists.seen.forget(id);
        }
        let copies = lists.open.remove(id).unwrap_or_default();
        if lists.open.is_empty() {
            lists.open = HashMap::new();
        }
        copies
    }

    pub(super) fn sweep(&self, now: Instant) {
        self.lists().seen.sweep(now);
    }

    pub(super) fn stats(&self) -> TopicStats {
        let counts = &self.counts;
        TopicStats {
            published: counts.published.load(Relaxed),
            received: counts.received.load(Relaxed),
            copies: counts.copies.load(Relaxed),
            forwarded: counts.forwarded.load(Relaxed),
            dropped: counts.dropped.load(Relaxed),
            withheld: counts.withheld.load(Relaxed),
            unread: self.read_by.dropped(),
        }
    }
}

pub(super) fn add(count: &AtomicU64) {
    count.fetch_add(1, Relaxed);
}
