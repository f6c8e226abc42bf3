//! A network in memory whose hosts have addresses and whose links have latencies, and that can be
//! split.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coalescent::Address;
use coalescent::transport::{BoxFuture, BoxIo, Connected, Listener, Transport};
use tokio::sync::mpsc;

use super::pipe::{Cable, connection};

/// The port that every node listens at.
pub(super) const PORT: u16 = 1337;

/// How many connections may wait to be accepted, as a socket's backlog.
const BACKLOG: usize = 1024;

/// A network of hosts. Clones share it.
#[derive(Clone)]
pub(super) struct Network(Arc<Mutex<State>>);

struct State {
    /// The latency of a link is somewhere in here, the same for the same two hosts. Milliseconds.
    latency: Range<u64>,
    seed: u64,
    listening: HashMap<SocketAddr, mpsc::Sender<(BoxIo, SocketAddr)>>,
    /// Which part of a split network a host is in. Hosts that are not here are in part 0.
    part: HashMap<IpAddr, usize>,
    cables: Vec<([IpAddr; 2], Cable)>,
    /// The cables that were there when those that were cut were last taken out.
    swept: usize,
    next_port: u16,
    dials: u64,
    connections: u64,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

/// Returns where a node is: each in another /16, so that nobody counts them as of one network.
///
/// # Panics
///
/// Panics if there are more than 20,000 nodes.
pub(super) fn ip(node: usize) -> IpAddr {
    assert!(node < 20_000, "there are not so many networks");
    let [.., a, b] = node.to_be_bytes();
    Ipv4Addr::new(20 + a, b, 7, 1).into()
}

impl Network {
    /// Makes a network whose links have latencies within this range, in milliseconds. An empty
    /// range is none.
    pub(super) fn new(latency: Range<u64>, seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            latency,
            seed,
            listening: HashMap::new(),
            part: HashMap::new(),
            cables: Vec::new(),
            swept: 0,
            next_port: 0,
            dials: 0,
            connections: 0,
        })))
    }

    /// Returns the network as the host of a node sees it.
    pub(super) fn host(&self, node: usize) -> Host {
        Host {
            network: self.clone(),
            ip: ip(node),
        }
    }

    /// Moves hosts to a part of the network of their own. Connections to other parts break, and
    /// what is dialled there stays silent.
    pub(super) fn split(&self, part: usize, nodes: impl IntoIterator<Item = usize>) {
        let mut state = self.state();
        for node in nodes {
            state.part.insert(ip(node), part);
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
    pub(super) fn heal(&self) {
        self.state().part.clear();
    }

    /// Returns how many connections were tried so far.
    pub(super) fn dials(&self) -> u64 {
        self.state().dials
    }

    /// Returns how many connections were made so far.
    pub(super) fn connections(&self) -> u64 {
        self.state().connections
    }

    /// Frees the empty buffers of the connections, and returns the memory that the network itself
    /// still takes for them: what would be the kernel's, and no node's.
    pub(super) fn trim(&self) -> usize {
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
    fn part(&self, ip: IpAddr) -> usize {
        self.part.get(&ip).copied().unwrap_or(0)
    }

    /// Returns the latency of the link between two hosts, the same in both directions.
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

/// The [`Network`] as one host sees it.
#[derive(Clone, Debug)]
pub(super) struct Host {
    network: Network,
    ip: IpAddr,
}

impl Host {
    /// Connects to an address. `None` if nothing comes back from there.
    async fn reach(&self, there: SocketAddr) -> Option<io::Result<BoxIo>> {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let (sender, here, latency) = {
            let mut state = self.network.state();
            state.dials += 1;
            if state.part(self.ip) != state.part(there.ip()) {
                return None;
            }
            let sender = state.listening.get(&there).cloned();
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
        let (ours, theirs, cable) = connection(latency);
        {
            let mut state = self.network.state();
            // It may have been split meanwhile.
            if state.part(self.ip) != state.part(there.ip()) {
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
            let mut state = self.network.state();
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
            let ip = addr
                .ip()
                .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there are no names"))?;
            let there = SocketAddr::new(ip, addr.port());
            permit(there)?;
            match self.reach(there).await {
                Some(connected) => Ok((connected?, there).into()),
                None => std::future::pending().await,
            }
        })
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
