//! The task that dials what the plan says, and tells it the results.

use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::time::{Instant, sleep_until};

use super::dial::{DialResult, Dialled, Purpose, dial};
use super::handle::Change;
use super::plan::Due;
use super::seed::Seed;
use crate::error::Error;
use crate::mesh::runtime::Runtime;
use crate::node::hooks::Dial;
use crate::node::peer::Peer;
use crate::node::suggestion::Source;
use crate::reason::DisconnectReason;
use crate::transport::Direction;

impl Runtime {
    /// Dials until it is dropped.
    pub(crate) async fn keep_dialling(self: Arc<Self>) {
        loop {
            let (due, next) = self.dialer().due(Instant::now());
            for due in due {
                let Due {
                    key,
                    failures,
                    source,
                } = due;
                tracing::debug!(address = %key.address, %source, failures, "dialling");
                self.spawn(Arc::clone(&self).dial(key, source));
            }
            let wait = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = self.dialer().changed() => {}
                () = wait => {}
            }
        }
    }

    /// Dials an address once, and stays until the connection has ended.
    async fn dial(self: Arc<Self>, seed: Seed, source: Source) {
        let DialResult {
            result,
            itself,
            there,
            full_group,
        } = dial(&self, &seed, &Purpose::Planned).await;
        let ended = |result| Dial {
            address: seed.address.clone(),
            source,
            socket_addr: there,
            result,
        };
        let (connection, guard) = match result {
            Ok(Dialled::Peer(peer)) => *peer,
            Ok(Dialled::Already(peer)) => {
                self.told(&seed, &Change::Already, itself);
                let forgotten = self.dialer().wait(&seed);
                self.call_dial_hooks(&ended(Ok(peer.clone())));
                let change = tokio::select! {
                    reason = peer.closed() => lost(&peer, &reason),
                    () = forgotten.cancelled() => return,
                };
                self.told(&seed, &change, None);
                return;
            }
            Ok(Dialled::Claimed(released)) => {
                self.told(&seed, &Change::Already, itself);
                let forgotten = self.dialer().wait(&seed);
                let error = Error::refused(format!("{} is connected", seed.address));
                self.call_dial_hooks(&ended(Err(error)));
                tokio::select! {
                    () = released.cancelled() => {}
                    () = forgotten.cancelled() => return,
                }
                self.told(&seed, &Change::Lost, None);
                return;
            }
            Err(error) => {
                let change = if error.is_itself() {
                    Change::Itself
                } else if let Some(left) = error.ban_left() {
                    Change::Banned(left)
                } else if error.is_busy() || full_group.is_some() {
                    Change::Later(full_group)
                } else {
                    Change::Failed
                };
                let report = self.told(&seed, &change, itself);
                if source != Source::SEED {
                    tracing::debug!(address = %seed.address, %source, error = %error.report(), "a dial failed");
                }
                let dial = ended(Err(error));
                self.call_dial_hooks(&dial);
                // `itself` reports that only this node was there.
                if report
                    && let Err(error) = dial.result
                    && !error.is_itself()
                {
                    self.peers().node().error(None, error);
                }
                return;
            }
        };
        let peer = connection.peer().clone();
        // If the other node has dialled too, the peer may stay connected by that connection.
        let outbound = peer.direction() == Direction::Outbound && !connection.is_retired();
        let change = if outbound {
            Change::Connected
        } else {
            Change::Already
        };
        self.told(&seed, &change, itself);
        self.call_dial_hooks(&ended(Ok(peer.clone())));
        self.run(connection, {
            let runtime = Arc::clone(&self);
            async move {
                let change = lost(&peer, &peer.closed().await);
                let itself = guard.itself();
                runtime.told(&seed, &change, itself);
            }
        });
    }

    /// Tells the plan, and reports that this node itself was met. Returns whether a failure is to
    /// be reported.
    fn told(&self, seed: &Seed, change: &Change, itself: Option<Error>) -> bool {
        let (itself, failed) = self.dialer().tell(seed, change, itself);
        if let Some(itself) = itself {
            self.peers().node().error(None, itself);
        }
        failed
    }

    fn call_dial_hooks(&self, dial: &Dial) {
        let node = self.peers().node();
        for hook in &node.hooks().dial {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| hook(dial))) {
                node.error(None, Error::dial_hook(&*panic));
            }
        }
    }
}

/// Returns what the end of the connection to a peer means for its address.
fn lost(peer: &Peer, reason: &DisconnectReason) -> Change {
    match peer.node().banned_peer(peer) {
        Some(left) => Change::Banned(left),
        None if reason.is_busy() => Change::Later(None),
        None => Change::Lost,
    }
}
