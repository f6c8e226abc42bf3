//! Which of the addresses that a peer tells are taken.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use coalescent_core::{Address, Direction, PeerId};
use tokio::time::Instant;

use crate::discovery::place::Place;

/// How many addresses are taken of one source at once.
pub const TAKE_AT_ONCE: u32 = 64;

/// After [`TAKE_AT_ONCE`] addresses of one source, another one is taken in this time.
pub const TAKE_EVERY: Duration = Duration::from_secs(10);

/// How many sources are remembered. A source is forgotten once it could tell [`TAKE_AT_ONCE`]
/// addresses again, so this bounds only how many are remembered that told some within eleven
/// minutes.
pub const MAX_SOURCES: usize = 256;

/// Who told an address: peers that share an allowance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Teller {
    /// All peers at one address, of IPv6 in one /64: a peer that comes back, under whatever name,
    /// has no new allowance.
    Net(IpAddr),
    /// A process of this machine. Those that dialled this node have port 0, since theirs says
    /// nothing.
    Local(SocketAddr),
    /// A peer whose transport has no addresses.
    Id(PeerId),
}

impl Teller {
    pub(crate) fn of(addr: Option<SocketAddr>, direction: Direction, id: PeerId) -> Self {
        let Some(addr) = addr else {
            return Self::Id(id);
        };
        let port = match direction {
            Direction::Outbound => addr.port(),
            // Its port is not where it listens.
            _ => 0,
        };
        let ip = addr.ip().to_canonical();
        if ip.is_loopback() {
            return Self::Local(SocketAddr::new(ip, port));
        }
        Self::Net(match ip {
            IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) >> 64 << 64).into(),
            IpAddr::V4(_) => ip,
        })
    }
}

/// How many more addresses are taken of each teller: a bucket of [`TAKE_AT_ONCE`] tokens for each,
/// which gains one every [`TAKE_EVERY`].
#[derive(Debug, Default)]
pub(crate) struct Allowances {
    /// When the bucket of each teller that has told something will be full again.
    full: HashMap<Teller, Instant>,
}

impl Allowances {
    /// Takes up to `wanted` tokens of a teller, and returns how many there were.
    pub(crate) fn take(&mut self, teller: Teller, wanted: usize, now: Instant) -> usize {
        if wanted == 0 {
            return 0;
        }
        if !self.full.contains_key(&teller) && self.full.len() >= MAX_SOURCES {
            self.make_room(now);
        }
        let full = self.full.entry(teller).or_insert(now);
        *full = (*full).max(now);
        // The time until a bucket is full tells how many of its tokens are missing.
        let missing = (*full - now).as_nanos().div_ceil(TAKE_EVERY.as_nanos());
        let missing = u32::try_from(missing).unwrap_or(u32::MAX);
        let taken = TAKE_AT_ONCE.saturating_sub(missing);
        let taken = u32::try_from(wanted).unwrap_or(u32::MAX).min(taken);
        *full += TAKE_EVERY * taken;
        taken as usize
    }

    /// Forgets the tellers whose buckets are full, and if there is none, the one that misses least.
    fn make_room(&mut self, now: Instant) {
        self.full.retain(|_, full| *full > now);
        if self.full.len() >= MAX_SOURCES {
            let fullest = self.full.iter().min_by_key(|(_, full)| **full);
            if let Some(fullest) = fullest.map(|(teller, _)| *teller) {
                self.full.remove(&fullest);
            }
        }
    }
}

/// The addresses of this node itself, as far as it knows them.
#[derive(Debug, Default)]
pub(crate) struct Own {
    hosts: HashSet<IpAddr>,
    ports: HashSet<u16>,
    advertised: Option<Address>,
}

impl Own {
    /// Gathers what a node is known by: where it listens, where its peers see it, and what it says
    /// of itself.
    pub(crate) fn new(
        listening: impl IntoIterator<Item = SocketAddr>,
        seen: impl IntoIterator<Item = IpAddr>,
        advertised: Option<Address>,
    ) -> Self {
        let mut own = Self::default();
        for addr in listening {
            own.ports.insert(addr.port());
            own.hosts.insert(addr.ip().to_canonical());
            if addr.ip().is_unspecified() {
                own.hosts.insert(Ipv4Addr::LOCALHOST.into());
                own.hosts.insert(Ipv6Addr::LOCALHOST.into());
            }
        }
        own.hosts
            .extend(seen.into_iter().map(|ip| ip.to_canonical()));
        own.advertised = advertised.map(|address| address.with_id(None));
        own
    }

    /// Returns whether an address is this node itself.
    pub(crate) fn is(&self, address: &Address) -> bool {
        let host = address.ip().map(|ip| ip.to_canonical());
        let known = host.is_some_and(|ip| self.hosts.contains(&ip));
        known && self.ports.contains(&address.port())
            || self.advertised.as_ref() == Some(&address.clone().with_id(None))
    }
}

/// Returns those of the addresses told by a peer at `teller` that may be taken: each once, none of
/// this node itself, and none at a place that this peer may not tell of.
pub(crate) fn acceptable(told: Vec<Address>, teller: Place, own: &Own) -> Vec<Address> {
    let mut seen = HashSet::new();
    let taken = told.into_iter().filter(|address| {
        teller.may_tell(Place::of(address)) && !own.is(address) && seen.insert(address.clone())
    });
    taken.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn teller(last: u8) -> Teller {
        Teller::Net(IpAddr::from([9, 9, 9, last]))
    }

    fn addresses(texts: &[&str]) -> Vec<Address> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn of_one_teller_64_are_taken_at_once_then_one_every_ten_seconds() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut allowances = Allowances::default();
        for (seconds, wanted, taken) in [
            (0, 60, 60),
            (0, 60, 4),
            (0, 1, 0),
            (9, 1, 0),
            (10, 5, 1),
            (19, 5, 0),
            (50, 5, 4),
            (50, 0, 0),
            // Full again, but no fuller.
            (50 + 640, 1000, 64),
            (50 + 640, 1000, 0),
            (50 + 640 + 100_000, 1000, 64),
        ] {
            let found = allowances.take(teller(1), wanted, at(seconds));
            assert_eq!(found, taken, "{wanted} after {seconds} s");
        }
        // Another one has an allowance of its own.
        assert_eq!(allowances.take(teller(2), 70, at(0)), 64);
    }

    #[test]
    fn the_tellers_remembered_are_bounded() {
        let now = Instant::now();
        let mut allowances = Allowances::default();
        assert_eq!(allowances.take(teller(0), 64, now), 64);
        for a in 0..40 {
            for b in 0..=255 {
                let teller = Teller::Net(IpAddr::from([8, 8, a, b]));
                assert_eq!(allowances.take(teller, 1, now), 1);
                assert!(allowances.full.len() <= MAX_SOURCES);
            }
        }
        // Who told most is forgotten last.
        assert_eq!(allowances.take(teller(0), 64, now), 0);
        let later = now + TAKE_EVERY * TAKE_AT_ONCE;
        assert_eq!(allowances.take(teller(1), 64, later), 64);
        assert_eq!(allowances.full.len(), 1);
    }

    #[test]
    fn a_teller_is_known_by_its_network() {
        let of = |addr: &str, direction| {
            let id = PeerId::Connection(1);
            Teller::of(Some(addr.parse().unwrap()), direction, id)
        };
        use Direction::{Inbound, Outbound};
        assert_eq!(of("9.9.9.9:1", Outbound), of("9.9.9.9:2", Inbound));
        assert_ne!(of("9.9.9.9:1", Outbound), of("9.9.9.8:1", Outbound));
        assert_eq!(of("[2600::1]:1", Inbound), of("[2600::2:1]:2", Inbound));
        assert_ne!(of("[2600::1]:1", Inbound), of("[2600:0:0:1::1]:2", Inbound));
        assert_eq!(of("[::ffff:9.9.9.9]:1", Inbound), of("9.9.9.9:2", Inbound));
        assert_ne!(of("127.0.0.1:1", Outbound), of("127.0.0.1:2", Outbound));
        assert_eq!(of("127.0.0.1:1", Inbound), of("127.0.0.1:2", Inbound));
        let nameless = |number| Teller::of(None, Inbound, PeerId::Connection(number));
        assert_ne!(nameless(1), nameless(2));
    }

    #[test]
    fn own_addresses_are_recognized() {
        let own = Own::new(
            [
                "0.0.0.0:1337".parse().unwrap(),
                "192.168.1.5:7".parse().unwrap(),
            ],
            ["1.2.3.4".parse().unwrap()],
            Some("Me.example.com:99".parse().unwrap()),
        );
        let id = "9".repeat(64);
        for (text, is) in [
            ("127.0.0.1:1337", true),
            ("[::1]:1337", true),
            ("192.168.1.5:7", true),
            ("192.168.1.5:8", false),
            ("192.168.1.6:7", false),
            ("1.2.3.4:1337", true),
            ("[::ffff:1.2.3.4]:1337", true),
            (&format!("{id}@1.2.3.4:1337"), true),
            ("1.2.3.4:1338", false),
            ("me.example.com:99", true),
            (&format!("{id}@me.example.com:99"), true),
            ("me.example.com:98", false),
            ("1.2.3.5:1337", false),
        ] {
            assert_eq!(own.is(&text.parse().unwrap()), is, "{text}");
        }
        assert!(!Own::default().is(&"127.0.0.1:1".parse().unwrap()));
    }

    #[test]
    fn only_what_the_teller_may_tell_is_taken_and_once() {
        let told = &[
            "1.1.1.1:1",
            "10.0.0.1:1",
            "127.0.0.1:1",
            "a:1",
            "224.0.0.1:1",
            "1.1.1.1:1",
        ];
        let own = Own::new(["7.7.7.7:1".parse().unwrap()], [], None);
        for (teller, taken) in [
            (Place::Public, &told[..1]),
            (Place::Private, &told[..2]),
            (Place::Loopback, &told[..4]),
        ] {
            let found = acceptable(addresses(told), teller, &own);
            assert_eq!(found, addresses(taken), "{teller:?}");
        }
        let found = acceptable(addresses(&["7.7.7.7:1", "7.7.7.7:2"]), Place::Public, &own);
        assert_eq!(found, addresses(&["7.7.7.7:2"]));
    }
}
