//! What a layer may do with the frame it is called with, without the connection losing track of it:
//! deliver it more than once, ask for its relay from somewhere else, run another connection in
//! between, finish late, or outlive the connection.

use std::collections::BTreeSet;
use std::future::Future;
use std::ops::Range;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use coalescent_core::connection::{ConnectionInfo, serve};
use coalescent_core::stack::InboxFuture;
use coalescent_core::wire::{Kind, Packet, Status};
use coalescent_core::{
    App, AppExt, BoxError, Error, Event, Flow, Frame, Inbox, Mesh, MeshReader, PeerLayer, Relay,
    Reply,
};
use support::{ByHand, handle, join, on_the_wire, packet, soon, until};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::{Notify, mpsc};
use tower::{Service, ServiceExt};

/// How many bytes each direction of a connection holds: more than any test sends.
pub(super) const PIPE: usize = 1024 * 1024;

pub(super) const RELAY: Relay = Relay::new(Flow::Wait);

/// A layer that is one function of the frame and the inbox.
pub(super) fn around<F, Fut>(function: F) -> impl PeerLayer
where
    F: Fn(Frame, Inbox) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, BoxError>> + Send + 'static,
{
    tower::layer::layer_fn(move |inbox: Inbox| {
        let function = function.clone();
        tower::service_fn(move |frame: Frame| function(frame, inbox.clone()))
    })
}

pub(super) async fn deliver(inbox: &mut Inbox, frame: Frame) -> Result<Reply, BoxError> {
    Ok(inbox.ready().await?.call(frame).await?)
}

pub(super) fn text(nonce: u64) -> String {
    format!("frame {nonce}")
}

pub(super) fn broadcast(nonce: u64) -> Packet {
    packet(Kind::Broadcast { nonce }, text(nonce))
}

/// Sends broadcasts with these nonces, in as few writes as possible.
pub(super) async fn send_all(peer: &mut ByHand<DuplexStream>, nonces: Range<u64>) {
    let packets: Vec<_> = nonces.map(broadcast).collect();
    let bytes = on_the_wire(&packets);
    soon("a write", peer.framed.get_mut().write_all(&bytes))
        .await
        .expect("a node that reads");
}

pub(super) async fn read(reader: &mut MeshReader) -> Frame {
    soon("a frame to read", reader.next_frame())
        .await
        .expect("a mesh that goes on")
}

/// Reads these broadcasts, in this order.
pub(super) async fn expect_all(reader: &mut MeshReader, nonces: impl IntoIterator<Item = u64>) {
    for nonce in nonces {
        let frame = read(reader).await;
        assert_eq!(frame.nonce(), Some(nonce));
        assert_eq!(frame.payload(), text(nonce).as_bytes());
    }
}

/// Sends ten broadcasts through `layer`, and expects another peer to hear each of them once.
async fn expect_relayed_once(layer: impl PeerLayer) {
    let mesh = App::new().layer(layer).start().await.unwrap();
    let mut source = join(&mesh, PIPE).await;
    let mut far = join(&mesh, PIPE).await;
    send_all(&mut source, 0..10).await;
    for nonce in 0..10 {
        let heard = far.recv_frame().await.expect("a relayed frame");
        assert_eq!(heard.kind, Kind::Broadcast { nonce });
        assert_eq!(heard.payload, text(nonce));
    }
    assert_eq!(mesh.stats().relayed, 10);
}

#[tokio::test(start_paused = true)]
async fn a_layer_can_deliver_several_frames_for_one() {
    let layer = around(|frame: Frame, mut inbox: Inbox| async move {
        for part in 0..3 {
            let mut some = frame.clone();
            let whole = String::from_utf8_lossy(frame.payload());
            some.set_payload(format!("{whole}, part {part}"));
            deliver(&mut inbox, some).await?;
        }
        Ok(Reply::None)
    });
    let mesh = App::new().layer(layer).start().await.unwrap();
    let mut reader = mesh.reader();
    let mut peer = join(&mesh, PIPE).await;
    send_all(&mut peer, 0..10).await;
    for nonce in 0..10 {
        for part in 0..3 {
            let expected = format!("{}, part {part}", text(nonce));
            assert_eq!(read(&mut reader).await.payload(), expected.as_bytes());
        }
    }
    assert!(reader.try_next_frame().is_none());
    assert_eq!(mesh.stats().delivered, 30);
}

#[tokio::test(start_paused = true)]
async fn a_layer_can_deliver_a_frame_twice() {
    let layer = around(|frame: Frame, mut inbox: Inbox| async move {
        deliver(&mut inbox, frame.clone()).await?;
        deliver(&mut inbox, frame).await
    });
    let mesh = App::new().layer(layer).start().await.unwrap();
    let mut reader = mesh.reader();
    let mut peer = join(&mesh, PIPE).await;
    send_all(&mut peer, 0..10).await;
    expect_all(&mut reader, (0..10).flat_map(|nonce| [nonce, nonce])).await;
    assert!(reader.try_next_frame().is_none());
    assert_eq!(mesh.stats().delivered, 20);
}

#[tokio::test]
async fn a_clone_in_another_task_can_ask_for_the_relay() {
    expect_relayed_once(around(|frame: Frame, _| async move {
        let clone = frame.clone();
        tokio::spawn(async move { assert!(clone.relay(RELAY)) }).await?;
        Ok(Reply::None)
    }))
    .await;
}

#[tokio::test]
async fn a_reference_in_another_thread_can_ask_for_the_relay() {
    expect_relayed_once(around(|frame: Frame, _| async move {
        std::thread::scope(|scope| {
            scope.spawn(|| assert!(frame.relay(RELAY)));
        });
        Ok(Reply::None)
    }))
    .await;
}

#[tokio::test]
async fn a_layer_behind_a_buffer_can_ask_for_the_relay() {
    expect_relayed_once(tower::layer::layer_fn(|_: Inbox| {
        let relay_and_keep = tower::service_fn(|frame: Frame| {
            frame.relay(RELAY);
            async move {
                drop(frame);
                Ok::<_, BoxError>(Reply::None)
            }
        });
        tower::buffer::Buffer::new(relay_and_keep, 8)
    }))
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_was_read_can_be_relayed_while_its_connection_makes_the_stack_ready() {
    type Read = Arc<Mutex<Option<Frame>>>;

    /// Relays what was put there, before it is ready.
    #[derive(Clone)]
    struct RelayFirst {
        inbox: Inbox,
        read: Read,
    }

    impl Service<Frame> for RelayFirst {
        type Response = Reply;
        type Error = Error;
        type Future = InboxFuture;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
            if let Some(frame) = self.read.lock().unwrap().take() {
                assert!(frame.relay(RELAY));
            }
            self.inbox.poll_ready(cx)
        }

        fn call(&mut self, frame: Frame) -> InboxFuture {
            self.inbox.call(frame)
        }
    }

    let put = Read::default();
    let read_before = Arc::clone(&put);
    let layer = tower::layer::layer_fn(move |inbox| RelayFirst {
        inbox,
        read: Arc::clone(&read_before),
    });
    let mesh = App::new().layer(layer).start().await.unwrap();
    let mut reader = mesh.reader();
    let mut source = join(&mesh, PIPE).await;
    let mut far = join(&mesh, PIPE).await;
    send_all(&mut source, 1..2).await;
    *put.lock().unwrap() = Some(read(&mut reader).await);
    send_all(&mut source, 2..3).await;
    let heard = far.recv_frame().await.expect("the first frame");
    assert_eq!(heard, broadcast_after_one_hop(1));
    expect_all(&mut reader, [2]).await;
    assert_eq!(mesh.stats().relayed, 1);
}

/// A broadcast as the next node hears it.
fn broadcast_after_one_hop(nonce: u64) -> Packet {
    let mut packet = broadcast(nonce);
    packet.ttl -= 1;
    packet
}

#[tokio::test(start_paused = true)]
async fn a_call_can_run_another_connection_before_it_delivers() {
    let other = App::new().start().await.unwrap();
    let mut other_reader = other.reader();
    let peers = other.peers().clone();
    let layer = around(move |frame: Frame, mut inbox: Inbox| {
        let peers = peers.clone();
        async move {
            let (near, far) = tokio::io::duplex(PIPE);
            let talk = async {
                let mut peer = ByHand::connect(near).await;
                for nonce in 0..3 {
                    send_all(&mut peer, nonce..nonce + 1).await;
                    tokio::task::yield_now().await;
                }
                peer.send(Kind::Bye, "").await;
                assert!(peer.recv_frame().await.is_none());
            };
            let serve = serve(far, peers.inbox(), &peers, ConnectionInfo::inbound());
            tokio::join!(talk, serve).1?;
            deliver(&mut inbox, frame).await
        }
    });
    // One after another, so that what the other node reads has an order.
    let app = App::new().layer(layer).concurrency(1);
    let mesh = app.start().await.unwrap();
    let mut reader = mesh.reader();
    let mut peer = join(&mesh, PIPE).await;
    send_all(&mut peer, 0..5).await;
    expect_all(&mut reader, 0..5).await;
    expect_all(&mut other_reader, (0..5).flat_map(|_| 0..3)).await;
    assert_eq!(mesh.stats().delivered, 5);
    assert_eq!(other.stats().delivered, 15);
}

#[tokio::test(start_paused = true)]
async fn one_poll_can_run_another_connection_and_deliver() {
    let other = App::new().start().await.unwrap();
    let mut other_reader = other.reader();
    let peers = other.peers().clone();
    let layer = around(move |frame: Frame, mut inbox: Inbox| {
        let peers = peers.clone();
        async move {
            let (near, far) = tokio::io::duplex(PIPE);
            let mut serve = pin!(serve(far, peers.inbox(), &peers, ConnectionInfo::inbound()));
            let mut peer = tokio::select! {
                biased;
                peer = ByHand::connect(near) => peer,
                _ = &mut serve => panic!("the other connection ends before it is used"),
            };
            send_all(&mut peer, 0..1).await;
            // The other connection calls its stack, and still runs when this frame is delivered.
            std::future::poll_fn(|cx| {
                for _ in 0..2 {
                    assert!(serve.as_mut().poll(cx).is_pending());
                }
                Poll::Ready(())
            })
            .await;
            deliver(&mut inbox, frame).await
        }
    });
    let mesh = App::new().layer(layer).start().await.unwrap();
    let mut reader = mesh.reader();
    let mut peer = join(&mesh, PIPE).await;
    send_all(&mut peer, 0..5).await;
    expect_all(&mut reader, 0..5).await;
    expect_all(&mut other_reader, [0; 5]).await;
    assert_eq!(mesh.stats().delivered, 5);
    assert_eq!(other.stats().delivered, 5);
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_delays_frames_and_fails_none() {
    // No frame is the next one for longer than a second, but all of them together take longer than
    // the stack may take to become ready for one.
    let layer = tower::limit::RateLimitLayer::new(1, Duration::from_secs(1));
    let mesh = App::new().layer(layer).start().await.unwrap();
    let mut reader = mesh.reader();
    let mut peer = join(&mesh, PIPE).await;
    send_all(&mut peer, 0..45).await;
    expect_all(&mut reader, 0..45).await;
}

#[tokio::test(start_paused = true)]
async fn frames_that_are_handled_at_a_time_are_relayed_and_delivered_as_each_asks() {
    const FRAMES: u64 = 3000;
    // Some frames wait before they ask for their relay, some after that; only the even ones ask.
    async fn wait(turns: u64) {
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    }
    let layer = around(|frame: Frame, mut inbox: Inbox| async move {
        let nonce = frame.nonce().expect("a broadcast");
        if nonce.is_multiple_of(3) {
            wait(nonce % 7).await;
        }
        if nonce.is_multiple_of(2) {
            assert!(frame.relay(RELAY));
        }
        if nonce.is_multiple_of(5) {
            wait(nonce % 11).await;
        }
        deliver(&mut inbox, frame).await
    });
    let app = App::new().layer(layer);
    let app = app.configure(|config| config.concurrency = 7);
    let mesh = app.start().await.unwrap();
    let mut reader = mesh.reader();
    let mut source = join(&mesh, PIPE).await;
    let mut far = join(&mesh, PIPE).await;
    send_all(&mut source, 0..FRAMES).await;
    let (delivered, relayed) = tokio::join!(
        async {
            let mut nonces = BTreeSet::new();
            for _ in 0..FRAMES {
                nonces.extend(read(&mut reader).await.nonce());
            }
            nonces
        },
        async {
            let mut nonces = BTreeSet::new();
            for _ in 0..FRAMES / 2 {
                let heard = far.recv_frame().await.expect("a relayed frame");
                let Kind::Broadcast { nonce } = heard.kind else {
                    panic!("relayed as {:?}", heard.kind);
                };
                assert_eq!(heard.payload, text(nonce));
                nonces.insert(nonce);
            }
            nonces
        }
    );
    assert_eq!(delivered, (0..FRAMES).collect());
    assert_eq!(relayed, (0..FRAMES).step_by(2).collect());
    assert_eq!(mesh.stats().delivered, FRAMES);
    assert_eq!(mesh.stats().relayed, FRAMES / 2);
}

/// Disconnects all peers, and waits until nothing is left of their connections.
async fn disconnect_all(mesh: &Mesh) {
    let mut events = mesh.events();
    let peers = mesh.peers().list();
    for peer in peers.iter() {
        peer.disconnect("enough");
    }
    for _ in peers.iter() {
        while !matches!(
            soon("the end of a connection", events.next()).await,
            Some(Event::PeerDisconnected { .. })
        ) {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_delivery_from_another_task_is_done_after_its_connection_has_ended() {
    let go = Arc::new(Notify::new());
    let (done, mut finished) = mpsc::unbounded_channel();
    let wait = Arc::clone(&go);
    let layer = around(move |frame: Frame, mut inbox: Inbox| {
        let (wait, done) = (Arc::clone(&wait), done.clone());
        async move {
            if frame.payload() != b"later" {
                return deliver(&mut inbox, frame).await;
            }
            tokio::spawn(async move {
                wait.notified().await;
                deliver(&mut inbox, frame).await.expect("a delivery");
                done.send(()).expect("a test that waits");
            });
            Ok(Reply::None)
        }
    });
    let app = App::new().layer(layer);
    let mesh = app.configure(|config| config.inbox = 10_000);
    let mesh = mesh.start().await.unwrap();
    let mut reader = mesh.reader();
    let mut peer = join(&mesh, PIPE).await;
    peer.send(Kind::Data, "later").await;
    for _ in 0..100 {
        peer.send(Kind::Data, vec![b'x'; 5000]).await;
    }
    // One of those that were received is the one in the task.
    until("frames find no room on the read side", || {
        let stats = mesh.stats();
        stats.delivered > 0 && stats.received > stats.delivered + 1
    })
    .await;
    let before = mesh.stats().delivered;
    go.notify_one();
    until("the task's frame waits behind them", || {
        mesh.stats().delivered > before
    })
    .await;
    assert!(finished.try_recv().is_err());

    disconnect_all(&mesh).await;
    let mut read = 0;
    soon("the delivery of the task", async {
        loop {
            tokio::select! {
                frame = reader.next_frame() => read += u64::from(frame.is_some()),
                done = finished.recv() => break assert_eq!(done, Some(())),
            }
        }
    })
    .await;
    while reader.try_next_frame().is_some() {
        read += 1;
    }
    assert_eq!(read, mesh.stats().delivered);
}

#[tokio::test(start_paused = true)]
async fn what_counts_as_delivered_can_be_read_after_its_connection_has_ended() {
    const FRAMES: u64 = 2000;
    let app = App::new().configure(|config| config.inbox = 10_000);
    let mesh = app.start().await.unwrap();
    let mut reader = mesh.reader();
    let mut peer = join(&mesh, PIPE).await;
    send_all(&mut peer, 0..FRAMES).await;
    until("frames find no room on the read side", || {
        let stats = mesh.stats();
        stats.delivered > 0 && stats.received > stats.delivered
    })
    .await;
    disconnect_all(&mesh).await;
    let delivered = mesh.stats().delivered;
    assert!(delivered < FRAMES);
    expect_all(&mut reader, 0..delivered).await;
    assert!(reader.try_next_frame().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_reader_leaves_what_it_has_not_read_to_the_others() {
    let mesh = App::new().start().await.unwrap();
    let mut first = mesh.reader();
    let mut peer = join(&mesh, PIPE).await;
    send_all(&mut peer, 0..100).await;
    until("the frames are delivered", || mesh.stats().delivered == 100).await;
    let mut second = mesh.reader();
    expect_all(&mut first, 0..10).await;
    send_all(&mut peer, 100..150).await;
    until("more are delivered", || mesh.stats().delivered == 150).await;
    drop(first);
    expect_all(&mut second, 10..150).await;
    assert!(second.try_next_frame().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_stack_without_layers_delivers_and_counts_as_any() {
    for layers in [false, true] {
        let app = App::new();
        let mesh = if layers {
            let layer = around(|frame, mut inbox| async move { deliver(&mut inbox, frame).await });
            app.layer(layer).start().await.unwrap()
        } else {
            app.start().await.unwrap()
        };
        let mut peer = join(&mesh, PIPE).await;
        let received = || {
            let stats = mesh.peers().stats();
            (stats.received, stats.delivered, stats.dropped)
        };

        send_all(&mut peer, 0..3000).await;
        until("all is discarded", || received() == (3000, 3000, 0)).await;

        let mut reader = mesh.reader();
        send_all(&mut peer, 3000..6000).await;
        // Control frames, and a request, which the inbox does not answer, among them.
        let mut among: Vec<_> = (6000..6010).map(broadcast).collect();
        among.insert(3, packet(Kind::Ping, "12345678"));
        among.insert(5, packet(Kind::Request { id: 7 }, "who?"));
        let bytes = on_the_wire(&among);
        peer.framed.get_mut().write_all(&bytes).await.unwrap();
        send_all(&mut peer, 6010..9000).await;
        let mut expected: Vec<_> = (3000..9000).map(Some).collect();
        expected.insert(3004, None);
        for nonce in expected {
            assert_eq!(read(&mut reader).await.nonce(), nonce, "layers: {layers}");
        }
        assert_eq!(received(), (9001, 9001, 0), "layers: {layers}");
        let answers = [peer.recv().await.unwrap(), peer.recv().await.unwrap()];
        assert!(answers.iter().any(|answer| answer.kind == Kind::Pong));
        let status = Status::NoAnswer;
        let none = Kind::Reply { id: 7, status };
        assert!(answers.iter().any(|answer| answer.kind == none));
    }
}

#[tokio::test(start_paused = true)]
async fn replies_of_all_sizes_keep_their_order_and_are_counted() {
    let echo = handle(|frame: Frame| async move { Ok(Reply::Payload(frame.into_payload())) });
    let mesh = App::new().with(echo).start().await.unwrap();
    let mut peer = join(&mesh, PIPE).await;
    let sizes = [10, 0, 4096, 4097, 1024, 70_000, 20, 20, 5000, 1];
    let payload = |id: u32| {
        let byte = b'a' + u8::try_from(id % 26).unwrap();
        vec![byte; sizes[id as usize % sizes.len()]]
    };
    let count = 100;
    for id in 0..count {
        // Direct frames are answered too, by frames of their own.
        let kind = if id % 7 == 0 {
            Kind::Data
        } else {
            Kind::Request { id }
        };
        peer.send(kind, payload(id)).await;
        if id % 50 < 40 {
            continue;
        }
        // Now and then one after another, so that a buffer is used again.
        until("it is answered", || {
            mesh.peers().stats().sent > u64::from(id)
        })
        .await;
    }
    for id in 0..count {
        let answer = soon("an answer", peer.recv()).await.unwrap();
        let status = Status::Ok;
        let kind = if id % 7 == 0 {
            Kind::Data
        } else {
            Kind::Reply { id, status }
        };
        assert_eq!(answer.kind, kind);
        assert_eq!(answer.payload, payload(id), "the answer to {id}");
    }
    assert_eq!(mesh.peers().stats().sent, u64::from(count));
}

#[tokio::test(start_paused = true)]
async fn frames_that_hold_frames_are_dropped_with_them() {
    // Each keeps a clone of the one before, which keeps one of the one before that.
    let last: Arc<Mutex<Option<Frame>>> = Arc::default();
    let kept = Arc::clone(&last);
    let layer = around(move |mut frame, mut inbox| {
        let before = kept.lock().unwrap().take();
        frame.extensions_mut().insert(Arc::new(before));
        *kept.lock().unwrap() = Some(frame.clone());
        async move { deliver(&mut inbox, frame).await }
    });
    let mesh = App::new().layer(layer).start().await.unwrap();
    let mut peer = join(&mesh, PIPE).await;
    let mut reader = mesh.reader();
    send_all(&mut peer, 0..100).await;
    expect_all(&mut reader, 0..100).await;
    let chain = last.lock().unwrap().take().expect("the last frame");
    drop(chain);
    send_all(&mut peer, 100..110).await;
    for nonce in 100..110 {
        let frame = read(&mut reader).await;
        assert_eq!(frame.nonce(), Some(nonce));
        let before = frame.extensions().get::<Arc<Option<Frame>>>();
        let before = before.and_then(|before| before.as_ref().as_ref());
        assert_eq!(
            before.and_then(Frame::nonce),
            nonce.checked_sub(1).filter(|_| nonce > 100)
        );
    }
}
