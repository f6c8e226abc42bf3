//! The size of a batch, and the buffers that its runs are coalesced in, kept to be used again.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};

use crate::outbox::COALESCE_MAX;

/// About how many bytes of payloads are coalesced before the peers get the first of them.
pub const BATCH: usize = 64 * 1024;

/// What each payload counts for in a [`BATCH`] in addition to its bytes: about the size of its
/// framing.
pub const PAYLOAD_COST: usize = 16;

/// How many buffers each node keeps.
pub(crate) const KEPT_RUNS: usize = 8;

/// The size of a buffer: a batch, and what its last payload may exceed it by.
pub(crate) const RUN_BYTES: usize = BATCH + COALESCE_MAX + 2 * PAYLOAD_COST;

/// The buffers of the last runs of a node, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct RunBuffers(Mutex<VecDeque<Bytes>>);

impl RunBuffers {
    fn kept(&self) -> MutexGuard<'_, VecDeque<Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns an empty buffer: a kept one that has been written to all peers, or a new one.
    pub(super) fn take(&self) -> BytesMut {
        let unused = {
            let mut kept = self.kept();
            let at = kept.iter().position(Bytes::is_unique);
            at.and_then(|at| kept.remove(at))
        };
        match unused.and_then(|unused| unused.try_into_mut().ok()) {
            Some(mut buffer) if buffer.capacity() >= RUN_BYTES => {
                buffer.clear();
                buffer
            }
            _ => BytesMut::with_capacity(RUN_BYTES),
        }
    }

    /// Keeps the buffer of a run, to be used again once nobody else holds it.
    pub(super) fn keep(&self, run: Bytes) {
        let mut kept = self.kept();
        if kept.len() == KEPT_RUNS {
            kept.pop_front();
        }
        kept.push_back(run);
    }
}
