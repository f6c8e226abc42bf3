//! Which peers are too slow to be waited for: decisions only.

use std::time::Duration;

use tokio::time::Instant;

use crate::node::Penance;

/// How long a peer's queue may stay full before the peer is judged, unless said otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The bytes a second that a peer with a full queue must take on average, unless said otherwise.
pub(crate) const SLOW_FLOOR: u64 = 16 * 1024;

/// The parts of a window after each of which the gauge is checked.
const SLICES: u32 = 10;

/// A peer that takes this many times the floor within a slice is brisk: it can take what it is
/// given when it wants to. At the defaults that is 1 MiB. A socket of a thin line shows its
/// progress in smaller steps.
const BRISK: u64 = 64;

/// For how many windows of `patience` a peer counts as brisk after it was.
const BRISK_FOR: u32 = 10;

/// A second in which a peer makes nobody wait, or takes what it is given, earns it this part of a
/// second in which it does neither.
const REFILL: u32 = 10;

/// Patience shorter than this is none: the peer is slow as soon as its queue is full. A shorter
/// time says more of this process than of the peer.
const LEAST: Duration = Duration::from_millis(10);

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

/// Finds the peer whose queue stays full while it drains less than `floor` bytes a second, and the
/// one that stops again and again though it need not.
///
/// While its queue is full, a peer owes `floor` bytes for each second, and pays with each byte that
/// it takes. What it pays beyond its debt is not kept for later. It is slow when it owes what it
/// should have taken in `patience`: so a peer that takes nothing is slow after `patience`, one that
/// takes half of the floor after twice as long, and one that takes as much as the floor never, in
/// however large steps its socket lets it be seen.
///
/// A reader that stops, and takes all at once just before its debt is due, owes nothing then, and
/// would make the others wait for nearly all of the time. So a peer that has shown that it can take
/// much at once ([`BRISK`]) has `patience` also as a budget, for all the time in which its queue is
/// full and it takes less than the floor. That outlasts the relief, and comes back slowly
/// ([`REFILL`]). A line that is thin all the while spends nothing: it is served at its
/// pace. Nor does one that stops for less than a slice each time, since that cannot be told from a
/// line that is less thin.
///
/// Time is counted in slices of a tenth of `patience`, and a check that comes later than that
/// counts as one slice: time in which this process was stopped, and could write nothing, is not
/// held against the peer.
#[derive(Debug)]
pub(crate) struct SlowGauge {
    patience: Duration,
    floor: u64,
    penance: Option<Penance>,
    /// Boxed, since few peers ever have one.
    account: Option<Box<Account>>,
}

#[derive(Debug)]
struct Account {
    pressed: Option<Debt>,
    /// What is spent of the budget, as of `counted`.
    stopped: Duration,
    counted: Instant,
    /// How long the peer has taken less than the floor just now, while it is not known to be
    /// brisk.
    idle: Duration,
    /// What was drained within about a slice since then.
    burst: u64,
    burst_since: Instant,
    brisk_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Debt {
    /// What there is of patience this time.
    patience: Duration,
    /// What the peer owes, in thousandths of a byte, since time is counted in milliseconds.
    owed: u128,
    /// What had been drained in all at `checked`.
    drained: u64,
    checked: Instant,
}

impl SlowGauge {
    /// Makes a gauge for an empty queue. `floor` is in bytes a second.
    pub(crate) fn new(patience: Duration, floor: u64, penance: Option<Penance>) -> Self {
        Self {
            patience,
            floor,
            penance,
            account: None,
        }
    }

    /// Notes that the queue is full. `drained_total` counts the bytes ever written to the peer's
    /// socket.
    pub(crate) fn pressed(&mut self, now: Instant, drained_total: u64) {
        let account = self.account.get_or_insert_with(|| {
            Box::new(Account {
                pressed: None,
                stopped: Duration::ZERO,
                counted: now,
                idle: Duration::ZERO,
                burst: 0,
                burst_since: now,
                brisk_until: None,
            })
        });
        if account.pressed.is_some() {
            return;
        }
        account.refill(now);
        let patience = self.penance.map(|it| it.patience(self.patience, now));
        account.pressed = Some(Debt {
            patience: patience.unwrap_or(self.patience),
            owed: 0,
            drained: drained_total,
            checked: now,
        });
    }

    /// Notes that the queue is full no more.
    ///
    /// To be called when the queue has fallen to half its bound, not as soon as one frame fits: a
    /// peer that reads a few bytes now and then would make room for a frame each time, and never be
    /// slow.
    pub(crate) fn relieved(&mut self, now: Instant, drained_total: u64) {
        let Some(account) = &mut self.account else {
            return;
        };
        if let Some(debt) = account.pressed.take() {
            account.take(&debt, self.floor, now, drained_total);
        }
        account.refill(now);
        let brisk = account.brisk_until.is_some_and(|until| now < until);
        if account.stopped.is_zero() && !brisk {
            self.account = None;
        }
    }

    /// How much of its patience the peer has used up.
    pub(crate) fn spent(&mut self, now: Instant, drained_total: u64) -> Duration {
        if self.check(now, drained_total) == Pressure::Idle {
            let stopped = self.account.as_ref().map(|account| account.stopped);
            return stopped.unwrap_or_default();
        }
        let Some(account) = &self.account else {
            return Duration::ZERO;
        };
        let owed = account.pressed.map_or(0, |debt| debt.owed);
        let owed = owed.checked_div(u128::from(self.floor)).unwrap_or(0);
        let owed = Duration::from_millis(u64::try_from(owed).unwrap_or(u64::MAX));
        owed.max(account.stopped)
    }

    /// Judges the peer, if its time has come.
    pub(crate) fn check(&mut self, now: Instant, drained_total: u64) -> Pressure {
        let Some(account) = &mut self.account else {
            return Pressure::Idle;
        };
        let Some(mut debt) = account.pressed else {
            return Pressure::Idle;
        };
        if debt.patience < LEAST.min(self.patience) {
            return Pressure::Slow;
        }
        let lived = account.take(&debt, self.floor, now, drained_total);
        let paid = drained_total.saturating_sub(debt.drained);
        debt.owed += u128::from(self.floor) * lived.as_millis();
        debt.owed = debt.owed.saturating_sub(u128::from(paid) * 1000);
        debt.drained = drained_total;
        debt.checked = debt.checked.max(now);
        account.pressed = Some(debt);
        let owes_all = debt.owed >= u128::from(self.floor) * debt.patience.as_millis();
        if owes_all || account.stopped >= debt.patience {
            return Pressure::Slow;
        }
        // A patience too short to be counted in slices is still counted.
        Pressure::Wait(now + debt.slice().max(Duration::from_millis(1)))
    }
}

impl Debt {
    fn slice(&self) -> Duration {
        self.patience / SLICES
    }
}

impl Account {
    /// Counts the time since the last check for or against the peer. Returns how much of it counts.
    fn take(&mut self, debt: &Debt, floor: u64, now: Instant, drained_total: u64) -> Duration {
        let slice = debt.slice();
        let passed = now.saturating_duration_since(debt.checked);
        let lived = passed.min(slice);
        let drained = drained_total.saturating_sub(debt.drained);
        let paid = u128::from(drained) * 1000;
        if now.saturating_duration_since(self.burst_since) > slice {
            self.burst_since = now;
            self.burst = 0;
        }
        self.burst += drained;
        let brisk_from = u128::from(floor) * slice.as_millis() * u128::from(BRISK);
        if brisk_from > 0 && u128::from(self.burst) * 1000 >= brisk_from {
            self.brisk_until = now.checked_add(debt.patience.saturating_mul(BRISK_FOR));
        }
        let brisk = self.brisk_until.is_some_and(|until| now < until);
        let idle = paid < u128::from(floor) * lived.as_millis();
        if brisk {
            self.stopped += std::mem::take(&mut self.idle);
        }
        if !idle {
            self.idle = Duration::ZERO;
            self.refill(now);
        } else if passed >= slice {
            // Less than a slice may be a moment between two writes.
            let stop = if brisk {
                &mut self.stopped
            } else {
                &mut self.idle
            };
            *stop += lived;
            self.counted = now;
        }
        lived
    }

    /// Gives back what was earned since it was counted last.
    fn refill(&mut self, now: Instant) {
        let earned = now.saturating_duration_since(self.counted) / REFILL;
        self.stopped = self.stopped.saturating_sub(earned);
        self.counted = self.counted.max(now);
    }
}

impl Default for SlowGauge {
    fn default() -> Self {
        Self::new(PATIENCE, SLOW_FLOOR, None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FLOOR: f64 = SLOW_FLOOR as f64;

    /// Follows the gauge's own waits with a peer that drains `rate` bytes a second, except during a
    /// pause of `pause` seconds in which this process is stopped, at `stopped`. Returns when it was
    /// found slow, within 100 s of running.
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
        gauge.relieved(second(9), 0);
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

    /// Follows a peer that stops for `stop` and then takes all that its queue holds, 4 MiB, within
    /// `go`. Returns when it was found slow, within 600 s.
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
    fn who_stops_and_goes_has_used_up_its_patience_after_a_few_times() {
        for (stop, go) in [
            (9000, 1),
            (9000, 600),
            (5000, 100),
            (2000, 2000),
            (3000, 3000),
        ] {
            let (stop, go) = (Duration::from_millis(stop), Duration::from_millis(go));
            let found = stop_and_go(stop, go).expect("slow at last");
            // The first stop shows nothing, what ends within a slice is not counted, and the going
            // earns a little.
            assert!(
                found < Duration::from_secs(70),
                "{stop:?}, {go:?}: {found:?}"
            );
        }
    }

    #[test]
    fn who_stops_seldom_is_not_slow() {
        for (stop, go) in [(9, 100), (3, 40), (1, 20)] {
            let (stop, go) = (Duration::from_secs(stop), Duration::from_secs(go));
            assert_eq!(stop_and_go(stop, go), None);
        }
    }

    #[test]
    fn one_who_was_slow_gets_no_patience_and_it_comes_back() {
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
    fn who_leaves_in_time_comes_back_with_what_was_left() {
        let start = Instant::now();
        let mut penance = None;
        let mut now = start;
        let mut waited = Duration::ZERO;
        // It leaves after 9 s, or when it would be cut, and is back at once.
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
    fn a_line_that_takes_its_pace_is_served_after_it_was_slow() {
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
        fn a_thin_line_in_steps_is_served(step in 1_u64..256, pace in 1.05_f64..60.0) {
            let start = Instant::now();
            let mut gauge = SlowGauge::default();
            gauge.pressed(start, 0);
            // What is missing between two steps stays below what it may owe.
            let step = (step * 1024).min(150 * 1024);
            for tenth in 1..3000_u64 {
                let passed = pace * FLOOR * tenth as f64 / 10.0;
                let drained = passed as u64 / step * step;
                let now = start + Duration::from_millis(100 * tenth);
                prop_assert!(gauge.check(now, drained) != Pressure::Slow, "after {tenth}");
            }
        }

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
