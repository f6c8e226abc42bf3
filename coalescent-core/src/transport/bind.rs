//! Listening on all addresses of a name.

use std::io;
use std::net::SocketAddr;

/// How many free ports are tried to find one that is free on every address.
const TRIES: usize = 16;

/// Binds each of `addrs`, and returns the results of `bind`, at least one. With port 0, all get the
/// same port if one is free on every address.
///
/// Addresses that this machine does not have, such as IPv6 addresses when IPv6 is disabled, are
/// skipped. An address in use is an error, because whoever dials the name might reach the other
/// program.
pub(super) fn all<L>(
    addrs: impl IntoIterator<Item = SocketAddr>,
    mut bind: impl FnMut(SocketAddr) -> io::Result<(L, SocketAddr)>,
) -> io::Result<Vec<L>> {
    let mut places = Vec::new();
    for addr in addrs {
        if !places.contains(&addr) {
            places.push(addr);
        }
    }
    for _ in 0..TRIES {
        match at_one_port(&places, &mut bind, true)? {
            Some(listeners) => return Ok(listeners),
            None => continue,
        }
    }
    Ok(at_one_port(&places, &mut bind, false)?.unwrap_or_default())
}

/// Returns `None` if the port chosen for the first address is in use on another one, and all must
/// get the same port.
fn at_one_port<L>(
    addrs: &[SocketAddr],
    bind: &mut impl FnMut(SocketAddr) -> io::Result<(L, SocketAddr)>,
    same: bool,
) -> io::Result<Option<Vec<L>>> {
    let mut listeners = Vec::new();
    let mut port = None;
    let mut absent = None;
    for addr in addrs {
        let mut place = *addr;
        let given = port.filter(|_| same && addr.port() == 0);
        if let Some(port) = given {
            place.set_port(port);
        }
        match bind(place) {
            Ok((listener, local)) => {
                port.get_or_insert(local.port());
                listeners.push(listener);
            }
            Err(error) => match error.kind() {
                io::ErrorKind::AddrInUse if given.is_some() => return Ok(None),
                io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => return Err(error),
                _ => {
                    tracing::debug!(%addr, %error, "not listening there");
                    absent = Some(error);
                }
            },
        }
    }
    match absent {
        Some(error) if listeners.is_empty() => Err(error),
        None if listeners.is_empty() => Err(super::no_address()),
        _ => Ok(Some(listeners)),
    }
}

#[cfg(test)]
#[path = "bind_tests.rs"]
mod tests;
