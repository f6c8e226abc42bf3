use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;

use super::super::backoff::{MIN_DELAY, SOON, SOON_FOR};
use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn plan(seeds: usize, min_peers: usize, max_peers: usize) -> Plan<usize> {
    let config = DialConfig {
        min_peers,
        max_peers,
        ..DialConfig::default()
    };
    Plan::new((0..seeds).collect(), config, 7)
}

fn seeds(dials: Vec<Due<usize>>) -> Vec<usize> {
    dials.into_iter().map(|dial| dial.key).collect()
}

#[test]
fn a_lost_peer_is_replaced_by_another_seed_at_once() {
    let now = Instant::now();
    let mut plan = plan(2, 1, 12);
    let first = seeds(plan.due(now))[0];
    plan.connected(&first, now);
    assert_eq!((plan.due(now), plan.next(now)), (vec![], None));
    let later = now + seconds(3600);
    plan.lost(&first, later).unwrap();
    assert_eq!(seeds(plan.due(later)), [1 - first]);
}

#[test]
fn a_banned_seed_is_dialed_when_the_ban_ends_or_is_lifted() {
    let now = Instant::now();
    let mut plan = plan(1, 1, 12);
    assert_eq!(
        plan.banned(&0, now + seconds(600)),
        None,
        "it is not dialed"
    );
    plan.due(now);
    let until = now + seconds(600);
    assert_eq!(plan.banned(&0, until).unwrap().at, until);
    assert_eq!((plan.wanted(), plan.next(now)), (1, Some(until)));
    assert!(plan.due(until - seconds(1)).is_empty());
    let due = plan.due(until);
    assert_eq!(due[0].failures, 0);
    plan.connected(&0, until);

    // While it is connected, too.
    plan.banned(&0, until + seconds(600)).unwrap();
    assert!(plan.due(until).is_empty());
    plan.unbanned(until);
    assert_eq!(seeds(plan.due(until)), [0]);
    plan.connected(&0, until);
    plan.unbanned(until);
    assert!(plan.due(until).is_empty());
    plan.remove_seed(&0);
    assert_eq!(plan.banned(&0, until), None);
    assert!(!plan.contains(&0));
}

#[test]
fn the_only_seed_comes_back_within_its_backoff() {
    let now = Instant::now();
    let mut plan = plan(1, 3, 12);
    let mut at = now;
    for failures in 0..40 {
        let due = Due {
            key: 0,
            failures,
            source: Source::SEED,
        };
        assert_eq!(plan.due(at), [due]);
        let retry = plan.failed(&0, at).unwrap();
        let cap = Duration::from_millis(500) * 2_u32.pow(failures.min(7));
        assert!((MIN_DELAY..=cap.min(seconds(60))).contains(&(retry.at - at)));
        assert_eq!(
            (retry.failures, plan.next(at)),
            (failures + 1, Some(retry.at))
        );
        assert_eq!(plan.due(retry.at - Duration::from_nanos(1)), []);
        at = retry.at;
    }
    assert!(
        at - now > seconds(300),
        "40 failures took only {:?}",
        at - now
    );
}

#[test]
fn only_a_connection_that_lasts_clears_the_failures() {
    let mut at = Instant::now();
    let mut plan = plan(1, 1, 1);
    for (up, failures) in [(0, 1), (29, 2), (0, 3), (30, 0), (0, 1)] {
        plan.due(at);
        plan.connected(&0, at);
        at += seconds(up);
        let retry = plan.lost(&0, at).unwrap();
        assert_eq!(retry.failures, failures);
        assert!(retry.at >= at + MIN_DELAY);
        at = retry.at;
    }
}

#[test]
fn a_failure_is_reported_once() {
    let now = Instant::now();
    let mut plan = plan(1, 1, 1);
    assert_eq!(plan.failed(&0, now), None);
    plan.due(now);
    assert!(plan.failed(&0, now).is_some());
    assert_eq!(plan.failed(&0, now), None);
    assert_eq!(plan.lost(&0, now), None);
    assert_eq!(plan.failed(&99, now), None);
}

#[test]
fn a_seed_that_is_this_node_is_reported_once_and_dialed_again() {
    let mut at = Instant::now();
    let mut plan = plan(1, 1, 1);
    for (itself, told) in [
        (true, true),
        (true, false),
        (true, false),
        (false, false),
        (true, true),
    ] {
        assert_eq!(seeds(plan.due(at)), [0]);
        let found = itself.then_some("itself");
        assert_eq!(plan.note_itself(&0, found), told.then_some("itself"));
        at = plan.failed(&0, at).unwrap().at;
    }
    assert_eq!(plan.note_itself(&99, Some("unknown")), None);
}

/// Returns the longest of many random pauses.
fn longest(mut pause: impl FnMut(u64) -> Duration) -> Duration {
    (0..200).map(&mut pause).max().unwrap()
}

/// Makes a plan whose seed has failed, was then up for this many seconds, and is lost.
fn lost(rng: u64, failures: u32, up: u64) -> (Plan<usize>, Instant, Retry) {
    let mut plan = Plan::new(vec![0], DialConfig::default(), rng);
    let mut at = Instant::now();
    for _ in 0..failures {
        plan.due(at);
        at = plan.failed(&0, at).unwrap().at;
    }
    plan.due(at);
    plan.connected(&0, at);
    at += seconds(up);
    let retry = plan.lost(&0, at).unwrap();
    (plan, at, retry)
}

#[test]
fn pauses_are_short_for_minutes_after_a_loss_and_then_grow() {
    for (failures, up) in [(0, 1), (0, 3600), (20, 3600), (20, 1)] {
        let first = longest(|rng| {
            let (_, at, retry) = lost(rng, failures, up);
            retry.at - at
        });
        let small = up >= 30 || failures == 0;
        assert!(first <= if small { seconds(1) / 2 } else { SOON });
        let mut later = Duration::ZERO;
        for rng in 0..200 {
            let (mut plan, lost, mut retry) = lost(rng, failures, up);
            let mut pauses = Vec::new();
            while retry.at < lost + 4 * SOON_FOR {
                let at = retry.at;
                plan.due(at);
                retry = plan.failed(&0, at).unwrap();
                let pause = retry.at - at;
                if at < lost + SOON_FOR {
                    assert!(pause <= SOON, "{pause:?}");
                } else {
                    pauses.push(pause);
                }
            }
            if small {
                // The pause grows from where it was.
                assert!(pauses[0] <= seconds(16), "{:?}", pauses[0]);
            }
            later = later.max(pauses.into_iter().max().unwrap());
        }
        assert!((seconds(50)..=seconds(60)).contains(&later), "{later:?}");
    }
}

#[test]
fn a_seed_that_accepts_and_closes_is_dialed_rarely_after_a_while() {
    let longest = longest(|rng| {
        let (mut plan, first, mut retry) = lost(rng, 0, 0);
        let mut pause = Duration::ZERO;
        while retry.at < first + 10 * SOON_FOR {
            let at = retry.at;
            plan.due(at);
            plan.connected(&0, at);
            retry = plan.lost(&0, at).unwrap();
            pause = retry.at - at;
        }
        pause
    });
    assert!(longest > seconds(45), "{longest:?}");
}

#[test]
fn a_shorter_upper_bound_holds_after_a_loss_too() {
    let longest = longest(|rng| {
        let mut config = DialConfig::default();
        config.backoff.max = seconds(1);
        let mut plan = Plan::new(vec![0], config, rng);
        let mut at = Instant::now();
        plan.due(at);
        plan.connected(&0, at);
        at = plan.lost(&0, at).unwrap().at;
        for _ in 0..5 {
            plan.due(at);
            at = plan.failed(&0, at).unwrap().at;
        }
        plan.due(at);
        plan.failed(&0, at).unwrap().at - at
    });
    assert!(longest <= seconds(1), "{longest:?}");
}

#[test]
fn a_seed_connected_already_is_not_dialed_and_another_is() {
    let now = Instant::now();
    let mut plan = plan(3, 2, 12);
    plan.already(&0, now);
    assert_eq!(
        seeds(plan.due(now)).into_iter().collect::<HashSet<_>>(),
        HashSet::from([1, 2])
    );
    plan.already(&1, now);
    assert_eq!((plan.due(now), plan.next(now)), (vec![], None));
    let later = now + seconds(60);
    let retry = plan.lost(&0, later).unwrap();
    assert_eq!(retry.failures, 0);
    assert_eq!(seeds(plan.due(retry.at)), [0]);
}

#[test]
fn unseeded_connections_count_and_max_wins_over_min() {
    let now = Instant::now();
    let mut plan = plan(9, 3, 12);
    plan.set_unseeded(2);
    assert_eq!(plan.due(now).len(), 1);
    plan.set_unseeded(0);
    assert_eq!(plan.due(now).len(), 2);
    assert_eq!(self::plan(9, 5, 2).due(now).len(), 2);
    assert_eq!(self::plan(9, 5, 0).due(now).len(), 0);
}

#[test]
fn seeds_take_turns_and_those_that_failed_come_last() {
    let mut at = Instant::now();
    let mut plan = plan(5, 1, 1);
    let mut turn = |works: bool| {
        at += seconds(60);
        let seed = seeds(plan.due(at))[0];
        if works {
            plan.connected(&seed, at);
            at += seconds(60);
            plan.lost(&seed, at).unwrap();
        } else {
            plan.failed(&seed, at).unwrap();
        }
        seed
    };
    let first: Vec<_> = (0..5).map(|_| turn(true)).collect();
    assert_eq!(first.iter().collect::<HashSet<_>>().len(), 5);
    // The first one fails now, and is not tried in the next round.
    assert_eq!(turn(false), first[0]);
    let rest: Vec<_> = (0..8).map(|_| turn(true)).collect();
    assert_eq!(rest, [&first[1..], &first[1..]].concat());
}

#[test]
fn nodes_that_share_a_list_spread_over_it() {
    let now = Instant::now();
    let first = |rng| seeds(Plan::new((0..8).collect(), DialConfig::default(), rng).due(now))[0];
    assert_eq!((0..100).map(first).collect::<HashSet<_>>().len(), 8);
}

proptest! {
    /// Simulates seeds of which some work and some refuse, and connections that drop.
    #[test]
    fn limits_hold_and_the_minimum_is_reached(
        count in 1..9_usize, min in 0..6_usize, max in 0..6_usize, rng: u64,
        events in prop::collection::vec((0..9_usize, 0..7_u8, 0..20_000_u64), 0..200),
    ) {
        let mut now = Instant::now();
        let config = DialConfig { min_peers: min, max_peers: max, ..DialConfig::default() };
        let mut plan = Plan::new((0..count).collect(), config, rng);
        let mut dialing = HashSet::new();
        let mut up = HashSet::new();
        let mut already = HashSet::new();
        let mut ended: Vec<Option<Instant>> = vec![None; count];
        let elsewhere = rng as usize % 3;
        plan.set_unseeded(elsewhere);
        let target = min.min(max).saturating_sub(elsewhere);
        for (seed, event, millis) in events {
            let due = plan.due(now);
            let dialed = !due.is_empty();
            for Due { key: seed, .. } in due {
                prop_assert!(!up.contains(&seed) && !already.contains(&seed));
                prop_assert!(dialing.insert(seed), "two dials of one seed");
                prop_assert!(ended[seed].is_none_or(|at| now >= at + MIN_DELAY), "busy loop");
            }
            prop_assert!(dialing.len() + up.len() <= max.saturating_sub(elsewhere));
            prop_assert!(!dialed || plan.held(now) <= target + elsewhere);
            prop_assert_eq!(plan.outbound(), dialing.len() + up.len() + elsewhere);
            prop_assert!(plan.next(now).is_none_or(|at| at > now));
            let seed = seed % count;
            match event {
                0 | 1 => {
                    let was = dialing.remove(&seed);
                    prop_assert_eq!(plan.failed(&seed, now).is_some(), was);
                    if was { ended[seed] = Some(now) };
                }
                2 | 3 => {
                    plan.connected(&seed, now);
                    if dialing.remove(&seed) { up.insert(seed); }
                }
                4 => {
                    let was = up.remove(&seed) | already.remove(&seed);
                    prop_assert_eq!(plan.lost(&seed, now).is_some(), was);
                    if was { ended[seed] = Some(now) };
                }
                5 => {
                    plan.already(&seed, now);
                    dialing.remove(&seed);
                    up.remove(&seed);
                    already.insert(seed);
                }
                _ => now += Duration::from_millis(millis),
            }
        }
        // From here on every seed works, so the minimum is reached within the longest pause.
        let deadline = now + config.backoff.max;
        loop {
            for Due { key: seed, .. } in plan.due(now) { dialing.insert(seed); }
            for seed in dialing.drain() { plan.connected(&seed, now); up.insert(seed); }
            match plan.next(now) {
                Some(at) if at <= deadline => now = at,
                _ => break,
            }
        }
        prop_assert!(up.len() >= target.min(count - already.len()));
    }
}

#[test]
fn a_place_more_is_filled_up_to_the_most_and_not_again_when_it_is_not_wanted_any_more() {
    let now = Instant::now();
    let mut plan = plan(5, 2, 3);
    for key in seeds(plan.due(now)) {
        plan.connected(&key, now);
    }
    assert_eq!(plan.due(now), []);
    plan.set_more(2);
    let more = seeds(plan.due(now));
    assert_eq!(more.len(), 1, "max_peers is 3");
    plan.connected(&more[0], now);
    plan.set_more(0);
    plan.lost(&more[0], now).unwrap();
    assert_eq!((plan.due(now), plan.next(now)), (vec![], None));
}
