//! Newcomers that say that they are a peer who is connected already.
//!
//! Anybody can say so, and a peer whose network was lost without a word says so too. So a newcomer
//! stands by: it is not the peer, and shares nothing with it. The old connection is asked whether
//! it is there. If it does not answer, it ends, and the newcomer becomes a new peer; if it does,
//! the newcomer is refused.
//!
//! Two nodes that dial each other at the same time also see a newcomer each, perhaps not the same.
//! That both connections lead to one node shows in a token: a PING whose bytes are drawn at random,
//! sent to the newcomer, which must come back, as a PING, by the old connection. So it is the old
//! connection that agrees. A node repeats the tokens of the other side in this way, as far as these
//! say of both connections who dialled them, and say it right: so a stranger can pass on a token
//! only where one of the two nodes has dialled that stranger. And it does so only while the
//! connection is [`YOUNG`]. To nodes that know nothing of tokens they are PINGs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::roster::{Joined, Refusal};
use super::{Node, Roster};
use crate::node::peer::handle::ConnectionHandle;
use crate::node::peer::{Endpoint, Introduction, Peer, PeerId};
use crate::reason::DisconnectReason;
use crate::signal::Signal;
use crate::transport::Direction;
use crate::wire::NodeId;

/// How many newcomers may stand by for one peer. More are refused at once.
pub(crate) const MAX_STANDING: usize = 4;

/// How long the old connection has to answer, if nothing shows that its answer needs longer; see
/// [`Challenge`](crate::connection::Challenge). A newcomer that the other side may still prefer
/// stands by for as long.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long a newcomer stands by at the most: where the old connection cannot be judged, or takes
/// its time to end.
pub(crate) const MAX_STANDING_TIME: Duration = Duration::from_secs(30);

/// For how long after it was made a connection may be one of two that were made at the same time.
/// The handshakes of both may take that long.
pub(crate) const YOUNG: Duration = Duration::from_secs(10);

/// The bytes of a PING that asks whether two connections lead to one node.
pub(crate) type Token = [u8; 8];

/// How tokens begin.
const MAGIC: [u8; 2] = [0xc0, 0x2e];

/// Makes a token, to be sent on a connection that was made in the direction `new`, and to come back
/// on one that was made in the direction `old`.
fn token(new: Direction, old: Direction) -> Token {
    let mut token: Token = rand::random();
    let dialled = |direction| u8::from(direction == Direction::Outbound);
    token[..2].copy_from_slice(&MAGIC);
    token[2] = dialled(new) | dialled(old) << 1;
    token
}

/// Takes the bytes of a PING for a token, if they may be one.
pub(crate) fn as_token(ping: &[u8]) -> Option<Token> {
    ping.starts_with(&MAGIC).then(|| ping.try_into().ok())?
}

/// Whether a token of the other side's was sent on such a connection as it says.
fn came_right(token: Token, by: Direction) -> bool {
    (token[2] & 1 != 0) == (by == Direction::Inbound)
}

/// Whether a token of the other side's asks to come back on such a connection.
fn goes_back(token: Token, by: Direction) -> bool {
    (token[2] & 2 != 0) == (by == Direction::Inbound)
}

/// What has become of a newcomer.
#[derive(Debug)]
pub(crate) enum Standing {
    /// It has become a connection of the peer's.
    Joined(Joined),
    /// The old connection has ended.
    Free,
    /// It is refused.
    Refused,
    /// Look again then, or when something has happened.
    Wait(Instant),
}

/// A newcomer's place behind a peer that is connected.
#[derive(Debug)]
pub(super) struct Place {
    peer: Peer,
    link: Arc<ConnectionHandle>,
    node_id: Option<NodeId>,
    origin: Endpoint,
    token: Token,
    since: Instant,
    /// Whether the other side may still prefer it to the old connection.
    hopeful: bool,
    state: Mutex<State>,
    changed: Signal,
}

#[derive(Debug, Default)]
struct State {
    /// The old connection has answered.
    answered: bool,
    /// The token has come back.
    proven: bool,
    /// A token of the other side's was repeated.
    mutual: bool,
    /// The old connection has ended.
    free: bool,
    joined: Option<Joined>,
}

impl Place {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.raise();
    }

    /// Sends the newcomer a token of the other side's, if that may be it.
    fn repeat(&self, token: Token) {
        if goes_back(token, self.link.direction()) && self.is_of_the_same_run() {
            self.link.repeat(token);
            self.change(|state| state.mutual = true);
        }
    }

    /// Whether the newcomer says that it is the very process that the peer is.
    fn is_of_the_same_run(&self) -> bool {
        self.node_id.is_some() && self.node_id == self.peer.node_id()
    }
}

/// A newcomer that stands by, until this is dropped.
#[derive(Debug)]
pub(crate) struct StandBy {
    node: Arc<Node>,
    place: Arc<Place>,
}

impl StandBy {
    /// The peer that the newcomer says it is.
    pub(crate) fn peer(&self) -> &Peer {
        &self.place.peer
    }

    pub(crate) fn link(&self) -> &Arc<ConnectionHandle> {
        &self.place.link
    }

    /// What the newcomer is sent in a PING.
    pub(crate) fn token(&self) -> Token {
        self.place.token
    }

    /// Decides about the newcomer. It stands by since `since`, perhaps for more than one peer in
    /// turn.
    pub(crate) fn look(&self, since: Instant, now: Instant) -> Standing {
        let place = &self.place;
        let mut state = place.state();
        if let Some(joined) = state.joined.take() {
            return Standing::Joined(joined);
        }
        if state.free {
            return Standing::Free;
        }
        let hope_ends = place.since + ANSWER_WITHIN;
        let ends = since + MAX_STANDING_TIME;
        if now >= ends || state.answered && (!place.hopeful || now >= hope_ends) {
            return Standing::Refused;
        }
        let next = if state.answered { hope_ends } else { ends };
        Standing::Wait(next.max(now + Duration::from_millis(1)).min(ends))
    }

    /// Ready once something has happened.
    pub(crate) fn poll_changed(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.place.changed.poll_raised(cx)
    }

    /// Takes a token that the newcomer sent.
    pub(crate) fn heard(&self, token: Token) {
        self.node.heard(&self.place.peer, &self.place.link, token);
    }

    /// Gives up a connection that has just become the peer's, and that nobody runs.
    pub(crate) fn give_back(&self, joined: Joined) {
        if let Joined::TakesOver(peer) | Joined::Beside(peer) = joined {
            let reason = DisconnectReason::Disconnected("the connection was dropped".to_owned());
            if self.node.part(&peer, self.place.link.id(), &reason) {
                self.node.departed(&peer, reason);
                peer.forget();
            }
        }
    }
}

impl Drop for StandBy {
    fn drop(&mut self) {
        self.node.roster().leave(&self.place);
        let joined = self.place.state().joined.take();
        if let Some(joined) = joined {
            self.give_back(joined);
        }
    }
}

impl Roster {
    fn leave(&mut self, place: &Arc<Place>) {
        self.standing.retain(|other| !Arc::ptr_eq(other, place));
    }

    fn standing_for(&self, peer: &Peer) -> Vec<Arc<Place>> {
        let of_peer = |place: &&Arc<Place>| place.peer == *peer;
        self.standing.iter().filter(of_peer).cloned().collect()
    }
}

impl Node {
    /// Has a newcomer stand by, if it says that it is a peer who is connected. Asks that one
    /// whether it is there.
    ///
    /// # Errors
    ///
    /// Where too many stand by already.
    pub(crate) fn stand_by(
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
        let (old, new) = (peer.origin().direction, intro.origin.direction);
        let greater_dialled = match new {
            Direction::Inbound => intro.node_id.is_some_and(|node_id| node_id > self.id()),
            Direction::Outbound => intro.node_id.is_some_and(|node_id| self.id() > node_id),
        };
        let place = Arc::new(Place {
            hopeful: intro.node_id == peer.node_id()
                && (peer.is_young(now) || old != new && greater_dialled),
            link: Arc::clone(link),
            node_id: intro.node_id,
            origin: intro.origin,
            token: token(new, old),
            since: now,
            state: Mutex::default(),
            changed: Signal::default(),
            peer,
        });
        roster.standing.push(Arc::clone(&place));
        for old in &place.peer.links().usable {
            old.ask_alive();
            // The other side may have been quicker.
            if let Some(token) = old.kept().filter(|_| place.peer.is_young(now)) {
                place.repeat(token);
            }
        }
        drop(roster);
        tracing::debug!(peer = %place.peer.id(), addr = intro.origin.addr.map(tracing::field::display), "a newcomer stands by");
        Ok(Some(StandBy {
            node: Arc::clone(self),
            place,
        }))
    }

    /// Takes a token that came by the connection `by`, which is the peer's or that of a newcomer.
    pub(crate) fn heard(&self, peer: &Peer, by: &ConnectionHandle, token: Token) {
        let mut roster = self.roster();
        let standing = roster.standing_for(peer);
        if let Some(place) = standing.iter().find(|place| place.token == token) {
            let by_old = peer.links().usable.iter().any(|old| old.id() == by.id());
            if by_old && place.is_of_the_same_run() {
                place.change(|state| state.proven = true);
                self.settle(&mut roster, place);
            }
            return;
        }
        if !came_right(token, by.direction()) || !peer.is_young(Instant::now()) {
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
            place.change(|state| state.mutual = true);
            self.settle(&mut roster, place);
            return;
        }
        for place in &standing {
            place.repeat(token);
            self.settle(&mut roster, place);
        }
    }

    /// Makes a newcomer's connection one of its peer's, once that is proven, and the other side has
    /// what proves it there: neither may end a connection whose frames the other has not come to
    /// yet.
    ///
    /// Of two that each dialled, the one dialled by the greater node id stays; both nodes know
    /// that, so neither has to ask. Of two that one node dialled, that node gives up the later one;
    /// the other keeps it beside the first until it does.
    fn settle(&self, roster: &mut Roster, place: &Arc<Place>) {
        let ready = {
            let state = place.state();
            state.proven && state.mutual && state.joined.is_none() && !state.free
        };
        let peer = &place.peer;
        let mut links = peer.links();
        if !ready || links.usable.len() != 1 {
            return;
        }
        let (old, new) = (peer.origin().direction, place.origin.direction);
        let i_am_greater = place.node_id.is_some_and(|node_id| self.id() > node_id);
        let mut retired = Vec::new();
        let joined = match (old, new) {
            (Direction::Outbound, Direction::Outbound) => Joined::Yields(peer.clone()),
            (Direction::Inbound, Direction::Inbound) => {
                links.usable.push(Arc::clone(&place.link));
                Joined::Beside(peer.clone())
            }
            _ if i_am_greater != (new == Direction::Outbound) => Joined::Yields(peer.clone()),
            _ => {
                retired = std::mem::replace(&mut links.usable, vec![Arc::clone(&place.link)]);
                Joined::TakesOver(peer.clone())
            }
        };
        drop(links);
        if let Joined::TakesOver(_) = joined {
            self.turn(peer, place.origin);
            peer.outbox().activate(place.link.id().0);
        }
        for link in retired {
            link.retire();
        }
        roster.leave(place);
        place.change(|state| state.joined = Some(joined));
    }

    fn turn(&self, peer: &Peer, origin: Endpoint) {
        let old = peer.origin().direction;
        peer.set_origin(origin);
        if old != origin.direction {
            self.meter().turned(old, origin.direction);
        }
    }

    /// Lets a newcomer that is proven to be the peer go on as it, now that the other side has ended
    /// the peer's last connection: it was quicker to give that up. Returns whether there is one.
    pub(super) fn inherit(&self, roster: &mut Roster, peer: &Peer) -> bool {
        let proven = roster.standing_for(peer).into_iter().find(|place| {
            let state = place.state();
            state.proven && state.joined.is_none()
        });
        let Some(place) = proven else {
            return false;
        };
        roster.leave(&place);
        peer.links().usable = vec![Arc::clone(&place.link)];
        self.turn(peer, place.origin);
        peer.outbox().activate(place.link.id().0);
        place.change(|state| state.joined = Some(Joined::TakesOver(peer.clone())));
        true
    }

    /// Notes that the peer has answered: those who stand by for it do so in vain.
    pub(crate) fn answered(&self, peer: &Peer) {
        for place in self.roster().standing_for(peer) {
            place.change(|state| state.answered = true);
        }
    }

    /// Lets those in who stood by for the peer: it has left.
    pub(super) fn free(&self, peer: &Peer) {
        for place in self.roster().standing_for(peer) {
            place.change(|state| state.free = true);
        }
    }
}

impl Roster {
    /// The connected peer that a newcomer says it is: by its key, and by its number only where it
    /// has none. On wires without an introduction each connection is a peer.
    pub(super) fn known(&self, intro: &Introduction) -> Option<Peer> {
        let serial = self.by_id.get(&roster_id(intro.key, intro.node_id)?)?;
        self.peers.get(serial).cloned()
    }
}

/// What a peer that has introduced itself is known by.
pub(super) fn roster_id(key: Option<[u8; 32]>, node_id: Option<NodeId>) -> Option<PeerId> {
    let node_id = node_id?;
    Some(key.map_or(PeerId::Node(node_id), PeerId::Key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_repeated_only_as_it_says_itself() {
        use Direction::{Inbound, Outbound};
        // Of two nodes, what one dialled is inbound to the other.
        let other = |direction| match direction {
            Inbound => Outbound,
            Outbound => Inbound,
        };
        for new in [Inbound, Outbound] {
            for old in [Inbound, Outbound] {
                let token = token(new, old);
                assert_eq!(as_token(&token), Some(token));
                assert!(came_right(token, other(new)) && !came_right(token, new));
                assert!(goes_back(token, other(old)) && !goes_back(token, old));
            }
        }
        assert_eq!(as_token(b"12345678"), None);
        assert_eq!(as_token(&MAGIC), None);
    }
}
