//! What can be built, and does not do what its name promises.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use coalescent::{App, AppExt, BoxError, Frame, Reply, SmartRelay};
use tower::hedge::{Hedge, Policy};
use tower::layer::layer_fn;
use tower_resilience_cache::CacheLayer;

use super::support::Handler;
use crate::tower_layers::support::{ask, handle, idle, node};

#[tokio::test(start_paused = true)]
async fn a_cache_keeps_broadcasts_and_messages_from_who_is_to_hear_them() {
    let handler = Handler::default();
    let cache = CacheLayer::builder()
        .key_extractor(Frame::payload_bytes)
        .build()
        .unwrap();
    let (_mesh, alice) = node(App::new().layer(cache).layer(handler.clone())).await;
    for _ in 0..3 {
        let _ = alice.mesh().broadcast_payload("tick").await.unwrap();
        alice.send_payload("tock").await;
    }
    idle().await;
    assert_eq!(handler.calls(), 2, "one tick and one tock of three");
    // What a broadcast has put there is no answer to a request.
    let error = ask(alice.peer(), "tick").await.unwrap_err();
    assert!(error.is_no_answer(), "{error}");
}

#[derive(Clone)]
struct Always;

impl Policy<Frame> for Always {
    fn clone_request(&self, frame: &Frame) -> Option<Frame> {
        Some(frame.clone())
    }

    fn can_retry(&self, _: &Frame) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn a_hedge_around_a_stack_asks_the_same_handler_twice_and_gives_up_broadcasts() {
    let (calls, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, finished) = (Arc::clone(&calls), Arc::clone(&done));
    let handler = handle(move |frame: Frame| {
        counted.fetch_add(1, SeqCst);
        let finished = Arc::clone(&finished);
        async move {
            let slow = frame.payload() == b"slow";
            tokio::time::sleep(Duration::from_millis(if slow { 500 } else { 10 })).await;
            finished.fetch_add(1, SeqCst);
            let answer = frame.is_request().then(|| frame.into_payload());
            Ok::<Reply, BoxError>(answer.into())
        }
    });
    // It is not `Clone`, and so outermost.
    let hedge = layer_fn(|inner| Hedge::new(inner, Always, 1, 0.5, Duration::from_secs(1)));
    let app = App::new()
        .layer(hedge)
        .with(SmartRelay::new())
        .layer(handler);
    let (_mesh, alice) = node(app).await;
    // It learns how long calls take.
    for _ in 0..20 {
        assert_eq!(ask(alice.peer(), "quick").await.unwrap(), "quick");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    calls.store(0, SeqCst);
    assert_eq!(ask(alice.peer(), "slow").await.unwrap(), "slow");
    assert_eq!(calls.swap(0, SeqCst), 2, "the node has nobody else to ask");

    // The relay takes the second call for a copy and is done at once, so the first is given up.
    done.store(0, SeqCst);
    let _ = alice.mesh().broadcast_payload("slow").await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((calls.load(SeqCst), done.load(SeqCst)), (1, 0));
}
