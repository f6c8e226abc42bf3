//! A node with a stack of tower's layers, those who talk to it, and a handler that can be held up.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

use coalescent::test_util::Recorder;
use coalescent::{App, BoxError, Error, Event, Events, Frame, Mesh, Peer, PeerLayer, Reply};
use tokio::sync::Semaphore;
use tower::layer::{LayerFn, layer_fn};
use tower::util::ServiceFn;
use tower::{Layer, service_fn};

/// Starts a node, and a peer of it.
pub(crate) async fn node<L: PeerLayer>(app: App<L>) -> (Mesh, Recorder) {
    let mesh = app.start().await.expect("a node without addresses");
    let peer = Recorder::join(&mesh).await;
    (mesh, peer)
}

/// Sends a payload as a request, and returns the reply as text.
pub(crate) async fn ask(peer: &Peer, text: &str) -> Result<String, Error> {
    let reply = peer.request_payload(text.to_owned()).await?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

/// Waits for the next error event that is about a peer.
pub(crate) async fn next_error(events: &mut Events) -> String {
    loop {
        match events.next().await.expect("a running mesh") {
            Event::Error {
                peer: Some(_),
                error,
            } => return error.report().to_string(),
            Event::PeerDisconnected { reason, .. } => panic!("the peer left: {reason}"),
            _ => {}
        }
    }
}

/// Waits until a peer has left, and says why.
pub(crate) async fn next_departure(events: &mut Events) -> String {
    loop {
        if let Event::PeerDisconnected { reason, .. } = events.next().await.expect("a running mesh")
        {
            return reason.to_string();
        }
    }
}

/// A layer that puts a function in the place of what is inside of it.
pub(crate) fn handle<F, Fut>(
    handler: F,
) -> LayerFn<impl Fn(coalescent::Inbox) -> ServiceFn<F> + Clone>
where
    F: Fn(Frame) -> Fut + Clone,
    Fut: Future<Output = Result<Reply, BoxError>>,
{
    layer_fn(move |_inbox| service_fn(handler.clone()))
}

/// A handler that answers each request with its payload, once it is let.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    let_through: Semaphore,
    inside: AtomicUsize,
    most: AtomicUsize,
    done: AtomicUsize,
}

struct Inside<'a>(&'a Counts);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, SeqCst);
    }
}

impl Gate {
    /// Makes a handler that lets this many frames through.
    pub(crate) fn new(let_through: usize) -> Self {
        Self(Arc::new(Counts {
            let_through: Semaphore::new(let_through),
            inside: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
        }))
    }

    /// Lets so many more frames through.
    pub(crate) fn let_through(&self, frames: usize) {
        self.0.let_through.add_permits(frames);
    }

    /// How many frames wait here.
    pub(crate) fn inside(&self) -> usize {
        self.0.inside.load(SeqCst)
    }

    /// How many waited here at one time, at most.
    pub(crate) fn most(&self) -> usize {
        self.0.most.load(SeqCst)
    }

    /// How many were let through.
    pub(crate) fn done(&self) -> usize {
        self.0.done.load(SeqCst)
    }

    /// Waits until this many frames are here, and no more come.
    pub(crate) async fn filled(&self, frames: usize) {
        idle().await;
        assert_eq!(self.inside(), frames, "frames in the handler");
    }

    async fn pass(&self, frame: Frame) -> Result<Reply, BoxError> {
        let counts = &*self.0;
        let inside = counts.inside.fetch_add(1, SeqCst) + 1;
        counts.most.fetch_max(inside, SeqCst);
        let _inside = Inside(counts);
        counts.let_through.acquire().await?.forget();
        counts.done.fetch_add(1, SeqCst);
        // Two that answer whatever comes would answer one another for ever.
        let answer = frame.is_request().then(|| frame.into_payload());
        Ok(answer.into())
    }
}

impl<S> Layer<S> for Gate {
    type Service = GateService;

    fn layer(&self, _inner: S) -> GateService {
        GateService(self.clone())
    }
}

#[derive(Clone, Debug)]
pub(crate) struct GateService(Gate);

impl tower::Service<Frame> for GateService {
    type Response = Reply;
    type Error = BoxError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Reply, BoxError>> + Send>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), BoxError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, frame: Frame) -> Self::Future {
        let gate = self.0.clone();
        Box::pin(async move { gate.pass(frame).await })
    }
}

/// Waits until no task has anything to do: paused time passes only then.
pub(crate) async fn idle() {
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
}
