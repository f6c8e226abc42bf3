//! The roster: the peers that are connected, and what they share.

mod node;

pub(crate) use node::{Joined, Refusal};

use crate::changes::PeerChanges;
use crate::config::Config;
use crate::error::Error;
use crate::event::{self, DropReason, Events};
use crate::mesh::{Mesh, WeakMesh, inbox};
use crate::meter::Meter;
use crate::outbox::{Chunk, Count, Refused};
use crate::peer::{Peer, PeerId};
use crate::registrar::{Hooks, Plugin, Registrar};
use crate::stack::Inbox;
use crate::stats::Stats;
use crate::wire::{Kind, NodeId, Wire, WireError};
use bytes::Bytes;
use http::Extensions;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

/// The peers of one node, with what they share: the options, the events, the read side, and values
/// that plugins keep. Cheap to clone.
///
/// An [`App`](crate::App) makes one and runs it as a [`Mesh`]. Without an app, make one here, and
/// give it to [`connection::serve`](crate::connection::serve) with each connection.
#[derive(Clone)]
pub struct Peers(Arc<Node>);

/// What became of a payload that was written to several peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// How many peers it was queued for.
    pub queued: usize,
    /// How many connected peers do not get it: they had no room, left while it waited, or their wire
    /// has no place for it.
    pub dropped: usize,
}

/// All that the connections of one node have in common.
pub(crate) struct Node {
    config: Config,
    id: NodeId,
    hooks: Hooks,
    extensions: RwLock<Extensions>,
    events: event::Sender,
    meter: Meter,
    roster: Mutex<Roster>,
    inbox: inbox::Queue,
    links: AtomicU64,
    nonce: AtomicU64,
    mesh: OnceLock<WeakMesh>,
}

#[derive(Default)]
struct Roster {
    peers: BTreeMap<u64, Peer>,
    by_node: HashMap<NodeId, u64>,
    /// The peers as a list, made when it is asked for: copying it at each join would cost memory that
    /// grows with the square of the peers.
    list: Option<Arc<[Peer]>>,
    /// Those who are leaving, and the counters of those who left.
    leaving: BTreeMap<u64, Peer>,
    departed: Stats,
    closed: bool,
}

impl Peers {
    /// Makes a node without an app, with these options.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self::with_registrar(config, Registrar::default(), false)
    }

    /// Makes a node without an app, and applies these plugins. Their background tasks are not run:
    /// they need a mesh.
    #[must_use]
    pub fn with_plugins<'a>(
        config: Config,
        plugins: impl IntoIterator<Item = &'a dyn Plugin>,
    ) -> Self {
        let mut registrar = Registrar::default();
        for plugin in plugins {
            plugin.register(&mut registrar);
        }
        Self::with_registrar(config, registrar, false)
    }

    pub(crate) fn with_registrar(config: Config, registrar: Registrar, keep_events: bool) -> Self {
        Self(Arc::new(Node {
            inbox: inbox::Queue::new(config.inbox),
            config: config.bounded(),
            id: NodeId::random(),
            hooks: registrar.hooks,
            extensions: RwLock::new(registrar.extensions),
            events: event::Sender::new(keep_events),
            meter: Meter::new(),
            roster: Mutex::new(Roster::default()),
            links: AtomicU64::new(1),
            nonce: AtomicU64::new(rand::random()),
            mesh: OnceLock::new(),
        }))
    }

    pub(crate) fn from_node(node: Arc<Node>) -> Self {
        Self(node)
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.0
    }

    /// The number this running application chose for itself; peers on the native wire know it by
    /// this.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.0.id
    }

    /// The options.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The connected peers, each once, in the order in which they came.
    #[must_use]
    pub fn list(&self) -> Arc<[Peer]> {
        self.0.list()
    }

    /// How many peers are connected.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.roster().peers.len()
    }

    /// Whether no peer is connected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Finds a connected peer by its id. Several connections can share a key; this finds the oldest.
    #[must_use]
    pub fn get(&self, id: &PeerId) -> Option<Peer> {
        self.0
            .roster()
            .peers
            .values()
            .find(|peer| peer.id() == id)
            .cloned()
    }

    /// The innermost service of a stack for this node's peers; see [`Inbox`].
    #[must_use]
    pub fn inbox(&self) -> Inbox {
        Inbox::new(Arc::clone(&self.0))
    }

    /// What happens from now on; of a mesh, for the first reader, from the beginning.
    #[must_use]
    pub fn events(&self) -> Events {
        self.0.events.subscribe()
    }

    /// The peers that are connected now, and then those that come and go, each once.
    ///
    /// Unlike [`events`](Peers::events), a reader that is slow misses no peer: it learns later of those who
    /// are connected still, and not of those who came and went meanwhile.
    #[must_use]
    pub fn changes(&self) -> PeerChanges {
        PeerChanges::new(self.clone())
    }

    /// The events from now on, without being the first reader.
    pub(crate) fn events_from_start(&self) -> Events {
        self.0.events.listen()
    }

    /// The counters of all peers, of those who left too.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let roster = self.0.roster();
        let all = roster.peers.values().chain(roster.leaving.values());
        all.fold(roster.departed, |sum, peer| sum + peer.stats())
    }

    /// Shares a value with everyone who has the peers, one of each type. Returns the value that it
    /// replaces.
    pub fn set_shared<T: Clone + Send + Sync + 'static>(&self, value: T) -> Option<T> {
        self.0
            .extensions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(value)
    }

    /// Gets a clone of a shared value.
    #[must_use]
    pub fn get_shared<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.0
            .extensions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get()
            .cloned()
    }

    /// The mesh these peers belong to; `None` where there is no app, or the mesh has ended.
    #[must_use]
    pub fn mesh(&self) -> Option<Mesh> {
        self.0.mesh()
    }

    /// Queues `payload` for every peer as a broadcast, waiting for room in each.
    ///
    /// # Cancel safety
    ///
    /// When dropped before it is done, some peers get the payload and others do not.
    pub async fn broadcast_payload(&self, payload: impl Into<Bytes>) -> Sent {
        self.broadcast_payload_where(payload, |_| true).await
    }

    /// Queues `payload` as a broadcast for the peers that `to` picks, waiting for room in each.
    ///
    /// # Cancel safety
    ///
    /// As for [`broadcast_payload`](Peers::broadcast_payload).
    pub async fn broadcast_payload_where(
        &self,
        payload: impl Into<Bytes>,
        to: impl Fn(&Peer) -> bool,
    ) -> Sent {
        let (mut sent, waiting) = self.offer(&payload.into(), to);
        for (peer, chunk) in waiting {
            match peer.outbox().push(&[chunk], &mut 0).await {
                Ok(()) => sent.queued += 1,
                Err(_) => sent.dropped += 1,
            }
        }
        sent
    }

    /// Queues `payload` as a broadcast for those peers that have room for it now; for the others it
    /// is dropped, and counted.
    pub fn try_broadcast_payload(&self, payload: impl Into<Bytes>) -> Sent {
        let (mut sent, waiting) = self.offer(&payload.into(), |_| true);
        for (peer, _) in waiting {
            peer.dropped(DropReason::Full, 1);
            sent.dropped += 1;
        }
        sent
    }

    /// Waits until all that is queued for the peers now has been written to their sockets, or
    /// dropped.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing changes by waiting.
    pub async fn flushed(&self) {
        for peer in self.list().iter() {
            peer.flushed().await;
        }
    }

    /// Queues a broadcast where there is room, and returns the peers that have none.
    fn offer(&self, payload: &Bytes, to: impl Fn(&Peer) -> bool) -> (Sent, Vec<(Peer, Chunk)>) {
        let nonce = self.0.next_nonce();
        self.0.announce(Some(nonce), payload);
        let list = self.list();
        if list.iter().any(|peer| !peer.wire().has_handshake()) {
            self.0.announce(None, payload);
        }
        let ttl = self.0.config.ttl;
        let mut sent = Sent::default();
        let mut waiting = Vec::new();
        let mut encoded = ByWire::new();
        for peer in list.iter().filter(|peer| to(peer)) {
            let native = peer.wire().has_handshake();
            let kind = if native {
                Kind::Broadcast { nonce }
            } else {
                Kind::Plain
            };
            let chunk = encoded.get(peer, || peer.encode(kind, ttl, payload.clone(), Count::OWN));
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => {
                    self.0.error(Some(peer), Error::encode(error.to_string()));
                    peer.dropped(DropReason::Unencodable, 1);
                    sent.dropped += 1;
                    continue;
                }
            };
            match peer.outbox().try_push(std::slice::from_ref(chunk)) {
                Ok(_) => sent.queued += 1,
                Err(Refused::Full) => waiting.push((peer.clone(), chunk.clone())),
                Err(Refused::Closed) => sent.dropped += 1,
            }
        }
        (sent, waiting)
    }
}

/// What was encoded for each wire, kept for the next peer of the same wire.
struct ByWire<'a> {
    /// A node speaks a handful of wires at most, nearly always one, which needs no list.
    first: Option<Encoded<'a>>,
    others: Vec<Encoded<'a>>,
}

type Encoded<'a> = (&'a Wire, Result<Chunk, WireError>);

impl<'a> ByWire<'a> {
    fn new() -> Self {
        Self {
            first: None,
            others: Vec::new(),
        }
    }

    /// Gets what was made for the peer's wire, or makes it.
    fn get(
        &mut self,
        peer: &'a Peer,
        make: impl FnOnce() -> Result<Chunk, WireError>,
    ) -> &Result<Chunk, WireError> {
        let wire = peer.wire();
        if self.first.as_ref().is_none_or(|(first, _)| *first == wire) {
            return &self.first.get_or_insert_with(|| (wire, make())).1;
        }
        let found = self.others.iter().position(|(other, _)| *other == wire);
        let at = found.unwrap_or_else(|| {
            self.others.push((wire, make()));
            self.others.len() - 1
        });
        &self.others[at].1
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers")
            .field("node", &self.0.id)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
