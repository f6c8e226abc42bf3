//! A newcomer's place behind the peer that it claims to be.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::token::{Token, goes_back};
use crate::node::peer::Endpoint;
use crate::node::peer::handle::ConnectionHandle;
use crate::signal::Signal;
use crate::wire::NodeId;

/// How a newcomer's connection became one of its peer's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// It takes over, and the peer's other connection ends.
    TakesOver,
    /// The peer stays connected by the other connection; this one continues when that ends.
    Beside,
    /// The peer stays connected by the other connection; this one ends.
    Yields,
}

/// A newcomer that stands by, and the peer that it claims to be.
#[derive(Debug)]
pub(crate) struct Place {
    /// The number of the connected peer.
    pub(super) serial: u64,
    /// The newcomer's connection.
    pub(super) link: Arc<ConnectionHandle>,
    /// The newcomer's node id, as it says.
    pub(super) node_id: Option<NodeId>,
    /// Whether the newcomer claims to be the very process that the peer is.
    pub(super) same_run: bool,
    pub(super) origin: Endpoint,
    /// The token that is sent to the newcomer.
    pub(super) token: Token,
    pub(super) since: Instant,
    /// Whether the other node may still prefer the newcomer to the old connection.
    pub(super) hopeful: bool,
    pub(super) progress: Mutex<Progress>,
    /// Wakes the newcomer's connection when `progress` has changed.
    pub(super) changed: Signal,
}

/// What has happened since a newcomer began to stand by.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The old connection has answered.
    pub(super) answered: bool,
    /// The newcomer's token has come back on the old connection.
    pub(super) proven: bool,
    /// A token of the other node has been repeated.
    pub(super) mutual: bool,
    /// The old connection has ended.
    pub(super) free: bool,
    /// The newcomer has become a connection of the peer.
    pub(super) joined: Option<How>,
}

impl Place {
    pub(super) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the progress, and wakes the newcomer's connection.
    pub(super) fn change(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress());
        self.changed.raise();
    }

    /// Sends the newcomer a token of the other node, if it may be meant for it.
    pub(super) fn repeat(&self, token: Token) {
        if goes_back(token, self.link.direction()) && self.same_run {
            self.link.repeat(token);
            self.change(|progress| progress.mutual = true);
        }
    }

    /// Returns the number of the peer that the newcomer claims to be.
    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }
}
