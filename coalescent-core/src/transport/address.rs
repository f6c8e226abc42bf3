//! The address of a peer, as people write it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The longest part of an unusable address that an error repeats, in characters.
const SHOWN: usize = 64;

/// Names where a peer can be reached, and optionally who must be there: `[ID@]HOST:PORT`.
///
/// `HOST` is a host name, an IPv4 address, or an IPv6 address in brackets, with a zone if it needs
/// one. `PORT` is not 0. `ID` is the peer's identity, its ed25519 public key as 64 hexadecimal
/// digits.
///
/// Host names and addresses are kept in one spelling (`Example.COM` as `example.com`, `[0::1]` as
/// `[::1]`), so that equal addresses compare equal.
///
/// ```
/// use coalescent_core::Address;
///
/// let address: Address = "[2001:db8::7]:1337".parse()?;
/// assert_eq!((address.host(), address.port()), ("2001:db8::7", 1337));
///
/// let error = "example".parse::<Address>().unwrap_err();
/// assert_eq!(error.to_string(), r#""example": missing port; write HOST:PORT"#);
/// # Ok::<(), coalescent_core::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    id: Option<[u8; 32]>,
    host: String,
    port: u16,
}

impl Address {
    /// Returns the identity that the peer must prove, an ed25519 public key.
    pub fn id(&self) -> Option<&[u8; 32]> {
        self.id.as_ref()
    }

    /// Returns the host: a name, or an IP address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port, which is never 0.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the host as an IP address, if it is one and has no zone.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Returns this address with an identity that the peer must prove, or with none.
    #[must_use]
    pub fn with_id(self, id: Option<[u8; 32]>) -> Self {
        Self { id, ..self }
    }
}

/// Writes what [`FromStr`] reads.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(id) = &self.id {
            for byte in id {
                write!(f, "{byte:02x}")?;
            }
            f.write_str("@")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        parse(text).map_err(|problem| AddressError {
            text: shown(text),
            problem,
        })
    }
}

impl TryFrom<SocketAddr> for Address {
    type Error = AddressError;

    fn try_from(addr: SocketAddr) -> Result<Self, AddressError> {
        addr.to_string().parse()
    }
}

fn parse(text: &str) -> Result<Address, Problem> {
    let (id, place) = match text.split_once('@') {
        Some((id, place)) => (Some(parse_id(id).ok_or(Problem::Id)?), place),
        None => (None, text),
    };
    let (host, port) = if let Some(bracketed) = place.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']').ok_or(Problem::Bracket)?;
        let port = match rest.strip_prefix(':') {
            Some(port) => port,
            None if rest.is_empty() => return Err(Problem::MissingPort),
            None => return Err(Problem::AfterBracket),
        };
        (parse_ipv6(host).ok_or(Problem::Ipv6)?, port)
    } else {
        let (host, port) = place.rsplit_once(':').ok_or(Problem::MissingPort)?;
        if host.contains(':') {
            return Err(Problem::Unbracketed);
        }
        (parse_host(host)?, port)
    };
    Ok(Address {
        id,
        host,
        port: parse_port(port)?,
    })
}

fn parse_id(text: &str) -> Option<[u8; 32]> {
    let mut digits = text.chars().map(|digit| digit.to_digit(16));
    let mut id = [0; 32];
    for byte in &mut id {
        // Two hexadecimal digits fit a byte.
        *byte = (digits.next()?? << 4 | digits.next()??) as u8;
    }
    digits.next().is_none().then_some(id)
}

fn parse_port(text: &str) -> Result<u16, Problem> {
    if text.is_empty() {
        return Err(Problem::MissingPort);
    }
    // The standard parser would take a sign.
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Problem::Port);
    }
    match text.parse() {
        Ok(0) => Err(Problem::PortZero),
        Ok(port) => Ok(port),
        Err(_) => Err(Problem::Port),
    }
}

fn parse_ipv6(text: &str) -> Option<String> {
    let (addr, zone) = match text.split_once('%') {
        Some((addr, zone)) => (addr, Some(zone)),
        None => (text, None),
    };
    let addr: Ipv6Addr = addr.parse().ok()?;
    let Some(zone) = zone else {
        return Some(addr.to_string());
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (!zone.is_empty() && zone.bytes().all(plain)).then(|| format!("{addr}%{zone}"))
}

fn parse_host(text: &str) -> Result<String, Problem> {
    if text.is_empty() {
        return Err(Problem::MissingHost);
    }
    if let Ok(addr) = text.parse::<Ipv4Addr>() {
        return Ok(addr.to_string());
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(plain);
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(Problem::Host);
    }
    // A name that ends in a number would be read as an IPv4 address by some resolvers (127.1 is
    // one).
    let numeric = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    if name.rsplit('.').next().is_some_and(numeric) {
        return Err(Problem::Ipv4);
    }
    Ok(text.to_ascii_lowercase())
}

/// Shortens what may have come from a peer; [`AddressError`] escapes it.
fn shown(text: &str) -> String {
    let more = text.chars().nth(SHOWN).map(|_| '…');
    text.chars().take(SHOWN).chain(more).collect()
}

/// Tells why a text is no [`Address`], and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddressError {
    text: String,
    problem: Problem,
}

impl AddressError {
    /// Returns true if there is no port.
    pub fn is_missing_port(&self) -> bool {
        self.problem == Problem::MissingPort
    }

    /// Returns true if what stands before `@` is not an identity.
    pub fn is_id(&self) -> bool {
        self.problem == Problem::Id
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = match self.problem {
            Problem::Id => "the identity before @ is not 64 hexadecimal digits",
            Problem::MissingPort => "missing port; write HOST:PORT",
            Problem::Port => "the port is not a number from 1 to 65535",
            Problem::PortZero => {
                "nobody listens on port 0; write the port that the peer listens on"
            }
            Problem::MissingHost => "missing host; write HOST:PORT",
            Problem::Host => "not a host name; write letters, digits, - and . (xn--… for others)",
            Problem::Ipv4 => "not an IPv4 address; write four numbers from 0 to 255",
            Problem::Ipv6 => "not an IPv6 address between the brackets",
            Problem::Unbracketed => "put an IPv6 address in brackets: [ADDRESS]:PORT",
            Problem::Bracket => "missing ] after the IPv6 address; write [ADDRESS]:PORT",
            Problem::AfterBracket => "only :PORT may follow the brackets; write [ADDRESS]:PORT",
        };
        write!(f, "{:?}: {problem}", self.text)
    }
}

impl std::error::Error for AddressError {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Problem {
    Id,
    MissingPort,
    Port,
    PortZero,
    MissingHost,
    Host,
    Ipv4,
    Ipv6,
    Unbracketed,
    Bracket,
    AfterBracket,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn problem(text: &str) -> Problem {
        text.parse::<Address>().unwrap_err().problem
    }

    #[test]
    fn what_is_written_is_read_in_one_spelling() {
        for (text, spelling) in [
            ("127.0.0.1:1337", "127.0.0.1:1337"),
            ("Seed.Example.:7", "seed.example.:7"),
            ("a_b-c:65535", "a_b-c:65535"),
            ("[0:0::1]:1", "[::1]:1"),
            ("[FE80::1%eth0]:1", "[fe80::1%eth0]:1"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), spelling);
        }
        let text = format!("{}@[::1]:9", "aB".repeat(32));
        let address: Address = text.parse().unwrap();
        assert_eq!(address.id(), Some(&[0xab; 32]));
        assert_eq!(address.to_string(), text.to_lowercase());
        assert_eq!(address.ip(), Some(Ipv6Addr::LOCALHOST.into()));
    }

    #[test]
    fn each_mistake_has_its_own_advice() {
        for (text, expected) in [
            ("", Problem::MissingPort),
            ("example", Problem::MissingPort),
            ("example:", Problem::MissingPort),
            ("[::1]", Problem::MissingPort),
            (":80", Problem::MissingHost),
            ("a:0", Problem::PortZero),
            ("a:65536", Problem::Port),
            ("a:+80", Problem::Port),
            ("a:80 ", Problem::Port),
            (" a:80", Problem::Host),
            ("a..b:80", Problem::Host),
            ("bücher:80", Problem::Host),
            ("256.0.0.1:80", Problem::Ipv4),
            ("127.1:80", Problem::Ipv4),
            ("::1:80", Problem::Unbracketed),
            ("[::1:80", Problem::Bracket),
            ("[::1]80", Problem::AfterBracket),
            ("[1.2.3.4]:80", Problem::Ipv6),
            ("[fe80::1%]:80", Problem::Ipv6),
            ("me@a:80", Problem::Id),
        ] {
            assert_eq!(problem(text), expected, "{text:?}");
        }
        assert_eq!(problem(&format!("{}@a:80", "ab".repeat(33))), Problem::Id);
    }

    #[test]
    fn an_error_repeats_little_and_nothing_that_moves_a_terminal() {
        let text = format!("\u{1b}[2J\n{}", "é".repeat(1000))
            .parse::<Address>()
            .unwrap_err();
        let text = text.to_string();
        assert!(
            text.len() < 300 && !text.contains(['\u{1b}', '\n']),
            "{text}"
        );
        assert!(
            text.ends_with("…\": missing port; write HOST:PORT"),
            "{text}"
        );
    }

    proptest! {
        #[test]
        fn any_socket_address_makes_the_round_trip(ip: IpAddr, port in 1..=u16::MAX, id: Option<[u8; 32]>) {
            let address = Address::try_from(SocketAddr::new(ip, port)).unwrap().with_id(id);
            prop_assert_eq!(address.ip(), Some(ip));
            prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
        }

        #[test]
        fn any_text_is_an_error_or_makes_the_round_trip(text in r"([0-9a-f]{0,64}@)?\[?[a-z0-9:.%\PC]{0,12}\]?:?[0-9]{0,6}") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
            }
        }
    }
}
