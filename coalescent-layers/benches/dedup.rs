//! The cost of duplicate detection in [`SmartRelay`]: hashing a frame and remembering the hash.
//!
//! Measured through the whole layer around a service that does nothing. `empty`: [`FIRST`] new
//! frames into an empty set, which grows. `full`: new frames into a full set, each evicting the
//! oldest. `copy`: copies of the [`FIRST`] newest frames of a full set.

use std::future::ready;
use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use coalescent_core::test_util::{self, Driver};
use coalescent_core::wire::Kind;
use coalescent_core::{BoxError, Config, Frame, Peer, PeerService, Peers, Reply};
use coalescent_layers::SmartRelay;
use criterion::{BenchmarkId, Criterion, Throughput};
use tower_layer::Layer;

const SIZES: [usize; 3] = [64, 1024, 64 * 1024];

/// Number of frames sent into an empty set, and of frames sent again.
const FIRST: u64 = 1024;

/// Number of frames that fill the set, which is made small so that filling it takes little time.
const FULL: u64 = 200_000;

fn small() -> SmartRelay {
    SmartRelay::new().capacity(64 * 1024)
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let peer = test_util::peer(&Peers::new(Config::default()));
    for size in SIZES {
        let payload = Bytes::from(vec![b'x'; size]);
        empty(&mut criterion, &peer, &payload);
        full(&mut criterion, &peer, &payload);
        copy(&mut criterion, &peer, &payload);
    }
    criterion.final_summary();
}

fn empty(criterion: &mut Criterion, peer: &Peer, payload: &Bytes) {
    let mut group = criterion.benchmark_group("dedup/empty");
    group.throughput(Throughput::Elements(1));
    group.bench_function(BenchmarkId::from_parameter(payload.len()), |bencher| {
        bencher.iter_custom(|frames| {
            let mut spent = Duration::ZERO;
            let mut left = frames;
            while left > 0 {
                let count = left.min(FIRST);
                left -= count;
                let mut driver = driver(peer, &SmartRelay::new());
                let begun = Instant::now();
                insert(&mut driver, 0..count, payload);
                spent += begun.elapsed();
                assert_eq!(driver.relayed(), count);
            }
            spent
        });
    });
}

fn full(criterion: &mut Criterion, peer: &Peer, payload: &Bytes) {
    let relay = small();
    let mut driver = driver(peer, &relay);
    insert(&mut driver, 0..FULL, payload);
    let mut group = criterion.benchmark_group("dedup/full");
    group.throughput(Throughput::Elements(1));
    group.bench_function(BenchmarkId::from_parameter(payload.len()), |bencher| {
        bencher.iter_custom(|frames| {
            let next = driver.relayed();
            let begun = Instant::now();
            insert(&mut driver, next..next + frames, payload);
            let spent = begun.elapsed();
            assert_eq!(driver.relayed(), next + frames);
            assert!(relay.seen().evicted_young > 0);
            spent
        });
    });
}

fn copy(criterion: &mut Criterion, peer: &Peer, payload: &Bytes) {
    const NEWEST: u64 = FULL - FIRST;
    let mut driver = driver(peer, &small());
    insert(&mut driver, 0..FULL, payload);
    let mut group = criterion.benchmark_group("dedup/copy");
    group.throughput(Throughput::Elements(1));
    group.bench_function(BenchmarkId::from_parameter(payload.len()), |bencher| {
        bencher.iter_custom(|frames| {
            let begun = Instant::now();
            let mut left = frames;
            while left > 0 {
                let count = left.min(FIRST);
                left -= count;
                insert(&mut driver, NEWEST..NEWEST + count, payload);
            }
            let spent = begun.elapsed();
            assert_eq!(driver.relayed(), FULL);
            spent
        });
    });
}

fn driver(peer: &Peer, relay: &SmartRelay) -> Driver<impl PeerService + use<>> {
    let nothing = tower::service_fn(|_: Frame| ready(Ok::<_, BoxError>(Reply::None)));
    Driver::new(peer, relay.layer(nothing))
}

/// Sends the relay one frame for each nonce.
fn insert<S: PeerService>(driver: &mut Driver<S>, nonces: std::ops::Range<u64>, payload: &Bytes) {
    for nonce in nonces {
        let reply = driver.call(Kind::Broadcast { nonce }, payload.clone());
        assert!(black_box(reply).is_ok());
    }
}
