use proptest::prelude::*;

use super::*;

const FLOOR: f64 = SLOW_FLOOR as f64;

/// Checks the gauge whenever it asks for it, for a peer that drains `rate` bytes a second. The
/// process is suspended for `pause` seconds at `stopped`. Returns the second in which the peer was
/// found slow, if that is within 100 s of running.
fn run(rate: f64, stopped: f64, pause: f64) -> Option<f64> {
    let start = Instant::now();
    let mut gauge = SlowGauge::default();
    gauge.pressed(start, 0);
    let (mut now, mut drained) = (start, 0.0);
    let mut pause = pause;
    let mut end = start + Duration::from_secs(100);
    while now < end {
        match gauge.check(now, drained as u64) {
            Pressure::Idle => panic!("the queue is full"),
            Pressure::Slow => return Some((now - start).as_secs_f64()),
            Pressure::Wait(at) => {
                assert!(at > now, "a busy loop");
                drained += rate * (at - now).as_secs_f64();
                now = at;
            }
        }
        if (now - start).as_secs_f64() >= stopped {
            now += Duration::from_secs_f64(pause);
            end += Duration::from_secs_f64(pause);
            pause = 0.0;
        }
    }
    None
}

#[test]
fn a_peer_that_takes_nothing_is_slow_after_patience() {
    assert_eq!(run(0.0, 0.0, 0.0), Some(10.0));
    assert_eq!(run(300.0, 0.0, 0.0), Some(11.0));
    assert_eq!(run(FLOOR / 2.0, 0.0, 0.0), Some(20.0));
}

#[test]
fn progress_in_large_steps_is_not_slow() {
    let start = Instant::now();
    let mut gauge = SlowGauge::default();
    gauge.pressed(start, 0);
    // 18,000 bytes a second, seen 128 KiB at a time.
    for second in 1..200_u64 {
        let drained = second * 18_000 / 131_072 * 131_072;
        let found = gauge.check(start + Duration::from_secs(second), drained);
        assert!(matches!(found, Pressure::Wait(_)), "after {second} s");
    }
}

#[test]
fn a_line_at_the_floor_is_not_slow() {
    assert_eq!(run(FLOOR + 1.0, 0.0, 0.0), None);
}

#[test]
fn debt_accrues_only_while_the_queue_is_full() {
    let now = Instant::now();
    let second = |n| now + Duration::from_secs(n);
    let mut gauge = SlowGauge::default();
    assert_eq!(gauge.check(now, 0), Pressure::Idle);
    for at in 0..9 {
        gauge.pressed(second(at), 0);
        assert_eq!(gauge.check(second(at), 0), Pressure::Wait(second(at + 1)));
    }
    gauge.relieved(second(9), 0);
    assert_eq!(gauge.check(second(12), 0), Pressure::Idle);
    for at in 12..22 {
        gauge.pressed(second(at), 0);
        assert!(matches!(gauge.check(second(at), 0), Pressure::Wait(_)));
    }
    assert_eq!(gauge.check(second(22), 0), Pressure::Slow);
}

#[test]
fn payments_beyond_the_debt_are_not_kept() {
    let now = Instant::now();
    let mut gauge = SlowGauge::default();
    gauge.pressed(now, 0);
    // Much in the first second does not pay for the seconds that follow.
    let found = (0..=30).find(|second| {
        let drained = if *second == 0 { 0 } else { 1 << 30 };
        gauge.check(now + Duration::from_secs(*second), drained) == Pressure::Slow
    });
    assert_eq!(found, Some(11));
}

/// Checks a peer that stops for `stop` and then takes its whole queue, 4 MiB, within `go`, again
/// and again. Returns when it was found slow, if that is within 600 s.
fn stop_and_go(stop: Duration, go: Duration) -> Option<Duration> {
    let start = Instant::now();
    let mut gauge = SlowGauge::default();
    let (mut now, mut drained) = (start, 0);
    while now - start < Duration::from_secs(600) {
        let again = now + stop;
        gauge.pressed(now, drained);
        while now < again {
            match gauge.check(now, drained) {
                Pressure::Slow => return Some(now - start),
                Pressure::Wait(at) => now = at.min(again),
                Pressure::Idle => panic!("the queue is full"),
            }
        }
        drained += 4 * 1024 * 1024;
        gauge.relieved(now, drained);
        now += go;
    }
    None
}

#[test]
fn a_peer_that_stops_again_and_again_uses_up_its_patience() {
    for (stop, go) in [
        (9000, 1),
        (9000, 600),
        (5000, 100),
        (2000, 2000),
        (3000, 3000),
    ] {
        let (stop, go) = (Duration::from_millis(stop), Duration::from_millis(go));
        let found = stop_and_go(stop, go).expect("slow at last");
        // The first stop is not counted yet, nor is the end of a stop within a slice, and
        // draining refills a little.
        assert!(
            found < Duration::from_secs(70),
            "{stop:?}, {go:?}: {found:?}"
        );
    }
}

#[test]
fn a_peer_that_stops_rarely_is_not_slow() {
    for (stop, go) in [(9, 100), (3, 40), (1, 20)] {
        let (stop, go) = (Duration::from_secs(stop), Duration::from_secs(go));
        assert_eq!(stop_and_go(stop, go), None);
    }
}

#[test]
fn a_peer_that_was_slow_gets_its_patience_back_slowly() {
    let cut = Instant::now();
    let penance = Penance::begin(None, cut);
    let after = |penance: Penance, passed| {
        let now = cut + Duration::from_secs(passed);
        let mut gauge = SlowGauge::new(PATIENCE, SLOW_FLOOR, Some(penance));
        gauge.pressed(now, 0);
        let mut at = now;
        while let Pressure::Wait(next) = gauge.check(at, 0) {
            at = next;
        }
        at - now
    };
    assert_eq!(after(penance, 0), Duration::ZERO);
    assert_eq!(after(penance, 64), Duration::from_secs(1));
    assert_eq!(after(penance, 640), PATIENCE);
    assert!(penance.is_over(PATIENCE, cut + Duration::from_secs(640)));
    assert_eq!(after(Penance::begin(Some(penance), cut), 640), PATIENCE / 2);
    let often = (0..100).fold(penance, |penance, _| Penance::begin(Some(penance), cut));
    assert!(often.is_over(PATIENCE, cut + Duration::from_secs(24 * 3600)));
}

#[test]
fn a_peer_that_leaves_in_time_returns_with_the_rest_of_its_patience() {
    let start = Instant::now();
    let mut penance = None;
    let mut now = start;
    let mut waited = Duration::ZERO;
    // It leaves after 9 s, or before it would be cut, and returns at once.
    for _ in 0..5 {
        let mut gauge = SlowGauge::new(PATIENCE, SLOW_FLOOR, penance);
        gauge.pressed(now, 0);
        let came = now;
        while let Pressure::Wait(next) = gauge.check(now, 0) {
            if next > came + Duration::from_secs(9) {
                break;
            }
            now = next;
        }
        waited += now - came;
        let spent = gauge.spent(now, 0);
        penance = Penance::of_spent(penance, spent, PATIENCE, now).or(penance);
    }
    assert!(waited < Duration::from_secs(12), "{waited:?}");
    let spent = Duration::from_millis(900);
    assert_eq!(Penance::of_spent(None, spent, PATIENCE, now), None);
}

#[test]
fn a_fast_enough_line_is_served_after_it_was_slow() {
    let cut = Instant::now();
    let mut gauge = SlowGauge::new(PATIENCE, SLOW_FLOOR, Some(Penance::begin(None, cut)));
    let start = cut + Duration::from_secs(10);
    gauge.pressed(start, 0);
    let (mut now, mut drained) = (start, 0.0);
    while now < start + Duration::from_secs(60) {
        let Pressure::Wait(at) = gauge.check(now, drained as u64) else {
            panic!("slow after {:?}", now - start);
        };
        drained += 2.0 * FLOOR * (at - now).as_secs_f64();
        now = at;
    }
}

proptest! {
    #[test]
    fn a_line_above_the_floor_is_served_in_any_steps(step in 1_u64..256, pace in 1.05_f64..60.0) {
        let start = Instant::now();
        let mut gauge = SlowGauge::default();
        gauge.pressed(start, 0);
        // The debt between two steps stays below the limit.
        let step = (step * 1024).min(150 * 1024);
        for tenth in 1..3000_u64 {
            let passed = pace * FLOOR * tenth as f64 / 10.0;
            let drained = passed as u64 / step * step;
            let now = start + Duration::from_millis(100 * tenth);
            prop_assert!(gauge.check(now, drained) != Pressure::Slow, "after {tenth}");
        }
    }

    #[test]
    fn a_suspension_is_not_held_against_the_peer(
        rate in 0.0..3.0_f64, stopped in 0.0..60.0_f64, pause in 0.0..10_000.0_f64,
    ) {
        match run(rate * FLOOR, stopped, pause) {
            // The slice in which the process was suspended is one of ten.
            Some(_) => prop_assert!(rate < 1.2),
            None => prop_assert!(rate > 0.85),
        }
    }
}
