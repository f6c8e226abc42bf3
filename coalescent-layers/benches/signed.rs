//! The cost of signing and verifying a message, against the bare signature.
//!
//! `sign`: `bare` signs a body of so many bytes with `ring`; `plain` and `signed` encode a message
//! with such a body, without and with a signature. `verify`: `bare` verifies such a signature;
//! `plain` calls a courier around a service that does nothing with messages that nobody has signed,
//! `unsigned` has a `Signed` between, `signed` gives that new signed messages, and `replayed` the
//! same one again.

use std::future::ready;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use coalescent_core::codec::Codec;
use coalescent_core::identity::Identity;
use coalescent_core::test_util::{self, Driver};
use coalescent_core::wire::Kind;
use coalescent_core::{BoxError, Config, Frame, PeerService, Peers, Plugin, Reply};
use coalescent_layers::{Courier, Signed};
use criterion::{BenchmarkId, Criterion, Throughput};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use tower_layer::Layer;

const SIZES: [usize; 2] = [64, 1024];

/// How many messages are signed ahead of being measured.
const AHEAD: u64 = 1024;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    for (name, courier) in [("msgpack", Courier::new()), ("json", Courier::json())] {
        for size in SIZES {
            // Text, so that its length is that of the body but for a few bytes.
            let body = "x".repeat(size);
            sign(&mut criterion, name, &courier, &body);
            verify(&mut criterion, name, &courier, &body);
        }
    }
    criterion.final_summary();
}

fn pair() -> Ed25519KeyPair {
    match Ed25519KeyPair::from_seed_unchecked(&[7; 32]) {
        Ok(pair) => pair,
        Err(error) => panic!("32 bytes are a key: {error}"),
    }
}

/// The codec of a node that signs.
fn signs(courier: &Courier) -> Arc<Codec> {
    let signed = Signed::new().by(Identity::generate());
    let node = Peers::with_plugins(Config::default(), [courier as &dyn Plugin, &signed]);
    match node.codec() {
        Ok(codec) => codec,
        Err(error) => panic!("there is a courier: {error}"),
    }
}

fn encode(codec: &Codec, number: u64, body: &str) -> Bytes {
    match codec.encode_body("chat", &(number, body)) {
        Ok(payload) => payload,
        Err(error) => panic!("it can be encoded: {error}"),
    }
}

fn sign(criterion: &mut Criterion, name: &str, courier: &Courier, body: &str) {
    let mut group = criterion.benchmark_group(format!("sign/{name}"));
    group.throughput(Throughput::Elements(1));
    let id = |what| BenchmarkId::new(what, body.len());
    let pair = pair();
    group.bench_function(id("bare"), |bencher| {
        bencher.iter(|| pair.sign(black_box(body.as_bytes())));
    });
    for (what, codec) in [
        ("plain", Arc::new(courier.codec().clone())),
        ("signed", signs(courier)),
    ] {
        let mut number = 0;
        group.bench_function(id(what), |bencher| {
            bencher.iter(|| {
                number += 1;
                encode(&codec, number, black_box(body))
            });
        });
    }
}

fn verify(criterion: &mut Criterion, name: &str, courier: &Courier, body: &str) {
    let mut group = criterion.benchmark_group(format!("verify/{name}"));
    group.throughput(Throughput::Elements(1));
    let id = |what| BenchmarkId::new(what, body.len());
    let pair = pair();
    let signature = pair.sign(body.as_bytes());
    let key = UnparsedPublicKey::new(&ED25519, pair.public_key().as_ref());
    group.bench_function(id("bare"), |bencher| {
        bencher.iter(|| key.verify(black_box(body.as_bytes()), signature.as_ref()));
    });

    let plain = courier.codec().clone();
    let peer = test_util::peer(&Peers::new(Config::default()));
    let nothing = || tower::service_fn(|_: Frame| ready(Ok::<_, BoxError>(Reply::None)));
    let checks = || courier.layer(Signed::new().layer(nothing()));
    let mut driver = Driver::new(&peer, courier.layer(nothing()));
    group.bench_function(id("plain"), |bencher| {
        bencher.iter_custom(|count| {
            measure(&mut driver, count, |number| encode(&plain, number, body))
        });
    });
    let mut driver = Driver::new(&peer, checks());
    group.bench_function(id("unsigned"), |bencher| {
        bencher.iter_custom(|count| {
            measure(&mut driver, count, |number| encode(&plain, number, body))
        });
    });
    let codec = signs(courier);
    let layer = Signed::new();
    let mut driver = Driver::new(&peer, courier.layer(layer.layer(nothing())));
    let mut next = 0;
    group.bench_function(id("signed"), |bencher| {
        bencher.iter_custom(|count| {
            measure(&mut driver, count, |_| {
                next += 1;
                encode(&codec, next, body)
            })
        });
    });
    assert_eq!(layer.stats().valid, next, "all of them were fresh");
    let again = encode(&codec, 0, body);
    let mut driver = Driver::new(&peer, checks());
    group.bench_function(id("replayed"), |bencher| {
        bencher.iter_custom(|count| measure(&mut driver, count, |_| again.clone()));
    });
}

/// Measures the calls with so many payloads, which are made beforehand.
fn measure<S: PeerService>(
    driver: &mut Driver<S>,
    count: u64,
    mut payload: impl FnMut(u64) -> Bytes,
) -> Duration {
    let mut spent = Duration::ZERO;
    let mut left = count;
    while left > 0 {
        let part = left.min(AHEAD);
        let payloads: Vec<_> = (left - part..left).map(&mut payload).collect();
        left -= part;
        let begun = Instant::now();
        for (nonce, payload) in payloads.into_iter().enumerate() {
            let nonce = nonce as u64;
            let reply = driver.call(Kind::Broadcast { nonce }, payload);
            assert!(black_box(reply).is_ok());
        }
        spent += begun.elapsed();
    }
    spent
}
