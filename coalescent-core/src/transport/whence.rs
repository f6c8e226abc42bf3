//! Who is at the other end of a connection, for limits, bans and reports.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::transport::address::Address;
use crate::transport::identity::PublicKey;

/// The other end of a connection, as far as its transport tells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Whence {
    pub(crate) addr: Option<SocketAddr>,
    /// The key that it has proven.
    pub(crate) key: Option<PublicKey>,
    /// Its address with a scheme, if that is not its socket address.
    pub(crate) place: Option<Arc<Address>>,
}

impl Whence {
    /// Describes who is seen at a socket address.
    pub(crate) fn at(addr: SocketAddr) -> Self {
        Self {
            addr: Some(addr),
            ..Self::default()
        }
    }

    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.addr.map(|addr| addr.ip())
    }
}

/// Writes the socket address, or else the address with its scheme.
impl fmt::Display for Whence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.addr, &self.place) {
            (Some(addr), _) => addr.fmt(f),
            (None, Some(place)) => place.fmt(f),
            (None, None) => f.write_str("the other end"),
        }
    }
}
