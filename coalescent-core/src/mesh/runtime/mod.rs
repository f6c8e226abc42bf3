//! What runs under a mesh: the tasks, and how they end.

pub(crate) mod admission;
pub(crate) mod dialer;
mod listener;

use std::any::Any;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use dialer::{Dialer, Dialled, Seed};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::{Home, Mesh, WeakMesh};
use crate::connection::{Connection, ConnectionInfo, Established, establish};
use crate::error::Error;
use crate::mesh::runtime::admission::{Admission, AdmissionLimits};
use crate::node::event::Event;
use crate::node::hooks::BoxFuture;
use crate::node::peer::Peer;
use crate::node::{Peers, Refusal};
use crate::reason::DisconnectReason;
use crate::stack::PeerLayer;
use crate::stack::inbox::Queue;
use crate::transport::address::Address;
use crate::transport::{BoxIo, Transport, no_address, watch_silence};
use crate::wire::Wire;

/// How long connections may take to notice that they are to end, beyond the time they have to
/// drain.
const MARGIN: Duration = Duration::from_secs(2);

/// All that the tasks of a mesh share.
pub(crate) struct Runtime {
    peers: Peers,
    transport: Arc<dyn Transport>,
    security: Security,
    stacks: Box<dyn Stacks>,
    admission: Admission,
    addrs: Mutex<Vec<SocketAddr>>,
    dialer: Dialer,
    tasks: TaskTracker,
    /// Asks all tasks to end.
    stop: CancellationToken,
    /// Ends all tasks.
    cut: CancellationToken,
    ended: CancellationToken,
}

/// How connections are secured.
#[derive(Clone, Debug)]
pub(crate) struct Security {
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<crate::transport::tls::Tls>,
    pub(crate) allow_plaintext: bool,
}

impl Security {
    fn has_identity(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    /// Tells the node what key it proves to have.
    pub(crate) fn tell(&self, peers: &Peers) {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            peers.node().set_key(*tls.id().as_bytes());
        }
        #[cfg(not(feature = "tls"))]
        let _ = peers;
    }

    /// Whether this address may be used.
    pub(crate) fn permit(&self, addr: SocketAddr) -> Result<(), Error> {
        if addr.ip().to_canonical().is_loopback() || self.has_identity() || self.allow_plaintext {
            Ok(())
        } else {
            Err(Error::plaintext(addr))
        }
    }

    /// Whether a peer at this address could be known by the identity that the address names.
    pub(crate) fn check(&self, addr: &Address) -> Result<(), Error> {
        if addr.id().is_some() && !self.has_identity() {
            return Err(Error::config(format!(
                "{addr} names an identity, which only TLS can prove: give the app an identity too"
            )));
        }
        Ok(())
    }

    /// Secures a connection that was accepted; returns the key its other end has proven to have.
    pub(crate) async fn accept(&self, io: BoxIo) -> Result<(BoxIo, Option<[u8; 32]>), Error> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let (io, heard) = crate::transport::Heard::new(io);
            let accepted = tls.accept(io).await;
            let (stream, key) = accepted.map_err(|error| {
                if error.is_io() && !heard.is_anything() {
                    Error::unsaid(error)
                } else {
                    Error::handshake(error)
                }
            })?;
            return Ok((Box::new(stream), Some(*key.as_bytes())));
        }
        Ok((io, None))
    }

    /// Secures a connection that was made to `addr`.
    pub(crate) async fn connect(
        &self,
        io: BoxIo,
        addr: &Address,
    ) -> Result<(BoxIo, Option<[u8; 32]>), Error> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let expected = match addr.id() {
                Some(id) => Some(
                    crate::transport::identity::PublicKey::from_bytes(*id)
                        .map_err(|error| Error::config(error.to_string()))?,
                ),
                None => None,
            };
            let (stream, key) = tls.connect(io, expected).await.map_err(Error::handshake)?;
            return Ok((Box::new(stream), Some(*key.as_bytes())));
        }
        #[cfg(not(feature = "tls"))]
        let _ = addr;
        Ok((io, None))
    }
}

/// Builds a stack for each connection, and runs it: what hides the type of the app's layers.
trait Stacks: Send + Sync {
    fn run(&self, connection: Connection<BoxIo>, peers: &Peers) -> Ended;
}

type Ended = std::pin::Pin<Box<dyn Future<Output = DisconnectReason> + Send>>;

struct Layers<L>(L);

impl<L: PeerLayer> Stacks for Layers<L> {
    fn run(&self, connection: Connection<BoxIo>, peers: &Peers) -> Ended {
        Box::pin(connection.run(self.0.layer(peers.inbox())))
    }
}

/// What an app is started with.
pub(crate) struct Parts<L> {
    pub(crate) peers: Peers,
    pub(crate) layers: L,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) security: Security,
    pub(crate) seeds: Vec<Seed>,
    pub(crate) tasks: Vec<Box<dyn FnOnce(WeakMesh) -> BoxFuture + Send>>,
}

impl Runtime {
    /// Starts a mesh that does not listen yet.
    pub(crate) fn start<L: PeerLayer>(parts: Parts<L>) -> Mesh {
        let Parts {
            peers,
            layers,
            transport,
            security,
            seeds,
            tasks,
        } = parts;
        let config = peers.config();
        let (dialer, inputs) = Dialer::new();
        let runtime = Arc::new(Self {
            admission: Admission::new(AdmissionLimits {
                max_inbound: config.max_inbound,
                max_per_ip: config.max_per_ip,
                pending_handshakes: config.max_pending,
            }),
            peers,
            transport,
            security,
            stacks: Box::new(Layers(layers)),
            addrs: Mutex::new(Vec::new()),
            dialer,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
            ended: CancellationToken::new(),
        });
        let mesh = Mesh::new(Arc::clone(&runtime));
        runtime.peers.set_shared(Home(mesh.downgrade()));
        for task in tasks {
            runtime.spawn(task(mesh.downgrade()));
        }
        runtime.spawn(Arc::clone(runtime.peers.node()).keep_telling_left_out());
        runtime.spawn(dialer::run(Arc::clone(&runtime), seeds, inputs));
        tokio::spawn(supervise(Arc::clone(&runtime)));
        mesh
    }

    pub(crate) fn peers(&self) -> &Peers {
        &self.peers
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

    pub(crate) fn transport(&self) -> &dyn Transport {
        &*self.transport
    }

    pub(crate) fn addrs(&self) -> Vec<SocketAddr> {
        self.addrs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn stop(&self) {
        self.peers.node().close();
        self.stop.cancel();
    }

    pub(crate) fn cut(&self) {
        // Before any connection ends: from here on the node knows to whom it owes what.
        self.peers.node().close();
        self.cut.cancel();
        self.stop.cancel();
    }

    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Runs a task until it is done, or the mesh is to end.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }

    pub(crate) async fn listen(
        self: &Arc<Self>,
        addr: &str,
        wire: Option<Wire>,
    ) -> Result<SocketAddr, Error> {
        if self.stop.is_cancelled() {
            return Err(Error::closed());
        }
        let failed = |error| Error::listen(addr, error);
        let listeners = self.transport.listen_all(addr).await.map_err(failed)?;
        let mut places = Vec::with_capacity(listeners.len());
        for listener in listeners {
            let local = listener.local_addr().map_err(failed)?;
            self.security.permit(local)?;
            places.push((listener, local));
        }
        let first = places.first().map(|(_, local)| *local);
        for (listener, local) in places {
            self.addrs
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(local);
            self.peers.node().emit(Event::Listening { addr: local });
            self.spawn(listener::run(Arc::clone(self), listener, wire.clone()));
        }
        first.ok_or_else(|| failed(no_address()))
    }

    /// What peers are told about where this node listens.
    pub(crate) fn advertised(&self) -> Option<String> {
        self.peers.config().advertise.clone()
    }

    pub(crate) fn add_seed(&self, addr: &str, wire: Option<Wire>) -> Result<(), Error> {
        self.dialer.add(Seed::parse(addr, wire)?);
        Ok(())
    }

    pub(crate) async fn connect(
        self: &Arc<Self>,
        addr: &str,
        wire: Option<Wire>,
    ) -> Result<Peer, Error> {
        let seed = Seed::parse(addr, wire)?;
        // What the application asks for is made, even where a connection leads there already.
        let dialled = tokio::select! {
            dial = dialer::dial(self, &seed, false) => dial.result?,
            () = self.stop.cancelled() => return Err(Error::closed()),
        };
        let (connection, way) = match dialled {
            Dialled::Peer(peer) => *peer,
            Dialled::Already(peer) => return Ok(peer),
            Dialled::Taken(_) => return Err(Error::refused(format!("{addr} is connected"))),
        };
        let peer = connection.peer().clone();
        let elsewhere = self.dialer.elsewhere();
        let runtime = Arc::clone(self);
        self.run(connection, async move {
            runtime.dialer.nudge();
            drop((elsewhere, way));
        });
        Ok(peer)
    }

    pub(crate) async fn adopt(
        self: &Arc<Self>,
        io: BoxIo,
        mut socket: ConnectionInfo,
    ) -> Result<Peer, Error> {
        socket.listen = self.advertised();
        self.tune(&io, socket.wire.as_ref());
        let established = tokio::select! {
            established = establish(io, self.peers.node(), socket, || Ok(())) => established?,
            () = self.stop.cancelled() => return Err(Error::closed()),
        };
        match established {
            Established::Myself => Err(Error::refused("the connection leads to this node itself")),
            Established::Already(_) => Err(Error::refused(Refusal::AlreadyConnected.words())),
            Established::Connected(connection) => {
                let peer = connection.peer().clone();
                self.run(connection, std::future::ready(()));
                Ok(peer)
            }
        }
    }

    /// Sets what the socket of a connection must do for its wire.
    pub(crate) fn tune(&self, io: &BoxIo, wire: Option<&Wire>) {
        let config = self.peers.config();
        if !wire.unwrap_or(&config.wire).has_handshake() {
            watch_silence(&**io, config.ping_every, config.answer_within);
        }
    }

    /// Runs a connection in a task of its own, and `then` when it has ended.
    pub(crate) fn run(
        &self,
        connection: Connection<BoxIo>,
        then: impl Future<Output = ()> + Send + 'static,
    ) {
        let peer = connection.peer();
        let span = tracing::info_span!(
            "peer",
            id = %peer.id(),
            addr = peer.addr().map(tracing::field::display),
            direction = %peer.direction(),
        );
        let peer = peer.clone();
        // Whatever panics, a layer that is made or a hook, costs this connection alone, and `then`
        // runs.
        let made = catch_unwind(AssertUnwindSafe(|| {
            let _entered = span.enter();
            self.stacks.run(connection, &self.peers)
        }));
        let cut = self.cut.clone();
        let task = async move {
            let run = async {
                let ended = match made {
                    Ok(running) => caught(running).await,
                    Err(panic) => Err(panic),
                };
                if let Err(panic) = ended {
                    peer.node().error(Some(&peer), Error::panicked(&*panic));
                }
            };
            tokio::select! {
                () = run => {}
                () = cut.cancelled() => {}
            }
            then.await;
        };
        self.tasks.spawn(task.instrument(span));
    }
}

/// Runs a future to its end, or until it panics.
async fn caught(mut running: Ended) -> Result<DisconnectReason, Box<dyn Any + Send>> {
    std::future::poll_fn(move |cx| {
        match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
    .await
}

/// Lets all connections read no more, and waits until they have handed on what they have read, for
/// at most half of the time that there is.
async fn quiesce(runtime: &Runtime) {
    let limit = runtime.peers.config().drain / 2;
    let (quiesced, mut all) = tokio::sync::mpsc::channel(1);
    for peer in runtime.peers.list().iter() {
        peer.quiesce(&quiesced);
    }
    drop(quiesced);
    let _ = tokio::time::timeout(limit, all.recv()).await;
}

/// Ends the node, also where the runtime that all its tasks run in is gone first: nobody else would
/// let go of those whom it still owes something, and they know the node.
struct Ending(Arc<Runtime>);

impl Drop for Ending {
    fn drop(&mut self) {
        let node = self.0.peers.node();
        Queue::of(node).end();
        node.end();
        self.0.ended.cancel();
    }
}

/// Waits until the mesh is to end, and ends it.
async fn supervise(runtime: Arc<Runtime>) {
    let ending = Ending(runtime);
    let runtime = &ending.0;
    runtime.stop.cancelled().await;
    let node = runtime.peers.node();
    let deadline = node.deadline();
    // First all that was read is handed on, while those whom it is for are still there.
    tokio::select! {
        () = quiesce(runtime) => {}
        () = runtime.cut.cancelled() => {}
    }
    for peer in runtime.peers.list().iter() {
        peer.stop(&DisconnectReason::Shutdown);
    }
    runtime.tasks.close();
    if tokio::time::timeout_at(deadline + MARGIN, runtime.tasks.wait())
        .await
        .is_err()
    {
        runtime.cut.cancel();
        runtime.tasks.wait().await;
    }
}
