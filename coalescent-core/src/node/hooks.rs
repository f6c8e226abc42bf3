//! Hooks: what plugins run when peers connect and disconnect, when this node broadcasts, and when a
//! dial has ended.

use std::any::TypeId;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use bytes::Bytes;

use crate::error::Error;
use crate::node::peer::Peer;
use crate::node::suggestion::Source;
use crate::outbox::Flow;
use crate::transport::address::Address;

pub(crate) type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;
type PeerHook = Box<dyn Fn(Peer) -> BoxFuture + Send + Sync>;
type BroadcastHook = Box<dyn Fn(Option<u64>, &Bytes) + Send + Sync>;
type DialHook = Box<dyn Fn(&Dial) + Send + Sync>;

/// The hooks of a node's plugins, and what its stack is known to do.
#[derive(Default)]
pub(crate) struct Hooks {
    /// Run when a peer has connected.
    pub(crate) connect: Vec<PeerHook>,
    /// Run when a peer has disconnected.
    pub(crate) disconnect: Vec<PeerHook>,
    /// Called with the nonce, if any, and the payload of each frame that this node sends to all.
    pub(crate) broadcast: Vec<BroadcastHook>,
    /// Called with each dial of a seed or of a suggested address, when it has ended.
    pub(crate) dial: Vec<DialHook>,
    /// Whether frames from peers are relayed.
    pub(crate) relays: bool,
    /// The type of a stack that only relays, and the flow it relays with.
    pub(crate) relays_all: Option<(TypeId, Flow)>,
}

/// A dial that has ended, for [`Registrar::on_dial`](crate::Registrar::on_dial).
#[derive(Debug)]
pub struct Dial {
    pub(crate) address: Address,
    pub(crate) source: Source,
    pub(crate) socket_addr: Option<SocketAddr>,
    pub(crate) result: Result<Peer, Error>,
}

impl Dial {
    /// Returns the address that was dialled.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Returns where the address comes from: [`Source::SEED`] if it is a seed, else the source that
    /// suggested it first.
    #[must_use]
    pub const fn source(&self) -> Source {
        self.source
    }

    /// Returns the socket address to which a connection was opened, whatever became of it; `None`
    /// if no connection was opened. Of several, it is the last.
    #[must_use]
    pub const fn socket_addr(&self) -> Option<SocketAddr> {
        self.socket_addr
    }

    /// Returns the peer at the other end: one that this dial has connected, or one that was
    /// connected already.
    ///
    /// # Errors
    ///
    /// - [`is_itself`](Error::is_itself) if only this node itself is there.
    /// - [`is_busy`](Error::is_busy) if the peer has no place for now.
    /// - [`is_refused`](Error::is_refused) if either side refused the other. On wires without node
    ///   numbers it also means that another connection leads to the address already.
    /// - [`is_dial`](Error::is_dial), [`is_timeout`](Error::is_timeout) or
    ///   [`is_handshake`](Error::is_handshake) if no peer answers there.
    pub const fn result(&self) -> Result<&Peer, &Error> {
        self.result.as_ref()
    }
}
