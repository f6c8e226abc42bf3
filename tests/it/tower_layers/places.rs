//! Where a layer stands says what it does: outside of a relay or inside, around the stack or around
//! a route.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use coalescent::test_util::{MemoryMesh, Recorder};
use coalescent::{App, AppExt, BoxError, Courier, Frame, Message, Reply, Router, SmartRelay, ends};
use tower::buffer::BufferLayer;
use tower::filter::FilterLayer;
use tower::limit::ConcurrencyLimitLayer;
use tower::retry::{Policy, RetryLayer};
use tower::timeout::TimeoutLayer;

use super::support::{Gate, handle, idle, node};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_filter_outside_of_a_relay_keeps_frames_from_others_and_inside_from_this_node() {
    fn no_spam() -> FilterLayer<impl Fn(Frame) -> Result<Frame, BoxError> + Clone> {
        FilterLayer::new(|frame: Frame| {
            if frame.payload() == b"spam" {
                Err("no spam".into())
            } else {
                Ok(frame)
            }
        })
    }
    let outside = MemoryMesh::new(3)
        .line()
        .start(|_, app| app.layer(no_spam()).with(SmartRelay::new()))
        .await;
    let mut far = outside.recorder(2);
    let _ = outside[0].broadcast_payload("spam").await.unwrap();
    let _ = outside[0].broadcast_payload("news").await.unwrap();
    assert_eq!(far.expect_frame().await.payload(), b"news");
    assert_eq!(outside[2].stats().received, 1);

    let inside = MemoryMesh::new(3)
        .line()
        .start(|_, app| app.with(SmartRelay::new()).layer(no_spam()))
        .await;
    let mut far = inside.recorder(2);
    let _ = inside[0].broadcast_payload("spam").await.unwrap();
    let _ = inside[0].broadcast_payload("news").await.unwrap();
    assert_eq!(far.expect_frame().await.payload(), b"news");
    assert_eq!(inside[2].stats().received, 2);
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

#[tokio::test(start_paused = true)]
async fn a_retry_outside_of_a_relay_is_taken_for_a_copy() {
    let calls = Arc::new(AtomicUsize::new(0));
    let fails_once = || {
        let calls = Arc::clone(&calls);
        handle(move |_| {
            let call = calls.fetch_add(1, SeqCst);
            async move {
                if call == 0 {
                    return Err(BoxError::from("not yet"));
                }
                Ok(Reply::None)
            }
        })
    };
    let inside = App::new()
        .with(SmartRelay::new())
        .layer(RetryLayer::new(Once))
        .layer(fails_once());
    let (_mesh, alice) = node(inside).await;
    let _ = alice.mesh().broadcast_payload("hello").await.unwrap();
    idle().await;
    assert_eq!(calls.swap(0, SeqCst), 2, "tried again");

    let outside = App::new()
        .layer(RetryLayer::new(Once))
        .with(SmartRelay::new())
        .layer(fails_once());
    let (mesh, alice) = node(outside).await;
    let _ = alice.mesh().broadcast_payload("hello").await.unwrap();
    idle().await;
    assert_eq!(
        calls.load(SeqCst),
        1,
        "the second try went no further than the relay"
    );
    assert_eq!(mesh.stats().duplicates, 1);
}

#[tokio::test(start_paused = true)]
async fn layers_around_routes_are_the_nodes_and_not_the_peers() {
    let gate = Gate::new(0);
    let held = gate.clone();
    let work = move |frame: Frame| {
        let mut held = tower::Layer::layer(&held, ());
        async move {
            let reply = tower::Service::call(&mut held, frame).await;
            reply.map(|_| Message::new("done", &()))
        }
    };
    // Built once: two at a time for all peers together, which wait without holding up other routes.
    let router = Router::new()
        .route("work", ends(work))
        .layer(ConcurrencyLimitLayer::new(2))
        .layer(TimeoutLayer::new(60 * SECOND))
        .route("ping", ends(async || Message::new("pong", &())));
    let app = App::new().concurrency(8).with(Courier::new()).with(router);
    let (mesh, alice) = node(app).await;
    let bob = Recorder::join(&mesh).await;
    let work = async {
        let asked = [&alice, &bob, &alice, &bob].map(|peer| peer.request("work", &()));
        futures_util::future::join_all(asked).await
    };
    let (done, ()) = tokio::join!(work, async {
        gate.filled(2).await;
        assert_eq!(bob.request("ping", &()).await.unwrap().kind(), "pong");
        gate.let_through(4);
    });
    assert!(
        done.into_iter()
            .all(|reply| reply.unwrap().kind() == "done")
    );
    assert_eq!(gate.most(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_route_can_have_a_timeout_and_a_buffer_of_its_own() {
    let router = Router::new()
        .route(
            "slow",
            ends(async || {
                std::future::pending::<()>().await;
                Message::new("never", &())
            }),
        )
        .layer(BufferLayer::new(4))
        .layer(TimeoutLayer::new(SECOND))
        .route(
            "slower",
            ends(async || {
                tokio::time::sleep(2 * SECOND).await;
                Message::new("done", &())
            }),
        );
    let app = App::new().with(Courier::new()).with(router);
    let (_mesh, alice) = node(app).await;
    let error = alice.request("slow", &()).await.unwrap_err();
    assert!(error.to_string().contains("timed out"), "{error}");
    assert_eq!(alice.request("slower", &()).await.unwrap().kind(), "done");
}
