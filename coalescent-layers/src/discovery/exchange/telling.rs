//! What a peer that asks is told.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use coalescent_core::Address;
use rand::Rng;
use rand::seq::SliceRandom;
use tokio::time::Instant;

use super::message::MAX_ADDRESSES;
use crate::discovery::place::Place;

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
    /// Returns at most `count` addresses, of those that `may` says the asker may be told, and at
    /// most half of what `known` returns, rounded up. `known` is called only if there is no earlier
    /// answer to repeat.
    pub(crate) fn answer(
        &mut self,
        count: usize,
        may: impl Fn(&Address) -> bool,
        known: impl FnOnce() -> Vec<Address>,
        now: Instant,
        rng: &mut impl Rng,
    ) -> Vec<Address> {
        let told = |answer: &[Address]| {
            let told = answer.iter().filter(|address| may(address));
            told.take(count).cloned().collect()
        };
        if let Some((since, same)) = &self.same
            && now.saturating_duration_since(*since) < SAME_FOR
        {
            return told(same);
        }
        let mut known = known();
        let half = known.len().div_ceil(2).min(MAX_ADDRESSES);
        let few = known.len() < SAME_FROM;
        if few {
            // The asker's own would take the place of what is of use to it.
            known.retain(&may);
        }
        known.shuffle(rng);
        known.truncate(half);
        let answer = told(&known);
        self.same = (!few).then_some((now, known));
        answer
    }
}

/// The addresses of one peer: it is not told of these.
#[derive(Debug, Default)]
pub(crate) struct OwnOf(pub(crate) Vec<Address>);

impl OwnOf {
    /// Returns whether an address leads to the peer, whatever identity it names.
    pub(crate) fn contains(&self, address: &Address) -> bool {
        let is = |own: &Address| own.port() == address.port() && own.host() == address.host();
        self.0.iter().any(is)
    }
}

/// Leaves each address once, and of each host on the internet only one address, the first: so
/// whoever declares many ports does not fill the answers. In private networks and on one machine
/// hosts may well run many nodes.
pub(crate) fn one_of_each(known: Vec<Address>) -> Vec<Address> {
    let mut nets = HashSet::new();
    let mut hosts = HashSet::new();
    let mut is_new = |address: &Address| match address.ip().map(|ip| ip.to_canonical()) {
        Some(ip) if Place::of(address) == Place::Public => nets.insert(match ip {
            IpAddr::V6(ip) => u128::from(ip) >> 64 << 64,
            IpAddr::V4(ip) => u128::from(ip.to_ipv6_mapped()),
        }),
        _ => hosts.insert(address.clone().with_id(None)),
    };
    let known = known.into_iter();
    known.filter(|address| is_new(address)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use coalescent_core::identity::PublicKey;
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
        telling.answer(count, |_| true, || known(know), now, &mut rand::rng())
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
        telling.answer(64, |_| true, again, now, &mut rng(1));
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
                |told| *told != address(0),
                || known(2),
                Instant::now(),
                &mut rng(seed),
            );
            assert_eq!(answer, [address(1)]);
        }
    }

    #[test]
    fn one_address_of_each_public_host_is_told() {
        let all = [
            "9.9.9.9:1",
            "9.9.9.9:2",
            "[::ffff:9.9.9.9]:3",
            "9.9.9.8:1",
            "[2600::1]:1",
            "[2600::2]:1",
            "[2600:0:0:1::1]:1",
            "10.0.0.1:1",
            "10.0.0.1:2",
            "127.0.0.1:1",
            "127.0.0.1:2",
            "example.com:1",
            "example.com:2",
            "127.0.0.1:1",
            &format!("{}@example.com:1", "1".repeat(64)),
        ];
        let all = all.map(|text| text.parse::<Address>().unwrap());
        let kept = one_of_each(all.to_vec());
        let left_out = [1, 2, 5, 13, 14];
        let expected = all.iter().enumerate();
        let expected = expected.filter(|(at, _)| !left_out.contains(at));
        let expected = expected.map(|(_, address)| address);
        assert_eq!(kept, expected.cloned().collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn nobody_is_told_its_own(know in 0usize..40, own in 0usize..40, count in 0usize..65, seed: u64) {
            let now = Instant::now();
            let mut telling = Telling::default();
            let of_asker = OwnOf(vec![address(own).with_id(PublicKey::from_bytes([7; 32]).ok())]);
            let may = |told: &Address| !of_asker.contains(told);
            for _ in 0..3 {
                let answer = telling.answer(count, may, || known(know), now, &mut rng(seed));
                prop_assert!(answer.len() <= count.min(know.div_ceil(2)));
                prop_assert!(!answer.contains(&address(own)));
                prop_assert!(answer.iter().all(|address| known(know).contains(address)));
            }
        }
    }
}
