//! Circuit breakers: one for each peer, one for the node, and one of a function.
//!
//! They read the clock of the system, which cannot be paused.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use coalescent::middleware::{Next, from_fn};
use coalescent::test_util::Recorder;
use coalescent::{App, AppExt, BoxError, Frame, Refusal, Reply, SmartRelay};
use failsafe::backoff;
use failsafe::failure_policy::consecutive_failures;
use failsafe::futures::CircuitBreaker as _;
use tower::Layer;
use tower::layer::layer_fn;
use tower::util::MapErrLayer;
use tower_resilience_circuitbreaker::{CircuitBreakerError, CircuitBreakerLayer, CircuitState};

use super::support::{Handler, refused, until};
use crate::tower_layers::support::{ask, handle, node};

const HOUR: Duration = Duration::from_secs(3600);
/// A wait that a test sits out.
const SHORT: Duration = Duration::from_millis(20);
const OPEN: &str = "out of order, ask again later";

/// Turns an open circuit into an answer, and hands on the handler's own errors as they are.
fn out_of_order(error: CircuitBreakerError<BoxError>) -> BoxError {
    match error {
        CircuitBreakerError::Inner(error) => error,
        CircuitBreakerError::OpenCircuit => Refusal::new(OPEN).into(),
    }
}

#[tokio::test]
async fn an_open_circuit_answers_one_peer_in_place_of_the_handler() {
    let handler = Handler::broken();
    let breaker = CircuitBreakerLayer::builder()
        .consecutive_failures(3)
        .wait_duration_in_open(HOUR)
        .build()
        .unwrap();
    let app = App::new()
        .with(SmartRelay::new())
        .layer(MapErrLayer::new(out_of_order))
        .layer(breaker)
        .layer(handler.clone());
    let (mesh, alice) = node(app).await;
    let bob = Recorder::join(&mesh).await;
    for _ in 0..3 {
        assert_eq!(refused(alice.peer()).await, "broken");
    }
    for _ in 0..200 {
        assert_eq!(refused(alice.peer()).await, OPEN);
    }
    assert_eq!(handler.calls(), 3);
    // She stays, and others have circuits of their own.
    handler.mend();
    assert_eq!(ask(bob.peer(), "mine").await.unwrap(), "mine");
    assert_eq!(refused(alice.peer()).await, OPEN);
    assert_eq!(mesh.peers().len(), 2);
}

#[tokio::test]
async fn a_circuit_closes_again_once_a_call_after_the_wait_succeeds() {
    let handler = Handler::broken();
    let states = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&states);
    let breaker = CircuitBreakerLayer::builder()
        .consecutive_failures(2)
        .wait_duration_in_open(SHORT)
        .permitted_calls_in_half_open(1)
        .on_state_transition(move |_, to| seen.lock().unwrap().push(to))
        .build()
        .unwrap();
    let app = App::new()
        .layer(MapErrLayer::new(out_of_order))
        .layer(breaker)
        .layer(handler.clone());
    let (_mesh, alice) = node(app).await;
    for _ in 0..2 {
        assert_eq!(refused(alice.peer()).await, "broken");
    }
    handler.mend();
    until(async || match ask(alice.peer(), "please").await {
        Ok(answer) => answer == "please",
        Err(error) => {
            assert_eq!(error.peer_reason(), Some(OPEN));
            false
        }
    })
    .await;
    let states = states.lock().unwrap();
    let closes = [
        CircuitState::Open,
        CircuitState::HalfOpen,
        CircuitState::Closed,
    ];
    assert_eq!(*states, closes);
}

/// Fails for what is asked, or because of the node itself.
async fn shop(frame: Frame) -> Result<Reply, BoxError> {
    match frame.payload() {
        b"a unicorn" => Err(Refusal::new("we have none").into()),
        b"anything" => Err(std::io::Error::other("the disk is full").into()),
        _ => Ok(Reply::Payload(frame.into_payload())),
    }
}

#[tokio::test]
async fn a_shared_circuit_opens_for_all_so_a_peers_own_mistakes_must_not_count() {
    // Whatever fails counts: one peer shuts the others out.
    let (breaker, circuit) = CircuitBreakerLayer::builder()
        .consecutive_failures(3)
        .wait_duration_in_open(HOUR)
        .build_with_handle()
        .unwrap();
    let app = App::new()
        .layer(MapErrLayer::new(out_of_order))
        .layer(breaker)
        .layer(handle(shop));
    let (mesh, alice) = node(app).await;
    let bob = Recorder::join(&mesh).await;
    for _ in 0..3 {
        assert!(ask(alice.peer(), "a unicorn").await.is_err());
    }
    assert!(circuit.is_open());
    assert_eq!(refused(bob.peer()).await, OPEN);

    // What the node cannot help being asked for does not.
    let own_fault = |result: &Result<Reply, BoxError>| matches!(result, Err(error) if error.is::<std::io::Error>());
    let (breaker, circuit) = CircuitBreakerLayer::builder()
        .consecutive_failures(3)
        .wait_duration_in_open(HOUR)
        .failure_classifier(own_fault)
        .build_with_handle()
        .unwrap();
    let app = App::new()
        .layer(MapErrLayer::new(out_of_order))
        .layer(breaker)
        .layer(handle(shop));
    let (mesh, alice) = node(app).await;
    let bob = Recorder::join(&mesh).await;
    for _ in 0..20 {
        assert!(ask(alice.peer(), "a unicorn").await.is_err());
    }
    assert_eq!(ask(bob.peer(), "bread").await.unwrap(), "bread");
    for _ in 0..3 {
        assert!(ask(alice.peer(), "anything").await.is_err());
    }
    assert!(circuit.is_open());
    assert_eq!(refused(bob.peer()).await, OPEN);
}

/// A breaker of failsafe as a middleware. What it is wrapped around shares the circuit.
macro_rules! failsafe {
    ($wait:expr) => {{
        let breaker = failsafe::Config::new()
            .failure_policy(consecutive_failures(3, backoff::constant($wait)))
            .build();
        from_fn(move |frame: Frame, next: Next| {
            let breaker = breaker.clone();
            async move {
                breaker
                    .call(next.run(frame))
                    .await
                    .map_err(|error| match error {
                        failsafe::Error::Inner(error) => error,
                        failsafe::Error::Rejected => BoxError::from(Refusal::new(OPEN)),
                    })
            }
        })
    }};
}

#[tokio::test]
async fn failsafe_in_a_function_has_one_circuit_for_the_node() {
    let handler = Handler::broken();
    let app = App::new()
        .with(SmartRelay::new())
        .layer(failsafe!(HOUR))
        .layer(handler.clone());
    let (mesh, alice) = node(app).await;
    let bob = Recorder::join(&mesh).await;
    for _ in 0..3 {
        assert_eq!(refused(alice.peer()).await, "broken");
    }
    handler.mend();
    assert_eq!(refused(alice.peer()).await, OPEN);
    assert_eq!(refused(bob.peer()).await, OPEN);
    assert_eq!(handler.calls(), 3);
    assert_eq!(mesh.peers().len(), 2);
}

#[tokio::test]
async fn failsafe_made_for_each_connection_has_one_circuit_for_each_peer() {
    let handler = Handler::broken();
    let app = App::new()
        .layer(layer_fn(|inner| failsafe!(HOUR).layer(inner)))
        .layer(handler.clone());
    let (mesh, alice) = node(app).await;
    let bob = Recorder::join(&mesh).await;
    for _ in 0..3 {
        assert_eq!(refused(alice.peer()).await, "broken");
    }
    handler.mend();
    assert_eq!(refused(alice.peer()).await, OPEN);
    assert_eq!(ask(bob.peer(), "mine").await.unwrap(), "mine");
}

#[tokio::test]
async fn failsafe_lets_calls_through_after_its_wait() {
    let handler = Handler::broken();
    let app = App::new().layer(failsafe!(SHORT)).layer(handler.clone());
    let (_mesh, alice) = node(app).await;
    for _ in 0..3 {
        assert_eq!(refused(alice.peer()).await, "broken");
    }
    handler.mend();
    until(async || ask(alice.peer(), "please").await.is_ok()).await;
    assert_eq!(handler.calls(), 4);
}

#[tokio::test]
async fn a_circuit_that_waits_in_place_of_refusing_holds_back_all_that_the_peer_sends() {
    let handler = Handler::broken();
    let breaker = CircuitBreakerLayer::builder()
        .consecutive_failures(1)
        .wait_duration_in_open(SHORT)
        .backpressure()
        .build()
        .unwrap();
    let app = App::new()
        .layer(MapErrLayer::new(out_of_order))
        .layer(breaker)
        .layer(handler.clone());
    let (_mesh, alice) = node(app).await;
    assert_eq!(refused(alice.peer()).await, "broken");
    handler.mend();
    // It is asked once, and the stack takes it when the circuit is half open.
    assert_eq!(ask(alice.peer(), "please").await.unwrap(), "please");
    assert_eq!(handler.calls(), 2);
}
