//! What a relay has received when it leaves is relayed, or counted as dropped: none of it is lost
//! unseen.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;

use bytes::Bytes;
use coalescent_core::transport::Memory;
use coalescent_core::{
    App, AppExt, Frame, Mesh, PeerLayer, Plugin, Registrar, Reply, Stats, Verdict,
};
use coalescent_layers::{SmartRelay, Tattletale, Validate};
use support::memory::node;

/// How many subscribers the relay has.
const SUBSCRIBERS: u64 = 3;

/// How the relay leaves.
#[derive(Clone, Copy, Debug)]
enum Leave {
    Shutdown,
    Abort,
    Drop,
    /// It stays, and its publisher is disconnected.
    Disconnect,
}

/// Lets a node that keeps publishing be connected to a relay made by `app`, and the relay leave in
/// the midst of that, after `frames`. Returns what the relay has counted.
async fn leave<L: PeerLayer>(app: App<L>, frames: u64, size: usize, leave: Leave) -> Stats {
    let network = Memory::new();
    let relay = node(&network, "relay:1", app).await;
    let mut others = Vec::new();
    for number in 0..SUBSCRIBERS {
        let subscriber = node(&network, &format!("subscriber:{}", number + 2), App::new()).await;
        subscriber.connect("relay:1").await.unwrap();
        others.push(subscriber);
    }
    // Who comes later gets less.
    while (relay.peers().len() as u64) < SUBSCRIBERS {
        tokio::task::yield_now().await;
    }
    let publisher = node(&network, "publisher:9", App::new()).await;
    let there = publisher.connect("relay:1").await.unwrap();
    let publishing = tokio::spawn({
        let payload = Bytes::from(vec![b'x'; size]);
        let said = std::iter::repeat_n(payload, 100_000);
        let publisher = publisher.downgrade();
        async move {
            if let Some(publisher) = publisher.upgrade() {
                let _ = publisher.broadcast_payloads(said).await.unwrap();
            }
        }
    });
    while relay.stats().received < frames {
        tokio::task::yield_now().await;
    }
    let stats = match leave {
        Leave::Shutdown => relay.shutdown().await,
        Leave::Abort => relay.abort().await,
        Leave::Drop => {
            let (weak, peers) = (relay.downgrade(), relay.peers().clone());
            drop(relay);
            assert!(weak.upgrade().is_none());
            let mut events = peers.events();
            while events.next().await.is_some() {}
            peers.stats()
        }
        Leave::Disconnect => {
            let list = relay.peers().list();
            let peer = list.iter().max_by_key(|peer| peer.stats().received);
            peer.expect("the publisher").disconnect("enough");
            there.closed().await;
            publishing.abort();
            let _ = publishing.await;
            // The publisher has seen the end; the relay has, once it is gone from its roster.
            while relay.peers().len() as u64 > SUBSCRIBERS {
                tokio::task::yield_now().await;
            }
            relay.shutdown().await
        }
    };
    drop(others);
    stats
}

/// Judges at once, or after a while, one way or another.
fn fickle() -> impl Fn(Frame) -> Judging + Clone + Send + Sync {
    let asked = Arc::new(AtomicU64::new(0));
    move |_| {
        let number = asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            for _ in 0..number % 4 {
                tokio::task::yield_now().await;
            }
            match number % 7 {
                0 => Verdict::Ignore,
                1 => Verdict::Retry,
                2 => Verdict::Reject(0),
                _ => Verdict::Accept,
            }
        })
    }
}

type Judging = Pin<Box<dyn Future<Output = Verdict> + Send>>;

fn adds_up(stats: Stats, of: impl std::fmt::Debug) {
    let once = stats.duplicates + stats.withheld;
    let accounted = stats.relayed + stats.dropped + once * SUBSCRIBERS;
    assert_eq!(stats.received * SUBSCRIBERS, accounted, "{of:?}: {stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_received_was_relayed_or_is_counted_as_dropped() {
    for run in 0..3 {
        for way in [
            Leave::Shutdown,
            Leave::Abort,
            Leave::Drop,
            Leave::Disconnect,
        ] {
            for (frames, size) in [(1, 10), (5_000 + run, 10), (500, 2_000)] {
                let of = (way, frames, size);
                let hub = || App::new().with(Tattletale::new());
                adds_up(leave(hub(), frames, size, way).await, of);
                let after = App::new().with(Tattletale::new().relay_after());
                adds_up(leave(after, frames, size, way).await, of);
                let smart = App::new().with(SmartRelay::new());
                adds_up(leave(smart, frames, size, way).await, of);
                if run > 0 {
                    continue;
                }
                let validates = App::new()
                    .with(SmartRelay::new())
                    .with(Validate::new(fickle()));
                adds_up(leave(validates, frames, size, way).await, of);
                let after = SmartRelay::new().relay_after();
                let validates = App::new().with(after).with(Validate::new(fickle()));
                adds_up(leave(validates, frames, size, way).await, of);
            }
        }
    }
}

/// A stack that breaks costs its connection; what it has received and not handled is counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_broken_stack_has_not_handled_is_counted_as_dropped() {
    let broken = Arc::new(AtomicBool::new(false));
    let app = App::new()
        .with(Tattletale::new())
        .layer(tower::layer::layer_fn({
            let broken = Arc::clone(&broken);
            move |inner| Breaking {
                inner,
                calls: 0,
                broken: Arc::clone(&broken),
            }
        }));
    let stats = leave(app, 2_000, 10, Leave::Shutdown).await;
    assert!(broken.load(Ordering::Relaxed));
    assert!(stats.dropped > 0, "{stats:?}");
    adds_up(stats, "a broken stack");
}

/// Panics when it is asked for readiness once more after some calls.
#[derive(Clone)]
struct Breaking<S> {
    inner: S,
    calls: u32,
    broken: Arc<AtomicBool>,
}

impl<S, R> tower::Service<R> for Breaking<S>
where
    S: tower::Service<R>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), S::Error>> {
        if self.calls == 1_000 {
            self.broken.store(true, Ordering::Relaxed);
            panic!("out of order");
        }
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.calls += 1;
        self.inner.call(request)
    }
}

/// Nothing is dropped where there is time: all that was read is handed on before anybody is let go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_before_a_shutdown_is_relayed_whole() {
    for _ in 0..10 {
        let network = Memory::new();
        let relay = node(&network, "relay:1", App::new().with(Tattletale::new())).await;
        let subscriber = node(&network, "subscriber:2", App::new()).await;
        let publisher = node(&network, "publisher:3", App::new()).await;
        subscriber.connect("relay:1").await.unwrap();
        while relay.peers().is_empty() {
            tokio::task::yield_now().await;
        }
        publisher.connect("relay:1").await.unwrap();
        let said = std::iter::repeat_n("beep", 10_000);
        let _ = publisher.broadcast_payloads(said).await.unwrap();
        while relay.stats().received < 10_000 {
            tokio::task::yield_now().await;
        }
        let stats: Stats = Mesh::shutdown(&relay).await;
        assert_eq!((stats.relayed, stats.dropped), (10_000, 0));
    }
}

/// Hands on so many frames, and never answers for those after them.
#[derive(Clone)]
struct Hanging<S> {
    inner: S,
    left: u32,
}

impl<S> tower::Service<Frame> for Hanging<S>
where
    S: tower::Service<Frame, Response = Reply>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = Reply;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, frame: Frame) -> Self::Future {
        if self.left > 0 {
            self.left -= 1;
            return Box::pin(self.inner.call(frame));
        }
        Box::pin(async move {
            let _frame = frame;
            std::future::pending().await
        })
    }
}

fn hanging<S>(left: u32) -> impl tower::Layer<S, Service = Hanging<S>> + Clone {
    tower::layer::layer_fn(move |inner| Hanging { inner, left })
}

/// A plugin whose hook never lets a peer begin.
struct Hang;

impl Plugin for Hang {
    fn register(&self, app: &mut Registrar) {
        app.on_connect(|_| std::future::pending());
    }
}

#[tokio::test(start_paused = true)]
async fn what_no_relay_has_decided_about_is_counted_as_dropped_for_each_target() {
    for way in [Leave::Shutdown, Leave::Abort, Leave::Drop] {
        let within = App::new().with(Tattletale::new().relay_after());
        adds_up(
            leave(within.layer(hanging(0)), 100, 10, way).await,
            "within",
        );
        let around = App::new().layer(hanging(10)).with(Tattletale::new());
        adds_up(leave(around, 100, 10, way).await, "around");
        let smart = App::new().layer(hanging(0)).with(SmartRelay::new());
        adds_up(
            leave(smart, 100, 10, way).await,
            "around, from the first on",
        );
        let hook = App::new().plugin(Hang).with(Tattletale::new());
        adds_up(leave(hook, 100, 10, way).await, "a hook");
    }
}

/// Panics with every 300th frame, in the call or after it has waited.
fn panicking<S>(waits: bool) -> impl tower::Layer<S, Service = Panicking<S>> + Clone {
    tower::layer::layer_fn(move |inner| Panicking {
        inner,
        calls: 0,
        waits,
    })
}

#[derive(Clone)]
struct Panicking<S> {
    inner: S,
    calls: u32,
    waits: bool,
}

impl<S> tower::Service<Frame> for Panicking<S>
where
    S: tower::Service<Frame, Response = Reply>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = Reply;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, frame: Frame) -> Self::Future {
        self.calls += 1;
        if !self.calls.is_multiple_of(300) {
            return Box::pin(self.inner.call(frame));
        }
        assert!(self.waits, "in the call");
        Box::pin(async {
            tokio::task::yield_now().await;
            panic!("after the call");
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_panic_keeps_from_a_relay_is_counted_as_dropped() {
    for waits in [false, true] {
        let around = App::new().layer(panicking(waits)).with(Tattletale::new());
        let stats = leave(around, 1_000, 10, Leave::Shutdown).await;
        assert!(stats.dropped >= 3 * SUBSCRIBERS, "{stats:?}");
        adds_up(stats, ("around", waits));
        let smart = App::new().layer(panicking(waits)).with(SmartRelay::new());
        adds_up(leave(smart, 1_000, 10, Leave::Shutdown).await, "around");
        // What has been relayed before the panic is not lost.
        let within = App::new().with(Tattletale::new()).layer(panicking(waits));
        adds_up(leave(within, 1_000, 10, Leave::Shutdown).await, "within");
        let after = App::new()
            .with(Tattletale::new().relay_after())
            .layer(panicking(waits));
        adds_up(leave(after, 1_000, 10, Leave::Shutdown).await, "after");
    }
}

/// A clone of a frame that outlives its call, and its connection, is relayed or lost, and not both.
#[tokio::test(start_paused = true)]
async fn a_clone_that_outlives_its_connection_is_not_relayed_once_it_is_lost() {
    let (clones, mut kept) = tokio::sync::mpsc::unbounded_channel();
    let keeps = tower::layer::layer_fn(move |inner| {
        let clones = clones.clone();
        let keep = move |frame: Frame| {
            clones.send(frame.clone()).expect("the test keeps it");
            frame
        };
        tower::util::MapRequest::new(inner, keep)
    });
    let network = Memory::new();
    let app = App::new()
        .layer(keeps)
        .layer(hanging(0))
        .with(Tattletale::new());
    let relay = node(&network, "relay:1", app).await;
    let subscriber = node(&network, "subscriber:2", App::new()).await;
    let publisher = node(&network, "publisher:3", App::new()).await;
    subscriber.connect("relay:1").await.unwrap();
    while relay.peers().is_empty() {
        tokio::task::yield_now().await;
    }
    publisher.connect("relay:1").await.unwrap();
    let _ = publisher.broadcast_payload("beep").await.unwrap();
    let frame: Frame = kept.recv().await.unwrap();
    frame.peer().disconnect("enough");
    // Leaving waits for its time, which does not pass while this task is busy.
    while relay.stats().dropped == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let flow = coalescent_core::Flow::Drop;
    frame.relay(coalescent_core::Relay::new(flow));
    drop(frame);
    let stats = relay.shutdown().await;
    assert_eq!((stats.received, stats.relayed, stats.dropped), (1, 0, 1));
}
