//! How far away an address is, and who may tell of it.

use std::net::IpAddr;

use super::group::NetGroup;

/// Returns whether the address `there` is taken from a peer that is seen at `from`; `None` if its
/// transport has no addresses.
///
/// A peer is believed about what it can reach itself: one on the internet about the internet, one
/// of a private network about such networks too, and one of this machine about all. So nobody on
/// the internet can make this node dial the services of its own network.
pub(crate) fn may_tell(from: Option<IpAddr>, there: IpAddr) -> bool {
    let there = there.to_canonical();
    let from = from.map(|from| from.to_canonical());
    if there.is_loopback() || there.is_unspecified() {
        return from.is_some_and(|from| from.is_loopback());
    }
    is_far(there) || from.is_some_and(|from| !is_far(from))
}

/// Returns whether an address is on the internet.
fn is_far(ip: IpAddr) -> bool {
    NetGroup::of(ip).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_believed_about_what_it_can_reach_itself() {
        let may_tell = |from: &str, there: &str| {
            let from = (!from.is_empty()).then(|| from.parse().expect("an address"));
            may_tell(from, there.parse().expect("an address"))
        };
        for (from, loopback, private, public) in [
            ("127.0.0.1", true, true, true),
            ("::ffff:127.0.0.1", true, true, true),
            ("10.1.2.3", false, true, true),
            ("fe80::1", false, true, true),
            ("198.51.100.7", false, false, true),
            ("2001:db8::7", false, false, true),
            ("", false, false, true),
        ] {
            for there in ["127.0.0.1", "::1", "0.0.0.0", "::ffff:127.0.0.1"] {
                assert_eq!(may_tell(from, there), loopback, "{from} {there}");
            }
            for there in ["192.168.1.1", "169.254.1.1", "fd00::1", "64:ff9b::a00:1"] {
                assert_eq!(may_tell(from, there), private, "{from} {there}");
            }
            for there in ["198.51.100.1", "2001:db8::1"] {
                assert_eq!(may_tell(from, there), public, "{from} {there}");
            }
        }
    }
}
