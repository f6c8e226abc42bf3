//! Whose place it is: several connections to one node, and strangers who say that theirs is.

use std::time::Duration;

use coalescent_core::connection::ConnectionInfo;
use coalescent_core::identity::PublicKey;
use coalescent_core::wire::{Kind, NativeCodec, NodeId, Packet, Status};
use coalescent_core::{App, AppExt, DisconnectReason, Event, Frame, Mesh, Reply};
use futures_util::{SinkExt, StreamExt};
use support::{ByHand, handle, hello, soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_util::codec::Framed;

async fn dial(mesh: &Mesh) -> TcpStream {
    TcpStream::connect(mesh.local_addrs()[0])
        .await
        .expect("someone who listens")
}

async fn connect_as(mesh: &Mesh, node: NodeId) -> ByHand<TcpStream> {
    let mut peer = ByHand::new(dial(mesh).await);
    peer.send(Kind::Hello, hello(node, "")).await;
    assert_eq!(peer.recv().await.expect("a hello").kind, Kind::Hello);
    peer
}

fn addr(mesh: &Mesh, at: usize) -> String {
    mesh.local_addrs()[at].to_string()
}

/// Introduces itself as `node` over a connection in memory; the other end is to be adopted.
async fn claim(node: NodeId) -> (ByHand<DuplexStream>, DuplexStream) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let mut peer = ByHand::new(near);
    peer.node = node;
    peer.send(Kind::Hello, hello(node, "")).await;
    (peer, far)
}

/// A number above or below that of `mesh`.
fn number(mesh: &Mesh, greater: bool) -> NodeId {
    std::iter::repeat_with(NodeId::random)
        .find(|node| (*node > mesh.peers().node_id()) == greater)
        .expect("one in two is such")
}

/// Answers PINGs until a frame comes, or the end.
async fn next_frame<IO>(peer: &mut ByHand<IO>) -> Option<Packet>
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        let packet = peer.recv().await?;
        match packet.kind {
            Kind::Ping => peer.send(Kind::Pong, packet.payload).await,
            Kind::Pong | Kind::Hello => {}
            _ => return Some(packet),
        }
    }
}

/// Every way in which the connections of a peer, and of a stranger who claims its number, may have
/// been made.
fn ways() -> impl Iterator<Item = (ConnectionInfo, ConnectionInfo, bool)> {
    let sockets = [ConnectionInfo::inbound(), ConnectionInfo::outbound()];
    let pairs = sockets.clone().into_iter().flat_map(move |old| {
        sockets
            .clone()
            .into_iter()
            .map(move |new| (old.clone(), new))
    });
    pairs.flat_map(|(old, new)| [(old.clone(), new.clone(), false), (old, new, true)])
}

#[tokio::test(start_paused = true)]
async fn a_stranger_who_claims_a_peers_number_gets_nothing_of_it() {
    for (old, new, greater) in ways() {
        for aged in [false, true] {
            let way = format!("{old:?}, {new:?}, {greater}, {aged}");
            let stack = handle(|frame: Frame| async move {
                frame.peer().set("touched");
                Ok(Reply::None)
            });
            let mesh = App::new().with(stack).start().await.unwrap();
            let mut events = mesh.events();
            let node = number(&mesh, greater);
            let (mut first, far) = claim(node).await;
            let peer = mesh.adopt(far, old.clone()).await.unwrap();
            if aged {
                // It is there, and says so now and then.
                for _ in 0..3 {
                    tokio::time::sleep(Duration::from_secs(20)).await;
                    first.send(Kind::Ping, &b"12345678"[..]).await;
                }
            }
            let reading = tokio::spawn(async move {
                let packet = next_frame(&mut first).await;
                (packet.map(|packet| packet.payload), first)
            });
            let (mut stranger, far) = claim(node).await;
            let claiming = tokio::spawn({
                let (mesh, new) = (mesh.clone(), new.clone());
                async move { mesh.adopt(far, new).await.map(drop) }
            });
            // It asks to be answered, and says things of its own.
            stranger.send(Kind::Data, "forged").await;
            stranger.send(Kind::Request { id: 1 }, "tell me").await;
            let status = Status::Ok;
            stranger.send(Kind::Reply { id: 0, status }, "forged").await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            peer.send_payload("for the peer").await.unwrap();
            assert!(claiming.await.unwrap().is_err(), "{way}");
            while let Some(packet) = stranger.recv().await {
                let control = matches!(packet.kind, Kind::Hello | Kind::Ping | Kind::Bye);
                assert!(control, "{way}: {packet:?}");
            }
            let (got, first) = reading.await.unwrap();
            assert_eq!(got.expect(&way), "for the peer");
            assert!(peer.is_connected() && peer.get::<&str>().is_none(), "{way}");
            assert_eq!(mesh.peers().len(), 1);
            drop(first);
            let mut seen = Vec::new();
            while let Some(event) = events.next().await {
                match event {
                    Event::PeerConnected { .. } => seen.push("came"),
                    Event::PeerDisconnected { .. } => break,
                    _ => {}
                }
            }
            assert_eq!(seen, ["came"], "{way}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_comes_back_after_its_network_was_lost_is_let_in_within_seconds() {
    let by_number = ways().map(|way| (way, false));
    // Or a new process with the same key, and so with another number.
    let keyed = |socket: ConnectionInfo| socket.key(PublicKey::from_bytes([7; 32]).unwrap());
    let by_key = ways().map(|(old, new, greater)| ((keyed(old), keyed(new), greater), true));
    for ((old, new, greater), restarted) in by_number.chain(by_key) {
        let mesh = App::new().start().await.unwrap();
        let mut events = mesh.events();
        let mut heard = mesh.reader();
        let mut node = number(&mesh, greater);
        let (_silent, far) = claim(node).await;
        let before = mesh.adopt(far, old).await.unwrap();
        before.set("of the one before");
        let begun = before.clone();
        let asked = tokio::spawn(async move { begun.request_payload("are you there?").await });
        tokio::time::sleep(Duration::from_secs(15)).await;
        if restarted {
            node = NodeId::random();
        }
        let since = tokio::time::Instant::now();
        let (mut back, far) = claim(node).await;
        // What it says at once is its own, when it is let in.
        back.send(Kind::Data, "back again").await;
        let after = mesh.adopt(far, new).await.unwrap();
        assert!(
            since.elapsed() <= Duration::from_secs(6),
            "{:?}",
            since.elapsed()
        );
        assert!(asked.await.unwrap().unwrap_err().is_closed());
        let frame = soon("its frame", heard.next_frame()).await.unwrap();
        assert_eq!(
            (frame.peer(), frame.payload()),
            (&after, &b"back again"[..])
        );
        assert_ne!(before, after);
        assert!(after.get::<&str>().is_none() && !before.is_connected());
        after.send_payload("welcome").await.unwrap();
        assert_eq!(next_frame(&mut back).await.unwrap().payload, "welcome");
        let mut seen = Vec::new();
        while seen.len() < 3 {
            match soon("an event", events.next()).await.unwrap() {
                Event::PeerConnected { peer } => seen.push((peer, true)),
                Event::PeerDisconnected { peer, reason } => {
                    assert!(matches!(reason, DisconnectReason::NoAnswer), "{reason}");
                    seen.push((peer, false));
                }
                _ => {}
            }
        }
        let order = [(before.clone(), true), (before, false), (after, true)];
        assert_eq!(seen, order);
    }
}

#[tokio::test]
async fn a_newcomer_follows_when_the_first_connection_ends() {
    let mesh = App::new().listen("127.0.0.1:0").await.unwrap();
    let mut heard = mesh.reader();
    let node = NodeId::random();
    let mut first = connect_as(&mesh, node).await;
    until("it is in the roster", || mesh.peers().len() == 1).await;
    let mut second = connect_as(&mesh, node).await;
    second.send(Kind::Data, "second").await;
    first.send(Kind::Data, "first").await;
    let frame = soon("a frame", heard.next_frame()).await.unwrap();
    assert_eq!(frame.payload(), b"first");
    let peer = mesh.peers().list()[0].clone();
    peer.send_payload("one").await.unwrap();
    assert_eq!(first.recv_frame().await.unwrap().payload, "one");
    first.send(Kind::Bye, "that was it").await;
    assert!(first.recv_frame().await.is_none());
    let frame = soon("a frame", heard.next_frame()).await.unwrap();
    assert_eq!(frame.payload(), b"second");
    assert!(frame.peer() != &peer && !peer.is_connected());
    frame.peer().send_payload("two").await.unwrap();
    assert_eq!(second.recv_frame().await.unwrap().payload, "two");
    assert_eq!(mesh.stats().dropped, 0);
}

#[tokio::test(start_paused = true)]
async fn a_busy_peer_is_not_cut_off_by_who_claims_its_number() {
    let mesh = App::new().start().await.unwrap();
    let node = NodeId::random();
    let (near, far) = tokio::io::duplex(1024);
    let mut busy = ByHand::new(near);
    busy.send(Kind::Hello, hello(node, "")).await;
    let peer = mesh.adopt(far, ConnectionInfo::inbound()).await.unwrap();
    assert_eq!(busy.recv().await.unwrap().kind, Kind::Hello);
    // It holds back its reading, and shows that it is there at the pace of its liveness.
    peer.send_payload(vec![0; 10_000]).await.unwrap();
    let holding = tokio::spawn(async move {
        loop {
            tokio::time::sleep(mesh_sign()).await;
            busy.send(Kind::Ping, &b"12345678"[..]).await;
        }
    });
    for _ in 0..10 {
        let (_stranger, far) = claim(node).await;
        assert!(mesh.adopt(far, ConnectionInfo::inbound()).await.is_err());
        assert!(peer.is_connected());
    }
    holding.abort();
}

/// How often a node that holds back its reading sends a sign of life, with the default options.
fn mesh_sign() -> Duration {
    coalescent_core::Config::default().answer_within / 2
}

#[tokio::test(start_paused = true)]
async fn newcomers_for_one_peer_are_few() {
    let mesh = App::new().start().await.unwrap();
    let node = NodeId::random();
    let (_silent, far) = claim(node).await;
    mesh.adopt(far, ConnectionInfo::inbound()).await.unwrap();
    let mut claims = Vec::new();
    for _ in 0..10 {
        let mesh = mesh.clone();
        claims.push(tokio::spawn(async move {
            let (stranger, far) = claim(node).await;
            let since = tokio::time::Instant::now();
            let adopted = mesh.adopt(far, ConnectionInfo::inbound()).await.is_ok();
            // Or it would end at once.
            std::mem::forget(stranger);
            (adopted, since.elapsed())
        }));
    }
    let mut at_once = 0;
    for claim in claims {
        let (adopted, after) = claim.await.unwrap();
        at_once += usize::from(!adopted && after <= Duration::from_secs(2));
    }
    assert_eq!(at_once, 6);
}

/// Passes on all PINGs from one to the other.
async fn pass_on_pings(
    mut from: futures_util::stream::SplitStream<Framed<DuplexStream, NativeCodec>>,
    mut to: futures_util::stream::SplitSink<Framed<DuplexStream, NativeCodec>, Packet>,
) {
    while let Some(Ok(packet)) = from.next().await {
        if packet.kind == Kind::Ping && to.send(packet).await.is_err() {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stranger_between_two_nodes_that_neither_has_dialled_proves_nothing() {
    // Whichever of the two has dialled the other, and whichever is the greater.
    for round in 0..20 {
        let (a, b) = (
            App::new().start().await.unwrap(),
            App::new().start().await.unwrap(),
        );
        let mut heard = b.reader();
        let (near, far) = tokio::io::duplex(4096);
        let (one, two) = match round % 2 {
            0 => (ConnectionInfo::outbound(), ConnectionInfo::inbound()),
            _ => (ConnectionInfo::inbound(), ConnectionInfo::outbound()),
        };
        let (to_b, _) = tokio::join!(a.adopt(near, one), b.adopt(far, two));
        let (at_a, far_a) = claim(b.peers().node_id()).await;
        let (at_b, far_b) = claim(a.peers().node_id()).await;
        let (to_a, from_a) = at_a.framed.split();
        let (to_b_end, from_b) = at_b.framed.split();
        tokio::spawn(pass_on_pings(from_a, to_b_end));
        tokio::spawn(pass_on_pings(from_b, to_a));
        let (is_b, is_a) = tokio::join!(
            a.adopt(far_a, ConnectionInfo::inbound()),
            b.adopt(far_b, ConnectionInfo::inbound())
        );
        assert!(is_b.is_err() && is_a.is_err());
        to_b.unwrap().send_payload("between us").await.unwrap();
        let frame = soon("a frame", heard.next_frame()).await.unwrap();
        assert_eq!(frame.payload(), b"between us");
        assert_eq!((a.peers().len(), b.peers().len()), (1, 1));
    }
}

/// Says numbers to all peers as soon as there is one, and hears what the other says.
async fn say_and_hear(mesh: Mesh, heard: coalescent_core::MeshReader, frames: usize) -> Vec<usize> {
    let mut heard = heard;
    let saying = mesh.clone();
    tokio::spawn(async move {
        until("there is a peer", || !saying.peers().is_empty()).await;
        for number in 0..frames {
            let sent = saying
                .broadcast_payload(number.to_be_bytes().to_vec())
                .await
                .unwrap();
            assert_eq!((sent.queued, sent.dropped), (1, 0));
            if number % 8 == 0 {
                tokio::task::yield_now().await;
            }
        }
    });
    let mut numbers = Vec::new();
    while numbers.len() < frames {
        let frame = soon("a frame", heard.next_frame()).await.unwrap();
        numbers.push(usize::from_be_bytes(frame.payload().try_into().unwrap()));
    }
    assert!(heard.try_next_frame().is_none());
    numbers.sort_unstable();
    numbers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_dial_each_other_at_once_are_one_peer_and_lose_nothing() {
    const FRAMES: usize = 200;
    for round in 0..30 {
        let (a, b) = (
            App::new().listen("127.0.0.1:0").await.unwrap(),
            App::new().listen("127.0.0.1:0").await.unwrap(),
        );
        let (to_a, to_b) = (addr(&a, 0), addr(&b, 0));
        let events = [a.events(), b.events()];
        let (at_a, at_b) = (
            tokio::spawn(say_and_hear(a.clone(), a.reader(), FRAMES)),
            tokio::spawn(say_and_hear(b.clone(), b.reader(), FRAMES)),
        );
        let (there, here) = tokio::join!(a.connect(&to_b), b.connect(&to_a));
        // Each is a handle to the one peer, however its own connection ended.
        assert!(there.is_ok() && here.is_ok(), "{there:?}, {here:?}");
        let (at_a, at_b) = (at_a.await.unwrap(), at_b.await.unwrap());
        for numbers in [at_a, at_b] {
            assert!(numbers.into_iter().eq(0..FRAMES), "round {round}");
        }
        assert_eq!((a.peers().len(), b.peers().len()), (1, 1));
        let (one, two) = tokio::join!(a.shutdown(), b.shutdown());
        assert_eq!((one.dropped, two.dropped), (0, 0));
        for mut events in events {
            let mut came = 0;
            while let Some(event) = events.next().await {
                came += usize::from(matches!(event, Event::PeerConnected { .. }));
            }
            assert_eq!(came, 1, "round {round}");
        }
    }
}

#[tokio::test]
async fn two_addresses_of_one_node_are_one_peer() {
    for _ in 0..10 {
        let there = App::new().listen("127.0.0.1:0").await.unwrap();
        there.listen("127.0.0.1:0").await.unwrap();
        let mut heard = there.reader();
        let here = App::new()
            .seeds([addr(&there, 0), addr(&there, 1)])
            .start()
            .await
            .unwrap();
        let mut back = here.reader();
        until("they are connected", || {
            here.peers().len() == 1 && there.peers().len() == 1
        })
        .await;
        const FRAMES: usize = 100;
        let (one, two) = (
            here.peers().list()[0].clone(),
            there.peers().list()[0].clone(),
        );
        for number in 0..FRAMES {
            one.send_payload(number.to_be_bytes().to_vec())
                .await
                .unwrap();
            two.send_payload(number.to_be_bytes().to_vec())
                .await
                .unwrap();
        }
        for reader in [&mut heard, &mut back] {
            let mut numbers = Vec::new();
            for _ in 0..FRAMES {
                let frame = soon("a frame", reader.next_frame()).await.unwrap();
                numbers.push(usize::from_be_bytes(frame.payload().try_into().unwrap()));
            }
            numbers.sort_unstable();
            assert!(numbers.into_iter().eq(0..FRAMES));
        }
        let (a, b) = tokio::join!(here.shutdown(), there.shutdown());
        assert_eq!((a.dropped, b.dropped), (0, 0));
    }
}

/// A connection in memory whose bytes take their time: `there` one way, and `back` the other.
fn delayed(there: Duration, back: Duration) -> (DuplexStream, DuplexStream) {
    let (near, near_end) = tokio::io::duplex(64 * 1024);
    let (far, far_end) = tokio::io::duplex(64 * 1024);
    let (near_read, near_write) = tokio::io::split(near_end);
    let (far_read, far_write) = tokio::io::split(far_end);
    tokio::spawn(carry(near_read, far_write, there));
    tokio::spawn(carry(far_read, near_write, back));
    (near, far)
}

async fn carry(mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>, takes: Duration) {
    let (sender, mut on_its_way) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some((at, bytes)) = on_its_way.recv().await {
            tokio::time::sleep_until(at).await;
            let bytes: Vec<u8> = bytes;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    });
    let mut buf = vec![0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buf).await {
        let at = tokio::time::Instant::now() + takes;
        if sender.send((at, buf[..read].to_vec())).is_err() {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_connections_made_at_once_are_one_in_whatever_order_they_come() {
    const FRAMES: usize = 100;
    for round in 0..120 {
        let (a, b) = (
            App::new().start().await.unwrap(),
            App::new().start().await.unwrap(),
        );
        let events = [a.events(), b.events()];
        let (at_a, at_b) = (
            tokio::spawn(say_and_hear(a.clone(), a.reader(), FRAMES)),
            tokio::spawn(say_and_hear(b.clone(), b.reader(), FRAMES)),
        );
        // Two that one of them made, or one by each; known by keys, or by numbers.
        let (one, two) = match round % 3 {
            0 => (ConnectionInfo::outbound(), ConnectionInfo::inbound()),
            _ => (ConnectionInfo::inbound(), ConnectionInfo::outbound()),
        };
        let of = |socket: &ConnectionInfo, key| match round % 2 {
            0 => socket.clone(),
            _ => socket
                .clone()
                .key(PublicKey::from_bytes([key; 32]).unwrap()),
        };
        let millis = || Duration::from_millis(rand::random_range(0..400));
        let (first_a, first_b) = delayed(millis(), millis());
        let (second_a, second_b) = delayed(millis(), millis());
        let later = millis() * u32::from(rand::random_bool(0.3));
        let first = async {
            tokio::join!(
                a.adopt(first_a, of(&ConnectionInfo::outbound(), 2)),
                b.adopt(first_b, of(&ConnectionInfo::inbound(), 1)),
            )
        };
        let second = async {
            tokio::time::sleep(later).await;
            tokio::join!(
                a.adopt(second_a, of(&one, 2)),
                b.adopt(second_b, of(&two, 1)),
            )
        };
        let (first, second) = tokio::join!(first, second);
        // Who is dialled may be told by the other that it is connected before it is sure of that
        // itself.
        for joined in [first.0, first.1, second.0, second.1] {
            let refused = joined
                .as_ref()
                .is_err_and(coalescent_core::Error::is_refused);
            assert!(joined.is_ok() || refused, "round {round}: {joined:?}");
        }
        for numbers in [at_a.await.unwrap(), at_b.await.unwrap()] {
            assert!(numbers.into_iter().eq(0..FRAMES), "round {round}");
        }
        let (one, two) = tokio::join!(a.shutdown(), b.shutdown());
        assert_eq!((one.dropped, two.dropped), (0, 0));
        for mut events in events {
            let mut came = 0;
            while let Some(event) = events.next().await {
                came += usize::from(matches!(event, Event::PeerConnected { .. }));
            }
            assert_eq!(came, 1, "round {round}");
        }
    }
}
