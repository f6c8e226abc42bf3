//! Changes of the set of connected peers.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use crate::node::Peers;
use crate::node::event::{Event, Events};
use crate::node::peer::Peer;

/// A peer that connected or disconnected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerChange {
    /// The peer is connected.
    Joined(Peer),
    /// The peer, which had joined, is no longer connected.
    Left(Peer),
}

impl PeerChange {
    /// Returns the peer.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        match self {
            Self::Joined(peer) | Self::Left(peer) => peer,
        }
    }
}

/// A stream of the connected peers, followed by those that connect and disconnect; see
/// [`Peers::changes`].
pub struct PeerChanges {
    peers: Peers,
    events: Events,
    /// The peers whose joining has been told, or is in `pending`.
    known: BTreeMap<u64, Peer>,
    /// The changes that were found and not told yet.
    pending: VecDeque<PeerChange>,
}

impl Peers {
    /// Returns the peers that are connected now, followed by those that connect and disconnect,
    /// each once.
    ///
    /// Unlike [`events`](Peers::events), a slow reader misses no peer that is still connected: it
    /// learns of it later. It does not learn of peers that came and went in the meantime.
    ///
    /// ```
    /// use coalescent::PeerChange;
    ///
    /// # use coalescent::{App, transport::Memory};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let network = Memory::new();
    /// # let alice = App::new().transport(network.clone()).listen("alice:1").await?;
    /// # let bob = App::new().transport(network).start().await?;
    /// let mut changes = alice.peers().changes();
    /// bob.connect("alice:1").await?;
    /// let Some(PeerChange::Joined(peer)) = changes.next().await else { panic!("bob has joined") };
    /// bob.shutdown().await;
    /// assert_eq!(changes.next().await, Some(PeerChange::Left(peer)));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn changes(&self) -> PeerChanges {
        PeerChanges::new(self.clone())
    }
}

impl PeerChanges {
    pub(crate) fn new(peers: Peers) -> Self {
        // Listens first: a peer that joins in between is found twice, and told once.
        let events = peers.events_from_now();
        let mut changes = Self {
            peers,
            events,
            known: BTreeMap::new(),
            pending: VecDeque::new(),
        };
        changes.compare();
        changes
    }

    /// Waits for the next change; `None` when the mesh has ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no change is lost.
    pub async fn next(&mut self) -> Option<PeerChange> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    fn joined(&mut self, peer: Peer) {
        if self.known.insert(peer.serial(), peer.clone()).is_none() {
            self.pending.push_back(PeerChange::Joined(peer));
        }
    }

    fn left(&mut self, peer: &Peer) {
        if let Some(peer) = self.known.remove(&peer.serial()) {
            self.pending.push_back(PeerChange::Left(peer));
        }
    }

    /// Finds the changes whose events were missed.
    fn compare(&mut self) {
        let list = self.peers.list();
        let now: BTreeMap<u64, &Peer> = list.iter().map(|peer| (peer.serial(), peer)).collect();
        let gone: Vec<Peer> = self
            .known
            .values()
            .filter(|peer| !now.contains_key(&peer.serial()))
            .cloned()
            .collect();
        for peer in &gone {
            self.left(peer);
        }
        for peer in list.iter() {
            self.joined(peer.clone());
        }
    }
}

impl Stream for PeerChanges {
    type Item = PeerChange;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PeerChange>> {
        loop {
            if let Some(change) = self.pending.pop_front() {
                return Poll::Ready(Some(change));
            }
            match ready!(Pin::new(&mut self.events).poll_next(cx)) {
                None => return Poll::Ready(None),
                Some(Event::PeerConnected { peer }) => self.joined(peer),
                Some(Event::PeerDisconnected { peer, .. }) => self.left(&peer),
                Some(Event::Missed(_)) => self.compare(),
                Some(_) => {}
            }
        }
    }
}

impl fmt::Debug for PeerChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerChanges")
            .field("known", &self.known.len())
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Config;
    use crate::node::event::{DisconnectReason, EVENT_CAPACITY};
    use crate::node::peer::handle::ConnectionHandle;
    use crate::node::peer::{Endpoint, Introduction};
    use crate::transport::Direction;
    use crate::wire::NodeId;

    fn join(peers: &Peers) -> (Peer, Arc<ConnectionHandle>) {
        let stop = Arc::new(ConnectionHandle::new(
            peers.node().next_link(),
            Direction::Inbound,
            None,
        ));
        let intro = Introduction {
            key: None,
            node_id: Some(NodeId::random()),
            agent: None,
            listen: None,
            seen: None,
            channels: Vec::new(),
            max_payload: None,
            wire: peers.config().wire.clone(),
            origin: Endpoint {
                place: None,
                addr: None,
                direction: Direction::Inbound,
            },
        };
        match peers.node().join(&intro, &stop) {
            Ok(Some(peer)) => (peer, stop),
            other => panic!("{other:?}"),
        }
    }

    fn leave(peers: &Peers, (peer, stop): &(Peer, Arc<ConnectionHandle>)) {
        let reason = DisconnectReason::Closed;
        assert!(peers.node().begin_departure(peer, stop.id(), &reason));
        peers.node().finish_departure(peer, reason);
    }

    #[tokio::test]
    async fn connected_peers_come_first_and_each_change_once() {
        let peers = Peers::new(Config::default());
        let alice = join(&peers);
        let mut changes = peers.changes();
        let bob = join(&peers);
        leave(&peers, &alice);

        let (alice, bob) = (alice.0, bob.0);
        assert_eq!(
            changes.next().await,
            Some(PeerChange::Joined(alice.clone()))
        );
        assert_eq!(changes.next().await, Some(PeerChange::Joined(bob)));
        assert_eq!(changes.next().await, Some(PeerChange::Left(alice)));
        peers.node().end();
        assert_eq!(changes.next().await, None);
    }

    #[tokio::test]
    async fn changes_whose_events_were_missed_are_found() {
        let peers = Peers::new(Config::default());
        let alice = join(&peers);
        let mut changes = peers.changes();
        assert_eq!(
            changes.next().await,
            Some(PeerChange::Joined(alice.0.clone()))
        );
        leave(&peers, &alice);
        let bob = join(&peers);
        for _ in 0..=EVENT_CAPACITY {
            peers.node().emit(Event::Missed(0));
        }
        assert_eq!(changes.next().await, Some(PeerChange::Left(alice.0)));
        assert_eq!(changes.next().await, Some(PeerChange::Joined(bob.0)));
        peers.node().end();
        assert_eq!(changes.next().await, None);
    }
}
