//! Which peers are too slow to be waited for: decisions only.

use std::time::Duration;

use tokio::time::Instant;

/// How long a peer's queue may stay full before the peer is judged, unless said otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The bytes a second that a peer with a full queue must take on average, unless said otherwise.
pub(crate) const SLOW_FLOOR: u64 = 16 * 1024;

/// The parts of a window after each of which the gauge is checked.
const SLICES: u32 = 10;

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pressure {
    /// The queue is not full; nothing to check until it is.
    Idle,
    /// Check again at this instant.
    Wait(Instant),
    /// Disconnect the peer.
    Slow,
}

/// Finds the peer whose queue stays full while it drains less than `floor` bytes a second.
///
/// While its queue is full, a peer owes `floor` bytes for each second, and pays with each byte that it takes. What it
/// pays beyond its debt is not kept for later. It is slow when it owes what it should have taken in `patience`: so a
/// peer that takes nothing is slow after `patience`, one that takes half of the floor after twice as long, and one that
/// takes as much as the floor never, in however large steps its socket lets it be seen.
///
/// Time is counted in slices of a tenth of `patience`, and a check that comes later than that counts as one slice: time
/// in which this process was stopped, and could write nothing, is not held against the peer.
#[derive(Debug)]
pub(crate) struct SlowGauge {
    patience: Duration,
    floor: u64,
    /// Boxed, since few peers ever have one.
    pressed: Option<Box<Debt>>,
}

#[derive(Clone, Copy, Debug)]
struct Debt {
    /// What the peer owes, in thousandths of a byte, since time is counted in milliseconds.
    owed: u128,
    /// What had been drained in all at `checked`.
    drained: u64,
    checked: Instant,
}

impl SlowGauge {
    /// Makes a gauge for an empty queue. `floor` is in bytes a second.
    pub(crate) fn new(patience: Duration, floor: u64) -> Self {
        Self {
            patience,
            floor,
            pressed: None,
        }
    }

    /// Notes that the queue is full. `drained_total` counts the bytes ever written to the peer's socket.
    pub(crate) fn pressed(&mut self, now: Instant, drained_total: u64) {
        self.pressed.get_or_insert_with(|| {
            Box::new(Debt {
                owed: 0,
                drained: drained_total,
                checked: now,
            })
        });
    }

    /// Notes that the queue is full no more.
    ///
    /// To be called when the queue has fallen to half its bound, not as soon as one frame fits: a peer that reads a few
    /// bytes now and then would make room for a frame each time, and never be slow.
    pub(crate) fn relieved(&mut self) {
        self.pressed = None;
    }

    /// Judges the peer, if its time has come.
    pub(crate) fn check(&mut self, now: Instant, drained_total: u64) -> Pressure {
        let slice = self.patience / SLICES;
        let Some(debt) = &mut self.pressed else {
            return Pressure::Idle;
        };
        let lived = now.saturating_duration_since(debt.checked).min(slice);
        let paid = drained_total.saturating_sub(debt.drained);
        debt.owed += u128::from(self.floor) * lived.as_millis();
        debt.owed = debt.owed.saturating_sub(u128::from(paid) * 1000);
        debt.drained = drained_total;
        debt.checked = debt.checked.max(now);
        if debt.owed >= u128::from(self.floor) * self.patience.as_millis() {
            return Pressure::Slow;
        }
        // A patience too short to be counted in slices is still counted.
        Pressure::Wait(now + slice.max(Duration::from_millis(1)))
    }
}

impl Default for SlowGauge {
    fn default() -> Self {
        Self::new(PATIENCE, SLOW_FLOOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FLOOR: f64 = SLOW_FLOOR as f64;

    /// Follows the gauge's own waits with a peer that drains `rate` bytes a second, except during a pause of `pause`
    /// seconds in which this process is stopped, at `stopped`. Returns when it was found slow, within 100 s of running.
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
    fn a_reader_of_nothing_is_slow_after_patience() {
        assert_eq!(run(0.0, 0.0, 0.0), Some(10.0));
        assert_eq!(run(300.0, 0.0, 0.0), Some(11.0));
        assert_eq!(run(FLOOR / 2.0, 0.0, 0.0), Some(20.0));
    }

    #[test]
    fn a_line_whose_progress_shows_in_large_steps_is_not_slow() {
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
    fn a_thin_line_is_served_at_its_pace() {
        assert_eq!(run(FLOOR + 1.0, 0.0, 0.0), None);
    }

    #[test]
    fn the_debt_begins_with_the_pressure_and_ends_with_it() {
        let now = Instant::now();
        let second = |n| now + Duration::from_secs(n);
        let mut gauge = SlowGauge::default();
        assert_eq!(gauge.check(now, 0), Pressure::Idle);
        for at in 0..9 {
            gauge.pressed(second(at), 0);
            assert_eq!(gauge.check(second(at), 0), Pressure::Wait(second(at + 1)));
        }
        gauge.relieved();
        assert_eq!(gauge.check(second(12), 0), Pressure::Idle);
        for at in 12..22 {
            gauge.pressed(second(at), 0);
            assert!(matches!(gauge.check(second(at), 0), Pressure::Wait(_)));
        }
        assert_eq!(gauge.check(second(22), 0), Pressure::Slow);
    }

    #[test]
    fn what_is_paid_beyond_the_debt_is_not_kept() {
        let now = Instant::now();
        let mut gauge = SlowGauge::default();
        gauge.pressed(now, 0);
        // Much in the first second does not pay for nothing in those that follow.
        let found = (0..=30).find(|second| {
            let drained = if *second == 0 { 0 } else { 1 << 30 };
            gauge.check(now + Duration::from_secs(*second), drained) == Pressure::Slow
        });
        assert_eq!(found, Some(11));
    }

    proptest! {
        #[test]
        fn a_stopped_process_is_not_the_peers_fault(
            rate in 0.0..3.0_f64, stopped in 0.0..60.0_f64, pause in 0.0..10_000.0_f64,
        ) {
            match run(rate * FLOOR, stopped, pause) {
                // The slice in which the process was stopped is one of ten.
                Some(_) => prop_assert!(rate < 1.2),
                None => prop_assert!(rate > 0.85),
            }
        }
    }
}
