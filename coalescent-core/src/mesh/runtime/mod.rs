//! What runs under a mesh.
//!
//! | file | what it does |
//! |---|---|
//! | this file | starts a mesh, and holds what its tasks share |
//! | [`listener`] | accepts peers, as far as [`admission`] lets them in |
//! | [`newcomer`] | performs the handshake of one of them |
//! | [`entrance`] | says who came in at one listener, and how that is counted |
//! | [`ticket`] | the place of one of them, and who gives way for it ([`eviction`]) |
//! | [`dialer`] | stays connected to seeds, and to peers at suggested addresses |
//! | [`security`] | decides which addresses are allowed, and speaks TLS |
//! | [`connections`] | runs each connection with a stack of its own |
//! | [`shutdown`] | ends it all, in order |

mod accept_backoff;
pub(crate) mod admission;
mod connections;
pub(crate) mod dialer;
mod entrance;
mod eviction;
pub(super) mod listener;
mod newcomer;
mod refused;
mod security;
mod shutdown;
mod ticket;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use connections::{Layers, Stacks};
use dialer::{Dialer, Seed, Wanted};
use entrance::Bound;
use rand::Rng;
pub(crate) use security::Security;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Home, Mesh, WeakMesh};
use crate::error::Error;
use crate::mesh::runtime::admission::{Admission, AdmissionLimits};
use crate::node::Peers;
use crate::node::hooks::BoxFuture;
use crate::stack::PeerLayer;
use crate::transport::Transports;
use crate::transport::address::{Address, TCP};
use crate::wire::Wire;

/// What the tasks of a mesh share.
pub(crate) struct Runtime {
    peers: Peers,
    transports: Transports,
    security: Security,
    stacks: Box<dyn Stacks>,
    admission: Admission,
    /// Where peers are accepted.
    bound: Mutex<Vec<Bound>>,
    dialer: Dialer,
    /// Run when the mesh shuts down.
    on_shutdown: Mutex<Vec<MeshHook>>,
    /// Cancelled when the hooks for the start have run: from then on peers are accepted and
    /// dialled.
    started: CancellationToken,
    /// Cancelled when the mesh is to end: connections drain, all other tasks are dropped.
    stop: CancellationToken,
    /// Cancelled when the mesh has ended.
    ended: CancellationToken,
}

/// What a mesh is started with.
pub(crate) struct Parts<L> {
    pub(crate) peers: Peers,
    pub(crate) layers: L,
    pub(crate) transports: Transports,
    pub(crate) security: Security,
    pub(crate) seeds: Vec<Seed>,
    /// The background tasks of plugins.
    pub(crate) tasks: Vec<Box<dyn FnOnce(WeakMesh) -> BoxFuture + Send>>,
    pub(crate) on_start: Vec<MeshHook>,
    pub(crate) on_shutdown: Vec<MeshHook>,
}

/// A hook of a plugin that is given the mesh once.
pub(crate) type MeshHook = Box<dyn FnOnce(Mesh) -> BoxFuture + Send>;

/// What is left to do before a mesh accepts and dials peers.
#[must_use]
pub(crate) struct Start(Vec<MeshHook>);

impl Start {
    /// Runs the hooks for the start of `mesh`, and has it accept and dial peers.
    pub(crate) async fn run(self, mesh: &Mesh) {
        for hook in self.0 {
            hook(mesh.clone()).await;
        }
        mesh.runtime().started.cancel();
    }
}

impl Runtime {
    /// Makes a mesh, which does not listen yet, and neither accepts nor dials peers before its
    /// start has [run](Start::run).
    pub(crate) fn start<L: PeerLayer>(parts: Parts<L>) -> (Mesh, Start) {
        let config = parts.peers.config();
        let hooks = parts.peers.node().hooks();
        let has_contacts = !hooks.contacts.is_empty();
        let dialer = Dialer::new(config, parts.seeds, hooks.rng().random());
        let runtime = Arc::new(Self {
            admission: Admission::new(AdmissionLimits {
                max_inbound: config.max_inbound,
                max_per_ip: config.max_per_ip,
                max_pending: config.max_pending,
                max_contacts: if has_contacts { config.max_contacts } else { 0 },
                tell_late: parts.security.has_identity(),
            }),
            peers: parts.peers,
            transports: parts.transports,
            security: parts.security,
            stacks: Box::new(Layers(parts.layers)),
            bound: Mutex::new(Vec::new()),
            dialer,
            on_shutdown: Mutex::new(parts.on_shutdown),
            started: CancellationToken::new(),
            stop: CancellationToken::new(),
            ended: CancellationToken::new(),
        });
        let mesh = Mesh::new(Arc::clone(&runtime));
        runtime.peers.node().run_here();
        runtime.peers.set_shared(Home(mesh.downgrade()));
        for task in parts.tasks {
            runtime.spawn(task(mesh.downgrade()));
        }
        runtime.spawn(Arc::clone(runtime.peers.node()).keep_telling_left_out());
        let dialling = Arc::clone(&runtime);
        runtime.spawn(async move {
            dialling.started.cancelled().await;
            dialling.keep_dialling().await;
        });
        tokio::spawn(shutdown::supervise(Arc::clone(&runtime)));
        (mesh, Start(parts.on_start))
    }

    pub(crate) fn peers(&self) -> &Peers {
        &self.peers
    }

    /// Returns the tasks that are waited for when the mesh ends.
    fn tasks(&self) -> &TaskTracker {
        self.peers.node().tasks()
    }

    pub(crate) fn admission(&self) -> &Admission {
        &self.admission
    }

    pub(crate) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    pub(crate) fn security(&self) -> &Security {
        &self.security
    }

    pub(crate) fn transports(&self) -> &Transports {
        &self.transports
    }

    /// Returns the socket addresses that are listened at.
    pub(crate) fn addrs(&self) -> Vec<SocketAddr> {
        let listening = self.listening();
        listening.iter().filter_map(|bound| bound.addr).collect()
    }

    /// Returns those of them that are of `tcp`.
    pub(crate) fn tcp_addrs(&self) -> Vec<SocketAddr> {
        let listening = self.listening();
        let tcp = listening.iter().filter(|at| at.address.scheme() == TCP);
        tcp.filter_map(|at| at.addr).collect()
    }

    /// Returns the addresses that are listened at, with their schemes.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        let listening = self.listening();
        let addresses = listening.iter().map(|bound| bound.address.clone());
        addresses.collect()
    }

    fn listening(&self) -> MutexGuard<'_, Vec<Bound>> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the address that peers are told to dial this node at: by default the one at which
    /// they see it, with the port of the first listener of `tcp`.
    pub(crate) fn advertised(&self) -> Option<String> {
        let advertise = self.peers.config().advertise.clone();
        advertise.or_else(|| {
            let tcp = self.tcp_addrs();
            tcp.first().map(|addr| format!(":{}", addr.port()))
        })
    }

    /// Returns what a peer at this address is told of that: nothing without a socket address, since
    /// it may not even be on a network where such addresses lead anywhere.
    pub(crate) fn advertised_to(&self, addr: Option<SocketAddr>) -> Option<String> {
        addr.and_then(|_| self.advertised())
    }

    pub(crate) fn add_seed(&self, addr: &str, wire: Option<Wire>) -> Result<(), Error> {
        let seed = Seed::parse(addr, wire)?;
        self.transports.dialling(&seed.address)?;
        self.dialer.add(seed);
        Ok(())
    }

    pub(crate) fn remove_seed(&self, addr: &str) -> Result<bool, Error> {
        Ok(self.dialer.remove(&Seed::parse(addr, None)?))
    }

    pub(crate) fn wanted(&self) -> Wanted {
        self.dialer.wanted(self.stop.clone())
    }

    /// Ends the mesh, after connections have drained.
    pub(crate) fn stop(&self) {
        self.peers.node().close();
        self.stop.cancel();
    }

    /// Ends the mesh at once.
    pub(crate) fn cut(&self) {
        // Before any connection ends, so that the node knows which peers lose frames by it.
        self.peers.node().close();
        self.peers.node().cut().cancel();
        self.stop.cancel();
    }

    /// Waits until the mesh has ended.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Waits until at least `n` peers are connected; see [`Mesh::connected`].
    pub(crate) async fn connected(&self, n: usize) -> Result<(), Error> {
        // Listens first, so that a peer which connects in between is not missed.
        let mut events = self.peers.events_from_now();
        while self.peers.len() < n {
            if self.stop.is_cancelled() {
                return Err(Error::ended());
            }
            tokio::select! {
                event = events.next() => match event {
                    Some(_) => {}
                    None => return Err(Error::ended()),
                },
                () = self.stop.cancelled() => return Err(Error::ended()),
            }
        }
        Ok(())
    }

    /// Runs a task until it is done, or dropped because the mesh is to end.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks().spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }
}
