//! Bans: who is not let in, and not dialled, for a while.
//!
//! | file | role |
//! |---|---|
//! | `mod` | [`Ban`] and [`BanTarget`], as applications see them |
//! | `table` | decides who is banned for how long, and who is forgotten; it has no clock |
//! | `judge` | that table, and the faults that were not enough for a ban, behind a lock |
//! | `node` | what the node asks of it, and what a fault leads to |

mod judge;
mod node;
mod table;

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

pub(crate) use judge::Judge;
pub use table::{BANS_MAX, BANS_OF_NETWORK, FORGIVEN_AFTER};

use crate::error::Error;
use crate::text::{OneLine, truncate};
use crate::transport::identity::{PublicKey, parse_hex};

/// How much of the reason of a ban is kept, in bytes: 128.
pub const BAN_REASON_MAX: usize = 128;

/// Who is banned: a key, or an address. Of an IPv6 address its /64 is meant, which is what one
/// customer has.
///
/// ```
/// use coalescent::BanTarget;
///
/// let target: BanTarget = "2001:db8::7".parse()?;
/// assert_eq!(target.to_string(), "2001:db8::/64");
/// assert_eq!(target, "2001:db8::/64".parse()?);
/// # Ok::<(), coalescent::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum BanTarget {
    /// A proven ed25519 public key.
    Key(PublicKey),
    /// An IPv4 address, or the first address of a /64 of IPv6.
    Ip(IpAddr),
}

impl BanTarget {
    /// Returns the same target in the form in which it is compared.
    fn canonical(self) -> Self {
        match self {
            Self::Ip(ip) => Self::from(ip),
            key @ Self::Key(_) => key,
        }
    }

    /// Returns whether it is an address of this machine, which all its programs share.
    pub(crate) fn is_loopback(self) -> bool {
        matches!(self, Self::Ip(ip) if ip.to_canonical().is_loopback())
    }

    /// Returns whether a connection from this address, with this proven key, is meant.
    pub(crate) fn is(self, key: Option<&PublicKey>, ip: Option<IpAddr>) -> bool {
        match self.canonical() {
            Self::Key(banned) => key == Some(&banned),
            address @ Self::Ip(_) => ip.is_some_and(|ip| address == Self::from(ip)),
        }
    }
}

impl From<IpAddr> for BanTarget {
    fn from(ip: IpAddr) -> Self {
        // A dual-stack socket reports IPv4 peers as ::ffff:a.b.c.d.
        match ip.to_canonical() {
            IpAddr::V6(ip) if !ip.is_loopback() => {
                let net = u128::from(ip) >> 64 << 64;
                Self::Ip(Ipv6Addr::from(net).into())
            }
            ip => Self::Ip(ip),
        }
    }
}

impl From<PublicKey> for BanTarget {
    fn from(key: PublicKey) -> Self {
        Self::Key(key)
    }
}

impl fmt::Debug for BanTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(_) => write!(f, "Key({self})"),
            Self::Ip(ip) => write!(f, "Ip({ip})"),
        }
    }
}

impl fmt::Display for BanTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.canonical() {
            Self::Key(key) => key.fmt(f),
            Self::Ip(IpAddr::V6(ip)) if !ip.is_loopback() => write!(f, "{ip}/64"),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

impl FromStr for BanTarget {
    type Err = Error;

    /// Parses an IP address, a /64 of IPv6, or a key of 64 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, Error> {
        let key = parse_hex(text).and_then(|key| PublicKey::from_bytes(key).ok());
        if let Some(key) = key {
            return Ok(Self::Key(key));
        }
        let address = match text.strip_suffix("/64") {
            Some(net) => net.parse::<Ipv6Addr>().ok().map(IpAddr::from),
            None => text.parse().ok(),
        };
        address.map(Self::from).ok_or_else(|| {
            Error::config(
                "this can't be banned: give an IP address, or a key of 64 hexadecimal digits",
            )
        })
    }
}

/// A ban: who is not let in for how long, and why.
///
/// ```
/// use std::time::Duration;
///
/// use coalescent::{App, Ban, BanTarget};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), coalescent::Error> {
/// // What was saved of an earlier run, with the time that is left.
/// let target: BanTarget = "198.51.100.7".parse()?;
/// let saved = Ban::new(target, Duration::from_secs(60), "spam").with_times(2);
///
/// let mesh = App::new().start().await?;
/// mesh.restore_bans([saved]);
/// assert_eq!((mesh.bans()[0].target(), mesh.bans()[0].times()), (target, 2));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    target: BanTarget,
    left: Duration,
    times: u32,
    reason: String,
}

impl Ban {
    /// Creates a ban that is to last as long from now on. Of the reason, what is too long is left
    /// out ([`BAN_REASON_MAX`]), and what does not belong on one line is escaped.
    #[must_use]
    pub fn new(target: impl Into<BanTarget>, left: Duration, reason: impl AsRef<str>) -> Self {
        Self {
            target: target.into().canonical(),
            left,
            times: 0,
            reason: short(reason.as_ref()),
        }
    }

    /// Sets how often the target was banned for faults, this time included.
    #[must_use]
    pub fn with_times(self, times: u32) -> Self {
        Self { times, ..self }
    }

    /// Returns who is banned.
    #[must_use]
    pub fn target(&self) -> BanTarget {
        self.target
    }

    /// Returns how long it will last from now on.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.left
    }

    /// Returns how often the target was banned for faults, as far as that is remembered.
    #[must_use]
    pub fn times(&self) -> u32 {
        self.times
    }

    /// Returns why, on one line.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// Returns a reason as it is kept.
fn short(reason: &str) -> String {
    let mut line = String::new();
    let _ = OneLine::new(&mut line, BAN_REASON_MAX).write_str(reason);
    truncate(&line, BAN_REASON_MAX).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> BanTarget {
        text.parse().unwrap()
    }

    #[test]
    fn a_target_is_a_key_an_address_or_a_64() {
        assert_eq!(target("198.51.100.7"), target("::ffff:198.51.100.7"));
        assert_eq!(target("2001:db8::1"), target("2001:db8::ffff:1"));
        assert_ne!(target("2001:db8::1"), target("2001:db8:0:1::1"));
        let key = "0f".repeat(32);
        assert_eq!(target(&key), BanTarget::Key(PublicKey::repeated(15)));
        assert_eq!(format!("{:?}", target(&key)), format!("Key({key})"));
        let raw = BanTarget::Ip("2001:db8::9".parse().unwrap());
        for target in [
            target("198.51.100.7"),
            target("::1"),
            target("2001:db8::1"),
            target(&key),
        ] {
            assert_eq!(target.to_string().parse::<BanTarget>().unwrap(), target);
        }
        assert!(raw.is(None, Some("2001:db8::1".parse().unwrap())));
        assert_eq!(raw.to_string(), "2001:db8::/64");
        for wrong in [
            "",
            // A key that everybody can sign for.
            &"0".repeat(64),
            "example.org",
            "198.51.100.0/24",
            "198.51.100.7/64",
            &"g".repeat(64),
        ] {
            assert!(wrong.parse::<BanTarget>().unwrap_err().is_config());
        }
    }

    #[test]
    fn a_reason_is_short_and_on_one_line() {
        let ban = Ban::new(PublicKey::repeated(1), Duration::ZERO, "a\nb");
        assert_eq!(ban.reason(), "a\\nb");
        let ban = Ban::new(PublicKey::repeated(1), Duration::ZERO, "é".repeat(1000));
        assert!(ban.reason().len() <= BAN_REASON_MAX);
    }
}
