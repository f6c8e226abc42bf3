//! How far a peer has come: from a contact to a peer.

use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

use super::seat::Role;

/// Only channels are shared with it.
const CONTACT: u8 = 0;
/// It is a peer, and its connect hooks have not begun.
const JOINED: u8 = 1;
/// It is a peer, and its connect hooks have begun.
const BEGUN: u8 = 2;

/// How far a peer has come. It only goes on, never back.
#[derive(Debug)]
pub(crate) struct Stage(AtomicU8);

impl Stage {
    pub(super) fn new(role: Role) -> Self {
        Self(AtomicU8::new(match role {
            Role::Contact => CONTACT,
            Role::Peer => JOINED,
        }))
    }

    #[inline]
    pub(crate) fn role(&self) -> Role {
        match self.0.load(Acquire) {
            CONTACT => Role::Contact,
            _ => Role::Peer,
        }
    }

    /// Makes a peer of a contact. Only the node does that, in step with its roster.
    pub(crate) fn join(&self) {
        self.0.store(JOINED, Release);
    }

    /// Returns whether this is a peer whose connect hooks have begun.
    #[inline]
    pub(crate) fn has_begun(&self) -> bool {
        self.0.load(Acquire) == BEGUN
    }

    /// Notes that the connect hooks of a peer begin. Returns false if this is none, or they have
    /// begun before.
    pub(crate) fn begin(&self) -> bool {
        let begun = self.0.compare_exchange(JOINED, BEGUN, AcqRel, Acquire);
        begun.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_becomes_a_peer_whose_hooks_begin_once() {
        let stage = Stage::new(Role::Contact);
        assert!(stage.role() == Role::Contact && !stage.begin() && !stage.has_begun());
        stage.join();
        assert!(stage.role() == Role::Peer && !stage.has_begun());
        assert!(stage.begin() && stage.has_begun() && !stage.begin());
        assert!(Stage::new(Role::Peer).begin());
    }
}
