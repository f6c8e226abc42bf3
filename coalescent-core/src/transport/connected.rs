//! An open connection, as a transport hands it over.

use std::net::SocketAddr;

use super::{BoxIo, Io};
use crate::transport::identity::PublicKey;

/// An open connection, and what the transport knows of its other end.
///
/// ```
/// use coalescent::transport::Connected;
///
/// let (here, _there) = tokio::io::duplex(1024);
/// let connected = Connected::new(here).addr(([192, 0, 2, 7], 1337).into());
/// assert!(connected.addr.is_some() && connected.key.is_none());
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Connected {
    /// The connection.
    pub io: BoxIo,
    /// The socket address of the other end, by which connections are counted, banned and reported.
    /// `None` on transports without socket addresses.
    pub addr: Option<SocketAddr>,
    /// The key that the other end has proven to the transport. Only believed of a transport that
    /// says that it [proves keys](super::Protection::Keys).
    pub key: Option<PublicKey>,
}

impl Connected {
    /// Describes a connection of whose other end nothing is known.
    #[must_use]
    pub fn new(io: impl Io) -> Self {
        Self {
            io: Box::new(io),
            addr: None,
            key: None,
        }
    }

    /// Sets the socket address of the other end.
    #[must_use]
    pub fn addr(mut self, addr: SocketAddr) -> Self {
        self.addr = Some(addr);
        self
    }

    /// Sets the key that the other end has proven.
    #[must_use]
    pub fn key(mut self, key: PublicKey) -> Self {
        self.key = Some(key);
        self
    }
}

impl From<(BoxIo, SocketAddr)> for Connected {
    fn from((io, addr): (BoxIo, SocketAddr)) -> Self {
        Self {
            io,
            addr: Some(addr),
            key: None,
        }
    }
}
