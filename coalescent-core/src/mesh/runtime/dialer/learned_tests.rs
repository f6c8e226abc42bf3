//! Tests of the plan with suggested addresses. Keys below 1,000 are seeds, others learned.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use proptest::prelude::*;

use super::super::backoff::MIN_DELAY;
use super::super::budget::{LEARNED_DIAL_BURST, LEARNED_DIAL_EVERY};
use super::super::entry::{HOLD, Learned};
use super::super::pool::{LEARNED_MAX, Suggested};
use super::*;
use crate::transport::group::NetGroup;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn plan(seeds: usize, min_peers: usize, max_peers: usize) -> Plan<usize> {
    plan_with(seeds, min_peers, max_peers, 7)
}

fn plan_with(seeds: usize, min_peers: usize, max_peers: usize, rng: u64) -> Plan<usize> {
    let config = DialConfig {
        min_peers,
        max_peers,
        ..DialConfig::default()
    };
    Plan::new((0..seeds).collect(), config, rng)
}

fn from(source: Source) -> Learned {
    Learned {
        source,
        first: false,
        group: None,
    }
}

fn in_group(group: u8) -> Learned {
    Learned {
        group: NetGroup::of([group, 1, 0, 1].into()),
        ..from(Source::PEERS)
    }
}

fn first() -> Learned {
    Learned {
        first: true,
        ..from(Source::BOOK)
    }
}

fn due(plan: &mut Plan<usize>, now: Instant) -> Vec<usize> {
    plan.due(now).into_iter().map(|due| due.key).collect()
}

#[test]
fn suggestions_fill_the_places_and_known_ones_are_nothing_new() {
    let now = Instant::now();
    let mut plan = plan(1, 3, 12);
    assert_eq!(plan.wanted(), 2);
    let taken = Suggested::Taken { evicted: None };
    assert_eq!(plan.suggest(1000, from(Source::MDNS), now), taken);
    assert_eq!(plan.suggest(1001, from(Source::MDNS), now), taken);
    for known in [0, 1000] {
        let again = plan.suggest(known, from(Source::BOOK), now);
        assert_eq!(again, Suggested::Nothing);
    }
    assert_eq!(plan.wanted(), 0);
    let dials = plan.due(now);
    let sources: HashMap<_, _> = dials.iter().map(|due| (due.key, due.source)).collect();
    assert_eq!(
        sources,
        HashMap::from([
            (0, Source::SEED),
            (1000, Source::MDNS),
            (1001, Source::MDNS)
        ])
    );
}

#[test]
fn dials_of_suggestions_keep_to_the_budget() {
    let start = Instant::now();
    let mut plan = plan(0, 1000, 1000);
    for key in 1000..1200 {
        plan.suggest(key, from(Source::PEERS), start);
    }
    assert_eq!(due(&mut plan, start).len(), LEARNED_DIAL_BURST as usize);
    for second in 1..60 {
        let now = start + seconds(second);
        assert_eq!(plan.next(now - Duration::from_millis(1)), Some(now));
        assert_eq!(due(&mut plan, now).len(), 1);
    }
    let later = start + seconds(600);
    assert_eq!(due(&mut plan, later).len(), LEARNED_DIAL_BURST as usize);
}

#[test]
fn seeds_do_not_wait_for_the_budget() {
    let now = Instant::now();
    let mut plan = plan(20, 100, 100);
    for key in 1000..1200 {
        plan.suggest(key, from(Source::PEERS), now);
    }
    let dials = due(&mut plan, now);
    assert_eq!(dials.iter().filter(|key| **key < 1000).count(), 20);
    assert_eq!(dials.len(), 20 + LEARNED_DIAL_BURST as usize);
}

#[test]
fn one_of_each_group_is_dialed_or_connected() {
    let now = Instant::now();
    let mut plan = plan(0, 8, 12);
    for sybil in 1000..1020 {
        plan.suggest(sybil, in_group(8), now);
    }
    assert_eq!(plan.wanted(), 7);
    plan.suggest(2000, in_group(9), now);
    plan.suggest(3000, in_group(10), now);
    plan.suggest(3001, in_group(10), now);
    // Those of a private network share no group.
    assert_eq!(plan.wanted(), 4);
    let dials = due(&mut plan, now);
    assert_eq!(dials.len(), 4, "{dials:?}");
    let sybil = *dials.iter().find(|key| **key < 2000).unwrap();
    plan.connected(&sybil, now);
    let later = now + seconds(60);
    assert!(due(&mut plan, later).is_empty());
    // The next of the group has its turn when the first is gone.
    plan.lost(&sybil, later);
    let next = due(&mut plan, later);
    assert_eq!(next.len(), 1);
    assert!(next[0] < 2000 && next[0] != sybil, "{next:?}");
}

#[test]
fn a_group_that_a_name_turns_out_to_be_in_is_kept_to() {
    let now = Instant::now();
    let mut plan = plan(1, 3, 12);
    plan.suggest(1000, in_group(8), now);
    plan.suggest(1001, from(Source::PEERS), now);
    let group = NetGroup::of([8, 1, 9, 9].into()).unwrap();
    assert_eq!(due(&mut plan, now).len(), 3);
    plan.connected(&1000, now);
    assert!(plan.is_free(&0, group), "a seed is exempt");
    assert!(!plan.is_free(&1001, group) && !plan.claim_group(&1001, group));
    let retry = plan.later(&1001, now).unwrap();
    assert_eq!(retry.failures, 0);
    let later = now + seconds(3600);
    assert!(!due(&mut plan, later).contains(&1001));
    plan.lost(&1000, later);
    assert!(due(&mut plan, later).contains(&1001));
    assert!(plan.claim_group(&1001, group));
}

#[test]
fn a_suggestion_pauses_longer_with_each_failure_and_is_given_up() {
    let mut at = Instant::now();
    let mut plan = plan(0, 1, 1);
    plan.suggest(1000, from(Source::PEERS), at);
    for failures in 1..=FORGET_AFTER {
        at = plan.next(at).unwrap();
        assert_eq!(due(&mut plan, at), [1000]);
        let retry = plan.failed(&1000, at).unwrap();
        assert_eq!(retry.failures, failures);
        assert!(retry.at >= at + MIN_DELAY);
        assert_eq!(plan.wanted(), 1, "it is not counted on");
    }
    // It is not dialed, and is not known better for being suggested again.
    assert_eq!(plan.next(at), None);
    assert_eq!(
        plan.suggest(1000, from(Source::PEERS), at),
        Suggested::Nothing
    );
    at += seconds(61);
    assert!(due(&mut plan, at).is_empty());
    assert!(matches!(
        plan.suggest(1000, from(Source::PEERS), at),
        Suggested::Taken { .. }
    ));
    assert_eq!(due(&mut plan, at), [1000]);
}

#[test]
fn a_busy_peer_is_tried_later_and_never_given_up() {
    let mut at = Instant::now();
    let mut plan = plan(0, 1, 1);
    plan.suggest(1000, from(Source::PEERS), at);
    let mut longest = Duration::ZERO;
    for _ in 0..50 {
        at = plan.next(at).unwrap();
        assert_eq!(due(&mut plan, at), [1000]);
        let retry = plan.later(&1000, at).unwrap();
        assert_eq!(retry.failures, 0);
        assert_eq!(plan.wanted(), 1);
        longest = longest.max(retry.at - at);
    }
    assert!(longest > seconds(20) && longest <= seconds(60));
    at = plan.next(at).unwrap();
    due(&mut plan, at);
    plan.connected(&1000, at);
    // A peer that is full may say so after its introduction too.
    assert_eq!(plan.later(&1000, at).unwrap().failures, 0);
}

#[test]
fn anchors_come_first_and_only_once() {
    let now = Instant::now();
    for rng in 0..50 {
        let mut plan = plan_with(5, 2, 12, rng);
        for key in 1000..1100 {
            plan.suggest(key, from(Source::PEERS), now);
        }
        plan.suggest(2000, first(), now);
        plan.suggest(2001, from(Source::BOOK), now);
        plan.suggest(2001, first(), now);
        let anchors: HashSet<_> = due(&mut plan, now).into_iter().collect();
        assert_eq!(anchors, HashSet::from([2000, 2001]));
        plan.failed(&2000, now);
        plan.failed(&2001, now);
        plan.suggest(2000, first(), now);
        let next = due(&mut plan, now + seconds(1));
        assert!(next.iter().all(|key| *key < 2000), "{next:?}");
    }
}

#[test]
fn suggestions_that_work_fill_the_places_of_seeds_that_are_dead() {
    for (min, max) in [(1, 1), (3, 3), (3, 12), (1, 12)] {
        for silent in [false, true] {
            let start = Instant::now();
            let mut plan = plan(9, min, max);
            for key in 1000..1000 + min {
                plan.suggest(key, from(Source::PEERS), start);
            }
            let mut now = start;
            let mut up = 0;
            // A dial that is silent ends after 10 s.
            let mut dialing: Vec<(Instant, usize)> = Vec::new();
            loop {
                for key in due(&mut plan, now) {
                    match key {
                        1000.. => {
                            plan.connected(&key, now);
                            up += 1;
                        }
                        _ if silent => dialing.push((now + seconds(10), key)),
                        _ => drop(plan.failed(&key, now)),
                    }
                }
                if up == min {
                    break;
                }
                let ends = dialing.iter().map(|(at, _)| *at).min();
                now = ends.into_iter().chain(plan.next(now)).min().unwrap();
                dialing.retain(|(at, key)| {
                    let over = *at <= now;
                    if over {
                        plan.failed(key, now);
                    }
                    !over
                });
            }
            // With room for more than the minimum, a silent seed holds its place for 2 s.
            let within = match (silent, min == max) {
                (false, _) => seconds(1),
                (true, true) => seconds(31),
                (true, false) => HOLD * 3,
            };
            assert!(
                now - start <= within,
                "{min} {max} {silent}: {:?}",
                now - start
            );
        }
    }
}

#[test]
fn a_flood_of_dead_addresses_does_not_keep_seeds_from_being_tried() {
    let start = Instant::now();
    let mut plan = plan(1, 1, 12);
    let mut now = start;
    let mut tries = 0;
    let mut dialing: Vec<(Instant, usize)> = Vec::new();
    for key in 1000.. {
        plan.suggest(key, from(Source::PEERS), now);
        for key in due(&mut plan, now) {
            tries += usize::from(key == 0);
            dialing.push((now + seconds(10), key));
        }
        assert!(plan.outbound() <= 12);
        now += Duration::from_millis(100);
        dialing.retain(|(at, key)| {
            let over = *at <= now;
            if over {
                plan.failed(key, now);
            }
            !over
        });
        if now > start + seconds(600) {
            break;
        }
    }
    assert!(tries >= 10, "the seed was dialed {tries} times in 10 min");
}

#[test]
fn a_hundred_thousand_suggestions_cost_a_bounded_memory_and_evict_their_own_kind() {
    let now = Instant::now();
    let mut plan = plan(2, 3, 12);
    for key in 2000..2020 {
        plan.suggest(key, from(Source::BOOK), now);
    }
    let dials = due(&mut plan, now);
    for key in &dials {
        plan.connected(key, now);
    }
    for key in 10_000..110_000 {
        plan.suggest(key, from(Source::PEERS), now);
        assert!(plan.learned <= LEARNED_MAX);
    }
    assert_eq!(plan.entries.len(), LEARNED_MAX + 2);
    assert_eq!(plan.index.len(), plan.entries.len());
    assert!((2000..2020).all(|key| plan.contains(&key)));
    assert!(dials.iter().all(|key| plan.contains(key)));
    assert!(plan.contains(&109_999) && !plan.contains(&10_000));
}

#[test]
fn those_that_failed_are_evicted_first() {
    let start = Instant::now();
    let mut plan = plan(0, 1, 1);
    for key in 1000..1000 + LEARNED_MAX {
        plan.suggest(key, from(Source::PEERS), start);
    }
    let failed = due(&mut plan, start)[0];
    plan.failed(&failed, start);
    let oldest = if failed == 1000 { 1001 } else { 1000 };
    for (key, evicted) in [(5000, failed), (5001, oldest)] {
        let evicted = Some(evicted);
        assert_eq!(
            plan.suggest(key, from(Source::PEERS), start),
            Suggested::Taken { evicted }
        );
    }
}

#[test]
fn addresses_of_a_connected_node_do_not_fill_the_memory() {
    let now = Instant::now();
    let mut plan = plan(0, 1, 1);
    for key in 1000..3000 {
        plan.suggest(key, from(Source::PEERS), now);
        plan.already(&key, now);
    }
    assert_eq!(plan.entries.len(), LEARNED_MAX);
}

#[test]
fn a_removed_seed_is_not_dialed_and_its_peer_stays() {
    let now = Instant::now();
    let mut plan = plan(3, 3, 12);
    assert_eq!(due(&mut plan, now).len(), 3);
    plan.connected(&0, now);
    plan.failed(&1, now);
    for key in 0..3 {
        assert!(plan.remove_seed(&key) && !plan.remove_seed(&key));
    }
    assert!(!plan.contains(&1));
    assert_eq!(plan.outbound(), 2, "one is up, one is being dialed");
    plan.failed(&2, now);
    assert_eq!(plan.outbound(), 1);
    plan.lost(&0, now);
    assert!(plan.entries.is_empty() && plan.index.is_empty());
    assert_eq!(plan.next(now), None);
    // It can come back, in whichever way.
    assert!(plan.add_seed(0));
    plan.suggest(1, from(Source::BOOK), now);
    assert_eq!(due(&mut plan, now).len(), 2);
}

#[test]
fn a_suggestion_that_becomes_a_seed_is_never_given_up() {
    let mut at = Instant::now();
    let mut plan = plan(0, 1, 1);
    plan.suggest(1000, from(Source::PEERS), at);
    assert!(plan.add_seed(1000) && !plan.add_seed(1000));
    assert_eq!(plan.learned, 0);
    for _ in 0..FORGET_AFTER * 2 {
        at = plan.next(at).unwrap();
        assert_eq!(due(&mut plan, at), [1000]);
        plan.failed(&1000, at);
    }
    let mut plan = self::plan(0, 1, 1);
    plan.suggest(1000, from(Source::PEERS), at);
    for _ in 0..FORGET_AFTER {
        at = plan.next(at).unwrap();
        plan.due(at);
        plan.failed(&1000, at);
    }
    assert!(plan.add_seed(1000));
    assert_eq!(due(&mut plan, at + seconds(60)), [1000]);
}

#[test]
fn places_are_wanted_for_which_there_are_only_those_that_failed() {
    let now = Instant::now();
    let mut plan = plan(2, 3, 12);
    assert_eq!(plan.wanted(), 1);
    assert_eq!(due(&mut plan, now).len(), 2);
    assert_eq!(plan.wanted(), 1);
    plan.connected(&0, now);
    plan.failed(&1, now);
    assert_eq!(plan.wanted(), 2);
    plan.suggest(1000, from(Source::PEERS), now);
    assert_eq!(plan.wanted(), 1);
    plan.set_unseeded(1);
    assert_eq!(plan.wanted(), 0);
    // A peer that was there for long is expected back.
    plan.set_unseeded(0);
    plan.lost(&0, now + seconds(60));
    assert_eq!(plan.wanted(), 1);
    assert_eq!(self::plan(0, 3, 2).wanted(), 2);
    assert_eq!(self::plan(0, 3, 0).wanted(), 0);
}

/// What happens to a plan in a test.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Suggested(usize, u8, bool),
    Added(usize),
    Removed(usize),
    /// A dial or connection changes: of those that there are, the one at this place.
    Failed(usize),
    Connected(usize),
    Already(usize),
    Later(usize),
    Lost(usize),
    Forgotten(usize),
    Waited(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    let key = 1000..1040_usize;
    let place = 0..40_usize;
    prop_oneof![
        4 => (key.clone(), 0..6_u8, any::<bool>())
            .prop_map(|(key, group, first)| Happens::Suggested(key, group, first)),
        1 => (0..4_usize).prop_map(Happens::Added),
        1 => (0..4_usize).prop_map(Happens::Removed),
        1 => key.clone().prop_map(Happens::Added),
        3 => place.clone().prop_map(Happens::Failed),
        3 => place.clone().prop_map(Happens::Connected),
        1 => place.clone().prop_map(Happens::Already),
        1 => place.clone().prop_map(Happens::Later),
        2 => place.prop_map(Happens::Lost),
        1 => key.prop_map(Happens::Forgotten),
        5 => (0..5_000_u64).prop_map(Happens::Waited),
    ]
}

/// Lets these events happen, checks what must hold, and returns who was dialed when.
fn run(
    (seeds, min, max, rng): (usize, usize, usize, u64),
    events: &[Happens],
) -> Result<Vec<(Duration, usize)>, TestCaseError> {
    let start = Instant::now();
    let mut now = start;
    let mut plan = plan_with(seeds, min, max, rng);
    let mut dialing: Vec<usize> = Vec::new();
    let mut connected: Vec<usize> = Vec::new();
    let mut all = Vec::new();
    let mut learned: Vec<Instant> = Vec::new();
    for event in events {
        let before = plan.outbound();
        let dials = plan.due(now);
        prop_assert!(dials.is_empty() || plan.outbound() <= max.max(before));
        for due in dials {
            prop_assert!(!dialing.contains(&due.key), "two dials of {}", due.key);
            prop_assert!(!connected.contains(&due.key), "{} is connected", due.key);
            dialing.push(due.key);
            all.push((now - start, due.key));
            if due.source != Source::SEED {
                learned.push(now);
            }
        }
        prop_assert!(plan.outbound() <= max, "{} of {max}", plan.outbound());
        prop_assert!(plan.next(now).is_none_or(|at| at > now));
        prop_assert!(plan.wanted() <= min.min(max));
        let groups = plan.taken_groups();
        let distinct: HashSet<_> = groups.iter().collect();
        prop_assert_eq!(distinct.len(), groups.len(), "two of one group");
        let take = |from: &mut Vec<usize>, place: usize| match from.len() {
            0 => None,
            len => Some(from.swap_remove(place % len)),
        };
        match *event {
            Happens::Suggested(key, group, first) => {
                let learned = Learned {
                    first,
                    group: NetGroup::of([group, 0, 0, 1].into()),
                    ..from(Source::PEERS)
                };
                plan.suggest(key, learned, now);
            }
            Happens::Added(key) => drop(plan.add_seed(key)),
            Happens::Removed(key) => drop(plan.remove_seed(&key)),
            Happens::Failed(place) => {
                if let Some(key) = take(&mut dialing, place) {
                    plan.failed(&key, now);
                }
            }
            Happens::Connected(place) => {
                if let Some(key) = take(&mut dialing, place) {
                    plan.connected(&key, now);
                    connected.push(key);
                }
            }
            Happens::Already(place) => {
                if let Some(key) = take(&mut dialing, place) {
                    plan.already(&key, now);
                    connected.push(key);
                }
            }
            Happens::Later(place) => {
                if let Some(key) = take(&mut dialing, place) {
                    plan.later(&key, now);
                }
            }
            Happens::Lost(place) => {
                if let Some(key) = take(&mut connected, place) {
                    plan.lost(&key, now);
                }
            }
            Happens::Forgotten(key) => {
                if !dialing.contains(&key) && !connected.contains(&key) {
                    plan.forget(&key);
                }
            }
            Happens::Waited(millis) => now += Duration::from_millis(millis),
        }
        prop_assert_eq!(plan.index.len(), plan.entries.len());
    }
    // Within any time, there are no more dials of suggestions than the bucket gives.
    for (index, from) in learned.iter().enumerate() {
        for (count, to) in (1..).zip(&learned[index..]) {
            let gained = (*to - *from).as_millis() / LEARNED_DIAL_EVERY.as_millis();
            prop_assert!(count <= u128::from(LEARNED_DIAL_BURST) + gained);
        }
    }
    Ok(all)
}

proptest! {
    #[test]
    fn limits_hold_whatever_happens(
        start in (0..4_usize, 0..6_usize, 0..6_usize, any::<u64>()),
        events in prop::collection::vec(happens(), 0..300),
    ) {
        let dials = run(start, &events)?;
        prop_assert_eq!(run(start, &events)?, dials, "the same calls lead to the same dials");
    }
}
