//! How many heap allocations a frame costs on its way through each layer, as a connection calls it.
//!
//! A binary of its own: counting allocations takes a global allocator.

use std::ops::Range;

use coalescent_core::codec::Codec;
use coalescent_core::test_util::{self, Driver};
use coalescent_core::wire::Kind;
use coalescent_core::{Config, PeerLayer, Peers, Verdict};
use coalescent_layers::{CatchPanic, Courier, SmartRelay, Tattletale, TraceContext, Validate};
use tower::ServiceBuilder;

/// How many frames are counted.
const FRAMES: u64 = 10_000;

/// How many come before, so that all that grows has grown.
const WARM: u64 = 100_000;

/// A relay whose set is full before the frames are counted.
fn smart_relay() -> SmartRelay {
    SmartRelay::new().capacity(16 * 1024)
}

/// What became of the frames that were counted.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    allocations: u64,
    relayed: u64,
    delivered: u64,
    duplicates: u64,
}

/// Counts what becomes of broadcasts of one message in the layer around an inbox that nobody reads,
/// once so many have come that all that grows has grown. `nonce` makes each one's nonce of its
/// number.
fn count(layer: impl PeerLayer, codec: &Codec, nonce: fn(u64) -> u64) -> Outcome {
    let peers = Peers::new(Config::default());
    let peer = test_util::peer(&peers);
    let mut driver = Driver::new(&peer, layer.layer(peers.inbox()));
    let payload = codec.encode_body("beep", &["boop"]).expect("a good body");
    let mut call = |numbers: Range<u64>| {
        for number in numbers {
            let nonce = nonce(number);
            let reply = driver.call(Kind::Broadcast { nonce }, payload.clone());
            assert!(reply.is_ok_and(|reply| reply.is_none()));
        }
        (driver.relayed(), peer.stats())
    };
    let (relayed, before) = call(0..WARM);
    let mut after = None;
    let counted = allocation_counter::measure(|| after = Some(call(WARM..WARM + FRAMES)));
    let (relayed_after, after) = after.expect("they were called");
    Outcome {
        allocations: counted.count_total,
        relayed: relayed_after - relayed,
        delivered: after.delivered - before.delivered,
        duplicates: after.duplicates - before.duplicates,
    }
}

/// Frames that came for the first time, each with a nonce of its own.
fn fresh(layer: impl PeerLayer) -> Outcome {
    count(layer, &Codec::msgpack(), |number| number)
}

const DELIVERED: Outcome = Outcome {
    allocations: 0,
    relayed: 0,
    delivered: FRAMES,
    duplicates: 0,
};

const RELAYED: Outcome = Outcome {
    relayed: FRAMES,
    ..DELIVERED
};

#[test]
fn tattletale_allocates_nothing() {
    assert_eq!(fresh(Tattletale::new()), RELAYED);
}

#[test]
fn smart_relay_allocates_nothing_for_a_frame_that_is_new() {
    assert_eq!(fresh(smart_relay()), RELAYED);
}

#[test]
fn smart_relay_allocates_nothing_for_a_copy() {
    let copies = Outcome {
        delivered: 0,
        duplicates: FRAMES,
        ..DELIVERED
    };
    assert_eq!(count(smart_relay(), &Codec::msgpack(), |_| 0), copies);
}

#[test]
fn a_relay_that_waits_for_the_rest_of_the_stack_allocates_twice_to_keep_the_frame() {
    let kept = Outcome {
        allocations: 2 * FRAMES,
        ..RELAYED
    };
    assert_eq!(fresh(Tattletale::new().relay_after()), kept);
    assert_eq!(fresh(smart_relay().relay_after()), kept);
    // So does one that waits for a verdict, which takes nothing more itself.
    let accepts = Validate::sync(|_| Verdict::Accept);
    let layers = ServiceBuilder::new()
        .layer(smart_relay().validated())
        .layer(accepts);
    assert_eq!(fresh(layers.into_inner()), kept);
}

#[test]
fn courier_allocates_nothing() {
    let fresh = |number| number;
    assert_eq!(count(Courier::new(), &Codec::msgpack(), fresh), DELIVERED);
    assert_eq!(count(Courier::json(), &Codec::json(), fresh), DELIVERED);
}

#[test]
fn catch_panic_allocates_nothing() {
    assert_eq!(fresh(CatchPanic::new()), DELIVERED);
}

#[test]
fn trace_context_allocates_nothing_for_a_message_without_a_trace() {
    let layers = ServiceBuilder::new()
        .layer(Courier::new())
        .layer(TraceContext::new());
    assert_eq!(fresh(layers.into_inner()), DELIVERED);
}
