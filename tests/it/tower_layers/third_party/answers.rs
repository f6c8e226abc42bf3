//! Caches, fallbacks, retries and chaos: what answers in place of the handler, or once more.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bytes::Bytes;
use coalescent::extract::Body;
use coalescent::test_util::Recorder;
use coalescent::{
    App, AppExt, BoxError, Courier, Event, Frame, Message, Refusal, Reply, Router, SmartRelay, ends,
};
use tokio::time::Instant;
use tower::util::MapErrLayer;
use tower_resilience_cache::CacheLayer;
use tower_resilience_chaos::ChaosLayer;
use tower_resilience_fallback::{FallbackError, FallbackLayer};
use tower_resilience_retry::RetryLayer;

use super::support::{Handler, refused};
use crate::tower_layers::support::{ask, handle, node};

const SECOND: Duration = Duration::from_secs(1);

/// A router that squares numbers and counts how often.
fn squares(calls: &Arc<AtomicUsize>) -> Router {
    let calls = Arc::clone(calls);
    Router::new().route(
        "square",
        ends(async move |Body(number): Body<u64>| {
            calls.fetch_add(1, SeqCst);
            Message::new("squared", &(number * number))
        }),
    )
}

async fn squared(peer: &Recorder, number: u64) -> u64 {
    let reply = peer.request("square", &number).await.unwrap();
    assert_eq!(reply.kind(), "squared");
    reply.body().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_cache_around_a_route_answers_equal_requests_of_all_peers() {
    let calls = Arc::new(AtomicUsize::new(0));
    let cache = CacheLayer::builder()
        .max_size(100)
        .key_extractor(Frame::payload_bytes)
        .build()
        .unwrap();
    let app = App::new()
        .with(SmartRelay::new())
        .with(Courier::new())
        .with(squares(&calls).layer(cache));
    let (mesh, alice) = node(app).await;
    let bob = Recorder::join(&mesh).await;
    for peer in [&alice, &alice, &bob] {
        assert_eq!(squared(peer, 7).await, 49);
    }
    assert_eq!(calls.load(SeqCst), 1);
    assert_eq!(squared(&bob, 8).await, 64);
    assert_eq!(calls.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_cache_of_the_stack_is_each_peers_unless_it_is_shared() {
    fn cache() -> CacheLayer<Frame, Bytes> {
        CacheLayer::builder()
            .key_extractor(Frame::payload_bytes)
            .build()
            .unwrap()
    }
    for (shared, expected) in [(false, 2), (true, 1)] {
        let handler = Handler::default();
        let asked = async |mesh: &coalescent::Mesh, alice: &Recorder| {
            let bob = Recorder::join(mesh).await;
            for peer in [alice, alice, &bob, &bob] {
                assert_eq!(ask(peer.peer(), "please").await.unwrap(), "please");
            }
        };
        if shared {
            let app = App::new()
                .layer(cache().shared::<Reply>())
                .layer(handler.clone());
            let (mesh, alice) = node(app).await;
            asked(&mesh, &alice).await;
        } else {
            let app = App::new().layer(cache()).layer(handler.clone());
            let (mesh, alice) = node(app).await;
            asked(&mesh, &alice).await;
        }
        assert_eq!(handler.calls(), expected, "shared: {shared}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cache_keeps_no_errors() {
    let handler = Handler::broken();
    let cache = CacheLayer::builder()
        .key_extractor(Frame::payload_bytes)
        .build()
        .unwrap();
    let (_mesh, alice) = node(App::new().layer(cache).layer(handler.clone())).await;
    for _ in 0..2 {
        assert_eq!(refused(alice.peer()).await, "inner service error: broken");
    }
    handler.mend();
    assert_eq!(ask(alice.peer(), "please").await.unwrap(), "please");
    assert_eq!(handler.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_fallback_answers_requests_in_place_of_an_error() {
    let apology = FallbackLayer::from_request_error(|frame: &Frame, error: &BoxError| -> Reply {
        let text = format!("sorry: {error}");
        frame.is_request().then(|| Bytes::from(text)).into()
    });
    let handler = Handler::broken();
    let app = App::new()
        .with(SmartRelay::new())
        .layer(MapErrLayer::new(FallbackError::<BoxError>::into_inner))
        .layer(apology)
        .layer(handler.clone());
    let (mesh, mut alice) = node(app).await;
    let mut events = mesh.events();
    assert_eq!(ask(alice.peer(), "please").await.unwrap(), "sorry: broken");
    // Nobody waits for an answer to a broadcast.
    let _ = alice.mesh().broadcast_payload("news").await.unwrap();
    alice.expect_nothing().await;
    handler.mend();
    assert_eq!(ask(alice.peer(), "please").await.unwrap(), "please");
    assert_eq!(handler.calls(), 3);
    // The errors are gone, so the node does not hear of them either.
    mesh.shutdown().await;
    while let Some(event) = events.next().await {
        assert!(!matches!(event, Event::Error { .. }), "{event:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fallback_to_a_value_writes_it_to_peers_that_asked_nothing() {
    let apology = FallbackLayer::value(Reply::Payload(Bytes::from_static(b"sorry")));
    let app = App::new()
        .layer(MapErrLayer::new(FallbackError::<BoxError>::into_inner))
        .layer(apology)
        .layer(Handler::broken());
    let (_mesh, mut alice) = node(app).await;
    let _ = alice.mesh().broadcast_payload("news").await.unwrap();
    let frame = alice.expect_frame().await;
    assert_eq!(frame.payload(), b"sorry");
    assert!(!frame.is_broadcast());
}

#[tokio::test(start_paused = true)]
async fn a_fallback_can_be_another_service() {
    let backup = FallbackLayer::service(|frame: Frame| async move {
        Ok::<_, BoxError>(Reply::Payload(frame.into_payload()))
    });
    let app = App::new().layer(backup).layer(Handler::broken());
    let (_mesh, alice) = node(app).await;
    assert_eq!(ask(alice.peer(), "please").await.unwrap(), "please");
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_between_tries_and_leaves_refusals_alone() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let fails_twice = handle(move |frame: Frame| {
        let call = counted.fetch_add(1, SeqCst);
        async move {
            if frame.payload() == b"impossible" {
                return Err(BoxError::from(Refusal::new("no")));
            }
            if call < 2 {
                return Err("not yet".into());
            }
            Ok(Reply::Payload(frame.into_payload()))
        }
    });
    let retry = RetryLayer::builder()
        .max_attempts(3)
        .fixed_backoff(SECOND)
        .retry_on(|error: &BoxError| !error.is::<Refusal>())
        .build();
    let app = App::new()
        .with(SmartRelay::new())
        .layer(retry)
        .layer(fails_twice);
    let (_mesh, alice) = node(app).await;
    let asked = Instant::now();
    assert_eq!(ask(alice.peer(), "please").await.unwrap(), "please");
    assert_eq!(calls.swap(0, SeqCst), 3);
    assert!(asked.elapsed() >= 2 * SECOND);
    let error = ask(alice.peer(), "impossible").await.unwrap_err();
    assert_eq!(error.peer_reason(), Some("no"));
    assert_eq!(calls.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn chaos_fails_some_calls_the_same_for_each_peer() {
    let chaos = ChaosLayer::builder()
        .seed(7)
        .error_rate(0.5)
        .error_fn(|frame: &Frame| {
            BoxError::from(format!("chaos took {} bytes", frame.payload().len()))
        })
        .build();
    let handler = Handler::default();
    let app = App::new()
        .with(SmartRelay::new())
        .layer(chaos)
        .layer(handler.clone());
    let (mesh, alice) = node(app).await;
    let bob = Recorder::join(&mesh).await;
    let mut fates = Vec::new();
    for peer in [&alice, &bob] {
        let mut fate = Vec::new();
        for _ in 0..40 {
            fate.push(match ask(peer.peer(), "please").await {
                Ok(_) => true,
                Err(error) => {
                    assert_eq!(error.peer_reason(), Some("chaos took 6 bytes"));
                    false
                }
            });
        }
        fates.push(fate);
    }
    // The seed is each connection's, so what befalls a peer can be repeated.
    assert_eq!(fates[0], fates[1]);
    let passed = fates[0].iter().filter(|passed| **passed).count();
    assert!((5..35).contains(&passed), "{passed} of 40");
    assert_eq!(handler.calls(), 2 * passed);
    assert_eq!(mesh.peers().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn chaos_delays_calls() {
    let chaos = ChaosLayer::builder()
        .latency_rate(1.0)
        .min_latency(2 * SECOND)
        .max_latency(3 * SECOND)
        .build();
    let handler = Handler::default();
    let (_mesh, alice) = node(App::new().layer(chaos).layer(handler.clone())).await;
    let asked = Instant::now();
    assert_eq!(ask(alice.peer(), "please").await.unwrap(), "please");
    assert!((2 * SECOND..4 * SECOND).contains(&asked.elapsed()));
}
