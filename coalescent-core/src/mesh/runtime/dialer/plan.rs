//! Which seed to dial when.
//!
//! This module only decides: it has no socket, and is told the time.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

/// The shortest pause before a seed is dialed again, whatever the jitter is: 50 ms. Without it, a
/// seed that refuses at once could be dialed in a busy loop.
pub(crate) const MIN_DELAY: Duration = Duration::from_millis(50);

/// The default of [`Backoff::soon`]: 5 s.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// The default of [`Backoff::soon_for`]: 3 min.
pub(crate) const SOON_FOR: Duration = Duration::from_secs(3 * 60);

/// How many seeds to stay connected to, and how often to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DialConfig {
    /// Seeds are dialed while fewer outbound connections than this are up or in progress. Default:
    /// 3.
    pub(crate) min_peers: usize,
    /// No seed is dialed while this many outbound connections are up or in progress, even if
    /// `min_peers` is greater. Default: 12.
    pub(crate) max_peers: usize,
    /// How long a seed pauses after a failure or a loss.
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

/// Exponential backoff with full jitter.
///
/// The pause is a random time of at most `initial` after the first failure, of at most `factor`
/// times that after the second, and so on. For a while after a connection was lost, it is at most
/// `soon`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    /// The longest pause after one failure. Default: 0.5 s.
    pub(crate) initial: Duration,
    /// The factor by which the longest pause grows with each further failure. Default: 2.
    pub(crate) factor: u32,
    /// The upper bound of all pauses. Default: 60 s.
    pub(crate) max: Duration,
    /// The longest pause while a lost connection is likely to come back. Default: 5 s.
    pub(crate) soon: Duration,
    /// How long that is, from the loss. Default: 3 min.
    pub(crate) soon_for: Duration,
    /// How long a connection must have been up to reset the number of failures. One that ends
    /// earlier counts as a failure, so that a seed that accepts and closes is not dialed too
    /// often. Default: 30 s.
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
    /// Returns the longest pause after `failures` failures in a row. After none it is that of one
    /// failure: if a seed restarts, the peers that it drops must not all come back at once.
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
pub(crate) struct Due<S> {
    pub(crate) seed: S,
    /// How many times in a row this seed has failed.
    pub(crate) failures: u32,
}

/// When a seed that failed or was lost may be dialed again, if it is needed by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retry {
    /// How many times in a row this seed has failed.
    pub(crate) failures: u32,
    pub(crate) at: Instant,
}

/// Decides which seeds to dial.
///
/// Call [`due`](Self::due) at the start, after each other call that changes something, and at the
/// instant that [`next`](Self::next) returns. Answer each seed that it returns with
/// [`connected`](Self::connected), [`failed`](Self::failed) or [`already`](Self::already).
///
/// Among the seeds whose pause is over, those with the fewest failures come first, then those tried
/// longest ago. Chance decides between equals, so that nodes with the same list of seeds spread
/// over it. A lost seed pauses too, so that another seed replaces it at once, if there is one. No
/// seed is ever given up, because its name may resolve to another node the next time.
#[derive(Debug)]
pub(crate) struct Plan<S> {
    config: DialConfig,
    rng: StdRng,
    entries: Vec<Entry<S>>,
    /// The index of each seed in `entries`. Entries are never removed.
    index: HashMap<S, usize>,
    /// The number of outbound connections that belong to no seed.
    unseeded: usize,
    /// The number of dials so far, which tells which seed was tried longest ago.
    tries: u64,
}

#[derive(Debug)]
struct Entry<S> {
    seed: S,
    state: State,
    /// The number of failures in a row.
    failures: u32,
    /// How many of them have made the pause longer.
    steps: u32,
    /// When a connection was lost, which makes pauses short for a while.
    lost: Option<Instant>,
    /// Whether this node itself was at an address of the seed at the last dial.
    itself: bool,
    /// The value of `Plan::tries` at the last dial, or 0 before the first.
    tried: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not connected. It pauses until this instant; `None` if it was never tried.
    Idle(Option<Instant>),
    /// A dial is in progress.
    Dialing,
    /// Connected by this node's dial, since this instant.
    Up(Instant),
    /// Connected by another connection, since this instant.
    Already(Instant),
}

impl<S: Clone + Eq + Hash> Plan<S> {
    /// Makes a plan for `seeds`; duplicates count once. With the same `rng_seed`, the same calls
    /// lead to the same decisions.
    pub(crate) fn new(seeds: Vec<S>, config: DialConfig, rng_seed: u64) -> Self {
        let mut plan = Self {
            config,
            rng: StdRng::seed_from_u64(rng_seed),
            entries: Vec::with_capacity(seeds.len()),
            index: HashMap::with_capacity(seeds.len()),
            unseeded: 0,
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

    /// Returns the seeds to dial now. They count as in progress from then on.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Due<S>> {
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
                dials.push(Due {
                    seed: entry.seed.clone(),
                    failures: entry.failures,
                });
            }
        }
        dials
    }

    /// Returns when [`due`](Self::due) will return a seed if nothing else happens: `now` if it
    /// already would, `None` if it never will.
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

    /// Records that the dial of `seed` has failed. Returns when it may be tried again, or `None` if
    /// no such dial was in progress, in which case there is nothing to report.
    pub(crate) fn failed(&mut self, seed: &S, now: Instant) -> Option<Retry> {
        let entry = self.entries.get_mut(*self.index.get(seed)?)?;
        if entry.state != State::Dialing {
            return None;
        }
        entry.fail(&self.config.backoff, now);
        Some(entry.pause(&self.config.backoff, &mut self.rng, now))
    }

    /// Records that the dial of `seed` has made a connection, including the handshake.
    pub(crate) fn connected(&mut self, seed: &S, now: Instant) {
        if let Some(entry) = self
            .entry(seed)
            .filter(|entry| entry.state == State::Dialing)
        {
            entry.state = State::Up(now);
        }
    }

    /// Records that the seed's node is connected by another connection: one that it has dialed
    /// itself, or one to another of its addresses.
    ///
    /// The seed is not dialed until that connection is [`lost`](Self::lost). It does not count as
    /// outbound, for two reasons. An attacker can make this node accept connections more easily
    /// than make it choose them; and two addresses of one node must not count as two peers.
    pub(crate) fn already(&mut self, seed: &S, now: Instant) {
        if let Some(entry) = self.entry(seed) {
            entry.state = match entry.state {
                State::Idle(_) | State::Dialing => State::Already(now),
                State::Up(since) | State::Already(since) => State::Already(since),
            };
        }
    }

    /// Records that the connection to `seed` has ended, whichever side dialed it. Returns when the
    /// seed may be tried again, or `None` if it was not connected.
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
            // The seed may be restarting. If it keeps accepting and closing, the first loss still
            // limits how long pauses are short.
            entry.lost.get_or_insert(now);
            entry.fail(backoff, now);
        }
        Some(entry.pause(backoff, &mut self.rng, now))
    }

    /// Records whether a dial of `seed` has met this node itself. Returns the error in `itself` if
    /// it is to be reported: only if the dial before did not meet this node.
    pub(crate) fn note_itself<E>(&mut self, seed: &S, itself: Option<E>) -> Option<E> {
        let entry = self.entry(seed)?;
        let before = std::mem::replace(&mut entry.itself, itself.is_some());
        itself.filter(|_| !before)
    }

    /// Sets the number of outbound connections that belong to no seed, because the application has
    /// asked for them. They count towards both limits.
    pub(crate) fn set_unseeded(&mut self, connections: usize) {
        self.unseeded = connections;
    }

    /// Returns the number of outbound connections that are up or in progress.
    pub(crate) fn outbound(&self) -> usize {
        let busy = |entry: &&Entry<S>| matches!(entry.state, State::Dialing | State::Up(_));
        self.unseeded
            .saturating_add(self.entries.iter().filter(busy).count())
    }

    /// Returns how many more seeds to dial.
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
    /// Whether the seed was lost within the last [`Backoff::soon_for`].
    fn is_lost_lately(&self, backoff: &Backoff, now: Instant) -> bool {
        self.lost
            .is_some_and(|lost| now.saturating_duration_since(lost) < backoff.soon_for)
    }

    fn fail(&mut self, backoff: &Backoff, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        // While pauses are capped after a loss, they do not grow beyond the cap. Afterwards they
        // grow on from there.
        if !self.is_lost_lately(backoff, now) || backoff.cap(self.steps) < backoff.soon {
            self.steps = self.steps.saturating_add(1);
        }
    }

    fn pause(&mut self, backoff: &Backoff, rng: &mut StdRng, now: Instant) -> Retry {
        let mut cap = backoff.cap(self.steps);
        if self.is_lost_lately(backoff, now) {
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
