//! One listener, as what comes in at it is judged and counted.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Runtime;
use crate::error::Error;
use crate::transport::address::Address;
use crate::transport::group::{Group, Groups};
use crate::transport::{Connected, Io, Listener, Protection, Whence, tcp_stream};

/// Where peers are accepted.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(crate) addr: Option<SocketAddr>,
    pub(crate) address: Address,
}

impl Bound {
    /// Asks a listener where it is.
    pub(super) fn of(listener: &dyn Listener) -> io::Result<Self> {
        let addr = match listener.local_addr() {
            Ok(addr) => Some(addr),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => None,
            Err(error) => return Err(error),
        };
        let address = listener.address()?;
        Ok(Self { addr, address })
    }
}

/// A listener, as far as newcomers matter.
#[derive(Clone, Debug)]
pub(super) struct Entrance {
    addr: Option<SocketAddr>,
    address: Arc<Address>,
    pub(super) protection: Protection,
    /// The group of newcomers without addresses.
    group: Group,
}

impl Entrance {
    pub(super) fn new(bound: Bound, protection: Protection) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let group = match protection {
            Protection::Local => Group::Loopback,
            _ => Group::Listener(NEXT.fetch_add(1, Ordering::Relaxed)),
        };
        Self {
            addr: bound.addr,
            address: Arc::new(bound.address),
            protection,
            group,
        }
    }

    /// Returns who is at the other end of an accepted connection.
    pub(super) fn whence(&self, connected: &Connected) -> Whence {
        let key = connected
            .key
            .filter(|_| self.protection == Protection::Keys);
        let place = || {
            let of_key = |key| format!("{}:{key}", self.address.scheme()).parse();
            let of_key = key.and_then(|key| of_key(key).ok());
            of_key.map_or_else(|| Arc::clone(&self.address), Arc::new)
        };
        Whence {
            addr: connected.addr,
            key,
            place: connected.addr.is_none().then(place),
        }
    }

    /// Returns at which address a connection was accepted, as far as that is known.
    pub(super) fn local_addr(&self, connected: &Connected) -> Option<SocketAddr> {
        local_addr(&*connected.io).or(self.addr)
    }

    /// Returns the groups with which a connection is counted.
    pub(super) fn groups(&self, whence: &Whence) -> Groups {
        Groups::of(whence.ip(), whence.key, self.group)
    }

    /// Whether a newcomer is on this machine, as far as its address tells.
    pub(super) fn is_local(&self, whence: &Whence) -> bool {
        match whence.ip() {
            Some(ip) => ip.to_canonical().is_loopback(),
            None => self.protection == Protection::Local,
        }
    }
}

/// Returns the local address of a TCP connection.
pub(super) fn local_addr(io: &dyn Io) -> Option<SocketAddr> {
    tcp_stream(io).and_then(|stream| stream.local_addr().ok())
}

impl Runtime {
    /// Checks that connections may be accepted there.
    pub(super) fn permit_bound(&self, bound: &Bound, protection: Protection) -> Result<(), Error> {
        self.security.check_list(&bound.address, protection)?;
        match bound.addr {
            Some(addr) => self.security.permit(addr, protection),
            None => self.security.permit_other(&bound.address, protection),
        }
    }
}
