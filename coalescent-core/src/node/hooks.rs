//! Hooks: what plugins run when peers connect and disconnect, when this node broadcasts, and when
//! frames of their channels arrive.

use std::any::TypeId;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

use crate::node::channel::Channel;
use crate::node::peer::Peer;
use crate::outbox::Flow;

pub(crate) type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;
type PeerHook = Box<dyn Fn(Peer) -> BoxFuture + Send + Sync>;
type BroadcastHook = Box<dyn Fn(Option<u64>, &Bytes) + Send + Sync>;

/// The hooks of a node's plugins, and what its stack is known to do.
#[derive(Default)]
pub(crate) struct Hooks {
    /// Run when a peer has connected.
    pub(crate) connect: Vec<PeerHook>,
    /// Run when a peer has disconnected.
    pub(crate) disconnect: Vec<PeerHook>,
    /// Called with the nonce, if any, and the payload of each frame that this node sends to all.
    pub(crate) broadcast: Vec<BroadcastHook>,
    /// The channels, whose positions are their indexes in the HELLO of this node.
    pub(crate) channels: Vec<Channel>,
    /// Whether frames from peers are relayed.
    pub(crate) relays: bool,
    /// The type of a stack that only relays, and the flow it relays with.
    pub(crate) relays_all: Option<(TypeId, Flow)>,
}
