//! What derived frames share, and how they reach their connection; see [`derive`](super::derive).

use std::sync::atomic::AtomicBool;

use bytes::Bytes;

use crate::outbox::Flow;
use crate::wire::Kind;

/// What a derived frame shares with its clones.
#[derive(Debug, Default)]
pub(super) struct Derived {
    /// Whether it is relayed.
    pub(super) relayed: AtomicBool,
    /// Whether a relay has decided about it, so that it counts as received.
    pub(super) counted: AtomicBool,
}

/// A derived frame that is to be relayed together with the frames around it.
#[derive(Debug)]
pub(crate) struct DerivedRelay {
    pub(crate) kind: Kind,
    pub(crate) ttl: u8,
    pub(crate) payload: Bytes,
    pub(crate) flow: Flow,
}
