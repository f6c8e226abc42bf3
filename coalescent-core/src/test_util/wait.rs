//! Waiting in tests: the deadline, and until all frames have arrived.

use std::time::Duration;

use crate::node::Peers;
use crate::stats::Stats;

/// How long a recorder waits for an expected frame. Only failing tests take this long.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until the counters of these nodes stop changing.
pub(super) async fn settle<'a>(nodes: impl Iterator<Item = &'a Peers>) {
    let nodes: Vec<_> = nodes.collect();
    let sum = || {
        let stats = nodes.iter().map(|peers| peers.stats());
        stats.fold(Stats::default(), |sum, stats| sum + stats)
    };
    let mut before = sum();
    loop {
        for peers in &nodes {
            peers.flushed().await;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        let now = sum();
        if now == before {
            return;
        }
        before = now;
    }
}
