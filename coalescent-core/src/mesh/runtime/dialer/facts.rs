//! What was found at addresses, each for a while: decisions only.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

/// How long an address at which no peer was found is tried after the others of its name.
pub(crate) const FACT_FOR: Duration = Duration::from_secs(60);

/// How many such addresses are remembered; the oldest goes first.
const FACTS: usize = 256;

/// Addresses that took a connection and were no peer: this node itself, an echo, somebody who does
/// not speak the wire. The next dial of a name tries them last. A name is never judged by them: it
/// may stand for other addresses the next time, and somebody else may be at these.
#[derive(Debug, Default)]
pub(crate) struct Facts(VecDeque<(SocketAddr, Instant)>);

impl Facts {
    /// Notes that no peer was found at `addr`.
    pub(crate) fn note(&mut self, addr: SocketAddr, now: Instant) {
        self.forget(addr);
        if self.0.len() >= FACTS {
            self.0.pop_front();
        }
        self.0.push_back((addr, now));
    }

    /// Whether no peer was found at `addr` a while ago.
    pub(crate) fn recall(&self, addr: SocketAddr, now: Instant) -> bool {
        let mut facts = self.0.iter();
        facts.any(|(at, since)| *at == addr && now.saturating_duration_since(*since) < FACT_FOR)
    }

    /// Forgets what was noted of `addr`.
    pub(crate) fn forget(&mut self, addr: SocketAddr) {
        self.0.retain(|(at, _)| *at != addr);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_counts_for_a_while() {
        let addr = |port| SocketAddr::from(([10, 0, 0, 1], port));
        let now = Instant::now();
        let mut facts = Facts::default();
        assert!(!facts.recall(addr(1), now));
        facts.note(addr(1), now);
        facts.note(addr(2), now);
        assert!(facts.recall(addr(1), now + FACT_FOR - Duration::from_nanos(1)));
        assert!(!facts.recall(addr(1), now + FACT_FOR));
        facts.forget(addr(2));
        assert!(!facts.recall(addr(2), now));
        for port in 0..10_000 {
            facts.note(addr(port), now);
        }
        assert_eq!(facts.0.len(), FACTS);
        assert!(facts.recall(addr(9_999), now) && !facts.recall(addr(1), now));
    }
}
