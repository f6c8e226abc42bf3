//! Newcomers that claim to be a peer that is already connected.
//!
//! Anybody can claim that, and a peer whose network was lost without a word claims it too. So a
//! newcomer stands by: it is not the peer, and shares nothing with it. The old connection is asked
//! whether the peer is still there. If it does not answer, it ends, and the newcomer becomes a new
//! peer; if it does, the newcomer is refused.
//!
//! Two nodes that dial each other at the same time also see a newcomer each, perhaps not the same.
//! A [`token`] shows that both connections lead to one node: a PING with random bytes, sent to the
//! newcomer, which must come back, as a PING, on the old connection. So it is the old connection
//! that agrees. A node repeats the tokens of the other node in this way if they name the direction
//! of both connections correctly: so a stranger can pass on a token only if one of the two nodes
//! has dialled that stranger. And it does so only while the connection is [`YOUNG`]. Nodes that
//! know nothing of tokens take them for PINGs.

pub(super) mod place;
mod token;

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use place::{How, Place};
pub(crate) use token::{Token, as_token};
use token::{came_right, goes_back, token};
use tokio::time::Instant;

use crate::node::peer::handle::ConnectionHandle;
use crate::node::peer::{Endpoint, Introduction, Peer};
use crate::node::roster::Refusal;
use crate::node::{Node, Roster};
use crate::signal::Signal;
use crate::transport::Direction;

/// How many newcomers may stand by for one peer. More are refused at once.
pub(crate) const MAX_STANDING: usize = 4;

/// How long the old connection has to answer, unless something shows that its answer needs longer;
/// see `connection/watch/challenge.rs`. A newcomer that the other node may still prefer
/// stands by for as long.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The longest time that a newcomer stands by: if the old connection cannot be judged, or takes its
/// time to end.
pub(crate) const MAX_STANDING_TIME: Duration = Duration::from_secs(30);

/// How long after its handshake a connection may be one of two that were made at the same time. The
/// handshakes of both may take that long.
pub(crate) const YOUNG: Duration = Duration::from_secs(10);

fn is_young(peer: &Peer, now: Instant) -> bool {
    now.saturating_duration_since(peer.since()) < YOUNG
}

/// The state of a newcomer.
#[derive(Debug)]
pub(crate) enum Standing {
    /// It has become a connection of the peer.
    Joined(Joined),
    /// The old connection has ended: the newcomer can join as a new peer.
    Free,
    /// It is refused.
    Refused,
    /// It stands by. Look again at this time, or when something has changed.
    Wait(Instant),
}

/// How a newcomer's connection became one of its peer's connections.
#[derive(Debug)]
pub(crate) enum Joined {
    /// It takes over, and the peer's other connection ends.
    TakesOver(Peer),
    /// The peer stays connected by the other connection; this one continues when that ends.
    Beside(Peer),
    /// The peer stays connected by the other connection; this one ends.
    Yields(Peer),
}

/// A newcomer that stands by until this is dropped.
#[derive(Debug)]
pub(crate) struct StandBy {
    node: Arc<Node>,
    /// The peer that the newcomer claims to be.
    peer: Peer,
    place: Arc<Place>,
}

impl How {
    fn of(self, peer: &Peer) -> Joined {
        match self {
            Self::TakesOver => Joined::TakesOver(peer.clone()),
            Self::Beside => Joined::Beside(peer.clone()),
            Self::Yields => Joined::Yields(peer.clone()),
        }
    }
}

impl StandBy {
    /// Returns the peer that the newcomer claims to be.
    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Returns the newcomer's connection.
    pub(crate) fn link(&self) -> &Arc<ConnectionHandle> {
        &self.place.link
    }

    /// Returns the token to send to the newcomer in a PING.
    pub(crate) fn token(&self) -> Token {
        self.place.token
    }

    /// Decides about the newcomer, which has stood by since `since`, perhaps for several peers in
    /// turn.
    pub(crate) fn look(&self, since: Instant, now: Instant) -> Standing {
        let place = &self.place;
        let progress = place.progress();
        if let Some(joined) = progress.joined {
            return Standing::Joined(joined.of(&self.peer));
        }
        if progress.free {
            return Standing::Free;
        }
        let hope_ends = place.since + ANSWER_WITHIN;
        let ends = since + MAX_STANDING_TIME;
        if now >= ends || progress.answered && (!place.hopeful || now >= hope_ends) {
            return Standing::Refused;
        }
        let next = if progress.answered { hope_ends } else { ends };
        Standing::Wait(next.max(now + Duration::from_millis(1)).min(ends))
    }

    /// Leaves the connection to whoever runs it, if it has become the peer's. Before this, dropping
    /// the newcomer gives it up.
    pub(crate) fn hand_over(&self) {
        self.place.progress().joined.take();
    }

    /// Waits until something has changed.
    pub(crate) fn poll_changed(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.place.changed.poll_raised(cx)
    }

    /// Takes a token that the newcomer sent.
    pub(crate) fn heard(&self, token: Token) {
        self.node.heard(&self.peer, &self.place.link, token);
    }

    /// Gives up a connection that has just become the peer's, and that nobody runs.
    pub(crate) fn give_back(&self, joined: Joined) {
        if let Joined::TakesOver(peer) | Joined::Beside(peer) = joined {
            self.node.depart_unrun(&peer, self.place.link.id());
        }
    }
}

impl Drop for StandBy {
    fn drop(&mut self) {
        self.node.roster().remove_place(&self.place);
        let joined = self.place.progress().joined.take();
        if let Some(joined) = joined {
            self.give_back(joined.of(&self.peer));
        }
    }
}

impl Node {
    /// Lets a newcomer stand by, if it claims to be a connected peer. The old connection is asked
    /// whether that peer is there.
    ///
    /// # Errors
    ///
    /// If too many stand by already.
    pub(super) fn stand_by(
        self: &Arc<Self>,
        intro: &Introduction,
        link: &Arc<ConnectionHandle>,
        now: Instant,
    ) -> Result<Option<StandBy>, Refusal> {
        let mut roster = self.roster();
        let Some(peer) = roster.known(intro) else {
            return Ok(None);
        };
        if roster.standing_for(&peer).len() >= MAX_STANDING {
            return Err(Refusal::AlreadyConnected);
        }
        let place = Arc::new(self.place(intro, link, &peer, now));
        roster.add_place(&place);
        for old in &peer.links().usable {
            old.ask_alive();
            // The other node may have sent its token before.
            if let Some(token) = old.kept().filter(|_| is_young(&peer, now)) {
                place.repeat(token);
            }
        }
        drop(roster);
        tracing::debug!(peer = %peer.id(), addr = intro.origin.shown().map(tracing::field::display), "a newcomer stands by");
        Ok(Some(StandBy {
            node: Arc::clone(self),
            peer,
            place,
        }))
    }

    fn place(
        &self,
        intro: &Introduction,
        link: &Arc<ConnectionHandle>,
        peer: &Peer,
        now: Instant,
    ) -> Place {
        let (old, new) = (peer.origin().direction, intro.origin.direction);
        let greater_dialled = match new {
            Direction::Inbound => intro.node_id.is_some_and(|node_id| node_id > self.id()),
            Direction::Outbound => intro.node_id.is_some_and(|node_id| self.id() > node_id),
        };
        Place {
            hopeful: intro.node_id == peer.node_id()
                && (is_young(peer, now) || old != new && greater_dialled),
            link: Arc::clone(link),
            node_id: intro.node_id,
            origin: intro.origin.clone(),
            token: token(new, old),
            since: now,
            progress: Mutex::default(),
            changed: Signal::default(),
            serial: peer.serial(),
            same_run: intro.node_id.is_some() && intro.node_id == peer.node_id(),
        }
    }

    /// Takes a token that came on the connection `by`, which is the peer's or that of a newcomer.
    pub(crate) fn heard(&self, peer: &Peer, by: &ConnectionHandle, token: Token) {
        let mut roster = self.roster();
        let standing = roster.standing_for(peer);
        if let Some(place) = standing.iter().find(|place| place.token == token) {
            let by_old = peer.links().usable.iter().any(|old| old.id() == by.id());
            if by_old && place.same_run {
                place.change(|progress| progress.proven = true);
                self.settle(&mut roster, peer, place);
            }
            return;
        }
        if !came_right(token, by.direction()) || !is_young(peer, Instant::now()) {
            return;
        }
        by.keep(token);
        for link in &peer.links().usable {
            if link.id() != by.id() && goes_back(token, link.direction()) {
                link.repeat(token);
            }
        }
        let from = standing.iter().find(|place| place.link.id() == by.id());
        if let Some(place) = from {
            place.change(|progress| progress.mutual = true);
            self.settle(&mut roster, peer, place);
            return;
        }
        for place in &standing {
            place.repeat(token);
            self.settle(&mut roster, peer, place);
        }
    }

    /// Makes a newcomer's connection one of its peer's, once that is proven to both nodes: neither
    /// may end a connection whose frames the other has not read yet.
    ///
    /// If each node dialled one connection, the one dialled by the greater node id stays; both
    /// nodes know that, so neither has to ask. If one node dialled both, that node gives up the
    /// later one; the other keeps it beside the first until it does.
    fn settle(&self, roster: &mut Roster, peer: &Peer, place: &Arc<Place>) {
        let ready = {
            let progress = place.progress();
            progress.proven && progress.mutual && progress.joined.is_none() && !progress.free
        };
        let mut links = peer.links();
        if !ready || links.usable.len() != 1 {
            return;
        }
        let (old, new) = (peer.origin().direction, place.origin.direction);
        let i_am_greater = place.node_id.is_some_and(|node_id| self.id() > node_id);
        let mut retired = Vec::new();
        let joined = match (old, new) {
            (Direction::Outbound, Direction::Outbound) => How::Yields,
            (Direction::Inbound, Direction::Inbound) => {
                links.usable.push(Arc::clone(&place.link));
                How::Beside
            }
            _ if i_am_greater != (new == Direction::Outbound) => How::Yields,
            _ => {
                retired = std::mem::replace(&mut links.usable, vec![Arc::clone(&place.link)]);
                How::TakesOver
            }
        };
        drop(links);
        if joined == How::TakesOver {
            self.turn(peer, place.origin.clone());
            peer.outbox().activate(place.link.id().0);
        }
        for link in retired {
            link.retire();
        }
        roster.remove_place(place);
        place.change(|progress| progress.joined = Some(joined));
    }

    /// Sets the endpoint of a peer whose connection has been replaced.
    fn turn(&self, peer: &Peer, origin: Endpoint) {
        let old = peer.origin().direction;
        let new = origin.direction;
        peer.set_origin(origin);
        if old != new && !peer.is_contact() {
            self.meter().turned(old, new);
        }
    }

    /// Lets a newcomer that is proven to be the peer take over, now that the other node has ended
    /// the peer's last connection: it was quicker to give that up. Returns whether there is one.
    pub(super) fn inherit(&self, roster: &mut Roster, peer: &Peer) -> bool {
        let proven = roster.standing_for(peer).into_iter().find(|place| {
            let progress = place.progress();
            progress.proven && progress.joined.is_none()
        });
        let Some(place) = proven else {
            return false;
        };
        roster.remove_place(&place);
        peer.links().usable = vec![Arc::clone(&place.link)];
        self.turn(peer, place.origin.clone());
        peer.outbox().activate(place.link.id().0);
        place.change(|progress| progress.joined = Some(How::TakesOver));
        true
    }

    /// Notes that the peer has answered on its old connection: newcomers stand by for it in vain.
    pub(crate) fn answered(&self, peer: &Peer) {
        for place in self.roster().standing_for(peer) {
            place.change(|progress| progress.answered = true);
        }
    }

    /// Lets the newcomers in that stood by for a peer: it has left.
    pub(super) fn free(&self, peer: &Peer) {
        for place in self.roster().standing_for(peer) {
            place.change(|progress| progress.free = true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::node::Peers;
    use crate::reason::DisconnectReason;
    use crate::wire::NodeId;

    fn intro(peers: &Peers, node_id: NodeId) -> Introduction {
        Introduction {
            key: None,
            node_id: Some(node_id),
            agent: None,
            listen: None,
            seen: None,
            channels: Vec::new(),
            max_payload: None,
            wire: peers.config().wire.clone(),
            origin: Endpoint {
                addr: None,
                place: None,
                direction: Direction::Inbound,
            },
        }
    }

    #[tokio::test]
    async fn a_connection_that_nobody_runs_in_the_end_keeps_no_peer() {
        for runs in [false, true] {
            let peers = Peers::new(Config::default());
            let node = peers.node();
            let intro = intro(&peers, NodeId::random());
            let [old, new] = [(); 2].map(|()| {
                let (id, direction) = (node.next_link(), Direction::Inbound);
                Arc::new(ConnectionHandle::new(id, direction, None))
            });
            let peer = node.join(&intro, &old).expect("no refusal");
            let peer = peer.expect("a new peer");
            let standing = node.look_up(&intro, &new).expect("no refusal");
            let standing = standing.expect("a peer that is connected");
            standing.place.change(|progress| progress.proven = true);
            assert!(!node.begin_departure(&peer, old.id(), &DisconnectReason::Closed));
            let now = Instant::now();
            let decided = standing.look(now, now);
            assert!(matches!(decided, Standing::Joined(Joined::TakesOver(_))));
            if runs {
                standing.hand_over();
            }
            // Whatever is written to the newcomer after the decision fails, or is abandoned.
            drop(standing);
            assert_eq!(peer.is_connected(), runs);
            assert_eq!(node.list().len(), usize::from(runs));
        }
    }
}
