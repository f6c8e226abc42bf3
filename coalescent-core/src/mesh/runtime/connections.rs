//! Connections of a mesh: adopted, and run until they end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;

use tokio::time::Instant;
use tracing::Instrument;

use super::Runtime;
use super::refused::Refused;
use super::security::{NOT_ALLOWED, no_keys};
use super::ticket::Ticket;
use crate::connection::{Connection, ConnectionInfo, Established, establish, turn_away};
use crate::error::{Error, catch_panic};
use crate::node::peer::{Peer, PeerId};
use crate::node::{Peers, Refusal};
use crate::reason::{DisconnectReason, Goodbye};
use crate::stack::PeerLayer;
use crate::transport::group::{Group, Groups};
use crate::transport::identity::PublicKey;
use crate::transport::{BoxIo, Direction, watch_silence};
use crate::wire::Wire;

/// Builds a stack for each connection and runs the connection with it. This trait hides the type of
/// the app's layers.
pub(super) trait Stacks: Send + Sync {
    fn run(&self, connection: Connection<BoxIo>, peers: &Peers) -> RunningConnection;
}

type RunningConnection = Pin<Box<dyn Future<Output = DisconnectReason> + Send>>;

pub(super) struct Layers<L>(pub(super) L);

impl<L: PeerLayer> Stacks for Layers<L> {
    fn run(&self, connection: Connection<BoxIo>, peers: &Peers) -> RunningConnection {
        Box::pin(connection.run(self.0.layer(peers.inbox())))
    }
}

impl Runtime {
    /// Makes a peer of a connection from elsewhere; see [`Mesh::adopt`](crate::Mesh::adopt).
    pub(crate) async fn adopt(
        self: &Arc<Self>,
        io: BoxIo,
        mut info: ConnectionInfo,
    ) -> Result<Peer, Error> {
        if info.key.is_some_and(|key| !self.security.is_allowed(&key)) {
            return Err(Error::refused(NOT_ALLOWED));
        }
        let ip = info.addr.map(|addr| addr.ip());
        if let Some(left) = self.peers.node().banned(info.key, ip) {
            return Err(Error::own_ban(left));
        }
        let ticket = match self.ticket_of(&info) {
            Ok(ticket) => ticket,
            Err(refused) => {
                let wire = info.wire.as_ref().unwrap_or(&self.peers.config().wire);
                turn_away(io, wire, &Goodbye::BUSY);
                return Err(Error::refused(refused.to_string()));
            }
        };
        info.listen = self.advertised();
        self.tune(&io, info.wire.as_ref());
        let seat = ticket.as_ref().map(Ticket::seat);
        let evicted = async {
            match &ticket {
                Some(ticket) => ticket.evicted().await,
                None => std::future::pending().await,
            }
        };
        let established = tokio::select! {
            established = establish(io, self.peers.node(), info, seat) => established?,
            refused = evicted => return Err(Error::refused(refused.to_string())),
            () = self.stop.cancelled() => return Err(Error::closed()),
        };
        match established {
            Established::Myself => Err(Error::refused("the connection leads to this node itself")),
            Established::Already(_) => Err(Error::refused(Refusal::AlreadyConnected.words())),
            Established::Connected(connection) => {
                let peer = connection.peer().clone();
                self.run(connection, async move { drop(ticket) });
                Ok(peer)
            }
        }
    }

    /// Takes a place for a connection from elsewhere that is to be counted.
    fn ticket_of(&self, info: &ConnectionInfo) -> Result<Option<Ticket>, Refused> {
        if !info.counted || info.direction == Direction::Outbound {
            return Ok(None);
        }
        let ip = info.addr.map(|addr| addr.ip());
        let groups = Groups::of(ip, info.key, Group::Unknown);
        self.admission.admit(groups, Instant::now()).map(Some)
    }

    /// Accepts the peer with this key from now on; see [`Mesh::allow`](crate::Mesh::allow).
    pub(crate) fn allow(&self, key: PublicKey) -> Result<bool, Error> {
        let allowed = self.security.allowed().ok_or_else(no_keys)?;
        Ok(allowed.insert(key))
    }

    /// Accepts the peer with this key no more, and disconnects it; see
    /// [`Mesh::disallow`](crate::Mesh::disallow).
    pub(crate) fn disallow(&self, key: &PublicKey) -> Result<bool, Error> {
        let allowed = self.security.allowed().ok_or_else(no_keys)?;
        let was = allowed.remove(key);
        let id = PeerId::Key(*key);
        let everyone = self.peers.node().everyone();
        for peer in everyone.iter().filter(|peer| *peer.id() == id) {
            peer.disconnect(NOT_ALLOWED);
        }
        Ok(was)
    }

    /// Sets the options that a connection's socket needs for its wire: a wire without pings has
    /// TCP detect dead peers.
    pub(crate) fn tune(&self, io: &BoxIo, wire: Option<&Wire>) {
        let config = self.peers.config();
        if !wire.unwrap_or(&config.wire).has_handshake() {
            watch_silence(&**io, config.ping_every, config.answer_within);
        }
    }

    /// Runs a connection in a task of its own; see [`serve`](Self::serve).
    pub(crate) fn run(
        &self,
        connection: Connection<BoxIo>,
        then: impl Future<Output = ()> + Send + 'static,
    ) {
        self.tasks().spawn(self.serve(connection, then));
    }

    /// Runs a connection, and `then` when the connection has ended.
    ///
    /// A panic of a layer or hook ends only this connection, and `then` runs all the same.
    pub(super) fn serve(
        &self,
        connection: Connection<BoxIo>,
        then: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let peer = connection.peer().clone();
        // Its handshake may have begun before it was disallowed. It is in the roster by now, so
        // whoever disallows it from here on finds it there.
        if let PeerId::Key(key) = peer.id()
            && !self.security.is_allowed(key)
        {
            peer.disconnect(NOT_ALLOWED);
        }
        // Likewise.
        if self.peers.node().banned_peer(&peer).is_some() {
            let banned = "its address or its key is banned".to_owned();
            peer.reject(&DisconnectReason::Banned(banned));
        }
        let span = tracing::info_span!(
            "peer",
            id = %peer.id(),
            addr = peer.origin().shown().map(tracing::field::display),
            direction = %peer.direction(),
        );
        // Building the layers may panic too.
        let built = catch_unwind(AssertUnwindSafe(|| {
            let _entered = span.enter();
            self.stacks.run(connection, &self.peers)
        }));
        let cut = self.peers.node().cut().clone();
        let task = async move {
            let run = async {
                let ended = match built {
                    Ok(running) => catch_panic(running).await,
                    Err(panic) => Err(panic),
                };
                if let Err(panic) = ended {
                    peer.node().error(Some(&peer), Error::panicked(&*panic));
                }
            };
            tokio::select! {
                biased;
                () = cut.cancelled() => {}
                () = run => {}
            }
            then.await;
        };
        task.instrument(span)
    }
}
