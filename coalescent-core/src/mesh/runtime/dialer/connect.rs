//! Connections that the application asks for.

use std::sync::Arc;

use super::Seed;
use super::dial::{Dialled, dial};
use crate::error::Error;
use crate::mesh::runtime::Runtime;
use crate::node::peer::Peer;
use crate::wire::Wire;

impl Runtime {
    /// Connects to a peer; see [`Mesh::connect`](crate::Mesh::connect).
    pub(crate) async fn connect(
        self: &Arc<Self>,
        addr: &str,
        wire: Option<Wire>,
    ) -> Result<Peer, Error> {
        let seed = Seed::parse(addr, wire)?;
        // The application asks for a connection: one is made even if another leads there already.
        let dialled = tokio::select! {
            dial = dial(self, &seed, false) => dial.result?,
            () = self.stop.cancelled() => return Err(Error::closed()),
        };
        let (connection, guard) = match dialled {
            Dialled::Peer(peer) => *peer,
            Dialled::Already(peer) => return Ok(peer),
            Dialled::Claimed(_) => return Err(Error::refused(format!("{addr} is connected"))),
        };
        let peer = connection.peer().clone();
        let counted = self.dialer.count_unseeded();
        let runtime = Arc::clone(self);
        self.run(connection, async move {
            runtime.dialer.nudge();
            drop((counted, guard));
        });
        Ok(peer)
    }
}
