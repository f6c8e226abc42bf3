//! Bursts through meshes with circles: each node delivers each frame once, or not at all where that
//! is counted as dropped, and a burst ends when it has been passed on.
//!
//! The whole table, with the figures that `docs/relaying.md` publishes, takes some minutes:
//!
//! ```console
//! COALESCENT_ONCE_FRAMES=1000000 cargo test --release --test it once:: -- \
//!     --nocapture --test-threads 1
//! ```

use std::time::{Duration, Instant};

use coalescent::{App, AppExt, Mesh, SmartRelay, Stats, Wire};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How long a burst may take before a test fails. Only failures take this long.
const DEADLINE: Duration = Duration::from_secs(600);

/// How many frames each publisher says, if the table is measured.
fn measured() -> Option<usize> {
    let frames = std::env::var("COALESCENT_ONCE_FRAMES").ok()?;
    Some(frames.parse().expect("a number"))
}

/// How many frames each publisher says.
fn frames() -> usize {
    measured().unwrap_or(20_000)
}

/// The relay as it is by default, if the table is measured, which wants a machine for itself.
///
/// Else a line is known for as long as a test may take: a copy that comes later than the default of
/// 5 s is a line said anew, and on a machine that is busy with other tests a copy may take longer.
fn relay() -> SmartRelay {
    match measured() {
        Some(_) => SmartRelay::new(),
        None => SmartRelay::new().content_window(DEADLINE),
    }
}

/// A mesh whose nodes count how often they deliver each frame.
struct Nodes {
    meshes: Vec<Mesh>,
    counting: Vec<JoinHandle<Vec<Vec<u8>>>>,
    wire: Wire,
}

impl Nodes {
    /// Connects nodes at random, each to up to three before it: three nodes are a triangle.
    async fn start(nodes: usize, wire: Wire, publishers: usize, frames: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(nodes as u64);
        let mut meshes: Vec<Mesh> = Vec::new();
        let mut degrees = vec![0; nodes];
        for node in 0..nodes {
            let app = App::new().min_peers(0).wire(wire.clone());
            let mesh = app.with(relay()).listen("127.0.0.1:0").await;
            let mesh = mesh.expect("a free port");
            let mut others: Vec<usize> = (0..node).collect();
            while others.len() > 3 {
                others.swap_remove(rng.random_range(0..others.len()));
            }
            for other in others {
                let addr = meshes[other].local_addrs()[0].to_string();
                mesh.connect(&addr).await.expect("a node that listens");
                degrees[other] += 1;
                degrees[node] += 1;
            }
            meshes.push(mesh);
        }
        for (mesh, degree) in meshes.iter().zip(degrees) {
            until(|| mesh.peers().len() == degree).await;
        }
        let counting = meshes
            .iter()
            .map(|mesh| tokio::spawn(count(mesh, publishers, frames)))
            .collect();
        Self {
            meshes,
            counting,
            wire,
        }
    }

    fn addr(&self, node: usize) -> String {
        self.meshes[node % self.meshes.len()].local_addrs()[0].to_string()
    }

    /// Says a burst at one of the nodes.
    fn publish(&self, publisher: usize, frames: usize) -> JoinHandle<Stats> {
        let (addr, wire) = (self.addr(publisher * 7), self.wire.clone());
        tokio::spawn(async move {
            let mesh = App::new()
                .wire(wire)
                .start()
                .await
                .expect("it listens nowhere");
            mesh.connect(&addr).await.expect("a node that listens");
            let said = (0..frames).map(|number| format!("{publisher} {number}"));
            let _ = mesh.broadcast_payloads(said).await.unwrap();
            mesh.peers().flushed().await;
            mesh.shutdown().await
        })
    }

    fn stats(&self) -> Stats {
        self.meshes
            .iter()
            .fold(Stats::default(), |sum, mesh| sum + mesh.stats())
    }

    /// Waits until nothing has come anywhere for a second, and says how long that took.
    async fn quiet(&self) -> Duration {
        let begun = Instant::now();
        let mut before = self.stats().bytes_received;
        loop {
            sleep(Duration::from_secs(1)).await;
            let now = self.stats().bytes_received;
            if now == before {
                return begun.elapsed();
            }
            before = now;
            assert!(
                begun.elapsed() < DEADLINE,
                "it goes round: {:?}",
                self.stats()
            );
        }
    }

    /// Ends all nodes; returns how often each has delivered each frame, and what all have counted.
    async fn end(self) -> (Vec<Vec<Vec<u8>>>, Stats) {
        let mut stats = Stats::default();
        for mesh in &self.meshes {
            stats += mesh.shutdown().await;
        }
        let mut counts = Vec::new();
        for counting in self.counting {
            counts.push(counting.await.expect("a reader"));
        }
        (counts, stats)
    }
}

/// Counts what a node delivers, by publisher and number.
fn count(
    mesh: &Mesh,
    publishers: usize,
    frames: usize,
) -> impl Future<Output = Vec<Vec<u8>>> + use<> {
    let mut reader = mesh.reader();
    async move {
        let mut counts = vec![vec![0_u8; frames]; publishers];
        while let Some(frame) = reader.next_frame().await {
            let text = std::str::from_utf8(frame.payload()).expect("what was said");
            let (publisher, number) = text.split_once(' ').expect("two numbers");
            let (publisher, number): (usize, usize) = (
                publisher.parse().expect("one"),
                number.parse().expect("two"),
            );
            counts[publisher][number] = counts[publisher][number].saturating_add(1);
        }
        counts
    }
}

async fn until(mut condition: impl FnMut() -> bool) {
    let reached = async {
        while !condition() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(DEADLINE, reached).await.expect("in time");
}

/// Resident memory of this process at its highest, in MiB, since the last time it was asked.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    kib.unwrap_or(0_u64) / 1024
}

/// Says bursts in a mesh, and checks that nothing is delivered twice, and that what is missing was
/// counted.
async fn burst(nodes: usize, wire: Wire, publishers: usize) {
    burst_of(nodes, wire, publishers, frames()).await;
}

async fn burst_of(nodes: usize, wire: Wire, publishers: usize, frames: usize) {
    peak();
    let mesh = Nodes::start(nodes, wire.clone(), publishers, frames).await;
    let begun = Instant::now();
    let publishing: Vec<_> = (0..publishers)
        .map(|publisher| mesh.publish(publisher, frames))
        .collect();
    let mut said = Stats::default();
    for publisher in publishing {
        said += publisher.await.expect("a publisher");
    }
    let published = begun.elapsed();
    let quiet = mesh.quiet().await;
    let (counts, stats) = mesh.end().await;
    let all = publishers * frames;
    let delivered: Vec<usize> = counts
        .iter()
        .map(|counts| counts.iter().flatten().filter(|count| **count > 0).count())
        .collect();
    let twice = counts
        .iter()
        .flatten()
        .flatten()
        .filter(|n| **n > 1)
        .count();
    let missing: usize = delivered.iter().map(|delivered| all - delivered).sum();
    println!(
        "{nodes} nodes, {wire}, {publishers} x {frames}: said in {published:.1?}, quiet {quiet:.1?} later; \
         least delivered {}, twice {twice}, dropped {}, {} MiB in all",
        delivered.iter().min().copied().unwrap_or(0),
        stats.dropped + said.dropped,
        peak(),
    );
    assert_eq!(twice, 0, "{nodes} nodes, {wire}: {stats:?}");
    if missing > 0 {
        assert!(
            stats.dropped + said.dropped > 0,
            "{nodes} nodes, {wire}: {missing} are missing: {stats:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bursts_on_the_native_wire() {
    for (nodes, publishers) in [(3, 1), (3, 3), (5, 3), (8, 1), (8, 3)] {
        burst(nodes, Wire::native(), publishers).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bursts_of_lines() {
    for (nodes, publishers) in [(3, 1), (3, 3), (5, 3), (8, 1), (8, 3)] {
        burst(nodes, Wire::lines(), publishers).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bursts_in_a_mesh_of_thirty() {
    // A tenth, since all of them share two cores.
    let frames = frames() / 10;
    burst_of(30, Wire::native(), 1, frames).await;
    burst_of(30, Wire::lines(), 1, frames).await;
}

/// Broadcasts as bytes, by who keeps to no rule.
fn broadcast(ttl: u8, nonce: u64, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(10 + payload.len()).expect("a short payload");
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend([1, ttl]);
    bytes.extend(nonce.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Introduces itself to a node, and throws away what comes back.
async fn intrude(addr: &str) -> TcpStream {
    let mut hello = vec![0x84];
    hello.extend(b"\xa1v\x01\xa4node\xc4\x10");
    hello.extend(rand::random::<[u8; 16]>());
    hello.extend(b"\xa3net\xa0\xa5agent\xa1x");
    let mut stream = TcpStream::connect(addr).await.expect("a node that listens");
    let length = u32::try_from(hello.len() + 2).expect("a short introduction");
    stream.write_all(&length.to_be_bytes()).await.expect("room");
    stream.write_all(&[0x10, 0]).await.expect("room");
    stream.write_all(&hello).await.expect("room");
    stream
}

/// Sends to a node, while what it sends is read and thrown away, and waits until it has got all.
async fn send(stream: &mut TcpStream, bytes: &[u8]) {
    let (mut read, mut write) = stream.split();
    let mut sink = vec![0; 64 * 1024];
    let discard = async {
        while read.read(&mut sink).await.is_ok_and(|read| read > 0) {}
        panic!("the node has closed");
    };
    tokio::select! {
        () = discard => {}
        sent = write.write_all(bytes) => sent.expect("a node that reads"),
    }
}

/// Says a frame, then so many others that a fixed window would have forgotten it, then the same
/// again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_flushes_and_replays_is_heard_once() {
    let flood = frames().max(100_000) as u64;
    // To one node alone, and in a mesh; with numbers in order, and at random.
    for (nodes, step) in [(1, 1), (3, 1), (3, 0x9e37_79b9_7f4a_7c15_u64)] {
        let mesh = Nodes::start(nodes, Wire::native(), 1, 2).await;
        let before = mesh.stats();
        let mut stream = intrude(&mesh.addr(0)).await;
        let mut bytes = broadcast(255, 7, b"0 0");
        for number in 0..flood {
            let nonce = (1 << 40) + number.wrapping_mul(step);
            bytes.extend(broadcast(255, nonce, b"0 1"));
        }
        bytes.extend(broadcast(255, 7, b"0 0"));
        send(&mut stream, &bytes).await;
        until(|| mesh.meshes[0].stats().received - before.received >= flood + 2).await;
        mesh.quiet().await;
        drop(stream);
        let (counts, stats) = mesh.end().await;
        for counts in counts {
            assert!(counts[0][0] <= 1, "{counts:?} of {nodes} nodes");
        }
        assert!(stats.duplicates > 0);
    }
}

/// A frame goes no farther than this node's own, whatever ttl it comes with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ttl_is_clamped_to_this_nodes_own() {
    let app = || App::new().configure(|config| config.ttl = 2);
    let mut meshes: Vec<Mesh> = Vec::new();
    for node in 0..3 {
        let mesh = app().with(SmartRelay::new()).listen("127.0.0.1:0").await;
        let mesh = mesh.expect("a free port");
        if node > 0 {
            let addr = meshes[node - 1].local_addrs()[0].to_string();
            mesh.connect(&addr).await.expect("a node that listens");
            until(|| meshes[node - 1].peers().len() == node.min(2)).await;
        }
        meshes.push(mesh);
    }
    let mut readers: Vec<_> = meshes.iter().map(Mesh::reader).collect();
    let addr = meshes[0].local_addrs()[0].to_string();
    let mut stream = intrude(&addr).await;
    send(&mut stream, &broadcast(255, 7, b"far")).await;
    for (node, ttl) in [(0, 2), (1, 1)] {
        let frame = timeout(DEADLINE, readers[node].next_frame()).await;
        let frame = frame.expect("in time").expect("a mesh that runs");
        assert_eq!((frame.payload(), frame.ttl()), (&b"far"[..], ttl));
    }
    let _ = meshes[1].broadcast_payload("near").await.unwrap();
    let frame = timeout(DEADLINE, readers[2].next_frame()).await;
    let frame = frame.expect("in time").expect("a mesh that runs");
    assert_eq!(frame.payload(), b"near", "nothing came before it");
}
