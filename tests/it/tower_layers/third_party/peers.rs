//! Around a peer that is asked.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use coalescent::test_util::{MemoryMesh, Nodes};
use coalescent::{AppExt, BoxError, Courier, Error, Message, Refusal, Router, ends};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_fallback::Fallback;
use tower_resilience_cache::CacheLayer;
use tower_resilience_circuitbreaker::CircuitBreakerLayer;

/// What two nodes do that the first of three asks.
#[derive(Clone, Debug, Default)]
struct Shops {
    closed: Arc<AtomicBool>,
    asked: Arc<[AtomicUsize; 2]>,
}

impl Shops {
    /// Starts the nodes: 1 sells bread unless it is closed, and 2 always does.
    async fn start(&self) -> Nodes {
        MemoryMesh::new(3)
            .star()
            .start(|node, app| {
                let shops = self.clone();
                let bread = async move || {
                    let Some(shop) = node.checked_sub(1) else {
                        return Err(Refusal::new("a customer"));
                    };
                    shops.asked[shop].fetch_add(1, SeqCst);
                    if shop == 0 && shops.closed.load(SeqCst) {
                        return Err(Refusal::new("closed"));
                    }
                    Ok(Message::new("bread", &node))
                };
                app.with(Courier::new())
                    .with(Router::new().route("bread", ends(bread)))
            })
            .await
    }

    fn asked(&self) -> [usize; 2] {
        [0, 1].map(|shop| self.asked[shop].load(SeqCst))
    }
}

/// Asks for bread, and returns who sold it.
async fn buy<S>(service: &mut S) -> Result<usize, BoxError>
where
    S: Service<Message, Response = Message, Error: Into<BoxError>>,
{
    let ready = service.ready().await.map_err(Into::<BoxError>::into)?;
    let reply = ready.call(Message::new("bread", &())).await;
    Ok(reply.map_err(Into::<BoxError>::into)?.body()?)
}

#[tokio::test(start_paused = true)]
async fn a_fallback_asks_another_peer_if_the_first_fails() {
    let shops = Shops::default();
    let nodes = shops.start().await;
    let mut asked = Fallback::new(nodes.peer(0, 1), nodes.peer(0, 2));
    assert_eq!(buy(&mut asked).await.unwrap(), 1);
    assert_eq!(shops.asked(), [1, 0]);
    shops.closed.store(true, SeqCst);
    assert_eq!(buy(&mut asked).await.unwrap(), 2);
    assert_eq!(shops.asked(), [2, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_fallback_can_be_for_some_errors_alone() {
    let shops = Shops::default();
    let nodes = shops.start().await;
    shops.closed.store(true, SeqCst);
    // A peer that has answered is not asked over.
    let unanswered = |result: &Result<Message, BoxError>| {
        let error = result.as_ref().err().and_then(|e| e.downcast_ref());
        error.is_some_and(|error: &Error| !error.is_failed())
    };
    let mut asked = Fallback::new_with_policy(nodes.peer(0, 1), nodes.peer(0, 2), unanswered);
    let error = buy(&mut asked).await.unwrap_err();
    assert!(error.downcast_ref::<Error>().unwrap().is_failed());
    assert_eq!(shops.asked(), [1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_fallback_from_a_peer_that_left_needs_its_readiness_inside_of_the_call() {
    let shops = Shops::default();
    let nodes = shops.start().await;
    let (first, second) = (nodes.peer(0, 1), nodes.peer(0, 2));
    nodes.disconnect(0, 1).await;
    // `Fallback` is ready when its first service is, and this one never will be.
    let mut asked = Fallback::new(first.clone(), second.clone());
    let error = buy(&mut asked).await.unwrap_err();
    assert!(error.downcast_ref::<Error>().unwrap().is_closed());
    assert_eq!(shops.asked(), [0, 0]);

    let first = service_fn(move |message| first.clone().oneshot(message));
    let mut asked = Fallback::new(first, second);
    assert_eq!(buy(&mut asked).await.unwrap(), 2);
}

// The breaker reads the clock of the system, which cannot be paused.
#[tokio::test]
async fn a_circuit_breaker_asks_a_peer_that_fails_no_more() {
    let shops = Shops::default();
    let nodes = shops.start().await;
    shops.closed.store(true, SeqCst);
    let (breaker, circuit) = CircuitBreakerLayer::builder()
        .consecutive_failures(3)
        .wait_duration_in_open(Duration::from_secs(3600))
        .build_with_handle()
        .unwrap();
    let mut asked = ServiceBuilder::new()
        .layer(breaker)
        .service(nodes.peer(0, 1));
    for _ in 0..10 {
        assert!(buy(&mut asked).await.is_err());
    }
    assert_eq!(shops.asked(), [3, 0]);
    // And with a fallback around it, another peer is asked.
    let mut asked = Fallback::new(asked, nodes.peer(0, 2));
    assert_eq!(buy(&mut asked).await.unwrap(), 2);
    assert_eq!(shops.asked(), [3, 1]);
    shops.closed.store(false, SeqCst);
    circuit.force_closed().await;
    assert_eq!(buy(&mut asked).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cache_asks_a_peer_once() {
    let shops = Shops::default();
    let nodes = shops.start().await;
    let cache = CacheLayer::builder()
        .key_extractor(|message: &Message| message.kind().to_owned())
        .build()
        .unwrap();
    let mut asked = ServiceBuilder::new().layer(cache).service(nodes.peer(0, 1));
    for _ in 0..3 {
        assert_eq!(buy(&mut asked).await.unwrap(), 1);
    }
    assert_eq!(shops.asked(), [1, 0]);
}
