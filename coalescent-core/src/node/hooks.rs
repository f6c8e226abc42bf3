//! What plugins have run when peers come and go, and when this node speaks.

use std::any::TypeId;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

use crate::node::peer::Peer;
use crate::outbox::Flow;

pub(crate) type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;
type PeerHook = Box<dyn Fn(Peer) -> BoxFuture + Send + Sync>;
type BroadcastHook = Box<dyn Fn(Option<u64>, &Bytes) + Send + Sync>;

/// What runs when peers come and go, and when this node speaks.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) connect: Vec<PeerHook>,
    pub(crate) disconnect: Vec<PeerHook>,
    pub(crate) broadcast: Vec<BroadcastHook>,
    /// Whether what peers say is relayed.
    pub(crate) relays: bool,
    /// The type of a stack that only relays, and how.
    pub(crate) relays_all: Option<(TypeId, Flow)>,
}
