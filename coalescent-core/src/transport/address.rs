//! Addresses of peers, as users write them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The maximum number of characters of an invalid address that an error quotes.
const SHOWN: usize = 64;

/// The address of a peer, optionally with the identity that the peer must prove: `[ID@]HOST:PORT`.
///
/// `HOST` is a host name, an IPv4 address, or an IPv6 address in brackets, with a zone if needed.
/// `PORT` is not 0. `ID` is the peer's identity: its ed25519 public key as 64 hexadecimal digits.
///
/// Host names and IP addresses are normalised (`Example.COM` to `example.com`, `[0::1]` to
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
    /// Returns the identity that the peer must prove: an ed25519 public key.
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

    /// Returns the host as an IP address, if it is one without a zone.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Returns this address with the given identity that the peer must prove, or without one.
    #[must_use]
    pub fn with_id(self, id: Option<[u8; 32]>) -> Self {
        Self { id, ..self }
    }
}

/// Writes the form that [`FromStr`] parses.
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

fn parse(text: &str) -> Result<Address, AddressProblem> {
    let (id, place) = match text.split_once('@') {
        Some((id, place)) => (Some(parse_id(id).ok_or(AddressProblem::Id)?), place),
        None => (None, text),
    };
    let (host, port) = if let Some(bracketed) = place.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']').ok_or(AddressProblem::Bracket)?;
        let port = match rest.strip_prefix(':') {
            Some(port) => port,
            None if rest.is_empty() => return Err(AddressProblem::MissingPort),
            None => return Err(AddressProblem::AfterBracket),
        };
        (parse_ipv6(host).ok_or(AddressProblem::Ipv6)?, port)
    } else {
        let (host, port) = place.rsplit_once(':').ok_or(AddressProblem::MissingPort)?;
        if host.contains(':') {
            return Err(AddressProblem::Unbracketed);
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
        // Two hexadecimal digits fit into a byte.
        *byte = (digits.next()?? << 4 | digits.next()??) as u8;
    }
    digits.next().is_none().then_some(id)
}

fn parse_port(text: &str) -> Result<u16, AddressProblem> {
    if text.is_empty() {
        return Err(AddressProblem::MissingPort);
    }
    // The standard parser would accept a sign.
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AddressProblem::Port);
    }
    match text.parse() {
        Ok(0) => Err(AddressProblem::PortZero),
        Ok(port) => Ok(port),
        Err(_) => Err(AddressProblem::Port),
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

fn parse_host(text: &str) -> Result<String, AddressProblem> {
    if text.is_empty() {
        return Err(AddressProblem::MissingHost);
    }
    if let Ok(addr) = text.parse::<Ipv4Addr>() {
        return Ok(addr.to_string());
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(plain);
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(AddressProblem::Host);
    }
    // Some resolvers read a name that ends in a number as an IPv4 address; 127.1 is one.
    let numeric = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    if name.rsplit('.').next().is_some_and(numeric) {
        return Err(AddressProblem::Ipv4);
    }
    Ok(text.to_ascii_lowercase())
}

/// Truncates text that may come from a peer; [`AddressError`] escapes it.
fn shown(text: &str) -> String {
    let more = text.chars().nth(SHOWN).map(|_| '…');
    text.chars().take(SHOWN).chain(more).collect()
}

/// The error of parsing an invalid [`Address`]. Its text says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddressError {
    text: String,
    problem: AddressProblem,
}

impl AddressError {
    /// Returns whether the port is missing.
    pub fn is_missing_port(&self) -> bool {
        self.problem == AddressProblem::MissingPort
    }

    /// Returns whether the part before `@` is not a valid identity.
    pub fn is_id(&self) -> bool {
        self.problem == AddressProblem::Id
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = match self.problem {
            AddressProblem::Id => "the identity before @ is not 64 hexadecimal digits",
            AddressProblem::MissingPort => "missing port; write HOST:PORT",
            AddressProblem::Port => "the port is not a number from 1 to 65535",
            AddressProblem::PortZero => {
                "nobody listens on port 0; write the port that the peer listens on"
            }
            AddressProblem::MissingHost => "missing host; write HOST:PORT",
            AddressProblem::Host => {
                "not a host name; write letters, digits, - and . (xn--… for others)"
            }
            AddressProblem::Ipv4 => "not an IPv4 address; write four numbers from 0 to 255",
            AddressProblem::Ipv6 => "not an IPv6 address between the brackets",
            AddressProblem::Unbracketed => "put an IPv6 address in brackets: [ADDRESS]:PORT",
            AddressProblem::Bracket => "missing ] after the IPv6 address; write [ADDRESS]:PORT",
            AddressProblem::AfterBracket => {
                "only :PORT may follow the brackets; write [ADDRESS]:PORT"
            }
        };
        write!(f, "{:?}: {problem}", self.text)
    }
}

impl std::error::Error for AddressError {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AddressProblem {
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
#[path = "address_tests.rs"]
mod tests;
