//! A network in memory whose hosts have IP addresses, whose links may have latencies, and that can
//! be split: for whole nodes on paused time.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coalescent_core::Address;
use coalescent_core::transport::{BoxFuture, BoxIo, Connected, Listener, Transport};
use tokio::sync::mpsc;

use crate::pipe::{Cable, End, connection};

/// How many connections may wait to be accepted, as a socket's backlog.
const BACKLOG: usize = 1024;

/// An internet of hosts, each with an address of its own, that can be split. Clones share it.
#[derive(Clone, Default)]
pub struct Internet(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    listening: HashMap<SocketAddr, mpsc::Sender<(BoxIo, SocketAddr)>>,
    names: HashMap<String, Vec<IpAddr>>,
    /// Which part of a split network a host is in. Hosts that are not here are in part 0.
    part: HashMap<IpAddr, usize>,
    /// The latency of a link is somewhere in here, in milliseconds. Empty is none.
    latency: Range<u64>,
    seed: u64,
    cables: Vec<([IpAddr; 2], Cable)>,
    /// The cables that were there when those that were cut were last taken out.
    swept: usize,
    next_port: u16,
    /// How many connections were tried, to each address.
    dials: HashMap<SocketAddr, u64>,
    connections: u64,
}

impl Internet {
    pub fn new() -> Self {
        Self::default()
    }

    /// An internet whose links have latencies within this range, in milliseconds: the same for the
    /// same two hosts, and in both directions.
    pub fn with_latency(latency: Range<u64>, seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            latency,
            seed,
            ..State::default()
        })))
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
        let State { part, cables, .. } = &mut *state;
        let part = |ip: &IpAddr| part.get(ip).copied().unwrap_or(0);
        for ([a, b], cable) in cables {
            if part(a) != part(b) {
                cable.cut();
            }
        }
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

    /// How many connections were made so far.
    pub fn connections(&self) -> u64 {
        self.state().connections
    }

    /// Frees the empty buffers of the connections, and returns the memory that the network itself
    /// still takes for them: what would be the kernel's, and no node's.
    pub fn trim(&self) -> usize {
        let mut state = self.state();
        state.sweep();
        let cables = state.cables.iter().map(|(_, cable)| cable.trim());
        cables.sum::<usize>() + state.cables.capacity() * size_of::<([IpAddr; 2], Cable)>()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn are_apart(&self, a: IpAddr, b: IpAddr) -> bool {
        self.part.get(&a).unwrap_or(&0) != self.part.get(&b).unwrap_or(&0)
    }

    fn latency(&self, a: IpAddr, b: IpAddr) -> Duration {
        if self.latency.is_empty() {
            return Duration::ZERO;
        }
        let mut hasher = DefaultHasher::new();
        (self.seed, a.min(b), a.max(b)).hash(&mut hasher);
        let span = self.latency.end - self.latency.start;
        Duration::from_millis(self.latency.start + hasher.finish() % span)
    }

    fn sweep(&mut self) {
        self.cables.retain(|(_, cable)| !cable.is_cut());
        self.swept = self.cables.len();
    }
}

impl fmt::Debug for Internet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Internet").finish_non_exhaustive()
    }
}

/// The [`Internet`] as one host sees it.
#[derive(Clone, Debug)]
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
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let (sender, here, latency) = {
            let mut state = self.internet.state();
            *state.dials.entry(there).or_default() += 1;
            if state.are_apart(self.ip, there.ip()) {
                return None;
            }
            let sender = state.listening.get(&there).cloned();
            // Above the ports that tests listen at.
            state.next_port = state.next_port.max(32_767).checked_add(1).unwrap_or(32_768);
            let here = SocketAddr::new(self.ip, state.next_port);
            (sender, here, state.latency(self.ip, there.ip()))
        };
        // A round trip, as TCP's handshake takes.
        if !latency.is_zero() {
            tokio::time::sleep(2 * latency).await;
        }
        let Some(sender) = sender.filter(|sender| !sender.is_closed()) else {
            return Some(Err(refused()));
        };
        let (ours, theirs, cable) = connection([here, there], latency);
        {
            let mut state = self.internet.state();
            // It may have been split meanwhile.
            if state.are_apart(self.ip, there.ip()) {
                return None;
            }
            state.connections += 1;
            if state.cables.len() > 2 * state.swept + 64 {
                state.sweep();
            }
            state.cables.push(([self.ip, there.ip()], cable));
        }
        if sender.send((Box::new(theirs), here)).await.is_err() {
            return Some(Err(refused()));
        }
        Some(Ok(Box::new(ours)))
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
        let io: &dyn Any = &**io;
        io.downcast_ref::<End>().map(|end| end.here)
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
