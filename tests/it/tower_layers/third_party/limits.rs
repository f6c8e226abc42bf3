//! Bulkheads, rate limiters and time limiters.

use std::time::Duration;

use coalescent::test_util::{MemoryMesh, Recorder};
use coalescent::{App, AppExt, Courier, Frame, Message, Router, SmartRelay, ends};
use tower::{Layer, Service};
use tower_resilience_bulkhead::BulkheadLayer;
use tower_resilience_ratelimiter::RateLimiterLayer;
use tower_resilience_timelimiter::TimeLimiterLayer;

use super::support::{Handler, reason, refused};
use crate::tower_layers::support::{Gate, ask, idle, node};

const MINUTE: Duration = Duration::from_secs(60);
const FULL: &str = "timeout waiting for bulkhead permit";
const TOO_MUCH: &str = "rate limit exceeded";

#[tokio::test(start_paused = true)]
async fn a_bulkhead_refuses_the_call_for_which_there_is_no_room() {
    let gate = Gate::new(0);
    let bulkhead = BulkheadLayer::builder()
        .max_concurrent_calls(2)
        .reject_when_full()
        .build()
        .unwrap();
    let app = App::new()
        .with(SmartRelay::new())
        .layer(bulkhead)
        .layer(gate.clone());
    let (mesh, alice) = node(app).await;
    let bob = Recorder::join(&mesh).await;
    let (first, second, ()) = tokio::join!(
        ask(alice.peer(), "first"),
        ask(alice.peer(), "second"),
        async {
            gate.filled(2).await;
            assert_eq!(refused(alice.peer()).await, FULL);
            // The room of another peer is another.
            let (his, ()) = tokio::join!(ask(bob.peer(), "his"), async {
                gate.filled(3).await;
                gate.let_through(3);
            });
            assert_eq!(his.unwrap(), "his");
        }
    );
    assert_eq!(
        (first.unwrap(), second.unwrap()),
        ("first".to_owned(), "second".to_owned())
    );
    gate.let_through(1);
    assert_eq!(ask(alice.peer(), "next").await.unwrap(), "next");
    assert_eq!(mesh.peers().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_with_a_handle_is_shared_by_all_peers() {
    let gate = Gate::new(0);
    let (bulkhead, rooms) = BulkheadLayer::builder()
        .max_concurrent_calls(2)
        .reject_when_full()
        .build_with_handle()
        .unwrap();
    let (mesh, alice) = node(App::new().layer(bulkhead).layer(gate.clone())).await;
    let bob = Recorder::join(&mesh).await;
    let (first, second, ()) = tokio::join!(
        ask(alice.peer(), "first"),
        ask(alice.peer(), "second"),
        async {
            gate.filled(2).await;
            assert_eq!(rooms.active_calls(), 2);
            assert_eq!(refused(bob.peer()).await, FULL);
            gate.let_through(3);
        }
    );
    assert!(first.is_ok() && second.is_ok());
    assert_eq!(ask(bob.peer(), "his").await.unwrap(), "his");
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_with_backpressure_makes_calls_wait() {
    let gate = Gate::new(0);
    let (bulkhead, rooms) = BulkheadLayer::builder()
        .max_concurrent_calls(1)
        .backpressure()
        .build_with_handle()
        .unwrap();
    let (mesh, alice) = node(App::new().layer(bulkhead).layer(gate.clone())).await;
    let bob = Recorder::join(&mesh).await;
    let (hers, his, ()) = tokio::join!(ask(alice.peer(), "hers"), ask(bob.peer(), "his"), async {
        gate.filled(1).await;
        gate.let_through(2);
    });
    assert_eq!(
        (hers.unwrap(), his.unwrap()),
        ("hers".to_owned(), "his".to_owned())
    );
    assert_eq!(gate.most(), 1);
    // No permit stays with a peer that sends nothing.
    idle().await;
    assert_eq!(rooms.active_calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_rate_limiter_inside_of_a_relay_refuses_what_is_handled_and_not_what_is_relayed() {
    let nodes = MemoryMesh::new(3)
        .line()
        .start(|_, app| {
            let two_a_minute = RateLimiterLayer::builder()
                .limit_for_period(2)
                .refresh_period(MINUTE)
                .timeout_duration(Duration::ZERO)
                .build()
                .unwrap();
            app.with(SmartRelay::new())
                .layer(two_a_minute)
                .layer(Handler::default())
        })
        .await;
    for number in 0..5 {
        let _ = nodes[0]
            .broadcast_payload(number.to_string())
            .await
            .unwrap();
    }
    nodes.settled().await;
    assert_eq!(nodes[2].stats().received, 5, "relayed");
    let peer = nodes.peer(0, 1);
    assert_eq!(refused(&peer).await, TOO_MUCH);
    tokio::time::sleep(MINUTE).await;
    for _ in 0..2 {
        assert_eq!(ask(&peer, "please").await.unwrap(), "please");
    }
    assert_eq!(refused(&peer).await, TOO_MUCH);
    assert_eq!(nodes[1].peers().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_rate_limiter_is_each_peers_and_with_a_handle_the_nodes() {
    let builder = || {
        RateLimiterLayer::builder()
            .limit_for_period(1)
            .refresh_period(MINUTE)
            .timeout_duration(Duration::ZERO)
    };
    let handler = Handler::default();
    let app = App::new()
        .layer(builder().build().unwrap())
        .layer(handler.clone());
    let (mesh, alice) = node(app).await;
    let bob = Recorder::join(&mesh).await;
    assert!(ask(alice.peer(), "hers").await.is_ok());
    assert_eq!(refused(alice.peer()).await, TOO_MUCH);
    assert!(ask(bob.peer(), "his").await.is_ok());

    let (shared, rate) = builder().build_with_handle().unwrap();
    let (mesh, alice) = node(App::new().layer(shared).layer(handler.clone())).await;
    let bob = Recorder::join(&mesh).await;
    assert!(ask(alice.peer(), "hers").await.is_ok());
    assert_eq!(rate.available_permits(), 0);
    assert_eq!(refused(bob.peer()).await, TOO_MUCH);
}

#[tokio::test(start_paused = true)]
async fn a_rate_limiter_may_wait_for_the_next_period() {
    let one_a_minute = RateLimiterLayer::builder()
        .limit_for_period(1)
        .refresh_period(MINUTE)
        .timeout_duration(MINUTE / 6)
        .build()
        .unwrap();
    let handler = Handler::default();
    let (_mesh, alice) = node(App::new().layer(one_a_minute).layer(handler.clone())).await;
    assert!(ask(alice.peer(), "first").await.is_ok());
    tokio::time::sleep(MINUTE - Duration::from_secs(5)).await;
    let asked = tokio::time::Instant::now();
    assert_eq!(ask(alice.peer(), "second").await.unwrap(), "second");
    assert!(asked.elapsed() > Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn a_time_limiter_answers_for_a_handler_that_is_too_slow_and_drops_it() {
    let gate = Gate::new(0);
    // As long as the payload says, in seconds.
    let limiter = TimeLimiterLayer::builder()
        .timeout_fn(|frame: &Frame| {
            let text = std::str::from_utf8(frame.payload()).unwrap_or_default();
            Duration::from_secs(text.parse().unwrap_or(1))
        })
        .build();
    let app = App::new()
        .with(SmartRelay::new())
        .layer(limiter)
        .layer(gate.clone());
    let (mesh, alice) = node(app).await;
    let (short, long, ()) = tokio::join!(ask(alice.peer(), "2"), ask(alice.peer(), "20"), async {
        gate.filled(2).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        gate.filled(1).await;
        gate.let_through(1);
    });
    assert_eq!(reason(short), "request timed out");
    assert_eq!(long.unwrap(), "20");
    assert_eq!(mesh.peers().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_time_limiter_can_leave_the_handler_running() {
    let gate = Gate::new(0);
    let limiter = TimeLimiterLayer::builder()
        .timeout_duration(Duration::from_secs(1))
        .cancel_running_future(false)
        .build();
    let (_mesh, alice) = node(App::new().layer(limiter).layer(gate.clone())).await;
    assert_eq!(refused(alice.peer()).await, "request timed out");
    gate.filled(1).await;
    gate.let_through(1);
    gate.filled(0).await;
    assert_eq!(gate.done(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_around_a_route_leaves_the_other_routes_alone() {
    let gate = Gate::new(0);
    let held = gate.clone();
    let work = move |frame: Frame| {
        let mut held = held.layer(());
        async move { held.call(frame).await.map(|_| Message::new("done", &())) }
    };
    let bulkhead = BulkheadLayer::builder()
        .max_concurrent_calls(1)
        .reject_when_full()
        .build()
        .unwrap();
    let router = Router::new()
        .route("work", ends(work))
        .layer(bulkhead)
        .route("ping", ends(async || Message::new("pong", &())));
    let (mesh, alice) = node(App::new().with(Courier::new()).with(router)).await;
    let bob = Recorder::join(&mesh).await;
    let (work, ()) = tokio::join!(alice.request("work", &()), async {
        gate.filled(1).await;
        // All peers share it.
        assert_eq!(reason(bob.request("work", &()).await), FULL);
        assert_eq!(bob.request("ping", &()).await.unwrap().kind(), "pong");
        gate.let_through(1);
    });
    assert_eq!(work.unwrap().kind(), "done");
}
