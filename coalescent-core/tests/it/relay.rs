//! Relaying, backpressure and what is lost, over TCP.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use coalescent_core::wire::Kind;
use coalescent_core::{App, AppExt, DisconnectReason, DropReason, Event, Flow, Mesh, Wire};
use support::{ByHand, RelayLayer, on_the_wire, packet, soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn hub(flow: Flow) -> Mesh {
    App::new()
        .with(RelayLayer(flow))
        .listen("127.0.0.1:0")
        .await
        .expect("a free port")
}

async fn dial(mesh: &Mesh) -> TcpStream {
    TcpStream::connect(mesh.local_addrs()[0])
        .await
        .expect("someone who listens")
}

#[tokio::test]
async fn runs_reach_every_other_peer_in_order_with_the_ttl_lowered() {
    let mesh = hub(Flow::Wait).await;
    let mut source = ByHand::connect(dial(&mesh).await).await;
    let mut one = ByHand::connect(dial(&mesh).await).await;
    let mut two = ByHand::connect(dial(&mesh).await).await;
    until("all are in the roster", || mesh.peers().len() == 3).await;

    let mut packets = Vec::new();
    for nonce in 0..2000_u64 {
        packets.push(packet(
            Kind::Broadcast { nonce },
            vec![nonce as u8; (nonce % 97) as usize],
        ));
        if nonce % 5 == 0 {
            // Breaks the run: this one is for the hub alone.
            packets.push(packet(Kind::Data, "for you"));
        }
        if nonce % 7 == 0 {
            // Its ttl is used up: heard, and not passed on.
            let mut last = packet(
                Kind::Broadcast {
                    nonce: u64::MAX - nonce,
                },
                "no further",
            );
            last.ttl = 1;
            packets.push(last);
        }
    }
    let bytes = on_the_wire(&packets);
    let sending = tokio::spawn(async move {
        source.framed.get_mut().write_all(&bytes).await.unwrap();
        source
    });
    for peer in [&mut one, &mut two] {
        for nonce in 0..2000_u64 {
            let got = peer.recv_frame().await.expect("a frame");
            assert_eq!((got.kind, got.ttl), (Kind::Broadcast { nonce }, 31));
            assert_eq!(got.payload, vec![nonce as u8; (nonce % 97) as usize]);
        }
    }
    let _source = sending.await.unwrap();
    until("all is counted", || mesh.stats().relayed == 4000).await;
    assert_eq!(mesh.stats().dropped, 0);
}

#[tokio::test]
async fn waiting_holds_back_the_source_and_loses_nothing() {
    let mesh = hub(Flow::Wait).await;
    let mut source = ByHand::connect(dial(&mesh).await).await;
    let mut slow = ByHand::connect(dial(&mesh).await).await;
    until("both are in the roster", || mesh.peers().len() == 2).await;

    const FRAMES: u64 = 400;
    let sending = tokio::spawn(async move {
        for nonce in 0..FRAMES {
            source
                .send(Kind::Broadcast { nonce }, vec![nonce as u8; 100_000])
                .await;
        }
        source
    });
    // 40 MB do not fit into what may wait; the source must be held back until they are read.
    until("the outbox is full", || {
        mesh.peers()
            .list()
            .iter()
            .any(|peer| peer.queued() > 2_000_000)
    })
    .await;
    assert!(!sending.is_finished());
    for nonce in 0..FRAMES {
        let got = slow.recv_frame().await.expect("a frame");
        assert_eq!(got.kind, Kind::Broadcast { nonce });
        assert!(
            mesh.peers()
                .list()
                .iter()
                .all(|peer| peer.queued() <= 4 * 1024 * 1024)
        );
    }
    let _source = sending.await.unwrap();
    assert_eq!(mesh.stats().dropped, 0);
}

/// Sends so many large broadcasts from `source`, and receives each of them, in order, at `quick`.
async fn pass_on(
    mut source: ByHand<TcpStream>,
    quick: &mut ByHand<TcpStream>,
    frames: u64,
) -> ByHand<TcpStream> {
    let sending = tokio::spawn(async move {
        for nonce in 0..frames {
            source
                .send(Kind::Broadcast { nonce }, vec![nonce as u8; 100_000])
                .await;
        }
        source
    });
    for nonce in 0..frames {
        let got = quick.recv_frame().await.expect("a frame");
        assert_eq!(got.kind, Kind::Broadcast { nonce });
    }
    sending.await.unwrap()
}

#[tokio::test]
async fn dropping_costs_the_slow_peer_alone_and_is_counted() {
    let mesh = hub(Flow::Drop).await;
    let mut events = mesh.events();
    let source = ByHand::connect(dial(&mesh).await).await;
    let _never_reads = ByHand::connect(dial(&mesh).await).await;
    let mut quick = ByHand::connect(dial(&mesh).await).await;
    until("all are in the roster", || mesh.peers().len() == 3).await;

    let _source = pass_on(source, &mut quick, 400).await;
    let dropped = soon("the drops are reported", async {
        loop {
            if let Some(Event::Dropped { reason, frames, .. }) = events.next().await {
                assert_eq!(reason, DropReason::Full);
                return frames;
            }
        }
    })
    .await;
    assert!(dropped > 0);
    // What is not yet written and what was dropped is all there was for it.
    assert!(mesh.stats().dropped > 100);
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_disconnected_as_slow() {
    let app = App::new().with(RelayLayer(Flow::Wait)).configure(|config| {
        config.patience = Duration::from_millis(500);
    });
    let mesh = app.listen("127.0.0.1:0").await.unwrap();
    let mut events = mesh.events();
    let source = ByHand::connect(dial(&mesh).await).await;
    let mut quick = ByHand::connect(dial(&mesh).await).await;
    let _never_reads = ByHand::connect(dial(&mesh).await).await;
    until("all are in the roster", || mesh.peers().len() == 3).await;
    const FRAMES: u64 = 400;
    let _source = pass_on(source, &mut quick, FRAMES).await;
    let mut lost = 0;
    let reason = soon("the slow peer is gone", async {
        loop {
            match events.next().await.unwrap() {
                Event::Dropped { frames, .. } => lost += frames,
                Event::PeerDisconnected { reason, .. } => return reason,
                _ => {}
            }
        }
    })
    .await;
    assert!(matches!(reason, DisconnectReason::Slow), "{reason}");
    // What others waited to hand it is found to be lost only now.
    soon("what was dropped is told", async {
        while mesh.stats().dropped != lost {
            if let Some(Event::Dropped { frames, .. }) = events.next().await {
                lost += frames;
            }
        }
    })
    .await;
    let stats = mesh.stats();
    // Nothing is lost silently: each frame went to both, was dropped, or was never accepted.
    assert!(stats.relayed >= FRAMES);
}

#[tokio::test]
async fn wires_can_be_mixed() {
    let mesh = hub(Flow::Drop).await;
    let lines = mesh
        .listen_wire("127.0.0.1:0", Wire::lines())
        .await
        .unwrap();
    let raw = mesh.listen_wire("127.0.0.1:0", Wire::raw()).await.unwrap();
    let mut native = ByHand::connect(dial(&mesh).await).await;
    let mut line = TcpStream::connect(lines.to_string()).await.unwrap();
    let mut other_line = TcpStream::connect(lines.to_string()).await.unwrap();
    let mut bytes = TcpStream::connect(raw.to_string()).await.unwrap();
    until("all are in the roster", || mesh.peers().len() == 4).await;

    line.write_all(b"one\r\ntwo\n\nthree\n").await.unwrap();
    for expected in ["one", "two", "three"] {
        let got = native.recv_frame().await.unwrap();
        assert!(matches!(got.kind, Kind::Broadcast { .. }));
        assert_eq!((got.ttl, &got.payload[..]), (32, expected.as_bytes()));
    }
    let mut text = [0; 14];
    soon("the lines", other_line.read_exact(&mut text))
        .await
        .unwrap();
    assert_eq!(&text, b"one\ntwo\nthree\n");
    let mut text = [0; 11];
    soon("the payloads", bytes.read_exact(&mut text))
        .await
        .unwrap();
    assert_eq!(&text, b"onetwothree");

    // A newline has no place in a line: dropped for the lines, and counted; not for the others.
    native.send(Kind::Broadcast { nonce: 1 }, "a\nb").await;
    native.send(Kind::Broadcast { nonce: 2 }, "c").await;
    let mut text = [0; 2];
    soon("the line", line.read_exact(&mut text)).await.unwrap();
    assert_eq!(&text, b"c\n");
    let mut text = [0; 4];
    soon("the bytes", bytes.read_exact(&mut text))
        .await
        .unwrap();
    assert_eq!(&text, b"a\nbc");
    assert_eq!(mesh.stats().dropped, 2);
}

#[tokio::test]
async fn two_nodes_that_dial_each_other_keep_one_connection_and_lose_nothing() {
    for _ in 0..20 {
        let (a, b) = (
            App::new().listen("127.0.0.1:0").await.unwrap(),
            App::new().listen("127.0.0.1:0").await.unwrap(),
        );
        let (mut from_b, mut from_a) = (a.reader(), b.reader());
        let (to_a, to_b) = (
            a.local_addrs()[0].to_string(),
            b.local_addrs()[0].to_string(),
        );
        let (one, two) = tokio::join!(a.connect(&to_b), b.connect(&to_a));
        let (one, two) = (one.unwrap(), two.unwrap());
        const FRAMES: usize = 300;
        let talk = |peer: coalescent_core::Peer| async move {
            for number in 0..FRAMES {
                peer.send_payload(number.to_be_bytes().to_vec())
                    .await
                    .unwrap();
            }
        };
        tokio::join!(talk(one), talk(two));
        for reader in [&mut from_a, &mut from_b] {
            let mut numbers = Vec::new();
            for _ in 0..FRAMES {
                let frame = soon("a frame", reader.next_frame()).await.unwrap();
                numbers.push(usize::from_be_bytes(frame.payload().try_into().unwrap()));
            }
            numbers.sort_unstable();
            assert!(
                numbers.iter().copied().eq(0..FRAMES),
                "each once: {numbers:?}"
            );
        }
        assert_eq!((a.peers().len(), b.peers().len()), (1, 1));
        let (a, b) = tokio::join!(a.shutdown(), b.shutdown());
        assert_eq!((a.dropped, b.dropped), (0, 0));
    }
}

#[tokio::test]
async fn a_seed_that_is_this_node_is_told_of_and_one_that_dialled_us_is_enough() {
    let a = App::new().listen("127.0.0.1:0").await.unwrap();
    let b = App::new().listen("127.0.0.1:0").await.unwrap();
    let (a_addr, b_addr) = (
        a.local_addrs()[0].to_string(),
        b.local_addrs()[0].to_string(),
    );
    let mut events = a.events();
    a.add_seed(&a_addr).unwrap();
    a.add_seed(&b_addr).unwrap();
    b.add_seed(&a_addr).unwrap();
    until("they are connected", || {
        a.peers().len() == 1 && b.peers().len() == 1
    })
    .await;
    a.shutdown().await;
    while let Some(event) = events.next().await {
        if let Event::Error { error, .. } = &event {
            assert!(error.is_itself(), "{event:?}");
        }
    }
}

#[tokio::test]
async fn a_file_can_be_copied_to_all_peers_in_flat_memory() {
    let sender = App::new().listen("127.0.0.1:0").await.unwrap();
    let receiver = App::new()
        .seeds([sender.local_addrs()[0].to_string()])
        .start()
        .await
        .unwrap();
    let mut heard = receiver.reader();
    until("they are connected", || sender.peers().len() == 1).await;
    const LEN: u64 = 64 * 1024 * 1024;
    let copying = tokio::spawn({
        let mut mesh = sender.clone();
        async move {
            let mut file = tokio::io::repeat(b'x').take(LEN);
            tokio::io::copy(&mut file, &mut mesh).await
        }
    });
    let mut buf = BytesMut::with_capacity(1 << 16);
    let mut read = 0;
    while read < LEN {
        buf.clear();
        read += soon("bytes", heard.read_buf(&mut buf)).await.unwrap() as u64;
        assert!(buf.iter().all(|byte| *byte == b'x'));
        assert!(
            sender
                .peers()
                .list()
                .iter()
                .all(|peer| peer.queued() <= 4 * 1024 * 1024)
        );
    }
    assert_eq!(soon("the copy", copying).await.unwrap().unwrap(), LEN);
    assert_eq!(sender.stats().dropped, 0);
}

#[tokio::test]
async fn what_is_sent_last_arrives_though_the_sender_leaves_at_once() {
    let receiver = App::new().listen("127.0.0.1:0").await.unwrap();
    let mut heard = receiver.reader();
    for round in 0..20_u8 {
        let sender = App::new().start().await.unwrap();
        sender
            .connect(&receiver.local_addrs()[0].to_string())
            .await
            .unwrap();
        let payload = Bytes::from(vec![round; 700_000]);
        let sent = sender.broadcast_payload(payload.clone()).await.unwrap();
        assert_eq!(sent.queued, 1);
        drop(sender);
        assert_eq!(
            soon("the frame", heard.next_frame())
                .await
                .unwrap()
                .payload(),
            &payload
        );
    }
}
