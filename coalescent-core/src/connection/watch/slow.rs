//! Decides which peers are too slow to wait for. Reads no clock.

use std::time::Duration;

use tokio::time::Instant;

use crate::node::Penance;

/// How long a peer that takes nothing may have a full queue. Default of the configuration.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The bytes a second that a peer with a full queue must take on average. Default of the
/// configuration.
pub(crate) const SLOW_FLOOR: u64 = 16 * 1024;

/// How many slices the patience is divided into. The gauge is checked after each.
const SLICES: u32 = 10;

/// A peer that takes this many times the floor within a slice is brisk: it can take all it is sent
/// when it wants to. At the defaults that is 1 MiB; the socket of a slow line progresses in smaller
/// steps.
const BRISK: u64 = 64;

/// For how many times `patience` a peer counts as brisk after it was seen to be.
const BRISK_FOR: u32 = 10;

/// A second in which a peer makes nobody wait, or takes what it is sent, restores this fraction of
/// a second of its budget: one tenth.
const REFILL: u32 = 10;

/// With less patience than this left, a peer is slow as soon as its queue is full. Shorter times
/// measure this process rather than the peer.
const LEAST: Duration = Duration::from_millis(10);

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pressure {
    /// The queue is not full. Nothing is to be checked until it is.
    Idle,
    /// Check again at this instant.
    Wait(Instant),
    /// Disconnect the peer.
    Slow,
}

/// Measures how fast a peer drains its queue while the queue is full. Finds peers that drain less
/// than `floor` bytes a second, and peers that stop again and again although they need not.
///
/// *Debt.* While its queue is full, a peer owes `floor` bytes for each second, and pays with each
/// byte that it takes. Payments beyond the debt are not kept. The peer is slow when it owes what it
/// should have taken in `patience`. So a peer that takes nothing is slow after `patience`, one that
/// takes half of the floor after twice as long, and one that takes the floor never, however large
/// the steps in which its socket progresses.
///
/// *Budget.* A reader that stops, and takes all at once just before its debt is due, owes nothing
/// then, and would make others wait for nearly all of the time. So a peer that has shown that it
/// can take much at once ([`BRISK`]) has `patience` also as a budget for all the time in which its
/// queue is full and it takes less than the floor. The budget is not reset when the queue drains;
/// it refills slowly ([`REFILL`]). A line that is always slow spends nothing, and is served at its
/// pace. Nor does a peer that stops for less than a slice each time, which cannot be told from a
/// somewhat faster line.
///
/// *Suspension.* Time is counted in slices of a tenth of `patience`, and a later check counts as
/// one slice: time in which this process was suspended, and could write nothing, is not held
/// against the peer.
#[derive(Debug)]
pub(crate) struct SlowGauge {
    patience: Duration,
    floor: u64,
    penance: Option<Penance>,
    /// Boxed, since few peers ever fill their queue.
    account: Option<Box<Account>>,
}

#[derive(Debug)]
struct Account {
    /// The debt, while the queue is full.
    pressed: Option<Debt>,
    /// The spent part of the budget, as of `counted`.
    stopped: Duration,
    counted: Instant,
    /// How long the peer has taken less than the floor without a break, if it is not known to be
    /// brisk. Added to `stopped` if it proves to be.
    idle: Duration,
    /// The bytes drained since `burst_since`, about a slice ago.
    burst: u64,
    burst_since: Instant,
    /// Until when the peer counts as brisk.
    brisk_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Debt {
    /// The patience with this peer, lowered by its penance.
    patience: Duration,
    /// The debt in thousandths of a byte, since time is counted in milliseconds.
    owed: u128,
    /// The bytes that had been drained in all at `checked`.
    drained: u64,
    checked: Instant,
}

impl SlowGauge {
    /// Returns a gauge for an empty queue. `floor` is in bytes a second.
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

    /// Notes that the queue is no longer full.
    ///
    /// Call this when the queue has fallen to half its bound, not as soon as one frame fits: a peer
    /// that reads a few bytes now and then would make room for a frame each time, and never be
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

    /// Returns how much of its patience the peer has used up.
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

    /// Decides whether the peer is slow.
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
        // At least a millisecond, for a patience too short to be divided.
        Pressure::Wait(now + debt.slice().max(Duration::from_millis(1)))
    }
}

impl Debt {
    fn slice(&self) -> Duration {
        self.patience / SLICES
    }
}

impl Account {
    /// Accounts for the time since the last check. Returns how much of it counts: at most a slice.
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
            // A shorter time may just lie between two writes.
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

    /// Refills the budget for the time since it was counted last.
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
#[path = "slow_tests.rs"]
mod tests;
