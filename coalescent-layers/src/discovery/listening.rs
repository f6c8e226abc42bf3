//! Where peers say that they listen.

use std::net::IpAddr;

use coalescent_core::{Address, Peer};

use super::place::TCP;

/// Returns where a peer says that others can dial it, if that is an address of `tcp`.
pub(crate) fn said_by(peer: &Peer) -> Option<Address> {
    let said: Address = peer.listen_addr()?.parse().ok()?;
    (said.scheme() == TCP).then_some(said)
}

/// Returns where a peer says that others can dial it, if it is seen at that host.
pub(crate) fn seen_at(peer: &Peer) -> Option<Address> {
    let said = said_by(peer)?;
    let seen = peer.addr().map(|addr| addr.ip());
    is_host(&said, seen).then_some(said)
}

/// Returns whether the host of an address is the one at which a peer is seen. All loopback
/// addresses are one host.
fn is_host(address: &Address, seen: Option<IpAddr>) -> bool {
    let said = address.ip().map(|ip| ip.to_canonical());
    said.zip(seen).is_some_and(|(said, seen)| {
        let seen = seen.to_canonical();
        said == seen || said.is_loopback() && seen.is_loopback()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_believed_about_the_host_where_it_is_seen() {
        let address = |text: &str| -> Address { text.parse().unwrap() };
        let seen = |ip: &str| Some(ip.parse().unwrap());
        assert!(is_host(&address("198.51.100.7:1"), seen("198.51.100.7")));
        assert!(is_host(&address("1.2.3.4:1"), seen("::ffff:1.2.3.4")));
        assert!(is_host(&address("127.0.0.1:1"), seen("127.0.0.2")));
        assert!(is_host(&address("127.0.0.1:1"), seen("::1")));
        assert!(is_host(&address("[::1]:1"), seen("127.0.0.1")));
        assert!(!is_host(&address("198.51.100.8:1"), seen("198.51.100.7")));
        assert!(!is_host(&address("localhost:1"), seen("127.0.0.1")));
        assert!(!is_host(&address("1.2.3.4:1"), None));
    }
}
