//! What the relay does when the verdict about a frame is there.

use std::sync::Arc;

use coalescent_core::Verdict;

use super::shared::{Identity, Neighbour};
use crate::deferred::Settle;

/// What the peers that have sent copies are told.
const REJECTED: &str = "a copy of a frame that was rejected";

/// What a relay does about the verdict on a frame that was new.
#[derive(Debug)]
pub(super) struct OpenVerdict {
    neighbour: Arc<Neighbour>,
    /// `None` if the frame can have no copies.
    identity: Option<Identity>,
    /// Whether it is among the open verdicts.
    listed: bool,
}

impl OpenVerdict {
    pub(super) fn new(neighbour: Arc<Neighbour>, identity: Option<Identity>) -> Self {
        Self {
            neighbour,
            identity,
            listed: false,
        }
    }
}

impl Settle for OpenVerdict {
    fn wait(&mut self) {
        if let (Some(identity), false) = (self.identity, self.listed) {
            self.listed = true;
            self.neighbour.begin_verdict(identity);
        }
    }

    fn settle(&mut self, verdict: Verdict) {
        let Some(identity) = self.identity else {
            return;
        };
        if verdict == Verdict::Retry {
            self.neighbour.forget(identity);
        }
        if self.listed {
            let copies = self.neighbour.end_verdict(identity);
            if let Verdict::Reject(weight) = verdict {
                for peer in copies {
                    peer.penalize(weight, REJECTED);
                }
            }
        }
    }
}
