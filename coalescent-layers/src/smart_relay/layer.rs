//! The layer: its options, and the set that all its services share.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use coalescent_core::{Frame, Plugin, Registrar, wire::Kind};
use tokio::time::Instant;
use tower_layer::Layer;

use super::{
    seen::{CAPACITY, CONTENT_TTL, Class, Hasher, Seen, TTL},
    service::SmartRelayService,
};

/// Relays each frame to all other peers the first time it comes, and keeps its copies from the stack.
///
/// See the [module](super) for what is a copy of what.
///
/// Clones share the set of what was seen; so do all the services that it makes.
#[derive(Clone, Debug)]
#[must_use = "it relays nothing until it is added to an app, with `with`"]
pub struct SmartRelay {
    pub(super) shared: Arc<Shared>,
    capacity: usize,
    window: Duration,
    content_window: Duration,
    pub(super) direct: bool,
    pub(super) after: bool,
}

impl Default for SmartRelay {
    fn default() -> Self {
        Self::new()
    }
}

impl SmartRelay {
    /// Makes a relay with an empty set, of all frames that are for every node.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared::new(Seen::new(CAPACITY, TTL, CONTENT_TTL))),
            capacity: CAPACITY,
            window: TTL,
            content_window: CONTENT_TTL,
            direct: false,
            after: false,
        }
    }

    /// Remembers at most this many frames with a nonce, and as many without, at 28 bytes each; the oldest goes
    /// first. From 1 to 2^30. Default: [`CAPACITY`], 65,536.
    ///
    /// It should hold what a busy mesh says in the time that a copy takes on its longest way:
    /// [`SeenStats::evicted_young`] tells when it does not. Starts an empty set, apart from that of clones made before.
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self.renew()
    }

    /// Remembers a frame with a nonce for so long; at most 24 days. Default: [`TTL`], 120 s.
    ///
    /// Starts an empty set, apart from that of clones made before.
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self.renew()
    }

    /// Remembers a frame of a wire without nonces, which is known by its content alone, for so long; at most
    /// 24 days. Equal content within that time is a copy, after it is a new frame. Default: [`CONTENT_TTL`], 5 s.
    ///
    /// Starts an empty set, apart from that of clones made before.
    pub fn content_window(mut self, window: Duration) -> Self {
        self.content_window = window;
        self.renew()
    }

    /// Passes on frames that were sent to this node alone too, as broadcasts of this node's own, as the
    /// original does. Default: false.
    pub fn direct(mut self, direct: bool) -> Self {
        self.direct = direct;
        self
    }

    /// Relays a frame only once the rest of the stack has answered it without an error, so that nobody passes on
    /// what it would not take.
    ///
    /// A frame then travels no faster than its handlers; while one is being handled, frames that come after it
    /// wait. Where a call fails, or is dropped, its frame is not relayed; and it has been seen, so that
    /// a copy is not tried again.
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
            evicted_young: seen.evicted_young(),
            bytes: seen.bytes(),
        }
    }

    fn renew(mut self) -> Self {
        let seen = Seen::new(self.capacity, self.window, self.content_window);
        self.shared = Arc::new(Shared::new(seen));
        self
    }
}

impl Plugin for SmartRelay {
    fn register(&self, app: &mut Registrar) {
        let shared = Arc::clone(&self.shared);
        app.on_broadcast(move |nonce, payload| {
            shared.first(nonce, payload, Instant::now());
        });
    }
}

impl<S> Layer<S> for SmartRelay {
    type Service = SmartRelayService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SmartRelayService::new(inner, self.clone())
    }
}

/// What a [`SmartRelay`] remembers at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenStats {
    /// How many frames are remembered, some of them perhaps longer than they need be.
    pub identities: usize,
    /// How many frames were forgotten before their time, because the set was full. Each may let one copy
    /// through a second time: a number that grows calls for a larger [`capacity`](SmartRelay::capacity).
    pub evicted_young: u64,
    /// How many bytes of memory the set takes.
    pub bytes: usize,
}

/// What one node has seen, whoever it came from.
#[derive(Debug)]
pub(super) struct Shared {
    hasher: Hasher,
    seen: Mutex<Seen>,
}

impl Shared {
    fn new(seen: Seen) -> Self {
        Self {
            hasher: Hasher::random(),
            seen: Mutex::new(seen),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a frame, and says whether it is the first of its kind.
    fn first(&self, nonce: Option<u64>, payload: &[u8], now: Instant) -> bool {
        let class = match nonce {
            Some(_) => Class::Nonce,
            None => Class::Content,
        };
        // Hashed before the lock is taken: the other peers' connections wait for it.
        let identity = self.hasher.identity(nonce, payload);
        self.seen().insert(identity, class, now)
    }

    /// Whether a frame is a copy of one that was seen. Asking makes it seen.
    pub(super) fn is_duplicate(&self, frame: &Frame) -> bool {
        // The clock was read once for all that arrived with it.
        let now = frame.arrived();
        match frame.kind() {
            Kind::Broadcast { nonce } => !self.first(Some(nonce), frame.payload(), now),
            Kind::Plain => !self.first(None, frame.payload(), now),
            // Sent to this node alone, which happens once however often the bytes are the same.
            _ => false,
        }
    }
}
