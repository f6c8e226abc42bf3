//! The layer: its options, and the set that all its services share.

use std::sync::Arc;
use std::time::Duration;

use coalescent_core::{Flow, Plugin, Registrar, Relay};
use tower_layer::Layer;

use super::seen::Limits;
use super::service::SmartRelayService;
use super::shared::{Neighbour, Shared};

/// Relays each frame to all other peers the first time it comes, and keeps its copies from the
/// stack.
///
/// See the [module](super) for what is a copy of what.
///
/// Clones share the set of what was seen; so do all the services that it makes.
#[derive(Clone, Debug)]
#[must_use = "it relays nothing until it is added to an app, with `with`"]
pub struct SmartRelay {
    shared: Arc<Shared>,
    limits: Limits,
    direct: bool,
    after: bool,
}

impl Default for SmartRelay {
    fn default() -> Self {
        Self::new()
    }
}

impl SmartRelay {
    /// Makes a relay with an empty set, of all frames that are for every node.
    pub fn new() -> Self {
        let limits = Limits::default();
        Self {
            shared: Arc::new(Shared::new(limits)),
            limits,
            direct: false,
            after: false,
        }
    }

    /// Bounds the memory of the set: room for so many frames with a nonce, and for as many without,
    /// at [`FRAME_BYTES`](super::FRAME_BYTES) (32) each. Default: [`CAPACITY`](super::CAPACITY),
    /// 2,097,152, which is 64 MiB each.
    ///
    /// Frames of one publisher have consecutive nonces, and take 10 bytes each; a frame whose nonce
    /// is far from all others takes 320, and one without a nonce 56. One connection gets at most
    /// three quarters of the room.
    ///
    /// It should hold what a busy mesh says in the time that a copy takes on its longest way;
    /// [`SeenStats::refused`] tells when it does not. Starts an empty set, apart from that of
    /// clones made before.
    pub fn capacity(mut self, frames: usize) -> Self {
        self.limits.capacity = frames;
        self.renew()
    }

    /// Remembers a frame with a nonce for so long; at most 24 days. Default: [`TTL`](super::TTL),
    /// 120 s.
    ///
    /// Starts an empty set, apart from that of clones made before.
    pub fn window(mut self, window: Duration) -> Self {
        self.limits.ttl = window;
        self.renew()
    }

    /// Counts how often each peer says the same, on wires without nonces, until it was not said for
    /// so long; at most 24 days. Default: [`CONTENT_TTL`](super::CONTENT_TTL), 5 s.
    ///
    /// It is as long as [`window`](SmartRelay::window) while more than 4,096 frames without a nonce
    /// are remembered, and after so much was said that a link of 16 KiB a second, the slowest that
    /// nodes keep unless told otherwise, could not have carried it within this time, until it could
    /// have: copies come as late as that.
    ///
    /// Starts an empty set, apart from that of clones made before.
    pub fn content_window(mut self, window: Duration) -> Self {
        self.limits.content_ttl = window;
        self.renew()
    }

    /// Takes at most so many equal frames of one connection for new ones within the
    /// [`content_window`](SmartRelay::content_window), on wires without nonces; at least 1. What is
    /// above counts as copies, so that a circle among nodes that know no copies makes no storm.
    /// Default: [`REPEATS`](super::REPEATS), 64.
    ///
    /// Starts an empty set, apart from that of clones made before.
    pub fn repeats(mut self, frames: u8) -> Self {
        self.limits.repeats = frames;
        self.renew()
    }

    /// Passes on frames that were sent to this node alone too, as broadcasts of this node's own, as
    /// the original does. Default: false.
    pub fn direct(mut self, direct: bool) -> Self {
        self.direct = direct;
        self
    }

    /// Relays a frame only once the rest of the stack has answered it without an error, so that
    /// nobody passes on what it would not take.
    ///
    /// A frame then travels no faster than its handlers; while one is being handled, frames that
    /// come after it wait. Where a call fails, or is dropped, its frame is not relayed; and it has
    /// been seen, so that a copy is not tried again.
    pub fn relay_after(mut self) -> Self {
        self.after = true;
        self
    }

    /// Tells how full the set is.
    #[must_use]
    pub fn seen(&self) -> SeenStats {
        let seen = self.shared.seen();
        SeenStats {
            identities: seen.len(),
            evicted_young: seen.forgotten_young(),
            refused: seen.refused(),
            bytes: seen.bytes(),
        }
    }

    fn renew(mut self) -> Self {
        self.shared = Arc::new(Shared::new(self.limits));
        self
    }
}

impl Plugin for SmartRelay {
    fn register(&self, app: &mut Registrar) {
        app.relays();
        let shared = Arc::clone(&self.shared);
        app.on_broadcast(move |nonce, payload| {
            shared.said(nonce, payload);
        });
    }
}

impl<S> Layer<S> for SmartRelay {
    type Service = SmartRelayService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let relay = Relay {
            flow: Flow::Drop,
            direct: self.direct,
        };
        SmartRelayService::new(inner, Neighbour::new(&self.shared), relay, self.after)
    }
}

/// What a [`SmartRelay`] remembers at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenStats {
    /// How many frames are remembered, some of them perhaps longer than they need be.
    pub identities: usize,
    /// How many frames were forgotten before their time, since the set was full and no copy of any
    /// frame had come lately, as in a star. A peer could say each of them a second time.
    pub evicted_young: u64,
    /// How many frames were neither handled nor relayed, since there was no room to remember them.
    /// A number that grows calls for a larger [`capacity`](SmartRelay::capacity), or for limits on
    /// those who say so much.
    pub refused: u64,
    /// How many bytes of memory the set takes, about.
    pub bytes: usize,
}
