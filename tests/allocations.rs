//! How many heap allocations a frame costs: on its way through a whole stack, and from socket to
//! socket through a hub.
//!
//! A binary of its own: counting allocations takes a global allocator.

use std::sync::Arc;
use std::thread;

use coalescent::codec::Codec;
use coalescent::test_util::{self, Driver};
use coalescent::wire::Kind;
use coalescent::{
    App, AppExt, CatchPanic, Config, Courier, Message, PeerLayer, Peers, Router, SmartRelay,
    Tattletale, TraceContext,
};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Barrier;
use tower::ServiceBuilder;

/// How many allocations each frame costs with a message of type "ping" in a stack of all layers
/// around an inbox that nobody reads.
fn count(router: Router) -> u64 {
    const FRAMES: u64 = 1000;
    let peers = Peers::new(Config::default());
    let stack = ServiceBuilder::new()
        .layer(SmartRelay::new().capacity(64))
        .layer(Courier::new())
        .layer(TraceContext::new())
        .layer(CatchPanic::new())
        .layer(router)
        .service(peers.inbox());
    let mut driver = Driver::new(&test_util::peer(&peers), stack);
    let payload = Codec::msgpack().encode_body("ping", &1);
    let payload = payload.expect("a good body");
    let mut nonce = 0;
    let mut calls = |count| {
        for _ in 0..count {
            nonce += 1;
            let reply = driver.call(Kind::Broadcast { nonce }, payload.clone());
            assert!(reply.is_ok());
        }
        assert_eq!(driver.relayed(), nonce);
    };
    calls(FRAMES);
    let counted = allocation_counter::measure(|| calls(FRAMES));
    assert_eq!(counted.count_total % FRAMES, 0, "each frame costs the same");
    counted.count_total / FRAMES
}

#[test]
fn a_whole_stack_allocates_nothing_without_a_handler() {
    assert_eq!(count(Router::new().route("pong", async || {})), 0);
}

#[test]
fn a_whole_stack_allocates_once_where_a_handler_is_called() {
    assert_eq!(count(Router::new().route("ping", async || {})), 1);
}

#[test]
fn a_whole_stack_allocates_no_more_for_a_short_message_that_a_handler_answers() {
    let pong = async || Message::new("pong", &2);
    assert_eq!(count(Router::new().route("ping", pong)), 1);
}

/// How many frames are sent before all who listen have got them. Much less than an outbox holds, so
/// that no relay has to drop one.
const BURST: usize = 10_000;

const BURSTS: usize = 10;

/// Relays broadcasts of 64 bytes from one peer to two others, over loopback, through a hub on a
/// thread of its own, and counts the allocations of that thread for each frame: once it is warm.
fn allocations_of_hub(app: App<impl PeerLayer>) -> f64 {
    let runtime = runtime();
    let hub = runtime.block_on(app.listen("127.0.0.1:0"));
    let hub = hub.expect("a free port");
    let addr = hub.local_addrs()[0].to_string();
    let phase = Arc::new(Barrier::new(2));
    let peers = thread::spawn({
        let phase = phase.clone();
        move || self::runtime().block_on(publish(&addr, &phase))
    });
    runtime.block_on(phase.wait());
    let before = hub.stats();
    let counted = allocation_counter::measure(|| {
        runtime.block_on(phase.wait());
    });
    let after = hub.stats();
    peers.join().expect("all frames arrive");
    assert_eq!(after.relayed, 2 * (BURST * (1 + BURSTS)) as u64);
    assert_eq!(after.dropped, 0);
    counted.count_total as f64 / (after.received - before.received) as f64
}

fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

/// Sends bursts from one peer of the hub to its others: one to warm up, and those that count.
async fn publish(addr: &str, phase: &Barrier) {
    let peer = async || {
        let mesh = App::new().start().await.expect("it listens nowhere");
        mesh.connect(addr).await.expect("the hub listens");
        mesh
    };
    let (publisher, one, other) = (peer().await, peer().await, peer().await);
    let mut readers = [one.reader(), other.reader()];
    let payload = bytes::Bytes::from(vec![b'x'; 64]);
    let mut burst = async || {
        for _ in 0..BURST {
            let _ = publisher.broadcast_payload(payload.clone()).await.unwrap();
        }
        for reader in &mut readers {
            for _ in 0..BURST {
                reader.next_frame().await.expect("the mesh runs");
            }
        }
    };
    burst().await;
    phase.wait().await;
    for _ in 0..BURSTS {
        burst().await;
    }
    phase.wait().await;
}

#[test]
fn a_hub_of_tattletale_allocates_for_runs_and_not_for_frames() {
    let each = allocations_of_hub(App::new().with(Tattletale::new()));
    assert!(each < 0.05, "{each} allocations a frame");
}

#[test]
fn a_hub_of_smart_relay_allocates_for_runs_and_not_for_frames() {
    // Small, so that it is full before the frames are counted.
    let relay = SmartRelay::new().capacity(BURST / 2);
    let each = allocations_of_hub(App::new().with(relay));
    assert!(each < 0.05, "{each} allocations a frame");
}
