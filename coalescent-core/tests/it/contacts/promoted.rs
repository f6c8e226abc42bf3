//! From a contact to a peer.

use std::io;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use coalescent_core::connection::ConnectionInfo;
use coalescent_core::{Frame, PeerChange, Reply};
use support::handle;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_promoted_contact_is_a_peer_on_both_sides_with_the_first_frame() {
    let two = two().await;
    let mut events = two.b.events();
    assert!(two.b.peers().list().is_empty());
    two.there.promote().unwrap();
    two.there.promote().unwrap();
    assert!(!two.there.is_contact());
    assert_eq!((two.b.peers().len(), two.b.peers().list().len()), (1, 1));
    assert!(two.b.peers().find(two.there.id()).as_ref() == Some(&two.there));
    assert!(two.here.is_contact() && two.a.peers().is_empty());
    let event = soon("an event", events.next()).await;
    assert!(matches!(event, Some(Event::PeerConnected { peer }) if peer == two.there));

    let mut reader = two.a.reader();
    let _ = two.b.broadcast_payload("beep").await.unwrap();
    let frame = soon("a frame", reader.next_frame()).await.unwrap();
    assert_eq!(frame.payload(), b"beep".as_slice());
    assert!(!two.here.is_contact());
    assert_eq!(two.a.peers().len(), 1);
    assert!(two.a.peers().list()[0] == two.here);
    assert_eq!(two.a_saw.log(), ["contact", "connect"]);

    two.here.disconnect("enough");
    until("both have left", || {
        two.a_saw.log() == ["contact", "connect", "disconnect"]
            && two.b_saw.log() == ["contact", "connect", "disconnect"]
    })
    .await;
    two.a.abort().await;
    two.b.abort().await;
    let left = |event: Event| matches!(event, Event::PeerDisconnected { .. });
    assert!(left(soon("an event", events.next()).await.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn the_connect_hooks_of_a_promoted_contact_run_before_its_first_frame() {
    struct Slow(Contacts);
    impl Plugin for Slow {
        fn register(&self, app: &mut Registrar) {
            let Self(contacts) = self;
            contacts.register(app);
            let seen = Arc::clone(&contacts.0);
            app.on_connect(move |_| {
                let seen = Arc::clone(&seen);
                async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    seen.lock().unwrap().log.push("slept".to_owned());
                }
            });
        }
    }
    for promoted_here in [false, true] {
        let network = Memory::new();
        let (a_saw, b_saw) = (Contacts::default(), Contacts::default());
        let seen = Arc::clone(&a_saw.0);
        let a = App::new()
            .plugin(Slow(a_saw.clone()))
            .transport(network.clone())
            .layer(handle(move |_: Frame| {
                seen.lock().unwrap().log.push("frame".to_owned());
                async { Ok(Reply::None) }
            }));
        let a = a.listen("a:1").await.unwrap();
        let b = app(&b_saw).transport(network).start().await.unwrap();
        let there = b.contact(&address("a:1"), None).await.unwrap();
        let here = a_saw.contact(1).await;
        if promoted_here {
            here.promote().unwrap();
        }
        there.promote().unwrap();
        there.send_payload("beep").await.unwrap();
        let expected = ["contact", "connect", "slept", "frame"];
        until("the frame", || a_saw.log() == expected).await;
        drop(a);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_whoever_promotes_first() {
    const TIMES: usize = 200;
    for time in 0..TIMES {
        let two = two().await;
        let (mut from_a, mut from_b) = (two.b.reader(), two.a.reader());
        let both = time % 3 == 0;
        let say = async |mesh: &Mesh, contact: &Peer, name: &'static str| {
            contact.send_on(CHANNEL, name).await.unwrap();
            contact.promote().unwrap();
            let sent = mesh.broadcast_payload(name).await.unwrap();
            assert_eq!((sent.queued, sent.dropped), (1, 0));
        };
        if both || time % 3 == 1 {
            say(&two.a, &two.here, "a").await;
        }
        if both || time % 3 == 2 {
            say(&two.b, &two.there, "b").await;
        }
        if both || time % 3 == 1 {
            let frame = soon("a's", from_a.next_frame()).await.unwrap();
            assert_eq!(frame.payload(), b"a".as_slice());
            assert_eq!(two.b_saw.heard(), ["a"], "before the broadcast");
        }
        if both || time % 3 == 2 {
            let frame = soon("b's", from_b.next_frame()).await.unwrap();
            assert_eq!(frame.payload(), b"b".as_slice());
            assert_eq!(two.a_saw.heard(), ["b"], "before the broadcast");
        }
        assert_eq!((two.a.peers().len(), two.b.peers().len()), (1, 1));
        let (a, b) = tokio::join!(two.a.shutdown(), two.b.shutdown());
        assert_eq!(
            (a.dropped, b.dropped, a.sent, b.received),
            (0, 0, b.received, a.sent)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_and_a_direct_frame_promote_too() {
    for request in [false, true] {
        let network = Memory::new();
        let (a_saw, b_saw) = (Contacts::default(), Contacts::default());
        let echo = handle(|frame: Frame| async move { Ok(Reply::Payload(frame.into_payload())) });
        let a = app(&a_saw).transport(network.clone()).layer(echo);
        let a = a.listen("a:1").await.unwrap();
        let b = app(&b_saw).transport(network).start().await.unwrap();
        let there = b.contact(&address("a:1"), None).await.unwrap();
        there.promote().unwrap();
        if request {
            let answer = there.request_payload("beep").await.unwrap();
            assert_eq!(answer, "beep");
        } else {
            there.send_payload("beep").await.unwrap();
        }
        soon("a peer", a.connected(1)).await.unwrap();
        assert_eq!(a_saw.log(), ["contact", "connect"]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_app_that_asks_for_a_connection_gets_a_peer() {
    let network = Memory::new();
    let (a_saw, b_saw) = (Contacts::default(), Contacts::default());
    let a = app(&a_saw).transport(network.clone());
    let _a = a.listen("a:1").await.unwrap();
    let b = app(&b_saw).transport(network).start().await.unwrap();
    let peer = b.connect("a:1").await.unwrap();
    assert!(!peer.is_contact());
    assert_eq!(b.peers().len(), 1);
    until("the hooks have run", || {
        b_saw.log() == ["contact", "connect"]
    })
    .await;
    peer.disconnect("done");
    until("it is gone", || b.peers().is_empty()).await;

    let contact = b.contact(&address("a:1"), None).await.unwrap();
    assert!(contact.is_contact());
    let again = b.connect("a:1").await.unwrap();
    assert!(again == contact && !contact.is_contact());
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_right_before_the_end_is_handled() {
    let network = Memory::new();
    let saw = Contacts::default();
    let a = app(&saw).transport(network.clone());
    let a = a.listen("a:1").await.unwrap();
    let mut reader = a.reader();
    let mut hand = by_hand(&network, "a:1", &[CHANNEL]).await;
    assert_eq!(hand.recv().await.unwrap().kind, Kind::Hello);
    hand.send(Kind::Broadcast { nonce: 1 }, "last words").await;
    drop(hand);
    let frame = soon("a frame", reader.next_frame()).await.unwrap();
    assert_eq!(frame.payload(), b"last words".as_slice());
    let expected = ["contact", "connect", "disconnect"];
    until("it has left", || saw.log() == expected).await;
}

/// A connection whose writes fail once it is broken, while what came before can still be read.
struct Broken {
    io: tokio::io::DuplexStream,
    is_broken: Arc<AtomicBool>,
}

impl AsyncRead for Broken {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Broken {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_broken.load(Relaxed) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_contact_sent_before_it_stopped_reading_is_handled() {
    let saw = Contacts::default();
    let a = app(&saw).start().await.unwrap();
    let mut reader = a.reader();
    let mut changes = a.peers().changes();
    let (near, far) = tokio::io::duplex(1024);
    let is_broken = Arc::new(AtomicBool::new(false));
    let far = Broken {
        io: far,
        is_broken: Arc::clone(&is_broken),
    };
    let mut hand = greeted(near).await;
    let contact = a.adopt(far, ConnectionInfo::inbound()).await.unwrap();
    is_broken.store(true, Relaxed);
    contact.send_on(CHANNEL, "into the void").await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(contact.promote().unwrap_err().is_closed());
    hand.send(Kind::Broadcast { nonce: 1 }, "last words").await;
    let frame = soon("a frame", reader.next_frame()).await.unwrap();
    assert_eq!(frame.payload(), b"last words".as_slice());
    drop(hand);
    let expected = ["contact", "connect", "disconnect"];
    until("it has left", || saw.log() == expected).await;
    assert_eq!(
        changes.next().await,
        Some(PeerChange::Joined(contact.clone()))
    );
    assert_eq!(changes.next().await, Some(PeerChange::Left(contact)));
    assert!(a.peers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_contact_that_stops_reading_gets_no_place_by_that() {
    let saw = Contacts::default();
    let a = app(&saw).max_inbound(0).start().await.unwrap();
    let mut reader = a.reader();
    let mut changes = a.peers().changes();
    let (near, far) = tokio::io::duplex(1024);
    let is_broken = Arc::new(AtomicBool::new(false));
    let far = Broken {
        io: far,
        is_broken: Arc::clone(&is_broken),
    };
    let mut hand = greeted(near).await;
    let info = ConnectionInfo::inbound().counted();
    let contact = a.adopt(far, info).await.unwrap();
    is_broken.store(true, Relaxed);
    contact.send_on(CHANNEL, "into the void").await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    hand.send(Kind::Broadcast { nonce: 1 }, "last words").await;
    until("it has ended", || saw.log() == ["contact", "end"]).await;
    assert_eq!(a.shutdown().await.received, 0);
    assert!(reader.next_frame().await.is_none());
    assert_eq!(changes.next().await, None::<PeerChange>);
}
