//! The seeds: when each is contacted.

use std::time::Duration;

use coalescent_core::{Address, Peer};
use rand::Rng;
use tokio::time::Instant;

use super::joiner::{START_WITHIN, random};

/// How long after a first failure a seed is contacted again, at most; doubled each time.
const RETRY: Duration = Duration::from_secs(1);

/// The longest time between two attempts.
const RETRY_MAX: Duration = Duration::from_secs(8);

/// The seeds of a node.
#[derive(Debug)]
pub(crate) struct Seeds(Vec<Seed>);

#[derive(Debug)]
struct Seed {
    address: Address,
    /// Whether it is still a seed.
    is_one: bool,
    /// When it is to be contacted.
    due: Option<Instant>,
    failures: u32,
    dialling: bool,
    /// The peer that it is, if it knows no overlay: that one stays connected.
    ordinary: Option<Peer>,
}

impl Seeds {
    /// Has each seed contacted soon.
    pub(crate) fn new(seeds: &[Address], now: Instant, rng: &mut impl Rng) -> Self {
        let mut all = Self(Vec::new());
        all.follow(seeds, now, rng);
        all
    }

    /// Has seeds that are new contacted soon, and those that are none any longer no more.
    pub(crate) fn follow(&mut self, seeds: &[Address], now: Instant, rng: &mut impl Rng) {
        for seed in &mut self.0 {
            seed.is_one = seeds.contains(&seed.address);
        }
        for address in seeds {
            if self.0.iter().any(|seed| seed.address == *address) {
                continue;
            }
            let new = Seed {
                address: address.clone(),
                is_one: true,
                due: Some(now + random(rng, Duration::ZERO, START_WITHIN)),
                failures: 0,
                dialling: false,
                ordinary: None,
            };
            // Dials know a seed by its number, so nothing moves.
            match self
                .0
                .iter_mut()
                .find(|seed| !seed.is_one && !seed.dialling)
            {
                Some(old) => *old = new,
                None => self.0.push(new),
            }
        }
    }

    /// Returns when the next seed is to be contacted.
    pub(crate) fn next(&self) -> Option<Instant> {
        let idle = self.0.iter().filter(|seed| seed.is_one && !seed.dialling);
        idle.filter_map(|seed| seed.due).min()
    }

    /// Returns the number of a seed to contact now, and its address.
    pub(crate) fn due(&mut self, now: Instant) -> Option<(usize, Address)> {
        let mut seeds = self.0.iter_mut().enumerate();
        let is_due =
            |seed: &Seed| seed.is_one && !seed.dialling && seed.due.is_some_and(|due| due <= now);
        let (number, seed) = seeds.find(|(_, seed)| is_due(seed))?;
        seed.dialling = true;
        seed.due = None;
        Some((number, seed.address.clone()))
    }

    /// Has a random seed contacted now, if there is one that is not connected anyway. Returns
    /// whether there is.
    pub(crate) fn again(&mut self, now: Instant, rng: &mut impl Rng) -> bool {
        let idle = |seed: &&mut Seed| seed.is_one && !seed.dialling && seed.ordinary.is_none();
        let idle = self.0.iter_mut().filter(idle);
        let Some(seed) = idle.min_by_key(|_| rng.random::<u32>()) else {
            return false;
        };
        seed.due = Some(now);
        true
    }

    /// Notes that a seed was met: as a node of the overlay, or as an ordinary peer.
    pub(crate) fn met(&mut self, number: usize, ordinary: Option<Peer>) {
        if let Some(seed) = self.0.get_mut(number) {
            seed.dialling = false;
            seed.failures = 0;
            seed.ordinary = ordinary;
        }
    }

    /// Notes that a seed was not met. It is contacted again while this node is `alone`.
    pub(crate) fn missed(&mut self, number: usize, alone: bool, now: Instant, rng: &mut impl Rng) {
        if let Some(seed) = self.0.get_mut(number) {
            seed.dialling = false;
            seed.failures = seed.failures.saturating_add(1);
            seed.due = alone.then(|| now + pause(seed.failures, rng));
        }
    }

    /// Forgets all seeds.
    pub(crate) fn close(&mut self) {
        self.0.clear();
    }

    /// Notes that a peer has left: if it is a seed that knows no overlay, it is dialled again.
    pub(crate) fn disconnected(&mut self, peer: &Peer, now: Instant, rng: &mut impl Rng) {
        let is = |seed: &&mut Seed| seed.ordinary.as_ref() == Some(peer);
        for seed in self.0.iter_mut().filter(is) {
            seed.ordinary = None;
            seed.failures = 1;
            seed.due = Some(now + pause(1, rng));
        }
    }
}

fn pause(failures: u32, rng: &mut impl Rng) -> Duration {
    let doubled = failures.saturating_sub(1).min(8);
    let most = RETRY.saturating_mul(1 << doubled).min(RETRY_MAX);
    random(rng, most / 2, most)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn follows_the_seeds_of_the_mesh() {
        let now = Instant::now();
        let soon = now + START_WITHIN;
        let mut rng = StdRng::seed_from_u64(1);
        let [a, b, c] = ["a:1", "b:1", "c:1"].map(|seed| seed.parse::<Address>().unwrap());
        let mut seeds = Seeds::new(std::slice::from_ref(&a), now, &mut rng);
        assert_eq!(seeds.due(soon), Some((0, a.clone())));
        seeds.follow(&[a.clone(), b.clone()], now, &mut rng);
        seeds.follow(&[a.clone(), b.clone()], now, &mut rng);
        assert_eq!(seeds.due(soon), Some((1, b)));
        seeds.met(1, None);
        assert_eq!(seeds.due(soon), None, "each is contacted once");
        // Another seed takes the place of one that is none any longer, but not while it is dialled.
        seeds.follow(std::slice::from_ref(&c), now, &mut rng);
        assert_eq!(seeds.due(soon), Some((1, c.clone())));
        seeds.missed(0, true, now, &mut rng);
        assert_eq!(seeds.next(), None, "a removed seed is contacted no more");
        seeds.follow(&[c, a.clone()], now, &mut rng);
        assert_eq!(seeds.due(now + RETRY), Some((0, a)));
    }
}
