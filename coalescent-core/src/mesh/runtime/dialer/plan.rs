//! Which seed to dial when: decisions only, without a socket or a clock.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

/// The shortest pause before a seed is dialed again, whatever the jitter says: it keeps a seed that
/// refuses at once from being dialed in a busy loop.
pub(crate) const MIN_DELAY: Duration = Duration::from_millis(50);

/// The longest pause before a seed is dialed again that was connected a short while ago, unless the
/// longest pause of all is shorter.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// How long that while is.
pub(crate) const SOON_FOR: Duration = Duration::from_secs(3 * 60);

/// How many seeds to stay connected to, and how patiently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DialConfig {
    /// Seeds are dialed while fewer outbound connections than this are up or in progress. Default:
    /// 3.
    pub(crate) min_peers: usize,
    /// Never more outbound connections than this are up or in progress through dialing seeds. It
    /// wins over a greater `min_peers`. Default: 12.
    pub(crate) max_peers: usize,
    /// How long to wait before a seed that failed is dialed again.
    pub(crate) backoff: Backoff,
}

impl Default for DialConfig {
    fn default() -> Self {
        Self {
            min_peers: 3,
            max_peers: 12,
            backoff: Backoff::default(),
        }
    }
}

/// Exponential backoff with full jitter: a random time of at most `initial` after the first
/// failure, of at most twice that after the second, and so on; of at most `soon` for a while after
/// a connection was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    /// The longest delay after one failure. Default: 0.5 s.
    pub(crate) initial: Duration,
    /// What it is multiplied by with each further failure. Default: 2.
    pub(crate) factor: u32,
    /// The longest delay of all. Default: 60 s.
    pub(crate) max: Duration,
    /// The longest delay while a connection that was lost is likely to come back. Default: 5 s.
    pub(crate) soon: Duration,
    /// How long that is, from when it was lost. Default: 3 min.
    pub(crate) soon_for: Duration,
    /// How long a connection must have been up to clear the count of failures. One that ends
    /// earlier counts as a failure: a seed that accepts and closes isn't hammered. Default: 30 s.
    pub(crate) reset_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(500),
            factor: 2,
            max: Duration::from_secs(60),
            soon: SOON,
            soon_for: SOON_FOR,
            reset_after: Duration::from_secs(30),
        }
    }
}

impl Backoff {
    /// The longest delay after `failures` failures in a row; after none, that of one failure: when
    /// a seed restarts, those it drops should not all come back in the same instant.
    fn cap(&self, failures: u32) -> Duration {
        let factor = self
            .factor
            .checked_pow(failures.saturating_sub(1))
            .unwrap_or(u32::MAX);
        self.initial.saturating_mul(factor).min(self.max)
    }
}

/// A seed to dial now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dial<S> {
    pub(crate) seed: S,
    /// How often in a row this seed has failed before.
    pub(crate) failures: u32,
}

/// When a seed that failed or was lost may be dialed again, if it is needed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retry {
    /// How often in a row this seed has failed.
    pub(crate) failures: u32,
    pub(crate) at: Instant,
}

/// Decides which seeds to dial.
///
/// Call [`due`](Self::due) at the start, after each other call that changes something, and at the
/// instant that [`next`](Self::next) names. Each seed that it returns must be answered with
/// [`connected`](Self::connected), [`failed`](Self::failed) or [`already`](Self::already).
///
/// Of the seeds whose pause is over, those with the fewest failures come first, then those that
/// were tried longest ago, then chance decides: nodes that share a list of seeds spread over it. A
/// seed that was lost pauses too, so that another one replaces it at once, if there is one. No seed
/// is ever given up: whom its name stands for is a matter of the moment.
#[derive(Debug)]
pub(crate) struct Plan<S> {
    config: DialConfig,
    rng: StdRng,
    entries: Vec<Entry<S>>,
    /// Where in `entries` a seed is. Entries are never removed.
    index: HashMap<S, usize>,
    /// Outbound connections that belong to no seed.
    elsewhere: usize,
    /// Counts dials, to know which seed was tried longest ago.
    tries: u64,
}

#[derive(Debug)]
struct Entry<S> {
    seed: S,
    state: State,
    /// Failures in a row.
    failures: u32,
    /// As many of them as make the pauses longer.
    steps: u32,
    /// When a connection was lost after which the seed is dialed again soon.
    lost: Option<Instant>,
    /// Whether this node itself was at an address of the seed when it was dialed last.
    itself: bool,
    /// `Plan::tries` when it was dialed last, 0 if never.
    tried: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not connected, to be left alone until then; `None`: never tried.
    Idle(Option<Instant>),
    Dialing,
    /// Connected through our dial since then.
    Up(Instant),
    /// Connected through another link since then.
    Already(Instant),
}

impl<S: Clone + Eq + Hash> Plan<S> {
    /// Makes a plan for `seeds`, in which duplicates count once. The same `rng_seed` and calls make
    /// the same decisions.
    pub(crate) fn new(seeds: Vec<S>, config: DialConfig, rng_seed: u64) -> Self {
        let mut plan = Self {
            config,
            rng: StdRng::seed_from_u64(rng_seed),
            entries: Vec::with_capacity(seeds.len()),
            index: HashMap::with_capacity(seeds.len()),
            elsewhere: 0,
            tries: 0,
        };
        for seed in seeds {
            plan.add_seed(seed);
        }
        plan
    }

    /// Adds a seed, unless it is known.
    pub(crate) fn add_seed(&mut self, seed: S) {
        let next = self.entries.len();
        self.index.entry(seed.clone()).or_insert_with(|| {
            self.entries.push(Entry {
                seed,
                state: State::Idle(None),
                failures: 0,
                steps: 0,
                lost: None,
                itself: false,
                tried: 0,
            });
            next
        });
    }

    /// Returns the seeds to start dialing now; they count as in progress from here on.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Dial<S>> {
        let missing = self.missing();
        if missing == 0 {
            return Vec::new();
        }
        let mut ready: Vec<_> = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            if matches!(entry.state, State::Idle(at) if at.is_none_or(|at| at <= now)) {
                ready.push((entry.failures, entry.tried, self.rng.random::<u32>(), index));
            }
        }
        ready.sort_unstable();
        let mut dials = Vec::new();
        for (.., index) in ready.into_iter().take(missing) {
            if let Some(entry) = self.entries.get_mut(index) {
                self.tries += 1;
                entry.state = State::Dialing;
                entry.tried = self.tries;
                dials.push(Dial {
                    seed: entry.seed.clone(),
                    failures: entry.failures,
                });
            }
        }
        dials
    }

    /// Returns when [`due`](Self::due) will have something to say if nothing else happens; `now` if
    /// it has already.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        if self.missing() == 0 {
            return None;
        }
        let idle = self.entries.iter().filter_map(|entry| match entry.state {
            State::Idle(at) => Some(at.map_or(now, |at| at.max(now))),
            State::Dialing | State::Up(_) | State::Already(_) => None,
        });
        idle.min()
    }

    /// Notes that the dial of `seed` failed. Returns when it may be tried again, to be reported
    /// with the failure; `None` if no such dial was in progress (nothing is to be reported then).
    pub(crate) fn failed(&mut self, seed: &S, now: Instant) -> Option<Retry> {
        let entry = self.entries.get_mut(*self.index.get(seed)?)?;
        if entry.state != State::Dialing {
            return None;
        }
        entry.fail(&self.config.backoff, now);
        Some(entry.pause(&self.config.backoff, &mut self.rng, now))
    }

    /// Notes that the dial of `seed` ended in a connection, handshake included.
    pub(crate) fn connected(&mut self, seed: &S, now: Instant) {
        if let Some(entry) = self
            .entry(seed)
            .filter(|entry| entry.state == State::Dialing)
        {
            entry.state = State::Up(now);
        }
    }

    /// Notes that the seed's node is connected through another link: one it dialed itself, or one
    /// to another of its addresses.
    ///
    /// The seed is not dialed until this link is [`lost`](Self::lost). It does not count as
    /// outbound: nodes that were chosen by this one are harder to replace with an attacker's than
    /// nodes that chose this one, and two addresses of one node would else count as two peers.
    pub(crate) fn already(&mut self, seed: &S, now: Instant) {
        if let Some(entry) = self.entry(seed) {
            entry.state = match entry.state {
                State::Idle(_) | State::Dialing => State::Already(now),
                State::Up(since) | State::Already(since) => State::Already(since),
            };
        }
    }

    /// Notes that the connection to `seed`, through whichever link, has ended. Returns when the
    /// seed may be tried again; `None` if it was not connected.
    pub(crate) fn lost(&mut self, seed: &S, now: Instant) -> Option<Retry> {
        let entry = self.entries.get_mut(*self.index.get(seed)?)?;
        let (State::Up(since) | State::Already(since)) = entry.state else {
            return None;
        };
        let backoff = &self.config.backoff;
        if now.saturating_duration_since(since) >= backoff.reset_after {
            entry.failures = 0;
            entry.steps = 0;
            entry.lost = Some(now);
        } else {
            // The first short one may be a seed that restarts. One that goes on accepting and
            // closing is left alone.
            entry.lost.get_or_insert(now);
            entry.fail(backoff, now);
        }
        Some(entry.pause(backoff, &mut self.rng, now))
    }

    /// Notes what was found out of `seed` when it was dialed: that an address of it is this node
    /// itself, or not. Returns what there is to report, once until it is no longer so.
    pub(crate) fn itself<E>(&mut self, seed: &S, itself: Option<E>) -> Option<E> {
        let entry = self.entry(seed)?;
        let before = std::mem::replace(&mut entry.itself, itself.is_some());
        itself.filter(|_| !before)
    }

    /// Sets how many outbound connections are up or in progress that belong to no seed, because the
    /// application asked for them. They count towards both limits.
    pub(crate) fn outbound_elsewhere(&mut self, connections: usize) {
        self.elsewhere = connections;
    }

    /// Counts the outbound connections that are up or in progress.
    pub(crate) fn outbound(&self) -> usize {
        let busy = |entry: &&Entry<S>| matches!(entry.state, State::Dialing | State::Up(_));
        self.elsewhere
            .saturating_add(self.entries.iter().filter(busy).count())
    }

    /// How many more seeds to dial.
    fn missing(&self) -> usize {
        self.config
            .min_peers
            .min(self.config.max_peers)
            .saturating_sub(self.outbound())
    }

    fn entry(&mut self, seed: &S) -> Option<&mut Entry<S>> {
        self.entries.get_mut(*self.index.get(seed)?)
    }
}

impl<S> Entry<S> {
    /// Whether the seed was connected a short while ago.
    fn is_missed(&self, backoff: &Backoff, now: Instant) -> bool {
        self.lost
            .is_some_and(|lost| now.saturating_duration_since(lost) < backoff.soon_for)
    }

    fn fail(&mut self, backoff: &Backoff, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        // While pauses are cut short, they do not grow unseen: afterwards they go on from there.
        if !self.is_missed(backoff, now) || backoff.cap(self.steps) < backoff.soon {
            self.steps = self.steps.saturating_add(1);
        }
    }

    fn pause(&mut self, backoff: &Backoff, rng: &mut StdRng, now: Instant) -> Retry {
        let mut cap = backoff.cap(self.steps);
        if self.is_missed(backoff, now) {
            cap = cap.min(backoff.soon);
        }
        let at = now + rng.random_range(Duration::ZERO..=cap).max(MIN_DELAY);
        self.state = State::Idle(Some(at));
        Retry {
            failures: self.failures,
            at,
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
