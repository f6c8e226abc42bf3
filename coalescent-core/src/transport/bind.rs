//! Listening at all addresses that a name stands for.

use std::io;
use std::net::SocketAddr;

/// How often a free port is looked for that is free at each address.
const TRIES: usize = 16;

/// Binds each of `addrs`, and returns what `bind` made of them, at least one. With port 0 all get
/// the same port, if there is one that is free at each.
///
/// An address that this machine does not have, such as one of IPv6 where that is off, is left out.
/// One that is taken is an error: who dials the name may meet the program that has it.
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

/// Returns `None` where the port that was free at the first address is not at another, and that
/// matters.
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
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A machine with these addresses, where some places are taken; free ports count up from 50000.
    struct Machine {
        taken: BTreeSet<SocketAddr>,
        absent: &'static str,
        next: u16,
    }

    impl Machine {
        fn new(taken: &[&str], absent: &'static str) -> Self {
            Self {
                taken: taken.iter().map(|addr| addr.parse().unwrap()).collect(),
                absent,
                next: 50_000,
            }
        }

        fn bind(&mut self, mut addr: SocketAddr) -> io::Result<(SocketAddr, SocketAddr)> {
            if addr.ip().to_string() == self.absent {
                return Err(io::ErrorKind::AddrNotAvailable.into());
            }
            if addr.port() == 0 {
                addr.set_port(self.next);
                self.next += 1;
            }
            if self.taken.contains(&addr) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            Ok((addr, addr))
        }

        fn listen(&mut self, addrs: &[&str]) -> io::Result<Vec<String>> {
            let addrs = addrs.iter().map(|addr| addr.parse().unwrap());
            let listeners = all(addrs, |addr| self.bind(addr))?;
            Ok(listeners.iter().map(SocketAddr::to_string).collect())
        }
    }

    #[test]
    fn a_free_port_is_one_that_is_free_at_each_address() {
        let both = ["[::1]:0", "127.0.0.1:0", "[::1]:0"];
        let mut machine = Machine::new(&["127.0.0.1:50000", "127.0.0.1:50001"], "");
        let listening = machine.listen(&both).unwrap();
        assert_eq!(listening, ["[::1]:50002", "127.0.0.1:50002"]);
        // Where there is none, each has its own.
        let taken: Vec<_> = (50_000..50_016)
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let taken: Vec<_> = taken.iter().map(String::as_str).collect();
        let listening = Machine::new(&taken, "").listen(&both).unwrap();
        assert_eq!(listening, ["[::1]:50016", "127.0.0.1:50017"]);
    }

    #[test]
    fn an_address_that_is_not_here_is_left_out_and_one_that_is_taken_is_not() {
        let both = ["[::1]:1337", "127.0.0.1:1337"];
        let listening = Machine::new(&[], "::1").listen(&both).unwrap();
        assert_eq!(listening, ["127.0.0.1:1337"]);
        let error = Machine::new(&["127.0.0.1:1337"], "")
            .listen(&both)
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let error = Machine::new(&[], "::1").listen(&both[..1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        let error = Machine::new(&[], "").listen(&[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
