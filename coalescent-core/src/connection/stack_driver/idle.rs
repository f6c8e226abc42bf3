//! The driver of an idle connection, and the changes between idle and busy.

use std::sync::{Arc, Weak};

use super::ahead::requests_ahead;
use super::backlog::Backlog;
use super::calls::Calls;
use super::results::Results;
use super::shortcut::Shortcut;
use super::{Frames, StackDriver, State};
use crate::frame::in_flight::InFlight;
use crate::node::peer::Peer;
use crate::node::peer::handle::LinkId;
use crate::stack::PeerService;
use crate::stack::inbox::Queue;

/// The state of a stack driver that lasts as long as the connection.
#[derive(Debug)]
pub(super) struct Base<S> {
    pub(super) id: LinkId,
    pub(super) stack: S,
    read_side: Arc<Queue>,
    /// The number of the last frame that the stack was called with.
    pub(super) seq: u64,
}

/// State kept while a connection is idle.
///
/// Everything that can be rebuilt is dropped, because most connections are idle most of the time.
#[derive(Debug)]
pub(in crate::connection) struct IdleDriver<S> {
    base: Base<S>,
    /// Whether frames of this connection were ever relayed.
    relayed: bool,
    /// What frames from before the idle period still share, if any are alive; new frames share it
    /// too.
    in_flight: Option<Weak<InFlight>>,
}

impl<S> IdleDriver<S> {
    /// Returns a driver for the connection `id` to `peer`.
    pub(in crate::connection) fn new(id: LinkId, peer: &Peer, stack: S) -> Self {
        Self {
            base: Base {
                id,
                stack,
                read_side: Queue::of(peer.node()),
                seq: 0,
            },
            relayed: false,
            in_flight: None,
        }
    }
}

impl<S: PeerService> IdleDriver<S> {
    /// Builds the state that frames need. The connection's writer must be polled each time after
    /// the driver was.
    pub(in crate::connection) fn wake(self, peer: &Peer) -> StackDriver<S> {
        let Self {
            base,
            relayed,
            in_flight,
        } = self;
        let in_flight = in_flight
            .and_then(|in_flight| in_flight.upgrade())
            .unwrap_or_else(|| {
                let concurrency = peer.node().config().concurrency;
                Arc::new(InFlight::new(peer.clone(), concurrency))
            });
        // The other half is left to frames that wait, so that control frames and replies can be
        // read while calls hold all that they may.
        let limit = peer.node().config().read_ahead / 2;
        let requests = requests_ahead(peer.node().config().max_frame);
        StackDriver {
            calls_rest: false,
            replies_wait: false,
            state: State::Calling,
            shortcut: Shortcut::of::<S>(peer),
            frames: Frames {
                backlog: Backlog::default(),
                calls: Calls::new(in_flight.slots(), limit, requests),
                results: Results::new(Arc::clone(&base.read_side), relayed),
                in_flight,
            },
            base,
        }
    }
}

impl<S: PeerService> StackDriver<S> {
    /// Returns whether nothing is in hand, so that [`fall_asleep`](Self::fall_asleep) loses
    /// nothing.
    pub(in crate::connection) fn can_sleep(&self) -> bool {
        matches!(self.state, State::Calling) && self.is_idle()
    }

    /// Drops all that can be rebuilt.
    pub(in crate::connection) fn fall_asleep(self) -> IdleDriver<S> {
        let in_flight = &self.frames.in_flight;
        IdleDriver {
            relayed: self.frames.results.relays.is_used(),
            in_flight: (Arc::strong_count(in_flight) > 1).then(|| Arc::downgrade(in_flight)),
            base: self.base,
        }
    }
}
