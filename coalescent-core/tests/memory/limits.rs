//! What peers can make a node keep in memory, against the numbers that are published.

use bytes::BytesMut;
use coalescent_core::config::PENDING_BYTES;
use coalescent_core::connection::{ConnectionInfo, requests_ahead};
use coalescent_core::wire::Kind;
use coalescent_core::{App, AppExt, Flow, Frame, Reply, Wire};
use support::{RelayLayer, handle, join, join_wire, on_the_wire, packet, pour};

use crate::{ALONE, HEAP, KIB, MIB};

/// How many bytes each direction of a connection in memory holds.
const PIPE: usize = 64 * KIB;

/// A frame of `len` bytes, and then so much of what nobody keeps that it fills a large buffer.
fn frame_and_junk(kind: Kind, len: usize) -> (BytesMut, BytesMut) {
    let frame = on_the_wire(&[packet(kind, vec![b'x'; len])]);
    let junk = on_the_wire(&vec![packet(Kind::Unknown(0x66), vec![0; 10_000]); 12]);
    (frame, junk)
}

fn stuck() -> App<impl coalescent_core::PeerLayer> {
    let stack = handle(|_| std::future::pending::<Result<Reply, coalescent_core::BoxError>>());
    App::new().with(stack)
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_a_handler_is_counted_with_the_buffers_it_keeps_alive() {
    let _alone = ALONE.lock().await;
    let mesh = stuck().start().await.unwrap();
    let mut peer = join(&mesh, PIPE).await;
    let before = HEAP.current_usage();
    let (frame, junk) = frame_and_junk(Kind::Data, 0);
    let io = peer.framed.get_mut();
    for _ in 0..300 {
        if pour(io, &frame, 1).await == 0 || pour(io, &junk, 1).await == 0 {
            break;
        }
    }
    // What is read ahead, two buffers, and what is in the pipe.
    let grown = HEAP.current_usage().saturating_sub(before);
    let bound = mesh.peers().config().read_ahead + 2 * 128 * KIB + 2 * PIPE;
    assert!(grown <= bound, "{grown} bytes, not {bound}");
}

#[tokio::test(start_paused = true)]
async fn small_frames_behind_a_handler_are_counted_with_their_bookkeeping() {
    let _alone = ALONE.lock().await;
    let mesh = stuck().start().await.unwrap();
    let bound = mesh.peers().config().read_ahead + 2 * 128 * KIB + 2 * PIPE;

    // Each in a read of its own.
    let mut peer = join(&mesh, PIPE).await;
    let before = HEAP.current_usage();
    let frame = on_the_wire(&[packet(Kind::Data, "")]);
    let sent = pour(peer.framed.get_mut(), &frame, 60_000).await;
    let grown = HEAP.current_usage().saturating_sub(before);
    assert!(
        grown <= bound,
        "{grown} bytes, not {bound}, for {sent} frames"
    );

    // Many in one read, each a newline.
    let mut line = join_wire(&mesh, Wire::lines(), PIPE).await;
    let before = HEAP.current_usage();
    let mut lines = vec![b'\n'; 512];
    lines[0] = b'x';
    lines[1] = b'\n';
    let lines = lines.repeat(100);
    pour(&mut line, &lines, 100).await;
    let grown = HEAP.current_usage().saturating_sub(before);
    assert!(grown <= bound, "{grown} bytes, not {bound}");
}

#[tokio::test(start_paused = true)]
async fn small_parts_of_large_buffers_do_not_keep_them_alive_in_an_outbox() {
    let _alone = ALONE.lock().await;
    // A peer that asks, and does not read what it is answered with: a part of what it asked.
    let echo = handle(|frame: Frame| async move { Ok(Reply::Payload(frame.into_payload())) });
    let mesh = App::new().with(echo).start().await.unwrap();
    let bound = 2 * mesh.peers().config().outbox + MIB;
    let mut peer = join(&mesh, PIPE).await;
    let before = HEAP.current_usage();
    let (request, junk) = frame_and_junk(Kind::Request { id: 1 }, 1100);
    for _ in 0..300 {
        let io = peer.framed.get_mut();
        if pour(io, &request, 1).await == 0 || pour(io, &junk, 1).await == 0 {
            break;
        }
    }
    let grown = HEAP.current_usage().saturating_sub(before);
    assert!(grown <= bound, "{grown} bytes, not {bound}");
    drop((peer, mesh));

    // And one that does not read what others say, in the words of its own wire.
    let mesh = App::new()
        .with(RelayLayer(Flow::Drop))
        .start()
        .await
        .unwrap();
    let mut source = join(&mesh, PIPE).await;
    let _never_reads = join_wire(&mesh, Wire::lines(), PIPE).await;
    let before = HEAP.current_usage();
    let (frame, junk) = frame_and_junk(Kind::Broadcast { nonce: 1 }, 1100);
    for _ in 0..300 {
        let io = source.framed.get_mut();
        if pour(io, &frame, 1).await == 0 || pour(io, &junk, 1).await == 0 {
            break;
        }
    }
    let grown = HEAP.current_usage().saturating_sub(before);
    assert!(grown <= bound, "{grown} bytes, not {bound}");
}

/// As many requests as are sent without waiting for a reply never keep a peer from being read,
/// whatever stands between them. More are held back.
#[tokio::test(start_paused = true)]
async fn requests_behind_handlers_are_read_as_far_as_their_window_and_no_further() {
    let _alone = ALONE.lock().await;
    for (len, window) in [(0, 300), (20_000, 51)] {
        let mesh = stuck().start().await.unwrap();
        let mut peer = join(&mesh, PIPE).await;
        let before = HEAP.current_usage();
        let (_, junk) = frame_and_junk(Kind::Data, 0);
        let io = peer.framed.get_mut();
        let mut read = 0;
        while read < 1000 {
            let (frame, _) = frame_and_junk(Kind::Request { id: read }, len);
            if pour(io, &frame, 1).await == 0 || pour(io, &junk, 1).await == 0 {
                break;
            }
            read += 1;
        }
        assert!(read >= 2 * window, "only {read} requests of {len} bytes");
        assert_eq!(read == 1000, len == 0, "{read} of {len} bytes");
        let config = mesh.peers().config();
        let ahead = config.read_ahead + requests_ahead(config.max_frame);
        let grown = HEAP.current_usage().saturating_sub(before);
        let bound = ahead + 2 * 128 * KIB + 2 * PIPE;
        assert!(grown <= bound, "{grown} bytes, not {bound}");
    }
}

#[tokio::test(start_paused = true)]
async fn hostile_peers_fill_no_more_than_is_published() {
    const PEERS: usize = 8;
    const OUTBOX: usize = 300_000;
    const MAX_FRAME: usize = 300_000;
    const READ_AHEAD: usize = 100_000;
    let _alone = ALONE.lock().await;
    let app = stuck().configure(|config| {
        config.outbox = OUTBOX;
        config.max_frame = MAX_FRAME;
        config.read_ahead = READ_AHEAD;
    });
    let mesh = app.start().await.unwrap();
    let mut peers = Vec::new();
    let before = HEAP.current_usage();
    for _ in 0..PEERS {
        peers.push(join(&mesh, PIPE).await);
    }
    // Half of them, behind a handler that hangs: parts of buffers, then a large frame.
    let (small, junk) = frame_and_junk(Kind::Data, 10);
    let whole = on_the_wire(&[packet(Kind::Data, vec![1; MAX_FRAME])]);
    let (parts, rest) = peers.split_at_mut(PEERS / 2);
    for peer in parts {
        let io = peer.framed.get_mut();
        for _ in 0..10 {
            pour(io, &small, 1).await;
            pour(io, &junk, 1).await;
        }
        pour(io, &whole, 1).await;
    }
    // The others, as much as is read ahead, and then a frame whose last byte does not come.
    let before_rest = HEAP.current_usage();
    let each = on_the_wire(&[packet(Kind::Data, vec![1; 1000])]);
    for peer in rest.iter_mut() {
        let io = peer.framed.get_mut();
        assert_eq!(pour(io, &each, 64).await, 64, "frames were not read ahead");
        let all = pour(io, &whole[..whole.len() - 1], 1).await;
        assert_eq!(all, 1, "the large frame was not read");
    }
    let reading = HEAP.current_usage().saturating_sub(before_rest);
    // None of them reads.
    let before_writing = HEAP.current_usage();
    for peer in mesh.peers().list().iter() {
        for len in [10, 1100, 20_000, 10].into_iter().cycle() {
            if peer.try_send_payload(vec![0; len]).is_err() {
                break;
            }
        }
    }
    let writing = HEAP.current_usage().saturating_sub(before_writing);
    let grown = HEAP.current_usage().saturating_sub(before);
    let bound = PEERS * (mesh.peers().config().peer_bytes() + 2 * PIPE);
    assert!(grown <= bound, "{grown} bytes, not {bound}");

    // And the bound says something: each part of it that peers fill here gets nearly full. A buffer
    // may have twice the size of the frame in it, and an outbox keep twice its limit alive; not
    // these.
    let full = rest.len() * (MAX_FRAME + READ_AHEAD);
    assert!(reading >= full / 8 * 7, "{reading} of {full} bytes read");
    let full = PEERS * OUTBOX;
    assert!(writing >= full / 8 * 7, "{writing} of {full} bytes queued");
}

#[tokio::test(start_paused = true)]
async fn who_has_not_introduced_itself_costs_little() {
    let _alone = ALONE.lock().await;
    let mesh = App::new().start().await.unwrap();
    let before = HEAP.current_usage();
    const PENDING: usize = 200;
    let mut pending = Vec::new();
    for _ in 0..PENDING {
        let (mut near, far) = tokio::io::duplex(PIPE);
        let mesh = mesh.clone();
        tokio::spawn(async move { mesh.adopt(far, ConnectionInfo::inbound()).await.map(drop) });
        // A HELLO of the largest size, but for its last byte.
        let mut bytes = vec![0, 0, 4, 2, 0x10, 0];
        bytes.resize(6 + 1023, 0);
        pour(&mut near, &bytes, 1).await;
        pending.push(near);
    }
    let grown = HEAP.current_usage().saturating_sub(before);
    assert!(mesh.peers().is_empty());
    assert!(
        grown <= PENDING * PENDING_BYTES,
        "{} bytes each",
        grown / PENDING
    );
}

#[test]
fn the_published_sums_are_those_of_the_default_options() {
    let published = include_str!("../../docs/limits.md");
    let config = coalescent_core::Config::default();
    let peer = format!("{:.1} MiB", config.peer_bytes() as f64 / MIB as f64);
    let node = format!("{:.0} MiB", config.node_bytes() as f64 / MIB as f64);
    for (name, sum) in [("peer_bytes", peer), ("node_bytes", node)] {
        let row = published
            .lines()
            .find(|line| line.contains("**sum**") && line.contains(name));
        assert!(
            row.is_some_and(|row| row.contains(&sum)),
            "{name} is {sum}: {row:?}"
        );
    }
}
