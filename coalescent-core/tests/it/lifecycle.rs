//! How a mesh ends, and what is left of it: no memory, no task; and what it does when nothing
//! happens.

use std::pin::Pin;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use coalescent_core::connection::ConnectionInfo;
use coalescent_core::transport::Memory;
use coalescent_core::wire::Kind;
use coalescent_core::{App, AppExt, Event, Flow, Frame, Mesh, Peer, Reply};
use support::{ByHand, RelayLayer, handle, packet, soon, until};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};

async fn join(mesh: &Mesh, pipe: usize) -> (ByHand<DuplexStream>, Peer) {
    let (near, far) = tokio::io::duplex(pipe);
    let (peer, joined) = tokio::join!(
        ByHand::connect(near),
        mesh.adopt(far, ConnectionInfo::inbound())
    );
    (peer, joined.expect("a peer"))
}

/// A value that a peer keeps, and that knows the peer.
#[derive(Clone)]
struct Knows {
    _peer: Peer,
    _probe: Arc<()>,
}

#[tokio::test]
async fn nothing_is_left_of_a_mesh_that_has_ended() {
    for abort in [false, true] {
        let probe = Arc::new(());
        let mut left: Vec<Weak<()>> = Vec::new();
        let network = Memory::new();
        let in_stack = Arc::clone(&probe);
        let stack = handle(move |frame: Frame| {
            let held = Arc::clone(&in_stack);
            async move {
                if frame.payload() == b"hang" {
                    std::future::pending::<()>().await;
                }
                drop(held);
                Ok(Reply::Payload(frame.into_payload()))
            }
        });
        let app = App::new().with(stack).transport(network.clone());
        let app = app.configure(|config| config.drain = Duration::from_millis(50));
        let mesh = app.listen("here:1").await.unwrap();
        mesh.set(Arc::clone(&probe));
        let in_callback = Arc::clone(&probe);
        mesh.on_event(move |_| drop(Arc::clone(&in_callback)));
        // Events that nobody reads, and frames that nobody reads.
        let events = mesh.events();
        let reader = mesh.reader();
        let other = App::new().transport(network).start().await.unwrap();
        let there = other.connect("here:1").await.unwrap();
        let (mut by_hand, peer) = join(&mesh, 1024).await;
        until("both are in the roster", || mesh.peers().len() == 2).await;
        // A circle, as hooks make them.
        peer.set(Knows {
            _peer: peer.clone(),
            _probe: Arc::clone(&probe),
        });
        there.send_payload("hang").await.unwrap();
        there.send_payload(vec![0; 500_000]).await.unwrap();
        by_hand.send(Kind::Data, "hang").await;
        let asked = tokio::spawn(async move { peer.request_payload("what?").await });
        let _ = mesh.broadcast_payload(vec![0; 100_000]).await.unwrap();
        left.push(Arc::downgrade(&probe));
        drop(probe);
        if abort {
            soon("the end", mesh.abort()).await;
        } else {
            soon("the end", mesh.shutdown()).await;
        }
        assert!(asked.await.unwrap().is_err());
        drop((mesh, reader, there, events));
        other.shutdown().await;
        until("all is dropped", || {
            left.iter().all(|weak| weak.strong_count() == 0)
        })
        .await;
    }
}

#[tokio::test]
async fn a_mesh_dropped_while_it_connects_ends() {
    let network = Memory::new();
    let there = App::new()
        .transport(network.clone())
        .listen("there:1")
        .await
        .unwrap();
    for steps in 0..30 {
        let app = App::new().transport(network.clone()).seeds(["there:1"]);
        let mesh = app.start().await.unwrap();
        let weak = mesh.downgrade();
        let connecting = tokio::spawn(async move { mesh.connect("there:1").await.map(drop) });
        for _ in 0..steps {
            tokio::task::yield_now().await;
        }
        connecting.abort();
        until("no handle is left", || weak.upgrade().is_none()).await;
        until("nobody is there", || there.peers().is_empty()).await;
    }
    let stats = soon("the end", there.shutdown()).await;
    assert_eq!(stats.dropped, 0);
}

#[tokio::test]
async fn a_reader_that_stops_holds_back_the_peers_and_goes_on_where_it_was() {
    let mesh = App::new().start().await.unwrap();
    let mut reader = mesh.reader();
    let (mut peer, from) = join(&mesh, 64 * 1024).await;
    const FRAMES: u64 = 3000;
    let sending = tokio::spawn(async move {
        for nonce in 0..FRAMES {
            peer.send(Kind::Broadcast { nonce }, vec![1; 5000]).await;
        }
        peer
    });
    // As long as nobody reads, no more comes than there is room for.
    let mut before = 0;
    until("it is held back", || {
        let now = from.stats().received;
        now > 0 && std::mem::replace(&mut before, now) == now
    })
    .await;
    assert!(!sending.is_finished());
    assert!(before < 600, "{before} frames were taken");
    for nonce in 0..FRAMES {
        let frame = soon("a frame", reader.next_frame()).await.unwrap();
        assert_eq!(frame.nonce(), Some(nonce));
    }
    sending.await.unwrap();
}

#[tokio::test]
async fn readers_that_stop_do_not_keep_another_from_reading() {
    let mesh = App::new().start().await.unwrap();
    let mut readers: Vec<_> = (0..6).map(|_| mesh.reader()).collect();
    let (mut peer, _) = join(&mesh, 64 * 1024).await;
    const FRAMES: u64 = 200;
    let sending = tokio::spawn(async move {
        for nonce in 0..FRAMES {
            peer.send(Kind::Broadcast { nonce }, vec![1; 200_000]).await;
        }
        peer
    });
    // All but one take a frame, which they have not given back, and stop.
    let mut last = readers.pop().unwrap();
    for reader in &mut readers {
        soon("a frame", reader.next_frame()).await.unwrap();
    }
    let mut read = readers.len() as u64;
    while !sending.is_finished() || last.try_next_frame().is_some() {
        // What the others took and did not read is theirs.
        let next = tokio::time::timeout(Duration::from_secs(5), last.next_frame());
        read += u64::from(next.await.expect("a frame").is_some());
        if read + 32 * readers.len() as u64 >= FRAMES {
            return;
        }
    }
}

/// Counts how often it is polled.
struct Counted(DuplexStream, Arc<AtomicUsize>);

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.1.fetch_add(1, SeqCst);
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.1.fetch_add(1, SeqCst);
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_does_not_spin() {
    let stack = handle(|frame: Frame| async move {
        if frame.payload() == b"hang" {
            std::future::pending::<()>().await;
        }
        Ok(Reply::None)
    });
    // Idle, with a handler that hangs, and with a peer that does not read.
    for case in ["idle", "stuck", "blocked"] {
        let app = App::new().with(stack.clone()).configure(|config| {
            config.patience = Duration::MAX;
            config.answer_within = Duration::MAX;
            config.outbox = 50_000;
        });
        let mesh = app.start().await.unwrap();
        let polled = Arc::new(AtomicUsize::new(0));
        let (near, far) = tokio::io::duplex(1024);
        let counted = Counted(far, Arc::clone(&polled));
        let (mut peer, joined) = tokio::join!(
            ByHand::connect(near),
            mesh.adopt(counted, ConnectionInfo::inbound())
        );
        joined.unwrap();
        match case {
            "stuck" => {
                peer.send(Kind::Data, "hang").await;
                let more = support::on_the_wire(&vec![packet(Kind::Data, vec![0; 1000]); 1000]);
                let write = peer.framed.get_mut().write_all(&more);
                let _ = tokio::time::timeout(Duration::from_secs(1), write).await;
            }
            "blocked" => {
                while mesh
                    .peers()
                    .try_broadcast_payload(vec![0; 2000])
                    .unwrap()
                    .queued
                    > 0
                {}
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = polled.load(SeqCst);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let polls = polled.load(SeqCst) - before;
        assert!(polls < 4000, "{case}: {polls} polls in an hour");
        assert_eq!(mesh.peers().len(), 1, "{case}");
        mesh.abort().await;
    }
}

#[tokio::test]
async fn a_flush_ends_when_what_was_there_is_written_though_more_comes() {
    let app = App::new()
        .with(RelayLayer(Flow::Wait))
        .configure(|config| config.outbox = 100_000);
    let mesh = app.start().await.unwrap();
    let (mut peer, to) = join(&mesh, 4096).await;
    while to.try_send_payload(vec![0; 2000]).is_ok() {}
    let flushing = tokio::spawn({
        let to = to.clone();
        async move { to.flushed().await }
    });
    // The outbox never falls to half of its room.
    for _ in 0..500 {
        peer.recv_frame().await.expect("a frame");
        while to.try_send_payload(vec![0; 2000]).is_ok() {}
        tokio::task::yield_now().await;
        if flushing.is_finished() {
            return;
        }
    }
    panic!("it was written long ago");
}

#[tokio::test]
async fn events_that_nobody_reads_hold_up_nothing() {
    let mesh = App::new().start().await.unwrap();
    let mut events = mesh.events();
    for _ in 0..700 {
        let (mut peer, joined) = join(&mesh, 1024).await;
        peer.send(Kind::Bye, "").await;
        soon("its end", joined.closed()).await;
    }
    assert!(matches!(events.next().await, Some(Event::Missed(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_takes_many_at_a_time_gets_all_of_them() {
    let rounds = std::env::var("COALESCENT_ROUNDS").map_or(3, |n| n.parse().unwrap());
    for round in 0..rounds {
        let receiver = App::new().listen("127.0.0.1:0").await.unwrap();
        let sender = App::new().start().await.unwrap();
        let mut heard = receiver.reader();
        let peer = sender
            .connect(&receiver.local_addrs()[0].to_string())
            .await
            .unwrap();
        const FRAMES: u64 = 20_000;
        let sending = tokio::spawn(async move {
            for _ in 0..FRAMES {
                let _ = sender.broadcast_payload(vec![0; 1023]).await.unwrap();
            }
            sender.peers().flushed().await;
            sender.shutdown().await
        });
        // The outbox was full; those who wait for room in it are woken when half of it is free.
        until("the sender is held back", || peer.queued() > 2_000_000).await;
        let mut frames = 0;
        while frames < FRAMES {
            let next = tokio::time::timeout(Duration::from_secs(6), heard.next_frame()).await;
            assert!(
                next.is_ok(),
                "round {round}: {frames} frames, {:?}, {heard:?}",
                receiver.stats()
            );
            frames += 1;
            while heard.try_next_frame().is_some() {
                frames += 1;
            }
        }
        let stats = sending.await.unwrap();
        assert_eq!((stats.sent, stats.dropped), (FRAMES, 0));
    }
}

/// A runtime that is dropped in the midst of a mesh leaves nothing that knows itself.
#[test]
fn a_node_ends_with_its_runtime() {
    let alive = Arc::new(());
    let left = Arc::downgrade(&alive);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let app = || App::new().min_peers(0);
        let (near, far) = tokio::io::duplex(1024);
        let (one, other) = (app().start().await.unwrap(), app().start().await.unwrap());
        let joined = tokio::join!(
            one.adopt(near, ConnectionInfo::inbound()),
            other.adopt(far, ConnectionInfo::inbound())
        );
        assert!(joined.0.is_ok() && joined.1.is_ok());
        one.peers().set_shared(alive);
        // Both begin to leave, and get no time for it.
    });
    drop(runtime);
    assert!(left.upgrade().is_none());
}

#[test]
fn what_was_kept_with_a_peer_is_dropped_with_the_runtime() {
    /// Keeps its own peer alive, as a plugin's value may.
    #[derive(Clone)]
    struct Kept {
        _peer: Peer,
        _alive: Arc<()>,
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let alive = Arc::new(());
    let (mesh, _far) = runtime.block_on(async {
        let mesh = App::new()
            .on_disconnect(|_| std::future::pending())
            .start()
            .await
            .unwrap();
        let (far, peer) = join(&mesh, 1024).await;
        peer.set(Kept {
            _peer: peer.clone(),
            _alive: Arc::clone(&alive),
        });
        (mesh, far)
    });
    assert_eq!(Arc::strong_count(&alive), 2);
    drop(runtime);
    assert_eq!(Arc::strong_count(&alive), 1);
    drop(mesh);
}
