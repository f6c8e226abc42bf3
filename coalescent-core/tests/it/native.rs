//! The native wire, spoken by hand with a running mesh over TCP.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coalescent_core::wire::{Kind, NodeId, Status};
use coalescent_core::{App, AppExt, DisconnectReason, Event, Events, Frame, Mesh, Reply};
use support::{ByHand, handle, hello, on_the_wire, packet, soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

async fn listening() -> Mesh {
    App::new().listen("127.0.0.1:0").await.expect("a free port")
}

async fn dial(mesh: &Mesh) -> TcpStream {
    TcpStream::connect(mesh.local_addrs()[0])
        .await
        .expect("someone who listens")
}

async fn disconnected(events: &mut Events) -> DisconnectReason {
    loop {
        if let Event::PeerDisconnected { reason, .. } = soon("a disconnect", events.next())
            .await
            .expect("a running mesh")
        {
            return reason;
        }
    }
}

async fn error(events: &mut Events) -> String {
    loop {
        if let Event::Error { error, .. } = soon("an error", events.next())
            .await
            .expect("a running mesh")
        {
            return error.report().to_string();
        }
    }
}

#[tokio::test]
async fn a_peer_is_greeted_pinged_and_told_goodbye() {
    let mesh = listening().await;
    let mut events = mesh.events();
    let mut peer = ByHand::connect(dial(&mesh).await).await;
    until("the peer is in the roster", || mesh.peers().len() == 1).await;
    peer.send(Kind::Ping, &b"12345678"[..]).await;
    let pong = peer.recv().await.expect("a pong");
    assert_eq!(
        (pong.kind, &pong.payload[..]),
        (Kind::Pong, &b"12345678"[..])
    );

    peer.send(Kind::Bye, "that was nice").await;
    assert!(peer.recv_frame().await.is_none());
    let reason = disconnected(&mut events).await;
    assert!(matches!(reason, DisconnectReason::Bye(text) if text == "that was nice"));
    assert!(mesh.peers().is_empty());
}

#[tokio::test]
async fn what_is_no_introduction_is_refused_with_a_reason() {
    let mesh = listening().await;
    let mut events = mesh.events();

    let mut other_net = ByHand::new(dial(&mesh).await);
    other_net
        .send(Kind::Hello, hello(other_net.node, "elsewhere"))
        .await;
    assert_eq!(other_net.recv().await.map(|p| p.kind), Some(Kind::Hello));
    assert!(other_net.expect_bye().await.contains("network"));
    assert!(error(&mut events).await.contains("elsewhere"));

    let mut early = ByHand::new(dial(&mesh).await);
    early.send(Kind::Data, "hi").await;
    assert_eq!(early.recv().await.map(|p| p.kind), Some(Kind::Hello));
    assert!(early.expect_bye().await.contains("before HELLO"));

    // {"v": 2}
    let mut other_version = ByHand::new(dial(&mesh).await);
    other_version.send(Kind::Hello, &b"\x81\xa1v\x02"[..]).await;
    assert_eq!(
        other_version.recv().await.map(|p| p.kind),
        Some(Kind::Hello)
    );
    assert!(other_version.expect_bye().await.contains("version"));

    // A frame that says it is 2 KiB long: refused before it is there.
    let mut large = ByHand::new(dial(&mesh).await);
    large
        .framed
        .get_mut()
        .write_all(&[0, 0, 8, 0, 0, 0])
        .await
        .unwrap();
    assert_eq!(large.recv().await.map(|p| p.kind), Some(Kind::Hello));
    large.expect_bye().await;
    assert!(mesh.peers().is_empty());
}

#[tokio::test]
async fn silence_ends_the_handshake() {
    let app = App::new().configure(|config| {
        config.handshake_timeout = Duration::from_millis(100);
    });
    let mesh = app.listen("127.0.0.1:0").await.unwrap();
    let mut events = mesh.events();
    let mut silent = dial(&mesh).await;
    assert!(error(&mut events).await.contains("handshake"));
    let mut rest = Vec::new();
    soon("the end", silent.read_to_end(&mut rest))
        .await
        .unwrap();
}

#[tokio::test]
async fn frames_cut_at_every_byte_arrive() {
    let mesh = listening().await;
    let mut heard = mesh.reader();
    let mut peer = ByHand::connect(dial(&mesh).await).await;
    let frames = on_the_wire(&[
        packet(Kind::Broadcast { nonce: 7 }, "one"),
        packet(Kind::Ping, "12345678"),
        packet(Kind::Data, "two"),
        packet(Kind::Unknown(0x77), "what is this"),
        packet(Kind::Data, "three"),
    ]);
    for byte in &frames {
        peer.framed.get_mut().write_all(&[*byte]).await.unwrap();
        peer.framed.get_mut().flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    for expected in ["one", "two", "three"] {
        let frame = soon(expected, heard.next_frame()).await.unwrap();
        assert_eq!(frame.payload(), expected.as_bytes());
    }
    assert_eq!(mesh.stats().unknown, 1);
    assert_eq!(mesh.stats().received, 3);
}

#[tokio::test]
async fn a_protocol_error_ends_the_connection_and_loses_nothing_before_it() {
    let mesh = listening().await;
    let mut heard = mesh.reader();
    let mut events = mesh.events();
    let mut peer = ByHand::connect(dial(&mesh).await).await;
    let mut bytes = on_the_wire(&[packet(Kind::Data, "valid")]);
    // A BROADCAST too short for its nonce.
    bytes.extend_from_slice(&[0, 0, 0, 3, 1, 32, 9]);
    peer.framed.get_mut().write_all(&bytes).await.unwrap();
    assert_eq!(
        soon("the valid frame", heard.next_frame())
            .await
            .unwrap()
            .payload(),
        b"valid"
    );
    peer.expect_bye().await;
    assert!(matches!(
        disconnected(&mut events).await,
        DisconnectReason::Protocol(_)
    ));

    let mut peer = ByHand::connect(dial(&mesh).await).await;
    let again = hello(NodeId::random(), "");
    peer.send(Kind::Hello, again).await;
    assert!(peer.expect_bye().await.contains("second HELLO"));
}

#[tokio::test]
async fn a_frame_of_the_limit_is_taken_and_one_more_byte_is_not() {
    let mesh = App::new()
        .max_frame(10_000)
        .listen("127.0.0.1:0")
        .await
        .unwrap();
    let mut heard = mesh.reader();
    let mut peer = ByHand::connect(dial(&mesh).await).await;
    peer.send(Kind::Broadcast { nonce: 1 }, vec![7; 10_000])
        .await;
    assert_eq!(
        soon("the frame", heard.next_frame())
            .await
            .unwrap()
            .payload()
            .len(),
        10_000
    );
    peer.send(Kind::Broadcast { nonce: 2 }, vec![7; 10_001])
        .await;
    assert!(peer.expect_bye().await.contains("10000"));
}

#[tokio::test]
async fn requests_are_answered_by_what_became_of_them() {
    let stack = handle(|frame: Frame| async move {
        match frame.payload() {
            b"ok" => Ok(Reply::Payload(Bytes::from_static(b"fine"))),
            b"fail" => Err("cannot do that".into()),
            b"panic" => panic!("dropped a plate"),
            _ => Ok(Reply::None),
        }
    });
    let mesh = App::new().with(stack).listen("127.0.0.1:0").await.unwrap();
    let mut events = mesh.events();
    let mut peer = ByHand::connect(dial(&mesh).await).await;
    for (id, payload) in [(1, "ok"), (2, "fail"), (3, "panic"), (4, "else")] {
        peer.send(Kind::Request { id }, payload).await;
    }
    let mut answers = Vec::new();
    for _ in 0..4 {
        let packet = peer.recv_frame().await.unwrap();
        answers.push((
            packet.kind,
            String::from_utf8(packet.payload.to_vec()).unwrap(),
        ));
    }
    let reply = |id, status| Kind::Reply { id, status };
    assert_eq!(answers[0], (reply(1, Status::Ok), "fine".into()));
    assert_eq!(answers[1].0, reply(2, Status::Failed));
    assert!(answers[1].1.contains("cannot do that"));
    assert_eq!(answers[2].0, reply(3, Status::Failed));
    assert_eq!(answers[3], (reply(4, Status::NoAnswer), String::new()));
    assert!(error(&mut events).await.contains("cannot do that"));
    assert!(error(&mut events).await.contains("dropped a plate"));
    assert_eq!(
        mesh.peers().len(),
        1,
        "a failed call costs the peer nothing"
    );
}

#[tokio::test]
async fn a_cancelled_request_is_dropped_whether_it_runs_or_waits() {
    struct OnDrop(Arc<Notify>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let dropped = Arc::new(Notify::new());
    let stack = handle({
        let dropped = Arc::clone(&dropped);
        move |frame: Frame| {
            let guard = OnDrop(Arc::clone(&dropped));
            async move {
                if frame.payload() == b"hang" {
                    std::future::pending::<()>().await;
                }
                drop(guard);
                Ok(Reply::Payload(frame.into_payload()))
            }
        }
    });
    let app = App::new().with(stack).concurrency(1);
    let mesh = app.listen("127.0.0.1:0").await.unwrap();
    let mut peer = ByHand::connect(dial(&mesh).await).await;
    peer.send(Kind::Request { id: 1 }, "hang").await;
    peer.send(Kind::Request { id: 2 }, "waits behind it").await;
    peer.send(Kind::Request { id: 3 }, "waits too").await;
    // Liveness does not wait behind a handler.
    peer.send(Kind::Ping, &b"12345678"[..]).await;
    assert_eq!(peer.recv().await.unwrap().kind, Kind::Pong);
    peer.send(Kind::Cancel { id: 2 }, Bytes::new()).await;
    peer.send(Kind::Cancel { id: 1 }, Bytes::new()).await;
    soon("the handler is dropped", dropped.notified()).await;
    let reply = peer.recv_frame().await.unwrap();
    assert_eq!(
        reply.kind,
        Kind::Reply {
            id: 3,
            status: Status::Ok
        }
    );
}

#[tokio::test]
async fn a_handler_can_wait_for_a_reply_from_the_peer_it_serves() {
    for concurrency in [1, 64] {
        let stack = handle(|frame: Frame| async move {
            if !frame.is_request() {
                return Ok(Reply::None);
            }
            let answer = frame.peer().request_payload("and you?").await?;
            Ok(Reply::Payload(answer))
        });
        let app = App::new().with(stack).concurrency(concurrency);
        let mesh = app.listen("127.0.0.1:0").await.unwrap();
        let mut peer = ByHand::connect(dial(&mesh).await).await;
        peer.send(Kind::Request { id: 9 }, "how are you?").await;
        let Kind::Request { id } = peer.recv_frame().await.unwrap().kind else {
            panic!("no question")
        };
        // Much stands between the question and its answer.
        for _ in 0..100 {
            peer.send(Kind::Data, vec![0; 1000]).await;
        }
        let status = Status::Ok;
        peer.send(Kind::Reply { id, status }, "fine").await;
        let reply = peer.recv_frame().await.unwrap();
        assert_eq!(reply.kind, Kind::Reply { id: 9, status });
        assert_eq!(reply.payload, "fine");
    }
}

#[tokio::test]
async fn shutdown_writes_what_is_queued_and_handles_what_still_comes() {
    let mesh = listening().await;
    let mut heard = mesh.reader();
    let mut peer = ByHand::connect(dial(&mesh).await).await;
    until("the peer is in the roster", || mesh.peers().len() == 1).await;
    for _ in 0..50 {
        let sent = mesh.broadcast_payload(vec![1; 50_000]).await.unwrap();
        assert_eq!((sent.queued, sent.dropped), (1, 0));
    }
    let ended = tokio::spawn(async move { mesh.shutdown().await });
    let mut frames = 0;
    loop {
        match peer
            .recv_frame()
            .await
            .expect("frames, then a goodbye")
            .kind
        {
            Kind::Broadcast { .. } => frames += 1,
            Kind::Bye => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(frames, 50);
    peer.send(Kind::Data, "one more thing").await;
    drop(peer);
    let stats = soon("the end", ended).await.unwrap();
    assert_eq!((stats.sent, stats.dropped), (50, 0));
    assert_eq!(
        soon("a frame", heard.next_frame()).await.unwrap().payload(),
        b"one more thing"
    );
    assert!(
        soon("the end of the stream", heard.next_frame())
            .await
            .is_none()
    );
}

#[tokio::test]
async fn no_more_than_the_limit_ever_get_in_however_many_come_at_once() {
    let app = App::new().configure(|config| config.max_inbound = 2);
    let mesh = app.listen("127.0.0.1:0").await.unwrap();
    let mut events = mesh.events();
    let mut crowd = Vec::new();
    for _ in 0..10 {
        crowd.push(ByHand::new(dial(&mesh).await));
    }
    // All are past the first look at the limit before any of them has introduced itself.
    for peer in &mut crowd {
        assert_eq!(peer.recv().await.map(|p| p.kind), Some(Kind::Hello));
    }
    for peer in &mut crowd {
        let hello = hello(peer.node, "");
        peer.send(Kind::Hello, hello).await;
    }
    let (mut connected, mut refused) = (0, 0);
    while connected + refused < 10 {
        match soon("an event", events.next()).await.unwrap() {
            Event::PeerConnected { .. } => connected += 1,
            Event::Error { error, .. } if error.is_refused() => refused += 1,
            Event::PeerDisconnected { reason, .. } => panic!("one was let in first: {reason}"),
            _ => {}
        }
    }
    assert_eq!((connected, refused), (2, 8));
}
