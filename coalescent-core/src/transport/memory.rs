use std::any::Any;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;

use super::{BoxFuture, BoxIo, Connected, Listener, Transport};
use crate::transport::address::Address;

/// The buffer size of each direction of a connection, in bytes.
const PIPE: usize = 64 * 1024;

/// The listen backlog: how many connections may wait to be accepted.
const BACKLOG: usize = 128;

/// An in-memory network for tests. It uses no sockets or ports, and works on paused time.
///
/// Clones share the same network. An address is a `host:port` with any host name; the host is
/// ignored. Every connection counts as loopback.
///
/// ```
/// use coalescent::{App, transport::Memory};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), coalescent::Error> {
/// let network = Memory::new();
/// let alice = App::new().transport(network.clone()).listen("alice:1").await?;
/// let bob = App::new().transport(network).start().await?;
///
/// let peer = bob.connect("alice:1").await?;
/// assert_eq!(bob.peers().len(), 1);
/// # drop((alice, peer));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Ports>>);

#[derive(Debug, Default)]
struct Ports {
    next: u16,
    /// How often `next` has wrapped around. Part of the address of connecting ends, so that each is
    /// unique.
    turn: u16,
    listening: HashMap<u16, mpsc::Sender<(BoxIo, SocketAddr)>>,
}

impl Memory {
    /// Creates a separate network.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn ports(&self) -> MutexGuard<'_, Ports> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ports {
    fn free(&mut self) -> u16 {
        loop {
            self.next = self.next.checked_add(1).unwrap_or_else(|| {
                self.turn = self.turn.wrapping_add(1);
                1
            });
            if !self.listening.contains_key(&self.next) {
                return self.next;
            }
        }
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// The connecting end of a connection, which knows its local address.
#[derive(Debug)]
struct ConnectingEnd {
    io: DuplexStream,
    here: SocketAddr,
}

impl AsyncRead for ConnectingEnd {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for ConnectingEnd {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl Transport for Memory {
    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let port = addr
                .rsplit_once(':')
                .and_then(|(_, port)| port.parse::<u16>().ok());
            let port = port.ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidInput, "missing port; write HOST:PORT")
            })?;
            let (sender, receiver) = mpsc::channel(BACKLOG);
            let mut ports = self.ports();
            let port = if port == 0 { ports.free() } else { port };
            if ports
                .listening
                .get(&port)
                .is_some_and(|listening| !listening.is_closed())
            {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            ports.listening.insert(port, sender);
            Ok(Box::new(MemoryListener {
                addr: address(port),
                receiver,
            }) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(
        &'a self,
        addr: &'a Address,
        permit: &'a (dyn Fn(SocketAddr) -> io::Result<()> + Sync),
    ) -> BoxFuture<'a, io::Result<Connected>> {
        Box::pin(async move {
            let there = address(addr.port());
            permit(there)?;
            let (sender, here) = {
                let mut ports = self.ports();
                let sender = ports.listening.get(&addr.port()).cloned();
                let port = ports.free();
                let [a, b] = ports.turn.to_be_bytes();
                (sender, SocketAddr::from(([127, a, b, 1], port)))
            };
            let (io, theirs) = tokio::io::duplex(PIPE);
            let sender = sender.ok_or(io::ErrorKind::ConnectionRefused)?;
            let sent = sender.send((Box::new(theirs), here)).await;
            sent.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            Ok((Box::new(ConnectingEnd { io, here }) as BoxIo, there).into())
        })
    }

    fn local_addr(&self, io: &BoxIo) -> Option<SocketAddr> {
        let io: &dyn Any = &**io;
        io.downcast_ref::<ConnectingEnd>().map(|made| made.here)
    }
}

#[derive(Debug)]
struct MemoryListener {
    addr: SocketAddr,
    receiver: mpsc::Receiver<(BoxIo, SocketAddr)>,
}

impl Listener for MemoryListener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connected>> {
        Box::pin(async move {
            match self.receiver.recv().await {
                Some(accepted) => Ok(accepted.into()),
                // The network was dropped, so no connection will ever arrive.
                None => std::future::pending().await,
            }
        })
    }
}
