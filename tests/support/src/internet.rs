//! A network in memory whose hosts have IP addresses, for whole nodes on paused time.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use coalescent_core::Address;
use coalescent_core::transport::{BoxFuture, BoxIo, Connected, Listener, Transport};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The buffer of each direction of a connection, in bytes.
const PIPE: usize = 16 * 1024;

/// How many connections may wait to be accepted.
const BACKLOG: usize = 128;

/// An internet of hosts, each with an address of its own, that can be split. Clones share it.
#[derive(Clone, Default)]
pub struct Internet(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    listening: HashMap<SocketAddr, mpsc::Sender<(BoxIo, SocketAddr)>>,
    names: HashMap<String, Vec<IpAddr>>,
    /// Which part of a split network a host is in. Hosts that are not here are in part 0.
    part: HashMap<IpAddr, usize>,
    links: Vec<Link>,
    next_port: u16,
    /// How many connections were tried, to each address.
    dials: HashMap<SocketAddr, u64>,
}

/// An open connection between two hosts.
struct Link {
    ends: [IpAddr; 2],
    cut: CancellationToken,
}

impl Internet {
    pub fn new() -> Self {
        Self::default()
    }

    /// The network as the host `ip` sees it.
    pub fn host(&self, ip: impl Into<IpAddr>) -> Host {
        Host {
            internet: self.clone(),
            ip: ip.into(),
        }
    }

    /// Lets a host name lead to these addresses.
    pub fn name(&self, name: &str, ips: impl IntoIterator<Item = IpAddr>) {
        let ips = ips.into_iter().collect();
        self.state().names.insert(name.to_owned(), ips);
    }

    /// Moves hosts to a part of the network of their own. Connections to other parts break, and
    /// what is dialled there stays silent.
    pub fn split(&self, part: usize, ips: impl IntoIterator<Item = IpAddr>) {
        let mut state = self.state();
        for ip in ips {
            state.part.insert(ip, part);
        }
        let State { part, links, .. } = &mut *state;
        let part = |ip: &IpAddr| part.get(ip).copied().unwrap_or(0);
        links.retain(|link| {
            let [a, b] = &link.ends;
            let broken = part(a) != part(b);
            if broken {
                link.cut.cancel();
            }
            !broken && !link.cut.is_cancelled()
        });
    }

    /// Joins all parts again.
    pub fn heal(&self) {
        self.state().part.clear();
    }

    /// How many connections to all addresses were tried so far.
    pub fn dials(&self) -> u64 {
        self.state().dials.values().sum()
    }

    /// How many connections to addresses that `which` accepts were tried so far.
    pub fn dials_to(&self, which: impl Fn(SocketAddr) -> bool) -> u64 {
        let state = self.state();
        let dials = state.dials.iter().filter(|(addr, _)| which(**addr));
        dials.map(|(_, dials)| dials).sum()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The [`Internet`] as one host sees it.
#[derive(Clone)]
pub struct Host {
    internet: Internet,
    ip: IpAddr,
}

impl Host {
    fn resolve(&self, address: &Address) -> io::Result<Vec<IpAddr>> {
        if let Some(ip) = address.ip() {
            return Ok(vec![ip]);
        }
        let state = self.internet.state();
        let ips = state.names.get(address.host()).cloned();
        ips.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such name"))
    }

    /// Connects to one address. `None` if nothing comes back from there.
    async fn reach(&self, there: SocketAddr) -> Option<io::Result<BoxIo>> {
        let (sender, here) = {
            let mut state = self.internet.state();
            *state.dials.entry(there).or_default() += 1;
            let part = |ip| state.part.get(&ip).copied().unwrap_or(0);
            if part(self.ip) != part(there.ip()) {
                return None;
            }
            let sender = state.listening.get(&there).cloned();
            // Above the ports that tests listen at.
            state.next_port = state.next_port.max(32_767).checked_add(1).unwrap_or(32_768);
            (sender, SocketAddr::new(self.ip, state.next_port))
        };
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let Some(sender) = sender else {
            return Some(Err(refused()));
        };
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let cut = CancellationToken::new();
        self.internet.state().links.push(Link {
            ends: [self.ip, there.ip()],
            cut: cut.clone(),
        });
        let theirs = Socket::new(theirs, there, &cut);
        if sender.send((Box::new(theirs), here)).await.is_err() {
            return Some(Err(refused()));
        }
        Some(Ok(Box::new(Socket::new(ours, here, &cut))))
    }
}

impl Transport for Host {
    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let addr: SocketAddr = addr
                .parse()
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
            let (sender, receiver) = mpsc::channel(BACKLOG);
            let mut state = self.internet.state();
            let taken = state.listening.get(&addr).is_some_and(|at| !at.is_closed());
            if taken {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            state.listening.insert(addr, sender);
            Ok(Box::new(HostListener { addr, receiver }) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(
        &'a self,
        addr: &'a Address,
        permit: &'a (dyn Fn(SocketAddr) -> io::Result<()> + Sync),
    ) -> BoxFuture<'a, io::Result<Connected>> {
        Box::pin(async move {
            let mut last = io::Error::from(io::ErrorKind::NotFound);
            let mut silent = false;
            for ip in self.resolve(addr)? {
                let there = SocketAddr::new(ip, addr.port());
                if let Err(error) = permit(there) {
                    last = error;
                    continue;
                }
                match self.reach(there).await {
                    Some(Ok(io)) => return Ok((io, there).into()),
                    Some(Err(error)) => last = error,
                    None => silent = true,
                }
            }
            if silent {
                std::future::pending::<()>().await;
            }
            Err(last)
        })
    }

    fn local_addr(&self, io: &BoxIo) -> Option<SocketAddr> {
        let io: &dyn std::any::Any = &**io;
        io.downcast_ref::<Socket>().map(|socket| socket.here)
    }
}

struct HostListener {
    addr: SocketAddr,
    receiver: mpsc::Receiver<(BoxIo, SocketAddr)>,
}

impl Listener for HostListener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connected>> {
        Box::pin(async move {
            match self.receiver.recv().await {
                Some(accepted) => Ok(accepted.into()),
                None => std::future::pending().await,
            }
        })
    }
}

/// One end of a connection, which breaks when the network is split between its ends.
struct Socket {
    io: DuplexStream,
    here: SocketAddr,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Socket {
    fn new(io: DuplexStream, here: SocketAddr, cut: &CancellationToken) -> Self {
        Self {
            io,
            here,
            cut: Box::pin(cut.clone().cancelled_owned()),
        }
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionReset.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
