//! Memory that the review found to be counted wrong.

mod common;

use coalescent_core::connection::Socket;
use coalescent_core::wire::Kind;
use coalescent_core::{App, BoxError, Frame, Inbox, Mesh, Reply, Wire};
use common::{ByHand, handle, on_the_wire, packet};
use peak_alloc::PeakAlloc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::Mutex;
use tower::Service;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;
static ALONE: Mutex<()> = Mutex::const_new(());
const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const PIPE: usize = 256 * KIB;

async fn join(mesh: &Mesh) -> ByHand<DuplexStream> {
    let (near, far) = tokio::io::duplex(PIPE);
    let (peer, adopted) = tokio::join!(ByHand::connect(near), mesh.adopt(far, Socket::inbound()));
    adopted.expect("a peer");
    peer
}

async fn pour(io: &mut DuplexStream, bytes: &[u8], times: usize) -> usize {
    for done in 0..times {
        if tokio::time::timeout(Duration::from_millis(100), io.write_all(bytes))
            .await
            .is_err()
        {
            return done;
        }
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    }
    times
}

// One word and 2,047 empty lines a block: the list of heads goes along, and is not counted.
#[tokio::test(start_paused = true)]
async fn lists_of_heads_on_the_read_side() {
    let _alone = ALONE.lock().await;
    let mesh = App::new().start().await.unwrap();
    let _reader = mesh.reader();
    let (mut near, far) = tokio::io::duplex(PIPE);
    mesh.adopt(far, Socket::inbound().wire(Wire::lines()))
        .await
        .unwrap();
    let mut lines = vec![b'\n'; 2048];
    lines[0] = b'x';
    let lines = lines.repeat(64);
    let before = HEAP.current_usage();
    let sent = pour(&mut near, &lines, 2000).await;
    let grown = HEAP.current_usage().saturating_sub(before);
    let config = mesh.peers().config();
    let bound = config.inbox + config.read_ahead + 4 * 128 * KIB + 512 * KIB + 2 * PIPE + 512 * KIB;
    println!(
        "heads: {} KiB grown, {} KiB expected at most, {sent} poured",
        grown / KIB,
        bound / KIB
    );
    println!(
        "peer_bytes + inbox: {} KiB",
        (config.peer_bytes() + config.inbox) / KIB
    );
    assert!(grown <= bound);
}

// A layer that unpacks: small frames on the wire, large ones for the reader.
#[tokio::test(start_paused = true)]
async fn rewritten_payloads_on_the_read_side() {
    let _alone = ALONE.lock().await;
    let layer = tower::layer::layer_fn(|inner: Inbox| {
        tower::service_fn(move |mut frame: Frame| {
            let mut inner = inner.clone();
            frame.set_payload(vec![0; 16 * KIB]);
            async move { inner.call(frame).await }
        })
    });
    let mesh = App::new().layer(layer).start().await.unwrap();
    let _reader = mesh.reader();
    let mut peer = join(&mesh).await;
    let bytes = on_the_wire(&vec![packet(Kind::Data, "x"); 1000]);
    let before = HEAP.current_usage();
    let sent = pour(peer.framed.get_mut(), &bytes, 20).await;
    let grown = HEAP.current_usage().saturating_sub(before);
    println!(
        "rewritten: {} MiB grown with an inbox of {} KiB, {sent} poured",
        grown / MIB,
        mesh.peers().config().inbox / KIB
    );
    assert!(grown < 8 * MIB);
}

// Large frames that were held and let go: their buffers are kept.
#[tokio::test(start_paused = true)]
async fn large_buffers_are_kept() {
    let _alone = ALONE.lock().await;
    let held = Arc::new(std::sync::Mutex::new(Vec::new()));
    let hold = held.clone();
    let layer = handle(move |frame: Frame| {
        hold.lock().unwrap().push(frame);
        async { Ok::<_, BoxError>(Reply::None) }
    });
    let mesh = App::new().layer(layer).start().await.unwrap();
    let mut peer = join(&mesh).await;
    let bytes = on_the_wire(&[packet(Kind::Data, vec![0; MIB])]);
    let before = HEAP.current_usage();
    pour(peer.framed.get_mut(), &bytes, 6).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    held.lock().unwrap().clear();
    // A byte now and then: it is never idle.
    let ping = on_the_wire(&[packet(Kind::Unknown(0x66), "12345678")]);
    for _ in 0..30 {
        peer.framed.get_mut().write_all(&ping).await.unwrap();
        tokio::time::sleep(Duration::from_millis(900)).await;
    }
    let grown = HEAP.current_usage().saturating_sub(before);
    println!("kept: {} KiB, {} KiB published", grown / KIB, 4 * 128);
    assert!(grown < 512 * KIB + 256 * KIB);
}

// Many small requests in one read, each answered at length.
#[tokio::test(start_paused = true)]
async fn replies_of_one_block() {
    let _alone = ALONE.lock().await;
    let layer = handle(|_| async { Ok::<_, BoxError>(Reply::Payload(vec![0; 100 * KIB].into())) });
    let mesh = App::new().layer(layer).start().await.unwrap();
    let mut peer = join(&mesh).await;
    let bytes = on_the_wire(
        &(0..2000)
            .map(|id| packet(Kind::Request { id }, ""))
            .collect::<Vec<_>>(),
    );
    // Much that nobody keeps, so that it is read in large pieces.
    let junk = on_the_wire(&vec![packet(Kind::Unknown(0x66), vec![0; 10_000]); 12]);
    pour(peer.framed.get_mut(), &junk, 10).await;
    HEAP.reset_peak_usage();
    let before = HEAP.current_usage();
    pour(peer.framed.get_mut(), &bytes, 20).await;
    let grown = HEAP.peak_usage().saturating_sub(before);
    println!(
        "replies: {} MiB, {} MiB published",
        grown / MIB,
        mesh.peers().config().peer_bytes() / MIB
    );
    assert!(grown < mesh.peers().config().peer_bytes());
}

// An iterator that is not fused (MapWhile, which broadcast_all uses, is not).
#[tokio::test(start_paused = true)]
async fn an_iterator_that_has_ended_is_not_asked_again() {
    let _alone = ALONE.lock().await;
    let mesh = App::new().start().await.unwrap();
    let _peer = join(&mesh).await;
    let bodies = ["one", "bad", "two", "three"];
    let sent = mesh
        .peers()
        .broadcast_payloads(
            bodies
                .into_iter()
                .map_while(|body| (body != "bad").then_some(body)),
        )
        .await;
    assert_eq!(sent.queued, 1);
}

// A frame of the read side is relayed while the same connection makes its stack ready.
#[tokio::test(start_paused = true)]
async fn a_frame_of_the_read_side_is_relayed_in_poll_ready() {
    let _alone = ALONE.lock().await;
    use coalescent_core::{Flow, Relay};
    type Held = Arc<std::sync::Mutex<Option<Frame>>>;
    #[derive(Clone)]
    struct Svc(Inbox, Held);
    impl Service<Frame> for Svc {
        type Response = Reply;
        type Error = coalescent_core::Error;
        type Future = coalescent_core::stack::InboxFuture;
        fn poll_ready(
            &mut self,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Self::Error>> {
            if let Some(frame) = self.1.lock().unwrap().take() {
                assert!(frame.relay(Relay {
                    flow: Flow::Wait,
                    direct: false
                }));
            }
            self.0.poll_ready(cx)
        }
        fn call(&mut self, frame: Frame) -> Self::Future {
            self.0.call(frame)
        }
    }
    let held: Held = Held::default();
    let put = held.clone();
    let mesh = App::new()
        .layer(tower::layer::layer_fn(move |inbox| {
            Svc(inbox, held.clone())
        }))
        .start()
        .await
        .unwrap();
    let mut reader = mesh.reader();
    let mut peer = join(&mesh).await;
    let _far = join(&mesh).await;
    peer.send(Kind::Broadcast { nonce: 1 }, "one").await;
    let frame = reader.next_frame().await.unwrap();
    *put.lock().unwrap() = Some(frame);
    peer.send(Kind::Broadcast { nonce: 2 }, "two").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(mesh.stats().relayed, 1);
}

// Two requests for the size of things.
#[test]
fn a_frame_s_size() {
    println!(
        "Frame {}, Message {}",
        size_of::<Frame>(),
        size_of::<coalescent_core::Message>()
    );
}
