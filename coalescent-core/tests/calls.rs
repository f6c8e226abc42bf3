//! Failing scenarios of the review.

mod common;

use bytes::Bytes;
use coalescent_core::connection::Socket;
use coalescent_core::wire::Kind;
use coalescent_core::{App, AppExt, BoxError, Flow, Frame, Inbox, Mesh, Relay, Reply, Wire};
use common::{ByHand, on_the_wire, packet, soon, until};
use std::future::Future;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tower::{Layer, Service, ServiceExt};

const RELAY: Relay = Relay {
    flow: Flow::Wait,
    direct: false,
};

fn around<F, Fut>(f: F) -> impl coalescent_core::PeerLayer
where
    F: Fn(Frame, Inbox) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, BoxError>> + Send + 'static,
{
    tower::layer::layer_fn(move |inner: Inbox| {
        let f = f.clone();
        tower::service_fn(move |frame: Frame| f(frame, inner.clone()))
    })
}

async fn join(mesh: &Mesh) -> ByHand<DuplexStream> {
    let (near, far) = tokio::io::duplex(1 << 20);
    let (peer, adopted) = tokio::join!(ByHand::connect(near), mesh.adopt(far, Socket::inbound()));
    adopted.expect("a peer");
    peer
}

fn broadcast(nonce: u64) -> coalescent_core::wire::Packet {
    packet(Kind::Broadcast { nonce }, format!("frame {nonce}"))
}

async fn send_all(peer: &mut ByHand<DuplexStream>, n: u64) {
    let packets: Vec<_> = (0..n).map(broadcast).collect();
    let bytes = on_the_wire(&packets);
    peer.framed.get_mut().write_all(&bytes).await.unwrap();
}

// A: a layer that splits a frame into several for the inbox.
#[tokio::test(start_paused = true)]
async fn a_layer_that_makes_three_frames_of_one() {
    let layer = around(|frame: Frame, mut inbox: Inbox| async move {
        for part in 0..3 {
            let mut some = frame.clone();
            let text = format!("{} part {part}", String::from_utf8_lossy(frame.payload()));
            some.set_payload(text);
            inbox.ready().await?.call(some).await?;
        }
        Ok(Reply::None)
    });
    let mesh = App::new().layer(layer).start().await.unwrap();
    let mut reader = mesh.reader();
    let mut peer = join(&mesh).await;
    send_all(&mut peer, 10).await;
    let mut got = Vec::new();
    while let Ok(Some(frame)) =
        tokio::time::timeout(Duration::from_secs(1), reader.next_frame()).await
    {
        got.push(String::from_utf8_lossy(frame.payload()).into_owned());
    }
    println!("{got:?}; {:?}", mesh.stats());
    assert_eq!(got.len(), 30);
}

// A2: plain clones, twice.
#[tokio::test(start_paused = true)]
async fn a_layer_that_says_everything_twice() {
    let layer = around(|frame: Frame, mut inbox: Inbox| async move {
        inbox.ready().await?.call(frame.clone()).await?;
        inbox.ready().await?.call(frame).await?;
        Ok(Reply::None)
    });
    let mesh = App::new().layer(layer).start().await.unwrap();
    let mut reader = mesh.reader();
    let mut peer = join(&mesh).await;
    send_all(&mut peer, 10).await;
    let mut got = 0;
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_secs(1), reader.next_frame()).await
    {
        got += 1;
    }
    println!("{:?}", mesh.stats());
    assert_eq!(got, 20);
}

async fn relayed_by(layer: impl coalescent_core::PeerLayer) -> u64 {
    let mesh = App::new().layer(layer).start().await.unwrap();
    let mut source = join(&mesh).await;
    let mut far = join(&mesh).await;
    send_all(&mut source, 10).await;
    let mut got = 0;
    while let Ok(Some(Ok(p))) = tokio::time::timeout(
        Duration::from_secs(1),
        futures_util::StreamExt::next(&mut far.framed),
    )
    .await
    {
        if matches!(p.kind, Kind::Broadcast { .. }) {
            got += 1;
        }
    }
    println!("{:?}", mesh.stats());
    got
}

// B1: relayed by a clone in another task, while the call waits for it.
#[tokio::test]
async fn a_clone_relays_in_another_task() {
    let layer = around(|frame: Frame, _| async move {
        let clone = frame.clone();
        tokio::spawn(async move { assert!(clone.relay(RELAY)) }).await?;
        drop(frame);
        Ok(Reply::None)
    });
    assert_eq!(relayed_by(layer).await, 10);
}

// B2: through a tower Buffer, around a relay and a handler that keeps the frame.
#[tokio::test]
async fn a_relay_behind_a_buffer() {
    let layer = tower::layer::layer_fn(|_inner: Inbox| {
        let relay_and_handle = tower::service_fn(|frame: Frame| {
            frame.relay(RELAY);
            async move {
                let _len = frame.payload().len();
                Ok::<_, BoxError>(Reply::None)
            }
        });
        tower::buffer::Buffer::new(relay_and_handle, 8)
    });
    assert_eq!(relayed_by(layer).await, 10);
}

// B3: by reference in another thread.
#[tokio::test]
async fn a_reference_relays_in_another_thread() {
    let layer = around(|frame: Frame, _| async move {
        std::thread::scope(|scope| {
            scope.spawn(|| assert!(frame.relay(RELAY)));
        });
        Ok(Reply::None)
    });
    assert_eq!(relayed_by(layer).await, 10);
}

// C: a call that runs another connection, then delivers its own frame.
#[tokio::test(start_paused = true)]
async fn a_call_that_runs_another_connection() {
    let other = App::new().start().await.unwrap();
    let _other_reader = other.reader();
    let peers = other.peers().clone();
    let layer = around(move |frame: Frame, mut inbox: Inbox| {
        let peers = peers.clone();
        async move {
            let (near, far) = tokio::io::duplex(1 << 16);
            let talk = async move {
                let mut peer = ByHand::connect(near).await;
                for nonce in 0..3 {
                    peer.send(Kind::Broadcast { nonce }, "inner").await;
                    tokio::task::yield_now().await;
                }
                peer.send(Kind::Bye, "").await;
                let _ = peer.recv_frame().await;
            };
            let inner = peers.inbox();
            let serve = coalescent_core::connection::serve(far, inner, &peers, Socket::inbound());
            tokio::join!(talk, serve).1?;
            inbox.ready().await?.call(frame).await?;
            Ok(Reply::None)
        }
    });
    let mesh = App::new().layer(layer).start().await.unwrap();
    let mut reader = mesh.reader();
    let mut peer = join(&mesh).await;
    send_all(&mut peer, 5).await;
    let mut got = 0;
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_secs(1), reader.next_frame()).await
    {
        got += 1;
    }
    println!("{:?}", mesh.stats());
    assert_eq!(got, 5);
}

// C2: the same, in one poll: the inner connection is polled in the poll that delivers.
#[tokio::test(start_paused = true)]
async fn a_poll_that_looks_after_another_connection_and_delivers() {
    let other = App::new().start().await.unwrap();
    let mut other_reader = other.reader();
    let peers = other.peers().clone();
    let layer = around(move |frame: Frame, mut inbox: Inbox| {
        let peers = peers.clone();
        async move {
            let (near, far) = tokio::io::duplex(1 << 16);
            let inner = peers.inbox();
            let mut serve = Box::pin(coalescent_core::connection::serve(
                far,
                inner,
                &peers,
                Socket::inbound(),
            ));
            let connect = ByHand::connect(near);
            let mut peer = tokio::select! {
                biased;
                peer = connect => peer,
                _ = &mut serve => panic!(),
            };
            peer.send(Kind::Broadcast { nonce: 0 }, "inner").await;
            // In this poll, the other connection calls its stack, and goes on waiting.
            std::future::poll_fn(|cx| {
                let _ = serve.as_mut().poll(cx);
                let _ = serve.as_mut().poll(cx);
                std::task::Poll::Ready(())
            })
            .await;
            inbox.ready().await?.call(frame).await?;
            Ok(Reply::None)
        }
    });
    let mesh = App::new().layer(layer).start().await.unwrap();
    let mut reader = mesh.reader();
    let mut peer = join(&mesh).await;
    send_all(&mut peer, 5).await;
    let mut got = 0;
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_secs(1), reader.next_frame()).await
    {
        got += 1;
    }
    let _ = other_reader.try_next_frame();
    println!("{:?} {:?}", mesh.stats(), other.stats());
    assert_eq!(got, 5);
}

// D: a rate limit: no frame waits longer than 10 s, and yet one fails after 30 s.
#[tokio::test(start_paused = true)]
async fn a_limited_rate_loses_nothing() {
    let layer = tower::limit::RateLimitLayer::new(1, Duration::from_secs(1));
    let mesh = App::new().layer(layer).start().await.unwrap();
    let mut reader = mesh.reader();
    let mut events = mesh.events();
    let mut peer = join(&mesh).await;
    send_all(&mut peer, 45).await;
    let mut got = Vec::new();
    while got.len() < 45 {
        match tokio::time::timeout(Duration::from_secs(5), reader.next_frame()).await {
            Ok(Some(frame)) => got.push(frame.nonce().unwrap()),
            _ => break,
        }
    }
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(1), events.next()).await
    {
        println!("{event:?}");
    }
    let lost: Vec<_> = (0..45).filter(|n| !got.contains(n)).collect();
    assert!(lost.is_empty(), "lost {lost:?}");
}

// E: the connection ends while frames are staged, and a spawned call waits behind them for ever.
#[tokio::test(start_paused = true)]
async fn a_spawned_delivery_outlives_its_connection() {
    let (done, mut finished) = tokio::sync::mpsc::unbounded_channel();
    let layer = around(move |frame: Frame, mut inbox: Inbox| {
        let done = done.clone();
        async move {
            if frame.payload().starts_with(b"spawn") {
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    inbox.ready().await.unwrap().call(frame).await.unwrap();
                    done.send(()).unwrap();
                });
            } else {
                inbox.ready().await?.call(frame).await?;
            }
            Ok(Reply::None)
        }
    });
    let mesh = App::new()
        .layer(layer)
        .configure(|c| c.inbox = 10_000)
        .start()
        .await
        .unwrap();
    let mut reader = mesh.reader();
    let mut peer = join(&mesh).await;
    peer.send(Kind::Data, "spawn").await;
    for _ in 0..100 {
        peer.send(Kind::Data, vec![b'x'; 5000]).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    // Ended by this node: it drains for 10 s, and nobody reads.
    for peer in mesh.peers().list().iter() {
        peer.disconnect("enough");
    }
    drop(peer);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let mut got = 0;
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_secs(60), reader.next_frame()).await
    {
        got += 1;
    }
    println!("{got} read; {:?}", mesh.stats());
    soon("the spawned call", finished.recv()).await;
    assert_eq!(got, mesh.stats().delivered);
}

// F: a second reader gets what the first has not read.
#[tokio::test(start_paused = true)]
async fn a_busy_reader_does_not_keep_frames_from_another() {
    let mesh = App::new().start().await.unwrap();
    let mut first = mesh.reader();
    let mut peer = join(&mesh).await;
    send_all(&mut peer, 100).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let _one = first.next_frame().await.unwrap();
    let mut second = mesh.reader();
    let mut got = 0;
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_secs(1), second.next_frame()).await
    {
        got += 1;
    }
    assert!(got > 0, "second got {got}");
}

// G: asking a delivered frame again.
#[tokio::test(start_paused = true)]
async fn asked_twice_it_is_passed_on_once() {
    let layer = around(|frame: Frame, mut inbox: Inbox| async move {
        frame.relay(RELAY);
        inbox.ready().await?.call(frame).await?;
        Ok(Reply::None)
    });
    let mesh = App::new().layer(layer).start().await.unwrap();
    let mut reader = mesh.reader();
    let mut source = join(&mesh).await;
    let _far = join(&mesh).await;
    send_all(&mut source, 1).await;
    let frame = reader.next_frame().await.unwrap();
    frame.relay(RELAY);
    frame.relay(RELAY);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(mesh.stats().relayed, 1);
}

#[allow(unused)]
fn unused(_: Bytes, _: Wire) {
    async fn x(mut s: DuplexStream) {
        let _ = s.read(&mut [0]).await;
        until("", || true).await;
    }
    fn l<L: Layer<Inbox>>(_: L) {}
}

// H: staged frames, and the connection breaks: read side gets all that was counted as delivered?
#[tokio::test(start_paused = true)]
async fn what_was_counted_as_delivered_can_be_read() {
    let mesh = App::new()
        .configure(|c| c.inbox = 10_000)
        .start()
        .await
        .unwrap();
    let mut reader = mesh.reader();
    let mut peer = join(&mesh).await;
    let packets: Vec<_> = (0..4)
        .flat_map(|n| (0..500).map(move |m| broadcast(n * 500 + m)))
        .collect();
    for some in packets.chunks(500) {
        let bytes = on_the_wire(some);
        peer.framed.get_mut().write_all(&bytes).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for peer in mesh.peers().list().iter() {
        peer.disconnect("enough");
    }
    // The reader comes back after the drain.
    tokio::time::sleep(Duration::from_secs(30)).await;
    let mut got = 0;
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_secs(1), reader.next_frame()).await
    {
        got += 1;
    }
    let stats = mesh.stats();
    println!("{got} {stats:?}");
    assert_eq!(got, stats.delivered);
}

// I: the read side of two readers, one drops: order and completeness.
#[tokio::test(start_paused = true)]
async fn a_dropped_reader_gives_back() {
    let mesh = App::new().start().await.unwrap();
    let mut first = mesh.reader();
    let mut peer = join(&mesh).await;
    send_all(&mut peer, 100).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut second = mesh.reader();
    for n in 0..10 {
        assert_eq!(first.next_frame().await.unwrap().nonce(), Some(n));
    }
    send_all(&mut peer, 50).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(first);
    for n in (10..100).chain(0..50) {
        assert_eq!(second.next_frame().await.unwrap().nonce(), Some(n));
    }
    drop(second);
    assert!(format!("{:?}", mesh.peers()).len() > 0);
}

// J: concurrency, mixed pending and ready calls, all delivered, marks right.
#[tokio::test(start_paused = true)]
async fn concurrency_marks_the_right_frames() {
    let layer = around(|frame: Frame, mut inbox: Inbox| async move {
        let n = frame.nonce().unwrap();
        if n % 3 == 0 {
            tokio::time::sleep(Duration::from_millis(n % 7)).await;
        }
        if n % 2 == 0 {
            frame.relay(RELAY);
        }
        if n % 5 == 0 {
            tokio::time::sleep(Duration::from_millis(n % 11)).await;
        }
        inbox.ready().await?.call(frame).await?;
        Ok(Reply::None)
    });
    let mesh = App::new()
        .layer(layer)
        .configure(|c| c.concurrency = 7)
        .start()
        .await
        .unwrap();
    let mut reader = mesh.reader();
    let mut source = join(&mesh).await;
    let mut far = join(&mesh).await;
    send_all(&mut source, 3000).await;
    let mut got = std::collections::BTreeSet::new();
    let mut heard = std::collections::BTreeSet::new();
    loop {
        tokio::select! {
            frame = reader.next_frame() => assert!(got.insert(frame.unwrap().nonce().unwrap())),
            packet = futures_util::StreamExt::next(&mut far.framed) => {
                let packet = packet.unwrap().unwrap();
                if let Kind::Broadcast { nonce } = packet.kind {
                    assert_eq!(&packet.payload[..], format!("frame {nonce}").as_bytes());
                    assert!(heard.insert(nonce));
                }
            }
            () = tokio::time::sleep(Duration::from_secs(5)) => break,
        }
    }
    assert_eq!(got.len(), 3000);
    assert!(heard.iter().all(|n| n % 2 == 0));
    assert_eq!(heard.len(), 1500);
}
