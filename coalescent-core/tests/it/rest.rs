//! A connection that falls quiet and is spoken on again, and what comes at its end.

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use coalescent_core::connection::ConnectionInfo;
use coalescent_core::wire::{Kind, Status};
use coalescent_core::{App, AppExt, BoxError, Flow, Frame, Inbox, Relay, Reply, Wire};
use support::{handle, join, join_wire, on_the_wire, packet, soon};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::sleep;
use tokio_util::codec::{Decoder, Encoder};
use tower::Service;
use tower::layer::layer_fn;

/// How many bytes each direction of a connection holds.
const PIPE: usize = 1024 * 1024;

#[tokio::test(start_paused = true)]
async fn requests_are_answered_once_whether_or_not_the_connection_rested() {
    let stack = handle(async |frame: Frame| {
        let number: u64 = std::str::from_utf8(frame.payload())?.parse()?;
        sleep(Duration::from_millis(number * 137 % 4000)).await;
        Ok::<_, BoxError>(Reply::Payload(frame.payload_bytes()))
    });
    let app = App::new().configure(|config| config.concurrency = 4);
    let mesh = app.with(stack).start().await.unwrap();
    let mut peer = join(&mesh, PIPE).await;
    let withdrawn = |id: u32| id % 5 == 4;
    let mut asked = 0;
    for round in 0..300 {
        for _ in 0..round % 6 {
            let id = asked;
            peer.send(Kind::Request { id }, id.to_string()).await;
            if withdrawn(id) {
                peer.send(Kind::Cancel { id }, "").await;
            }
            asked += 1;
        }
        // It rests after a second.
        sleep(Duration::from_millis(round * 331 % 5000)).await;
    }
    let mut missing: BTreeSet<u32> = (0..asked).filter(|id| !withdrawn(*id)).collect();
    let mut answered = BTreeSet::new();
    while !missing.is_empty() {
        let packet = peer.recv_frame().await.expect("an answer");
        let Kind::Reply { id, status } = packet.kind else {
            panic!("answered {packet:?}");
        };
        assert_eq!(status, Status::Ok);
        assert_eq!(packet.payload, id.to_string());
        assert!(answered.insert(id), "{id} is answered twice");
        missing.remove(&id);
    }
}

#[tokio::test(start_paused = true)]
async fn frames_that_were_kept_over_a_rest_can_still_be_relayed() {
    let kept: Arc<Mutex<Vec<Frame>>> = Arc::default();
    let keep = Arc::clone(&kept);
    let stack = handle(move |frame: Frame| {
        keep.lock().unwrap().push(frame);
        async { Ok::<_, BoxError>(Reply::None) }
    });
    let mesh = App::new().with(stack).start().await.unwrap();
    let mut speaker = join(&mesh, PIPE).await;
    let mut listener = join(&mesh, PIPE).await;
    for nonce in 0..5 {
        speaker
            .send(Kind::Broadcast { nonce }, nonce.to_string())
            .await;
        sleep(Duration::from_secs(3)).await;
    }
    let frames = std::mem::take(&mut *kept.lock().unwrap());
    assert_eq!(frames.len(), 5);
    for frame in &frames {
        assert!(frame.clone().relay(Relay::new(Flow::Wait)));
    }
    for nonce in 0..5 {
        let packet = listener.recv_frame().await.expect("what was relayed");
        assert_eq!(packet.kind, Kind::Broadcast { nonce });
        assert_eq!(packet.payload, nonce.to_string());
    }
}

/// Is ready once it is open.
struct Gate {
    open: Arc<AtomicBool>,
    waker: Arc<Mutex<Option<Waker>>>,
}

impl Service<Frame> for Gate {
    type Response = Reply;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Reply, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.open.load(SeqCst) {
            return Poll::Ready(Ok(()));
        }
        *self.waker.lock().unwrap() = Some(cx.waker().clone());
        Poll::Pending
    }

    fn call(&mut self, _: Frame) -> Self::Future {
        std::future::ready(Ok(Reply::Payload("yes".into())))
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_a_request_that_was_withdrawn_is_not_held_against_the_next() {
    let open = Arc::new(AtomicBool::new(false));
    let waker = Arc::new(Mutex::new(None::<Waker>));
    let gate = (Arc::clone(&open), Arc::clone(&waker));
    let layer = layer_fn(move |_: Inbox| Gate {
        open: Arc::clone(&gate.0),
        waker: Arc::clone(&gate.1),
    });
    let mesh = App::new().layer(layer).start().await.unwrap();
    let mut peer = join(&mesh, PIPE).await;
    peer.send(Kind::Request { id: 1 }, "").await;
    sleep(Duration::from_secs(1)).await;
    peer.send(Kind::Cancel { id: 1 }, "").await;
    // Longer than a stack may take to become ready.
    sleep(Duration::from_secs(31)).await;
    peer.send(Kind::Request { id: 2 }, "").await;
    sleep(Duration::from_secs(1)).await;
    open.store(true, SeqCst);
    waker.lock().unwrap().take().expect("a wait").wake();
    let answer = peer.recv_frame().await.expect("an answer");
    let status = Status::Ok;
    assert_eq!(answer.kind, Kind::Reply { id: 2, status }, "{answer:?}");
}

/// Frames end with `;`, and what is cut off at the end of the stream is none.
struct Semicolons;

impl Decoder for Semicolons {
    type Item = Bytes;
    type Error = io::Error;

    fn decode(&mut self, src: &mut BytesMut) -> io::Result<Option<Bytes>> {
        let Some(at) = src.iter().position(|byte| *byte == b';') else {
            return Ok(None);
        };
        let frame = src.split_to(at + 1);
        Ok(Some(frame.freeze().slice(..at)))
    }

    fn decode_eof(&mut self, _: &mut BytesMut) -> io::Result<Option<Bytes>> {
        Ok(None)
    }
}

impl Encoder<Bytes> for Semicolons {
    type Error = io::Error;

    fn encode(&mut self, payload: Bytes, dst: &mut BytesMut) -> io::Result<()> {
        dst.put(payload);
        dst.put_u8(b';');
        Ok(())
    }
}

#[tokio::test]
async fn what_comes_right_before_the_end_is_decoded_as_all_else() {
    let mesh = App::new().start().await.unwrap();
    let mut reader = mesh.reader();
    let wire = Wire::custom("semicolons", || Semicolons);
    let mut io = join_wire(&mesh, wire, PIPE).await;
    io.write_all(&b"123456789;".repeat(2000)).await.unwrap();
    io.write_all(b"cut off").await.unwrap();
    drop(io);
    for _ in 0..2000 {
        let frame = soon("a frame", reader.next_frame()).await;
        assert_eq!(frame.expect("a mesh that goes on").payload(), b"123456789");
    }
    mesh.shutdown().await;
    assert!(soon("the end", reader.next_frame()).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_time_to_drain_begins_once_there_is_room_for_the_end() {
    let handled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&handled);
    let stack = handle(move |_: Frame| {
        let count = Arc::clone(&count);
        async move {
            sleep(Duration::from_secs(4)).await;
            count.fetch_add(1, SeqCst);
            Ok::<_, BoxError>(Reply::None)
        }
    });
    let app = App::new().configure(|config| {
        config.read_ahead = 0;
        config.drain = Duration::from_secs(5);
    });
    let mesh = app.with(stack).start().await.unwrap();
    let mut peer = join(&mesh, PIPE).await;
    // So that all that follows, and its end, can be read at once.
    let junk = on_the_wire(&vec![packet(Kind::Unknown(0x66), vec![0; 1000]); 300]);
    peer.framed.get_mut().write_all(&junk).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    let frames = on_the_wire(&vec![packet(Kind::Data, vec![0; 2000]); 3]);
    peer.framed.get_mut().write_all(&frames).await.unwrap();
    drop(peer);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(handled.load(SeqCst), 3);
}

/// Always has something to read, 16 KiB at a time: one long line.
struct Always {
    left: usize,
    /// How much was read since another task had its turn, and the most of that.
    since: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl AsyncRead for Always {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Pending;
        }
        let some = buf.remaining().min(16 * 1024).min(self.left);
        self.left -= some;
        let mut line = vec![b'x'; some];
        if self.left == 0 {
            line[some - 1] = b'\n';
        }
        buf.put_slice(&line);
        let since = self.since.fetch_add(some, SeqCst) + some;
        self.most.fetch_max(since, SeqCst);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Always {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn others_have_their_turn_within_a_long_frame() {
    let app = App::new().configure(|config| config.max_frame = 64 << 20);
    let mesh = app.start().await.unwrap();
    let mut reader = mesh.reader();
    let (since, most): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
    let io = Always {
        left: 60 << 20,
        since: Arc::clone(&since),
        most: Arc::clone(&most),
    };
    let other = tokio::spawn(async move {
        loop {
            since.store(0, SeqCst);
            tokio::task::yield_now().await;
        }
    });
    let lines = ConnectionInfo::inbound().wire(Wire::lines());
    mesh.adopt(io, lines).await.unwrap();
    let frame = soon("the line", reader.next_frame()).await;
    assert_eq!(frame.expect("a frame").payload().len(), (60 << 20) - 1);
    other.abort();
    let most = most.load(SeqCst);
    assert!(most <= 3 * 256 * 1024, "{most} bytes at once");
}
