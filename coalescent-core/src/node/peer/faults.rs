//! What is held against a peer.

use tokio::time::Instant;

use super::{Peer, lock};
use crate::error::Error;
use crate::reason::DisconnectReason;

impl Peer {
    /// Holds a fault against this peer, and reports it as an error event with `why`.
    ///
    /// A peer whose faults within a minute weigh more than
    /// [`Config::error_budget`](crate::Config::error_budget) (default: 100) is disconnected, and
    /// told the last `why`. An [offence](Error::offence) in its frames has the weight 1. Use it for
    /// what the peer itself has done and no version of the program would do, not for what it may
    /// have passed on in good faith.
    pub fn penalize(&self, weight: u32, why: impl Into<String>) {
        let why = why.into();
        if !self.is_connected() {
            return;
        }
        self.0.node.error(Some(self), Error::penalty(weight, &why));
        if self.spend(weight, Instant::now()) {
            let links = self.links().usable.clone();
            for link in links {
                link.reject(DisconnectReason::Penalized(why.clone()));
            }
        }
    }

    /// Spends `weight` of the error budget. Returns whether it is used up.
    pub(crate) fn spend(&self, weight: u32, now: Instant) -> bool {
        let mut budget = lock(&self.0.budget);
        budget.spend(weight, now);
        budget.exhausted()
    }
}
