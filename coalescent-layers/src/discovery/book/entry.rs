//! What is known of one address, and what follows from it.

use std::time::{Duration, SystemTime};

use coalescent_core::Address;
use coalescent_core::identity::PublicKey;

use super::group::Group;

/// Seconds since 1970; 0 stands for never.
pub(super) type Seconds = u64;

const MINUTE: Seconds = 60;
const DAY: Seconds = 24 * 60 * MINUTE;

/// How far ahead of the clock a time may lie, in seconds, before it is taken for wrong.
const AHEAD: Seconds = 10 * MINUTE;

/// How long an address that nobody has mentioned or reached keeps its place.
pub const MENTION_LASTS: Duration = Duration::from_secs(30 * DAY);

/// How long after a dial to an address succeeded the address may be told to others.
pub const TELLABLE_FOR: Duration = Duration::from_secs(3 * DAY);

/// How many dials to an address must fail before it gives way, if none has ever succeeded.
pub const FAILURES_BEFORE_SUCCESS: u32 = 3;

/// How many dials to an address must fail, since one succeeded more than a week ago, before it
/// gives way.
pub const FAILURES_IN_A_WEEK: u32 = 10;

/// How soon after a dial to an address it is unlikely to be picked again.
const RECENT: Seconds = 10 * MINUTE;

/// How long after a failed dial an address is not picked.
const RESTS: Seconds = 15;

/// How much less likely an address is picked after each failed dial, and for how many it counts.
const LESS_LIKELY: f64 = 0.66;
const LESS_LIKELY_MAX: i32 = 8;

/// A time that is closer than this to the one that is known is no news.
const NEWS: Seconds = 60 * MINUTE;

/// Returns a time as seconds since 1970, at least 1.
pub(super) fn seconds(time: SystemTime) -> Seconds {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(1, |since| since.as_secs().max(1))
}

/// Returns how long ago `then` was; `None` if it never was, or lies in the future because a clock
/// has jumped.
pub(super) fn age(now: Seconds, then: Seconds) -> Option<Seconds> {
    (then != 0 && then <= now.saturating_add(AHEAD)).then(|| now.saturating_sub(then))
}

fn is_within(now: Seconds, then: Seconds, limit: Seconds) -> bool {
    age(now, then).is_some_and(|age| age < limit)
}

/// What is known of one address.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) address: Address,
    /// The group of the peer that told of it first.
    pub(super) source: Group,
    /// When it was last mentioned.
    pub(super) heard: Seconds,
    /// When it was last dialled.
    pub(super) dialled: Seconds,
    /// When a dial to it last succeeded.
    pub(super) reached: Seconds,
    /// When a peer that was seen there last said so of itself.
    pub(super) declared: Seconds,
    /// The failed dials since the last one that succeeded.
    pub(super) failures: u32,
    /// How many dials of the whole table had succeeded when a failure was last counted. It is not
    /// saved.
    pub(super) counted_at: u64,
    /// Whether it comes from the file.
    pub(super) is_restored: bool,
}

impl Entry {
    pub(super) fn new(address: Address, source: Group, now: Seconds) -> Self {
        Self {
            address,
            source,
            heard: now,
            dialled: 0,
            reached: 0,
            declared: 0,
            failures: 0,
            counted_at: 0,
            is_restored: false,
        }
    }

    /// Takes note that the address was mentioned, and returns whether that is news.
    pub(super) fn mention(&mut self, address: &Address, now: Seconds) -> bool {
        let id = self.id_after_mention(address.id());
        let news = id != self.address.id() || !is_within(now, self.heard, NEWS);
        if news {
            self.address = self.address.clone().with_id(id);
            self.heard = now;
        }
        news
    }

    /// A dial has proven the identity; that holds until another fails. What is only said is kept
    /// while all say the same. Otherwise whoever answers is taken, so that a wrong identity cannot
    /// make an address unreachable.
    fn id_after_mention(&self, said: Option<PublicKey>) -> Option<PublicKey> {
        let known = self.address.id();
        let is_proven = self.reached != 0 && self.failures == 0;
        known.filter(|_| is_proven || said == known)
    }

    /// Takes note of a dial to `address`, which has the identity that was proven, if one was.
    pub(super) fn reach(&mut self, address: &Address, now: Seconds) {
        self.address = self.address.clone().with_id(address.id());
        self.heard = now;
        self.dialled = now;
        self.reached = now;
        self.failures = 0;
    }

    /// Takes note that a dial failed after `successes` others of the whole table.
    ///
    /// It counts once until another dial succeeds: if none does, this node may be offline.
    pub(super) fn fail(&mut self, successes: u64, now: Seconds) {
        self.dialled = now;
        if self.counted_at != successes {
            self.counted_at = successes;
            self.failures = self.failures.saturating_add(1);
        }
    }

    /// Returns whether the entry may give way to any other.
    pub(super) fn is_terrible(&self, now: Seconds) -> bool {
        if is_within(now, self.dialled, MINUTE) {
            // A dial may be going on.
            return false;
        }
        let lasts = MENTION_LASTS.as_secs();
        if ![self.heard, self.reached, self.declared]
            .iter()
            .any(|then| is_within(now, *then, lasts))
        {
            return true;
        }
        if self.reached == 0 {
            return self.failures >= FAILURES_BEFORE_SUCCESS;
        }
        self.failures >= FAILURES_IN_A_WEEK && !is_within(now, self.reached, 7 * DAY)
    }

    /// Returns how likely it is to be picked, compared with 1 for one that has not failed.
    pub(super) fn weight(&self, now: Seconds) -> f64 {
        let failures = i32::try_from(self.failures)
            .map_or(LESS_LIKELY_MAX, |failures| failures.min(LESS_LIKELY_MAX));
        let recent = if self.was_dialled_recently(now) {
            0.01
        } else {
            1.0
        };
        recent * LESS_LIKELY.powi(failures)
    }

    /// Returns whether a dial has failed so short a time ago that another is of no use.
    pub(super) fn rests(&self, now: Seconds) -> bool {
        self.dialled != self.reached && is_within(now, self.dialled, RESTS)
    }

    pub(super) fn was_dialled_recently(&self, now: Seconds) -> bool {
        is_within(now, self.dialled, RECENT)
    }

    /// Returns whether others may be told of it.
    pub(super) fn is_tellable(&self, now: Seconds) -> bool {
        let lasts = TELLABLE_FOR.as_secs();
        is_within(now, self.reached, lasts) || is_within(now, self.declared, lasts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Seconds = 1_800_000_000;

    fn entry() -> Entry {
        let address: Address = "198.51.100.7:1".parse().unwrap();
        let group = Group::of(&address);
        Entry::new(address, group, NOW)
    }

    fn key(digit: u8) -> PublicKey {
        PublicKey::from_bytes([digit; 32]).unwrap()
    }

    fn with_id(digit: u8) -> Address {
        entry().address.with_id(Some(key(digit)))
    }

    #[test]
    fn an_address_that_nobody_mentions_gives_way_after_a_month() {
        assert!(!entry().is_terrible(NOW + 30 * DAY - 1));
        assert!(entry().is_terrible(NOW + 30 * DAY));
    }

    #[test]
    fn an_address_from_the_future_gives_way() {
        assert!(!entry().is_terrible(NOW - AHEAD));
        assert!(entry().is_terrible(NOW - AHEAD - 1));
        assert!(entry().is_terrible(1));
    }

    #[test]
    fn failures_count_only_if_others_succeed_meanwhile() {
        let mut offline = entry();
        for _ in 0..100 {
            offline.fail(0, NOW);
        }
        assert_eq!(offline.failures, 0);
        let mut dead = entry();
        for successes in 1..=3 {
            assert!(!dead.is_terrible(NOW + DAY));
            dead.fail(successes, NOW);
            dead.fail(successes, NOW);
        }
        assert_eq!(dead.failures, 3);
        assert!(!dead.is_terrible(NOW + MINUTE - 1));
        assert!(dead.is_terrible(NOW + MINUTE));
    }

    #[test]
    fn what_was_reached_once_is_given_more_time() {
        let mut entry = entry();
        entry.reach(&entry.address.clone(), NOW);
        for successes in 1..=10 {
            entry.fail(successes, NOW);
        }
        assert!(!entry.is_terrible(NOW + 7 * DAY - 1));
        assert!(entry.is_terrible(NOW + 7 * DAY));
    }

    #[test]
    fn failures_make_it_less_likely() {
        let mut entry = entry();
        assert_eq!(entry.weight(NOW), 1.0);
        entry.fail(1, NOW);
        assert_eq!(entry.weight(NOW), 0.01 * 0.66);
        assert_eq!(entry.weight(NOW + RECENT), 0.66);
        // The clock was put back: the dial is not one of the last ten minutes for ever.
        assert_eq!(entry.weight(NOW - DAY), 0.66);
        entry.failures = u32::MAX;
        assert!(entry.weight(NOW) > 0.0);
    }

    #[test]
    fn it_is_told_for_three_days() {
        let mut entry = entry();
        assert!(!entry.is_tellable(NOW));
        entry.declared = NOW;
        assert!(entry.is_tellable(NOW + 3 * DAY - 1) && !entry.is_tellable(NOW + 3 * DAY));
        entry.declared = 0;
        entry.reach(&entry.address.clone(), NOW);
        assert!(entry.is_tellable(NOW + 3 * DAY - 1) && !entry.is_tellable(NOW + 3 * DAY));
        assert!(!entry.is_tellable(NOW - DAY), "the clock was put back");
    }

    #[test]
    fn a_proven_identity_holds_until_a_dial_fails() {
        let mut entry = entry();
        entry.reach(&with_id(1), NOW);
        assert!(!entry.mention(&with_id(2), NOW));
        assert_eq!(entry.address.id(), Some(key(1)));
        entry.fail(1, NOW);
        assert!(entry.mention(&with_id(2), NOW));
        assert_eq!(entry.address.id(), None);
        entry.reach(&with_id(2), NOW);
        assert_eq!(entry.address.id(), Some(key(2)));
    }

    #[test]
    fn of_identities_that_are_only_said_none_wins() {
        let mut entry = entry();
        entry.address = with_id(1);
        assert!(!entry.mention(&with_id(1), NOW));
        assert_eq!(entry.address.id(), Some(key(1)));
        assert!(entry.mention(&with_id(2), NOW));
        assert_eq!(entry.address.id(), None);
        assert!(!entry.mention(&with_id(1), NOW));
        assert_eq!(entry.address.id(), None);
    }

    #[test]
    fn times_before_1970_are_the_beginning() {
        assert_eq!(seconds(SystemTime::UNIX_EPOCH), 1);
        assert_eq!(seconds(SystemTime::UNIX_EPOCH - Duration::from_secs(9)), 1);
    }
}
