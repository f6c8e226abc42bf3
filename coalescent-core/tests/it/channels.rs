//! Channels: frames between the plugins of two nodes, and what else plugins are given.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use coalescent_core::connection::ConnectionInfo;
use coalescent_core::outbox::CHANNEL_OUTBOX;
use coalescent_core::transport::Memory;
use coalescent_core::wire::{Hello, Kind};
use coalescent_core::{
    App, AppExt, CHANNEL_INBOX, DisconnectReason, Event, Flow, Goodbye, Mesh, Peer, Plugin,
    Registrar,
};
use support::{ByHand, soon, until};
use tokio::io::DuplexStream;
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};

/// A plugin made of a closure.
struct With<F>(F);

impl<F: Fn(&mut Registrar)> Plugin for With<F> {
    fn register(&self, app: &mut Registrar) {
        (self.0)(app);
    }
}

/// What a channel has heard.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Bytes>>>);

impl Heard {
    fn list(&self) -> Vec<Bytes> {
        self.0.lock().unwrap().clone()
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Returns a plugin that keeps what it hears on `name`.
    fn plugin(&self, name: &'static str) -> impl Plugin + use<> {
        let heard = self.clone();
        With(move |app: &mut Registrar| {
            let heard = heard.clone();
            app.channel(name, move |_, payload| {
                heard.0.lock().unwrap().push(payload);
                async {}
            });
        })
    }
}

/// Returns a plugin whose handler waits for a permit for each frame before it keeps it.
fn gated(name: &'static str, heard: &Heard, gate: &Arc<Semaphore>) -> impl Plugin + use<> {
    let (heard, gate) = (heard.clone(), gate.clone());
    With(move |app: &mut Registrar| {
        let (heard, gate) = (heard.clone(), gate.clone());
        app.channel(name, move |_, payload| {
            let (heard, gate) = (heard.clone(), gate.clone());
            async move {
                gate.acquire().await.unwrap().forget();
                heard.0.lock().unwrap().push(payload);
            }
        });
    })
}

/// Returns a plugin that knows a channel, and ignores what comes over it.
fn deaf(name: &'static str) -> impl Plugin {
    With(move |app: &mut Registrar| {
        app.channel(name, |_, _| async {});
    })
}

/// Two connected nodes, with the peers that they are to each other.
async fn pair(a: App, b: App) -> (Mesh, Peer, Mesh, Peer) {
    let network = Memory::new();
    let a = a.transport(network.clone()).listen("a:1").await.unwrap();
    let b = b.transport(network).start().await.unwrap();
    let there = b.connect("a:1").await.unwrap();
    until("both are connected", || a.peers().len() == 1).await;
    let here = a.peers().list()[0].clone();
    (a, here, b, there)
}

/// Joins `mesh` over a connection in memory, as a peer that knows `channels`.
async fn join(mesh: &Mesh, pipe: usize, channels: &[&str]) -> (ByHand<DuplexStream>, Peer) {
    let (near, far) = tokio::io::duplex(pipe);
    let mut by_hand = ByHand::new(near);
    let hello = Hello::new(by_hand.node, "").channels(channels.iter().copied());
    let greet = async {
        by_hand.send(Kind::Hello, hello.encode().unwrap()).await;
        assert_eq!(by_hand.recv().await.unwrap().kind, Kind::Hello);
    };
    let (adopted, ()) = tokio::join!(mesh.adopt(far, ConnectionInfo::inbound()), greet);
    (by_hand, adopted.unwrap())
}

async fn error(mesh: &Mesh) -> String {
    let mut events = mesh.events();
    loop {
        if let Some(Event::Error { error, .. }) = soon("an error", events.next()).await {
            return error.report().to_string();
        }
    }
}

#[tokio::test]
async fn frames_arrive_in_order_and_are_no_frames_of_the_stack() {
    let heard = Heard::default();
    let (a, here, b, there) = pair(
        App::new().plugin(heard.plugin("x/1")),
        App::new().plugin(deaf("y/1")).plugin(deaf("x/1")),
    )
    .await;
    assert!(there.has_channel("x/1") && here.has_channel("x/1"));
    assert!(!there.has_channel("y/1") && !here.has_channel("y/1"));
    assert_eq!(
        (a.id(), b.id()),
        (there.node_id().unwrap(), here.node_id().unwrap())
    );
    for number in 0..2000 {
        let payload = number.to_string();
        there.send_on("x/1", payload).await.unwrap();
    }
    there.flushed().await;
    until("all have arrived", || heard.len() == 2000).await;
    let all = heard.list();
    assert!(
        all.iter()
            .enumerate()
            .all(|(at, got)| *got == at.to_string())
    );
    let (sent, received) = (b.stats(), a.stats());
    assert_eq!((sent.channel_sent, received.channel_received), (2000, 2000));
    assert_eq!((sent.sent, received.received, received.unknown), (0, 0, 0));
    for name in ["y/1", "z/1"] {
        let refused = there.send_on(name, "").await.unwrap_err();
        assert!(refused.is_refused(), "{refused}");
    }
    let large = vec![0; a.peers().config().max_frame + 1];
    assert!(there.send_on("x/1", large).await.unwrap_err().is_encode());
}

#[tokio::test]
async fn a_payload_that_the_peer_does_not_take_is_refused() {
    let (_a, _, _b, there) = pair(
        App::new().plugin(deaf("x/1")).max_frame(100),
        App::new().plugin(deaf("x/1")),
    )
    .await;
    there.send_on("x/1", vec![0; 100]).await.unwrap();
    assert!(
        there
            .send_on("x/1", vec![0; 101])
            .await
            .unwrap_err()
            .is_encode()
    );
}

#[tokio::test]
async fn a_slow_handler_delays_neither_frames_nor_other_channels() {
    let (slow, fast) = (Heard::default(), Heard::default());
    let gate = Arc::new(Semaphore::new(0));
    let (a, _, _b, there) = pair(
        App::new()
            .plugin(gated("slow/1", &slow, &gate))
            .plugin(fast.plugin("fast/1")),
        App::new().plugin(deaf("slow/1")).plugin(deaf("fast/1")),
    )
    .await;
    let mut reader = a.reader();
    for number in 0..100 {
        let payload = number.to_string();
        there.send_on("slow/1", payload.clone()).await.unwrap();
        there.send_on("fast/1", payload.clone()).await.unwrap();
        there.send_payload(payload).await.unwrap();
    }
    for number in 0..100 {
        let frame = soon("a frame", reader.next_frame()).await.unwrap();
        assert_eq!(*frame.payload(), *number.to_string().as_bytes());
    }
    until("the fast one has all", || fast.len() == 100).await;
    assert_eq!(slow.len(), 0);
    gate.add_permits(1);
    until("one is handled", || slow.len() == 1).await;
    gate.add_permits(99);
    until("the slow one has all", || slow.len() == 100).await;
    assert_eq!(slow.list(), fast.list());
    assert_eq!(a.stats().channel_dropped, 0);
}

#[tokio::test]
async fn what_does_not_fit_the_queue_of_a_handler_is_dropped_and_counted() {
    let heard = Heard::default();
    let gate = Arc::new(Semaphore::new(0));
    let (a, here, _b, there) = pair(
        App::new().plugin(gated("x/1", &heard, &gate)),
        App::new().plugin(deaf("x/1")),
    )
    .await;
    let mut reader = a.reader();
    let frames = 2 * CHANNEL_INBOX / 1000;
    for _ in 0..frames {
        there.send_on("x/1", vec![7; 1000]).await.unwrap();
    }
    there.flushed().await;
    there.send_payload("behind").await.unwrap();
    soon("a frame", reader.next_frame()).await.unwrap();
    until("all have arrived", || {
        a.stats().channel_received == frames as u64
    })
    .await;
    let stats = a.stats();
    assert!(stats.channel_dropped > 0 && stats.dropped == 0);
    gate.add_permits(frames);
    let kept = frames as u64 - stats.channel_dropped;
    until("the kept are handled", || heard.len() as u64 == kept).await;
    assert!(kept as usize * 1000 <= CHANNEL_INBOX + 2000);
    drop(here);
}

#[tokio::test]
async fn frames_that_were_not_handled_when_their_peer_leaves_are_counted() {
    let gate = Arc::new(Semaphore::new(0));
    let app = App::new()
        .plugin(gated("x/1", &Heard::default(), &gate))
        .configure(|config| config.drain = std::time::Duration::from_millis(50));
    let (a, here, b, there) = pair(app, App::new().plugin(deaf("x/1"))).await;
    for _ in 0..5 {
        there.send_on("x/1", "wait").await.unwrap();
    }
    until("all have arrived", || a.stats().channel_received == 5).await;
    b.shutdown().await;
    soon("the end", here.closed()).await;
    // The one in hand was handled in part.
    assert_eq!(a.stats().channel_dropped, 4);
}

#[tokio::test]
async fn senders_wait_for_room_and_what_is_not_written_is_counted() {
    let mesh = App::new().plugin(deaf("x/1")).start().await.unwrap();
    let (mut by_hand, peer) = join(&mesh, 1024, &["x/1"]).await;
    let mut queued = 0;
    while peer.try_send_on("x/1", vec![0; 1000]).is_ok() {
        queued += 1;
    }
    assert!(
        (200..=CHANNEL_OUTBOX / 1000 + 3).contains(&queued),
        "{queued}"
    );
    let full = peer.try_send_on("x/1", vec![0; 1000]);
    assert!(full.unwrap_err().is_full());
    // Frames have room of their own.
    peer.try_send_payload("frame").unwrap();
    let waiting = tokio::spawn({
        let peer = peer.clone();
        async move { peer.send_on("x/1", "last").await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    let mut last = Bytes::new();
    for _ in 0..queued + 2 {
        let got = by_hand.recv_frame().await.unwrap();
        if matches!(got.kind, Kind::Channel { index: 0 }) {
            last = got.payload;
        } else {
            assert_eq!((got.kind, &got.payload[..]), (Kind::Data, &b"frame"[..]));
        }
    }
    assert_eq!(last, "last");
    waiting.await.unwrap().unwrap();
    until("all are counted", || {
        mesh.stats().channel_sent == queued as u64 + 1
    })
    .await;

    for _ in 0..100 {
        peer.try_send_on("x/1", vec![0; 1000]).unwrap();
    }
    drop(by_hand);
    soon("the end", peer.closed()).await;
    let stats = mesh.stats();
    assert_eq!(
        stats.channel_sent + stats.channel_dropped,
        queued as u64 + 101
    );
    assert_eq!((stats.sent, stats.dropped), (1, 0));
    assert!(peer.send_on("x/1", "").await.unwrap_err().is_closed());
}

/// Reads frames, and returns how many bytes of payloads of each lane came, channels first.
async fn read(by_hand: &mut ByHand<DuplexStream>, frames: usize) -> (usize, usize) {
    let mut bytes = (0, 0);
    for _ in 0..frames {
        let got = by_hand.recv_frame().await.unwrap();
        match got.kind {
            Kind::Channel { .. } => bytes.0 += got.payload.len(),
            _ => bytes.1 += got.payload.len(),
        }
    }
    bytes
}

#[tokio::test]
async fn neither_lane_starves_the_other_when_both_are_full() {
    // The sizes of the frames of the channel, and of the others.
    for (channel, other) in [
        (1000, 1000),
        (100, 100_000),
        (100_000, 100),
        (40_000, 40_000),
    ] {
        let mesh = App::new().plugin(deaf("x/1")).start().await.unwrap();
        let (mut by_hand, peer) = join(&mesh, 16 * 1024, &["x/1"]).await;
        let on_channel = tokio::spawn({
            let peer = peer.clone();
            async move { while peer.send_on("x/1", vec![1; channel]).await.is_ok() {} }
        });
        let others = tokio::spawn({
            let peer = peer.clone();
            async move { while peer.send_payload(vec![2; other]).await.is_ok() {} }
        });
        let mut total = (0, 0);
        while total.0 + total.1 < 8 << 20 {
            let (more, others) = read(&mut by_hand, 1).await;
            total = (total.0 + more, total.1 + others);
        }
        // What is written in a turn depends on the entries, and a lane may be refilled late.
        let share = total.0 * 100 / (total.0 + total.1);
        assert!((10..=90).contains(&share), "{channel} {other}: {share} %");
        drop(by_hand);
        on_channel.await.unwrap();
        others.await.unwrap();
    }
}

#[tokio::test]
async fn one_frame_overtakes_a_full_queue_of_the_other_lane() {
    let mesh = App::new().plugin(deaf("x/1")).start().await.unwrap();
    for first in [true, false] {
        let (mut by_hand, peer) = join(&mesh, 16 * 1024, &["x/1"]).await;
        let mut queued = 0;
        loop {
            let full = if first {
                peer.try_send_payload(vec![0; 10_000]).is_err()
            } else {
                peer.try_send_on("x/1", vec![0; 1000]).is_err()
            };
            if full {
                break;
            }
            queued += 1;
            if queued == 10 {
                // The connection takes what is there.
                tokio::task::yield_now().await;
            }
        }
        if first {
            peer.try_send_on("x/1", "now").unwrap();
        } else {
            peer.try_send_payload("now").unwrap();
        }
        let mut before = 0;
        loop {
            let got = by_hand.recv_frame().await.unwrap();
            if got.payload == "now" {
                break;
            }
            before += got.payload.len();
        }
        assert!(before <= 300 * 1024, "{before} of {queued} frames");
    }
}

#[tokio::test]
async fn a_flood_on_a_channel_delays_no_frames_and_the_other_way_round() {
    let heard = Heard::default();
    let gate = Arc::new(Semaphore::new(0));
    let mesh = App::new()
        .plugin(gated("slow/1", &Heard::default(), &gate))
        .plugin(heard.plugin("fast/1"))
        .start()
        .await
        .unwrap();
    let mut reader = mesh.reader();
    let (mut by_hand, _peer) = join(&mesh, 64 * 1024, &["fast/1", "slow/1"]).await;
    for _ in 0..1000 {
        by_hand
            .send(Kind::Channel { index: 1 }, vec![0; 1000])
            .await;
    }
    by_hand.send(Kind::Data, "frame").await;
    let frame = soon("the frame", reader.next_frame()).await.unwrap();
    assert_eq!(*frame.payload(), *b"frame");
    // Now nobody reads: frames wait, those of the channel do not.
    for _ in 0..100 {
        by_hand.send(Kind::Data, vec![0; 1000]).await;
    }
    by_hand.send(Kind::Channel { index: 0 }, "now").await;
    until("the channel has heard", || heard.len() == 1).await;
}

#[tokio::test]
async fn frames_right_behind_the_introduction_are_handled() {
    let heard = Heard::default();
    let mesh = App::new()
        .plugin(heard.plugin("x/1"))
        .start()
        .await
        .unwrap();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let mut by_hand = ByHand::new(near);
    let hello = Hello::new(by_hand.node, "").channels(["other", "x/1"]);
    let mut bytes = support::on_the_wire(&[support::packet(Kind::Hello, hello.encode().unwrap())]);
    for payload in ["1", "2"] {
        let frame = support::packet(Kind::Channel { index: 1 }, payload);
        bytes.unsplit(support::on_the_wire(&[frame]));
    }
    tokio::io::AsyncWriteExt::write_all(by_hand.framed.get_mut(), &bytes)
        .await
        .unwrap();
    let peer = mesh.adopt(far, ConnectionInfo::inbound()).await.unwrap();
    until("both are heard", || heard.list() == ["1", "2"]).await;
    drop((peer, by_hand.recv().await));
}

#[tokio::test]
async fn unknown_channels_are_skipped_and_counted() {
    let heard = Heard::default();
    let mesh = App::new()
        .plugin(heard.plugin("x/1"))
        .start()
        .await
        .unwrap();
    let (mut by_hand, peer) = join(&mesh, 64 * 1024, &["unlisted", "x/1"]).await;
    for index in [0, 2, 255, 1] {
        by_hand.send(Kind::Channel { index }, "beep").await;
    }
    until("the known one is heard", || heard.len() == 1).await;
    let stats = peer.stats();
    assert_eq!((stats.unknown, stats.channel_received), (3, 1));
    let (mut without, peer) = join(&mesh, 64 * 1024, &[]).await;
    without.send(Kind::Channel { index: 0 }, "beep").await;
    until("it is counted", || peer.stats().unknown == 1).await;
    assert!(!peer.has_channel("x/1"));
    assert!(peer.is_connected());
}

#[tokio::test]
async fn too_many_or_too_long_names_are_a_protocol_error() {
    let mesh = App::new().start().await.unwrap();
    let names = |count: usize, len: usize| vec!["n".repeat(len); count];
    for (names, fits) in [
        (names(16, 32), true),
        (names(17, 1), false),
        (names(1, 33), false),
    ] {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let mut by_hand = ByHand::new(near);
        let mut hello = Hello::new(by_hand.node, "").encode().unwrap().to_vec();
        hello[0] += 1;
        hello.extend_from_slice(b"\xa8channels");
        hello.extend_from_slice(&[0xdc, 0, names.len() as u8]);
        for name in &names {
            hello.extend_from_slice(&[0xd9, name.len() as u8]);
            hello.extend_from_slice(name.as_bytes());
        }
        by_hand.send(Kind::Hello, hello).await;
        let adopted = mesh.adopt(far, ConnectionInfo::inbound()).await;
        assert_eq!(adopted.is_ok(), fits);
        if !fits {
            assert!(adopted.unwrap_err().is_handshake());
            assert_eq!(by_hand.recv().await.unwrap().kind, Kind::Hello);
            assert!(by_hand.expect_bye().await.contains("channel"));
        }
    }
}

#[tokio::test]
async fn what_cannot_be_introduced_is_refused_at_the_start() {
    let start = |names: Vec<String>, change: fn(&mut coalescent_core::Config)| async move {
        let plugin = With(move |app: &mut Registrar| {
            for name in &names {
                app.channel(name.clone(), |_, _| async {});
            }
        });
        let app = App::new().plugin(plugin).configure(change);
        app.start().await.map(drop)
    };
    let names = |count: usize| (0..count).map(|at| format!("{at:032}")).collect::<Vec<_>>();
    start(names(16), |_| {}).await.unwrap();
    for (names, change) in [
        (names(17), (|_| {}) as fn(&mut coalescent_core::Config)),
        (vec!["a/1".to_owned(); 2], |_| {}),
        (vec!["x".repeat(33)], |_| {}),
        (vec![String::new()], |_| {}),
        (names(16), |config| {
            config.network = "n".repeat(256);
            config.advertise = Some("a".repeat(256));
        }),
    ] {
        let refused = start(names, change).await.unwrap_err();
        assert!(refused.is_config(), "{refused}");
    }
}

#[tokio::test]
async fn a_handler_that_panics_is_an_error_of_its_peer_alone() {
    let heard = Heard::default();
    let plugin = With({
        let heard = heard.clone();
        move |app: &mut Registrar| {
            let heard = heard.clone();
            app.channel("x/1", move |_, payload: Bytes| {
                assert!(payload != "at once", "at once");
                let heard = heard.clone();
                async move {
                    tokio::task::yield_now().await;
                    assert!(payload != "later", "later");
                    heard.0.lock().unwrap().push(payload);
                }
            });
        }
    });
    let (a, _, _b, there) = pair(App::new().plugin(plugin), App::new().plugin(deaf("x/1"))).await;
    for payload in ["at once", "one", "later", "two"] {
        there.send_on("x/1", payload).await.unwrap();
    }
    until("the others are heard", || heard.list() == ["one", "two"]).await;
    assert!(error(&a).await.contains("at once"));
    assert_eq!(a.peers().len(), 1);
}

#[tokio::test]
async fn handlers_answer_over_the_channel() {
    let echo = With(|app: &mut Registrar| {
        app.channel("echo/1", |peer: Peer, payload: Bytes| async move {
            let _ = peer.send_on("echo/1", payload).await;
        });
    });
    let heard = Heard::default();
    let (_a, _, _b, there) = pair(
        App::new().plugin(echo),
        App::new().plugin(heard.plugin("echo/1")),
    )
    .await;
    for number in 0..5000 {
        there
            .send_on("echo/1", vec![number as u8; 1000])
            .await
            .unwrap();
        if number % 100 == 0 {
            until("an echo", || heard.len() >= number).await;
        }
    }
    until("all echoes", || heard.len() == 5000).await;
}

#[tokio::test]
async fn two_connections_to_one_peer_carry_each_frame_once() {
    for round in 0..20 {
        let heard = Heard::default();
        let a = App::new()
            .plugin(heard.plugin("x/1"))
            .start()
            .await
            .unwrap();
        let b = App::new().plugin(deaf("x/1")).start().await.unwrap();
        let (one, two) = (tokio::io::duplex(4096), tokio::io::duplex(4096));
        let sending = async {
            until("a peer", || !b.peers().is_empty()).await;
            let peer = b.peers().list()[0].clone();
            for number in 0..500 {
                peer.send_on("x/1", number.to_string()).await.unwrap();
                if number % (round + 1) == 0 {
                    tokio::task::yield_now().await;
                }
            }
            peer.flushed().await;
        };
        let (inbound, outbound) = (ConnectionInfo::inbound, ConnectionInfo::outbound);
        let _ = tokio::join!(
            a.adopt(one.0, inbound()),
            b.adopt(one.1, outbound()),
            a.adopt(two.0, outbound()),
            b.adopt(two.1, inbound()),
            sending,
        );
        until("all are heard", || heard.len() == 500).await;
        let mut all: Vec<u32> = heard
            .list()
            .iter()
            .map(|number| std::str::from_utf8(number).unwrap().parse().unwrap())
            .collect();
        all.sort_unstable();
        assert!(all.iter().copied().eq(0..500));
        assert_eq!(b.stats().channel_dropped, 0);
    }
}

#[tokio::test]
async fn peers_tell_where_they_listen_and_where_they_see_each_other() {
    let listen = |app: App| app.listen("127.0.0.1:0");
    let a = listen(App::new()).await.unwrap();
    let addr = a.local_addrs()[0];
    // The first dial of a seed tells it already.
    let b = listen(App::new().seeds([addr.to_string()]).min_peers(1))
        .await
        .unwrap();
    until("both are connected", || {
        a.peers().len() == 1 && b.peers().len() == 1
    })
    .await;
    let (of_a, of_b) = (a.peers().list()[0].clone(), b.peers().list()[0].clone());
    assert_eq!(of_a.listen_addr(), Some(&*b.local_addrs()[0].to_string()));
    assert_eq!(of_b.listen_addr(), Some(&*addr.to_string()));
    assert_eq!(of_b.seen_addr(), of_a.addr());
    assert_eq!(of_a.seen_addr(), of_b.addr());
    // It can be dialled.
    let c = App::new().start().await.unwrap();
    let met = c.connect(of_a.listen_addr().unwrap()).await.unwrap();
    assert_eq!(met.node_id(), Some(b.id()));
    until("it is connected", || b.peers().len() == 2).await;
    assert_eq!(b.peers().list()[1].listen_addr(), None);
    let d = listen(App::new().advertise("example.org:7")).await.unwrap();
    let met = c.connect(&d.local_addrs()[0].to_string()).await.unwrap();
    assert_eq!(met.listen_addr(), Some("example.org:7"));
}

#[tokio::test]
async fn who_finds_no_place_is_told_that_the_node_is_busy() {
    let mesh = App::new()
        .max_inbound(1)
        .listen("127.0.0.1:0")
        .await
        .unwrap();
    let addr = mesh.local_addrs()[0].to_string();
    // Two in their handshake: one gets the place, the other learns after its HELLO.
    let mut first = ByHand::new(TcpStream::connect(&addr).await.unwrap());
    let mut second = ByHand::new(TcpStream::connect(&addr).await.unwrap());
    for by_hand in [&mut first, &mut second] {
        assert_eq!(by_hand.recv().await.unwrap().kind, Kind::Hello);
    }
    first
        .send(Kind::Hello, support::hello(first.node, ""))
        .await;
    until("the first has the place", || mesh.peers().len() == 1).await;
    second
        .send(Kind::Hello, support::hello(second.node, ""))
        .await;
    assert_eq!(second.expect_bye().await, "busy");
    // At accept.
    let other = App::new().start().await.unwrap();
    for _ in 0..20 {
        let refused = other.connect(&addr).await.unwrap_err();
        assert!(refused.is_busy() && refused.is_refused(), "{refused}");
    }
    assert!(mesh.peers().list()[0].is_connected());
}

#[tokio::test]
async fn a_goodbye_says_that_a_node_is_busy() {
    let (_a, here, _b, there) = pair(App::new(), App::new()).await;
    here.disconnect(Goodbye::BUSY);
    let reason = soon("the end", there.closed()).await;
    assert!(reason.is_busy(), "{reason}");
    let (_a, here, _b, there) = pair(App::new(), App::new()).await;
    here.disconnect("enough");
    let reason = soon("the end", there.closed()).await;
    assert!(matches!(&reason, DisconnectReason::Bye(words) if words.contains("enough")));
    assert!(!reason.is_busy());
}

#[tokio::test]
async fn start_hooks_run_before_peers_and_shutdown_hooks_can_still_send() {
    let steps = Arc::new(Mutex::new(Vec::new()));
    let network = Memory::new();
    let a = App::new()
        .transport(network.clone())
        .plugin(deaf("x/1"))
        .listen("a:1")
        .await
        .unwrap();
    let heard = Heard::default();
    let c = App::new()
        .transport(network.clone())
        .plugin(heard.plugin("x/1"))
        .listen("c:2")
        .await
        .unwrap();
    let note = {
        let steps = steps.clone();
        move |step: &str| steps.lock().unwrap().push(step.to_owned())
    };
    let plugin = With(move |app: &mut Registrar| {
        app.channel("x/1", |_, _| async {});
        let note = note.clone();
        for number in 1..3 {
            let note = note.clone();
            app.on_start(move |mesh: Mesh| async move {
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
                let alone = mesh.peers().is_empty() && mesh.local_addrs().len() == 1;
                note(&format!("start {number}, {alone}"));
            });
        }
        app.on_shutdown(|_| async { panic!("oops") });
        app.on_shutdown(move |mesh: Mesh| async move {
            tokio::task::yield_now().await;
            for peer in mesh.peers().list().iter() {
                peer.send_on("x/1", "farewell").await.unwrap();
            }
            note("shutdown");
        });
    });
    let b = App::new()
        .transport(network)
        .plugin(plugin)
        .seeds(["a:1", "c:2"])
        .min_peers(2)
        .listen("b:3")
        .await
        .unwrap();
    assert_eq!(*steps.lock().unwrap(), ["start 1, true", "start 2, true"]);
    until("the seeds are dialled", || b.peers().len() == 2).await;
    let mut events = b.events();
    drop(b);
    let mut panicked = false;
    while let Some(event) = soon("an event", events.next()).await {
        panicked |= matches!(event, Event::Error { error, .. } if error.report().to_string().contains("oops"));
    }
    assert!(panicked);
    assert_eq!(steps.lock().unwrap().len(), 3);
    until("the farewell is heard", || heard.list() == ["farewell"]).await;
    drop((a, c));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_hooks_no_longer_than_it_may() {
    let stuck = With(|app: &mut Registrar| {
        app.on_shutdown(|_| std::future::pending());
    });
    let mesh = App::new().plugin(stuck).start().await.unwrap();
    let begun = tokio::time::Instant::now();
    mesh.shutdown().await;
    assert!(begun.elapsed() <= mesh.peers().config().drain);
}

#[tokio::test]
async fn a_peer_that_is_penalized_too_often_is_disconnected_and_told_why() {
    let (a, here, _b, there) = pair(App::new(), App::new()).await;
    for _ in 0..5 {
        here.penalize(20, "odd");
    }
    assert!(error(&a).await.contains("odd"));
    assert!(here.is_connected());
    here.penalize(1, "too odd");
    let reason = soon("the end", here.closed()).await;
    assert!(
        matches!(&reason, DisconnectReason::Penalized(why) if why == "too odd"),
        "{reason}"
    );
    let told = soon("the end", there.closed()).await;
    assert!(told.to_string().contains("too odd"), "{told}");
    here.penalize(1, "nothing happens to one that is gone");
}

#[tokio::test]
async fn an_offer_is_queued_or_counted() {
    let mesh = App::new()
        .configure(|config| config.outbox = 10_000)
        .start()
        .await
        .unwrap();
    let (mut by_hand, peer) = join(&mesh, 1024, &[]).await;
    assert!(peer.offer("first", Flow::Wait).await);
    assert_eq!(by_hand.recv_frame().await.unwrap().payload, "first");
    let mut queued = 1;
    while peer.offer(vec![0; 2000], Flow::Drop).await {
        queued += 1;
    }
    // It was slow, so nobody waits for it.
    assert!(!peer.offer(vec![0; 2000], Flow::Drop).await);
    assert!(!peer.offer(vec![0; 2 << 20], Flow::Wait).await);
    assert_eq!(peer.stats().dropped, 3);
    let waiting = tokio::spawn({
        let peer = peer.clone();
        async move { peer.offer("last", Flow::Wait).await }
    });
    for _ in 1..queued {
        by_hand.recv_frame().await.unwrap();
    }
    assert_eq!(by_hand.recv_frame().await.unwrap().payload, "last");
    assert!(waiting.await.unwrap());
    drop(by_hand);
    soon("the end", peer.closed()).await;
    assert!(!peer.offer("late", Flow::Wait).await);
}

#[tokio::test]
async fn a_handler_that_hangs_is_dropped_with_its_peer() {
    struct Alive(Arc<AtomicU64>);
    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Relaxed);
        }
    }
    let (running, begun) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let plugin = With({
        let (running, begun) = (running.clone(), begun.clone());
        move |app: &mut Registrar| {
            let (running, begun) = (running.clone(), begun.clone());
            app.channel("x/1", move |peer: Peer, _| {
                running.fetch_add(1, Relaxed);
                let alive = Alive(running.clone());
                begun.notify_one();
                async move {
                    let _kept = (peer, alive);
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    let app = App::new()
        .plugin(plugin)
        .configure(|config| config.drain = std::time::Duration::from_millis(50));
    let (_a, here, b, there) = pair(app, App::new().plugin(deaf("x/1"))).await;
    there.send_on("x/1", "hang").await.unwrap();
    soon("a call", begun.notified()).await;
    b.shutdown().await;
    soon("the end", here.closed()).await;
    until("it is dropped", || running.load(Relaxed) == 0).await;
}
