//! Connections that break in every way, code that panics, clocks that jump.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::task::{Context, Poll};
use std::time::Duration;

use coalescent_core::connection::{ConnectionInfo, serve};
use coalescent_core::wire::{Kind, Status};
use coalescent_core::{
    App, AppExt, DisconnectReason, Event, Events, Flow, Frame, Mesh, Plugin, Registrar, Reply,
};
use futures_util::StreamExt;
use support::{ByHand, RelayLayer, handle, join, on_the_wire, packet, soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tower_layer::Layer;
use tower_service::Service;

async fn dial(mesh: &Mesh) -> TcpStream {
    TcpStream::connect(mesh.local_addrs()[0])
        .await
        .expect("someone who listens")
}

async fn disconnected(events: &mut Events) -> DisconnectReason {
    loop {
        let event = soon("a disconnect", events.next()).await;
        if let Event::PeerDisconnected { reason, .. } = event.expect("a running mesh") {
            return reason;
        }
    }
}

/// Closes a socket with a reset.
fn reset(peer: ByHand<TcpStream>) {
    let socket = socket2::SockRef::from(peer.framed.get_ref());
    socket
        .set_linger(Some(Duration::ZERO))
        .expect("a socket option");
    drop(peer);
}

#[tokio::test]
async fn a_frame_cut_at_any_byte_is_lost_alone() {
    let mesh = App::new().listen("127.0.0.1:0").await.unwrap();
    let mut heard = mesh.reader();
    let mut events = mesh.events();
    let whole = on_the_wire(&[packet(Kind::Data, "before")]);
    let cut = on_the_wire(&[packet(Kind::Broadcast { nonce: 1 }, "behind")]);
    for at in 0..cut.len() {
        let mut peer = ByHand::connect(dial(&mesh).await).await;
        let mut bytes = whole.clone();
        bytes.extend_from_slice(&cut[..at]);
        peer.framed.get_mut().write_all(&bytes).await.unwrap();
        let frame = soon("the whole one", heard.next_frame()).await.unwrap();
        assert_eq!(frame.payload(), b"before");
        // Every other one with a reset.
        if at % 2 == 0 {
            reset(peer);
        } else {
            drop(peer);
        }
        let reason = disconnected(&mut events).await;
        let fits = match &reason {
            DisconnectReason::Closed => at == 0,
            DisconnectReason::Protocol(_) => at > 0,
            DisconnectReason::Io(_) => at % 2 == 0,
            _ => false,
        };
        assert!(fits, "cut at {at}: {reason}");
    }
    assert!(mesh.peers().is_empty());
    assert_eq!(mesh.stats().received, cut.len() as u64);
}

#[tokio::test]
async fn who_closes_one_direction_is_still_answered_in_the_other() {
    let slow = handle(|frame: Frame| async move {
        tokio::task::yield_now().await;
        Ok(Reply::Payload(frame.into_payload()))
    });
    let mesh = App::new().with(slow).listen("127.0.0.1:0").await.unwrap();
    let mut peer = ByHand::connect(dial(&mesh).await).await;
    const ASKED: u32 = 200;
    for id in 0..ASKED {
        peer.send(Kind::Request { id }, vec![1; 10_000]).await;
    }
    peer.framed.get_mut().shutdown().await.unwrap();
    for id in 0..ASKED {
        let reply = peer.recv_frame().await.expect("a reply");
        let status = Status::Ok;
        assert_eq!(reply.kind, Kind::Reply { id, status });
    }
    assert!(peer.recv().await.is_none());
    until("it is gone", || mesh.peers().is_empty()).await;
    assert_eq!(mesh.stats().dropped, 0);
}

#[tokio::test]
async fn who_is_reset_while_its_replies_have_no_room_gives_its_place_back_at_once() {
    let echo = handle(|frame: Frame| async move { Ok(Reply::Payload(frame.into_payload())) });
    let app = App::new().with(echo).max_inbound(1).configure(|config| {
        config.outbox = 100_000;
        // Nothing else is to notice.
        config.patience = Duration::from_secs(3600);
        config.drain = Duration::from_secs(3600);
        config.ping_every = Duration::from_secs(3600);
    });
    let mesh = app.listen("127.0.0.1:0").await.unwrap();
    let mut events = mesh.events();
    let mut peer = ByHand::connect(dial(&mesh).await).await;
    until("it is in the roster", || mesh.peers().len() == 1).await;
    let asked = on_the_wire(&vec![packet(Kind::Request { id: 1 }, vec![1; 10_000]); 100]);
    let write = async {
        loop {
            peer.framed.get_mut().write_all(&asked).await.unwrap();
        }
    };
    let mut before = (0, 0);
    let held_back = async {
        let mut alike = 0;
        while alike < 5 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let stats = mesh.stats();
            let now = (stats.received, stats.sent);
            let same = now.0 > 0 && std::mem::replace(&mut before, now) == now;
            alike = if same { alike + 1 } else { 0 };
        }
    };
    soon("it is held back", async {
        tokio::select! {
            () = write => {}
            () = held_back => {}
        }
    })
    .await;
    reset(peer);
    let reason = disconnected(&mut events).await;
    // As it was in the middle of a frame, or not.
    let broke = matches!(
        reason,
        DisconnectReason::Io(_) | DisconnectReason::Protocol(_)
    );
    assert!(broke, "{reason}");
    let stats = mesh.stats();
    assert!(stats.dropped > 0 && stats.sent + stats.dropped <= stats.received);
    let mut next = ByHand::connect(dial(&mesh).await).await;
    next.send(Kind::Request { id: 7 }, "a place?").await;
    assert_eq!(next.recv_frame().await.unwrap().payload, "a place?");
}

#[tokio::test]
async fn what_a_peer_relays_and_then_breaks_off_is_written_or_counted() {
    // The stack fails in the middle of what one read brought.
    #[derive(Clone)]
    struct Fails(usize);
    impl Plugin for Fails {}
    impl<S> Layer<S> for Fails {
        type Service = RelayUntil;
        fn layer(&self, _inner: S) -> RelayUntil {
            RelayUntil(self.0)
        }
    }
    struct RelayUntil(usize);
    impl Service<Frame> for RelayUntil {
        type Response = Reply;
        type Error = &'static str;
        type Future = std::future::Ready<Result<Reply, &'static str>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            match self.0 {
                0 => Poll::Ready(Err("that was enough")),
                _ => Poll::Ready(Ok(())),
            }
        }
        fn call(&mut self, frame: Frame) -> Self::Future {
            self.0 -= 1;
            let (flow, direct) = (Flow::Wait, false);
            frame.relay(coalescent_core::Relay::new(flow).direct(direct));
            std::future::ready(Ok(Reply::None))
        }
    }
    let mesh = App::new()
        .with(Fails(10))
        .listen("127.0.0.1:0")
        .await
        .unwrap();
    let mut events = mesh.events();
    let mut source = ByHand::connect(dial(&mesh).await).await;
    let mut other = ByHand::connect(dial(&mesh).await).await;
    until("both are in the roster", || mesh.peers().len() == 2).await;
    let frames: Vec<_> = (0..20)
        .map(|nonce| packet(Kind::Broadcast { nonce }, "all"))
        .collect();
    let bytes = on_the_wire(&frames);
    source.framed.get_mut().write_all(&bytes).await.unwrap();
    for nonce in 0..10 {
        let got = other.recv_frame().await.expect("a frame");
        assert_eq!(got.kind, Kind::Broadcast { nonce });
    }
    let reason = disconnected(&mut events).await;
    assert!(matches!(reason, DisconnectReason::Stack(_)), "{reason}");
}

#[tokio::test]
async fn why_a_stack_fails_stays_on_its_node() {
    struct Fails;
    impl Plugin for Fails {}
    impl<S> Layer<S> for Fails {
        type Service = Self;
        fn layer(&self, _inner: S) -> Self {
            Self
        }
    }
    impl Service<Frame> for Fails {
        type Response = Reply;
        type Error = coalescent_core::Error;
        type Future = std::future::Ready<Result<Reply, Self::Error>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            let cause = std::io::Error::other("/home/alice/secret.db is locked");
            Poll::Ready(Err(coalescent_core::Error::offence(cause)))
        }
        fn call(&mut self, _: Frame) -> Self::Future {
            unreachable!("it is never ready")
        }
    }
    let app = App::new().with(Fails);
    let mesh = app.listen("127.0.0.1:0").await.unwrap();
    let mut events = mesh.events();
    let mut peer = ByHand::connect(dial(&mesh).await).await;
    peer.send(Kind::Data, "hello").await;
    let words = peer.expect_bye().await;
    assert_eq!(words, "its stack failed");
    let reason = disconnected(&mut events).await;
    assert!(reason.to_string().contains("secret.db"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_room_when_its_source_is_cut_off_is_counted() {
    let app = App::new().with(RelayLayer(Flow::Wait)).configure(|config| {
        config.outbox = 100_000;
        config.patience = Duration::from_secs(3600);
        config.drain = Duration::from_secs(1);
    });
    let mesh = app.start().await.unwrap();
    let mut events = mesh.events();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (mut source, joined) = tokio::join!(
        ByHand::connect(near),
        mesh.adopt(far, ConnectionInfo::inbound())
    );
    let from = joined.unwrap();
    let (near, far) = tokio::io::duplex(1024);
    let (_never_reads, joined) = tokio::join!(
        ByHand::connect(near),
        mesh.adopt(far, ConnectionInfo::inbound())
    );
    let to = joined.unwrap();
    let mut sent = 0;
    let send = |nonce| packet(Kind::Broadcast { nonce }, vec![0; 1000]);
    loop {
        let bytes = on_the_wire(&[send(sent)]);
        let write = source.framed.get_mut().write_all(&bytes);
        if tokio::time::timeout(Duration::from_millis(10), write)
            .await
            .is_err()
        {
            break;
        }
        sent += 1;
    }
    let delivered = from.stats().delivered;
    mesh.abort().await;
    let (stats, written) = (to.stats(), to.stats().relayed);
    assert!(delivered > 0 && from.stats().delivered >= delivered);
    assert_eq!(
        from.stats().delivered,
        written + stats.dropped,
        "what was relayed is what was written and what was dropped"
    );
    let mut told = 0;
    while let Some(event) = events.next().await {
        if let Event::Dropped { frames, .. } = event {
            told += frames;
        }
    }
    assert_eq!((told, mesh.stats().dropped), (stats.dropped, stats.dropped));
}

/// A layer and a plugin that panics in one place.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Panics {
    Layer,
    Ready,
    Call,
    Connect,
    Disconnect,
}

impl Plugin for Panics {
    fn register(&self, app: &mut Registrar) {
        match self {
            Self::Connect => drop(app.on_connect(|_| async { panic!("on connect") })),
            Self::Disconnect => drop(app.on_disconnect(|_| async { panic!("on disconnect") })),
            _ => {}
        }
    }
}

impl<S> Layer<S> for Panics {
    type Service = PanicService<S>;
    fn layer(&self, inner: S) -> PanicService<S> {
        assert!(*self != Panics::Layer, "no layer");
        PanicService(*self, inner)
    }
}

struct PanicService<S>(Panics, S);

impl<S: Service<Frame>> Service<Frame> for PanicService<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        assert!(self.0 != Panics::Ready, "not ready");
        self.1.poll_ready(cx)
    }
    fn call(&mut self, frame: Frame) -> S::Future {
        assert!(self.0 != Panics::Call, "no call");
        self.1.call(frame)
    }
}

#[tokio::test]
async fn code_that_panics_costs_a_frame_or_a_connection_and_no_more() {
    use Panics::{Call, Connect, Disconnect, Layer, Ready};
    for place in [Layer, Ready, Call, Connect, Disconnect] {
        let gone = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&gone);
        let app = App::new().on_disconnect(move |_| {
            count.fetch_add(1, SeqCst);
            std::future::ready(())
        });
        let app = app.with(place).max_inbound(1).configure(|config| {
            config.backoff = Duration::from_millis(1);
            config.backoff_max = Duration::from_millis(1);
        });
        let mesh = app.listen("127.0.0.1:0").await.unwrap();
        mesh.on_event(move |_| panic!("in a callback, {place:?}"));
        let mut events = mesh.events();
        // There is one place for a peer, which each must give back.
        for _ in 0..3 {
            let mut peer = ByHand::connect(dial(&mesh).await).await;
            peer.send(Kind::Data, "hello").await;
            if matches!(place, Call | Connect | Disconnect) {
                until("it is handled", || mesh.stats().received > 0).await;
                peer.framed.get_mut().shutdown().await.unwrap();
            }
            while peer.recv().await.is_some() {}
            disconnected(&mut events).await;
            until("its place is free", || mesh.peers().is_empty()).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        until("the hooks are told of each end", || gone.load(SeqCst) == 3).await;
        // A seed is dialled again.
        let seed = App::new().listen("127.0.0.1:0").await.unwrap();
        let came = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&came);
        seed.on_event(move |event| {
            if let Event::PeerConnected { peer } = event {
                count.fetch_add(1, SeqCst);
                peer.disconnect("again");
            }
        });
        mesh.add_seed(&seed.local_addrs()[0].to_string()).unwrap();
        until("a seed is dialled again", || came.load(SeqCst) >= 3).await;
        soon("the end", mesh.shutdown()).await;
    }
}

/// The hook is in no task of its connection, whose stack has panicked.
#[tokio::test(start_paused = true)]
async fn a_mesh_that_ends_waits_for_disconnect_hooks_for_as_long_as_for_connections() {
    for (takes, is_done) in [(1, true), (1_000_000, false)] {
        let (begun, done) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let told = (Arc::clone(&begun), Arc::clone(&done));
        let app = App::new().on_disconnect(move |_| {
            let (begun, done) = told.clone();
            async move {
                begun.notify_one();
                tokio::time::sleep(Duration::from_secs(takes)).await;
                done.store(true, SeqCst);
            }
        });
        let mesh = app.with(Panics::Call).start().await.unwrap();
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (mut peer, joined) = tokio::join!(
            ByHand::connect(near),
            mesh.adopt(far, ConnectionInfo::inbound())
        );
        joined.unwrap();
        peer.send(Kind::Data, "hello").await;
        begun.notified().await;
        mesh.shutdown().await;
        assert_eq!(done.load(SeqCst), is_done, "{takes} s");
    }
}

/// The hook runs where the mesh does: nobody drives the runtime that the connection was on.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_mesh_ends_though_a_connection_was_dropped_on_a_runtime_that_nobody_drives() {
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    let app = App::new().on_disconnect(move |_| {
        count.fetch_add(1, SeqCst);
        std::future::ready(())
    });
    let mesh = app.start().await.unwrap();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let peers = mesh.peers().clone();
    let elsewhere = std::thread::spawn(move || {
        let other = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        other.block_on(async {
            let connection = serve(far, peers.inbox(), &peers, ConnectionInfo::inbound());
            let come_and_go = async {
                let _peer = ByHand::connect(near).await;
                until("a peer", || !peers.is_empty()).await;
            };
            tokio::select! {
                ended = connection => panic!("{ended:?}"),
                () = come_and_go => {}
            }
        });
        other
    });
    let undriven = tokio::task::spawn_blocking(|| elsewhere.join().unwrap()).await;
    soon("the end", mesh.shutdown()).await;
    assert_eq!(told.load(SeqCst), 1);
    undriven.unwrap().shutdown_background();
}

#[tokio::test(start_paused = true)]
async fn a_frozen_peer_is_noticed_in_the_time_it_has_to_answer() {
    let mesh = App::new().start().await.unwrap();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (_frozen, joined) = tokio::join!(
        ByHand::connect(near),
        mesh.adopt(far, ConnectionInfo::inbound())
    );
    let peer = joined.unwrap();
    let since = tokio::time::Instant::now();
    let reason = peer.closed().await;
    assert!(matches!(reason, DisconnectReason::NoAnswer), "{reason}");
    let config = mesh.peers().config();
    let limit = config.ping_every + config.answer_within;
    assert!(
        since.elapsed() <= limit + Duration::from_secs(1),
        "{:?}",
        since.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_jump_of_the_clock_costs_no_peer_that_answers() {
    let mesh = App::new().start().await.unwrap();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (mut there, joined) = tokio::join!(
        ByHand::connect(near),
        mesh.adopt(far, ConnectionInfo::inbound())
    );
    let peer = joined.unwrap();
    let answering = tokio::spawn(async move {
        while let Some(Ok(packet)) = there.framed.next().await {
            if packet.kind == Kind::Ping {
                there.send(Kind::Pong, packet.payload).await;
            }
        }
    });
    for hours in [1, 24, 1000] {
        tokio::time::advance(Duration::from_secs(3600 * hours)).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(peer.is_connected());
    }
    assert!(!answering.is_finished());
}

#[tokio::test]
async fn times_that_never_end_are_taken_as_such() {
    let app = App::new().with(RelayLayer(Flow::Drop)).configure(|config| {
        config.connect_timeout = Duration::MAX;
        config.handshake_timeout = Duration::MAX;
        config.frame_timeout = Duration::MAX;
        config.ping_every = Duration::MAX;
        config.answer_within = Duration::MAX;
        config.patience = Duration::MAX;
        config.relay_grace = Duration::MAX;
        config.request_timeout = Duration::MAX;
        config.drain = Duration::MAX;
        config.backoff = Duration::MAX;
        config.backoff_max = Duration::MAX;
        config.backoff_reset = Duration::MAX;
    });
    let mesh = app.listen("127.0.0.1:0").await.unwrap();
    mesh.add_seed("127.0.0.1:1").unwrap();
    let mut one = ByHand::connect(dial(&mesh).await).await;
    let mut two = ByHand::connect(dial(&mesh).await).await;
    until("both are in the roster", || mesh.peers().len() == 2).await;
    one.send(Kind::Broadcast { nonce: 1 }, vec![0; 100_000])
        .await;
    assert_eq!(two.recv_frame().await.unwrap().payload.len(), 100_000);
    drop((one, two));
    until("both are gone", || mesh.peers().is_empty()).await;
    soon("the end", mesh.shutdown()).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_closes_holds_up_an_end_for_two_seconds() {
    let mesh = App::new().start().await.unwrap();
    let mut peer = join(&mesh, 1024).await;
    let since = tokio::time::Instant::now();
    mesh.shutdown().await;
    let took = since.elapsed();
    assert!(took <= Duration::from_millis(2_001), "{took:?}");
    peer.expect_bye().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_was_sent_much_and_never_closes_holds_up_an_end_no_longer_than_the_drain() {
    let mesh = App::new().start().await.unwrap();
    let mut peer = join(&mesh, 1024 * 1024).await;
    let sent = mesh.broadcast_payload(vec![0; 10_000]).await.unwrap();
    assert_eq!(sent.queued, 1);
    let since = tokio::time::Instant::now();
    let drain = mesh.peers().config().drain;
    mesh.shutdown().await;
    let took = since.elapsed();
    assert!(took <= drain + Duration::from_millis(1), "{took:?}");
    assert!(peer.recv_frame().await.is_some());
    peer.expect_bye().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_much_at_the_end_is_heard() {
    let mesh = App::new().start().await.unwrap();
    let mut heard = mesh.reader();
    let mut peer = join(&mesh, 1024).await;
    let ended = tokio::spawn(async move { mesh.shutdown().await });
    peer.expect_bye().await;
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(1_900)).await;
        peer.send(Kind::Data, "and another thing").await;
    }
    drop(peer);
    let stats = ended.await.unwrap();
    assert_eq!(stats.received, 4);
    for _ in 0..4 {
        let frame = soon("a frame", heard.next_frame()).await;
        assert_eq!(frame.unwrap().payload(), b"and another thing");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_never_reads_holds_up_an_end_no_longer_than_the_drain() {
    let mesh = App::new().start().await.unwrap();
    let (near, far) = tokio::io::duplex(1024);
    let (mut never_reads, joined) = tokio::join!(
        ByHand::connect(near),
        mesh.adopt(far, ConnectionInfo::inbound())
    );
    joined.unwrap();
    for _ in 0..10 {
        let sent = mesh.broadcast_payload(vec![0; 10_000]).await.unwrap();
        assert_eq!(sent.queued, 1);
    }
    let since = tokio::time::Instant::now();
    let drain = mesh.peers().config().drain;
    let stats = mesh.shutdown().await;
    let took = since.elapsed();
    assert!(took <= drain + Duration::from_millis(1), "{took:?}");
    assert_eq!(stats.sent + stats.dropped, 10);
    assert!(stats.dropped > 0);
    // Closed, too: what was written can be read, and then there is an end.
    let mut rest = Vec::new();
    never_reads
        .framed
        .get_mut()
        .read_to_end(&mut rest)
        .await
        .unwrap();
    assert!(rest.len() <= 1024);
}
