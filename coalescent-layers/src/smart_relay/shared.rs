//! What all the services of one relay share: the set of what this node has seen.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coalescent_core::Frame;
use coalescent_core::wire::Kind;
use tokio::time::Instant;

use super::seen::{Hasher, Limits, Seen, Source, Verdict};

/// For how many milliseconds after a copy its connection is expected to bring more.
const COPIES_EXPECTED: u64 = 120_000;

/// What one node has seen, whoever it came from.
#[derive(Debug)]
pub(super) struct Shared {
    hasher: Hasher,
    seen: Mutex<Seen>,
}

impl Shared {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            hasher: Hasher::random(),
            seen: Mutex::new(Seen::new(limits)),
        }
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what this node itself says.
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

/// One connection's part in the set. Its clones are the same connection.
#[derive(Debug)]
pub(super) struct Neighbour {
    shared: Arc<Shared>,
    source: Source,
    /// When it brought a copy last, in milliseconds after `since`, plus 1; 0 if it has never.
    copied: AtomicU64,
    since: Instant,
    /// Whether there was no room for another frame of this connection.
    full: AtomicBool,
    /// Whether it has waited for that in vain.
    vain: AtomicBool,
}

impl Neighbour {
    pub(super) fn new(shared: &Arc<Shared>) -> Arc<Self> {
        let since = Instant::now();
        let source = shared.seen().open(since);
        Arc::new(Self {
            shared: Arc::clone(shared),
            source,
            copied: AtomicU64::new(0),
            since,
            full: AtomicBool::new(false),
            vain: AtomicBool::new(false),
        })
    }

    /// Says what is to become of a frame that this connection brought. Asking makes it seen.
    #[inline]
    pub(super) fn judge(&self, frame: &Frame) -> Verdict {
        let nonce = match frame.kind() {
            Kind::Broadcast { nonce } => Some(nonce),
            Kind::Plain => None,
            // Sent to this node alone, which happens once however often the bytes are the same.
            _ => return Verdict::New,
        };
        // Hashed before the lock is taken: the other peers' connections wait for it.
        let identity = self.shared.hasher.identity(nonce, frame.payload());
        // The clock was read once for all that arrived with it.
        let now = frame.arrived();
        let mut seen = self.shared.seen();
        let verdict = seen.insert(self.source, nonce, identity, now);
        if nonce.is_none() && matches!(verdict, Verdict::New | Verdict::Last) {
            seen.carry(frame.payload().len(), now);
        }
        drop(seen);
        match verdict {
            Verdict::New => {
                if self.vain.load(Relaxed) {
                    self.vain.store(false, Relaxed);
                }
            }
            Verdict::Copy => self.copied.store(self.millis(now).max(1), Relaxed),
            Verdict::Last | Verdict::Refused => self.full.store(true, Relaxed),
        }
        verdict
    }

    /// Whether the frames of this connection should wait, since the next would be refused.
    ///
    /// Only those of a connection that brings no copies, as who only publishes: copies that wait
    /// come later, and the later they come, the longer all must be remembered.
    #[inline]
    pub(super) fn must_wait(&self) -> bool {
        self.full.load(Relaxed) && self.is_full()
    }

    #[cold]
    fn is_full(&self) -> bool {
        let now = Instant::now();
        let copied = self.copied.load(Relaxed);
        if self.vain.load(Relaxed) {
            return false;
        }
        if copied > 0 && self.millis(now).saturating_sub(copied) < COPIES_EXPECTED {
            return false;
        }
        let full = !self.shared.seen().has_room(self.source, now);
        self.full.store(full, Relaxed);
        full
    }

    /// Waits no more until there was room again.
    pub(super) fn gave_up(&self) {
        self.vain.store(true, Relaxed);
    }

    fn millis(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.since);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.shared.seen().close(self.source, Instant::now());
    }
}
