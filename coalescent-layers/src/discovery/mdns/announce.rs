//! What is announced, and on which interfaces. Decisions without sockets.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::net::SocketAddr;

use coalescent_core::NodeId;
use coalescent_core::identity::PublicKey;

use super::{Interface, MAX_PORTS, NET_PART};

/// On which interfaces to speak.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    /// Those that the user named; if any, the others do not matter.
    pub(super) chosen: Vec<Interface>,
    /// Where the node listens.
    pub(super) listening: Vec<SocketAddr>,
}

impl Scope {
    /// Returns whether to speak on the interface `name`, as its address `ip`.
    pub(super) fn includes(&self, name: &str, ip: IpAddr) -> bool {
        if !self.chosen.is_empty() {
            return self.chosen.iter().any(|chosen| match chosen {
                Interface::Name(chosen) => chosen == name,
                Interface::Addr(chosen) => *chosen == ip,
            });
        }
        if self.listening.is_empty() {
            return !ip.is_loopback();
        }
        self.listening.iter().any(|listening| {
            let listening = listening.ip().to_canonical();
            if listening.is_unspecified() {
                !ip.is_loopback()
            } else if listening.is_loopback() {
                ip.is_loopback()
            } else {
                listening == ip
            }
        })
    }
}

/// A port that is announced, and at which addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) port: u16,
    pub(super) ips: BTreeSet<IpAddr>,
    /// Whether the node listens at all addresses of its interfaces, and of which family.
    pub(super) any: Any,
}

/// Which addresses of its interfaces a node listens at without naming them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Any {
    /// Only those that it has named.
    #[default]
    None,
    /// Those of IPv4.
    V4,
    /// All: a socket of IPv6 commonly takes connections of IPv4 too.
    All,
}

impl Any {
    /// Returns whether this address is among them.
    pub(super) fn includes(self, ip: IpAddr) -> bool {
        match self {
            Self::None => false,
            Self::V4 => ip.is_ipv4(),
            Self::All => true,
        }
    }
}

/// Returns the places to announce for a node that listens at these addresses. Of `advertise`, only
/// an IP address counts; if it is none of a local network, mDNS does not announce it.
pub(super) fn places(listening: &[SocketAddr], advertise: Option<&str>) -> Vec<Place> {
    let mut ports = BTreeMap::<u16, (BTreeSet<IpAddr>, Any)>::new();
    let advertised = advertise.and_then(|addr| addr.parse::<SocketAddr>().ok());
    // What a node advertises is worth nothing where it does not listen at all.
    let advertised = advertised.filter(|_| !listening.is_empty());
    for addr in listening.iter().chain(&advertised) {
        let ip = addr.ip().to_canonical();
        if addr.port() == 0 || ip.is_multicast() {
            continue;
        }
        let (ips, any) = ports.entry(addr.port()).or_default();
        if ip.is_unspecified() {
            *any = Any::max(*any, if ip.is_ipv4() { Any::V4 } else { Any::All });
        } else {
            ips.insert(ip);
        }
    }
    let place = |(port, (ips, any))| Place { port, ips, any };
    ports.into_iter().map(place).take(MAX_PORTS).collect()
}

/// Returns the name of the instance that announces the place with this number.
pub(super) fn instance(node: NodeId, place: usize) -> String {
    match place {
        0 => node.to_string(),
        _ => format!("{node}-{place}"),
    }
}

/// Returns the values that are announced with each place, with their keys.
pub(super) fn values(
    network: &str,
    node: NodeId,
    key: Option<PublicKey>,
) -> Vec<(&'static str, Vec<u8>)> {
    let network = network.as_bytes();
    let (first, rest) = network.split_at_checked(NET_PART).unwrap_or((network, &[]));
    let mut values = vec![("net", first.to_vec())];
    if !rest.is_empty() {
        values.push(("net2", rest.to_vec()));
    }
    values.push(("node", node.to_string().into_bytes()));
    if let Some(key) = key {
        values.push(("key", key.to_string().into_bytes()));
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(addrs: &[&str]) -> Vec<SocketAddr> {
        addrs.iter().map(|addr| addr.parse().unwrap()).collect()
    }

    fn scope(chosen: &[&str], listening: &[&str]) -> Scope {
        Scope {
            chosen: chosen.iter().map(|&text| text.into()).collect(),
            listening: addrs(listening),
        }
    }

    /// Returns which of these interfaces are spoken on.
    fn spoken(scope: &Scope) -> Vec<&'static str> {
        let all = [
            ("lo", "127.0.0.1"),
            ("lo", "::1"),
            ("eth0", "192.0.2.2"),
            ("eth0", "fe80::2"),
            ("eth1", "198.51.100.2"),
        ];
        let spoken = all
            .iter()
            .filter(|(name, ip)| scope.includes(name, ip.parse().unwrap()));
        spoken.map(|(_, ip)| *ip).collect()
    }

    #[test]
    fn the_interfaces_are_those_that_the_node_listens_on() {
        let lan = ["192.0.2.2", "fe80::2", "198.51.100.2"];
        let cases: [(&[&str], &[&str]); 7] = [
            (&["127.0.0.1:1"], &["127.0.0.1", "::1"]),
            (&["[::1]:1"], &["127.0.0.1", "::1"]),
            (&["[::ffff:127.0.0.1]:1"], &["127.0.0.1", "::1"]),
            (&["0.0.0.0:1"], &lan),
            (&["[::]:1"], &lan),
            (&["198.51.100.2:1"], &["198.51.100.2"]),
            (&[], &lan),
        ];
        for (listening, expected) in cases {
            assert_eq!(spoken(&scope(&[], listening)), expected, "{listening:?}");
        }
        let both = scope(&[], &["127.0.0.1:1", "192.0.2.2:1"]);
        assert_eq!(spoken(&both), ["127.0.0.1", "::1", "192.0.2.2"]);
    }

    #[test]
    fn a_chosen_interface_overrides_those_that_the_node_listens_on() {
        let lan = ["0.0.0.0:1"];
        assert_eq!(spoken(&scope(&["lo"], &lan)), ["127.0.0.1", "::1"]);
        assert_eq!(spoken(&scope(&["::1"], &lan)), ["::1"]);
        let two = scope(&["eth1", "fe80::2"], &["127.0.0.1:1"]);
        assert_eq!(spoken(&two), ["fe80::2", "198.51.100.2"]);
        assert!(spoken(&scope(&["wlan7"], &lan)).is_empty());
    }

    #[test]
    fn each_port_is_announced_with_its_addresses() {
        let place = |port, ips: &[&str], any| Place {
            port,
            ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
            any,
        };
        let there = |listening: &[&str], advertise| places(&addrs(listening), advertise);
        assert_eq!(there(&[], Some("192.0.2.9:5")), []);
        assert_eq!(there(&["0.0.0.0:7"], None), [place(7, &[], Any::V4)]);
        for both in [
            &["[::]:7"][..],
            &["[::]:7", "0.0.0.0:7"],
            &["0.0.0.0:7", "[::]:7"],
        ] {
            assert_eq!(there(both, None), [place(7, &[], Any::All)]);
        }
        assert_eq!(
            there(&["127.0.0.1:7", "[::1]:7", "127.0.0.1:8"], None),
            [
                place(7, &["127.0.0.1", "::1"], Any::None),
                place(8, &["127.0.0.1"], Any::None)
            ]
        );
        assert_eq!(
            there(&["[::ffff:192.0.2.2]:7"], Some("192.0.2.9:5")),
            [
                place(5, &["192.0.2.9"], Any::None),
                place(7, &["192.0.2.2"], Any::None)
            ]
        );
        for advertise in ["example.org:5", "192.0.2.9:0", "224.0.0.251:5", "nonsense"] {
            assert_eq!(
                there(&["0.0.0.0:7"], Some(advertise)),
                [place(7, &[], Any::V4)]
            );
        }
        let many: Vec<_> = (1..=99)
            .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
            .collect();
        assert_eq!(places(&many, None).len(), MAX_PORTS);
    }

    #[test]
    fn a_socket_of_one_family_announces_no_other() {
        let (v4, v6) = ("192.0.2.1".parse().unwrap(), "fe80::1".parse().unwrap());
        for (any, expected) in [
            (Any::None, [false, false]),
            (Any::V4, [true, false]),
            (Any::All, [true, true]),
        ] {
            assert_eq!([any.includes(v4), any.includes(v6)], expected);
        }
    }

    #[test]
    fn every_value_fits_a_string_of_a_record() {
        let node = NodeId::from_bytes([0xab; 16]);
        let value = |values: &[(&str, Vec<u8>)], key| {
            let value = values.iter().find(|(name, _)| *name == key);
            value.map(|(_, value)| value.clone())
        };
        for length in [0, 1, NET_PART, NET_PART + 1, 256] {
            let network = "n".repeat(length);
            let values = values(
                &network,
                node,
                Some(PublicKey::from_bytes([7; 32]).unwrap()),
            );
            for (key, value) in &values {
                assert!(key.len() + 1 + value.len() <= 255, "{key} of {length}");
            }
            let mut whole = value(&values, "net").unwrap();
            whole.extend(value(&values, "net2").unwrap_or_default());
            assert_eq!(whole, network.as_bytes());
            assert_eq!(value(&values, "node").unwrap(), b"ab".repeat(16));
            assert_eq!(value(&values, "key").unwrap(), b"07".repeat(32));
        }
        assert_eq!(value(&values("a", node, None), "key"), None);
        assert_eq!(instance(node, 0), "ab".repeat(16));
        assert_eq!(instance(node, 1), format!("{}-1", "ab".repeat(16)));
    }
}
