//! A payload between its arrival and its verdict.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::AcqRel;

use coalescent_core::{Peer, Verdict};

use super::forward::{Late, ToSend};
use super::payload::{Content, MAX_HOPS};
use super::state::{State, add};
use crate::overlay::ids::Key;
use crate::overlay::node::Shared;

/// What a peer is told that has sent a copy of a payload that was rejected.
const REJECTED: &str = "a copy of a payload that was rejected";

/// On a frame that was handed in: the payload that it carries, which waits for a verdict.
#[derive(Clone, Debug)]
pub(crate) struct Handed(pub(super) Arc<Waiting>);

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) shared: Shared,
    pub(super) state: Arc<State>,
    pub(super) from: Peer,
    pub(super) id: Key,
    pub(super) content: Content,
    pub(super) hops: u16,
    pub(super) settled: AtomicBool,
}

impl Handed {
    /// Passes the payload on, or not, as the verdict says. The first verdict stands. Returns what
    /// waits for room at some neighbours.
    pub(super) fn settle(&self, verdict: Verdict) -> Option<Late> {
        self.0.settle(verdict)
    }
}

impl Waiting {
    fn settle(&self, verdict: Verdict) -> Option<Late> {
        if self.settled.swap(true, AcqRel) {
            return None;
        }
        let state = &*self.state;
        let copies = state.judged(&self.id, verdict == Verdict::Retry);
        if let Verdict::Reject(weight) = verdict {
            for peer in &copies {
                peer.penalize(weight, REJECTED);
            }
        }
        let to_send = if verdict == Verdict::Accept {
            self.pass_on(&copies)
        } else {
            add(&state.counts.withheld);
            None
        };
        if state.tree {
            for peer in &copies {
                self.shared.tree_copy(state.id, peer);
            }
        }
        to_send?.send(&self.state)?.without_slow()
    }

    /// Returns the message that is passed on, and to whom: to all neighbours that have not sent it,
    /// or down the tree.
    fn pass_on(&self, copies: &[Peer]) -> Option<ToSend> {
        let hops = self.hops.checked_add(1).filter(|hops| *hops <= MAX_HOPS)?;
        let state = &*self.state;
        if state.tree {
            let shared = &self.shared;
            let mut to_send =
                shared.tree_pass(state.id, &self.from, &self.id, &self.content, hops)?;
            to_send.peers.retain(|peer| !copies.contains(peer));
            return Some(to_send);
        }
        let neighbours = state.neighbours();
        let is_new = |peer: &&Peer| **peer != self.from && !copies.contains(peer);
        let peers: Vec<_> = neighbours.iter().filter(is_new).cloned().collect();
        (!peers.is_empty()).then(|| ToSend {
            message: self.content.encode(state.id, &self.id, hops),
            peers,
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Its frame was lost before anybody has judged it: it may come another way.
        self.settle(Verdict::Retry);
    }
}
