//! What a layer's refusal does to the frame and to the peer.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::task::{Context, Poll};
use std::time::Duration;

use coalescent::test_util::Recorder;
use coalescent::{App, AppExt, BoxError, Courier, Frame, Message, Reply};
use tower::buffer::BufferLayer;
use tower::filter::{AsyncFilterLayer, FilterLayer};
use tower::layer::layer_fn;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::retry::{Policy, RetryLayer};
use tower::timeout::TimeoutLayer;
use tower::{Service, ServiceBuilder};

use super::support::{Gate, ask, handle, idle, next_departure, next_error, node};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_too_long_is_an_error_and_the_peer_stays() {
    let gate = Gate::new(0);
    let app = App::new()
        .layer(TimeoutLayer::new(SECOND))
        .layer(gate.clone());
    let (mesh, alice) = node(app).await;
    let mut events = mesh.events();

    let error = ask(alice.peer(), "slow").await.unwrap_err();
    assert!(
        error.is_failed() && error.to_string().contains("timed out"),
        "{error}"
    );
    assert!(next_error(&mut events).await.contains("timed out"));
    assert_eq!(gate.inside(), 0, "the handler was dropped");

    // A frame that is no request fails as quietly for the peer.
    alice.send_payload("slow too").await;
    assert!(next_error(&mut events).await.contains("timed out"));

    gate.let_through(1);
    assert_eq!(ask(alice.peer(), "quick").await.unwrap(), "quick");
    assert_eq!(mesh.peers().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_filter_refuses_is_an_error_and_the_peer_stays() {
    let small = |frame: Frame| {
        if frame.payload().len() <= 5 {
            Ok(frame)
        } else {
            Err(BoxError::from("too large for me"))
        }
    };
    let stacks = (
        App::new()
            .layer(FilterLayer::new(small))
            .layer(Gate::new(9)),
        App::new()
            .layer(AsyncFilterLayer::new(move |frame: Frame| async move {
                tokio::task::yield_now().await;
                small(frame)
            }))
            .layer(Gate::new(9)),
    );
    async fn exchange((mesh, alice): (coalescent::Mesh, Recorder)) {
        let mut events = mesh.events();
        assert_eq!(ask(alice.peer(), "small").await.unwrap(), "small");
        let error = ask(alice.peer(), "larger").await.unwrap_err();
        assert!(
            error.is_failed() && error.to_string().contains("too large"),
            "{error}"
        );
        assert!(next_error(&mut events).await.contains("too large for me"));
        assert_eq!(ask(alice.peer(), "again").await.unwrap(), "again");
    }
    exchange(node(stacks.0).await).await;
    exchange(node(stacks.1).await).await;
}

#[tokio::test(start_paused = true)]
async fn a_filter_inside_of_the_courier_sees_messages() {
    let only_beeps = FilterLayer::new(|frame: Frame| match frame.message() {
        Some(message) if message.kind() == "beep" => Ok(frame),
        _ => Err(BoxError::from("only beeps here")),
    });
    let app = App::new().with(Courier::new()).layer(only_beeps);
    let (mesh, alice) = node(app).await;
    let mut heard = Recorder::of(&mesh);
    let mut events = mesh.events();
    alice.send(&Message::new("boop", &1)).await;
    alice.send(&Message::new("beep", &2)).await;
    assert_eq!(heard.expect_message("beep").await.body::<u8>().unwrap(), 2);
    assert!(next_error(&mut events).await.contains("only beeps"));
}

/// Refuses what is to be refused, around a limit that all peers share.
macro_rules! refusing {
    ($filter:expr) => {
        node(
            App::new()
                .layer($filter)
                .layer(GlobalConcurrencyLimitLayer::new(1))
                .layer(Gate::new(9)),
        )
    };
}

fn refuse(frame: Frame) -> Result<Frame, BoxError> {
    if frame.payload() == b"refuse" {
        Err("refused".into())
    } else {
        Ok(frame)
    }
}

#[tokio::test(start_paused = true)]
async fn an_async_filter_gives_the_permit_of_what_it_refuses_back_and_a_filter_does_not() {
    let filter = AsyncFilterLayer::new(|frame| async { refuse(frame) });
    let (mesh, alice) = refusing!(filter).await;
    let bob = Recorder::join(&mesh).await;
    assert!(ask(alice.peer(), "refuse").await.unwrap_err().is_failed());
    assert_eq!(ask(bob.peer(), "mine").await.unwrap(), "mine");

    // The permit stays with Alice's stack, which was ready and was not called, until her next
    // frame.
    let (mesh, alice) = refusing!(FilterLayer::new(refuse)).await;
    let bob = Recorder::join(&mesh).await;
    assert!(ask(alice.peer(), "refuse").await.unwrap_err().is_failed());
    let (mine, ()) = tokio::join!(ask(bob.peer(), "mine"), async {
        tokio::time::sleep(SECOND).await;
        assert_eq!(ask(alice.peer(), "hers").await.unwrap(), "hers");
    });
    assert_eq!(mine.unwrap(), "mine");

    // So it belongs inside of such a limit.
    let app = App::new()
        .layer(GlobalConcurrencyLimitLayer::new(1))
        .layer(FilterLayer::new(refuse))
        .layer(Gate::new(9));
    let (mesh, alice) = node(app).await;
    let bob = Recorder::join(&mesh).await;
    assert!(ask(alice.peer(), "refuse").await.unwrap_err().is_failed());
    assert_eq!(ask(bob.peer(), "mine").await.unwrap(), "mine");
}

/// Tries again as often as this.
#[derive(Clone, Debug)]
struct Tries(usize);

impl<E> Policy<Frame, Reply, E> for Tries {
    type Future = std::future::Ready<()>;

    fn retry(&mut self, _: &mut Frame, result: &mut Result<Reply, E>) -> Option<Self::Future> {
        (result.is_err() && self.0 > 0).then(|| {
            self.0 -= 1;
            std::future::ready(())
        })
    }

    fn clone_request(&mut self, frame: &Frame) -> Option<Frame> {
        Some(frame.clone())
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_failed_is_tried_again() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let fails_twice = handle(move |frame: Frame| {
        let call = count.fetch_add(1, SeqCst);
        async move {
            if call < 2 {
                return Err(BoxError::from("not yet"));
            }
            Ok(Reply::Payload(frame.into_payload()))
        }
    });
    let app = App::new()
        .layer(RetryLayer::new(Tries(2)))
        .layer(fails_twice);
    let (mesh, alice) = node(app).await;
    let mut events = mesh.events();
    assert_eq!(ask(alice.peer(), "please").await.unwrap(), "please");
    assert_eq!(calls.load(SeqCst), 3);
    mesh.shutdown().await;
    while let Some(event) = events.next().await {
        assert!(
            !matches!(event, coalescent::Event::Error { .. }),
            "{event:?}"
        );
    }
}

/// Fails to become ready once it is told to.
#[derive(Clone)]
struct Breaks<S> {
    inner: S,
    broken: Arc<AtomicBool>,
}

impl<S: Service<Frame, Error = BoxError>> Service<Frame> for Breaks<S> {
    type Response = S::Response;
    type Error = BoxError;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.broken.load(SeqCst) {
            return Poll::Ready(Err("broken for good".into()));
        }
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, frame: Frame) -> S::Future {
        self.inner.call(frame)
    }
}

#[tokio::test(start_paused = true)]
async fn a_stack_that_fails_to_become_ready_ends_its_own_connection_alone() {
    let broken = Arc::new(AtomicBool::new(false));
    let breaks = layer_fn({
        let broken = Arc::clone(&broken);
        move |inner| Breaks {
            inner,
            broken: Arc::clone(&broken),
        }
    });
    let app = App::new().layer(breaks).layer(Gate::new(9));
    let (mesh, alice) = node(app).await;
    let bob = Recorder::join(&mesh).await;
    let mut events = mesh.events();
    assert_eq!(ask(alice.peer(), "fine").await.unwrap(), "fine");
    broken.store(true, SeqCst);
    let error = ask(alice.peer(), "not fine").await.unwrap_err();
    assert!(error.is_closed(), "{error}");
    assert!(
        next_departure(&mut events)
            .await
            .contains("broken for good")
    );
    assert_eq!(mesh.peers().len(), 1);
    broken.store(false, SeqCst);
    assert_eq!(ask(bob.peer(), "fine").await.unwrap(), "fine");
}

#[tokio::test(start_paused = true)]
async fn a_buffer_whose_inside_broke_ends_the_connection_too() {
    let broken = Arc::new(AtomicBool::new(true));
    let breaks = layer_fn(move |inner| Breaks {
        inner,
        broken: Arc::clone(&broken),
    });
    let stack = ServiceBuilder::new()
        .layer(BufferLayer::new(4))
        .layer(breaks)
        .into_inner();
    let (mesh, alice) = node(App::new().layer(stack).layer(Gate::new(9))).await;
    let mut events = mesh.events();
    // The worker fails the frame it had, and then each `poll_ready`.
    alice.send_payload("the worker's last").await;
    assert!(next_error(&mut events).await.contains("broken for good"));
    idle().await;
    alice.send_payload("one more").await;
    assert!(
        next_departure(&mut events)
            .await
            .contains("broken for good")
    );
}
