//! The roles around a hub: one node that all others are connected to, and that is connected to
//! nobody else.
//!
//! Publishers do not subscribe: gossipsub lets a node publish on a topic that it does not follow.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};

use crate::flow::{Flow, numbered, payload};
use crate::node::{Node, QUEUE, Shape};
use crate::options::Options;
use crate::report::{Failed, PATIENCE, percentile, print, stdin_ends};

/// How many bytes may be under way, unless that is very few messages.
const BYTES_UNDER_WAY: u64 = 8 * 1024 * 1024;

/// How many messages a publisher sends before it lets its node work.
const BURST: u64 = 64;

/// Forwards until stdin ends.
pub(crate) async fn hub(options: &Options) -> Result<(), Failed> {
    let mut node = Node::new(Shape::Star, options.tls)?;
    node.subscribe()?;
    let port = node.listen().await?;
    print(&json!({ "listening": format!("127.0.0.1:{port}") }));
    let mut ended = stdin_ends();
    let mut peers = 0;
    loop {
        tokio::select! {
            _ = &mut ended => break,
            _ = node.next() => peers = peers.max(node.connected()),
        }
    }
    print(&json!({ "peers": peers }));
    Ok(())
}

/// What the publishers and subscribers of [`load`] share.
struct Load {
    flows: Vec<Flow>,
    deliveries: AtomicU64,
    /// How many subscribers have heard all publishers.
    ready: AtomicUsize,
    /// Whether publishers send all they can, and no longer just enough to see who hears it.
    started: AtomicBool,
}

/// Publishes as fast as the subscribers hear it.
pub(crate) async fn load(options: &Options) -> Result<(), Failed> {
    let reading = options.subscribers - options.stalled;
    let window = window(options);
    let shared = Arc::new(Load {
        flows: (0..options.publishers)
            .map(|_| Flow::new(reading, window))
            .collect(),
        deliveries: AtomicU64::new(0),
        ready: AtomicUsize::new(0),
        started: AtomicBool::new(false),
    });
    let mut tasks = JoinSet::new();
    for subscriber in 0..options.subscribers {
        let node = subscribed(options).await?;
        let shared = Arc::clone(&shared);
        tasks.spawn(listen_to(node, subscriber, subscriber < reading, shared));
    }
    for publisher in 0..options.publishers {
        let node = connected(options).await?;
        let shared = Arc::clone(&shared);
        tasks.spawn(publish(node, publisher, options.size, shared));
    }
    let measured = async {
        let all_ready = async {
            while shared.ready.load(Ordering::Relaxed) < options.subscribers {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, all_ready)
            .await
            .map_err(|_| "not all subscribers hear all publishers")?;
        shared.started.store(true, Ordering::Relaxed);
        sleep(options.warmup).await;
        let (before, begin) = (shared.deliveries.load(Ordering::Relaxed), Instant::now());
        sleep(options.seconds).await;
        let after = shared.deliveries.load(Ordering::Relaxed);
        Ok::<_, Failed>((after - before, begin.elapsed()))
    };
    let (deliveries, time) = unless_one_fails(&mut tasks, measured).await?;
    if deliveries == 0 {
        return Err("nothing arrives".into());
    }
    let lost: u64 = shared.flows.iter().map(Flow::lost).sum();
    print(&json!({ "deliveries": deliveries, "seconds": time.as_secs_f64(), "lost": lost }));
    Ok(())
}

/// How many messages each publisher may have under way: so many that nobody waits, and no more than
/// queues hold.
fn window(options: &Options) -> u64 {
    let fitting = (BYTES_UNDER_WAY / options.size as u64).clamp(16, 4096);
    let all = options.window.unwrap_or(fitting).min(QUEUE as u64);
    (all / options.publishers as u64).max(1)
}

/// Counts what a subscriber hears, or stops reading once it has heard each publisher.
async fn listen_to(
    mut node: Node,
    subscriber: usize,
    reads: bool,
    shared: Arc<Load>,
) -> Result<Infallible, Failed> {
    let mut unheard = vec![true; shared.flows.len()];
    loop {
        let (publisher, number) = numbered(&node.heard().await?).ok_or("this is no payload")?;
        if std::mem::take(&mut unheard[publisher]) && !unheard.contains(&true) {
            shared.ready.fetch_add(1, Ordering::Relaxed);
            if !reads {
                std::future::pending::<()>().await;
            }
        }
        if reads {
            shared.deliveries.fetch_add(1, Ordering::Relaxed);
            shared.flows[publisher].note(subscriber, number);
        }
    }
}

/// Publishes for as long as the program runs.
async fn publish(
    mut node: Node,
    publisher: usize,
    size: usize,
    shared: Arc<Load>,
) -> Result<Infallible, Failed> {
    let mut sent = 0;
    while !shared.started.load(Ordering::Relaxed) {
        node.publish(payload(publisher, sent, size))?;
        sent += 1;
        node.work_until(sleep(Duration::from_millis(10))).await;
    }
    let flow = &shared.flows[publisher];
    // What was sent before this is no longer waited for.
    let mut given_up = 0;
    loop {
        let room = flow.room(sent, given_up);
        for _ in 0..room.min(BURST) {
            let room_in_queue = node.publish(payload(publisher, sent, size))?;
            // Gossipsub remembers also what it could not send, so the same message can't be tried
            // again.
            sent += 1;
            if !room_in_queue {
                node.work_until(sleep(Duration::from_millis(1))).await;
                break;
            }
        }
        if room > BURST {
            node.work_off();
            tokio::task::yield_now().await;
        } else if flow.room(sent, given_up) > 0 || node.work_until(flow.moved()).await {
            node.work_off();
        } else {
            given_up = sent;
        }
    }
}

/// Times messages at a steady rate.
pub(crate) async fn latency(options: &Options) -> Result<(), Failed> {
    let rate = f64::from(options.rate);
    let skipped = (options.warmup.as_secs_f64() * rate).ceil() as usize;
    let counted = (options.seconds.as_secs_f64() * rate).ceil().max(1.0) as usize;
    let all = skipped + counted;
    let mut subscriber = subscribed(options).await?;
    let mut publisher = connected(options).await?;

    let mut tasks = JoinSet::new();
    let sent: Arc<Vec<AtomicU64>> = Arc::new((0..all).map(|_| AtomicU64::new(0)).collect());
    let origin = Instant::now();
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let times = Arc::clone(&sent);
    tasks.spawn(async move {
        loop {
            let message = subscriber.heard().await?;
            let now = origin.elapsed().as_nanos() as u64;
            let (probe, number) = numbered(&message).ok_or("this is no payload")?;
            let began = times
                .get(number as usize)
                .map_or(now, |time| time.load(Ordering::Relaxed));
            heard.send((probe == 1, number as usize, (now - began) as f64 / 1000.0))?;
        }
    });

    // Probes are payloads of a publisher of their own.
    let probing = async {
        for number in 0.. {
            publisher.publish(payload(1, number, options.size))?;
            publisher.work_until(sleep(Duration::from_millis(10))).await;
            if hears.try_recv().is_ok() {
                break;
            }
        }
        Ok::<_, Failed>(())
    };
    timeout(PATIENCE, probing)
        .await
        .map_err(|_| "the subscriber hears nothing")??;

    let size = options.size;
    let start = tokio::time::Instant::now();
    let interval = Duration::from_secs_f64(1.0 / rate);
    tasks.spawn(async move {
        for number in 0..all {
            publisher
                .work_until(sleep_until(start + interval.mul_f64(number as f64)))
                .await;
            let message = payload(0, number as u64, size);
            sent[number].store(origin.elapsed().as_nanos() as u64, Ordering::Relaxed);
            if !publisher.publish(message)? {
                return Err("the publisher's queue is full at this rate".into());
            }
        }
        publisher.work_until(std::future::pending()).await
    });
    let measured = async {
        let mut latencies = Vec::with_capacity(counted);
        loop {
            let next = timeout(PATIENCE, hears.recv())
                .await
                .map_err(|_| "messages are missing")?;
            let (probe, number, micros) = next.ok_or("the subscriber has gone")?;
            if probe || number < skipped {
                continue;
            }
            latencies.push(micros);
            if latencies.len() == counted {
                return Ok(latencies);
            }
        }
    };
    let mut latencies = unless_one_fails(&mut tasks, measured).await?;
    latencies.sort_by(f64::total_cmp);
    print(&json!({
        "messages": latencies.len(),
        "p50_us": percentile(&latencies, 0.5),
        "p99_us": percentile(&latencies, 0.99),
    }));
    Ok(())
}

/// Holds subscribed peers that publish nothing, until stdin ends.
pub(crate) async fn idle(options: &Options) -> Result<(), Failed> {
    // A connection takes a descriptor; the limit that matters is the hard one.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let nodes: Vec<Node> = stream::iter(0..options.connections)
        .map(|_| async {
            let mut node = subscribed(options).await?;
            let known = async {
                while node.meshed() == 0 {
                    node.next().await;
                }
            };
            timeout(PATIENCE, known)
                .await
                .map_err(|_| "the hub does not take all subscribers")?;
            Ok::<_, Failed>(node)
        })
        .buffer_unordered(32)
        .try_collect()
        .await?;
    let mut tasks = JoinSet::new();
    let connected = nodes.len();
    for mut node in nodes {
        tasks.spawn(async move {
            loop {
                node.heard().await?;
            }
        });
    }
    print(&json!({ "connected": connected }));
    let ended = async {
        // Either way nobody writes any more.
        let _ = stdin_ends().await;
        Ok(())
    };
    unless_one_fails(&mut tasks, ended).await
}

/// A node that is connected to the hub.
async fn connected(options: &Options) -> Result<Node, Failed> {
    let port = options
        .addr
        .strip_prefix("127.0.0.1:")
        .and_then(|port| port.parse().ok());
    let port = port.ok_or_else(|| format!("--addr is 127.0.0.1:PORT, not {:?}", options.addr))?;
    let mut node = Node::new(Shape::Star, options.tls)?;
    node.connect(port).await?;
    Ok(node)
}

/// A node that is connected to the hub, and hears what it forwards.
async fn subscribed(options: &Options) -> Result<Node, Failed> {
    let mut node = connected(options).await?;
    node.subscribe()?;
    Ok(node)
}

/// Waits for a result, or for the first task that ends, which all are to outlive it.
pub(crate) async fn unless_one_fails<T>(
    tasks: &mut JoinSet<Result<Infallible, Failed>>,
    result: impl Future<Output = Result<T, Failed>>,
) -> Result<T, Failed> {
    tokio::select! {
        result = result => result,
        Some(ended) = tasks.join_next() => match ended? {
            Err(error) => Err(error),
        },
    }
}
