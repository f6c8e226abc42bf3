//! Where sockets come from.
//!
//! An app uses [`Tcp`] unless it is given another [`Transport`]: [`Memory`] for tests, or one of
//! your own, such as a simulated network. Whatever it is, the connection on top is the same.

pub mod address;
mod bind;
mod direction;
pub(crate) mod group;
#[cfg(feature = "tls")]
mod heard;
#[cfg(feature = "tls")]
pub mod identity;
mod memory;
mod race;
mod tcp;
#[cfg(feature = "tls")]
pub mod tls;

use std::any::Any;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::{fmt, io};

pub use direction::Direction;
#[cfg(feature = "tls")]
pub(crate) use heard::Heard;
pub use memory::Memory;
pub use race::{ATTEMPT_DELAY, MAX_ADDRESSES};
pub use tcp::{BACKLOG, KEEPALIVE, Tcp};
pub(crate) use tcp::{met_itself, no_address, reset_at_close, watch_silence};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::transport::address::Address;

/// A future in a box, as the methods of [`Transport`] return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a connection runs over. Implemented for everything that fits.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + Any {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + Any> Io for T {}

/// A connection's socket, whatever it is.
pub type BoxIo = Box<dyn Io>;

impl fmt::Debug for dyn Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Io")
    }
}

/// The TCP socket that `io` is, if it is one and not something around one.
pub(crate) fn tcp_stream(io: &dyn Any) -> Option<&TcpStream> {
    match io.downcast_ref::<BoxIo>() {
        Some(boxed) => tcp_stream(&**boxed),
        None => io.downcast_ref(),
    }
}

/// A way to make and accept connections.
pub trait Transport: Send + Sync + 'static {
    /// Begins to accept connections at `addr`, a `host:port`; port 0 takes a free one.
    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;

    /// Begins to accept connections at each address that `addr` stands for, at least one; with port
    /// 0, at the same port, if that can be had. Default: what [`listen`](Transport::listen) makes,
    /// alone.
    fn listen_all<'a>(
        &'a self,
        addr: &'a str,
    ) -> BoxFuture<'a, io::Result<Vec<Box<dyn Listener>>>> {
        Box::pin(async move { Ok(vec![self.listen(addr).await?]) })
    }

    /// Makes a connection. The caller bounds the time it takes.
    ///
    /// `permit` is asked for each address that the host name stands for, before it is connected to;
    /// an error it returns is the result if no address is permitted. It also refuses addresses that
    /// are to be passed over for now, such as those that led back to this node: so ask it for all.
    ///
    /// Returns the connection and the address at its other end.
    fn connect<'a>(
        &'a self,
        addr: &'a Address,
        permit: &'a (dyn Fn(SocketAddr) -> io::Result<()> + Sync),
    ) -> BoxFuture<'a, io::Result<(BoxIo, SocketAddr)>>;

    /// Returns the address of this end of a connection that [`connect`](Transport::connect) made,
    /// as a [`Listener`] at its other end would see it; `None` if that is not known.
    ///
    /// A node recognises itself by it on wires without node numbers: a connection it has made is
    /// one that it has accepted. The default knows it of tokio's TCP sockets.
    fn local_addr(&self, io: &BoxIo) -> Option<SocketAddr> {
        tcp_stream(&**io).and_then(|stream| stream.local_addr().ok())
    }
}

/// Accepts connections at one address.
pub trait Listener: Send + 'static {
    /// The address, with the port that was really taken.
    ///
    /// # Errors
    ///
    /// Where the socket has none.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Waits for the next connection.
    ///
    /// # Cancel safety
    ///
    /// Must be safe: a connection must not be lost when the wait is dropped.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxIo, SocketAddr)>>;
}
