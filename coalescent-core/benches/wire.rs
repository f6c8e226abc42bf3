//! Measures decoding frames from a socket's buffer into a block, and encoding them, on each wire.
//!
//! `parse` splits the data of one read, and counts its frames; on `raw` all of it is one frame.
//! `encode` copies one frame into a buffer; `framing` creates the prefix and suffix of a frame that
//! is not copied.

use std::hint::black_box;
use std::time::Duration;

use bytes::BytesMut;
use coalescent_core::wire::{Block, Kind, Wire, WireCodec};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};

const SIZES: [usize; 3] = [64, 1024, 64 * 1024];

/// The minimum number of bytes per read.
const READ: usize = 64 * 1024;

/// The number of reads that are prepared at a time: few, so that they are still in the cache when
/// they are parsed.
const PREPARED: BatchSize = BatchSize::NumIterations(8);

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    for wire in [Wire::native(), Wire::lines(), Wire::raw()] {
        parse(&mut criterion, &wire);
        encode(&mut criterion, &wire);
    }
    criterion.final_summary();
}

fn codec(wire: &Wire) -> WireCodec {
    let mut codec = wire.codec(1024 * 1024);
    codec.established();
    codec
}

/// Returns the kind of a broadcast on this wire.
fn kind(wire: &Wire) -> Kind {
    if wire.has_handshake() {
        Kind::Broadcast { nonce: 7 }
    } else {
        Kind::Plain
    }
}

/// Returns the data of one read, consisting of frames of `size` bytes, and the number of frames.
fn read(wire: &Wire, size: usize) -> (BytesMut, u64) {
    let count = if *wire == Wire::raw() {
        1
    } else {
        READ.div_ceil(size)
    };
    let (mut codec, payload) = (codec(wire), vec![b'x'; size]);
    let mut bytes = BytesMut::new();
    for _ in 0..count {
        let encoded = codec.encode(kind(wire), 32, &payload, &mut bytes);
        encoded.expect("the payload fits");
    }
    (bytes, count as u64)
}

fn parse(criterion: &mut Criterion, wire: &Wire) {
    let mut group = criterion.benchmark_group(format!("wire/parse/{wire}"));
    for size in SIZES {
        let (bytes, count) = read(wire, size);
        let (mut codec, mut block) = (codec(wire), Block::new());
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            let parse = |bytes: &mut BytesMut| {
                let mut parsed = 0;
                while codec.next_block(bytes, &mut block).expect("good frames") {
                    parsed += black_box(&block).heads.len();
                }
                assert_eq!(parsed as u64, count);
            };
            bencher.iter_batched_ref(|| bytes.clone(), parse, PREPARED);
        });
    }
}

fn encode(criterion: &mut Criterion, wire: &Wire) {
    let mut codec = codec(wire);
    let mut bytes = BytesMut::new();
    for size in SIZES {
        let payload = vec![b'x'; size];
        let mut group = criterion.benchmark_group(format!("wire/encode/{wire}"));
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                bytes.clear();
                let encoded = codec.encode(kind(wire), 32, black_box(&payload), &mut bytes);
                encoded.expect("the payload fits");
            });
        });
        group.finish();
        let mut group = criterion.benchmark_group(format!("wire/framing/{wire}"));
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| codec.framing(kind(wire), 32, black_box(&payload)));
        });
        group.finish();
    }
}
