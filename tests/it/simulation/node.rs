//! One node of the simulation.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use coalescent::{App, AppExt, Event, Frame, Mesh, NodeId, Peer, PeerId};
use coalescent_layers::SmartRelay;
use tokio::sync::mpsc;
use tower::{Layer, Service};

use super::history::{Happened, History, Message};
use super::transport::Simulated;

pub(crate) const PORT: u16 = 1337;

/// How soon a dead connection is noticed: twice this.
pub(crate) const PING: Duration = Duration::from_millis(800);

pub(crate) const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// What the test and the nodes share.
#[derive(Clone, Default)]
pub(crate) struct World(Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    pub(crate) history: History,
    pub(crate) nodes: HashMap<usize, Running>,
}

/// A running node, from outside.
pub(crate) struct Running {
    pub(crate) mesh: Mesh,
    pub(crate) say: mpsc::UnboundedSender<Message>,
    /// For how many peers its messages were queued.
    pub(crate) queued: u64,
}

impl World {
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, node: NodeId, happened: Happened) {
        let now = turmoil::sim_elapsed().expect("a running simulation");
        self.with(|state| state.history.add(now, node, happened));
    }
}

pub(crate) fn name(node: usize) -> String {
    format!("node-{node}")
}

fn number(payload: &[u8]) -> Message {
    let text = std::str::from_utf8(payload).expect("text");
    text.parse().expect("a number")
}

fn node_of(peer: &Peer) -> NodeId {
    match peer.id() {
        PeerId::Node(node) => *node,
        other => panic!("a peer without a node id: {other:?}"),
    }
}

/// Runs node `me` until it is killed.
pub(crate) async fn run(me: usize, seeds: Vec<usize>, world: World) -> turmoil::Result {
    let app = App::new()
        .transport(Simulated)
        .allow_plaintext()
        .min_peers(seeds.len())
        .max_peers(64)
        .seeds(seeds.iter().map(|seed| format!("{}:{PORT}", name(*seed))))
        .configure(|config| {
            config.max_per_ip = 64;
            config.connect_timeout = Duration::from_secs(1);
            config.handshake_timeout = Duration::from_secs(1);
            config.ping_every = PING;
            config.answer_within = PING;
            config.backoff = Duration::from_millis(50);
            config.backoff_max = BACKOFF_MAX;
        })
        .layer(Watch(world.clone()))
        .with(SmartRelay::new());
    let mesh = app.start().await?;
    let id = mesh.peers().node_id();
    let (say, mut to_say) = mpsc::unbounded_channel();
    world.with(|state| {
        let mesh = mesh.clone();
        state.history.running.insert(me, id);
        state.nodes.insert(
            me,
            Running {
                mesh,
                say,
                queued: 0,
            },
        );
    });

    let mut events = mesh.events();
    tokio::spawn({
        let world = world.clone();
        async move {
            while let Some(event) = events.next().await {
                match event {
                    Event::PeerConnected { peer } => {
                        world.add(id, Happened::Connected(node_of(&peer)));
                    }
                    Event::PeerDisconnected { peer, reason } => {
                        world.add(
                            id,
                            Happened::Disconnected(node_of(&peer), reason.to_string()),
                        );
                    }
                    Event::Dropped {
                        peer,
                        reason,
                        frames,
                    } => {
                        world.add(id, Happened::Dropped(node_of(&peer), reason, frames));
                    }
                    Event::Missed(missed) => world.add(id, Happened::Missed(missed)),
                    _ => {}
                }
            }
        }
    });
    let mut reader = mesh.reader();
    tokio::spawn({
        let world = world.clone();
        async move {
            while let Some(frame) = reader.next_frame().await {
                world.add(id, Happened::Delivered(number(frame.payload())));
            }
        }
    });
    mesh.listen(&format!("0.0.0.0:{PORT}")).await?;

    while let Some(message) = to_say.recv().await {
        world.add(id, Happened::Sent(message));
        let sent = mesh.broadcast_payload(message.to_string()).await.unwrap();
        world.with(|state| {
            if let Some(running) = state.nodes.get_mut(&me) {
                running.queued += sent.queued as u64;
            }
        });
    }
    Ok(())
}

/// Notes each frame that comes over a link, and passes it on as it is.
#[derive(Clone)]
struct Watch(World);

#[derive(Clone)]
struct Watched<S> {
    world: World,
    inner: S,
}

impl<S> Layer<S> for Watch {
    type Service = Watched<S>;

    fn layer(&self, inner: S) -> Watched<S> {
        Watched {
            world: self.0.clone(),
            inner,
        }
    }
}

impl<S: Service<Frame>> Service<Frame> for Watched<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, frame: Frame) -> S::Future {
        let peer = frame.peer();
        let happened = Happened::Crossed(node_of(peer), number(frame.payload()));
        self.world.add(peer.peers().node_id(), happened);
        self.inner.call(frame)
    }
}
