//! Groups of addresses that share the limit on connections.

use std::net::{IpAddr, Ipv6Addr};

/// A network location whose connections are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Group {
    /// An IPv4 address, or the /64 of an IPv6 address. A /64 is the smallest allocation of a
    /// customer, who can use all of its 2^64 addresses.
    Net(IpAddr),
    Loopback,
    /// A transport without IP addresses.
    Unknown,
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
        matches!(self, Self::Net(_))
    }
}
