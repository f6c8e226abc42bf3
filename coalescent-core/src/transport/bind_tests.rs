use std::collections::BTreeSet;

use super::*;

/// A simulated machine with these addresses, on which some ports are taken. Free ports count up
/// from 50000.
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
fn a_free_port_is_free_on_every_address() {
    let both = ["[::1]:0", "127.0.0.1:0", "[::1]:0"];
    let mut machine = Machine::new(&["127.0.0.1:50000", "127.0.0.1:50001"], "");
    let listening = machine.listen(&both).unwrap();
    assert_eq!(listening, ["[::1]:50002", "127.0.0.1:50002"]);
    // If no port is free on every address, each gets its own.
    let taken: Vec<_> = (50_000..50_016)
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let taken: Vec<_> = taken.iter().map(String::as_str).collect();
    let listening = Machine::new(&taken, "").listen(&both).unwrap();
    assert_eq!(listening, ["[::1]:50016", "127.0.0.1:50017"]);
}

#[test]
fn missing_addresses_are_skipped_and_taken_ones_are_errors() {
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
