//! Many broadcasts at once: what peers get of them, in which order, and what is counted.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use coalescent_core::connection::ConnectionInfo;
use coalescent_core::wire::Kind;
use coalescent_core::{App, BATCH, DisconnectReason, Event, Mesh, PAYLOAD_COST, Peer, Sent, Wire};
use support::{ByHand, soon, until};
use tokio::io::{AsyncBufReadExt, BufReader, DuplexStream};

/// A pipe that takes less than a frame of the tests.
const NARROW: usize = 1024;

async fn native(mesh: &Mesh, pipe: usize) -> (ByHand<DuplexStream>, Peer) {
    let (near, far) = tokio::io::duplex(pipe);
    let (peer, joined) = tokio::join!(
        ByHand::connect(near),
        mesh.adopt(far, ConnectionInfo::inbound())
    );
    (peer, joined.expect("a peer"))
}

async fn lines(mesh: &Mesh, pipe: usize) -> BufReader<DuplexStream> {
    let (near, far) = tokio::io::duplex(pipe);
    let socket = ConnectionInfo::inbound().wire(Wire::lines());
    mesh.adopt(far, socket).await.expect("a peer");
    BufReader::new(near)
}

/// Reads broadcasts and compares them with what is expected; no two may have the same nonce.
async fn expect(peer: &mut ByHand<DuplexStream>, expected: &[Bytes]) {
    let mut nonces = HashSet::new();
    for (at, expected) in expected.iter().enumerate() {
        let packet = peer.recv_frame().await.expect("a frame");
        let Kind::Broadcast { nonce } = packet.kind else {
            panic!("no broadcast: {:?}", packet.kind);
        };
        assert!(nonces.insert(nonce), "a nonce was used again");
        assert!(packet.payload == *expected, "payload {at} is another");
    }
}

async fn expect_lines(peer: &mut BufReader<DuplexStream>, expected: &[Bytes]) {
    let mut line = Vec::new();
    for (at, expected) in expected.iter().enumerate() {
        line.clear();
        soon("a line", peer.read_until(b'\n', &mut line))
            .await
            .expect("a line");
        assert_eq!(line.pop(), Some(b'\n'));
        assert!(line == *expected, "line {at} is another");
    }
}

/// Payloads of all sizes, each unlike the others but for the empty ones: many small ones, large
/// ones between them.
fn payloads() -> Vec<Bytes> {
    let sizes: [usize; 14] = [
        0, 1, 9, 64, 64, 64, 500, 1023, 1024, 1025, 0, 5000, 70_000, 3,
    ];
    (0..2000)
        .map(|n: usize| {
            // The largest now and then, so that several batches end in each way.
            let size = sizes[n % if n.is_multiple_of(100) { 14 } else { 11 }];
            let text = if size == 0 {
                String::new()
            } else {
                n.to_string()
            };
            Bytes::from("-".repeat(size.saturating_sub(text.len())) + &text)
        })
        .collect()
}

#[tokio::test]
async fn each_peer_gets_all_payloads_in_order_on_every_wire() {
    for (natives, others) in [(1, 0), (3, 0), (0, 2), (2, 2)] {
        let mesh = App::new().start().await.unwrap();
        let expected = payloads();
        let mut reading = Vec::new();
        for _ in 0..natives {
            let (mut peer, _) = native(&mesh, 64 * 1024).await;
            let expected = expected.clone();
            reading.push(tokio::spawn(async move {
                expect(&mut peer, &expected).await;
            }));
        }
        for _ in 0..others {
            let mut peer = lines(&mesh, 64 * 1024).await;
            // An empty line is no frame.
            let written = |payload: &&Bytes| !payload.is_empty();
            let expected: Vec<Bytes> = expected.iter().filter(written).cloned().collect();
            reading.push(tokio::spawn(async move {
                expect_lines(&mut peer, &expected).await;
            }));
        }
        let all = expected.len() * (natives + others);
        let broadcast = mesh.broadcast_payloads(expected);
        let sent = soon("all is queued", broadcast).await.unwrap();
        assert_eq!((sent.queued, sent.dropped), (all, 0));
        soon("all is written", mesh.peers().flushed()).await;
        assert_eq!(mesh.stats().sent, all as u64);
        for peer in reading {
            soon("all is read", peer).await.unwrap();
        }
    }
}

#[tokio::test]
async fn nothing_is_told_of_no_payloads_or_no_peers() {
    let mesh = App::new().start().await.unwrap();
    assert_eq!(
        mesh.broadcast_payloads(["a", "b"]).await.unwrap(),
        Sent::default()
    );
    let (mut peer, _) = native(&mesh, NARROW).await;
    let none: [&str; 0] = [];
    assert_eq!(
        mesh.broadcast_payloads(none).await.unwrap(),
        Sent::default()
    );
    // What was said to nobody is not kept either.
    assert_eq!(mesh.broadcast_payloads(["c"]).await.unwrap().queued, 1);
    expect(&mut peer, &[Bytes::from("c")]).await;
}

#[tokio::test]
async fn what_a_wire_has_no_place_for_is_dropped_and_the_rest_keeps_its_order() {
    let mesh = App::new().start().await.unwrap();
    let mut events = mesh.events();
    let (mut on_native, _) = native(&mesh, 64 * 1024).await;
    let mut on_lines = lines(&mesh, 64 * 1024).await;
    let all: Vec<Bytes> = [
        "one".into(),
        "a\n".repeat(2001),
        "two".into(),
        "a\nb".into(),
        "x".repeat(2000),
        "a\n".repeat(50_000),
        "three".into(),
    ]
    .map(Bytes::from)
    .to_vec();
    let sent = mesh.broadcast_payloads(all.clone()).await.unwrap();
    assert_eq!((sent.queued, sent.dropped), (7 + 4, 3));

    expect(&mut on_native, &all).await;
    let whole: Vec<Bytes> = all.into_iter().filter(|p| !p.contains(&b'\n')).collect();
    expect_lines(&mut on_lines, &whole).await;

    drop((on_native, on_lines));
    let stats = mesh.shutdown().await;
    assert_eq!((stats.sent, stats.dropped), (11, 3));
    let (mut errors, mut dropped) = (0, 0);
    while let Some(event) = events.next().await {
        match event {
            Event::Error { peer, error } => {
                assert!(error.is_encode() && peer.is_some(), "{error}");
                errors += 1;
            }
            Event::Dropped { frames, .. } => dropped += frames,
            _ => {}
        }
    }
    // One for the peer, not for each payload.
    assert_eq!((errors, dropped), (1, 3));
}

#[tokio::test]
async fn a_slow_reader_with_a_small_outbox_is_waited_for_and_loses_nothing() {
    for size in [40, 3000] {
        let app = App::new().configure(|config| config.outbox = 4096);
        let mesh = app.start().await.unwrap();
        let (mut quick, _) = native(&mesh, 64 * 1024).await;
        let (mut slow, handle) = native(&mesh, NARROW).await;
        let mut slow_lines = lines(&mesh, NARROW).await;
        let expected: Vec<Bytes> = (0..4 * BATCH / size)
            .map(|n| Bytes::from(format!("{n:0>size$}")))
            .collect();

        let (saying, all) = (mesh.clone(), expected.clone());
        let saying = tokio::spawn(async move { saying.broadcast_payloads(all).await.unwrap() });
        let to_quick = expected.clone();
        let reading = tokio::spawn(async move { expect(&mut quick, &to_quick).await });
        until("it has some of it", || handle.queued() > size).await;
        assert!(!saying.is_finished(), "nobody has read all of it");

        let to_lines = expected.clone();
        let reading_lines =
            tokio::spawn(async move { expect_lines(&mut slow_lines, &to_lines).await });
        expect(&mut slow, &expected).await;
        let sent = soon("all is queued", saying).await.unwrap();
        assert_eq!((sent.queued, sent.dropped), (3 * expected.len(), 0));
        soon("all is read", reading).await.unwrap();
        soon("all is read", reading_lines).await.unwrap();
        assert_eq!(mesh.stats().dropped, 0);
    }
}

#[tokio::test]
async fn a_peer_that_leaves_meanwhile_holds_nobody_back_and_is_counted() {
    let app = App::new().configure(|config| config.outbox = 4096);
    let mesh = app.start().await.unwrap();
    let (mut stays, _) = native(&mesh, 64 * 1024).await;
    let (leaves, _) = native(&mesh, NARROW).await;
    let expected: Vec<Bytes> = (0..10 * BATCH / 1000)
        .map(|n| Bytes::from(format!("{n:0>1000}")))
        .collect();
    let all = expected.len();

    let (saying, payloads) = (mesh.clone(), expected.clone());
    let saying = tokio::spawn(async move { saying.broadcast_payloads(payloads).await.unwrap() });
    // A whole batch and more: there was no room any more where nobody reads.
    let (first, rest) = expected.split_at(BATCH / 1000 + 1);
    expect(&mut stays, first).await;
    assert!(!saying.is_finished(), "one of them has no room");
    drop(leaves);
    expect(&mut stays, rest).await;

    let sent = soon("all is queued", saying).await.unwrap();
    let (to_other, lost) = (sent.queued - all, sent.dropped);
    assert!(to_other > 0 && lost > 0, "{sent:?}");
    assert!(to_other + lost < all, "nothing is for one who has left");
    let stats = mesh.abort().await;
    assert!(stats.sent >= all as u64);
    assert_eq!(
        stats.sent + stats.dropped,
        sent.queued as u64,
        "all that was queued is written or counted as dropped"
    );
}

#[tokio::test]
async fn no_peer_has_the_first_of_a_batch_before_the_last_is_there() {
    let mesh = App::new().start().await.unwrap();
    let (_peer, handle) = native(&mesh, NARROW).await;
    let size = 100;
    let count = BATCH / (size + PAYLOAD_COST);
    let payloads = (0..count).map(|n| {
        assert_eq!(handle.queued(), 0, "payload {n} is late");
        "x".repeat(size)
    });
    assert_eq!(
        mesh.broadcast_payloads(payloads).await.unwrap().queued,
        count
    );
    assert!(handle.queued() > 0);
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_no_reason_to_wait_until_its_outbox_is_full() {
    let app = App::new().configure(|config| config.patience = Duration::from_millis(50));
    let mesh = app.start().await.unwrap();
    let mut events = mesh.events();
    let mut reads = lines(&mesh, 64 * 1024).await;
    // On this wire nobody is asked for a sign of life.
    let _stuck = lines(&mesh, NARROW).await;
    let payload = Bytes::from(vec![7; 1000]);

    let outbox = mesh.peers().config().outbox;
    let mut say = async |size: usize| {
        let payloads = vec![payload.clone(); size / payload.len()];
        let (sent, ()) = tokio::join!(
            soon("all is queued", mesh.broadcast_payloads(payloads.clone())),
            expect_lines(&mut reads, &payloads)
        );
        let sent = sent.unwrap();
        (sent.queued, sent.dropped, payloads.len())
    };
    let (queued, dropped, all) = say(outbox / 2).await;
    assert_eq!((queued, dropped), (2 * all, 0));
    let (queued, dropped, all) = say(outbox).await;
    assert!(queued > all && dropped > 0, "{queued} and {dropped}");

    let reason = loop {
        let event = soon("a disconnect", events.next()).await;
        if let Some(Event::PeerDisconnected { reason, .. }) = event {
            break reason;
        }
    };
    assert!(matches!(reason, DisconnectReason::Slow), "{reason}");
}
