//! What all the services of one relay share: the set of what this node has seen.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coalescent_core::{Frame, wire::Kind};
use tokio::time::Instant;

use super::seen::{Hasher, Limits, Seen, Source, Verdict};

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
        let _ = self
            .seen()
            .insert(Source::NODE, nonce, identity, Instant::now());
    }
}

/// One connection's part in the set. Its clones are the same connection.
#[derive(Debug)]
pub(super) struct Neighbour {
    shared: Arc<Shared>,
    source: Source,
}

impl Neighbour {
    pub(super) fn new(shared: &Arc<Shared>) -> Arc<Self> {
        let source = shared.seen().open(Instant::now());
        Arc::new(Self {
            shared: Arc::clone(shared),
            source,
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
        self.shared
            .seen()
            .insert(self.source, nonce, identity, now)
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.shared.seen().close(self.source, Instant::now());
    }
}
