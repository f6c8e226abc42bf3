//! One address that the plan knows, and what has become of it.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::backoff::{Backoff, MIN_DELAY};
use crate::node::suggestion::Source;
use crate::transport::group::NetGroup;

/// How long a dial holds an outbound place: 2 s. One that takes longer, because its address
/// swallows what it is sent, lets another address try as well, up to `max_peers`.
pub(crate) const HOLD: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Entry<K> {
    pub(super) key: K,
    pub(super) kind: Kind,
    pub(super) state: State,
    /// The number of failures in a row.
    pub(super) failures: u32,
    /// How many failures and refusals have made the pause longer.
    pub(super) steps: u32,
    /// Whether the last dial was refused for want of a place.
    pub(super) postponed: bool,
    /// Whether it pauses because it is banned.
    pub(super) banned: bool,
    /// When a connection was lost, which makes pauses short for a while.
    pub(super) lost: Option<Instant>,
    /// Whether this node itself was at an address of the entry at the last dial.
    pub(super) itself: bool,
    /// The value of `Plan::tries` at the last dial, or 0 before the first.
    pub(super) tried: u64,
}

/// Why an address is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The user wants it to be connected.
    Seed,
    /// It was a seed, and is forgotten when its connection ends.
    Removed,
    /// It was suggested.
    Learned(Learned),
}

/// What is known of a suggested address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Learned {
    pub(crate) source: Source,
    /// Whether it is dialled ahead of all others.
    pub(crate) first: bool,
    /// The group of its IP address, if that is known and limited.
    pub(crate) group: Option<NetGroup>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not connected. It pauses until this instant; `None` if it was never tried.
    Idle(Option<Instant>),
    /// Failed too often. It is not dialled, and forgotten at this instant.
    GivenUp(Instant),
    /// A dial is in progress, since this instant.
    Dialing(Instant),
    /// Connected by this node's dial, since this instant.
    Up(Instant),
    /// Connected by another connection, since this instant.
    Already(Instant),
}

/// When an address that failed or was lost may be dialled again, if it is needed by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retry {
    /// How many times in a row it has failed.
    pub(crate) failures: u32,
    pub(crate) at: Instant,
}

impl<K> Entry<K> {
    pub(super) fn new(key: K, kind: Kind) -> Self {
        Self {
            key,
            kind,
            state: State::Idle(None),
            failures: 0,
            steps: 0,
            postponed: false,
            banned: false,
            lost: None,
            itself: false,
            tried: 0,
        }
    }

    /// Whether it is an outbound connection, or a dial that may become one.
    pub(super) fn is_outbound(&self) -> bool {
        matches!(self.state, State::Dialing(_) | State::Up(_))
    }

    /// Returns since when it is dialled.
    pub(super) fn dialing_since(&self) -> Option<Instant> {
        match self.state {
            State::Dialing(since) => Some(since),
            _ => None,
        }
    }

    /// Whether it may be dialled now, as far as its pause is concerned.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        matches!(self.state, State::Idle(at) if at.is_none_or(|at| at <= now))
    }

    pub(super) fn learned(&self) -> Option<&Learned> {
        match &self.kind {
            Kind::Learned(learned) => Some(learned),
            Kind::Seed | Kind::Removed => None,
        }
    }

    pub(super) fn source(&self) -> Source {
        self.learned()
            .map_or(Source::SEED, |learned| learned.source)
    }

    /// The group that it takes for itself, if it is learned.
    pub(super) fn group(&self) -> Option<NetGroup> {
        self.learned().and_then(|learned| learned.group)
    }

    /// Whether it is a suggestion to be dialled ahead of the others.
    pub(super) fn is_first(&self) -> bool {
        self.learned().is_some_and(|learned| learned.first)
    }

    /// Whether nothing speaks against it: the last dial neither failed nor was refused.
    pub(super) fn is_promising(&self) -> bool {
        self.failures == 0 && !self.postponed
    }

    /// Whether it was lost within the last [`Backoff::soon_for`].
    fn is_lost_lately(&self, backoff: &Backoff, now: Instant) -> bool {
        self.lost
            .is_some_and(|lost| now.saturating_duration_since(lost) < backoff.soon_for)
    }

    pub(super) fn fail(&mut self, backoff: &Backoff, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.step(backoff, now);
    }

    /// Makes the next pause longer.
    pub(super) fn step(&mut self, backoff: &Backoff, now: Instant) {
        // While pauses are capped after a loss, they do not grow beyond the cap. Afterwards they
        // grow on from there.
        if !self.is_lost_lately(backoff, now) || backoff.cap(self.steps) < backoff.soon {
            self.steps = self.steps.saturating_add(1);
        }
    }

    pub(super) fn pause(&mut self, backoff: &Backoff, rng: &mut StdRng, now: Instant) -> Retry {
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
