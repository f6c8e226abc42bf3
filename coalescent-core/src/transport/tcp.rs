use super::{BoxFuture, BoxIo, Listener, Transport};
use crate::address::Address;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

/// How many connections may wait to be accepted. A short queue makes a crowd of newcomers wait in
/// steps of a second, since that is when they try again.
pub const BACKLOG: u32 = 4096;

/// After how much silence the kernel asks whether the other end is there, and how often then. Wires
/// without liveness frames have nothing else to tell them.
pub const KEEPALIVE: Duration = Duration::from_secs(30);

/// How many bytes that have not been sent the kernel takes. More would only wait in another place,
/// where neither the outbox's bound nor the judgement of slow peers can see them.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NOT_SENT: u32 = 64 * 1024;

/// Connections over TCP, with Nagle's algorithm off and keepalive on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl Transport for Tcp {
    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let mut last = None;
            for addr in lookup_host(addr).await? {
                match bind(addr) {
                    Ok(listener) => return Ok(Box::new(listener) as Box<dyn Listener>),
                    Err(error) => last = Some(error),
                }
            }
            Err(last.unwrap_or_else(no_address))
        })
    }

    fn listen_all<'a>(
        &'a self,
        addr: &'a str,
    ) -> BoxFuture<'a, io::Result<Vec<Box<dyn Listener>>>> {
        Box::pin(async move {
            super::bind::all(lookup_host(addr).await?, |addr| {
                let listener = bind(addr)?;
                let local = listener.local_addr()?;
                Ok((Box::new(listener) as Box<dyn Listener>, local))
            })
        })
    }

    fn connect<'a>(
        &'a self,
        addr: &'a Address,
        permit: &'a (dyn Fn(SocketAddr) -> io::Result<()> + Sync),
    ) -> BoxFuture<'a, io::Result<(BoxIo, SocketAddr)>> {
        Box::pin(async move {
            let mut last = None;
            for addr in lookup_host((addr.host(), addr.port())).await? {
                let connected = match permit(addr) {
                    Ok(()) => TcpStream::connect(addr).await,
                    Err(error) => Err(error),
                };
                match connected {
                    Ok(stream) => {
                        tune(&stream);
                        return Ok((Box::new(stream) as BoxIo, addr));
                    }
                    Err(error) => last = Some(error),
                }
            }
            Err(last.unwrap_or_else(no_address))
        })
    }
}

pub(crate) fn no_address() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        "the host name stands for no address",
    )
}

fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // So that a node can come back at its address at once.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// Sets the socket's options. A connection without them works, so that none of them is worth an end.
fn tune(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE);
    let results = [
        stream.set_nodelay(true),
        socket.set_tcp_keepalive(&keepalive),
        #[cfg(any(target_os = "linux", target_os = "android"))]
        socket.set_tcp_notsent_lowat(NOT_SENT),
    ];
    for error in results.into_iter().filter_map(Result::err) {
        tracing::debug!(%error, "a socket option was not taken");
    }
}

impl Listener for TcpListener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxIo, SocketAddr)>> {
        Box::pin(async move {
            let (stream, addr) = Self::accept(self).await?;
            tune(&stream);
            Ok((Box::new(stream) as BoxIo, addr))
        })
    }
}
