//! Whose permit is whose: readiness of the services further in, and of layers on routes.

use std::future::{Future, pending};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use coalescent_core::{BoxError, Frame, Reply};
use coalescent_router::middleware::{Next, from_fn};
use coalescent_router::{NotFound, Router, RouterService, ends};
use support::pair::frame;
use tokio::sync::Semaphore;
use tower::limit::{ConcurrencyLimit, ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer};
use tower::{Service, ServiceExt};
use tower_layer::Layer;
use tower_test::{assert_request_eq, mock};

/// Polls once.
fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// The router around `inner`, as one peer's stack has it.
fn on<I>(router: &Router, inner: I) -> RouterService<I> {
    Layer::layer(router, inner)
}

/// An inner service of which one frame may be in at a time, and the permits for it.
fn limited<S>(inner: S) -> (ConcurrencyLimit<S>, Arc<Semaphore>) {
    let permits = Arc::new(Semaphore::new(1));
    let limited = ConcurrencyLimit::with_semaphore(inner, Arc::clone(&permits));
    (limited, permits)
}

async fn fail() -> Result<(), BoxError> {
    Err("as it should".into())
}

#[tokio::test]
async fn it_is_ready_when_the_inner_service_is() {
    let router = Router::new().route("ping", ends(|| async {}));
    let (mut service, mut handle) =
        mock::spawn_layer::<Frame, Reply, _>(tower::layer::layer_fn(move |inner| {
            on(&router, inner)
        }));
    handle.allow(0);
    assert!(service.poll_ready().is_pending());
    handle.allow(1);
    assert!(service.poll_ready().is_ready());
}

#[tokio::test]
async fn the_inner_service_that_was_ready_gets_the_frame() {
    let router = Router::new().route("ping", || async {});
    let (mock, mut handle) = mock::pair::<u8, Reply>();
    handle.allow(1);
    let inner = mock.map_request(|frame: Frame| u8::from(frame.message().is_some()));
    let mut service = on(&router, inner);
    let reply = service.ready().await.unwrap().call(frame("ping"));
    let (reply, ()) = tokio::join!(reply, async {
        assert_request_eq!(handle, 1).send_response(Reply::Payload("inner".into()));
    });
    assert!(matches!(reply.unwrap(), Reply::Payload(text) if text == "inner"));
    // The one permit that there was went with the frame.
    assert!(poll(&mut service.ready()).is_pending());
}

#[tokio::test]
async fn a_handler_that_fails_gives_up_the_permit_further_in() {
    let (inner, permits) = limited(NotFound::new());
    let mut service = on(&Router::new().route("fail", fail), inner);
    let mut reply = Box::pin(service.ready().await.unwrap().call(frame("fail")));
    assert_eq!(permits.available_permits(), 0);
    assert!(poll(&mut reply).map(|reply| reply.is_err()).is_ready());
    // Although the future is still there.
    assert_eq!(permits.available_permits(), 1);
    drop(reply);
}

#[tokio::test]
async fn a_handler_that_is_given_up_gives_up_the_permit_further_in() {
    let (inner, permits) = limited(NotFound::new());
    let mut service = on(&Router::new().route("hang", pending::<()>), inner);
    let mut reply = Box::pin(service.ready().await.unwrap().call(frame("hang")));
    assert!(poll(&mut reply).is_pending());
    assert_eq!(permits.available_permits(), 0);
    drop(reply);
    assert_eq!(permits.available_permits(), 1);
}

#[tokio::test]
async fn a_frame_that_ends_at_its_handler_leaves_no_permit_taken() {
    let (inner, permits) = limited(NotFound::new());
    let mut service = on(&Router::new().route("hang", ends(pending::<()>)), inner);
    let _reply = service.ready().await.unwrap().call(frame("hang"));
    assert_eq!(permits.available_permits(), 1);
}

#[tokio::test]
async fn middleware_that_does_not_run_the_rest_gives_up_the_permit_further_in() {
    async fn refuse(_frame: Frame, next: Next) {
        drop(next);
        pending::<()>().await;
    }
    let (inner, permits) = limited(NotFound::new());
    let mut service = from_fn(refuse).layer(inner);
    let mut reply = service.ready().await.unwrap().call(frame("any"));
    assert_eq!(permits.available_permits(), 0);
    assert!(poll(&mut reply).is_pending());
    assert_eq!(permits.available_permits(), 1);
}

/// An inner service that counts how often it is cloned.
#[derive(Debug, Default)]
struct Clones(Arc<AtomicUsize>);

impl Clone for Clones {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }
}

impl Service<Frame> for Clones {
    type Response = Reply;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Reply, BoxError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _frame: Frame) -> Self::Future {
        std::future::ready(Ok(Reply::None))
    }
}

#[tokio::test]
async fn a_frame_without_a_handler_costs_no_clone_of_the_inner_service() {
    let inner = Clones::default();
    let clones = Arc::clone(&inner.0);
    let mut service = on(&Router::new().route("ping", || async {}), inner);
    service
        .ready()
        .await
        .unwrap()
        .call(frame("pong"))
        .await
        .unwrap();
    assert_eq!(clones.load(Ordering::Relaxed), 0);
    service
        .ready()
        .await
        .unwrap()
        .call(frame("ping"))
        .await
        .unwrap();
    assert_eq!(clones.load(Ordering::Relaxed), 1);
}

/// A handler that says when it runs, and runs until it is told.
fn busy(running: &Arc<AtomicUsize>) -> impl Fn() -> std::future::Pending<()> + Clone + use<> {
    let running = Arc::clone(running);
    move || {
        running.fetch_add(1, Ordering::Relaxed);
        pending()
    }
}

/// Calls `router` for two peers with each type, and tells how many handlers run then.
fn run_all(router: &Router, running: &AtomicUsize, kinds: &[&str]) -> usize {
    let mut peers = [on(router, NotFound::new()), on(router, NotFound::new())];
    let mut replies = Vec::new();
    for peer in &mut peers {
        for kind in kinds {
            assert!(
                peer.poll_ready(&mut Context::from_waker(Waker::noop()))
                    .is_ready()
            );
            let mut reply = Box::pin(peer.call(frame(kind)));
            assert!(poll(&mut reply).is_pending());
            replies.push(reply);
        }
    }
    running.load(Ordering::Relaxed)
}

#[tokio::test]
async fn a_limit_on_routes_is_one_for_each_handler_and_for_all_peers() {
    let running = Arc::default();
    let router = Router::new()
        .route("a", busy(&running))
        .route("b", busy(&running))
        .layer(ConcurrencyLimitLayer::new(1));
    assert_eq!(run_all(&router, &running, &["a", "b", "a"]), 2);
}

#[tokio::test]
async fn a_shared_limit_on_routes_is_one_for_all() {
    let running = Arc::default();
    let router = Router::new()
        .route("a", busy(&running))
        .route("b", busy(&running))
        .layer(GlobalConcurrencyLimitLayer::new(1));
    assert_eq!(run_all(&router, &running, &["a", "b", "a"]), 1);
}

#[tokio::test]
async fn without_a_limit_all_run() {
    let running = Arc::default();
    let router = Router::new().route("a", busy(&running));
    assert_eq!(run_all(&router, &running, &["a", "a"]), 4);
}

#[tokio::test]
async fn a_limit_stays_one_through_state_merging_and_clones() {
    let running = Arc::default();
    let limited: Router = Router::<u8>::new()
        .route("a", busy(&running))
        .layer(ConcurrencyLimitLayer::new(1))
        .with_state(0);
    let router = Router::new().merge(limited.clone()).nest("x/", limited);
    assert_eq!(run_all(&router.clone(), &running, &["a", "x/a"]), 1);
}

#[tokio::test]
async fn a_layer_holds_for_what_was_added_before_it() {
    async fn refuse(_frame: Frame, _next: Next) -> Result<(), &'static str> {
        Err("refused")
    }
    async fn is_refused(router: &Router, kind: &str) -> bool {
        router
            .clone()
            .into_service()
            .oneshot(frame(kind))
            .await
            .is_err()
    }
    let router: Router = Router::new()
        .fallback(|| async {})
        .route("before", || async {})
        .layer(from_fn(refuse))
        .route("after", || async {});
    assert!(is_refused(&router, "before").await);
    assert!(is_refused(&router, "any").await);
    assert!(!is_refused(&router, "after").await);

    let router: Router = Router::new()
        .fallback(|| async {})
        .route("before", || async {})
        .route_layer(from_fn(refuse))
        .route("after", || async {});
    assert!(is_refused(&router, "before").await);
    assert!(!is_refused(&router, "any").await);
    assert!(!is_refused(&router, "after").await);
}
