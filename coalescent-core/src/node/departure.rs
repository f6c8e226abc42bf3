//! The departure of a peer, in three steps.
//!
//! 1. [`Node::begin_departure`], when a connection stops reading. If another connection of the peer
//!    can carry what is written to it, that one takes over, and the peer stays. Otherwise the peer
//!    moves from the roster's connected peers to the leaving ones: nothing more is relayed or
//!    broadcast to it, and its outbox refuses pushes (`Outbox::close`). The connection still writes
//!    what is queued.
//! 2. [`Node::finish_departure`], when nothing more is written. [`Peer::is_connected`] is false
//!    from now on; what is left in the outbox is dropped and counted; requests that wait for a
//!    reply fail. Then the node takes over the peer's counters, so that frames dropped later are
//!    counted by the node itself; tells the event; and lets newcomers in that stood by.
//!    Of a contact only the hooks for the end of contacts are told.
//! 3. [`Peer::end_departure`], when the hooks for a disconnected peer have run: drops the values
//!    that were kept with the peer.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::error::{Error, catch_panic};
use crate::node::event::Event;
use crate::node::peer::Peer;
use crate::node::peer::handle::LinkId;
use crate::node::{Node, Roster};
use crate::reason::DisconnectReason;

impl Node {
    /// Step 1: takes the connection `link` away from its peer. Returns whether the peer leaves with
    /// it: only then the other steps follow.
    pub(crate) fn begin_departure(
        &self,
        peer: &Peer,
        link: LinkId,
        reason: &DisconnectReason,
    ) -> bool {
        if let (true, Some(culprit)) = (reason.is_slow(), peer.culprit()) {
            self.slow()
                .slow(culprit, self.config.patience, Instant::now());
        }
        self.judge(peer, reason);
        let mut roster = self.roster();
        let mut links = peer.links();
        let Some(at) = links.usable.iter().position(|usable| usable.id() == link) else {
            return false;
        };
        links.usable.remove(at);
        if let Some(next) = links.usable.first() {
            if at == 0 {
                peer.outbox().activate(next.id().0);
            }
            return false;
        }
        drop(links);
        let theirs = matches!(
            reason,
            DisconnectReason::Closed | DisconnectReason::Bye(_) | DisconnectReason::Io(_)
        );
        if theirs && self.inherit(&mut roster, peer) {
            return false;
        }
        if roster.move_to_leaving(peer) {
            self.meter.disconnected(peer.direction(), reason);
        }
        drop(roster);
        peer.outbox().close();
        self.log_leaving(peer, reason);
        true
    }

    /// Step 2: ends the peer, once nothing more is written to it, and tells so.
    pub(crate) fn finish_departure(&self, peer: &Peer, reason: DisconnectReason) {
        peer.close(&reason);
        peer.tell_meter();
        let mut roster = self.roster();
        roster.leaving.remove(&peer.serial());
        roster.departed += peer.hand_over_counters();
        drop(roster);
        if peer.is_contact() {
            self.lost_contact(peer);
        } else {
            self.emit(Event::PeerDisconnected {
                peer: peer.clone(),
                reason,
            });
        }
        self.free(peer);
    }

    /// Takes all steps for a connection that nobody runs.
    pub(super) fn depart_unrun(&self, peer: &Peer, link: LinkId) {
        let reason = DisconnectReason::Disconnected("the connection was dropped".to_owned());
        if self.begin_departure(peer, link, &reason) {
            self.finish_unrun(peer, reason);
        }
    }

    /// Takes the other steps for a peer whose connection nobody runs any more.
    ///
    /// The disconnect hooks run in a task of their own, which a mesh that ends waits for. They do
    /// not run if the node ends already, because what they would clean up ends with it.
    pub(crate) fn finish_unrun(&self, peer: &Peer, reason: DisconnectReason) {
        self.finish_departure(peer, reason);
        // A mesh that ends from here on waits for the hooks.
        let _ends_later = self.tasks.token();
        let ends = self.roster().closed.is_some();
        // One that drives other tasks too: whoever has dropped the connection may not.
        let mesh = self.runtime.get().cloned();
        let runtime = mesh.or_else(|| Handle::try_current().ok());
        let Some(runtime) = runtime.filter(|_| !ends) else {
            return peer.end_departure();
        };
        // Made outside of the task, which a runtime that ends drops before it was polled.
        let last = Last(peer.clone());
        let hooks = async move {
            let Last(peer) = &last;
            tokio::select! {
                () = peer.node().cut.cancelled() => {}
                ran = catch_panic(peer.run_disconnect_hooks()) => if let Err(panic) = ran {
                    peer.node().error(Some(peer), Error::hook(&*panic));
                },
            }
        };
        self.tasks.spawn_on(hooks, &runtime);
    }

    /// Counts dropped frames of a peer whose counters the node has taken over.
    pub(super) fn dropped_late(&self, frames: u64) {
        self.roster().departed.dropped += frames;
    }

    /// Counts dropped frames of the channels of a peer whose counters the node has taken over.
    pub(super) fn channel_dropped_late(&self, frames: u64) {
        self.roster().departed.channel_dropped += frames;
    }
}

impl Peer {
    /// Runs the disconnect hooks. Of a contact only the hooks for its end are told.
    pub(crate) async fn run_disconnect_hooks(&self) {
        if self.is_contact() {
            return;
        }
        if let Some(hooks) = self.begin() {
            // It has left before its connection could run the connect hooks. They are polled once,
            // so that they have begun before the disconnect hooks run.
            let _ = tokio::time::timeout(Duration::ZERO, hooks).await;
        }
        for hook in &self.node().hooks().disconnect {
            hook(self.clone()).await;
        }
    }
}

/// Takes the last step when it is dropped, with whatever runs the hooks.
struct Last(Peer);

impl Drop for Last {
    fn drop(&mut self) {
        self.0.end_departure();
    }
}

impl Roster {
    /// Returns whether it was a peer, and no contact.
    fn move_to_leaving(&mut self, peer: &Peer) -> bool {
        // Removed by its connection, not by its address or id: a peer that has come back in the
        // meantime is another one.
        let was_peer = self.peers.remove(&peer.serial()).is_some();
        self.contacts.remove(&peer.serial());
        self.leaving.insert(peer.serial(), peer.clone());
        if peer.node_id().is_some() && self.by_id.get(peer.id()) == Some(&peer.serial()) {
            self.by_id.remove(peer.id());
        }
        if was_peer {
            self.list = None;
        }
        was_peer
    }
}
