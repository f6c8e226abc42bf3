//! Groups of addresses that share a limit: on connections, or on outbound peers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::transport::identity::PublicKey;

/// A network location whose connections are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Group {
    /// An IPv4 address, or the /64 of an IPv6 address. A /64 is the smallest allocation of a
    /// customer, who can use all of its 2^64 addresses.
    Net(IpAddr),
    Loopback,
    /// A transport without IP addresses.
    Unknown,
    /// A proven key, over a transport without IP addresses.
    Key(PublicKey),
    /// All who come to one listener of a transport without IP addresses, by its number.
    Listener(u32),
}

impl Group {
    pub(crate) fn of(ip: Option<IpAddr>) -> Self {
        // A dual-stack socket reports IPv4 peers as ::ffff:a.b.c.d.
        match ip.map(|ip| ip.to_canonical()) {
            None => Self::Unknown,
            Some(ip) if ip.is_loopback() => Self::Loopback,
            Some(IpAddr::V6(ip)) => {
                let net = u128::from(ip) >> 64 << 64;
                Self::Net(Ipv6Addr::from(net).into())
            }
            Some(ip) => Self::Net(ip),
        }
    }

    pub(crate) fn is_limited(self) -> bool {
        matches!(self, Self::Net(_) | Self::Key(_))
    }
}

/// The groups with which an inbound connection is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Groups {
    /// Of all its connections.
    pub(crate) all: Group,
    /// With which it shares the places for handshakes and for contacts. Keys cost nothing, so those
    /// who come without an IP address are one group here, however many keys they prove.
    pub(crate) share: Group,
}

impl From<Group> for Groups {
    fn from(group: Group) -> Self {
        Self {
            all: group,
            share: group,
        }
    }
}

impl From<Option<IpAddr>> for Groups {
    fn from(ip: Option<IpAddr>) -> Self {
        Group::of(ip).into()
    }
}

impl Groups {
    /// Returns the groups of who has this address and has proven this key. Who has neither, or only
    /// a key, is counted with all others of a `listener`.
    pub(crate) fn of(ip: Option<IpAddr>, key: Option<PublicKey>, listener: Group) -> Self {
        match (ip, key) {
            (Some(_), _) => Group::of(ip).into(),
            (None, Some(key)) => Self {
                all: Group::Key(key),
                share: listener,
            },
            (None, None) => listener.into(),
        }
    }
}

/// A network in which one owner can have many addresses: the /16 of an IPv4 address, or the /32 of
/// an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NetGroup(IpAddr);

impl NetGroup {
    /// Returns the group of an address, or `None` for those that are not limited, since they do not
    /// come from far: loopback, private (10/8, 172.16/12, 192.168/16, fc00::/7), shared
    /// (100.64/10), link-local (169.254/16, fe80::/10) and unspecified addresses.
    ///
    /// An IPv6 address that stands for one of IPv4 (`::ffff:0:0/96`, or `64:ff9b::/96` of NAT64) is
    /// in the group of that one.
    pub(crate) fn of(ip: IpAddr) -> Option<Self> {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::of_v4(ip),
            IpAddr::V6(ip) => match ip.segments() {
                [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                    Self::of_v4((u32::from(high) << 16 | u32::from(low)).into())
                }
                _ => Self::of_v6(ip),
            },
        }
    }

    fn of_v4(ip: Ipv4Addr) -> Option<Self> {
        let [a, b, ..] = ip.octets();
        let shared = a == 100 && b & 0xc0 == 64;
        let near = ip.is_loopback() || ip.is_private() || ip.is_link_local() || shared;
        (!near && !ip.is_unspecified()).then(|| Self(Ipv4Addr::new(a, b, 0, 0).into()))
    }

    fn of_v6(ip: Ipv6Addr) -> Option<Self> {
        let near = ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local();
        let net = u128::from(ip) >> 96 << 96;
        (!near && !ip.is_unspecified()).then(|| Self(Ipv6Addr::from(net).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_a_network_of_one_owner_and_near_addresses_have_none() {
        let group = |ip: &str| NetGroup::of(ip.parse().unwrap());
        for (one, other, same) in [
            ("198.51.100.7", "198.51.1.1", true),
            ("198.51.100.7", "::ffff:198.51.1.1", true),
            ("198.51.100.7", "64:ff9b::c633:101", true),
            ("198.51.100.7", "198.52.100.7", false),
            ("2001:db8::1", "2001:db8:ffff::9", true),
            ("2001:db8::1", "2001:db9::1", false),
        ] {
            assert_eq!(group(one) == group(other), same, "{one} {other}");
            assert!(group(one).is_some() && group(other).is_some());
        }
        for near in [
            "127.0.0.1",
            "::1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "169.254.1.1",
            "fe80::1",
            "fd00::1",
            "0.0.0.0",
            "::",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
        ] {
            assert_eq!(group(near), None, "{near}");
        }
        for far in ["100.128.0.1", "100.63.0.1", "172.32.0.1", "9.255.0.1"] {
            assert!(group(far).is_some(), "{far}");
        }
    }
}
