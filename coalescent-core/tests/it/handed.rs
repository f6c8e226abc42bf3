//! Frames that plugins hand in to a peer's stack, and read sides apart from that of the mesh.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coalescent_core::connection::ConnectionInfo;
use coalescent_core::transport::Memory;
use coalescent_core::wire::{Hello, Kind};
use coalescent_core::{
    App, AppExt, DropReason, Error, Event, Extensions, Flow, Frame, HANDED_COST, HANDED_IN, Mesh,
    Peer, Plugin, READ_BY_GRACE, ReadBy, Registrar, Relay,
};
use futures_util::SinkExt;
use support::{ByHand, packet, soon, until};
use tokio::io::DuplexStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tower::layer::layer_fn;
use tower::{Service, ServiceExt, service_fn};

/// On frames that were handed in.
#[derive(Clone, Debug, PartialEq)]
struct Mark(u8);

/// Hands in what comes over the channel `in/1`, with its first byte as a mark.
struct HandsIn;

impl Plugin for HandsIn {
    fn register(&self, app: &mut Registrar) {
        app.channel("in/1", |peer: Peer, payload: Bytes| {
            let mut extensions = Extensions::new();
            extensions.insert(Mark(payload.first().copied().unwrap_or(0)));
            peer.hand_in(payload, extensions).expect("there is room");
            async {}
        });
    }
}

/// Joins `mesh` as a peer that knows the channel `in/1`.
async fn join(mesh: &Mesh) -> (ByHand<DuplexStream>, Peer) {
    let (near, far) = tokio::io::duplex(1 << 20);
    let mut by_hand = ByHand::new(near);
    let hello = Hello::new(by_hand.node, "").channels(["in/1"]);
    let greet = async {
        by_hand.send(Kind::Hello, hello.encode().unwrap()).await;
        assert_eq!(by_hand.recv().await.unwrap().kind, Kind::Hello);
    };
    let (adopted, ()) = tokio::join!(mesh.adopt(far, ConnectionInfo::inbound()), greet);
    (by_hand, adopted.unwrap())
}

/// A layer that waits for a permit before it calls the inner service.
fn gate(
    gate: &Arc<Semaphore>,
) -> impl tower::Layer<coalescent_core::Inbox, Service: coalescent_core::PeerService>
+ Send
+ Sync
+ 'static
+ use<> {
    let gate = Arc::clone(gate);
    layer_fn(move |inbox: coalescent_core::Inbox| {
        let gate = Arc::clone(&gate);
        service_fn(move |frame: Frame| {
            let (gate, inbox) = (Arc::clone(&gate), inbox.clone());
            async move {
                gate.acquire().await.unwrap().forget();
                inbox.oneshot(frame).await
            }
        })
    })
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_hands_in_stands_in_the_order_of_arrival() {
    let app = App::new().plugin(HandsIn);
    let mesh = app.start().await.unwrap();
    let mut reader = mesh.reader();
    let (mut by_hand, peer) = join(&mesh).await;
    let channel = Kind::Channel { index: 0 };
    let kinds = [
        Kind::Data,
        channel,
        channel,
        Kind::Broadcast { nonce: 1 },
        Kind::Data,
        channel,
        Kind::Request { id: 1 },
        channel,
    ];
    // In one read.
    let frames: Vec<_> = (0..800).map(|at| kinds[at % kinds.len()]).collect();
    for (at, kind) in frames.iter().enumerate() {
        let kind = match kind {
            Kind::Broadcast { .. } => Kind::Broadcast { nonce: at as u64 },
            Kind::Request { .. } => Kind::Request { id: at as u32 },
            kind => *kind,
        };
        let packet = packet(kind, at.to_string().into_bytes());
        by_hand.framed.feed(packet).await.unwrap();
    }
    by_hand.framed.flush().await.unwrap();
    for (at, kind) in frames.iter().enumerate() {
        let frame = soon("a frame", reader.next_frame()).await.unwrap();
        let text = at.to_string();
        assert_eq!(frame.payload(), text.as_bytes());
        let handed = *kind == channel;
        assert_eq!(
            frame.extensions().get(),
            handed.then_some(&Mark(text.as_bytes()[0]))
        );
        assert_eq!(handed, handed && frame.kind() == Kind::Data);
        assert_eq!(*frame.peer(), peer);
    }
    let stats = peer.stats();
    assert_eq!((stats.received, stats.delivered), (800, 800));
    assert_eq!(stats.channel_received, 400);
}

#[tokio::test(start_paused = true)]
async fn a_slow_stack_holds_the_connection_back_and_loses_nothing() {
    let permits = Arc::new(Semaphore::new(0));
    let app = App::new().plugin(HandsIn).layer(gate(&permits));
    let mesh = app.start().await.unwrap();
    let mut reader = mesh.reader();
    let (mut by_hand, peer) = join(&mesh).await;
    let (frames, len) = (400, 16 * 1024);
    let sending = tokio::spawn(async move {
        for at in 0..frames {
            let payload = vec![at as u8; len];
            by_hand.send(Kind::Channel { index: 0 }, payload).await;
        }
        by_hand
    });
    let read_ahead = mesh.peers().config().read_ahead;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let read = peer.stats().channel_received;
    let most = read_ahead + read_ahead / 2 + 256 * 1024;
    assert!(
        read as usize * len <= most,
        "{read} frames of {len} bytes were read"
    );
    assert!(!sending.is_finished());
    permits.add_permits(frames);
    for at in 0..frames {
        let frame = soon("a frame", reader.next_frame()).await.unwrap();
        assert_eq!((frame.payload().len(), frame.payload()[0]), (len, at as u8));
    }
    assert_eq!(peer.stats().dropped, 0);
    let mut by_hand = soon("all is sent", sending).await.unwrap();
    by_hand.send(Kind::Ping, vec![7; 8]).await;
    assert_eq!(by_hand.recv().await.unwrap().kind, Kind::Pong);
}

#[tokio::test(start_paused = true)]
async fn control_frames_overtake_what_was_handed_in() {
    let permits = Arc::new(Semaphore::new(0));
    let app = App::new().plugin(HandsIn).layer(gate(&permits));
    let mesh = app.start().await.unwrap();
    let (mut by_hand, _) = join(&mesh).await;
    for _ in 0..100 {
        by_hand.send(Kind::Channel { index: 0 }, "waits").await;
    }
    by_hand.send(Kind::Ping, vec![7; 8]).await;
    assert_eq!(
        soon("a pong", by_hand.recv()).await.unwrap().kind,
        Kind::Pong
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_handed_in_from_elsewhere_wakes_the_connection_and_has_a_bound() {
    let permits = Arc::new(Semaphore::new(0));
    let app = App::new().plugin(HandsIn).layer(gate(&permits));
    let mesh = app.start().await.unwrap();
    let mut reader = mesh.reader();
    let (by_hand, peer) = join(&mesh).await;
    permits.add_permits(1);
    peer.hand_in("one", Extensions::new()).unwrap();
    let frame = soon("it is handled", reader.next_frame()).await.unwrap();
    assert_eq!((frame.payload(), frame.kind()), (&b"one"[..], Kind::Data));

    let mut taken = 0;
    let full = loop {
        match peer.hand_in(vec![0; 1000], Extensions::new()) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        tokio::task::yield_now().await;
    };
    assert!(full.is_full(), "{full}");
    let read_ahead = mesh.peers().config().read_ahead;
    assert!(
        taken * (1000 + HANDED_COST) <= 2 * read_ahead + HANDED_IN,
        "{taken}"
    );
    permits.add_permits(taken);
    for _ in 0..taken {
        assert_eq!(
            soon("a frame", reader.next_frame())
                .await
                .unwrap()
                .payload()
                .len(),
            1000
        );
    }
    let max = mesh.peers().config().max_frame;
    permits.add_permits(1);
    peer.hand_in(vec![1; max], Extensions::new()).unwrap();
    assert_eq!(
        soon("a frame", reader.next_frame())
            .await
            .unwrap()
            .payload()
            .len(),
        max
    );
    let error = peer
        .hand_in(vec![0; max + 1], Extensions::new())
        .unwrap_err();
    assert!(error.is_encode());

    drop(by_hand);
    soon("it leaves", peer.closed()).await;
    let error = peer.hand_in("late", Extensions::new()).unwrap_err();
    assert!(error.is_closed());
    assert_eq!(peer.stats().dropped, 0);
}

#[tokio::test(start_paused = true)]
async fn what_no_connection_takes_over_counts_as_dropped() {
    let permits = Arc::new(Semaphore::new(0));
    let app = App::new()
        .plugin(HandsIn)
        .layer(gate(&permits))
        .configure(|config| config.drain = Duration::from_millis(10));
    let mesh = app.start().await.unwrap();
    let (by_hand, peer) = join(&mesh).await;
    let mut taken = 0;
    while peer.hand_in(vec![0; 1000], Extensions::new()).is_ok() {
        taken += 1;
        tokio::task::yield_now().await;
    }
    drop(by_hand);
    soon("it leaves", peer.closed()).await;
    until("all are counted", || {
        let stats = mesh.stats();
        stats.received + mesh_lost(&stats) >= taken
    })
    .await;
    let stats = mesh.stats();
    assert_eq!(stats.delivered, 0);
    // Calls that had begun are dropped with the connection.
    assert!(stats.dropped > 0 && stats.dropped <= taken, "{stats:?}");
}

fn mesh_lost(stats: &coalescent_core::Stats) -> u64 {
    stats.dropped
}

#[tokio::test(start_paused = true)]
async fn no_relay_passes_on_what_was_handed_in() {
    let network = Memory::new();
    let relay = layer_fn(|mut inbox: coalescent_core::Inbox| {
        service_fn(move |frame: Frame| {
            let flow = Flow::Drop;
            let relayed = frame.relay(Relay::new(flow).direct(true));
            assert_eq!(relayed, frame.extensions().get::<Mark>().is_none());
            inbox.call(frame)
        })
    });
    let app = App::new().plugin(HandsIn).layer(relay);
    let mesh = app.transport(network.clone()).listen("a:1").await.unwrap();
    let other = App::new().transport(network).start().await.unwrap();
    other.connect("a:1").await.unwrap();
    let mut heard = other.reader();
    let (mut by_hand, _) = join(&mesh).await;
    by_hand.send(Kind::Channel { index: 0 }, "handed in").await;
    by_hand.send(Kind::Data, "direct").await;
    let frame = soon("a frame", heard.next_frame()).await.unwrap();
    assert_eq!(frame.payload(), b"direct");
    assert!(
        timeout(Duration::from_secs(9), heard.next_frame())
            .await
            .is_err()
    );
}

/// Has frames that begin with `!` read apart.
fn apart(
    read_by: &ReadBy,
) -> impl tower::Layer<coalescent_core::Inbox, Service: coalescent_core::PeerService>
+ Send
+ Sync
+ 'static
+ use<> {
    let read_by = read_by.clone();
    layer_fn(move |mut inbox: coalescent_core::Inbox| {
        let read_by = read_by.clone();
        service_fn(move |mut frame: Frame| {
            if frame.payload().first() == Some(&b'!') {
                frame.extensions_mut().insert(read_by.clone());
            }
            inbox.call(frame)
        })
    })
}

#[tokio::test(start_paused = true)]
async fn marked_frames_go_to_a_reader_of_their_own() {
    let read_by = ReadBy::new(1 << 20);
    let mut urgent = read_by.reader();
    let mesh = App::new().layer(apart(&read_by)).start().await.unwrap();
    let mut reader = mesh.reader();
    let (mut by_hand, peer) = join(&mesh).await;
    for text in ["1", "!2", "3", "!4"] {
        by_hand.send(Kind::Data, text).await;
    }
    for text in ["1", "3"] {
        let frame = soon("a frame", reader.next_frame()).await.unwrap();
        assert_eq!(frame.payload(), text.as_bytes());
    }
    for text in ["!2", "!4"] {
        let frame = soon("a frame", urgent.next_frame()).await.unwrap();
        assert_eq!(frame.payload(), text.as_bytes());
        assert!(frame.extensions().get::<ReadBy>().is_none());
    }
    assert_eq!(peer.stats().delivered, 4);

    // Without a reader, they are discarded.
    drop(urgent);
    by_hand.send(Kind::Data, "!5").await;
    by_hand.send(Kind::Data, "6").await;
    let frame = soon("a frame", reader.next_frame()).await.unwrap();
    assert_eq!(frame.payload(), b"6");
    assert_eq!((peer.stats().delivered, read_by.dropped()), (6, 0));
    let mut urgent = read_by.reader();
    read_by.end();
    assert!(soon("the end", urgent.next_frame()).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_has_stopped_delays_others_once() {
    let read_by = ReadBy::new(64 * 1024);
    let mut urgent = read_by.reader();
    let app = App::new().layer(apart(&read_by)).concurrency(1);
    let mesh = app.start().await.unwrap();
    let mut events = mesh.events();
    let mut reader = mesh.reader();
    let (mut by_hand, peer) = join(&mesh).await;
    // As long as nobody has asked for a frame, those without room would be discarded.
    assert!(urgent.try_next_frame().is_none());
    let mut urgents = 0;
    while read_by.dropped() == 0 {
        let mut payload = vec![b'!'; 1024];
        payload[1] = urgents as u8;
        by_hand.send(Kind::Data, payload).await;
        urgents += 1;
        if peer.stats().delivered < urgents {
            tokio::time::sleep(READ_BY_GRACE / 10).await;
        }
    }
    let began = Instant::now();
    for _ in 0..1000 {
        by_hand.send(Kind::Data, vec![b'!'; 1024]).await;
        by_hand.send(Kind::Data, "for the mesh").await;
        soon("a frame", reader.next_frame()).await.unwrap();
    }
    let late = began.elapsed();
    assert!(
        late <= 2 * READ_BY_GRACE,
        "the mesh's frames were delayed by {late:?}"
    );
    until("all are counted", || read_by.dropped() >= 1000).await;
    assert_eq!(peer.stats().dropped, read_by.dropped());
    loop {
        let event = soon("an event", events.next()).await.unwrap();
        if let Event::Dropped { reason, .. } = event {
            assert_eq!(reason, DropReason::Unread);
            break;
        }
    }
    // Once it reads again, frames wait for it again.
    let mut read = 0;
    while urgent.try_next_frame().is_some() {
        read += 1;
    }
    assert!(read > 16, "{read} were kept");
    let before = read_by.dropped();
    for _ in 0..1000 {
        by_hand.send(Kind::Data, vec![b'!'; 1024]).await;
        soon("a frame", urgent.next_frame()).await.unwrap();
    }
    assert_eq!(read_by.dropped(), before);
}

#[tokio::test]
async fn topics_are_declared_once_and_have_names() {
    struct Topics(&'static [&'static str]);
    impl Plugin for Topics {
        fn register(&self, app: &mut Registrar) {
            for name in self.0 {
                app.topic(*name);
            }
        }
    }
    let app = App::new()
        .plugin(Topics(&["b", "a"]))
        .plugin(Topics(&["a", "c"]));
    let mesh = app.start().await.unwrap();
    assert_eq!(mesh.peers().topics(), ["b", "a", "c"]);
    let error: Error = App::new().plugin(Topics(&[""])).start().await.unwrap_err();
    assert!(error.is_config(), "{error}");
}
