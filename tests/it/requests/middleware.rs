//! Tower's middleware around a peer that is asked.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use coalescent::{BoxError, Error, Message, Peer, Router, ends};
use tokio::time::Instant;
use tower::hedge::Hedge;
use tower::limit::ConcurrencyLimit;
use tower::retry::{Policy, Retry};
use tower::timeout::Timeout;
use tower::timeout::error::Elapsed;
use tower::{Service, ServiceBuilder, ServiceExt};

use super::support::{Inside, asked};

const SECOND: Duration = Duration::from_secs(1);

fn message(kind: &str) -> Message {
    Message::new(kind, &())
}

#[tokio::test(start_paused = true)]
async fn a_timeout_withdraws_the_request() {
    let inside = Inside::default();
    let held = inside.clone();
    let router = Router::new()
        .route(
            "hang",
            ends(async move || {
                let _guard = held.enter();
                std::future::pending::<()>().await;
            }),
        )
        .route("ping", ends(async || message("pong")));
    let (_nodes, peer) = asked(router).await;
    let mut asked = Timeout::new(peer, SECOND);
    let start = Instant::now();
    let error = asked.ready().await.unwrap().call(message("hang")).await;
    assert!(error.unwrap_err().is::<Elapsed>());
    assert!(start.elapsed() < 2 * SECOND);
    inside.reaches(0).await;
    let reply = asked.ready().await.unwrap().call(message("ping")).await;
    assert_eq!(reply.unwrap().kind(), "pong");
}

/// Tries again while the peer says that it failed.
#[derive(Clone)]
struct WhileFailed(usize);

impl Policy<Message, Message, Error> for WhileFailed {
    type Future = std::future::Ready<()>;

    fn retry(
        &mut self,
        _: &mut Message,
        result: &mut Result<Message, Error>,
    ) -> Option<Self::Future> {
        let failed = result.as_ref().is_err_and(Error::is_failed);
        (failed && self.0 > 0).then(|| {
            self.0 -= 1;
            std::future::ready(())
        })
    }

    fn clone_request(&mut self, message: &Message) -> Option<Message> {
        Some(message.clone())
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_asks_again_with_a_request_of_its_own() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let router = Router::new().route(
        "ping",
        ends(async move || match counted.fetch_add(1, SeqCst) {
            0 | 1 => Err(BoxError::from("not yet")),
            _ => Ok(message("pong")),
        }),
    );
    let (_nodes, peer) = asked(router).await;
    let reply = Retry::new(WhileFailed(2), peer.clone())
        .oneshot(message("ping"))
        .await;
    assert_eq!(reply.unwrap().kind(), "pong");
    assert_eq!(calls.swap(0, SeqCst), 3);

    let error = Retry::new(WhileFailed(1), peer)
        .oneshot(message("ping"))
        .await
        .unwrap_err();
    assert!(error.is_failed(), "{error}");
    assert_eq!(calls.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_concurrency_limit_bounds_what_is_in_flight() {
    let inside = Inside::default();
    let counted = inside.clone();
    let router = Router::new().route(
        "work",
        ends(async move || {
            let _guard = counted.enter();
            tokio::time::sleep(SECOND).await;
            message("done")
        }),
    );
    let (_nodes, peer) = asked(router).await;
    async fn all<S: Service<Message, Response = Message, Error = Error> + Clone>(asked: S) {
        let asks = (0..6).map(|_| asked.clone().oneshot(message("work")));
        for reply in futures_util::future::join_all(asks).await {
            assert_eq!(reply.unwrap().kind(), "done");
        }
    }
    all(ConcurrencyLimit::new(peer.clone(), 2)).await;
    assert_eq!(inside.most(), 2);
    // Without it, all are.
    all(peer).await;
    assert_eq!(inside.most(), 6);
}

#[derive(Clone)]
struct Always;

impl tower::hedge::Policy<Message> for Always {
    fn clone_request(&self, message: &Message) -> Option<Message> {
        Some(message.clone())
    }

    fn can_retry(&self, _: &Message) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn a_hedge_asks_a_second_time_and_withdraws_the_slower_request() {
    let inside = Inside::default();
    let calls = Arc::new(AtomicUsize::new(0));
    let (counted, held) = (Arc::clone(&calls), inside.clone());
    let router = Router::new().route(
        "work",
        ends(async move || {
            let _guard = held.enter();
            tokio::time::sleep(Duration::from_millis(10)).await;
            // The eleventh is stuck.
            if counted.fetch_add(1, SeqCst) == 10 {
                std::future::pending::<()>().await;
            }
            message("done")
        }),
    );
    let (_nodes, peer) = asked(router).await;
    let mut asked = Hedge::new(peer, Always, 10, 0.9, SECOND);
    for _ in 0..10 {
        let reply = asked.ready().await.unwrap().call(message("work")).await;
        assert_eq!(reply.unwrap().kind(), "done");
    }
    // A hedge goes by the latencies of the period before.
    tokio::time::sleep(SECOND).await;
    let start = Instant::now();
    let reply = asked.ready().await.unwrap().call(message("work")).await;
    assert_eq!(reply.unwrap().kind(), "done");
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
    assert_eq!(calls.load(SeqCst), 12);
    inside.reaches(0).await;
}

#[tokio::test(start_paused = true)]
async fn they_stack_as_around_any_service() {
    let router = Router::new().route("ping", ends(async || message("pong")));
    let (nodes, peer) = asked(router).await;
    let mut asked = ServiceBuilder::new()
        .buffer(8)
        .load_shed()
        .concurrency_limit(2)
        .rate_limit(100, SECOND)
        .timeout(SECOND)
        .retry(Boxed)
        .map_err(BoxError::from)
        .service(peer);
    for _ in 0..3 {
        let reply = asked.ready().await.unwrap().call(message("ping")).await;
        assert_eq!(reply.unwrap().kind(), "pong");
    }
    nodes[1].abort().await;
    // Closed through all of them.
    let closed = async {
        loop {
            let asked = match asked.ready().await {
                Ok(ready) => ready.call(message("ping")).await,
                Err(error) => Err(error),
            };
            if let Err(error) = asked {
                return error;
            }
        }
    };
    let error: BoxError = closed.await;
    assert!(error.to_string().contains("no longer connected"), "{error}");
}

/// Never tries again.
#[derive(Clone)]
struct Boxed;

impl Policy<Message, Message, BoxError> for Boxed {
    type Future = std::future::Ready<()>;

    fn retry(
        &mut self,
        _: &mut Message,
        _: &mut Result<Message, BoxError>,
    ) -> Option<Self::Future> {
        None
    }

    fn clone_request(&mut self, _: &Message) -> Option<Message> {
        None
    }
}

/// A peer's service can be sent to other tasks, and kept in their state.
#[test]
fn a_peer_is_a_service_that_can_be_shared() {
    fn is<T>()
    where
        T: Service<Message, Response = Message, Error = Error, Future: Send + 'static>
            + Clone
            + Send
            + Sync
            + 'static,
    {
    }
    is::<Peer>();
}
