//! What to make of what others announce. Decisions without sockets; nothing here is to be believed.

use std::collections::HashMap;
use std::net::IpAddr;

use coalescent_core::identity::PublicKey;
use coalescent_core::{Address, NodeId};
use mdns_sd::{ResolvedService, ScopedIp};

/// The maximum number of addresses that are suggested for one instance. IPv4 comes first, and
/// link-local addresses last.
pub const MAX_ADDRESSES: usize = 4;

/// The maximum number of instances that are known at a time. A further one is ignored until one of
/// them is gone.
pub const MAX_INSTANCES: usize = 256;

/// The maximum number of bytes of an instance's name. DNS has no longer ones.
const NAME_MAX: usize = 255;

/// Who this node is.
#[derive(Clone, Debug)]
pub(super) struct Own {
    pub(super) node: NodeId,
    pub(super) network: String,
    /// The public key, if the app has an identity.
    pub(super) key: Option<PublicKey>,
    /// Whether this node speaks on loopback alone.
    pub(super) loopback: bool,
}

/// What an instance is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// This node.
    Itself,
    /// A node of this network, at these addresses.
    Peer(Vec<Address>),
    /// Nothing to connect to, and why.
    Other(&'static str),
}

impl Own {
    /// Decides what an instance is.
    pub(super) fn judge(&self, service: &ResolvedService) -> Heard {
        let value = |key| service.get_property_val(key).flatten();
        let Some(node) = value("node").and_then(bytes::<16>) else {
            return Heard::Other("it has no valid node id");
        };
        if node == *self.node.as_bytes() {
            return Heard::Itself;
        }
        let first = value("net").unwrap_or_default();
        let rest = value("net2").unwrap_or_default();
        if !first.iter().chain(rest).eq(self.network.as_bytes()) {
            return Heard::Other("it belongs to another network");
        }
        let key = |text| PublicKey::from_bytes(bytes::<32>(text)?).ok();
        let key = match value("key").map(key) {
            None => None,
            Some(Some(key)) => Some(key),
            Some(None) => return Heard::Other("its key is invalid"),
        };
        match (self.key, key) {
            (Some(_), None) => return Heard::Other("it has no key, and this node has an identity"),
            (None, Some(_)) => return Heard::Other("it has a key, and this node has no identity"),
            _ => {}
        }
        let mut ips: Vec<_> = service.get_addresses().iter().collect();
        ips.retain(|ip| self.may_be_there(ip.to_ip_addr()));
        ips.sort_by_key(|ip| preference(ip.to_ip_addr()));
        let address = |ip| address(ip, service.get_port());
        let addresses = ips.into_iter().filter_map(address).take(MAX_ADDRESSES);
        let addresses: Vec<_> = addresses.map(|address| address.with_id(key)).collect();
        if addresses.is_empty() {
            return Heard::Other("it has no address that can be connected to from here");
        }
        Heard::Peer(addresses)
    }

    /// Returns whether a peer may be at this address. Otherwise anybody on the network could have
    /// this node dial services of its own machine.
    fn may_be_there(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let nowhere = match ip {
            IpAddr::V4(ip) => ip.is_broadcast() || ip.octets().first() == Some(&0),
            IpAddr::V6(ip) => ip.is_unspecified(),
        };
        !nowhere && !ip.is_multicast() && ip.is_loopback() == self.loopback
    }
}

fn preference(ip: IpAddr) -> (u8, IpAddr) {
    let rank = match ip {
        IpAddr::V4(ip) if ip.is_link_local() => 2,
        IpAddr::V4(_) => 0,
        IpAddr::V6(ip) if ip.is_unicast_link_local() => 3,
        IpAddr::V6(_) => 1,
    };
    (rank, ip)
}

/// Returns the address of a peer; `None` for port 0.
fn address(ip: &ScopedIp, port: u16) -> Option<Address> {
    // With the zone, if it is link-local.
    match ip {
        ScopedIp::V6(_) => format!("[{ip}]:{port}").parse().ok(),
        _ => format!("{ip}:{port}").parse().ok(),
    }
}

/// Parses `N` bytes from twice as many hexadecimal digits.
fn bytes<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = digits else { return None };
        *byte = u8::try_from(digit(high)? << 4 | digit(low)?).ok()?;
    }
    Some(bytes)
}

/// The instances that are known, at most [`MAX_INSTANCES`], and where they are.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<String, Vec<Address>>);

impl Known {
    /// Notes where an instance is, and returns whether it is one of those that are considered.
    pub(super) fn admit(&mut self, name: &str, addresses: &[Address]) -> bool {
        if let Some(known) = self.0.get_mut(name) {
            *known = addresses.to_vec();
            return true;
        }
        if self.0.len() >= MAX_INSTANCES || name.len() > NAME_MAX {
            return false;
        }
        self.0.insert(name.to_owned(), addresses.to_vec());
        true
    }

    /// Forgets an instance that is gone, which makes room for another.
    pub(super) fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Returns where all of them are.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.0.values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use mdns_sd::{ServiceInfo, TxtProperties};
    use proptest::prelude::*;

    use super::super::{SERVICE, announce};
    use super::*;

    const OTHER: NodeId = NodeId::from_bytes([2; 16]);

    fn key(number: u8) -> PublicKey {
        PublicKey::from_bytes([number; 32]).unwrap()
    }

    fn own(network: &str, key: Option<PublicKey>, loopback: bool) -> Own {
        Own {
            node: NodeId::from_bytes([1; 16]),
            network: network.to_owned(),
            key,
            loopback,
        }
    }

    fn service(ips: &str, port: u16, txt: &[u8]) -> ResolvedService {
        let info = ServiceInfo::new(SERVICE, "i", "h.local.", ips, port, None).unwrap();
        let mut service = info.as_resolved_service();
        service.txt_properties = TxtProperties::from(txt);
        service
    }

    fn txt(values: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut txt = Vec::new();
        for (key, value) in values {
            txt.push(u8::try_from(key.len() + 1 + value.len()).unwrap());
            txt.extend([key.as_bytes(), b"=", value].concat());
        }
        txt
    }

    fn announced(
        network: &str,
        node: NodeId,
        key: Option<PublicKey>,
        ips: &str,
    ) -> ResolvedService {
        service(ips, 7, &txt(&announce::values(network, node, key)))
    }

    fn found(own: &Own, service: &ResolvedService) -> Vec<String> {
        match own.judge(service) {
            Heard::Peer(addresses) => addresses.iter().map(ToString::to_string).collect(),
            Heard::Itself | Heard::Other(_) => Vec::new(),
        }
    }

    #[test]
    fn a_node_of_this_network_is_found() {
        for network in ["", "chess", &"n".repeat(256)] {
            let service = announced(network, OTHER, None, "192.0.2.2");
            let own = |network: &str| own(network, None, false);
            assert_eq!(found(&own(network), &service), ["192.0.2.2:7"]);
            let other = Heard::Other("it belongs to another network");
            assert_eq!(own("go").judge(&service), other);
            assert_eq!(own(&format!("{network}x")).judge(&service), other);
        }
        let itself = announced("", NodeId::from_bytes([1; 16]), None, "192.0.2.2");
        assert_eq!(own("", None, false).judge(&itself), Heard::Itself);
    }

    #[test]
    fn a_key_must_be_proven_and_needs_an_identity() {
        let (with, without) = (own("", Some(key(9)), false), own("", None, false));
        let service = announced("", OTHER, Some(key(7)), "192.0.2.2");
        assert_eq!(
            found(&with, &service),
            [format!("{}@192.0.2.2:7", "07".repeat(32))]
        );
        assert!(found(&without, &service).is_empty());
        let keyless = announced("", OTHER, None, "192.0.2.2");
        assert!(found(&with, &keyless).is_empty());
        assert_eq!(found(&without, &keyless), ["192.0.2.2:7"]);
        for key in ["", "07", &"07".repeat(33), &"+7".repeat(32)] {
            let mut values = announce::values("", OTHER, None);
            values.push(("key", key.as_bytes().to_vec()));
            let service = self::service("192.0.2.2", 7, &txt(&values));
            assert_eq!(with.judge(&service), Heard::Other("its key is invalid"));
        }
    }

    #[test]
    fn only_addresses_that_a_peer_may_have_are_taken() {
        let lan = own("", None, false);
        let there = |own: &Own, ips: &str| found(own, &announced("", OTHER, None, ips));
        let nowhere = "127.0.0.1,::1,::ffff:127.0.0.1,0.0.0.0,0.1.2.3,::,255.255.255.255,224.0.0.251,ff02::fb";
        assert!(there(&lan, nowhere).is_empty());
        assert!(there(&lan, "").is_empty());
        assert_eq!(
            there(
                &lan,
                "fe80::1,2001:db8::2,169.254.1.1,127.0.0.1,192.0.2.1,192.0.2.2"
            ),
            [
                "192.0.2.1:7",
                "192.0.2.2:7",
                "[2001:db8::2]:7",
                "169.254.1.1:7"
            ]
        );
        let loopback = own("", None, true);
        assert_eq!(
            there(&loopback, "192.0.2.1,::1,127.0.0.2,fe80::1"),
            ["127.0.0.2:7", "[::1]:7"]
        );
        let port_zero = service("192.0.2.1", 0, &txt(&announce::values("", OTHER, None)));
        assert!(found(&lan, &port_zero).is_empty());
    }

    #[test]
    fn only_so_many_instances_are_known() {
        let mut known = Known::default();
        let at = |port: usize| -> Vec<Address> {
            vec![format!("192.0.2.1:{}", port + 1).parse().unwrap()]
        };
        for number in 0..MAX_INSTANCES {
            assert!(known.admit(&number.to_string(), &at(number)));
        }
        assert!(!known.admit("one more", &at(9)) && known.admit("7", &at(7000)));
        assert_eq!(known.addresses().count(), MAX_INSTANCES);
        assert!(known.addresses().any(|address| address.port() == 7001));
        assert!(!known.addresses().any(|address| address.port() == 8));
        known.forget("nobody");
        assert!(!known.admit("one more", &at(9)));
        known.forget("7");
        assert!(known.admit("one more", &at(9)) && !known.admit("7", &at(7)));
        assert!(!Known::default().admit(&"x".repeat(NAME_MAX + 1), &at(9)));
    }

    proptest! {
        /// Random bytes lead to no address, and whatever leads to one has the node id and network.
        #[test]
        fn any_values_are_judged(bytes: Vec<u8>, port: u16, ip: IpAddr, loopback: bool) {
            let service = service(&ip.to_string(), port, &bytes);
            prop_assert!(found(&own("chess", None, loopback), &service).is_empty());
        }

        /// One damaged byte makes another network, another node, or nothing.
        #[test]
        fn a_damaged_value_is_no_other_key(at in 0usize..200, byte: u8) {
            let values = announce::values("chess", OTHER, Some(key(7)));
            let mut txt = txt(&values);
            let at = at % txt.len();
            txt[at] = byte;
            for address in found(&own("chess", Some(key(9)), false), &service("192.0.2.1", 7, &txt)) {
                prop_assert!(address.ends_with("@192.0.2.1:7"));
            }
        }

        #[test]
        fn hexadecimal_digits_are_parsed_as_they_are_written(id: [u8; 16], junk: Vec<u8>) {
            let text = NodeId::from_bytes(id).to_string();
            prop_assert_eq!(bytes::<16>(text.as_bytes()), Some(id));
            prop_assert_eq!(bytes::<16>(text.to_uppercase().as_bytes()), Some(id));
            prop_assert_eq!(bytes::<15>(text.as_bytes()), None);
            prop_assume!(!junk.iter().all(u8::is_ascii_hexdigit) || junk.len() != 32);
            prop_assert_eq!(bytes::<16>(&junk), None);
        }
    }
}
