//! What a peer that asks is told.

use std::time::Duration;

use coalescent_core::Address;
use rand::Rng;
use rand::seq::SliceRandom;
use tokio::time::Instant;

use super::message::MAX_ADDRESSES;

/// From so many known addresses on, all that ask within [`SAME_FOR`] get the same answer.
pub const SAME_FROM: usize = 8;

/// How long the answer stays the same. So nobody learns more of what a node knows by asking often,
/// or under many names.
pub const SAME_FOR: Duration = Duration::from_secs(10 * 60);

/// What a node tells.
#[derive(Debug, Default)]
pub(crate) struct Telling {
    /// The answer that all get for a while, and since when.
    same: Option<(Instant, Vec<Address>)>,
}

impl Telling {
    /// Returns at most `count` addresses for a peer that can be dialled at those in `own`: none of
    /// these, and at most half of what `known` returns, rounded up. `known` is called only if there
    /// is no earlier answer to repeat.
    pub(crate) fn answer(
        &mut self,
        count: usize,
        own: &[Address],
        known: impl FnOnce() -> Vec<Address>,
        now: Instant,
        rng: &mut impl Rng,
    ) -> Vec<Address> {
        if let Some((since, same)) = &self.same
            && now.saturating_duration_since(*since) < SAME_FOR
        {
            return without(same, own, count);
        }
        let mut known = known();
        let half = known.len().div_ceil(2).min(MAX_ADDRESSES);
        let few = known.len() < SAME_FROM;
        if few {
            // The asker's own would take the place of what is of use to it.
            known.retain(|address| !is_one_of(address, own));
        }
        known.shuffle(rng);
        known.truncate(half);
        let answer = without(&known, own, count);
        self.same = (!few).then_some((now, known));
        answer
    }
}

fn without(known: &[Address], own: &[Address], count: usize) -> Vec<Address> {
    let others = known.iter().filter(|address| !is_one_of(address, own));
    others.take(count).cloned().collect()
}

/// Returns whether an address leads to the same place as one of `own`, whatever identities they
/// name.
fn is_one_of(address: &Address, own: &[Address]) -> bool {
    own.iter()
        .any(|own| own.port() == address.port() && own.host() == address.host())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn address(number: usize) -> Address {
        format!("10.0.{}.{}:1", number / 256, number % 256)
            .parse()
            .unwrap()
    }

    fn known(count: usize) -> Vec<Address> {
        (0..count).map(address).collect()
    }

    fn rng(seed: u64) -> StdRng {
        StdRng::seed_from_u64(seed)
    }

    /// What a node that knows so many tells a peer that is not among them.
    fn tell(telling: &mut Telling, count: usize, know: usize, now: Instant) -> Vec<Address> {
        telling.answer(count, &[], || known(know), now, &mut rand::rng())
    }

    #[test]
    fn at_most_half_is_told_and_at_most_what_was_asked_for() {
        let now = Instant::now();
        for (know, count, told) in [
            (0, 64, 0),
            (1, 64, 1),
            (2, 64, 1),
            (3, 64, 2),
            (7, 64, 4),
            (8, 64, 4),
            (8, 3, 3),
            (8, 0, 0),
            (128, 64, 64),
            (1000, 64, 64),
        ] {
            let answer = tell(&mut Telling::default(), count, know, now);
            assert_eq!(answer.len(), told, "{count} of {know}");
            let all: BTreeSet<_> = answer.iter().collect();
            assert_eq!(all.len(), told, "each once");
        }
    }

    #[test]
    fn from_eight_on_the_answer_stays_the_same_for_ten_minutes() {
        let start = Instant::now();
        let mut telling = Telling::default();
        let first = tell(&mut telling, 64, 100, start);
        for seconds in [0, 1, 599] {
            let now = start + Duration::from_secs(seconds);
            // Whatever else it knows by now, and whoever asks.
            assert_eq!(tell(&mut telling, 64, 500, now), first);
            assert_eq!(tell(&mut telling, 5, 3, now), first[..5]);
        }
        let later = start + SAME_FOR;
        let second = tell(&mut telling, 64, 500, later);
        assert_ne!(second, first);
        assert_eq!(tell(&mut telling, 64, 500, later), second);
        // Nobody is left: what is known is asked for anew each time.
        let last = later + SAME_FOR;
        assert!(tell(&mut telling, 64, 0, last).is_empty());
        assert_eq!(tell(&mut telling, 64, 2, last).len(), 1);
    }

    #[test]
    fn a_repeated_answer_is_not_made_again() {
        let now = Instant::now();
        let mut telling = Telling::default();
        tell(&mut telling, 64, 8, now);
        let again = || panic!("asked what is known");
        telling.answer(64, &[], again, now, &mut rng(1));
    }

    #[test]
    fn below_eight_each_answer_is_new() {
        let now = Instant::now();
        let mut telling = Telling::default();
        let mut all = BTreeSet::new();
        for _ in 0..200 {
            all.extend(tell(&mut telling, 64, 7, now));
        }
        assert_eq!(all.len(), 7);
    }

    #[test]
    fn of_two_known_the_asker_learns_the_other() {
        for seed in 0..20 {
            let answer = Telling::default().answer(
                64,
                &known(1),
                || known(2),
                Instant::now(),
                &mut rng(seed),
            );
            assert_eq!(answer, [address(1)]);
        }
    }

    proptest! {
        #[test]
        fn nobody_is_told_its_own(know in 0usize..40, own in 0usize..40, count in 0usize..65, seed: u64) {
            let now = Instant::now();
            let mut telling = Telling::default();
            let own = [address(own).with_id(Some([7; 32]))];
            for _ in 0..3 {
                let answer = telling.answer(count, &own, || known(know), now, &mut rng(seed));
                prop_assert!(answer.len() <= count.min(know.div_ceil(2)));
                let own = own[0].clone().with_id(None);
                prop_assert!(!answer.contains(&own));
                prop_assert!(answer.iter().all(|address| known(know).contains(address)));
            }
        }
    }
}
