//! Who gives way to a newcomer where all places are taken.
//!
//! This module only decides: it has no socket, and is told the time.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::transport::group::{Group, Groups};

/// A place that is taken.
#[derive(Debug)]
pub(super) struct Held<H> {
    /// The number of the connection.
    pub(super) id: u64,
    pub(super) groups: Groups,
    pub(super) since: Instant,
    /// Tells the connection that it is evicted.
    pub(super) handle: H,
}

/// Returns the index of the place to take from its holder for a newcomer of the group `newcomer`:
/// the oldest, in the order of arrival, of the group that holds most of them, or of all such
/// groups.
///
/// It is taken only if the newcomer's group will still hold fewer than that one, so that no group
/// can hold all places, or if it has been held for `grace`, so that many groups together cannot
/// hold them for long either.
pub(super) fn victim<H>(
    held: &[Held<H>],
    newcomer: Group,
    grace: Duration,
    now: Instant,
) -> Option<usize> {
    let mut counts: HashMap<Group, usize> = HashMap::new();
    for place in held {
        *counts.entry(place.groups.share).or_insert(0) += 1;
    }
    let most = counts.values().copied().max().unwrap_or(0);
    let mine = counts.get(&newcomer).copied().unwrap_or(0);
    let greedy = |place: &Held<H>| counts.get(&place.groups.share) == Some(&most);
    let oldest = held.iter().position(greedy)?;
    let lasted = |place: &Held<H>| now.saturating_duration_since(place.since) >= grace;
    let gives_way = mine + 1 < most || held.get(oldest).is_some_and(lasted);
    gives_way.then_some(oldest)
}
