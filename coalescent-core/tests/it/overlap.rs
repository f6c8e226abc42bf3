//! Calls for the frames of one peer overlap: what a slow handler delays, and what not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use coalescent_core::transport::Memory;
use coalescent_core::wire::Kind;
use coalescent_core::{App, AppExt, BoxError, Event, Flow, Frame, Mesh, Peer, Reply};
use futures_util::FutureExt;
use futures_util::future::join_all;
use support::{RelayLayer, handle, join, on_the_wire, packet, soon, until};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;
use tower::buffer::BufferLayer;
use tower::limit::ConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;

use crate::calls::{PIPE, around, broadcast, deliver, expect_all, read, send_all};

/// A node that listens, and one that is connected to it.
async fn pair(asked: App<impl coalescent_core::PeerLayer>) -> (Mesh, Mesh, Peer) {
    let network = Memory::new();
    let asked = asked.transport(network.clone());
    let asked = asked.listen("asked:1").await.unwrap();
    let asking = App::new().transport(network).start().await.unwrap();
    let peer = asking.connect("asked:1").await.unwrap();
    (asked, asking, peer)
}

/// A stack that answers with what it is sent, after `delay`.
fn slow_echo(delay: Duration) -> support::Handle {
    handle(move |frame: Frame| async move {
        tokio::time::sleep(delay).await;
        Ok(Reply::Payload(frame.into_payload()))
    })
}

#[tokio::test(start_paused = true)]
async fn many_requests_to_a_slow_handler_overlap() {
    let (_asked, _asking, peer) = pair(App::new().with(slow_echo(Duration::from_millis(5)))).await;
    let start = Instant::now();
    let answers = join_all((0..200).map(|n| peer.request_payload(format!("{n}")))).await;
    let elapsed = start.elapsed();
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.unwrap(), format!("{n}"));
    }
    assert!(elapsed < Duration::from_millis(60), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_concurrency_of_one_is_strict_sequence() {
    let running = Arc::new(AtomicUsize::new(0));
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (count, log) = (Arc::clone(&running), Arc::clone(&order));
    let stack = handle(move |frame: Frame| {
        let (count, log) = (Arc::clone(&count), Arc::clone(&log));
        async move {
            assert_eq!(count.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
            log.lock().unwrap().push(frame.payload().to_vec());
            tokio::time::sleep(Duration::from_millis(5)).await;
            count.fetch_sub(1, Ordering::SeqCst);
            Ok(Reply::Payload(frame.into_payload()))
        }
    });
    let (_asked, _asking, peer) = pair(App::new().with(stack).concurrency(1)).await;
    let start = Instant::now();
    let answers = join_all((0..20).map(|n| peer.request_payload(format!("{n}")))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert!(start.elapsed() >= Duration::from_millis(100));
    let expected: Vec<_> = (0..20).map(|n| format!("{n}").into_bytes()).collect();
    assert_eq!(*order.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_delays_neither_relaying_nor_other_handlers_nor_control_frames() {
    let stack = handle(|frame: Frame| async move {
        if frame.payload() == b"slow" {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        Ok(Reply::Payload(frame.into_payload()))
    });
    let app = App::new().with(RelayLayer(Flow::Wait)).with(stack);
    let mesh = app.start().await.unwrap();
    let mut source = join(&mesh, PIPE).await;
    let mut far = join(&mesh, PIPE).await;
    let start = Instant::now();
    let mut packets = vec![packet(Kind::Request { id: 1 }, "slow")];
    packets.extend((0..5).map(broadcast));
    packets.push(packet(Kind::Ping, "12345678"));
    packets.push(packet(Kind::Request { id: 2 }, "fast"));
    let bytes = on_the_wire(&packets);
    source.framed.get_mut().write_all(&bytes).await.unwrap();
    for nonce in 0..5 {
        let heard = far.recv_frame().await.expect("a relayed frame");
        assert_eq!(heard.kind, Kind::Broadcast { nonce });
    }
    let mut answers = Vec::new();
    while !matches!(answers.last(), Some(Kind::Reply { id: 2, .. })) {
        answers.push(source.recv().await.expect("an answer").kind);
    }
    assert!(answers.contains(&Kind::Pong));
    assert!(start.elapsed() < Duration::from_millis(5));
    loop {
        if let Kind::Reply { id: 1, .. } = source.recv().await.expect("an answer").kind {
            break;
        }
    }
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[tokio::test(start_paused = true)]
async fn two_nodes_can_ask_each_other_in_turn() {
    // Each asks the other with one less, and answers with one more than it is told.
    let node = |network: &Memory| {
        let stack = handle(|frame: Frame| async move {
            let left = frame.payload().len();
            if left == 0 {
                return Ok(Reply::Payload("".into()));
            }
            let answer = frame.peer().request_payload(vec![b'x'; left - 1]).await?;
            Ok(Reply::Payload([&answer[..], b"x"].concat().into()))
        });
        App::new().transport(network.clone()).with(stack)
    };
    let network = Memory::new();
    let _y = node(&network).listen("y:1").await.unwrap();
    let x = node(&network).start().await.unwrap();
    let y = x.connect("y:1").await.unwrap();
    for depth in [3, 40] {
        let answer = soon("an answer", y.request_payload(vec![b'x'; depth])).await;
        assert_eq!(answer.unwrap().len(), depth);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_of_a_large_frame_can_ask_its_peer() {
    const LARGE: usize = 1024 * 1024;
    let stack = handle(|frame: Frame| async move {
        let answer = frame.peer().request_payload("and you?").await?;
        assert_eq!(frame.payload().len(), LARGE);
        Ok(Reply::Payload(answer))
    });
    let network = Memory::new();
    let app = App::new().transport(network.clone()).with(stack);
    let _asked = app.listen("asked:1").await.unwrap();
    let echo = slow_echo(Duration::from_millis(1));
    let asking = App::new().transport(network).with(echo);
    let asking = asking.start().await.unwrap();
    let peer = asking.connect("asked:1").await.unwrap();
    let answer = soon("an answer", peer.request_payload(vec![0; LARGE])).await;
    assert_eq!(answer.unwrap(), "and you?");
}

#[tokio::test(start_paused = true)]
async fn what_no_handler_waits_for_reaches_the_reader_in_order() {
    // Each tenth frame is waited for: it is read when that is done, and the others in the meantime.
    let layer = around(|frame: Frame, mut inbox| async move {
        if frame.nonce().is_some_and(|nonce| nonce % 10 == 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        deliver(&mut inbox, frame).await
    });
    let mesh = App::new().layer(layer).start().await.unwrap();
    let mut reader = mesh.reader();
    let mut peer = join(&mesh, PIPE).await;
    send_all(&mut peer, 0..300).await;
    expect_all(&mut reader, (0..300).filter(|nonce| nonce % 10 != 0)).await;
    expect_all(&mut reader, (0..300).step_by(10)).await;
    assert_eq!(mesh.stats().delivered, 300);
}

#[tokio::test(start_paused = true)]
async fn frames_behind_a_buffer_reach_the_reader_in_order() {
    let mesh = App::new().layer(BufferLayer::new(8));
    let mesh = mesh.start().await.unwrap();
    let mut reader = mesh.reader();
    let mut peer = join(&mesh, PIPE).await;
    send_all(&mut peer, 0..2000).await;
    expect_all(&mut reader, 0..2000).await;
}

#[tokio::test(start_paused = true)]
async fn calls_that_end_in_any_order_get_each_their_own_frame() {
    let stack = handle(|frame: Frame| async move {
        let wait = u64::from(frame.payload()[0] % 13);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        Ok(Reply::Payload(frame.into_payload()))
    });
    let (asked, _asking, peer) = pair(App::new().with(stack)).await;
    // Small ones and large ones, so that some are copied and some wait for room.
    let answers = join_all((0..400usize).map(|n| {
        let len = [1, 100, 3000, 50_000, 200_000][n % 5];
        let payload = vec![u8::try_from(n % 251).unwrap(); len];
        let peer = &peer;
        async move {
            let answer = peer.request_payload(payload.clone()).await.unwrap();
            assert!(answer == payload, "the answer to {n}");
        }
    }));
    soon("all answers", answers).await;
    assert_eq!(asked.stats().received, 400);
}

#[tokio::test(start_paused = true)]
async fn small_frames_do_not_keep_others_waiting_by_the_buffers_they_came_in() {
    // A slow request now and then among so many others that each comes in a buffer of its own.
    let stack = handle(|frame: Frame| async move {
        if frame.is_request() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(Reply::None)
    });
    let mesh = App::new().with(stack).start().await.unwrap();
    let mut peer = join(&mesh, PIPE).await;
    let start = Instant::now();
    for id in 0..40 {
        let mut packets = vec![packet(Kind::Request { id }, "slow")];
        packets.extend((0..200).map(|_| packet(Kind::Data, vec![b'x'; 1000])));
        let bytes = on_the_wire(&packets);
        let io = peer.framed.get_mut();
        soon("a write", io.write_all(&bytes)).await.unwrap();
    }
    until("all is handled", || mesh.stats().received == 40 * 201).await;
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn the_budget_of_the_runtime_is_no_overload() {
    for concurrency in [64, 1024] {
        let app = App::new()
            .concurrency(concurrency)
            .layer(LoadShedLayer::new())
            .layer(BufferLayer::new(2000));
        let mesh = app.start().await.unwrap();
        let mut reader = mesh.reader();
        let mut events = mesh.events();
        let mut peer = join(&mesh, PIPE).await;
        send_all(&mut peer, 0..1000).await;
        expect_all(&mut reader, 0..1000).await;
        while let Some(Some(event)) = events.next().now_or_never() {
            assert!(!matches!(event, Event::Error { .. }), "{event:?}");
        }
    }
}

#[tokio::test]
async fn a_handler_that_never_rests_starves_nobody() {
    let stack = handle(|frame: Frame| async move {
        if frame.payload() == b"greedy" {
            loop {
                tokio::task::consume_budget().await;
            }
        }
        tokio::task::yield_now().await;
        tokio::task::consume_budget().await;
        Ok::<_, BoxError>(Reply::Payload(frame.into_payload()))
    });
    let (_asked, _asking, peer) = pair(App::new().with(stack)).await;
    let greedy = join_all((0..3).map(|_| peer.request_payload("greedy")));
    let others = async {
        for _ in 0..3 {
            let asked = join_all((0..40).map(|n| peer.request_payload(format!("{n}"))));
            assert!(asked.await.iter().all(Result::is_ok));
        }
    };
    tokio::select! {
        _ = greedy => panic!("they never end"),
        () = soon("the others", others) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_unfinished_calls_hold_fails_no_frame() {
    let stack = slow_echo(Duration::from_secs(20));
    let app = App::new().request_timeout(Duration::from_secs(1000));
    let network = Memory::new();
    let asked = app.layer(ConcurrencyLimitLayer::new(1)).with(stack);
    let asked = asked.transport(network.clone());
    let _asked = asked.listen("asked:1").await.unwrap();
    let asking = App::new().request_timeout(Duration::from_secs(1000));
    let asking = asking.transport(network).start().await.unwrap();
    let peer = asking.connect("asked:1").await.unwrap();
    let answers = join_all((0..5).map(|n| peer.request_payload(format!("{n}")))).await;
    for answer in answers {
        answer.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_request_frees_its_place() {
    let stack = handle(|frame: Frame| async move {
        if frame.payload() == b"hang" {
            std::future::pending::<()>().await;
        }
        Ok(Reply::Payload(frame.into_payload()))
    });
    let (_asked, _asking, peer) = pair(App::new().with(stack)).await;
    for _ in 0..3 {
        let hanging = join_all((0..64).map(|_| peer.request_payload("hang")));
        let some_time = Duration::from_millis(50);
        assert!(tokio::time::timeout(some_time, hanging).await.is_err());
    }
    let answer = soon("an answer", peer.request_payload("well?")).await;
    assert_eq!(answer.unwrap(), "well?");
}

#[tokio::test(start_paused = true)]
async fn frames_in_unfinished_calls_are_read_by_nobody_else() {
    // A frame that was copied for its call reaches the reader as it came.
    let layer = around(|frame: Frame, mut inbox| async move {
        if frame.payload().starts_with(b"frame 1") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        deliver(&mut inbox, frame).await
    });
    let mesh = App::new().layer(layer).start().await.unwrap();
    let mut reader = mesh.reader();
    let mut peer = join(&mesh, PIPE).await;
    let mut heard = std::collections::BTreeSet::new();
    for round in 0..20 {
        send_all(&mut peer, round * 100..(round + 1) * 100).await;
        let filler = on_the_wire(&vec![packet(Kind::Unknown(0x66), vec![0; 10_000]); 20]);
        peer.framed.get_mut().write_all(&filler).await.unwrap();
    }
    for _ in 0..2000 {
        let frame = read(&mut reader).await;
        let nonce = frame.nonce().unwrap();
        assert_eq!(frame.payload(), format!("frame {nonce}").as_bytes());
        assert!(heard.insert(nonce));
    }
}
