//! Addresses of peers, as users write them.

mod error;
mod parse;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

pub use error::AddressError;
#[cfg(test)]
use error::AddressProblem;
use error::shown;
use parse::parse;

use crate::transport::identity::PublicKey;

/// The scheme of an address that names none.
pub(crate) const TCP: &str = "tcp";
pub(crate) const UNIX: &str = "unix";
pub(crate) const WS: &str = "ws";
pub(crate) const WSS: &str = "wss";
pub(crate) const IROH: &str = "iroh";

/// The maximum length of the name of a scheme: 16 bytes.
pub const SCHEME_MAX: usize = 16;

/// The maximum length of what follows the host or the key in an address: 1,024 bytes.
pub const PATH_MAX: usize = 1024;

/// The address of a peer, optionally with the identity that the peer must prove.
///
/// | form | for |
/// |---|---|
/// | `[ID@]HOST:PORT` | TCP, or what the app has in its place |
/// | `SCHEME://[ID@]HOST:PORT/PATH` | schemes with hosts, such as `ws` and `wss` |
/// | `SCHEME:/PATH` | schemes with paths, such as `unix` |
/// | `SCHEME:ID` | schemes with keys, such as `iroh`; more may follow, as `?…` |
///
/// `HOST` is a host name, an IPv4 address, or an IPv6 address in brackets, with a zone if needed.
/// `PORT` is not 0; of `ws` it is 80, and of `wss` 443, if none is said. `ID` is the peer's
/// identity: its ed25519 public key as 64 hexadecimal digits. An app dials the schemes of its
/// [transports](crate::App::transport).
///
/// Schemes, host names and IP addresses are normalised (`Example.COM` to `example.com`, `[0::1]` to
/// `[::1]`, `tcp://a:1` to `a:1`, `unix:///a` to `unix:/a`), so that equal addresses compare equal.
///
/// ```
/// use coalescent::Address;
///
/// let address: Address = "[2001:db8::7]:1337".parse()?;
/// assert_eq!((address.host(), address.port()), ("2001:db8::7", 1337));
/// assert_eq!(address.scheme(), "tcp");
///
/// let address: Address = "wss://Example.com/mesh".parse()?;
/// assert_eq!(address.to_string(), "wss://example.com:443/mesh");
/// let address: Address = "unix:/run/chat.sock".parse()?;
/// assert_eq!((address.scheme(), address.path()), ("unix", "/run/chat.sock"));
///
/// let error = "example".parse::<Address>().unwrap_err();
/// assert_eq!(error.to_string(), r#""example": missing port; write HOST:PORT"#);
/// # Ok::<(), coalescent::AddressError>(())
/// ```
///
/// What an `ID` proves, and what happens if another key answers, is told on the page `keys_and_tls`
/// of the crate `coalescent`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    id: Option<PublicKey>,
    /// Empty if the scheme has no hosts.
    host: String,
    /// 0 if there is none.
    port: u16,
    /// What one of `tcp` has not; apart, since most are of `tcp`, and many are remembered.
    other: Option<Box<Other>>,
}

/// The parts of an address of another scheme than `tcp`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Other {
    scheme: String,
    path: String,
}

impl Address {
    /// Returns the scheme, in lower case: `tcp` where none is written.
    pub fn scheme(&self) -> &str {
        self.other.as_ref().map_or(TCP, |other| &other.scheme)
    }

    /// Returns the identity that the peer must prove: its public key.
    pub fn id(&self) -> Option<PublicKey> {
        self.id
    }

    /// Returns the host: a name, or an IP address without brackets. Empty if the scheme has no
    /// hosts.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port. Of `tcp`, `ws` and `wss` it is never 0; of others, 0 stands for none.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns what follows the host and port, or the key: of `ws` the path with what follows it,
    /// at least `/`; of `unix` all that follows the colon; of `tcp` nothing.
    pub fn path(&self) -> &str {
        self.other.as_ref().map_or("", |other| &other.path)
    }

    /// Returns the host as an IP address, if it is one without a zone.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Returns the socket address, if the host is an IP address without a zone, and a port is said.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        let ip = self.ip().filter(|_| self.port != 0)?;
        Some(SocketAddr::new(ip, self.port))
    }

    /// Returns this address with the given identity that the peer must prove, or without one. One
    /// without a host stays what it is: there is no place in it for an identity, or it is one.
    #[must_use]
    pub fn with_id(self, id: Option<PublicKey>) -> Self {
        match self.host.is_empty() {
            true => self,
            false => Self { id, ..self },
        }
    }

    /// Returns the scheme that a text to listen at names, in the spelling of the text; `None` if it
    /// names none.
    pub(crate) fn scheme_in(text: &str) -> Option<&str> {
        parse::split(text).map(|(scheme, _)| scheme)
    }
}

/// Writes the form that [`FromStr`] parses.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_host = !self.host.is_empty();
        if let Some(other) = &self.other {
            let slashes = if has_host { "//" } else { "" };
            write!(f, "{}:{slashes}", other.scheme)?;
        }
        if let Some(id) = &self.id {
            write!(f, "{id}")?;
            if has_host {
                f.write_str("@")?;
            }
        }
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        if self.port != 0 {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(self.path())
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

#[cfg(test)]
mod tests;
