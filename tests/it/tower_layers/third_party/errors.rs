//! What the errors of tower-resilience hide: their text has the cause, their `source` has not.

use std::time::Duration;

use coalescent::{App, AppExt, BoxError, Courier, Event, Frame, PeerLayer};
use coalescent::{Refusal, Router, ends};
use tower::util::MapErrLayer;
use tower_resilience_bulkhead::{BulkheadLayer, BulkheadServiceError};
use tower_resilience_cache::{CacheError, CacheLayer};
use tower_resilience_circuitbreaker::{CircuitBreakerError, CircuitBreakerLayer};
use tower_resilience_fallback::{FallbackError, FallbackLayer};
use tower_resilience_ratelimiter::{RateLimiterLayer, RateLimiterServiceError};
use tower_resilience_retry::RetryLayer;
use tower_resilience_timelimiter::{TimeLimiterError, TimeLimiterLayer};

use crate::tower_layers::support::node;

/// Returns whether an offence that the courier finds is still one outside of the layer, and whether
/// a handler's refusal is no event of this node.
async fn passes<L: PeerLayer>(layer: impl FnOnce(App) -> App<L>) -> (bool, bool) {
    let (mesh, alice) = node(layer(App::new())).await;
    let mut events = mesh.events();
    let refusal = alice.request("refuse", &()).await.unwrap_err();
    assert!(refusal.peer_reason().unwrap().contains("not today"));
    alice.send_payload("no message").await;
    // The next is handled after the junk.
    assert!(alice.request("refuse", &()).await.is_err());
    mesh.shutdown().await;
    let mut errors = Vec::new();
    while let Some(event) = events.next().await {
        if let Event::Error { error, .. } = event {
            errors.push(error);
        }
    }
    let silent = match errors.len() {
        1 => true,
        3 => false,
        other => panic!("{other} errors"),
    };
    (errors.iter().any(|error| error.is_offence()), silent)
}

/// Builds an app with the layers given, outside of a courier and a router that refuses.
macro_rules! outside {
    ($($layer:expr),+) => {
        |app: App| {
            app$(.layer($layer))+
                .with(Courier::new())
                .with(Router::new().route(
                    "refuse",
                    ends(async || Err::<(), _>(Refusal::new("not today"))),
                ))
        }
    };
}

macro_rules! wraps {
    ($name:ident, $layer:expr, $unwrap:expr) => {
        #[tokio::test(start_paused = true)]
        async fn $name() {
            assert_eq!(passes(outside!($layer)).await, (false, false));
            let unwrapped = outside!(MapErrLayer::new($unwrap), $layer);
            assert_eq!(passes(unwrapped).await, (true, true));
        }
    };
}

wraps!(
    circuit_breaker,
    CircuitBreakerLayer::builder().build().unwrap(),
    |error: CircuitBreakerError<BoxError>| match error {
        CircuitBreakerError::Inner(error) => error,
        own @ CircuitBreakerError::OpenCircuit => own.into(),
    }
);
wraps!(
    bulkhead,
    BulkheadLayer::builder().build().unwrap(),
    |error: BulkheadServiceError<BoxError>| match error {
        BulkheadServiceError::Inner(error) => error,
        own @ BulkheadServiceError::Bulkhead(_) => own.into(),
    }
);
wraps!(
    rate_limiter,
    RateLimiterLayer::builder().build().unwrap(),
    |error: RateLimiterServiceError<BoxError>| match error {
        RateLimiterServiceError::Inner(error) => error,
        own @ RateLimiterServiceError::RateLimited => own.into(),
    }
);
wraps!(
    time_limiter,
    TimeLimiterLayer::builder().build(),
    |error: TimeLimiterError<BoxError>| match error {
        TimeLimiterError::Inner(error) => error,
        own @ TimeLimiterError::Timeout => own.into(),
    }
);
wraps!(
    cache,
    CacheLayer::builder()
        .key_extractor(Frame::payload_bytes)
        .build()
        .unwrap(),
    CacheError::<BoxError>::into_inner
);
wraps!(
    fallback_that_passes,
    FallbackLayer::<Frame, _, BoxError>::builder()
        .value(coalescent::Reply::None)
        .handle(|_| false)
        .build(),
    FallbackError::<BoxError>::into_inner
);

#[tokio::test(start_paused = true)]
async fn a_retry_passes_errors_as_they_are() {
    let retry = RetryLayer::builder()
        .max_attempts(2)
        .fixed_backoff(Duration::from_secs(1))
        .build();
    assert_eq!(passes(outside!(retry)).await, (true, true));
}
