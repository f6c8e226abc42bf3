//! When a topic is joined once more: because this node is alone there, has few neighbours, or to
//! grow together with others that do not know of each other.

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

/// Seeds are contacted within this time of the start.
pub const START_WITHIN: Duration = Duration::from_millis(500);

/// How long after the first attempt a node that is alone in a topic makes the next one, at most;
/// doubled each time.
pub const RETRY: Duration = Duration::from_secs(1);

/// The longest time between two attempts of a node that is alone.
pub const RETRY_MAX: Duration = Duration::from_secs(5);

/// How often a node that has few neighbours looks for more, at most.
pub const HEAL_EVERY: Duration = Duration::from_secs(5);

/// How long after its start a node makes a second contact: 5 to 15 s.
pub const MIX_FIRST: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(15));

/// How often it makes one from then on: every 200 to 400 s.
pub const MIX_EVERY: (Duration, Duration) = (Duration::from_secs(200), Duration::from_secs(400));

/// Why a topic is joined once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// This node has no neighbour in it.
    Alone,
    /// It has few.
    Few,
    /// Several meshes may have formed, each of which looks healthy.
    Mix,
}

/// Decides when a topic is joined once more.
#[derive(Clone, Debug)]
pub(crate) struct Joiner {
    /// When the next attempt is due, should the node be alone or have few neighbours.
    retry: Instant,
    /// How often it was found alone in a row.
    alone: u32,
    mix: Instant,
}

impl Joiner {
    /// Begins to take part in a topic.
    pub(crate) fn new(now: Instant, rng: &mut impl Rng) -> Self {
        Self {
            retry: now + START_WITHIN + random(rng, Duration::ZERO, RETRY),
            alone: 0,
            mix: now + random(rng, MIX_FIRST.0, MIX_FIRST.1),
        }
    }

    /// Returns when to ask again, with so many neighbours.
    pub(crate) fn next(&self, neighbours: usize, few: usize) -> Instant {
        if neighbours < few {
            self.retry.min(self.mix)
        } else {
            self.mix
        }
    }

    /// Returns why the topic is to be joined now, if it is. `few` is the number of neighbours that
    /// suffices.
    pub(crate) fn due(
        &mut self,
        neighbours: usize,
        few: usize,
        now: Instant,
        rng: &mut impl Rng,
    ) -> Option<Why> {
        if neighbours > 0 {
            self.alone = 0;
        }
        if neighbours < few && now >= self.retry {
            if neighbours > 0 {
                self.retry = now + random(rng, HEAL_EVERY / 2, HEAL_EVERY);
                return Some(Why::Few);
            }
            let most = RETRY.saturating_mul(1 << self.alone.min(8)).min(RETRY_MAX);
            self.alone = self.alone.saturating_add(1);
            self.retry = now + random(rng, most / 2, most);
            return Some(Why::Alone);
        }
        if now >= self.mix {
            self.mix = now + random(rng, MIX_EVERY.0, MIX_EVERY.1);
            return Some(Why::Mix);
        }
        None
    }

    /// Notes that a neighbour is lost: if that makes it few, the next attempt is not far.
    pub(crate) fn lost(&mut self, now: Instant, rng: &mut impl Rng) {
        // The engine has a moment to find another by itself.
        let soon = now + RETRY + random(rng, Duration::ZERO, RETRY);
        self.retry = self.retry.min(soon);
    }
}

/// Returns a random time between two.
pub(crate) fn random(rng: &mut impl Rng, least: Duration, most: Duration) -> Duration {
    rng.random_range(least..=most.max(least))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    /// Returns when the topic is joined within `time`, and why.
    fn run(neighbours: usize, time: Duration, seed: u64) -> Vec<(Duration, Why)> {
        let mut rng = StdRng::seed_from_u64(seed);
        let start = Instant::now();
        let mut joiner = Joiner::new(start, &mut rng);
        let mut times = Vec::new();
        loop {
            let now = joiner.next(neighbours, 3);
            if now > start + time {
                return times;
            }
            let why = joiner.due(neighbours, 3, now, &mut rng);
            times.push((now - start, why.expect("it is due")));
        }
    }

    #[test]
    fn a_node_that_is_alone_tries_again_more_and_more_slowly() {
        for seed in 0..50 {
            let times = run(0, Duration::from_secs(600), seed);
            let alone = times.iter().filter(|(_, why)| *why == Why::Alone);
            let alone: Vec<_> = alone.map(|(at, _)| *at).collect();
            assert!(alone[0] >= START_WITHIN);
            assert!(alone[2] < Duration::from_secs(5), "{alone:?}");
            assert!((120..250).contains(&alone.len()), "{}", alone.len());
            for pair in alone.windows(2) {
                assert!(pair[1] - pair[0] <= RETRY_MAX);
            }
        }
    }

    #[test]
    fn a_node_with_few_neighbours_looks_for_more() {
        let times = run(2, Duration::from_secs(60), 1);
        let few = times.iter().filter(|(_, why)| *why == Why::Few).count();
        assert!((12..=25).contains(&few), "{few}");
    }

    #[test]
    fn a_node_with_enough_neighbours_makes_a_second_contact_and_then_few() {
        for seed in 0..50 {
            let times = run(5, Duration::from_secs(2000), seed);
            assert!(times.iter().all(|(_, why)| *why == Why::Mix));
            let first = times[0].0;
            assert!(first >= MIX_FIRST.0 && first <= MIX_FIRST.1);
            for pair in times.windows(2) {
                let pause = pair[1].0 - pair[0].0;
                assert!(pause >= MIX_EVERY.0 && pause <= MIX_EVERY.1);
            }
        }
    }

    #[test]
    fn a_loss_is_noticed_soon() {
        let mut rng = StdRng::seed_from_u64(1);
        let start = Instant::now();
        let mut joiner = Joiner::new(start, &mut rng);
        let later = start + Duration::from_secs(20);
        while joiner.due(0, 3, later, &mut rng).is_some() {}
        joiner.lost(later, &mut rng);
        assert!(joiner.next(0, 3) <= later + 2 * RETRY);
    }
}
