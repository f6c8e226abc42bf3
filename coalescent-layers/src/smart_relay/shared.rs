//! The state that all services of one relay share: the set of frames that this node has seen.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coalescent_core::wire::Kind;
use coalescent_core::{Frame, Peer};
use tokio::time::Instant;

use super::open::OpenVerdicts;
use super::seen::{Hasher, Limits, Novelty, Seen, Source};

/// How long after a copy its connection is expected to deliver further copies, in milliseconds.
const COPIES_EXPECTED: u64 = 120_000;

/// The set of frames that one node has seen, from all connections.
#[derive(Debug)]
pub(super) struct Shared {
    hasher: Hasher,
    seen: Mutex<Seen>,
    open: Mutex<OpenVerdicts<Peer>>,
}

impl Shared {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            hasher: Hasher::random(),
            seen: Mutex::new(Seen::new(limits)),
            open: Mutex::new(OpenVerdicts::default()),
        }
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self) -> MutexGuard<'_, OpenVerdicts<Peer>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a frame that this node itself sends.
    pub(super) fn said(&self, nonce: Option<u64>, payload: &[u8]) {
        let identity = self.hasher.identity(nonce, payload);
        let now = Instant::now();
        let mut seen = self.seen();
        let _ = seen.insert(Source::NODE, nonce, identity, now);
        if nonce.is_none() {
            seen.carry(payload.len(), now);
        }
    }
}

/// What identifies a frame that may have copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    nonce: Option<u64>,
    hash: u128,
    at: Instant,
}

/// One connection's handle to the set. Clones of its service share it.
#[derive(Debug)]
pub(super) struct Neighbour {
    shared: Arc<Shared>,
    source: Source,
    /// Time of the connection's last copy, in milliseconds after `opened`, at least 1; 0 if there
    /// was none.
    last_copy: AtomicU64,
    opened: Instant,
    /// Set if the set had no room for another frame of this connection.
    full: AtomicBool,
    /// Set if the connection waited for room and gave up; cleared by the next frame that fits.
    gave_up: AtomicBool,
}

impl Neighbour {
    pub(super) fn new(shared: &Arc<Shared>) -> Arc<Self> {
        let opened = Instant::now();
        let source = shared.seen().open(opened);
        Arc::new(Self {
            shared: Arc::clone(shared),
            source,
            last_copy: AtomicU64::new(0),
            opened,
            full: AtomicBool::new(false),
            gave_up: AtomicBool::new(false),
        })
    }

    /// Decides about a frame that this connection delivered, and adds it to the set. Returns what
    /// identifies the frame, if it may have copies.
    #[inline]
    pub(super) fn judge(&self, frame: &Frame) -> (Novelty, Option<Identity>) {
        let nonce = match frame.kind() {
            Kind::Broadcast { nonce } => Some(nonce),
            Kind::Plain => None,
            // Sent to this node only: each one is new, even if its bytes repeat.
            _ => return (Novelty::New, None),
        };
        // Hash before taking the lock, which all connections share.
        let hash = self.shared.hasher.identity(nonce, frame.payload());
        // The clock is read once per read batch.
        let now = frame.arrived();
        let mut seen = self.shared.seen();
        let novelty = seen.insert(self.source, nonce, hash, now);
        if nonce.is_none() && matches!(novelty, Novelty::New | Novelty::Last) {
            seen.carry(frame.payload().len(), now);
        }
        drop(seen);
        match novelty {
            Novelty::New => {
                if self.gave_up.load(Relaxed) {
                    self.gave_up.store(false, Relaxed);
                }
            }
            Novelty::Copy => self.last_copy.store(self.millis(now).max(1), Relaxed),
            Novelty::Last | Novelty::Refused => self.full.store(true, Relaxed),
        }
        (
            novelty,
            Some(Identity {
                nonce,
                hash,
                at: now,
            }),
        )
    }

    /// Forgets a frame that this connection delivered, so that the next copy is new.
    pub(super) fn forget(&self, identity: Identity) {
        let Identity { nonce, hash, at } = identity;
        let age = Instant::now().saturating_duration_since(at);
        self.shared.seen().forget(nonce, hash, age);
    }

    /// Notes that the verdict about a frame that this connection delivered is open.
    pub(super) fn begin_verdict(&self, identity: Identity) {
        self.shared
            .open()
            .begin(identity.hash, self.source.serial());
    }

    /// Notes that the verdict is there. Returns the peers that have sent copies meanwhile.
    pub(super) fn end_verdict(&self, identity: Identity) -> Vec<Peer> {
        self.shared.open().end(identity.hash, self.source.serial())
    }

    /// Notes that this connection has delivered a copy.
    #[inline]
    pub(super) fn copied(&self, identity: Option<Identity>, peer: &Peer) {
        let Some(identity) = identity else { return };
        let serial = self.source.serial();
        self.shared.open().copy(identity.hash, serial, peer);
    }

    /// Returns whether this connection should stop reading because its next frame would be refused.
    ///
    /// Only a connection that delivers no copies, such as a pure publisher, waits. Delaying copies
    /// would make every frame have to be remembered for longer.
    #[inline]
    pub(super) fn must_wait(&self) -> bool {
        self.full.load(Relaxed) && self.is_full()
    }

    #[cold]
    fn is_full(&self) -> bool {
        let now = Instant::now();
        let last_copy = self.last_copy.load(Relaxed);
        if self.gave_up.load(Relaxed) {
            return false;
        }
        if last_copy > 0 && self.millis(now).saturating_sub(last_copy) < COPIES_EXPECTED {
            return false;
        }
        let full = !self.shared.seen().has_room(self.source, now);
        self.full.store(full, Relaxed);
        full
    }

    /// Stops waiting until a frame has fitted again.
    pub(super) fn gave_up(&self) {
        self.gave_up.store(true, Relaxed);
    }

    fn millis(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.opened);
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.shared.seen().close(self.source, Instant::now());
    }
}
