//! The write side of a mesh, as a sink and as bytes.

use bytes::Bytes;
use coalescent_core::connection::ConnectionInfo;
use coalescent_core::{App, BATCH, Mesh, MeshWriter, WRITE_CHUNK, Wire};
use futures_util::{FutureExt, SinkExt, StreamExt};
use support::{ByHand, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

async fn native(mesh: &Mesh, pipe: usize) -> ByHand<DuplexStream> {
    let (near, far) = tokio::io::duplex(pipe);
    let (peer, joined) = tokio::join!(
        ByHand::connect(near),
        mesh.adopt(far, ConnectionInfo::inbound())
    );
    joined.expect("a peer");
    peer
}

async fn started(app: App) -> (Mesh, MeshWriter) {
    let mesh = app.start().await.expect("it starts");
    let writer = mesh.writer();
    (mesh, writer)
}

/// Joins a peer on the `lines` wire.
async fn lines(mesh: &Mesh, pipe: usize) -> DuplexStream {
    let (near, far) = tokio::io::duplex(pipe);
    let socket = ConnectionInfo::inbound().wire(Wire::lines());
    mesh.adopt(far, socket).await.expect("a peer");
    near
}

async fn heard(peer: &mut ByHand<DuplexStream>, count: usize) -> Vec<Bytes> {
    let mut heard = Vec::new();
    while heard.len() < count {
        heard.push(peer.recv_frame().await.expect("a frame").payload);
    }
    heard
}

async fn read(peer: &mut DuplexStream, count: usize) -> String {
    let mut bytes = vec![0; count];
    soon("so many bytes", peer.read_exact(&mut bytes))
        .await
        .expect("so many bytes");
    String::from_utf8(bytes).expect("text")
}

/// Whether anything was sent, or waits to be.
fn is_quiet(mesh: &Mesh) -> bool {
    mesh.stats().sent == 0 && mesh.peers().list().iter().all(|peer| peer.queued() == 0)
}

fn numbers(range: std::ops::Range<usize>) -> Vec<Bytes> {
    range.map(|n| Bytes::from(n.to_string())).collect()
}

#[tokio::test]
async fn fed_frames_wait_for_a_flush_and_go_out_in_order() {
    let (mesh, mut writer) = started(App::new()).await;
    let mut peer = native(&mesh, 64 * 1024).await;
    for frame in numbers(0..100) {
        writer.feed(frame).await.unwrap();
    }
    assert!(is_quiet(&mesh), "they are gathered first");
    assert_eq!(writer.sent().queued, 0);
    SinkExt::flush(&mut writer).await.unwrap();
    // Written, not only queued.
    assert_eq!(mesh.stats().sent, 100);
    assert_eq!((writer.sent().queued, writer.sent().dropped), (100, 0));
    assert_eq!(heard(&mut peer, 100).await, numbers(0..100));

    // `send` flushes, also what was fed before.
    writer.feed(Bytes::from("100")).await.unwrap();
    writer.send(Bytes::from("101")).await.unwrap();
    assert_eq!(mesh.stats().sent, 102);
    assert_eq!(heard(&mut peer, 2).await, numbers(100..102));
    assert_eq!(writer.sent().queued, 102);

    // So does closing, and what forwards a stream.
    writer.feed(Bytes::from("102")).await.unwrap();
    SinkExt::close(&mut writer).await.unwrap();
    let stream = futures_util::stream::iter(numbers(103..200).into_iter().map(Ok));
    stream.forward(&mut writer).await.unwrap();
    assert_eq!(mesh.stats().sent, 200);
    assert_eq!(heard(&mut peer, 98).await, numbers(102..200));
    assert_eq!((writer.sent().queued, writer.sent().dropped), (200, 0));
}

#[tokio::test]
async fn what_is_fed_goes_out_by_itself_when_it_is_enough() {
    let (mesh, mut writer) = started(App::new()).await;
    let mut peer = native(&mesh, 64 * 1024).await;
    let frame = Bytes::from(vec![7; 1000]);
    let mut fed = 0;
    // No more than a batch is kept, and the frame that made it full.
    while fed * frame.len() < BATCH + frame.len() {
        writer.feed(frame.clone()).await.unwrap();
        fed += 1;
    }
    assert!(!is_quiet(&mesh));
    let before = writer.sent().queued;
    assert!(before >= BATCH / 1100, "{before} were sent together");
    assert_eq!(heard(&mut peer, before).await, vec![frame.clone(); before]);
    // Empty frames count too.
    for _ in 0..BATCH {
        writer.feed(Bytes::new()).await.unwrap();
    }
    assert!(writer.sent().queued > before);
}

#[tokio::test]
async fn writes_and_fed_frames_keep_their_order() {
    let (mesh, mut writer) = started(App::new()).await;
    let mut peer = native(&mesh, 64 * 1024).await;
    writer.feed(Bytes::from("1")).await.unwrap();
    writer.feed(Bytes::from("2")).await.unwrap();
    assert!(is_quiet(&mesh));
    // A write is on its way at once, and what came before it is too.
    writer.write_all(b"3").await.unwrap();
    assert_eq!(heard(&mut peer, 3).await, numbers(1..4));
    assert_eq!(writer.sent().queued, 3);
    writer.feed(Bytes::from("4")).await.unwrap();
    writer.write_all(b"5").await.unwrap();
    writer.write_all(b"6").await.unwrap();
    writer.feed(Bytes::from("7")).await.unwrap();
    AsyncWriteExt::flush(&mut writer).await.unwrap();
    assert_eq!(heard(&mut peer, 4).await, numbers(4..8));
    assert_eq!((writer.sent().queued, writer.sent().dropped), (7, 0));
}

#[tokio::test]
async fn each_write_is_a_frame_of_a_bounded_size() {
    let (mesh, mut writer) = started(App::new()).await;
    let mut peer = native(&mesh, 64 * 1024).await;
    let bytes = Bytes::from(vec![3; WRITE_CHUNK + 1]);
    assert_eq!(writer.write(&bytes).await.unwrap(), WRITE_CHUNK);
    assert_eq!(writer.write(b"a\nb\n").await.unwrap(), 4);
    assert_eq!(writer.write(b"").await.unwrap(), 0);
    let frames = heard(&mut peer, 2).await;
    assert!(frames[0] == bytes[..WRITE_CHUNK]);
    assert_eq!(frames[1], "a\nb\n");
    AsyncWriteExt::flush(&mut writer).await.unwrap();
    assert_eq!(mesh.stats().sent, 2);

    let (mesh, mut writer) = started(App::new().max_frame(10)).await;
    let mut peer = native(&mesh, 64 * 1024).await;
    writer.write_all(&[b'x'; 25]).await.unwrap();
    let sizes: Vec<usize> = heard(&mut peer, 3).await.iter().map(Bytes::len).collect();
    assert_eq!(sizes, [10, 10, 5]);
}

#[tokio::test]
async fn lines_are_cut_out_of_writes_all_of_a_write_at_once() {
    let (mesh, mut writer) = started(App::new().wire(Wire::lines())).await;
    let mut peer = lines(&mesh, 64 * 1024).await;
    let mut line_by_line = String::new();
    for n in 0..1000 {
        line_by_line += &format!("line {n}\n");
    }
    let count = line_by_line.len();
    assert_eq!(writer.write(line_by_line.as_bytes()).await.unwrap(), count);
    assert!(read(&mut peer, count).await == line_by_line);
    assert_eq!(writer.sent().queued, 1000);

    // The beginning of a line waits for its end, an empty line is no frame.
    for part in ["o", "ne\ntw", "o\n\nthr", "e", "e\n", "\n", "fo"] {
        assert_eq!(writer.write(part.as_bytes()).await.unwrap(), part.len());
    }
    assert_eq!(read(&mut peer, 14).await, "one\ntwo\nthree\n");
    assert_eq!(writer.sent().queued, 1003);
    // Frames that are fed meanwhile are frames already.
    writer.feed(Bytes::from("between")).await.unwrap();
    writer.write_all(b"ur\nfive\nsi").await.unwrap();
    writer.feed(Bytes::from("behind")).await.unwrap();
    AsyncWriteExt::flush(&mut writer).await.unwrap();
    let rest = "between\nfour\nfive\nbehind\nsi\n";
    assert_eq!(read(&mut peer, rest.len()).await, rest);
    assert_eq!((writer.sent().queued, writer.sent().dropped), (1008, 0));
    assert_eq!(mesh.stats().sent, 1008);
}

#[tokio::test]
async fn a_line_over_the_limit_is_refused_and_those_around_it_are_sent() {
    let app = App::new().wire(Wire::lines()).max_frame(10);
    let (mesh, mut writer) = started(app).await;
    let mut peer = lines(&mesh, 64 * 1024).await;
    // Up to the limit, and many in one write, though that is more than the limit.
    let bytes = b"0123456789\nabc\n0123456789a\nend\n";
    let taken = writer.write(bytes).await.unwrap();
    assert_eq!(taken, 15);
    assert_eq!(read(&mut peer, 15).await, "0123456789\nabc\n");
    let error = writer.write(&bytes[taken..]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    writer.write_all(b"end\n").await.unwrap();
    assert_eq!(read(&mut peer, 4).await, "end\n");

    // The limit is also that of a line in parts, and of one that does not end.
    writer.write_all(b"012345").await.unwrap();
    writer.write_all(b"6789a\n").await.unwrap_err();
    writer.write_all(b"012345").await.unwrap();
    writer.write_all(b"6789a").await.unwrap_err();
    writer.write_all(b"012345").await.unwrap();
    writer.write_all(b"6789\n").await.unwrap();
    assert_eq!(read(&mut peer, 11).await, "0123456789\n");
    assert_eq!((writer.sent().queued, writer.sent().dropped), (4, 0));
}

#[tokio::test]
async fn a_slow_reader_holds_back_writes_and_feeds_and_waits_may_be_dropped() {
    for on_lines in [false, true] {
        let app = App::new().configure(|config| config.outbox = 4096);
        let app = if on_lines {
            app.wire(Wire::lines())
        } else {
            app
        };
        let (mesh, mut writer) = started(app).await;
        let mut peer = lines(&mesh, 1024).await;
        let line = |n: usize| format!("{n:0>99}");

        // Until a write is not taken.
        let mut count = 0;
        let piece = loop {
            let piece = if on_lines {
                (count..count + 10).map(|n| line(n) + "\n").collect()
            } else {
                line(count)
            };
            match writer.write(piece.as_bytes()).now_or_never() {
                Some(taken) => assert_eq!(taken.unwrap(), piece.len()),
                None => break piece,
            }
            count += if on_lines { 10 } else { 1 };
        };
        assert!(count > 0);
        // Nor is there room for what is fed, or an end of the flush; nothing changes by asking.
        let feed = writer.feed(Bytes::from("never taken"));
        assert!(feed.now_or_never().is_none());
        let flush = AsyncWriteExt::flush(&mut writer);
        assert!(flush.now_or_never().is_none());

        const FED: usize = 2000;
        let from = count + if on_lines { 10 } else { 1 };
        let all = from + FED;
        let reading = tokio::spawn(async move { read(&mut peer, all * 100).await });
        writer.write_all(piece.as_bytes()).await.unwrap();
        for n in from..all {
            writer.feed(Bytes::from(line(n))).await.unwrap();
        }
        soon("all is written", SinkExt::flush(&mut writer))
            .await
            .unwrap();
        let expected: String = (0..all).map(|n| line(n) + "\n").collect();
        let text = soon("all is read", reading).await.unwrap();
        assert!(text == expected, "a line was lost, or came twice");
        assert_eq!((writer.sent().queued, writer.sent().dropped), (all, 0));
    }
}
