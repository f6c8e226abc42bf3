//! The simulated network as a transport.

use std::io;
use std::net::SocketAddr;

use coalescent::Address;
use coalescent::transport::{BoxFuture, BoxIo, Connected, Listener, Transport};
use turmoil::net::{TcpListener, TcpStream};

/// Sockets of the simulation that the caller runs in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Simulated;

impl Transport for Simulated {
    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(addr).await?;
            Ok(Box::new(SimulatedListener(listener)) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(
        &'a self,
        addr: &'a Address,
        permit: &'a (dyn Fn(SocketAddr) -> io::Result<()> + Sync),
    ) -> BoxFuture<'a, io::Result<Connected>> {
        Box::pin(async move {
            let there = SocketAddr::new(turmoil::lookup(addr.host()), addr.port());
            permit(there)?;
            let stream = TcpStream::connect(there).await?;
            Ok((Box::new(stream) as BoxIo, there).into())
        })
    }
}

struct SimulatedListener(TcpListener);

impl Listener for SimulatedListener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connected>> {
        Box::pin(async move {
            let (stream, from) = self.0.accept().await?;
            Ok((Box::new(stream) as BoxIo, from).into())
        })
    }
}
