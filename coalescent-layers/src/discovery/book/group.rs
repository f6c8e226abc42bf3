//! Groups: parts of the network that one party can easily hold many addresses of.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use coalescent_core::{Address, AddressError};

/// The maximum length of the name of a [`Group`], in bytes: two labels and the dot between them.
pub const GROUP_NAME_MAX: usize = 63 + 1 + 63;

/// A part of the network that one party can easily hold many addresses of: the /16 of an IPv4
/// address, the /32 of an IPv6 address, or the last two labels of a host name.
///
/// What the addresses of one group can take of an address book is limited, and so is what peers of
/// one group can fill of it by telling addresses.
///
/// ```
/// use coalescent::discovery::book::Group;
///
/// let group = |address: &str| Group::of(&address.parse().unwrap()).to_string();
/// assert_eq!(group("198.51.100.7:1337"), "198.51.0.0/16");
/// assert_eq!(group("[2001:db8:7::7]:1337"), "2001:db8::/32");
/// assert_eq!(group("seed.mesh.example.org:1337"), "example.org");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    V4([u8; 2]),
    V6([u8; 4]),
    Name(Box<str>),
}

impl Group {
    /// Returns the group of an address.
    #[must_use]
    pub fn of(address: &Address) -> Self {
        let host = address.host();
        // A zone says which interface leads to the address, and nothing of whose it is.
        let plain = host.split_once('%').map_or(host, |(host, _)| host);
        match plain.parse::<IpAddr>() {
            Ok(ip) => Self::of_ip(ip),
            Err(_) => Self(Kind::Name(last_two_labels(plain).into())),
        }
    }

    /// Returns the group of an IP address. An IPv4 address that is mapped to IPv6 counts as IPv4.
    #[must_use]
    pub fn of_ip(ip: IpAddr) -> Self {
        Self(match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, ..] = ip.octets();
                Kind::V4([a, b])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.octets();
                Kind::V6([a, b, c, d])
            }
        })
    }

    /// Returns the bytes that are hashed: different ones for different groups.
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.0 {
            Kind::V4(net) => net,
            Kind::V6(net) => net,
            Kind::Name(name) => name.as_bytes(),
        }
    }

    /// Returns what tells groups of different kinds apart.
    pub(super) fn kind(&self) -> u8 {
        match &self.0 {
            Kind::V4(_) => 4,
            Kind::V6(_) => 6,
            Kind::Name(_) => 0,
        }
    }
}

fn last_two_labels(name: &str) -> &str {
    let name = name.strip_suffix('.').unwrap_or(name);
    let dot = name.rmatch_indices('.').nth(1);
    dot.and_then(|(dot, _)| name.get(dot.saturating_add(1)..))
        .unwrap_or(name)
}

/// Writes a network in CIDR notation, or the end of a host name.
impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::V4([a, b]) => write!(f, "{}/16", Ipv4Addr::new(*a, *b, 0, 0)),
            Kind::V6([a, b, c, d]) => {
                let (high, low) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
                write!(f, "{}/32", Ipv6Addr::new(high, low, 0, 0, 0, 0, 0, 0))
            }
            Kind::Name(name) => f.write_str(name),
        }
    }
}

/// Reads the form that [`Display`](fmt::Display) writes.
impl FromStr for Group {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let host = text.split_once('/').map_or(text, |(host, _)| host);
        // An address of the group, with a port that says nothing.
        let address = if host.contains(':') {
            format!("[{host}]:1")
        } else {
            format!("{host}:1")
        };
        Ok(Self::of(&address.parse()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(address: &str) -> Group {
        Group::of(&address.parse().unwrap())
    }

    #[test]
    fn groups_are_networks_and_domains() {
        assert_eq!(group("198.51.100.7:1"), group("198.51.0.9:2"));
        assert_ne!(group("198.51.100.7:1"), group("198.52.100.7:1"));
        assert_eq!(group("[2001:db8::1]:1"), group("[2001:db8:ffff::1]:1"));
        assert_ne!(group("[2001:db8::1]:1"), group("[2001:db9::1]:1"));
        assert_eq!(group("a.example.org:1"), group("b.c.example.org.:1"));
        assert_ne!(group("a.example.org:1"), group("a.example.net:1"));
        assert_eq!(group("localhost:1").to_string(), "localhost");
    }

    #[test]
    fn one_network_has_one_group_however_it_is_written() {
        assert_eq!(group("[::ffff:198.51.100.7]:1"), group("198.51.0.1:1"));
        assert_eq!(group("[fe80::1%eth0]:1"), group("[fe80::2%eth1]:1"));
    }

    #[test]
    fn what_is_written_is_read() {
        for address in [
            "198.51.100.7:1",
            "[2001:db8::1]:1",
            "[::1]:1",
            "a.b.c:1",
            "name:1",
        ] {
            let group = group(address);
            assert_eq!(group.to_string().parse(), Ok(group));
        }
        assert!("two words".parse::<Group>().is_err());
        assert!("".parse::<Group>().is_err());
    }
}
