//! Where an address is: on this machine, in a private network, or on the internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use coalescent_core::Address;

/// The scheme of the addresses that peers tell each other, and that the book remembers.
pub(crate) const TCP: &str = "tcp";

/// Where a host is, as far as its address shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// This machine.
    Loopback,
    /// A network that is not routed on the internet: private, shared (RFC 6598), or link-local.
    Private,
    /// The internet.
    Public,
    /// A name. Only who resolves it learns where it leads, and that can change each time.
    Named,
    /// Nowhere that anybody could be dialled: unspecified, multicast, reserved, documentation, or
    /// an address that means something on one interface alone.
    Nowhere,
}

impl Place {
    /// Returns where a peer is that is connected from this address. One whose transport has no
    /// addresses can only be named.
    pub(crate) fn of_peer(ip: Option<IpAddr>) -> Self {
        match ip {
            None => Self::Named,
            // It cannot be told to others without its zone, but whoever is there is near.
            Some(IpAddr::V6(ip)) if ip.is_unicast_link_local() => Self::Private,
            Some(ip) => of_ip(ip),
        }
    }

    /// Returns where an address leads.
    pub(crate) fn of(address: &Address) -> Self {
        let host = address.host();
        match address.ip() {
            // Others are told, and remembered, by socket addresses and names alone.
            _ if address.scheme() != TCP => Self::Nowhere,
            Some(ip) => of_ip(ip),
            None if host.contains(':') => Self::Nowhere,
            None if host == "localhost" || host.ends_with(".localhost") => Self::Loopback,
            None => Self::Named,
        }
    }

    /// Returns an IP address in this place, if it has any: to say where a node was that is not
    /// connected any more. Of a public one that is of no matter.
    #[cfg(feature = "overlay")]
    pub(crate) fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Loopback => Some(Ipv4Addr::LOCALHOST.into()),
            Self::Private => Some(Ipv4Addr::new(10, 0, 0, 1).into()),
            Self::Public | Self::Named | Self::Nowhere => None,
        }
    }

    /// Returns whether this is on this machine or in a private network.
    pub(crate) fn is_near(self) -> bool {
        matches!(self, Self::Loopback | Self::Private)
    }

    /// Returns whether an address at `there` is taken from a peer here.
    ///
    /// A peer is believed about places that it can reach itself. So nobody on the internet can make
    /// this node dial the services of its own network. For the same reason names are taken only
    /// from peers that could as well tell where they lead, and from those whose transport has
    /// nothing else.
    pub(crate) fn may_tell(self, there: Self) -> bool {
        match there {
            Self::Loopback => self == Self::Loopback,
            Self::Private => matches!(self, Self::Loopback | Self::Private),
            Self::Named => matches!(self, Self::Loopback | Self::Named),
            Self::Public => true,
            Self::Nowhere => false,
        }
    }
}

fn of_ip(ip: IpAddr) -> Place {
    match ip.to_canonical() {
        IpAddr::V4(ip) => v4(ip),
        IpAddr::V6(ip) => v6(ip),
    }
}

fn v4(ip: Ipv4Addr) -> Place {
    match ip.octets() {
        [127, ..] => Place::Loopback,
        _ if ip.is_private() || ip.is_link_local() => Place::Private,
        [100, 64..=127, ..] => Place::Private,
        // "This network", protocol assignments, benchmarks, multicast and what is reserved.
        [0, ..] | [192, 0, 0, _] | [198, 18..=19, ..] | [224..=255, ..] => Place::Nowhere,
        _ if ip.is_documentation() => Place::Nowhere,
        _ => Place::Public,
    }
}

fn v6(ip: Ipv6Addr) -> Place {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let inner = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        v4(Ipv4Addr::new(a, b, c, d))
    };
    match (a, b) {
        _ if ip.is_loopback() => Place::Loopback,
        (0xfc00..=0xfdff, _) => Place::Private,
        // Translated (NAT64), and carried (6to4), IPv4.
        (0x64, 0xff9b) if [c, d, e, f] == [0; 4] => inner(g, h),
        (0x2002, _) => inner(b, c),
        // Protocol assignments with Teredo, and documentation.
        (0x2001, ..=0x01ff | 0x0db8) | (0x3fff, ..=0x0fff) => Place::Nowhere,
        // All that is routed today. Link-local addresses lack the zone that they need.
        (0x2000..=0x3fff, _) => Place::Public,
        _ => Place::Nowhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Place; 5] = [
        Place::Loopback,
        Place::Private,
        Place::Public,
        Place::Named,
        Place::Nowhere,
    ];

    #[test]
    fn a_place_is_told_from_the_address() {
        for (place, hosts) in [
            (
                Place::Loopback,
                &[
                    "127.0.0.1",
                    "127.9.8.7",
                    "[::1]",
                    "[::ffff:127.0.0.1]",
                    "[64:ff9b::7f00:1]",
                    "[2002:7f00:1::1]",
                    "localhost",
                    "LOCALHOST",
                    "a.localhost",
                ][..],
            ),
            (
                Place::Private,
                &[
                    "10.0.0.1",
                    "172.16.0.1",
                    "172.31.255.255",
                    "192.168.1.1",
                    "169.254.1.1",
                    "100.64.0.1",
                    "100.127.255.255",
                    "[fc00::1]",
                    "[fdff::1]",
                    "[::ffff:10.0.0.1]",
                    "[64:ff9b::a00:1]",
                    "[2002:c0a8:101::1]",
                ],
            ),
            (
                Place::Public,
                &[
                    "1.1.1.1",
                    "172.32.0.1",
                    "100.63.0.1",
                    "100.128.0.1",
                    "169.253.0.1",
                    "192.0.1.1",
                    "198.20.0.1",
                    "223.255.255.255",
                    "[2600::1]",
                    "[2001:200::1]",
                    "[2a00::1]",
                    "[::ffff:1.1.1.1]",
                    "[64:ff9b::101:101]",
                    "[2002:101:101::1]",
                ],
            ),
            (
                Place::Named,
                &["alice", "example.com", "localhost.example.com"],
            ),
            (
                Place::Nowhere,
                &[
                    "0.0.0.0",
                    "0.1.2.3",
                    "192.0.0.8",
                    "192.0.2.1",
                    "198.51.100.1",
                    "203.0.113.1",
                    "198.18.0.1",
                    "198.19.255.255",
                    "224.0.0.1",
                    "239.1.2.3",
                    "240.0.0.1",
                    "255.255.255.255",
                    "[::]",
                    "[::2]",
                    "[ff02::1]",
                    "[fe80::1]",
                    "[fe80::1%eth0]",
                    "[::1%lo]",
                    "[2001:db8::1]",
                    "[2001::1]",
                    "[3fff::1]",
                    "[64:ff9b:1::1]",
                    "[4000::1]",
                    "[fec0::1]",
                    "[::ffff:0.0.0.0]",
                ],
            ),
        ] {
            for host in hosts {
                let address: Address = format!("{host}:1").parse().unwrap();
                assert_eq!(Place::of(&address), place, "{host}");
                let link_local = host.starts_with("[fe80");
                if let Some(ip) = address.ip().filter(|_| !link_local) {
                    assert_eq!(Place::of_peer(Some(ip)), place, "{host}");
                }
            }
        }
        for text in ["ws://1.1.1.1:1/", "own://10.0.0.1:1", "unix:/run/a"] {
            assert_eq!(Place::of(&text.parse().unwrap()), Place::Nowhere, "{text}");
        }
        assert_eq!(Place::of_peer(None), Place::Named);
        let link_local = "fe80::1".parse().unwrap();
        assert_eq!(Place::of_peer(Some(link_local)), Place::Private);
    }

    #[test]
    fn a_peer_may_tell_of_no_place_nearer_than_its_own() {
        for (teller, places) in [
            (
                Place::Loopback,
                &[Place::Loopback, Place::Private, Place::Public, Place::Named][..],
            ),
            (Place::Private, &[Place::Private, Place::Public]),
            (Place::Public, &[Place::Public]),
            (Place::Named, &[Place::Public, Place::Named]),
            (Place::Nowhere, &[Place::Public]),
        ] {
            for place in ALL {
                let may = teller.may_tell(place);
                assert_eq!(may, places.contains(&place), "{teller:?} of {place:?}");
            }
        }
    }
}
