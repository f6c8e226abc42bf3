//! From a contact to a peer.

use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

use super::Peer;
use super::seat::Role;
use crate::node::hooks::BoxFuture;

/// Only channels are shared with it.
const CONTACT: u8 = 0;
/// It is a peer, and its connect hooks have not begun.
const JOINED: u8 = 1;
/// It is a peer, and its connect hooks have begun.
const BEGUN: u8 = 2;

/// How far a peer has come. It only goes on, never back.
#[derive(Debug)]
pub(super) struct Stage(AtomicU8);

impl Stage {
    pub(super) fn new(role: Role) -> Self {
        Self(AtomicU8::new(match role {
            Role::Contact => CONTACT,
            Role::Peer => JOINED,
        }))
    }
}

impl Peer {
    /// Returns whether this is only a contact: its plugins and those of this node talk on
    /// [channels](crate::Registrar::channel), and nothing else passes between them. It is not among
    /// the [peers](crate::Mesh::peers), no event tells of it, and no broadcast goes to it.
    ///
    /// See [`Registrar::contacts`](crate::Registrar::contacts) for how connections begin as
    /// contacts, and [`promote`](Peer::promote) for how they become peers. A contact that has ended
    /// stays one.
    #[must_use]
    pub fn is_contact(&self) -> bool {
        self.0.stage.0.load(Acquire) == CONTACT
    }

    pub(crate) fn role(&self) -> Role {
        if self.is_contact() {
            Role::Contact
        } else {
            Role::Peer
        }
    }

    /// Makes a peer of a contact. Only the node does that, in step with its roster.
    pub(in crate::node) fn set_joined(&self) {
        self.0.stage.0.store(JOINED, Release);
    }

    /// Returns whether this is a peer whose connect hooks have begun.
    #[inline]
    pub(crate) fn has_begun(&self) -> bool {
        self.0.stage.0.load(Acquire) == BEGUN
    }

    /// Begins the stay of a peer, the first time that this is called. Returns the connect hooks
    /// then, if there are any: no frame is to be handled before they are done.
    pub(crate) fn begin(&self) -> Option<BoxFuture> {
        let first = (self.0.stage.0).compare_exchange(JOINED, BEGUN, AcqRel, Acquire);
        if first.is_err() || self.node().hooks().connect.is_empty() {
            return None;
        }
        let node = Arc::clone(self.node());
        let peer = self.clone();
        Some(Box::pin(async move {
            for hook in &node.hooks().connect {
                hook(peer.clone()).await;
            }
        }))
    }
}
