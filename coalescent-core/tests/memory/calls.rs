//! What calls of the stack can make a node keep in memory, against the numbers that are published:
//! frames on the read side, with what layers made of them, buffers that frames were read into, and
//! replies.

use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use coalescent_core::config::MAX_CONCURRENCY;
use coalescent_core::event::EVENT_CAPACITY;
use coalescent_core::wire::Kind;
use coalescent_core::{App, AppExt, BoxError, Config, Frame, Inbox, Mesh, Reply, Wire};
use support::{handle, join, join_wire, on_the_wire, packet, pour, until};
use tokio::io::AsyncWriteExt;
use tower::Service;

use crate::{ALONE, HEAP, KIB, MIB};

/// How many bytes each direction of a connection in memory holds.
const PIPE: usize = 256 * KIB;

/// What the tests allow beyond what is published: the connection in memory itself.
const MARGIN: usize = 2 * PIPE;

/// One peer whose frames are small, so that little is published for what these tests do not fill.
fn small(config: &mut Config) {
    config.max_inbound = 1;
    config.max_peers = 0;
    config.max_pending = 0;
    config.max_frame = 16 * KIB;
    config.outbox = 16 * KIB;
}

/// What is published for all of a node but its events, of which these tests make none.
fn published(mesh: &Mesh) -> usize {
    mesh.peers().config().node_bytes() - EVENT_CAPACITY * 4 * KIB
}

/// What is published for a peer from which nothing waits, and for which nothing does.
fn published_at_rest() -> usize {
    let mut config = Config::default();
    config.max_frame = 1;
    config.read_ahead = 0;
    config.outbox = 0;
    config.peer_bytes()
}

/// As many bytes as make a connection read in the largest pieces, in frames that nobody keeps.
fn junk() -> BytesMut {
    on_the_wire(&vec![packet(Kind::Unknown(0x66), vec![0; 10_000]); 120])
}

#[tokio::test(start_paused = true)]
async fn lists_of_lines_are_bounded_on_the_read_side() {
    let _alone = ALONE.lock().await;
    let mesh = App::new().configure(small).start().await.unwrap();
    let _reader = mesh.reader();
    let mut io = join_wire(&mesh, Wire::lines(), PIPE).await;
    // One line in each block is a frame, among so many empty ones that the block's list is long.
    let mut lines = vec![b'\n'; 2048];
    lines[0] = b'x';
    let lines = lines.repeat(64);
    let before = HEAP.current_usage();
    let poured = pour(&mut io, &lines, 2000).await;
    let grown = HEAP.current_usage().saturating_sub(before);
    assert!(poured < 2000, "the peer was not held back");
    let bound = published(&mesh) + MARGIN;
    assert!(grown <= bound, "{grown} bytes, not {bound}");
}

#[tokio::test(start_paused = true)]
async fn what_layers_make_of_frames_is_counted_on_the_read_side() {
    let _alone = ALONE.lock().await;
    // From each in a read of its own, to many in one.
    for frames_of_a_write in [1, 100, 5000] {
        let unpack = tower::layer::layer_fn(|mut inbox: Inbox| {
            tower::service_fn(move |mut frame: Frame| {
                frame.set_payload(vec![0; 16 * KIB]);
                inbox.call(frame)
            })
        });
        let app = App::new().layer(unpack).configure(small);
        let mesh = app.start().await.unwrap();
        let _reader = mesh.reader();
        let mut peer = join(&mesh, PIPE).await;
        let io = peer.framed.get_mut();
        pour(io, &junk(), 1).await;
        let frames = on_the_wire(&vec![packet(Kind::Data, "x"); frames_of_a_write]);
        let times = 200_000 / frames_of_a_write;
        let before = HEAP.current_usage();
        let poured = pour(io, &frames, times).await;
        let grown = HEAP.current_usage().saturating_sub(before);
        assert!(poured < times, "the peer was not held back");
        let bound = published(&mesh) + MARGIN;
        assert!(grown <= bound, "{grown} bytes, not {bound}");
    }
}

#[tokio::test(start_paused = true)]
async fn buffers_of_frames_that_were_held_are_kept_in_bounds_and_given_back_in_silence() {
    let _alone = ALONE.lock().await;
    let held = Arc::new(Mutex::new(Vec::new()));
    let hold = Arc::clone(&held);
    let stack = handle(move |frame: Frame| {
        hold.lock().unwrap().push(frame);
        async { Ok::<_, BoxError>(Reply::None) }
    });
    let mesh = App::new().with(stack).start().await.unwrap();
    let mut peer = join(&mesh, PIPE).await;
    let before = HEAP.current_usage();
    let grown = || HEAP.current_usage().saturating_sub(before);
    for len in [MIB, 50 * KIB] {
        let frame = on_the_wire(&[packet(Kind::Data, vec![0; len])]);
        let io = peer.framed.get_mut();
        for _ in 0..6 * MIB / len {
            io.write_all(&frame).await.expect("a node that reads");
        }
    }
    let sent = 6 + 6 * MIB / (50 * KIB);
    until("the frames are held", || held.lock().unwrap().len() == sent).await;
    assert!(grown() >= 12 * MIB, "they are not: {} bytes", grown());

    *held.lock().unwrap() = Vec::new();
    // What comes next makes the connection look at the buffers it has.
    peer.send(Kind::Unknown(0x66), "").await;
    until("that is read", || mesh.stats().unknown == 1).await;
    let bound = published_at_rest() + MARGIN;
    assert!(grown() <= bound, "{} bytes, not {bound}", grown());

    until("the buffers are given back", || grown() <= MARGIN).await;
}

#[tokio::test(start_paused = true)]
async fn replies_to_many_requests_of_one_read_do_not_pile_up() {
    let _alone = ALONE.lock().await;
    let stack = handle(|_| async { Ok::<_, BoxError>(Reply::Payload(vec![0; 100 * KIB].into())) });
    let mesh = App::new().with(stack).start().await.unwrap();
    let mut peer = join(&mesh, PIPE).await;
    let requests: Vec<_> = (0..2000)
        .map(|id| packet(Kind::Request { id }, ""))
        .collect();
    let requests = on_the_wire(&requests);
    let io = peer.framed.get_mut();
    pour(io, &junk(), 1).await;
    HEAP.reset_peak_usage();
    let before = HEAP.current_usage();
    pour(io, &requests, 20).await;
    let grown = HEAP.peak_usage().saturating_sub(before);
    let bound = mesh.peers().config().peer_bytes() + MARGIN;
    assert!(grown <= bound, "{grown} bytes, not {bound}");
}

#[tokio::test(start_paused = true)]
async fn frames_of_a_peer_that_speaks_now_and_then_share_what_they_hold() {
    let _alone = ALONE.lock().await;
    let app = App::new().configure(|config| {
        small(config);
        config.concurrency = 64;
        config.inbox = 2 * MIB;
    });
    let mesh = app.start().await.unwrap();
    let _reader = mesh.reader();
    let mut peer = join(&mesh, PIPE).await;
    let frame = on_the_wire(&[packet(Kind::Data, "x")]);
    let before = HEAP.current_usage();
    // Each is a spell of its own: the connection rests in between.
    for _ in 0..1600 {
        peer.framed.get_mut().write_all(&frame).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    }
    let grown = HEAP.current_usage().saturating_sub(before);
    // The read side, and as much as is plenty for one peer that says little.
    let bound = 2 * MIB + MIB;
    assert!(grown <= bound, "{grown} bytes, and {bound} are allowed");
    assert!(mesh.stats().delivered > 1000);
}

#[tokio::test(start_paused = true)]
async fn what_unfinished_calls_hold_is_bounded_by_bytes() {
    let _alone = ALONE.lock().await;
    // Tiny, medium and large frames, each at the end of a read of junk that it would keep alive.
    for len in [1, 3 * KIB, 100 * KIB] {
        let stack = handle(|frame: Frame| async move {
            std::future::pending::<()>().await;
            Ok::<_, BoxError>(Reply::Payload(frame.into_payload()))
        });
        let app = App::new().with(stack).configure(|config| {
            small(config);
            config.max_frame = 128 * KIB;
            config.concurrency = MAX_CONCURRENCY;
        });
        let mesh = app.start().await.unwrap();
        let mut peer = join(&mesh, PIPE).await;
        let io = peer.framed.get_mut();
        let mut bytes = junk();
        bytes.extend_from_slice(&on_the_wire(&[packet(Kind::Data, vec![0; len])]));
        let before = HEAP.current_usage();
        pour(io, &bytes, 2000).await;
        let grown = HEAP.current_usage().saturating_sub(before);
        assert!(mesh.stats().received > 1, "calls overlap");
        let bound = mesh.peers().config().peer_bytes() + MARGIN;
        assert!(grown <= bound, "{grown} bytes, not {bound}, at {len}");
    }
}
