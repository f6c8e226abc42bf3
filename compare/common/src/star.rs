//! The clients of a hub: one node that all others are connected to, and nothing else.
//!
//! They work through a system's own nodes and measure every message. The native wire has a load of
//! its own, which counts bytes.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};

use crate::flow::{Flow, numbered, payload};
use crate::options::Options;
use crate::report::{self, Latencies, stdin_ends};
use crate::{Failed, PATIENCE};

/// A system whose nodes can be connected to a hub.
pub trait Star: 'static {
    /// Messages in flight that no queue of the system drops.
    const QUEUE: u64;
    /// Bytes in flight, unless that is fewer than 16 messages.
    const BYTES_IN_FLIGHT: u64;
    /// Messages that a publisher sends before it lets its node work.
    const BURST: u64 = u64::MAX;
    /// Connections that [`idle`] makes at the same time.
    const CONNECTING: usize;

    /// A node that publishes.
    type Publisher: Publisher;
    /// A node that receives.
    type Subscriber: Subscriber;
    /// A node that does neither.
    type Idle: Send + 'static;

    /// Connects a publisher to the hub.
    fn publisher(options: &Options)
    -> impl Future<Output = Result<Self::Publisher, Failed>> + Send;

    /// Connects a subscriber to the hub.
    fn subscriber(
        options: &Options,
    ) -> impl Future<Output = Result<Self::Subscriber, Failed>> + Send;

    /// Connects an idle node to the hub.
    fn idle(
        options: Arc<Options>,
    ) -> impl Future<Output = Result<Self::Idle, Failed>> + Send + 'static;

    /// Keeps an idle node connected. Fails if it is disconnected.
    fn hold(idle: Self::Idle) -> impl Future<Output = Result<Infallible, Failed>> + Send + 'static;
}

/// A node that publishes.
pub trait Publisher: Send + 'static {
    /// Publishes a message. Returns whether the queue had room for it.
    fn publish(&mut self, payload: Vec<u8>) -> impl Future<Output = Result<bool, Failed>> + Send;

    /// Lets the node work until `done` is. A node with tasks of its own works anyway.
    fn work_until<T: Send>(
        &mut self,
        done: impl Future<Output = T> + Send,
    ) -> impl Future<Output = T> + Send {
        done
    }

    /// Does all work that is ready.
    fn work_off(&mut self) {}
}

/// A node that receives.
pub trait Subscriber: Send + 'static {
    /// Waits for a message, and returns its payload.
    fn receive(&mut self) -> impl Future<Output = Result<impl AsRef<[u8]> + Send, Failed>> + Send;
}

/// Tasks that all have to outlive the measurement.
pub type Tasks = JoinSet<Result<Infallible, Failed>>;

/// Waits for a result, or for the error of the first task that ends.
///
/// # Errors
///
/// The error of the result, or of a task.
pub async fn unless_one_fails<T>(
    tasks: &mut Tasks,
    result: impl Future<Output = Result<T, Failed>>,
) -> Result<T, Failed> {
    tokio::select! {
        result = result => result,
        Some(ended) = tasks.join_next() => match ended? {
            Err(error) => Err(error),
        },
    }
}

/// The state that the publishers and subscribers of [`load`] share.
struct Load {
    /// One for each publisher.
    flows: Vec<Flow>,
    deliveries: AtomicU64,
    /// Subscribers that have received from every publisher.
    ready: AtomicUsize,
    /// Whether publishers send all they can. Before, they send just enough to show who is
    /// connected.
    started: AtomicBool,
}

/// Publishes as fast as the subscribers receive, and prints deliveries, seconds and losses.
///
/// # Errors
///
/// Where a node cannot connect, is disconnected, or receives nothing.
pub async fn load<S: Star>(options: &Options) -> Result<(), Failed> {
    let window = window::<S>(options);
    let flow = |_| Flow::new(options.subscribers, window);
    let shared = Arc::new(Load {
        flows: (0..options.publishers).map(flow).collect(),
        deliveries: AtomicU64::new(0),
        ready: AtomicUsize::new(0),
        started: AtomicBool::new(false),
    });
    let mut tasks = Tasks::new();
    let subscribers = options.subscribers + options.stalled;
    for number in 0..subscribers {
        let subscriber = S::subscriber(options).await?;
        let reading = (number < options.subscribers).then_some(number);
        tasks.spawn(count(subscriber, reading, Arc::clone(&shared)));
    }
    for number in 0..options.publishers {
        let publisher = S::publisher(options).await?;
        let shared = Arc::clone(&shared);
        tasks.spawn(publish::<S>(publisher, number, options.size, shared));
    }
    let measured = measure(options, subscribers, &shared);
    let (deliveries, time) = unless_one_fails(&mut tasks, measured).await?;
    if deliveries == 0 {
        return Err("nothing arrives".into());
    }
    let lost: u64 = shared.flows.iter().map(Flow::lost).sum();
    report::print(&json!({
        "deliveries": deliveries,
        "seconds": time.as_secs_f64(),
        "lost": lost,
    }));
    Ok(())
}

/// Returns how many messages a publisher may have in flight: enough that nobody waits, and no more
/// than queues hold.
fn window<S: Star>(options: &Options) -> u64 {
    let most = S::QUEUE.min(4096);
    let fitting = (S::BYTES_IN_FLIGHT / options.size as u64).clamp(16, most);
    let all = options.window.unwrap_or(fitting).min(S::QUEUE);
    (all / options.publishers as u64).max(1)
}

async fn measure(
    options: &Options,
    subscribers: usize,
    shared: &Load,
) -> Result<(u64, Duration), Failed> {
    let all_ready = async {
        while shared.ready.load(Relaxed) < subscribers {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, all_ready)
        .await
        .map_err(|_| "not all subscribers hear all publishers")?;
    shared.started.store(true, Relaxed);
    sleep(options.warmup).await;
    let (before, began) = (shared.deliveries.load(Relaxed), Instant::now());
    sleep(options.seconds).await;
    let after = shared.deliveries.load(Relaxed);
    Ok((after - before, began.elapsed()))
}

/// Counts the messages of a subscriber. One without a number stops reading once it has received
/// from every publisher.
async fn count(
    mut subscriber: impl Subscriber,
    reading: Option<usize>,
    shared: Arc<Load>,
) -> Result<Infallible, Failed> {
    let mut unheard = vec![true; shared.flows.len()];
    loop {
        let (publisher, number) = numbered(subscriber.receive().await?.as_ref())?;
        if std::mem::take(&mut unheard[publisher]) && !unheard.contains(&true) {
            shared.ready.fetch_add(1, Relaxed);
            if reading.is_none() {
                std::future::pending::<()>().await;
            }
        }
        if let Some(subscriber) = reading {
            shared.deliveries.fetch_add(1, Relaxed);
            shared.flows[publisher].note(subscriber, number);
        }
    }
}

/// Publishes for as long as the program runs.
async fn publish<S: Star>(
    mut publisher: S::Publisher,
    name: usize,
    size: usize,
    shared: Arc<Load>,
) -> Result<Infallible, Failed> {
    let mut sent = 0;
    while !shared.started.load(Relaxed) {
        publisher.publish(payload(name, sent, size)).await?;
        sent += 1;
        publisher.work_until(sleep(Duration::from_millis(10))).await;
    }
    let flow = &shared.flows[name];
    // Messages below this number are no longer waited for.
    let mut given_up = 0;
    loop {
        let room = flow.room(sent, given_up);
        for _ in 0..room.min(S::BURST) {
            let had_room = publisher.publish(payload(name, sent, size)).await?;
            // A system may remember what it could not send as seen, so each try is a new message.
            sent += 1;
            if !had_room {
                publisher.work_until(sleep(Duration::from_millis(1))).await;
                break;
            }
        }
        if room > S::BURST {
            publisher.work_off();
            tokio::task::yield_now().await;
        } else if flow.room(sent, given_up) > 0 || publisher.work_until(flow.moved()).await {
            publisher.work_off();
        } else {
            given_up = sent;
        }
    }
}

/// The publisher that messages name whose latency counts.
const TIMED: usize = 0;
/// The publisher that the probes before them name.
const PROBE: usize = 1;

/// Times messages from one publisher to one subscriber at a steady rate, and prints percentiles.
///
/// # Errors
///
/// Where a node cannot connect or is disconnected, a message is missing, or the queue is full.
pub async fn latency<S: Star>(options: &Options) -> Result<(), Failed> {
    let rate = f64::from(options.rate);
    let skipped = (options.warmup.as_secs_f64() * rate).ceil() as usize;
    let counted = (options.seconds.as_secs_f64() * rate).ceil().max(1.0) as usize;
    let subscriber = S::subscriber(options).await?;
    let mut publisher = S::publisher(options).await?;
    let sent: SendTimes = (0..skipped + counted).map(|_| AtomicU64::new(0)).collect();
    let origin = Instant::now();
    let (heard, mut received) = mpsc::unbounded_channel();
    let mut tasks = Tasks::new();
    tasks.spawn(time(subscriber, Arc::clone(&sent), origin, heard));

    let probed = probe(&mut publisher, &mut received, options.size);
    timeout(PATIENCE, probed)
        .await
        .map_err(|_| "the subscriber hears nothing")??;
    tasks.spawn(publish_steadily(publisher, sent, origin, options.clone()));
    let measured = async {
        let mut latencies = Latencies::default();
        while latencies.count() < counted as u64 {
            let next = timeout(PATIENCE, received.recv())
                .await
                .map_err(|_| "messages are missing")?;
            let (publisher, number, latency) = next.ok_or("the subscriber has gone")?;
            if publisher == TIMED && number >= skipped as u64 {
                latencies.add(latency);
            }
        }
        Ok(latencies)
    };
    let latencies = unless_one_fails(&mut tasks, measured).await?;
    report::print(&latencies.result());
    Ok(())
}

/// When each message was sent, in nanoseconds since the origin.
type SendTimes = Arc<[AtomicU64]>;
/// The publisher and the number of a message, and how long it took.
type Timed = (usize, u64, Duration);

async fn time(
    mut subscriber: impl Subscriber,
    sent: SendTimes,
    origin: Instant,
    heard: mpsc::UnboundedSender<Timed>,
) -> Result<Infallible, Failed> {
    loop {
        let message = subscriber.receive().await?;
        let now = origin.elapsed().as_nanos() as u64;
        let (publisher, number) = numbered(message.as_ref())?;
        let began = sent
            .get(number as usize)
            .map_or(now, |time| time.load(Relaxed));
        let latency = Duration::from_nanos(now - began);
        heard.send((publisher, number, latency))?;
    }
}

/// Sends until the subscriber receives.
async fn probe(
    publisher: &mut impl Publisher,
    received: &mut mpsc::UnboundedReceiver<Timed>,
    size: usize,
) -> Result<(), Failed> {
    for number in 0.. {
        publisher.publish(payload(PROBE, number, size)).await?;
        publisher.work_until(sleep(Duration::from_millis(10))).await;
        if received.try_recv().is_ok() {
            break;
        }
    }
    Ok(())
}

async fn publish_steadily(
    mut publisher: impl Publisher,
    sent: SendTimes,
    origin: Instant,
    options: Options,
) -> Result<Infallible, Failed> {
    let start = tokio::time::Instant::now();
    let interval = Duration::from_secs_f64(1.0 / f64::from(options.rate));
    for (number, time) in sent.iter().enumerate() {
        let due = start + interval.mul_f64(number as f64);
        publisher.work_until(sleep_until(due)).await;
        let message = payload(TIMED, number as u64, options.size);
        time.store(origin.elapsed().as_nanos() as u64, Relaxed);
        if !publisher.publish(message).await? {
            return Err("the publisher's queue is full at this rate".into());
        }
    }
    publisher.work_until(std::future::pending()).await
}

/// Holds idle connections to the hub until stdin ends.
///
/// # Errors
///
/// Where a node cannot connect, or is disconnected.
pub async fn idle<S: Star>(options: &Options) -> Result<(), Failed> {
    let options = Arc::new(options.clone());
    let mut connecting = JoinSet::new();
    let mut nodes = Vec::new();
    for number in 0..options.connections {
        if number >= S::CONNECTING
            && let Some(node) = connecting.join_next().await
        {
            nodes.push(node??);
        }
        connecting.spawn(S::idle(Arc::clone(&options)));
    }
    while let Some(node) = connecting.join_next().await {
        nodes.push(node??);
    }
    report::print(&json!({ "connected": nodes.len() }));
    let mut tasks = Tasks::new();
    for node in nodes {
        tasks.spawn(S::hold(node));
    }
    let ended = async {
        stdin_ends().await;
        Ok(())
    };
    unless_one_fails(&mut tasks, ended).await
}
