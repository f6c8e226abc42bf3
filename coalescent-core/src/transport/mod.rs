//! Transports: how sockets are opened and accepted.
//!
//! An app has a [`Transport`] for each scheme of addresses: [`Tcp`], unless it is given another in
//! its place, such as [`Memory`] for tests, and those that it is given beside it, perhaps one of
//! your own. The connection on top is the same for every transport.

pub mod address;
mod allow;
mod bind;
mod connected;
mod direction;
pub(crate) mod foreign;
pub(crate) mod group;
#[cfg(feature = "tls")]
mod heard;
pub mod identity;
mod memory;
mod protection;
mod race;
pub(crate) mod reach;
mod registry;
mod tcp;
#[cfg(feature = "tls")]
pub mod tls;
mod whence;

use std::any::Any;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::{fmt, io};

pub use allow::Allow;
pub use connected::Connected;
pub use direction::Direction;
#[cfg(feature = "tls")]
pub(crate) use heard::Heard;
pub use memory::Memory;
pub use protection::Protection;
pub use race::{ATTEMPT_DELAY, MAX_ADDRESSES};
pub(crate) use registry::{Route, Transports};
pub use tcp::{BACKLOG, KEEPALIVE, Tcp};
pub(crate) use tcp::{met_itself, no_address, reset_at_close, tune_tcp, watch_silence};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
pub(crate) use whence::Whence;

use crate::transport::address::Address;
use crate::transport::identity::PublicKey;

/// A boxed future, as returned by the methods of [`Transport`].
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A bidirectional byte stream that a connection can run over. Implemented for every suitable type.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + Any {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + Any> Io for T {}

/// The boxed socket of a connection.
pub type BoxIo = Box<dyn Io>;

impl fmt::Debug for dyn Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Io")
    }
}

/// Returns `io` as a TCP socket if it is one itself, not a wrapper around one.
pub(crate) fn tcp_stream(io: &dyn Any) -> Option<&TcpStream> {
    match io.downcast_ref::<BoxIo>() {
        Some(boxed) => tcp_stream(&**boxed),
        None => io.downcast_ref(),
    }
}

/// A way to open and accept connections.
#[doc = include_str!("../../docs/transport.md")]
pub trait Transport: Send + Sync + 'static {
    /// Returns the schemes of the addresses that this transport dials and listens at, in lower
    /// case. Default: `tcp`, the scheme of addresses that name none.
    fn schemes(&self) -> &[&str] {
        &["tcp"]
    }

    /// Returns how the connections to and at addresses of this scheme are secured. Default: not at
    /// all, so that the app does it.
    fn protection(&self, scheme: &str) -> Protection {
        let _ = scheme;
        Protection::Plain
    }

    /// Returns the key that this transport proves to others as this node's, if it proves keys. An
    /// app that has an [identity] too must have made both of one secret key;
    /// where this returns `None`, nothing checks that. Default: `None`.
    ///
    /// [identity]: https://docs.rs/coalescent/latest/coalescent/struct.App.html#method.identity
    fn key(&self) -> Option<PublicKey> {
        None
    }

    /// Starts to accept connections at `addr`: a `host:port` of `tcp`, where port 0 picks a free
    /// port, and of other schemes the text that the user has written, such as
    /// `unix:/run/chat.sock`. Default: fails with [`Unsupported`](io::ErrorKind::Unsupported), for
    /// transports that only dial.
    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        let _ = addr;
        let text = "this transport only dials";
        Box::pin(async move { Err(io::Error::new(io::ErrorKind::Unsupported, text)) })
    }

    /// Starts to accept connections at every address that `addr` resolves to, at least one. With
    /// port 0, all of them use the same port if possible. Default: calls
    /// [`listen`](Transport::listen) alone.
    fn listen_all<'a>(
        &'a self,
        addr: &'a str,
    ) -> BoxFuture<'a, io::Result<Vec<Box<dyn Listener>>>> {
        Box::pin(async move { Ok(vec![self.listen(addr).await?]) })
    }

    /// Opens a connection to `addr`. The caller limits the time of each attempt: it waits for
    /// [`Config::connect_timeout`](crate::Config::connect_timeout) after the last call of `permit`.
    ///
    /// Call `permit` for each address that the host name resolves to, before connecting to it, and
    /// where the attempts start one after another, also right before each of them. If
    /// no address is permitted, return its error. Besides forbidden addresses, `permit` rejects
    /// addresses to skip for now, such as those that led back to this node, so call it for every
    /// address. A transport without socket addresses does not call it.
    ///
    /// Returns the connection with what is known of its other end; `(io, addr).into()` where that
    /// is its socket address.
    fn connect<'a>(
        &'a self,
        addr: &'a Address,
        permit: &'a (dyn Fn(SocketAddr) -> io::Result<()> + Sync),
    ) -> BoxFuture<'a, io::Result<Connected>>;

    /// Returns the local address of a connection that [`connect`](Transport::connect) opened, as a
    /// [`Listener`] at the remote end would see it; `None` if unknown.
    ///
    /// On wires without node ids, a node uses it to detect a connection to itself: the local
    /// address of an outbound connection is the remote address of one that it has accepted. The
    /// default implementation supports tokio's TCP sockets.
    fn local_addr(&self, io: &BoxIo) -> Option<SocketAddr> {
        tcp_stream(&**io).and_then(|stream| stream.local_addr().ok())
    }
}

/// What can be made a [`Listener`]: a socket of `std` or tokio that listens, and every listener.
pub trait IntoListener {
    /// Makes the listener.
    ///
    /// # Errors
    ///
    /// Fails if the socket cannot be used without blocking.
    fn into_listener(self) -> io::Result<Box<dyn Listener>>;
}

impl<L: Listener> IntoListener for L {
    fn into_listener(self) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(self))
    }
}

impl IntoListener for Box<dyn Listener> {
    fn into_listener(self) -> io::Result<Box<dyn Listener>> {
        Ok(self)
    }
}

impl IntoListener for std::net::TcpListener {
    fn into_listener(self) -> io::Result<Box<dyn Listener>> {
        self.set_nonblocking(true)?;
        Ok(Box::new(tokio::net::TcpListener::from_std(self)?))
    }
}

/// A listener that accepts connections at one address.
pub trait Listener: Send + 'static {
    /// Returns the bound socket address, with the actual port. A listener without one leaves this
    /// out, and has an [`address`](Listener::address).
    ///
    /// # Errors
    ///
    /// Fails if the socket has no address. Default: fails with
    /// [`Unsupported`](io::ErrorKind::Unsupported).
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this listener has no socket address",
        ))
    }

    /// Returns the address with its scheme, as somebody on this machine would dial it. Default: the
    /// [socket address](Listener::local_addr), for `tcp`.
    ///
    /// # Errors
    ///
    /// Fails if there is none.
    fn address(&self) -> io::Result<Address> {
        let addr = self.local_addr()?;
        Address::try_from(addr).map_err(io::Error::other)
    }

    /// Waits for the next connection.
    ///
    /// # Cancel safety
    ///
    /// Implementations must be cancel safe: dropping the future must not lose a connection.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connected>>;
}
