//! The reader and the writer of one peer.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use coalescent_core::transport::Memory;
use coalescent_core::{App, Mesh, Peer, PeerReader, Wire};
use futures_util::SinkExt;
use support::memory::{Lines, node};
use support::{soon, until};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const QUIET: Duration = Duration::from_millis(200);

/// A node with two peers, and their handles to it.
struct Star {
    hub: Mesh,
    peers: [Peer; 2],
    others: [Mesh; 2],
    back: [Peer; 2],
}

impl Star {
    async fn new(hub: App) -> Self {
        let network = Memory::new();
        let hub = node(&network, "hub:1", hub).await;
        let others = [
            node(&network, "one:2", App::new()).await,
            node(&network, "two:3", App::new()).await,
        ];
        let back = [
            others[0].connect("hub:1").await.unwrap(),
            others[1].connect("hub:1").await.unwrap(),
        ];
        until("two peers", || hub.peers().len() == 2).await;
        let find = |mesh: &Mesh| {
            let peers = hub.peers().list();
            let mut peers = peers.iter();
            peers
                .find(|peer| peer.node_id() == Some(mesh.id()))
                .cloned()
        };
        let peers = [find(&others[0]).unwrap(), find(&others[1]).unwrap()];
        Self {
            hub,
            peers,
            others,
            back,
        }
    }
}

async fn next(reader: &mut PeerReader) -> Bytes {
    let frame = soon("a frame", reader.next_frame()).await;
    frame.expect("the peer is there").into_payload()
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_a_peer_gets_its_frames_in_place_of_the_mesh() {
    let star = Star::new(App::new()).await;
    let mut mesh = star.hub.reader();
    let mut reader = star.peers[0].reader();
    assert_eq!(*reader.peer(), star.peers[0]);
    star.back[0].send_payload("from one").await.unwrap();
    star.back[1].send_payload("from two").await.unwrap();
    let _ = star.others[0].broadcast_payload("to all").await.unwrap();
    assert_eq!(next(&mut reader).await, "from one");
    assert_eq!(next(&mut reader).await, "to all");
    assert_eq!(mesh.next_frame().await.unwrap().payload(), b"from two");
    assert!(timeout(QUIET, mesh.next_frame()).await.is_err());
    assert!(reader.try_next_frame().is_none());

    // Without it, the mesh gets them again.
    drop(reader);
    star.back[0].send_payload("again").await.unwrap();
    assert_eq!(mesh.next_frame().await.unwrap().payload(), b"again");
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_a_peer_needs_none_of_the_mesh() {
    let star = Star::new(App::new()).await;
    let (mut one, mut two) = (star.peers[0].reader(), star.peers[0].reader());
    for number in 0..100 {
        star.back[0].send_payload(number.to_string()).await.unwrap();
    }
    // Several share the frames.
    let mut heard: Vec<u32> = Vec::new();
    while heard.len() < 100 {
        let frame = tokio::select! {
            frame = one.next_frame() => frame,
            frame = two.next_frame() => frame,
        };
        let payload = frame.unwrap().into_payload();
        heard.push(String::from_utf8_lossy(&payload).parse().unwrap());
    }
    heard.sort_unstable();
    assert_eq!(heard, (0..100).collect::<Vec<u32>>());
    // What others send is discarded, since nobody reads it.
    star.back[1].send_payload("unheard").await.unwrap();
    until("the frame", || star.hub.stats().delivered == 101).await;
    drop((one, two));
    let mut late = star.hub.reader();
    assert!(late.try_next_frame().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_read_holds_back_its_peer_alone() {
    let star = Star::new(App::new().configure(|config| config.inbox = 64 * 1024)).await;
    let mut mesh = star.hub.reader();
    let mut reader = star.peers[0].reader();
    let file = Bytes::from(vec![1; 32 * 1024 * 1024]);
    let sending = tokio::spawn({
        let (mut writer, file) = (star.back[0].writer(), file.clone());
        async move {
            writer.write_all(&file).await?;
            AsyncWriteExt::flush(&mut writer).await
        }
    });
    for number in 0..100 {
        star.back[1].send_payload(number.to_string()).await.unwrap();
        let frame = soon("a frame", mesh.next_frame()).await.unwrap();
        assert_eq!(frame.payload(), number.to_string().as_bytes());
    }
    tokio::time::sleep(QUIET).await;
    let waiting = !sending.is_finished();
    assert!(waiting, "it was not held back");
    let mut got = vec![0; file.len()];
    reader.read_exact(&mut got).await.unwrap();
    assert!(got == file);
    sending.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_reader_ends_when_its_peer_has_left_and_all_is_read() {
    let star = Star::new(App::new()).await;
    let mut reader = star.peers[0].reader();
    let mut other = star.peers[1].reader();
    let mut waiting = tokio_test::task::spawn(other.next_frame());
    assert!(waiting.poll().is_pending());
    for _ in 0..3 {
        star.back[0].send_payload("last words").await.unwrap();
    }
    star.others[0].shutdown().await;
    soon("the end", star.peers[0].closed()).await;
    let mut heard = String::new();
    soon("the end", reader.read_to_string(&mut heard))
        .await
        .unwrap();
    assert_eq!(heard, "last words".repeat(3));
    assert!(reader.next_frame().await.is_none());
    assert!(reader.next_frames().await.is_none());
    let mut late = star.peers[0].reader();
    assert!(late.next_frame().await.is_none());

    assert!(!waiting.is_woken());
    star.hub.shutdown().await;
    assert!(soon("the end", waiting).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_writer_of_a_peer_reaches_it_alone() {
    let star = Star::new(App::new()).await;
    let mut readers = star.others.clone().map(|mesh| mesh.reader());
    let mut writer = star.peers[0].writer();
    assert_eq!(*writer.peer(), star.peers[0]);
    writer.write_all(b"bytes").await.unwrap();
    for number in 0..10_000 {
        writer.feed(Bytes::from(number.to_string())).await.unwrap();
    }
    SinkExt::<Bytes>::flush(&mut writer).await.unwrap();
    assert_eq!(star.peers[0].queued(), 0);
    let frame = readers[0].next_frame().await.unwrap();
    assert_eq!(frame.payload(), b"bytes");
    for number in 0..10_000 {
        let frame = readers[0].next_frame().await.unwrap();
        assert_eq!(frame.payload(), number.to_string().as_bytes());
    }
    assert!(timeout(QUIET, readers[1].next_frame()).await.is_err());

    let max = star.hub.peers().config().max_frame;
    let error = writer.feed(vec![0; max + 1].into()).await.unwrap_err();
    assert!(error.is_encode());
    star.others[0].shutdown().await;
    soon("the end", star.peers[0].closed()).await;
    let error = writer.write_all(b"late").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    let error = AsyncWriteExt::flush(&mut writer).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test(start_paused = true)]
async fn on_lines_each_line_is_a_frame() {
    let mesh = App::new().start().await.unwrap();
    let (mut lines, peer) = Lines::connect(&mesh).await;
    assert_eq!(*peer.wire(), Wire::lines());
    let mut reader = peer.reader();
    lines.say("one\ntwo\n").await;
    let mut line = String::new();
    for expected in ["one\n", "two\n"] {
        line.clear();
        reader.read_line(&mut line).await.unwrap();
        assert_eq!(line, expected);
    }
    let mut writer = peer.writer();
    writer.write_all(b"a\nb").await.unwrap();
    assert_eq!(lines.heard().await, ["a"]);
    writer.write_all(b"c\n\nd").await.unwrap();
    writer.shutdown().await.unwrap();
    assert_eq!(lines.heard().await, ["bc", "d"]);
}
