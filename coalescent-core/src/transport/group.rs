//! Whose connections count together.

use std::net::{IpAddr, Ipv6Addr};

/// What counts as one place that connections come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Group {
    /// An IPv4 address, or the /64 of an IPv6 address: that is the least a customer is given, so
    /// that whoever has one address there has 2^64.
    Net(IpAddr),
    Loopback,
    /// A transport that has no addresses.
    Unknown,
}

impl Group {
    pub(crate) fn of(ip: Option<IpAddr>) -> Self {
        // A socket that listens on both families shows IPv4 peers as ::ffff:a.b.c.d.
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
