//! Many nodes in one process, over pipes in memory and on simulated time: the engine of iroh-gossip
//! without its sockets.
//!
//! [`mesh`](crate::mesh) has whole nodes, and with them QUIC and its encryption for each link. This
//! is the least that iroh-gossip can cost: its own state machine and its own messages, driven as
//! its own nodes drive it. Each node is a task with a queue; each connection has a task that
//! reads and one that writes frames of postcard with a length before each, as iroh-gossip's are.
//!
//! One node publishes, which is what a tree is best at, and has sent [`WARM_UP`] messages before
//! they are counted. A node whose queues are full waits, as in iroh-gossip, so the publisher is
//! held to a window by whoever is furthest behind; else two nodes could wait for each other.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant as RealInstant};

use bytes::Bytes;
use common::Failed;
use common::flow::{numbered, payload};
use common::options::Options;
use common::report::{self, cpu_time};
use futures::StreamExt;
use futures::{Sink, SinkExt};
use iroh_gossip::TopicId;
use iroh_gossip::proto::state::MessageKind;
use iroh_gossip::proto::{
    Command, Config, Event, HyparviewConfig, InEvent, Message, OutEvent, PeerData, Scope, State,
    Timer,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rand_of_iroh::SeedableRng as _;
use rand_of_iroh::rngs::StdRng;
use serde_json::json;
use tokio::io::{DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

const TOPIC: TopicId = TopicId::from_bytes([0x74; 32]);

/// Messages for a connection's writer, as in iroh-gossip.
const SEND_QUEUE: usize = 64;

/// Events for a node, as in iroh-gossip.
const EVENT_QUEUE: usize = 1024;

/// The bytes that may be under way in each direction of a connection.
const PIPE: usize = 256 * 1024;

/// The simulated time between two nodes that start.
const APART: Duration = Duration::from_millis(50);

/// The simulated time in which the nodes settle.
const SETTLE: Duration = Duration::from_secs(300);

/// The messages that make the tree, and the simulated time between two of them.
const WARM_UP: (u64, Duration) = (100, Duration::from_millis(50));

/// Messages that may be in flight.
const WINDOW: u64 = 256;

/// The simulated time without a delivery after which what is missing is lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// The simulated time after which it is looked again: all that can be done without waiting is done
/// first.
const LOOK: Duration = Duration::from_millis(1);

/// 32 bytes, as a public key is.
type Id = [u8; 32];

/// What a node's task is given.
enum Input {
    Event(InEvent<Id>),
    /// The other end of a connection that another node has made.
    Accepted(Id, DuplexStream),
    Publish(Bytes),
}

/// What the nodes share.
#[derive(Default)]
struct Swarm {
    nodes: Mutex<HashMap<Id, mpsc::Sender<Input>>>,
    /// How many messages each node has received.
    received: Mutex<Vec<Arc<AtomicU64>>>,
    /// The payloads that arrived, copies included.
    arrived: AtomicU64,
}

impl Swarm {
    fn of(&self, node: &Id) -> Option<mpsc::Sender<Input>> {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.get(node).cloned()
    }

    fn counts(&self) -> Vec<u64> {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.iter().map(|count| count.load(Relaxed)).collect()
    }
}

/// Runs on simulated time, in a runtime of its own.
pub(crate) fn run(options: &Options) -> Result<(), Failed> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?
        .block_on(burst(options))
}

async fn burst(options: &Options) -> Result<(), Failed> {
    let mut random = SmallRng::seed_from_u64(options.seed);
    let swarm = Arc::new(Swarm::default());
    for number in 0..options.nodes {
        let through = (number > 0).then(|| id(random.random_range(0..number)));
        start(number, through, options, &swarm);
        sleep(APART).await;
    }
    sleep(SETTLE).await;
    let publisher = swarm.of(&id(0)).ok_or("there is no node")?;
    let publish = async |number: u64| {
        let message = payload(0, number, options.size).into();
        let sent = publisher.send(Input::Publish(message)).await;
        sent.map_err(|_| Failed::from("the publisher has ended"))
    };
    for number in 0..WARM_UP.0 {
        publish(number).await?;
        sleep(WARM_UP.1).await;
    }
    sleep(SETTLE).await;
    let before = swarm.counts();
    let copies = swarm.arrived.load(Relaxed);
    let delivered = || -> Vec<u64> {
        let now = swarm.counts().into_iter().zip(&before);
        // The publisher receives nothing.
        now.skip(1).map(|(now, before)| now - before).collect()
    };
    let (began, cpu) = (RealInstant::now(), cpu_time());
    for number in 0..options.messages {
        publish(number + WARM_UP.0).await?;
        if (number + 1).is_multiple_of(WINDOW / 2) {
            let mut left = PATIENCE;
            while number + 1 - delivered().into_iter().min().unwrap_or(0) > WINDOW / 2 {
                left = left.checked_sub(LOOK).ok_or("deliveries have stopped")?;
                sleep(LOOK).await;
            }
        }
    }
    let all = options.messages * (options.nodes as u64 - 1);
    let mut left = PATIENCE;
    while delivered().iter().sum::<u64>() < all {
        let Some(rest) = left.checked_sub(LOOK) else {
            break;
        };
        left = rest;
        sleep(LOOK).await;
    }
    let deliveries = delivered().iter().sum::<u64>();
    let copies = swarm.arrived.load(Relaxed) - copies;
    report::print(&json!({
        "deliveries": deliveries,
        "missed": all.saturating_sub(deliveries),
        "copies": copies as f64 / deliveries.max(1) as f64,
        "seconds": began.elapsed().as_secs_f64(),
        "cpu_seconds": (cpu_time() - cpu).as_secs_f64(),
    }));
    Ok(())
}

fn id(number: usize) -> Id {
    let mut id = [0x11; 32];
    id[..8].copy_from_slice(&(number as u64).to_be_bytes());
    id
}

/// Starts a node, which knows another.
fn start(number: usize, through: Option<Id>, options: &Options, swarm: &Arc<Swarm>) {
    let me = id(number);
    let config = Config {
        membership: HyparviewConfig {
            active_view_capacity: options.degree,
            ..HyparviewConfig::default()
        },
        max_message_size: 2 * options.size + 4096,
        ..Config::default()
    };
    let seed = options.seed.wrapping_mul(1_000_003) + number as u64;
    let state = State::new(me, PeerData::default(), config, StdRng::seed_from_u64(seed));
    let (input, inputs) = mpsc::channel(EVENT_QUEUE);
    let received = Arc::new(AtomicU64::new(0));
    swarm
        .nodes
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(me, input.clone());
    swarm
        .received
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(Arc::clone(&received));
    let node = Node {
        me,
        state,
        input,
        swarm: Arc::clone(swarm),
        connections: HashMap::new(),
        timers: BTreeMap::new(),
        next_timer: 0,
        received,
    };
    tokio::spawn(node.run(inputs, through));
}

/// A node: the engine, and what it needs to act.
struct Node {
    me: Id,
    state: State<Id, StdRng>,
    input: mpsc::Sender<Input>,
    swarm: Arc<Swarm>,
    connections: HashMap<Id, mpsc::Sender<Message<Id>>>,
    timers: BTreeMap<(Instant, u64), Timer<Id>>,
    next_timer: u64,
    received: Arc<AtomicU64>,
}

impl Node {
    async fn run(mut self, mut inputs: mpsc::Receiver<Input>, through: Option<Id>) {
        let join = Command::Join(through.into_iter().collect());
        self.handle(InEvent::Command(TOPIC, join)).await;
        loop {
            let due = self.timers.keys().next().map(|(at, _)| *at);
            let due = async {
                match due {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                input = inputs.recv() => match input {
                    Some(Input::Event(event)) => self.handle(event).await,
                    Some(Input::Accepted(from, io)) => self.connect(from, io),
                    Some(Input::Publish(message)) => {
                        let command = Command::Broadcast(message, Scope::Swarm);
                        self.handle(InEvent::Command(TOPIC, command)).await;
                    }
                    None => return,
                },
                () = due => {
                    while let Some(entry) = self.timers.first_entry() {
                        if entry.key().0 > Instant::now() {
                            break;
                        }
                        let timer = entry.remove();
                        self.handle(InEvent::TimerExpired(timer)).await;
                    }
                }
            }
        }
    }

    async fn handle(&mut self, event: InEvent<Id>) {
        let now = Instant::now();
        let out: Vec<_> = self.state.handle(event, now, None).collect();
        for event in out {
            match event {
                OutEvent::SendMessage(to, message) => self.send(to, message).await,
                OutEvent::ScheduleTimer(delay, timer) => {
                    self.next_timer += 1;
                    self.timers.insert((now + delay, self.next_timer), timer);
                }
                OutEvent::EmitEvent(_, Event::Received(message)) => {
                    if numbered(&message.content).is_ok() {
                        self.received.fetch_add(1, Relaxed);
                    }
                }
                OutEvent::DisconnectPeer(peer) => {
                    self.connections.remove(&peer);
                }
                OutEvent::EmitEvent(..) | OutEvent::PeerData(..) => {}
            }
        }
    }

    async fn send(&mut self, to: Id, message: Message<Id>) {
        if let Entry::Vacant(_) = self.connections.entry(to) {
            let Some(other) = self.swarm.of(&to) else {
                return;
            };
            let (ours, theirs) = duplex(PIPE);
            self.connect(to, ours);
            let _ = other.send(Input::Accepted(self.me, theirs)).await;
        }
        if let Some(connection) = self.connections.get(&to) {
            let _ = connection.send(message).await;
        }
    }

    /// Reads and writes a connection, until it ends or another one to the same node takes its
    /// place.
    fn connect(&mut self, to: Id, io: DuplexStream) {
        let (reader, writer) = split(io);
        let (sender, messages) = mpsc::channel(SEND_QUEUE);
        self.connections.insert(to, sender);
        tokio::spawn(write(writer, messages));
        tokio::spawn(read(
            reader,
            to,
            self.input.clone(),
            Arc::clone(&self.swarm),
        ));
    }
}

async fn write(io: WriteHalf<DuplexStream>, mut messages: mpsc::Receiver<Message<Id>>) {
    let mut frames = FramedWrite::new(io, LengthDelimitedCodec::new());
    let frames: &mut (dyn Sink<Bytes, Error = std::io::Error> + Send + Unpin) = &mut frames;
    while let Some(message) = messages.recv().await {
        let Ok(bytes) = postcard::to_stdvec(&message) else {
            return;
        };
        if frames.feed(Bytes::from(bytes)).await.is_err() {
            return;
        }
        // What waits is written together.
        if messages.is_empty() && frames.flush().await.is_err() {
            return;
        }
    }
    let _ = frames.close().await;
}

async fn read(io: ReadHalf<DuplexStream>, from: Id, node: mpsc::Sender<Input>, swarm: Arc<Swarm>) {
    let mut frames = FramedRead::new(io, LengthDelimitedCodec::new());
    while let Some(Ok(frame)) = frames.next().await {
        let Ok(message) = postcard::from_bytes::<Message<Id>>(&frame) else {
            return;
        };
        if matches!(message.kind(), MessageKind::Data) {
            swarm.arrived.fetch_add(1, Relaxed);
        }
        let event = Input::Event(InEvent::RecvMessage(from, message));
        if node.send(event).await.is_err() {
            return;
        }
    }
    let _ = node
        .send(Input::Event(InEvent::PeerDisconnected(from)))
        .await;
}
