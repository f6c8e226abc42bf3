//! Peers that were too slow lately, and are given less patience when they come back. Decisions
//! only: no clock, no locks.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::transport::group::Group;
use crate::transport::identity::PublicKey;

/// How many culprits are remembered. A new one replaces the one that was slow the longest ago.
pub(crate) const MAX_REMEMBERED: usize = 1024;

/// How many times longer than the lost patience it takes to come back, after a peer was
/// disconnected as slow: 10 s come back in 640 s. Each further time doubles it.
const PENANCE: u32 = 64;

/// How often that time doubles: 10 s come back in 23 h at most.
const MAX_DOUBLINGS: u32 = 7;

/// Less than `1 / LEAST_PART` of the patience is not remembered.
const LEAST_PART: u32 = 10;

/// The patience that a peer has lost: what it had used up when it left, or all of it if it was
/// disconnected as slow. It comes back with time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Penance {
    since: Instant,
    /// The patience that was left at `since`.
    left: Duration,
    /// How often the time to come back is doubled.
    times: u32,
}

impl Penance {
    /// Creates the penance of a peer that is disconnected as slow, again if there is one `before`.
    pub(crate) fn begin(before: Option<Self>, now: Instant) -> Self {
        Self {
            since: now,
            left: Duration::ZERO,
            times: before.map_or(0, |before| (before.times + 1).min(MAX_DOUBLINGS)),
        }
    }

    /// Creates the penance of a peer that leaves by itself with this much of its patience `spent`.
    /// Returns `None` if that is too little to be remembered.
    pub(crate) fn of_spent(
        before: Option<Self>,
        spent: Duration,
        patience: Duration,
        now: Instant,
    ) -> Option<Self> {
        if spent < patience / LEAST_PART || spent.is_zero() {
            return None;
        }
        let had = before.map_or(patience, |before| before.patience(patience, now));
        Some(Self {
            since: now,
            left: had.saturating_sub(spent),
            times: before.map_or(0, |before| before.times),
        })
    }

    /// Returns how much of `patience` the peer has now.
    pub(crate) fn patience(self, patience: Duration, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.since);
        let earned = passed / PENANCE / (1 << self.times);
        self.left.saturating_add(earned).min(patience)
    }

    /// Returns whether all of the patience has come back.
    pub(crate) fn is_over(self, patience: Duration, now: Instant) -> bool {
        self.patience(patience, now) == patience
    }

    pub(crate) fn since(self) -> Instant {
        self.since
    }
}

/// The party that slowness is held against: a key, or, if none is proven, the group of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Culprit {
    Key(PublicKey),
    Place(Group),
}

impl Culprit {
    /// Returns `None` if nothing is known that distinguishes the peer from others.
    pub(crate) fn of(key: Option<PublicKey>, addr: Option<SocketAddr>) -> Option<Self> {
        match (key, addr) {
            (Some(key), _) => Some(Self::Key(key)),
            (None, Some(addr)) => Some(Self::Place(Group::of(Some(addr.ip())))),
            (None, None) => None,
        }
    }
}

/// The culprits that have lost patience.
#[derive(Debug, Default)]
pub(super) struct Remembered(HashMap<Culprit, Penance>);

impl Remembered {
    /// Notes that a peer was disconnected as slow.
    pub(super) fn slow(&mut self, culprit: Culprit, patience: Duration, now: Instant) {
        let before = self.penance(culprit, patience, now);
        self.remember(culprit, Penance::begin(before, now), patience, now);
    }

    /// Notes that a peer has left by itself, with this much of its patience spent.
    pub(super) fn spent(
        &mut self,
        culprit: Culprit,
        spent: Duration,
        patience: Duration,
        now: Instant,
    ) {
        let before = self.penance(culprit, patience, now);
        if let Some(penance) = Penance::of_spent(before, spent, patience, now) {
            self.remember(culprit, penance, patience, now);
        }
    }

    fn remember(&mut self, culprit: Culprit, penance: Penance, patience: Duration, now: Instant) {
        if !self.0.contains_key(&culprit) && self.0.len() >= MAX_REMEMBERED {
            self.0.retain(|_, penance| !penance.is_over(patience, now));
        }
        if !self.0.contains_key(&culprit) && self.0.len() >= MAX_REMEMBERED {
            let oldest = self.0.iter().min_by_key(|(_, penance)| penance.since());
            if let Some(oldest) = oldest.map(|(culprit, _)| *culprit) {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(culprit, penance);
    }

    /// Returns what is held against a culprit, if anything.
    pub(super) fn penance(
        &self,
        culprit: Culprit,
        patience: Duration,
        now: Instant,
    ) -> Option<Penance> {
        let penance = self.0.get(&culprit).copied();
        penance.filter(|penance| !penance.is_over(patience, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn at(addr: &str) -> Culprit {
        Culprit::of(None, Some(addr.parse().expect("an address"))).expect("a place")
    }

    #[test]
    fn a_culprit_is_a_key_or_the_group_of_an_address() {
        let addr = Some("192.0.2.1:1".parse().expect("an address"));
        assert_eq!(
            Culprit::of(Some(PublicKey::repeated(7)), addr),
            Some(Culprit::Key(PublicKey::repeated(7)))
        );
        assert_eq!(Culprit::of(None, None), None);
        assert_eq!(at("192.0.2.1:1"), at("192.0.2.1:2"));
        assert_ne!(at("192.0.2.1:1"), at("192.0.2.2:1"));
        assert_eq!(at("[2001:db8::1]:1"), at("[2001:db8::ffff]:9"));
        assert_ne!(at("[2001:db8::1]:1"), at("[2001:db8:0:1::1]:1"));
    }

    #[test]
    fn penance_ends_after_a_while_and_lasts_longer_each_time() {
        let now = Instant::now();
        let mut remembered = Remembered::default();
        let one = at("192.0.2.1:1");
        assert_eq!(remembered.penance(one, PATIENCE, now), None);
        remembered.slow(one, PATIENCE, now);
        assert_eq!(remembered.penance(at("192.0.2.9:1"), PATIENCE, now), None);
        let later = now + Duration::from_secs(600);
        assert!(remembered.penance(one, PATIENCE, later).is_some());
        remembered.slow(one, PATIENCE, later);
        let after = later + Duration::from_secs(1200);
        assert!(remembered.penance(one, PATIENCE, after).is_some());
        let over = later + Duration::from_secs(1300);
        assert_eq!(remembered.penance(one, PATIENCE, over), None);
    }

    #[test]
    fn at_most_the_bound_are_remembered_and_the_oldest_are_forgotten() {
        let now = Instant::now();
        let mut remembered = Remembered::default();
        let key = |number: usize| {
            let mut key = [9; 32];
            key[..8].copy_from_slice(&number.to_be_bytes());
            Culprit::Key(PublicKey::from_bytes(key).expect("a key"))
        };
        let many = 2 * MAX_REMEMBERED;
        for number in 0..many {
            remembered.slow(
                key(number),
                PATIENCE,
                now + Duration::from_millis(number as u64),
            );
        }
        assert_eq!(remembered.0.len(), MAX_REMEMBERED);
        let now = now + Duration::from_millis(many as u64);
        assert!(remembered.penance(key(many - 1), PATIENCE, now).is_some());
        assert!(remembered.penance(key(0), PATIENCE, now).is_none());
    }
}
