//! Retries and chaos outside of a relay and inside, at the node in the middle of three.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use coalescent::test_util::MemoryMesh;
use coalescent::{App, AppExt, BoxError, Frame, PeerLayer, Reply, SmartRelay, Stats, Tattletale};
use tower_resilience_chaos::{ChaosLayer, CustomErrorFn};
use tower_resilience_retry::RetryLayer;

use crate::tower_layers::support::handle;

/// Starts three nodes in a line, broadcasts once from the first, and returns what the middle one
/// and the last have counted.
async fn line<L: PeerLayer>(build: impl Fn(usize, App) -> App<L>) -> (Stats, Stats) {
    let nodes = MemoryMesh::new(3).line().start(build).await;
    let _ = nodes[0].broadcast_payload("news").await.unwrap();
    nodes.settled().await;
    // The tries of a retry are over too.
    tokio::time::sleep(Duration::from_secs(60)).await;
    nodes.settled().await;
    (nodes[1].stats(), nodes[2].stats())
}

fn retry() -> RetryLayer<Frame, Reply, BoxError> {
    RetryLayer::builder()
        .max_attempts(3)
        .fixed_backoff(Duration::from_secs(1))
        .build()
}

/// A handler that fails on its first call, at each node with calls of its own.
macro_rules! fails_once {
    ($calls:expr, $node:expr) => {{
        let calls = Arc::clone(&$calls[$node]);
        handle(move |_| {
            let call = calls.fetch_add(1, SeqCst);
            async move {
                if call == 0 {
                    return Err(BoxError::from("not yet"));
                }
                Ok(Reply::None)
            }
        })
    }};
}

fn calls() -> [Arc<AtomicUsize>; 3] {
    Default::default()
}

#[tokio::test(start_paused = true)]
async fn a_retry_inside_of_a_relay_handles_again_and_relays_once() {
    let calls = calls();
    let (middle, last) = line(|node, app| {
        app.with(SmartRelay::new())
            .layer(retry())
            .layer(fails_once!(calls, node))
    })
    .await;
    assert_eq!(calls[1].load(SeqCst), 2);
    assert_eq!((middle.relayed, last.received), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_retry_outside_of_smart_relay_goes_no_further_than_the_relay() {
    let calls = calls();
    let (middle, last) = line(|node, app| {
        app.layer(retry())
            .with(SmartRelay::new())
            .layer(fails_once!(calls, node))
    })
    .await;
    assert_eq!(calls[1].load(SeqCst), 1);
    assert_eq!(
        (middle.relayed, middle.duplicates, last.received),
        (1, 1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_retry_outside_of_tattletale_handles_again_and_relays_once() {
    let calls = calls();
    let (middle, last) = line(|node, app| {
        app.layer(retry())
            .with(Tattletale::new())
            .layer(fails_once!(calls, node))
    })
    .await;
    assert_eq!(calls[1].load(SeqCst), 2);
    assert_eq!((middle.relayed, last.received), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn chaos_outside_of_a_relay_loses_frames_for_all_and_inside_for_this_node() {
    type Loses = fn(&Frame) -> BoxError;
    fn lossy() -> ChaosLayer<CustomErrorFn<Loses>> {
        let lost: Loses = |_| "lost".into();
        let chaos = ChaosLayer::builder().error_rate(1.0);
        chaos.error_fn::<Frame, BoxError, Loses>(lost).build()
    }
    let calls = calls();
    let (middle, last) = line(|node, app| {
        app.layer(lossy())
            .with(SmartRelay::new())
            .layer(fails_once!(calls, node))
    })
    .await;
    assert_eq!((middle.received, middle.relayed, last.received), (1, 0, 0));
    let (middle, last) = line(|node, app| {
        app.with(SmartRelay::new())
            .layer(lossy())
            .layer(fails_once!(calls, node))
    })
    .await;
    assert_eq!((middle.received, middle.relayed, last.received), (1, 1, 1));
    assert_eq!(calls[1].load(SeqCst), 0, "handled by nobody");
}
