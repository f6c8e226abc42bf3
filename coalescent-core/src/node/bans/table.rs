//! Who is banned for how long, and who is forgotten. Decisions only: no clock, no locks.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{Ban, BanTarget};
use crate::transport::group::NetGroup;

/// How many bans are remembered at a time, those that have ended included: 1,024.
///
/// For a new one, another is forgotten: one that has ended, else one of the network that has the
/// most; of these the one that ends first. Those that the application has made go last.
pub const BANS_MAX: usize = 1024;

/// How many bans of one network (the /16 of an IPv4 address, the /32 of an IPv6 address) are
/// remembered at a time: 64. A key counts for the network that its peer came from.
///
/// So who has many addresses, or makes many keys, has only bans of the same network forgotten; to
/// have others forgotten takes addresses of 16 networks that each were banned 64 times.
pub const BANS_OF_NETWORK: usize = 64;

/// How long after the end of a ban one of the earlier bans is forgotten, each time: a day.
pub const FORGIVEN_AFTER: Duration = Duration::from_secs(24 * 3600);

/// How often the time doubles at most.
const MAX_DOUBLINGS: u32 = 30;

/// How long bans last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lengths {
    /// The first one.
    pub(super) first: Duration,
    /// Any.
    pub(super) max: Duration,
}

impl Lengths {
    /// Returns the length of a ban after this many earlier ones.
    fn after(self, earlier: u32) -> Duration {
        let factor = 1_u32 << earlier.min(MAX_DOUBLINGS);
        self.first.saturating_mul(factor).min(self.max)
    }
}

/// The bans of a node, by target.
#[derive(Debug)]
pub(super) struct Table {
    lengths: Lengths,
    records: HashMap<BanTarget, Record>,
}

#[derive(Debug)]
struct Record {
    until: Instant,
    /// How often the target was banned for faults by `until`.
    times: u32,
    /// The network that the ban counts for, if there is one.
    network: Option<NetGroup>,
    /// Whether the application has made it.
    by_hand: bool,
    reason: Box<str>,
}

impl Record {
    fn is_over(&self, now: Instant) -> bool {
        self.until <= now
    }

    /// Returns how many bans are not forgotten yet.
    fn times(&self, now: Instant) -> u32 {
        let since = now.saturating_duration_since(self.until);
        let forgiven = since.as_secs() / FORGIVEN_AFTER.as_secs();
        let forgiven = u32::try_from(forgiven).unwrap_or(u32::MAX);
        self.times.saturating_sub(forgiven)
    }

    /// Whether nothing is left to remember.
    fn is_forgotten(&self, now: Instant) -> bool {
        self.is_over(now) && self.times(now) == 0
    }
}

impl Table {
    pub(super) fn new(lengths: Lengths) -> Self {
        Self {
            lengths,
            records: HashMap::new(),
        }
    }

    /// Bans a target for faults of a peer from `network`, and returns for how long.
    ///
    /// It is twice as long as the last time. A ban that is under way begins anew, with the same
    /// length: several peers of one address may be found out at once.
    pub(super) fn punish(
        &mut self,
        target: BanTarget,
        network: Option<NetGroup>,
        reason: &str,
        now: Instant,
    ) -> Duration {
        let (mut earlier, mut until, mut by_hand) = (0, now, false);
        if let Some(record) = self.records.get(&target) {
            earlier = record.times(now);
            if !record.is_over(now) {
                earlier = earlier.saturating_sub(1);
                (until, by_hand) = (record.until, record.by_hand);
            }
        }
        let length = self.lengths.after(earlier);
        let until = until.max(now + length);
        let record = Record {
            until,
            times: earlier.saturating_add(1),
            network,
            by_hand,
            reason: super::short(reason).into(),
        };
        self.put(target, record, now);
        until.saturating_duration_since(now)
    }

    /// Bans a target because the application says so, for as long as it says, and returns the ban.
    pub(super) fn ban(&mut self, ban: Ban, now: Instant) -> Ban {
        let times = self.records.get(&ban.target);
        let times = times.map_or(0, |record| record.times(now));
        let ban = Ban { times, ..ban };
        self.add(ban, true, now)
    }

    /// Takes a ban from a file. One that is known already is not made shorter.
    pub(super) fn restore(&mut self, ban: Ban, now: Instant) {
        let left = ban.left.min(self.lengths.max);
        if left.is_zero() || self.left(ban.target, now).is_some_and(|had| had >= left) {
            return;
        }
        let times = ban.times.min(MAX_DOUBLINGS);
        self.add(Ban { times, ..ban }, false, now);
    }

    fn add(&mut self, ban: Ban, by_hand: bool, now: Instant) -> Ban {
        let left = ban.left.min(self.lengths.max);
        let record = Record {
            until: now + left,
            times: ban.times,
            network: network(ban.target),
            by_hand,
            reason: ban.reason.as_str().into(),
        };
        self.put(ban.target, record, now);
        Ban { left, ..ban }
    }

    /// Ends a ban, and forgets the earlier ones. Returns whether there was one.
    pub(super) fn unban(&mut self, target: BanTarget, now: Instant) -> bool {
        let record = self.records.remove(&target);
        record.is_some_and(|record| !record.is_over(now))
    }

    /// Returns how long a target is still banned.
    pub(super) fn left(&self, target: BanTarget, now: Instant) -> Option<Duration> {
        let record = self.records.get(&target)?;
        let left = record.until.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// Returns whether nobody is banned, as far as that is quickly known.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Returns the bans that are under way, those that last longest first.
    pub(super) fn list(&self, now: Instant) -> Vec<Ban> {
        let records = self.records.iter();
        let records = records.filter(|(_, record)| !record.is_over(now));
        let mut bans: Vec<_> = records
            .map(|(target, record)| Ban {
                target: *target,
                left: record.until.saturating_duration_since(now),
                times: record.times(now),
                reason: record.reason.to_string(),
            })
            .collect();
        bans.sort_by_key(|ban| (std::cmp::Reverse(ban.left), ban.target));
        bans
    }

    fn put(&mut self, target: BanTarget, record: Record, now: Instant) {
        if !self.records.contains_key(&target) {
            self.make_room(record.network, now);
        }
        self.records.insert(target, record);
    }

    /// Makes room for one more ban of this network.
    fn make_room(&mut self, network: Option<NetGroup>, now: Instant) {
        let of_network = |record: &Record| network.is_some() && record.network == network;
        let count = self.records.values().filter(|r| of_network(r)).count();
        let is_full = self.records.len() >= BANS_MAX;
        if count < BANS_OF_NETWORK && !is_full {
            return;
        }
        self.records.retain(|_, record| !record.is_forgotten(now));
        let count = self.records.values().filter(|r| of_network(r)).count();
        let victim = if count >= BANS_OF_NETWORK {
            self.victim(of_network, now)
        } else if self.records.len() >= BANS_MAX {
            let largest = self.largest();
            let ended = self.victim(|record| record.is_over(now), now);
            ended.or_else(|| self.victim(|record| record.network == largest, now))
        } else {
            None
        };
        if let Some(victim) = victim {
            self.records.remove(&victim);
        }
    }

    /// Returns the network that most of the bans count for that the application has not made.
    fn largest(&self) -> Option<NetGroup> {
        let mut counts: HashMap<Option<NetGroup>, usize> = HashMap::new();
        for record in self.records.values().filter(|record| !record.by_hand) {
            *counts.entry(record.network).or_default() += 1;
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count);
        most.and_then(|(network, _)| network)
    }

    /// Returns which of these to forget.
    fn victim(&self, of: impl Fn(&Record) -> bool, now: Instant) -> Option<BanTarget> {
        let records = self.records.iter().filter(|(_, record)| of(record));
        let first = records.min_by_key(|(target, record)| {
            let kept = record.by_hand && !record.is_over(now);
            (kept, record.until, **target)
        });
        first.map(|(target, _)| *target)
    }
}

fn network(target: BanTarget) -> Option<NetGroup> {
    match target {
        BanTarget::Ip(ip) => NetGroup::of(ip),
        BanTarget::Key(_) => None,
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
