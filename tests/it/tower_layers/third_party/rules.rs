//! Whether the layers obey tower's rules, and coalescent's.

use std::time::Duration;

use coalescent::test_util::Recorder;
use coalescent::test_util::conformance::Conformance;
use coalescent::{App, Frame, Reply};
use tower::limit::GlobalConcurrencyLimitLayer;
use tower_resilience_bulkhead::BulkheadLayer;
use tower_resilience_cache::CacheLayer;
use tower_resilience_chaos::ChaosLayer;
use tower_resilience_circuitbreaker::CircuitBreakerLayer;
use tower_resilience_fallback::FallbackLayer;
use tower_resilience_ratelimiter::RateLimiterLayer;
use tower_resilience_retry::RetryLayer;
use tower_resilience_timelimiter::TimeLimiterLayer;

use super::support::{Handler, until};
use crate::tower_layers::support::{Gate, ask, node};

macro_rules! obeys {
    ($name:ident, $layer:expr) => {
        #[tokio::test(start_paused = true)]
        async fn $name() {
            Conformance::new($layer).check().await;
        }
    };
}

obeys!(
    circuit_breaker,
    CircuitBreakerLayer::builder().build().unwrap()
);
obeys!(bulkhead, BulkheadLayer::builder().build().unwrap());
obeys!(
    bulkhead_with_backpressure,
    BulkheadLayer::builder().backpressure().build().unwrap()
);
obeys!(rate_limiter, RateLimiterLayer::builder().build().unwrap());
obeys!(
    rate_limiter_with_backpressure,
    RateLimiterLayer::builder().backpressure().build().unwrap()
);
obeys!(time_limiter, TimeLimiterLayer::builder().build());
obeys!(
    fallback,
    FallbackLayer::builder()
        .value(Reply::None)
        .handle(|_| false)
        .build()
);
obeys!(
    retry,
    RetryLayer::builder()
        .max_attempts(3)
        .retry_on(|_| false)
        .build()
);
obeys!(chaos, ChaosLayer::builder().build());
obeys!(
    cache,
    CacheLayer::builder()
        .key_extractor(|frame: &Frame| (frame.nonce(), frame.payload_bytes()))
        .build()
        .unwrap()
);

#[tokio::test(start_paused = true)]
async fn a_cache_that_answers_keeps_the_permit_of_a_limit_inside() {
    let cache = || {
        CacheLayer::builder()
            .key_extractor(Frame::payload_bytes)
            .build()
            .unwrap()
    };
    let handler = Handler::default();
    let app = App::new()
        .layer(cache())
        .layer(GlobalConcurrencyLimitLayer::new(1))
        .layer(handler.clone());
    let (mesh, alice) = node(app).await;
    let bob = Recorder::join(&mesh).await;
    for _ in 0..2 {
        assert_eq!(ask(alice.peer(), "a").await.unwrap(), "a");
    }
    assert_eq!(handler.calls(), 1);
    // Her stack was ready and was not called, until her next frame that is not known.
    let (his, ()) = tokio::join!(ask(bob.peer(), "b"), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(handler.calls(), 1);
        assert_eq!(ask(alice.peer(), "c").await.unwrap(), "c");
    });
    assert_eq!(his.unwrap(), "b");

    // So it belongs inside of such a limit.
    let app = App::new()
        .layer(GlobalConcurrencyLimitLayer::new(1))
        .layer(cache())
        .layer(handler);
    let (mesh, alice) = node(app).await;
    let bob = Recorder::join(&mesh).await;
    for _ in 0..2 {
        assert_eq!(ask(alice.peer(), "a").await.unwrap(), "a");
    }
    assert_eq!(ask(bob.peer(), "b").await.unwrap(), "b");
}

#[tokio::test(start_paused = true)]
async fn what_refuses_returns_the_permit_of_a_limit_inside() {
    let handler = Handler::broken();
    let breaker = CircuitBreakerLayer::builder()
        .consecutive_failures(1)
        .build()
        .unwrap();
    let app = App::new()
        .layer(breaker)
        .layer(GlobalConcurrencyLimitLayer::new(1))
        .layer(handler.clone());
    let (mesh, alice) = node(app).await;
    let bob = Recorder::join(&mesh).await;
    for _ in 0..2 {
        assert!(ask(alice.peer(), "hers").await.unwrap_err().is_failed());
    }
    assert_eq!(handler.calls(), 1);
    assert!(ask(bob.peer(), "his").await.unwrap_err().is_failed());
    assert_eq!(handler.calls(), 2);

    handler.mend();
    let limiter = RateLimiterLayer::builder()
        .limit_for_period(1)
        .refresh_period(Duration::from_secs(3600))
        .timeout_duration(Duration::ZERO)
        .build()
        .unwrap();
    let app = App::new()
        .layer(limiter)
        .layer(GlobalConcurrencyLimitLayer::new(1))
        .layer(handler);
    let (mesh, alice) = node(app).await;
    let bob = Recorder::join(&mesh).await;
    assert!(ask(alice.peer(), "first").await.is_ok());
    assert!(ask(alice.peer(), "second").await.unwrap_err().is_failed());
    assert_eq!(ask(bob.peer(), "his").await.unwrap(), "his");

    let gate = Gate::new(0);
    let bulkhead = BulkheadLayer::builder()
        .max_concurrent_calls(1)
        .reject_when_full()
        .build()
        .unwrap();
    let app = App::new()
        .layer(bulkhead)
        .layer(GlobalConcurrencyLimitLayer::new(2))
        .layer(gate.clone());
    let (mesh, alice) = node(app).await;
    let bob = Recorder::join(&mesh).await;
    let (first, his, ()) = tokio::join!(
        ask(alice.peer(), "first"),
        async {
            gate.filled(1).await;
            assert!(ask(alice.peer(), "second").await.unwrap_err().is_failed());
            ask(bob.peer(), "his").await
        },
        async {
            until(async || gate.inside() == 2).await;
            gate.let_through(2);
        }
    );
    assert!(first.is_ok() && his.is_ok());
}
