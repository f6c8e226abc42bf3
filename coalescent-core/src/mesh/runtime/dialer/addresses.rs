//! Addresses of the two ends of a connection, compared.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An IP address and a port, in a spelling that does not depend on which end sees it.
pub(super) type CanonicalAddr = (IpAddr, u16);

pub(super) fn canonical(addr: SocketAddr) -> CanonicalAddr {
    (addr.ip().to_canonical(), addr.port())
}

/// Returns where a connection to `there` leads.
///
/// The unspecified address leads to this machine. Both addresses of `localhost` count as one: a
/// node that listens at `localhost` does so at both.
pub(super) fn destination(there: SocketAddr) -> CanonicalAddr {
    let (ip, port) = canonical(there);
    let localhost = ip.is_unspecified() || ip == IpAddr::V6(Ipv6Addr::LOCALHOST);
    let ip = if localhost {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    } else {
        ip
    };
    (ip, port)
}

/// Whether a connection to `there` may lead to one of the addresses at which this node listens.
pub(super) fn may_lead_here(listening: &[SocketAddr], there: SocketAddr) -> bool {
    listening.iter().any(|at| {
        let (at, there) = (canonical(*at), canonical(there));
        at.1 == there.1 && (at.0.is_unspecified() || there.0.is_unspecified() || at.0 == there.0)
    })
}

/// Whether both ends of a connection are the same socket. TCP connects a socket to itself if its
/// own port happens to be the one that is dialled.
pub(super) fn is_one_socket(here: SocketAddr, there: SocketAddr) -> bool {
    canonical(here) == canonical(there)
}

/// Whether both ends of a connection are on this machine.
pub(crate) fn is_within(here: SocketAddr, there: SocketAddr) -> bool {
    let (here, there) = (canonical(here).0, canonical(there).0);
    let local = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
    here == there || (local(here) && local(there))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_connection_may_lead_here_only_if_its_address_is_listened_at() {
        let listening = [addr("10.0.0.1:7"), addr("0.0.0.0:9")];
        for (there, here) in [
            ("10.0.0.1:7", true),
            ("[::ffff:10.0.0.1]:7", true),
            ("10.0.0.1:8", false),
            ("10.0.0.2:7", false),
            ("10.0.0.2:9", true),
            ("[::1]:9", true),
            ("0.0.0.0:7", true),
            ("0.0.0.0:8", false),
        ] {
            assert_eq!(may_lead_here(&listening, addr(there)), here, "{there}");
        }
        assert!(is_within(addr("127.0.0.1:1"), addr("127.0.0.2:2")));
        assert!(is_within(addr("127.0.0.1:1"), addr("0.0.0.0:2")));
        assert!(is_within(addr("10.0.0.1:1"), addr("10.0.0.1:2")));
        assert!(!is_within(addr("10.0.0.1:1"), addr("10.0.0.2:1")));
    }
}
