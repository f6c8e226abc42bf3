//! Measures encoding and decoding of the courier's envelope, in both formats.
//!
//! A `text` body is one long string, which the scan skips in one step. `records` are many small
//! values, each of which is scanned.

use std::hint::black_box;
use std::time::Duration;

use coalescent_core::codec::Codec;
use criterion::{BenchmarkId, Criterion, Throughput};
use serde::Serialize;

/// The lengths of the payloads, in bytes; upper bounds for records.
const SIZES: [usize; 3] = [64, 1024, 64 * 1024];

const KIND: &str = "reading";

#[derive(Clone, Serialize)]
struct Record {
    id: u16,
    value: f64,
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    for (name, codec) in [("msgpack", Codec::msgpack()), ("json", Codec::json())] {
        for size in SIZES {
            measure(
                &mut criterion,
                &codec,
                &format!("{name}/text"),
                size,
                &text(&codec, size),
            );
            let records = records(&codec, size);
            measure(
                &mut criterion,
                &codec,
                &format!("{name}/records"),
                size,
                &records,
            );
        }
    }
    criterion.final_summary();
}

fn measure<T: Serialize>(c: &mut Criterion, codec: &Codec, name: &str, size: usize, body: &T) {
    let payload = codec.encode_body(KIND, body).expect("a good body");
    let mut group = c.benchmark_group(format!("codec/decode/{name}"));
    group.throughput(Throughput::Bytes(payload.len() as u64));
    group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
        bencher.iter(|| codec.decode(black_box(&payload)).expect("a message"));
    });
    group.finish();
    let mut group = c.benchmark_group(format!("codec/encode/{name}"));
    group.throughput(Throughput::Bytes(payload.len() as u64));
    group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
        bencher.iter(|| codec.encode_body(KIND, black_box(body)));
    });
    group.finish();
}

fn len<T: Serialize + ?Sized>(codec: &Codec, body: &T) -> usize {
    codec.encode_body(KIND, body).expect("a good body").len()
}

fn text(codec: &Codec, size: usize) -> String {
    let around = len(codec, &"x".repeat(size)) - size;
    let mut text = "x".repeat(size - around);
    // The length field of a shorter string may be shorter.
    let missing = size - len(codec, &text);
    text.push_str(&"x".repeat(missing));
    text
}

fn records(codec: &Codec, size: usize) -> Vec<Record> {
    let record = Record {
        id: 300,
        value: 20.25,
    };
    let len = |count| len(codec, &vec![record.clone(); count]);
    let (empty, each) = (len(0), len(2) - len(1));
    // The length field of a long list takes two more bytes.
    vec![record; (size - empty - 2) / each]
}
