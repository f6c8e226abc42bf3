use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

use super::race::{order, race};
use super::{BoxFuture, BoxIo, Listener, Transport, tcp_stream};
use crate::transport::address::Address;

/// How many connections may wait to be accepted. A short queue makes a crowd of newcomers wait in
/// steps of a second, since that is when they try again.
pub const BACKLOG: u32 = 4096;

/// After how much silence the kernel asks whether the other end is there, and how often then, where
/// the peers themselves ask each other too.
pub const KEEPALIVE: Duration = Duration::from_secs(30);

/// How many bytes that have not been sent the kernel takes. More would only wait in another place,
/// where neither the outbox's bound nor the judgement of slow peers can see them.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NOT_SENT: u32 = 64 * 1024;

/// How often the kernel asks within the time to answer, where it alone can ask.
const PROBES: u32 = 4;

/// The longest silence that kernels take as a keepalive time. Who waits longer does not want to
/// know.
const SILENCE_MAX: Duration = Duration::from_secs(32_767);

/// Connections over TCP, with Nagle's algorithm off and keepalive on.
///
/// Where a name stands for several addresses, they are tried staggered, as RFC 8305 says: the next
/// one [`ATTEMPT_DELAY`](super::ATTEMPT_DELAY) after the one before, or at once when that has
/// failed, the families in turn, at most [`MAX_ADDRESSES`](super::MAX_ADDRESSES); the first that is
/// connected wins.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl Tcp {
    /// Connects to one of `addrs`, which all stand for the same peer, as
    /// [`connect`](Transport::connect) does with those that it finds: for a transport that finds
    /// the addresses of a name in its own way.
    ///
    /// # Errors
    ///
    /// Where none is connected; what `permit` returns where it permits none.
    pub async fn connect_any(
        &self,
        addrs: impl IntoIterator<Item = SocketAddr>,
        permit: &(dyn Fn(SocketAddr) -> io::Result<()> + Sync),
    ) -> io::Result<(BoxIo, SocketAddr)> {
        let mut refused = None;
        let permitted = addrs.into_iter().filter(|addr| match permit(*addr) {
            Ok(()) => true,
            Err(error) => {
                refused.get_or_insert(error);
                false
            }
        });
        let addrs = order(permitted);
        match race(addrs, connect).await {
            Ok((stream, addr)) => {
                tune(&stream);
                Ok((Box::new(stream) as BoxIo, addr))
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
    ) -> BoxFuture<'a, io::Result<(BoxIo, SocketAddr)>> {
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

/// What to say where each address failed; `None` where none was tried.
fn all_failed(mut failures: Vec<(SocketAddr, io::Error)>) -> Option<io::Error> {
    let (last, error) = failures.pop()?;
    if failures.is_empty() {
        return Some(error);
    }
    let kind = error.kind();
    failures.push((last, error));
    let texts: Vec<String> = failures
        .iter()
        .map(|(addr, error)| format!("{addr}: {error}"))
        .collect();
    Some(io::Error::new(kind, texts.join("; ")))
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

async fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    refuse_itself(TcpStream::connect(addr).await?)
}

/// Closes a connection both of whose ends are one socket. The kernel makes such a one when nobody
/// listens at a port of those that it gives to connecting sockets, and it gives just that one.
fn refuse_itself(stream: TcpStream) -> io::Result<TcpStream> {
    let (here, there) = (stream.local_addr()?, stream.peer_addr()?);
    if (here.ip(), here.port()) != (there.ip(), there.port()) {
        return Ok(stream);
    }
    // Reset, so that the port is free at once for whoever should listen there.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    Err(met_itself())
}

pub(crate) fn met_itself() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionRefused,
        "nobody listens there: the connecting socket was given that port, and met itself",
    )
}

/// Sets the socket's options. A connection without them works, so that none of them is worth an
/// end.
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

fn report(results: impl IntoIterator<Item = io::Result<()>>) {
    for error in results.into_iter().filter_map(Result::err) {
        tracing::debug!(%error, "a socket option was not taken");
    }
}

/// Has the kernel reset the connection when `io` is closed, if it is a TCP socket.
pub(crate) fn reset_at_close(io: &dyn std::any::Any) {
    if let Some(stream) = tcp_stream(io) {
        report([SockRef::from(stream).set_linger(Some(Duration::ZERO))]);
    }
}

/// Has the kernel find out whether the other end is still there, if `io` is a TCP socket: on wires
/// whose peers can't ask each other. It is given up after as much silence as a peer of those who
/// can: asked after `ping_every`, and given up `answer_within` later. So is one that acknowledges
/// nothing of what was sent to it for as long as both together.
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

    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxIo, SocketAddr)>> {
        Box::pin(async move {
            let (stream, addr) = Self::accept(self).await?;
            tune(&stream);
            Ok((Box::new(stream) as BoxIo, addr))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_met_itself_is_no_peer_and_leaves_the_port_free() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let addr = socket.local_addr().unwrap();
        let stream = socket.connect(addr).await.expect("it meets itself");
        let error = refuse_itself(stream).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        // One that leaves the address no time of grace: without SO_REUSEADDR.
        let late = TcpSocket::new_v4().unwrap();
        late.bind(addr).expect("a free port");
        let late = late.listen(1).unwrap();
        let (ours, theirs) = tokio::join!(connect(addr), late.accept());
        drop((ours.expect("another socket"), theirs.unwrap()));
    }

    #[tokio::test]
    async fn what_each_address_failed_of_is_said() {
        let free = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        };
        let (a, b) = (free(), free());
        let refuse = |addr| match addr {
            addr if addr == b => Err(io::Error::other("not this one")),
            _ => Ok(()),
        };
        let permit = |_| Ok(());
        let error = Tcp.connect_any([a, b], &permit).await.unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(text.contains(&format!("{a}: ")) && text.contains(&format!("{b}: ")));
        // What is not permitted is told only where nothing is.
        let error = Tcp.connect_any([b, a], &refuse).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let error = Tcp.connect_any([b], &refuse).await.unwrap_err();
        assert_eq!(error.to_string(), "not this one");
        let error = Tcp.connect_any([], &permit).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_silent_end_is_given_up_as_early_as_by_a_ping() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stream = TcpStream::connect(addr).await.unwrap();
        let seconds = Duration::from_secs;
        for (ping, answer, user_timeout, interval) in [
            (30, 20, 50, 5),
            (0, 0, 1, 1),
            (600, 100, 700, 25),
            // No limit: what was there before stays.
            (u64::MAX, 20, 700, 25),
            (40_000, 20, 700, 25),
        ] {
            watch_silence(&stream, seconds(ping), seconds(answer));
            let socket = SockRef::from(&stream);
            assert!(socket.keepalive().unwrap());
            assert_eq!(
                socket.tcp_user_timeout().unwrap(),
                Some(seconds(user_timeout))
            );
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), seconds(interval));
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), PROBES);
        }
        assert_eq!(
            SockRef::from(&stream).tcp_keepalive_time().unwrap(),
            seconds(600)
        );
        let boxed: BoxIo = Box::new(stream);
        let boxed: BoxIo = Box::new(boxed);
        assert!(tcp_stream(&*boxed).is_some(), "however often it is boxed");
    }
}
