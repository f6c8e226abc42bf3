//! Measures broadcasts to 1 and 8 peers whose sockets discard everything that is written.
//!
//! `push` is the time for which the caller waits: encoding the frame, and queueing it in each
//! peer's outbox. `written` also includes the time until the connections have written everything.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use coalescent_core::connection::{self, ConnectionInfo};
use coalescent_core::wire::{Hello, Kind, NodeId, Wire};
use coalescent_core::{Config, Peers};
use criterion::{BenchmarkId, Criterion, Throughput};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::runtime::Runtime;

const SIZES: [usize; 3] = [64, 1024, 64 * 1024];

/// The number of bytes that are broadcast before the peers may write: a quarter of an outbox.
const BURST: usize = 1024 * 1024;

/// The maximum number of frames in a burst, so that their entries fit into an outbox too.
const BURST_FRAMES: usize = 1024;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    for count in [1, 8] {
        for size in SIZES {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            let node = Node::start(&runtime, count);
            node.measure(&runtime, &mut criterion, size);
        }
    }
    criterion.final_summary();
}

struct Node {
    peers: Peers,
    count: usize,
    /// The peers' ends of the connections, which have sent HELLO and nothing else.
    _silent: Vec<DuplexStream>,
}

impl Node {
    fn start(runtime: &Runtime, count: usize) -> Self {
        let peers = Peers::new(Config::default());
        let silent = runtime.block_on(async {
            let mut changes = peers.changes();
            let mut silent = Vec::new();
            for _ in 0..count {
                let (here, mut there) = tokio::io::duplex(1024);
                there.write_all(&hello()).await.expect("room for a HELLO");
                silent.push(there);
                let io = tokio::io::join(here, tokio::io::sink());
                let (stack, peers) = (peers.inbox(), peers.clone());
                tokio::spawn(async move {
                    connection::serve(io, stack, &peers, ConnectionInfo::inbound()).await
                });
                changes.next().await.expect("the peer is let in");
            }
            silent
        });
        Self {
            peers,
            count,
            _silent: silent,
        }
    }

    fn measure(&self, runtime: &Runtime, criterion: &mut Criterion, size: usize) {
        let payload = Bytes::from(vec![b'x'; size]);
        for whole in [false, true] {
            let name = if whole { "written" } else { "push" };
            let mut group = criterion.benchmark_group(format!("outbox/{name}/{}", self.count));
            group.throughput(Throughput::Elements(1));
            group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
                bencher.iter_custom(|frames| {
                    let mut spent = Duration::ZERO;
                    let mut left = frames;
                    while left > 0 {
                        let burst = left.min((BURST / size).min(BURST_FRAMES) as u64);
                        left -= burst;
                        let begun = Instant::now();
                        for _ in 0..burst {
                            let sent = self.peers.try_broadcast_payload(payload.clone());
                            assert_eq!(sent.map(|sent| sent.queued).ok(), Some(self.count));
                        }
                        let pushed = begun.elapsed();
                        runtime.block_on(self.peers.flushed());
                        spent += if whole { begun.elapsed() } else { pushed };
                    }
                    spent
                });
            });
        }
    }
}

/// Returns the HELLO of another node of the same network.
fn hello() -> BytesMut {
    let hello = Hello::new(NodeId::random(), Config::default().network).agent("sink");
    let payload = hello.encode().expect("a short HELLO");
    let mut bytes = BytesMut::new();
    let mut codec = Wire::native().codec(1024);
    let encoded = codec.encode(Kind::Hello, 0, &payload, &mut bytes);
    encoded.expect("a short HELLO");
    bytes
}
