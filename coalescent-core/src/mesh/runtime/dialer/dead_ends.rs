//! The addresses at which no peer was found lately.
//!
//! This module only decides: it has no socket, and is told the time.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

/// How long an address at which no peer was found is tried last: 1 min.
pub(crate) const DEAD_END_FOR: Duration = Duration::from_secs(60);

/// How many such addresses are remembered. The oldest is evicted.
const DEAD_ENDS_MAX: usize = 256;

/// Addresses that accepted a connection and were no peer: this node itself, an echo, or something
/// that does not speak the wire. The next dial of a name tries them last.
///
/// The name itself is not judged by them: it may resolve to other addresses the next time, and a
/// peer may have moved to these.
#[derive(Debug, Default)]
pub(crate) struct DeadEnds(VecDeque<(SocketAddr, Instant)>);

impl DeadEnds {
    /// Records that no peer was found at `addr`.
    pub(crate) fn insert(&mut self, addr: SocketAddr, now: Instant) {
        self.remove(addr);
        if self.0.len() >= DEAD_ENDS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((addr, now));
    }

    /// Whether no peer was found at `addr` within the last [`DEAD_END_FOR`].
    pub(crate) fn contains(&self, addr: SocketAddr, now: Instant) -> bool {
        self.0
            .iter()
            .any(|(at, since)| *at == addr && now.saturating_duration_since(*since) < DEAD_END_FOR)
    }

    /// Forgets `addr`, at which a peer was found.
    pub(crate) fn remove(&mut self, addr: SocketAddr) {
        self.0.retain(|(at, _)| *at != addr);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_dead_end_for_a_minute_and_only_so_many_are_remembered() {
        let addr = |port| SocketAddr::from(([10, 0, 0, 1], port));
        let now = Instant::now();
        let mut dead_ends = DeadEnds::default();
        assert!(!dead_ends.contains(addr(1), now));
        dead_ends.insert(addr(1), now);
        dead_ends.insert(addr(2), now);
        assert!(dead_ends.contains(addr(1), now + DEAD_END_FOR - Duration::from_nanos(1)));
        assert!(!dead_ends.contains(addr(1), now + DEAD_END_FOR));
        dead_ends.remove(addr(2));
        assert!(!dead_ends.contains(addr(2), now));
        for port in 0..10_000 {
            dead_ends.insert(addr(port), now);
        }
        assert_eq!(dead_ends.0.len(), DEAD_ENDS_MAX);
        assert!(dead_ends.contains(addr(9_999), now) && !dead_ends.contains(addr(1), now));
    }
}
