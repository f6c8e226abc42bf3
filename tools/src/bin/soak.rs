//! A node under churn: peers that come, talk, misbehave and go at random, while an honest neighbour
//! stays.
//!
//! Prints its memory, descriptors, tasks, peers and counters each 10 s. Ends with 0 if all of them
//! end where they began and the neighbour missed nothing; else with 1. Needs a `/proc`.
//!
//! ```text
//! cargo run --release -p coalescent-tools --bin soak -- --minutes 20 --seed 1
//! ```

#[path = "../../../examples/support/command_line.rs"]
mod command_line;

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clap::Parser;
use coalescent::codec::Codec;
use coalescent::wire::{Hello, Kind, NativeCodec, NodeId, Packet};
use coalescent::{App, AppExt, Event, Mesh};
use coalescent_layers::{Courier, SmartRelay};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::codec::Encoder;

/// How many peers come and go at the same time.
const SLOTS: usize = 24;

/// Churn before the memory is measured for the first time: by then caches and sets have their size.
const WARM_UP: Duration = Duration::from_secs(45);

/// How long everything may take to end once nobody comes any more.
const SETTLE: Duration = Duration::from_secs(60);

/// How much memory may be more at the end than after warming up: the allocator's own.
const SLACK: u64 = 8 * 1024 * 1024;

const REPORT_EVERY: Duration = Duration::from_secs(10);
const BEAT_EVERY: Duration = Duration::from_millis(50);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// A node under churn: peers come, talk, misbehave and go, while an honest neighbour stays.
#[derive(Parser)]
struct Args {
    /// How long peers come and go, after a warm-up of 45 s
    #[arg(long, value_name = "N", default_value_t = 20.0, value_parser = minutes)]
    minutes: f64,
    /// What the peers do follows from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

fn minutes(text: &str) -> std::result::Result<f64, &'static str> {
    let minutes = text.parse().ok();
    let week = 0.0..=7.0 * 24.0 * 60.0;
    minutes
        .filter(|minutes| week.contains(minutes))
        .ok_or("write a number of minutes, at most a week")
}

#[derive(Clone, Copy, Debug)]
struct Usage {
    memory: u64,
    descriptors: usize,
    tasks: usize,
}

impl Usage {
    fn now() -> Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .ok_or("no VmRSS in /proc/self/status")?;
        Ok(Self {
            memory: kib.trim().parse::<u64>()? * 1024,
            // One of them is the listing's own.
            descriptors: std::fs::read_dir("/proc/self/fd")?.count() - 1,
            tasks: tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks(),
        })
    }
}

/// What was done to the node, and what it said of it.
#[derive(Default)]
struct Tally {
    visits: Mutex<BTreeMap<&'static str, u64>>,
    connected: AtomicU64,
    disconnected: AtomicU64,
    errors: AtomicU64,
    reasons: Mutex<BTreeMap<String, u64>>,
}

fn count<K: Ord>(map: &Mutex<BTreeMap<K, u64>>, key: K) {
    *map.lock().expect("no panic").entry(key).or_default() += 1;
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<ExitCode> {
    let Args { minutes, seed } = command_line::parse();
    let node = App::new()
        .min_peers(0)
        .configure(|config| {
            config.handshake_timeout = Duration::from_secs(1);
            config.frame_timeout = Duration::from_secs(2);
            config.patience = Duration::from_secs(1);
            config.ping_every = Duration::from_secs(2);
            config.answer_within = Duration::from_secs(2);
            config.outbox = 256 * 1024;
        })
        .with(SmartRelay::new())
        .with(Courier::new())
        .listen("127.0.0.1:0")
        .await?;
    let addr = node.local_addrs()[0].to_string();
    let tally = Arc::new(Tally::default());
    node.on_event({
        let tally = Arc::clone(&tally);
        move |event| match event {
            Event::PeerConnected { .. } => drop(tally.connected.fetch_add(1, Relaxed)),
            Event::PeerDisconnected { reason, .. } => {
                tally.disconnected.fetch_add(1, Relaxed);
                // Without what a peer said: that is without number.
                let reason = reason.to_string();
                let kind = reason.split(':').next().unwrap_or_default();
                count(&tally.reasons, kind.to_owned());
            }
            Event::Error { .. } => drop(tally.errors.fetch_add(1, Relaxed)),
            _ => {}
        }
    });

    // The honest neighbour: it must get each beat, whatever the others do.
    let neighbour = App::new().min_peers(0).start().await?;
    neighbour.connect(&addr).await?;
    let heard = Arc::new(AtomicU64::new(0));
    let mut reader = neighbour.reader();
    tokio::spawn({
        let heard = Arc::clone(&heard);
        async move {
            while let Some(frame) = reader.next_frame().await {
                if frame.payload().starts_with(b"beat ") {
                    heard.fetch_add(1, Relaxed);
                }
            }
        }
    });
    let beating = Arc::new(AtomicBool::new(true));
    let beats = Arc::new(AtomicU64::new(0));
    let heart = tokio::spawn({
        let (node, beating, beats) = (node.clone(), Arc::clone(&beating), Arc::clone(&beats));
        async move {
            while beating.load(Relaxed) {
                let beat = beats.fetch_add(1, Relaxed);
                // What others have no room for is their loss.
                let _ = node.peers().try_broadcast_payload(format!("beat {beat}"));
                sleep(BEAT_EVERY).await;
            }
        }
    });

    sleep(Duration::from_millis(200)).await;
    let begin = Usage::now()?;
    println!("seed {seed}, {minutes} min; at the beginning: {begin:?}");
    churn(&node, &addr, WARM_UP, seed, &tally).await?;
    let settled = settle(&node, begin).await?;
    println!("warmed up: {settled:?}");
    let all = Duration::from_secs_f64(minutes * 60.0);
    churn(&node, &addr, all, seed.wrapping_add(1), &tally).await?;
    let end = settle(&node, begin).await?;
    beating.store(false, Relaxed);
    heart.await?;
    let beats = beats.load(Relaxed);
    let _ = timeout(SETTLE, async {
        while heard.load(Relaxed) < beats {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;

    println!("visits: {:?}", tally.visits.lock().expect("no panic"));
    println!(
        "ends of peers: {:?}",
        tally.reasons.lock().expect("no panic")
    );
    println!("counters: {:?}", node.stats());
    println!("at the end: {end:?}, after warming up {settled:?}, at the beginning {begin:?}");
    println!(
        "the neighbour heard {} of {beats} beats",
        heard.load(Relaxed)
    );
    let ok = end.memory <= settled.memory + SLACK
        && end.descriptors == begin.descriptors
        && end.tasks == begin.tasks
        && heard.load(Relaxed) == beats;
    println!("{}", if ok { "ok" } else { "FAILED" });
    node.shutdown().await;
    neighbour.shutdown().await;
    Ok(if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Waits until descriptors and tasks are as they were, or that takes too long.
async fn settle(node: &Mesh, begin: Usage) -> Result<Usage> {
    let deadline = Instant::now() + SETTLE;
    loop {
        let now = Usage::now()?;
        let same = now.descriptors == begin.descriptors && now.tasks == begin.tasks;
        if (same && node.peers().len() == 1) || Instant::now() > deadline {
            return Ok(now);
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Lets peers come and go for so long.
async fn churn(
    node: &Mesh,
    addr: &str,
    time: Duration,
    seed: u64,
    tally: &Arc<Tally>,
) -> Result<()> {
    let start = Instant::now();
    let end = start + time;
    let mut slots = tokio::task::JoinSet::new();
    for slot in 0..SLOTS {
        let mut rng = StdRng::seed_from_u64(seed ^ (slot as u64) << 32);
        let (addr, tally) = (addr.to_owned(), Arc::clone(tally));
        slots.spawn(async move {
            while Instant::now() < end {
                let which = rng.random_range(0..VISITS.len());
                count(&tally.visits, VISITS[which]);
                // A visit that fails is one too: the node may well refuse it.
                let _ = timeout(
                    Duration::from_secs(8),
                    visit(VISITS[which], &addr, &mut rng),
                )
                .await;
            }
        });
    }
    let mut next = start + REPORT_EVERY;
    while next < end {
        tokio::time::sleep_until(next).await;
        next += REPORT_EVERY;
        let usage = Usage::now()?;
        let stats = node.stats();
        println!(
            "{:>5} s  rss {:>6} KiB  fds {:>3}  tasks {:>3}  peers {:>2}  came {} went {} errors {}  received {} delivered {} sent {} relayed {} duplicates {} dropped {} unknown {}",
            start.elapsed().as_secs(),
            usage.memory / 1024,
            usage.descriptors,
            usage.tasks,
            node.peers().len(),
            tally.connected.load(Relaxed),
            tally.disconnected.load(Relaxed),
            tally.errors.load(Relaxed),
            stats.received,
            stats.delivered,
            stats.sent,
            stats.relayed,
            stats.duplicates,
            stats.dropped,
            stats.unknown,
        );
    }
    while slots.join_next().await.is_some() {}
    Ok(())
}

/// What a peer may come for.
const VISITS: [&str; 12] = [
    "talk and leave",
    "talk and die",
    "connect and close",
    "say nothing",
    "garbage first",
    "garbage later",
    "claim too much",
    "stop in a frame",
    "never read",
    "flood and reset",
    "ask and never wait",
    "end the sending side",
];

async fn visit(what: &str, addr: &str, rng: &mut StdRng) -> Result<()> {
    match what {
        "talk and leave" | "talk and die" => talk(addr, rng, what == "talk and die").await,
        "connect and close" => {
            TcpStream::connect(addr).await?;
            Ok(())
        }
        "say nothing" => {
            let mut stream = TcpStream::connect(addr).await?;
            until_end(&mut stream).await
        }
        "garbage first" => {
            let mut stream = TcpStream::connect(addr).await?;
            stream.write_all(&noise(rng, 4096)).await?;
            until_end(&mut stream).await
        }
        "garbage later" => {
            let mut stream = enter(addr).await?;
            stream.write_all(&noise(rng, 4096)).await?;
            until_end(&mut stream).await
        }
        "claim too much" => {
            let mut stream = enter(addr).await?;
            stream.write_all(&[0x7f, 0xff, 0xff, 0xff, 1, 32]).await?;
            until_end(&mut stream).await
        }
        "stop in a frame" => {
            let mut stream = enter(addr).await?;
            stream.write_all(&[0, 0, 16, 0, 0, 0, 1, 2, 3]).await?;
            until_end(&mut stream).await
        }
        "never read" => {
            let stream = enter(addr).await?;
            let (_read, mut write) = stream.into_split();
            // Each request is answered, and the answers have nowhere to go.
            for id in 0..20_000 {
                write
                    .write_all(&frame(Kind::Request { id }, rng, 64))
                    .await?;
            }
            sleep(Duration::from_secs(2)).await;
            Ok(())
        }
        "flood and reset" => {
            let mut stream = enter(addr).await?;
            for _ in 0..rng.random_range(1..200) {
                let nonce = rng.next_u64();
                stream
                    .write_all(&frame(Kind::Broadcast { nonce }, rng, 2048))
                    .await?;
            }
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            Ok(())
        }
        "ask and never wait" => {
            let mut stream = enter(addr).await?;
            for id in 0..rng.random_range(1..500) {
                stream
                    .write_all(&frame(Kind::Request { id }, rng, 100))
                    .await?;
                stream
                    .write_all(&frame(Kind::Cancel { id }, rng, 0))
                    .await?;
            }
            Ok(())
        }
        _ => {
            let mut stream = enter(addr).await?;
            let nonce = rng.next_u64();
            stream
                .write_all(&frame(Kind::Broadcast { nonce }, rng, 2048))
                .await?;
            stream.shutdown().await?;
            until_end(&mut stream).await
        }
    }
}

/// A whole node that comes, says and hears something, and goes.
async fn talk(addr: &str, rng: &mut StdRng, die: bool) -> Result<()> {
    let mesh = App::new()
        .min_peers(0)
        .with(SmartRelay::new().capacity(256))
        .start()
        .await?;
    let peer = mesh.connect(addr).await?;
    let mut reader = mesh.reader();
    for _ in 0..rng.random_range(1..100) {
        let text = "la ".repeat(rng.random_range(1..1000));
        let payload = Codec::msgpack().encode_body("say", &text)?;
        let _ = mesh.broadcast_payload(payload).await.unwrap();
        let _ = timeout(
            Duration::from_millis(rng.random_range(0..20)),
            reader.next_frame(),
        )
        .await;
    }
    if die {
        mesh.abort().await;
    } else {
        peer.flushed().await;
        mesh.shutdown().await;
    }
    Ok(())
}

fn noise(rng: &mut StdRng, at_most: usize) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(1..at_most)];
    rng.fill_bytes(&mut bytes);
    bytes
}

fn encode(kind: Kind, payload: Bytes) -> BytesMut {
    let mut codec = NativeCodec::new(1024 * 1024);
    codec.established();
    let mut bytes = BytesMut::new();
    codec
        .encode(Packet::new(kind, payload), &mut bytes)
        .expect("a small frame");
    bytes
}

fn frame(kind: Kind, rng: &mut StdRng, at_most: usize) -> BytesMut {
    let payload = if at_most == 0 {
        Vec::new()
    } else {
        noise(rng, at_most)
    };
    encode(kind, payload.into())
}

/// Connects as somebody new, and gets past the handshake.
async fn enter(addr: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(addr).await?;
    let hello = Hello::new(NodeId::random(), "").agent("soak");
    stream
        .write_all(&encode(Kind::Hello, hello.encode()?))
        .await?;
    let mut first = [0; 6];
    stream.read_exact(&mut first).await?;
    Ok(stream)
}

/// Reads until the node has had enough.
async fn until_end(stream: &mut TcpStream) -> Result<()> {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}
