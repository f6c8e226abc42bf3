use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

use super::race::{order, race};
use super::{BoxFuture, BoxIo, Connected, Listener, Transport, tcp_stream};
use crate::error;
use crate::transport::address::Address;

/// The listen backlog: how many connections may wait to be accepted. With a short queue, newcomers
/// that arrive together are delayed in steps of a second, the interval of TCP's retries.
pub const BACKLOG: u32 = 4096;

/// The idle time before the kernel sends keepalive probes, and the interval between probes, on
/// wires where peers also send pings.
pub const KEEPALIVE: Duration = Duration::from_secs(30);

/// The number of unsent bytes that the kernel buffers. More would wait where neither the outbox
/// limit nor the detection of slow peers can see them.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NOT_SENT: u32 = 64 * 1024;

/// The number of keepalive probes within `answer_within`, on wires without pings.
const PROBES: u32 = 4;

/// The longest keepalive time that kernels accept. A longer silence is effectively no limit.
const SILENCE_MAX: Duration = Duration::from_secs(32_767);

/// The TCP transport, with Nagle's algorithm off and keepalive on.
///
/// If a name resolves to several addresses, they are tried with staggered starts, as in RFC 8305:
/// the next one starts [`ATTEMPT_DELAY`](super::ATTEMPT_DELAY) after the previous one, or as soon
/// as that fails, alternating between the address families, at most
/// [`MAX_ADDRESSES`](super::MAX_ADDRESSES) in all. The first that connects wins.
///
/// An app has it already. It is for transports of one's own that stand in its place, or add to it:
///
/// ```
/// use std::io;
/// use std::net::SocketAddr;
///
/// use coalescent::transport::{BoxFuture, Connected, Listener, Tcp, Transport};
/// use coalescent::{Address, App};
///
/// /// TCP with names of its own.
/// struct Names;
///
/// impl Transport for Names {
///     fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
///         Tcp.listen(addr)
///     }
///
///     fn connect<'a>(
///         &'a self,
///         addr: &'a Address,
///         permit: &'a (dyn Fn(SocketAddr) -> io::Result<()> + Sync),
///     ) -> BoxFuture<'a, io::Result<Connected>> {
///         let here = SocketAddr::from(([127, 0, 0, 1], addr.port()));
///         Box::pin(async move {
///             match addr.host() {
///                 "home" => Tcp.connect_any([here], permit).await,
///                 _ => Tcp.connect(addr, permit).await,
///             }
///         })
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let alice = App::new().transport(Names).listen("127.0.0.1:0").await?;
/// let bob = App::new().transport(Names).start().await?;
/// let peer = bob.connect(&format!("home:{}", alice.local_addrs()[0].port())).await?;
/// assert_eq!(peer.addr(), Some(alice.local_addrs()[0]));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl Tcp {
    /// Connects to one of `addrs`, which all belong to the same peer, like
    /// [`connect`](Transport::connect) does with the addresses that it resolves. Use it in a
    /// transport that resolves names itself.
    ///
    /// # Errors
    ///
    /// Fails if no address can be connected to. Returns the error of `permit` if it permits no
    /// address.
    pub async fn connect_any(
        &self,
        addrs: impl IntoIterator<Item = SocketAddr>,
        permit: &(dyn Fn(SocketAddr) -> io::Result<()> + Sync),
    ) -> io::Result<Connected> {
        let mut refused = None;
        let permitted = addrs.into_iter().filter(|addr| match permit(*addr) {
            Ok(()) => true,
            Err(error) => {
                refused.get_or_insert(error);
                false
            }
        });
        let addrs = order(permitted);
        let attempt = |addr| async move {
            // Once more: the caller counts the time of the attempt from here.
            permit(addr)?;
            connect(addr).await
        };
        match race(addrs, attempt).await {
            Ok((stream, addr)) => {
                tune(&stream);
                Ok((Box::new(stream) as BoxIo, addr).into())
            }
            Err(failures) => Err(all_failed(failures).or(refused).unwrap_or_else(no_address)),
        }
    }
}

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
    ) -> BoxFuture<'a, io::Result<Connected>> {
        Box::pin(async move {
            let addrs = lookup_host((addr.host(), addr.port())).await?;
            self.connect_any(addrs, permit).await
        })
    }
}

pub(crate) fn no_address() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        "the host name stands for no address",
    )
}

/// Returns one error for all failed addresses, or `None` if none was tried.
fn all_failed(mut failures: Vec<(SocketAddr, io::Error)>) -> Option<io::Error> {
    let (last, error) = failures.pop()?;
    if failures.is_empty() {
        return Some(error);
    }
    let kind = error.kind();
    failures.push((last, error));
    let texts: Vec<String> = failures
        .iter()
        .map(|(addr, error)| format!("{addr}: {}", error::report(error)))
        .collect();
    Some(io::Error::new(kind, texts.join("; ")))
}

fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Allows a restarted node to bind its address immediately.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

async fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    refuse_itself(TcpStream::connect(addr).await?)
}

/// Closes a connection whose two ends are the same socket. The kernel creates one when a socket
/// connects to a port of the ephemeral range on which nobody listens, and happens to be assigned
/// that port itself.
fn refuse_itself(stream: TcpStream) -> io::Result<TcpStream> {
    let (here, there) = (stream.local_addr()?, stream.peer_addr()?);
    if (here.ip(), here.port()) != (there.ip(), there.port()) {
        return Ok(stream);
    }
    // Reset, so that another program can listen on the port immediately.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    Err(met_itself())
}

pub(crate) fn met_itself() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionRefused,
        "nobody listens there: the connecting socket was given that port, and met itself",
    )
}

/// Sets the socket options. The connection works without them, so a failure is not an error.
fn tune(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE);
    report([
        stream.set_nodelay(true),
        socket.set_tcp_keepalive(&keepalive),
        #[cfg(any(target_os = "linux", target_os = "android"))]
        socket.set_tcp_notsent_lowat(NOT_SENT),
    ]);
}

/// Sets the socket options of a connection that was accepted elsewhere, if it is a TCP socket.
pub(crate) fn tune_tcp(io: &dyn std::any::Any) {
    if let Some(stream) = tcp_stream(io) {
        tune(stream);
    }
}

fn report(results: impl IntoIterator<Item = io::Result<()>>) {
    for error in results.into_iter().filter_map(Result::err) {
        tracing::debug!(%error, "a socket option was not taken");
    }
}

/// Makes the kernel reset the connection when `io` is closed, if it is a TCP socket.
pub(crate) fn reset_at_close(io: &dyn std::any::Any) {
    if let Some(stream) = tcp_stream(io) {
        report([SockRef::from(stream).set_linger(Some(Duration::ZERO))]);
    }
}

/// Makes the kernel detect a dead peer if `io` is a TCP socket, for wires without pings. The timing
/// matches that of pings: the first probe after `ping_every` without data, and the connection is
/// closed `answer_within` later. A peer that acknowledges no sent data for both times together is
/// closed too.
pub(crate) fn watch_silence(io: &dyn std::any::Any, ping_every: Duration, answer_within: Duration) {
    let Some(stream) = tcp_stream(io) else { return };
    let silence = ping_every.saturating_add(answer_within);
    if silence > SILENCE_MAX {
        return;
    }
    let second = Duration::from_secs(1);
    let keepalive = TcpKeepalive::new()
        .with_time(ping_every.max(second))
        .with_interval((answer_within / PROBES).max(second));
    #[cfg(any(
        target_os = "linux",
        target_os = "android",
        target_vendor = "apple",
        windows
    ))]
    let keepalive = keepalive.with_retries(PROBES);
    let socket = SockRef::from(stream);
    report([
        socket.set_tcp_keepalive(&keepalive),
        #[cfg(any(target_os = "linux", target_os = "android"))]
        socket.set_tcp_user_timeout(Some(silence.max(second))),
    ]);
}

impl Listener for TcpListener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connected>> {
        Box::pin(async move {
            let (stream, addr) = Self::accept(self).await?;
            tune(&stream);
            Ok((Box::new(stream) as BoxIo, addr).into())
        })
    }
}

#[cfg(test)]
#[path = "tcp_tests.rs"]
mod tests;
