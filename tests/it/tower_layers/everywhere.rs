//! Each layer in each place of a stack: outside and inside of each of ours, in a mesh that relays,
//! parses and answers.

use std::time::Duration;

use coalescent::test_util::MemoryMesh;
use coalescent::{
    App, BoxError, Courier, Event, Frame, Inbox, Message, Plugin, Reply, Router, SmartRelay,
    Tattletale, ends,
};
use tower::ServiceBuilder;
use tower::buffer::BufferLayer;
use tower::filter::{AsyncFilterLayer, FilterLayer};
use tower::layer::util::Identity;
use tower::limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer, RateLimitLayer};
use tower::load_shed::LoadShedLayer;
use tower::retry::{Policy, RetryLayer};
use tower::spawn_ready::SpawnReadyLayer;
use tower::timeout::TimeoutLayer;
use tower::util::{
    BoxCloneServiceLayer, BoxLayer, BoxService, MapErrLayer, MapRequestLayer, MapResponseLayer,
    MapResultLayer, ThenLayer, option_layer,
};
use tower_resilience_bulkhead::BulkheadLayer;
use tower_resilience_cache::CacheLayer;
use tower_resilience_chaos::ChaosLayer;
use tower_resilience_circuitbreaker::CircuitBreakerLayer;
use tower_resilience_fallback::FallbackLayer;
use tower_resilience_ratelimiter::RateLimiterLayer;
use tower_resilience_timelimiter::TimeLimiterLayer;

/// Whole stacks, of one type: that alone puts boxes to the test.
type Stack = BoxLayer<Inbox, Frame, Reply, BoxError>;

/// What the stacks are made of, besides tower's layer.
struct Ours {
    smart_relay: SmartRelay,
    tattletale: Tattletale,
    courier: Courier,
    router: Router,
}

async fn pong() -> Message {
    Message::new("pong", &())
}

/// Has the first of three nodes in a line speak to the last through the one in between, and ask
/// that.
async fn exchange(place: &str, stack: impl Fn(Ours) -> Stack) {
    let mut events = Vec::new();
    let nodes = MemoryMesh::new(3)
        .line()
        .start(|_, app: App| {
            let ours = Ours {
                smart_relay: SmartRelay::new(),
                tattletale: Tattletale::new(),
                courier: Courier::new(),
                router: Router::new().route("ping", ends(pong)),
            };
            let plugins: [&dyn Plugin; 3] = [&ours.smart_relay, &ours.courier, &ours.router];
            let app = plugins.into_iter().fold(app, |app, plugin| {
                use coalescent::AppExt;
                app.plugin(plugin)
            });
            app.layer(stack(ours))
        })
        .await;
    for node in &nodes {
        events.push(node.events());
    }
    let mut far = nodes.recorder(2);
    use coalescent::{MeshExt, PeerExt};
    for number in 0..3 {
        let sent = nodes[0].broadcast("beep", &number).await.unwrap();
        assert_eq!(sent.queued, 1, "{place}");
        let heard = far.expect_message("beep").await;
        assert_eq!(heard.body::<u32>().unwrap(), number, "{place}");
    }
    let reply = nodes.peer(0, 1).request("ping", &()).await;
    assert_eq!(reply.expect(place).kind(), "pong");
    nodes.settled().await;
    let stats = nodes[1].stats();
    assert_eq!((stats.relayed, stats.dropped), (3, 0), "{place}");
    nodes.shutdown().await;
    for events in &mut events {
        while let Some(event) = events.next().await {
            assert!(!matches!(event, Event::Error { .. }), "{place}: {event:?}");
        }
    }
}

/// Builds a stack, outermost first.
macro_rules! stack {
    ($($layer:expr),+ $(,)?) => {
        BoxLayer::new(ServiceBuilder::new()$(.layer($layer))+.into_inner())
    };
}

/// For a layer whose service is not `Clone`: outside of all that needs it to be.
macro_rules! outermost {
    ($name:ident, $layer:expr) => {
        #[tokio::test(start_paused = true)]
        async fn $name() {
            exchange("outside of smart relay", |o| {
                stack![$layer, o.smart_relay, o.courier, o.router]
            })
            .await;
            exchange("outside of tattletale", |o| {
                stack![$layer, o.tattletale, o.courier, o.router]
            })
            .await;
            exchange("inside of tattletale", |o| {
                stack![o.tattletale, $layer, o.courier, o.router]
            })
            .await;
        }
    };
}

macro_rules! everywhere {
    ($name:ident, $layer:expr) => {
        mod $name {
            use super::*;

            outermost!(outside, $layer);

            #[tokio::test(start_paused = true)]
            async fn inside() {
                exchange("inside of smart relay", |o| {
                    stack![o.smart_relay, $layer, o.courier, o.router]
                })
                .await;
                exchange("inside of the courier", |o| {
                    stack![o.smart_relay, o.courier, $layer, o.router]
                })
                .await;
                exchange("inside of the router", |o| {
                    stack![o.smart_relay, o.courier, o.router, $layer]
                })
                .await;
            }
        }
    };
}

/// Tries once more.
#[derive(Clone)]
struct Once;

impl<E> Policy<Frame, Reply, E> for Once {
    type Future = std::future::Ready<()>;

    fn retry(&mut self, _: &mut Frame, result: &mut Result<Reply, E>) -> Option<Self::Future> {
        result.is_err().then(|| std::future::ready(()))
    }

    fn clone_request(&mut self, frame: &Frame) -> Option<Frame> {
        Some(frame.clone())
    }
}

fn boxed_error<E: Into<BoxError>>(result: Result<Reply, E>) -> Result<Reply, BoxError> {
    result.map_err(Into::into)
}

const LONG: Duration = Duration::from_secs(5);

everywhere!(timeout, TimeoutLayer::new(LONG));
everywhere!(concurrency_limit, ConcurrencyLimitLayer::new(1));
everywhere!(
    global_concurrency_limit,
    GlobalConcurrencyLimitLayer::new(1)
);
everywhere!(load_shed, LoadShedLayer::new());
everywhere!(buffer, BufferLayer::new(4));
everywhere!(filter, FilterLayer::new(Ok::<Frame, BoxError>));
everywhere!(
    async_filter,
    AsyncFilterLayer::new(|frame| async move { Ok::<Frame, BoxError>(frame) })
);
everywhere!(retry, RetryLayer::new(Once));
everywhere!(map_request, MapRequestLayer::new(|frame: Frame| frame));
everywhere!(map_response, MapResponseLayer::new(|reply: Reply| reply));
everywhere!(map_err, MapErrLayer::new(Into::<BoxError>::into));
everywhere!(map_result, MapResultLayer::new(boxed_error));
everywhere!(
    then,
    ThenLayer::new(|result| std::future::ready(boxed_error(result)))
);
// The two sides of an option must fail with the same type: `Timeout` boxes errors, and `Inbox` does
// not.
everywhere!(
    option_some,
    ServiceBuilder::new()
        .layer(option_layer(Some(TimeoutLayer::new(LONG))))
        .map_err(Into::<BoxError>::into)
        .into_inner()
);
everywhere!(
    option_none,
    ServiceBuilder::new()
        .layer(option_layer(None::<TimeoutLayer>))
        .map_err(Into::<BoxError>::into)
        .into_inner()
);
everywhere!(identity, Identity::new());
everywhere!(
    boxed_clone,
    BoxCloneServiceLayer::new(
        ServiceBuilder::new()
            .layer(TimeoutLayer::new(LONG))
            .layer(ConcurrencyLimitLayer::new(1))
            .into_inner()
    )
);
everywhere!(
    rate_limit_behind_a_buffer,
    ServiceBuilder::new()
        .layer(BufferLayer::new(4))
        .layer(RateLimitLayer::new(1, LONG))
        .into_inner()
);
everywhere!(
    spawn_ready_behind_a_buffer,
    ServiceBuilder::new()
        .layer(BufferLayer::new(4))
        .layer(SpawnReadyLayer::new())
        .into_inner()
);

/// For a layer of tower-resilience, whose errors are of types of its own.
macro_rules! resilience {
    ($name:ident, $layer:expr) => {
        everywhere!(
            $name,
            ServiceBuilder::new()
                .map_err(Into::<BoxError>::into)
                .layer($layer)
                .into_inner()
        );
    };
}

resilience!(
    circuit_breaker,
    CircuitBreakerLayer::builder().build().unwrap()
);
resilience!(
    bulkhead,
    BulkheadLayer::builder()
        .max_concurrent_calls(1)
        .build()
        .unwrap()
);
resilience!(
    bulkhead_with_backpressure,
    BulkheadLayer::builder()
        .max_concurrent_calls(1)
        .backpressure()
        .build()
        .unwrap()
);
resilience!(
    rate_limiter,
    RateLimiterLayer::builder()
        .limit_for_period(1)
        .timeout_duration(LONG)
        .build()
        .unwrap()
);
resilience!(
    rate_limiter_with_backpressure,
    RateLimiterLayer::builder()
        .limit_for_period(1)
        .backpressure()
        .build()
        .unwrap()
);
resilience!(
    time_limiter,
    TimeLimiterLayer::builder().timeout_duration(LONG).build()
);
resilience!(
    cache,
    CacheLayer::builder()
        .key_extractor(|frame: &Frame| (frame.nonce(), frame.payload_bytes()))
        .build()
        .unwrap()
);
resilience!(fallback, FallbackLayer::value(Reply::None));
resilience!(
    retry_with_backoff,
    tower_resilience_retry::RetryLayer::builder()
        .max_attempts(2)
        .fixed_backoff(LONG)
        .build()
);
resilience!(
    chaos,
    ChaosLayer::builder()
        .latency_rate(1.0)
        .min_latency(LONG / 2)
        .max_latency(LONG)
        .build()
);

outermost!(rate_limit, RateLimitLayer::new(1, LONG));
outermost!(spawn_ready, SpawnReadyLayer::new());
outermost!(boxed, BoxService::layer());
outermost!(
    boxed_layer,
    BoxLayer::new(
        ServiceBuilder::new()
            .layer(SpawnReadyLayer::new())
            .layer(RateLimitLayer::new(9, LONG))
            .into_inner()
    )
);
