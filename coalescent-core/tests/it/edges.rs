//! The edges of the wires: nothing to write, half a line, large frames on thin lines.

use std::io;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use coalescent_core::connection::ConnectionInfo;
use coalescent_core::wire::{Hello, Kind, Status};
use coalescent_core::{
    App, AppExt, DisconnectReason, DropReason, Event, Events, Flow, Frame, Mesh, Peer, Relay,
    Reply, Wire,
};
use futures_util::StreamExt;
use support::{ByHand, RelayLayer, handle, join, join_wire, on_the_wire, packet, soon, until};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio_util::codec::{Decoder, Encoder};

/// Ends each payload with a full stop, and writes nothing of an empty one. What has no end when the
/// stream is over is a payload all the same.
struct Stops;

impl Encoder<Bytes> for Stops {
    type Error = io::Error;

    fn encode(&mut self, payload: Bytes, dst: &mut BytesMut) -> io::Result<()> {
        if !payload.is_empty() {
            dst.put(payload);
            dst.put_u8(b'.');
        }
        Ok(())
    }
}

impl Decoder for Stops {
    type Item = Bytes;
    type Error = io::Error;

    fn decode(&mut self, src: &mut BytesMut) -> io::Result<Option<Bytes>> {
        let end = memchr::memchr(b'.', src);
        Ok(end.map(|end| {
            let mut payload = src.split_to(end + 1);
            payload.truncate(end);
            payload.freeze()
        }))
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> io::Result<Option<Bytes>> {
        match self.decode(src)? {
            None if !src.is_empty() => Ok(Some(src.split().freeze())),
            payload => Ok(payload),
        }
    }
}

fn stops() -> Wire {
    Wire::custom("stops", || Stops)
}

/// The wires on which nothing is written of an empty payload, and what ends one that is not.
fn wires() -> [(Wire, &'static str); 3] {
    [(Wire::raw(), ""), (Wire::lines(), "\n"), (stops(), ".")]
}

async fn read(io: &mut DuplexStream, len: usize) -> String {
    let mut bytes = vec![0; len];
    let read = soon("so many bytes", io.read_exact(&mut bytes)).await;
    read.expect("so many bytes");
    String::from_utf8(bytes).expect("text")
}

/// Expects `payload` and nothing before it.
async fn expect(io: &mut DuplexStream, payload: &str, end: &str) {
    let expected = format!("{payload}{end}");
    assert_eq!(read(io, expected.len()).await, expected);
}

async fn disconnected(events: &mut Events) -> DisconnectReason {
    loop {
        let event = soon("a disconnect", events.next()).await;
        if let Event::PeerDisconnected { reason, .. } = event.expect("a running mesh") {
            return reason;
        }
    }
}

async fn reset(stream: TcpStream) {
    let socket = socket2::SockRef::from(&stream);
    socket.set_linger(Some(Duration::ZERO)).expect("an option");
}

#[tokio::test]
async fn an_empty_payload_of_our_own_is_no_write_and_counts_as_sent() {
    for (wire, end) in wires() {
        let mesh = App::new().start().await.unwrap();
        let mut io = join_wire(&mesh, wire, 1024).await;
        let peer = mesh.peers().list()[0].clone();
        let mut empty = 0;
        assert_eq!(mesh.broadcast_payload("").await.unwrap().queued, 1);
        assert_eq!(mesh.peers().try_broadcast_payload("").unwrap().queued, 1);
        assert_eq!(
            mesh.broadcast_payloads(["", "", ""]).await.unwrap().queued,
            3
        );
        peer.send_payload("").await.unwrap();
        peer.try_send_payload("").unwrap();
        empty += 7;
        soon("there is nothing to write", peer.flushed()).await;
        assert_eq!((mesh.stats().sent, peer.queued()), (empty, 0));

        // Before, between and behind what there is to write.
        assert_eq!(
            mesh.broadcast_payloads(["", "a", "", "b", ""])
                .await
                .unwrap()
                .queued,
            5
        );
        empty += 5;
        expect(&mut io, &format!("a{end}b"), end).await;
        soon("all is written", peer.flushed()).await;
        assert_eq!(mesh.stats().sent, empty);
        let read = async {
            let mut rest = String::new();
            io.read_to_string(&mut rest).await.unwrap();
            drop(io);
            rest
        };
        let (stats, rest) = tokio::join!(mesh.shutdown(), read);
        assert_eq!((stats.sent, stats.dropped), (empty, 0));
        assert_eq!(rest, "");
    }
}

#[tokio::test]
async fn an_empty_payload_that_is_relayed_is_no_write_and_counts_as_relayed() {
    for flow in [Flow::Wait, Flow::Drop] {
        let mesh = App::new().with(RelayLayer(flow)).start().await.unwrap();
        let mut source = join(&mesh, 64 * 1024).await;
        let mut others = Vec::new();
        for (wire, end) in wires() {
            others.push((join_wire(&mesh, wire, 1024).await, end));
        }
        let mut nonce = 0;
        let mut say = |payloads: &[&'static str]| {
            let packets = payloads.iter().map(|payload| {
                nonce += 1;
                packet(Kind::Broadcast { nonce }, *payload)
            });
            on_the_wire(&packets.collect::<Vec<_>>())
        };
        let empty = say(&[""]);
        source.framed.get_mut().write_all(&empty).await.unwrap();
        until("it is counted", || mesh.stats().relayed == 3).await;
        let some = say(&["", "", "a", "", "b", ""]);
        source.framed.get_mut().write_all(&some).await.unwrap();
        for (io, end) in &mut others {
            expect(io, &format!("a{end}b"), end).await;
        }
        until("all is counted", || mesh.stats().relayed == 21).await;
        assert_eq!((mesh.peers().len(), mesh.stats().dropped), (4, 0));
    }
}

#[tokio::test]
async fn an_empty_payload_that_is_relayed_late_is_no_write_either() {
    let (frames, mut later) = tokio::sync::mpsc::unbounded_channel();
    let keep = handle(move |frame: Frame| {
        frames.send(frame).expect("the test waits for it");
        async { Ok(Reply::None) }
    });
    let mesh = App::new().with(keep).start().await.unwrap();
    let mut source = join(&mesh, 64 * 1024).await;
    let mut others = Vec::new();
    for (wire, end) in wires() {
        others.push((join_wire(&mesh, wire, 1024).await, end));
    }
    for (nonce, payload) in [(1, ""), (2, "a")] {
        source.send(Kind::Broadcast { nonce }, payload).await;
        let frame: Frame = soon("a frame", later.recv()).await.unwrap();
        // Its call is over: nobody but this test is to be run.
        tokio::task::yield_now().await;
        let flow = Flow::Drop;
        assert!(frame.relay(Relay::new(flow)));
    }
    for (io, end) in &mut others {
        expect(io, "a", end).await;
    }
    until("all is counted", || mesh.stats().relayed == 6).await;
    assert_eq!((mesh.peers().len(), mesh.stats().dropped), (4, 0));
}

#[tokio::test]
async fn an_empty_answer_is_no_write_and_the_next_arrives() {
    let answer = handle(|frame: Frame| async move {
        let empty = frame.payload() == b"say nothing";
        let payload = if empty {
            Bytes::new()
        } else {
            frame.into_payload()
        };
        Ok(Reply::Payload(payload))
    });
    for (wire, end) in wires() {
        let mesh = App::new().with(answer.clone()).start().await.unwrap();
        let mut io = join_wire(&mesh, wire, 1024).await;
        for _ in 0..3 {
            io.write_all(format!("say nothing{end}").as_bytes())
                .await
                .unwrap();
            let before = mesh.stats().sent;
            until("it is counted", || mesh.stats().sent == before + 1).await;
        }
        io.write_all(format!("say it{end}").as_bytes())
            .await
            .unwrap();
        expect(&mut io, "say it", end).await;
        assert_eq!(mesh.peers().len(), 1);
    }
}

#[tokio::test]
async fn a_relay_keeps_the_carriage_returns_of_a_payload_wherever_it_came_from() {
    let mesh = App::new()
        .with(RelayLayer(Flow::Wait))
        .start()
        .await
        .unwrap();
    let mut native = join(&mesh, 64 * 1024).await;
    let mut line = join_wire(&mesh, Wire::lines(), 1024).await;
    let mut other = join_wire(&mesh, Wire::lines(), 1024).await;
    // One belongs to the end of the line. Where each relay took another, a circle would pass on as
    // many lines.
    line.write_all(b"a\r\r\r\nb\r\nc\n").await.unwrap();
    assert_eq!(read(&mut other, 9).await, "a\r\r\r\nb\nc\n");
    for payload in ["a\r\r", "b", "c"] {
        assert_eq!(native.recv_frame().await.unwrap().payload, payload);
    }
    native.send(Kind::Broadcast { nonce: 1 }, "d\r").await;
    assert_eq!(read(&mut other, 4).await, "d\r\r\n");
    // What this node says itself is its bytes and a newline.
    let _ = mesh.broadcast_payload("e\r").await.unwrap();
    assert_eq!(read(&mut other, 3).await, "e\r\n");
}

/// The wires on which the end of the stream ends a last frame.
fn open_ended() -> [(Wire, &'static str); 2] {
    [(Wire::lines(), "\n"), (stops(), ".")]
}

#[tokio::test]
async fn half_a_line_is_a_line_only_where_its_sender_ended_the_stream() {
    for (wire, end) in open_ended() {
        let app = App::new().with(RelayLayer(Flow::Wait)).wire(wire);
        let mesh = app.listen("127.0.0.1:0").await.unwrap();
        let mut heard = mesh.reader();
        let mut events = mesh.events();
        let mut other = TcpStream::connect(mesh.local_addrs()[0]).await.unwrap();
        until("it is there", || mesh.peers().len() == 1).await;
        let text = format!("whole{end}half");
        for clean in [false, true, false] {
            let mut cut = TcpStream::connect(mesh.local_addrs()[0]).await.unwrap();
            let before = mesh.stats().bytes_received;
            cut.write_all(text.as_bytes()).await.unwrap();
            let all = before + text.len() as u64;
            until("all is read", || mesh.stats().bytes_received == all).await;
            let frame = soon("the whole one", heard.next_frame()).await.unwrap();
            assert_eq!(frame.payload(), b"whole");
            if clean {
                cut.shutdown().await.unwrap();
                let frame = soon("the last one", heard.next_frame()).await.unwrap();
                assert_eq!(frame.payload(), b"half");
                let reason = disconnected(&mut events).await;
                assert!(matches!(reason, DisconnectReason::Closed), "{reason}");
            } else {
                reset(cut).await;
                let reason = disconnected(&mut events).await;
                assert!(matches!(reason, DisconnectReason::Io(_)), "{reason}");
            }
        }
        // Nor was it passed on.
        let passed = format!("whole{end}whole{end}half{end}whole{end}");
        let mut bytes = vec![0; passed.len()];
        soon("what is passed on", other.read_exact(&mut bytes))
            .await
            .unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), passed);
        let stats = mesh.shutdown().await;
        assert_eq!((stats.received, stats.relayed), (4, 4));
        assert!(heard.next_frame().await.is_none());
    }
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn half_a_line_that_is_cut_off_under_tls_is_none() {
    use coalescent_core::identity::Identity;
    use coalescent_core::transport::tls::Tls;

    for (wire, end) in open_ended() {
        let key = Identity::generate();
        let app = App::new().identity(key.clone()).wire(wire);
        let mesh = app.listen("127.0.0.1:0").await.unwrap();
        let mut heard = mesh.reader();
        let mut events = mesh.events();
        for clean in [false, true, false] {
            let socket = TcpStream::connect(mesh.local_addrs()[0]).await.unwrap();
            let tls = Tls::new(Identity::generate());
            let (mut cut, _) = tls.connect(socket, Some(key.id())).await.unwrap();
            cut.write_all(format!("whole{end}half").as_bytes())
                .await
                .unwrap();
            cut.flush().await.unwrap();
            let frame = soon("the whole one", heard.next_frame()).await.unwrap();
            assert_eq!(frame.payload(), b"whole");
            if clean {
                cut.shutdown().await.unwrap();
                let frame = soon("the last one", heard.next_frame()).await.unwrap();
                assert_eq!(frame.payload(), b"half");
            } else {
                // The socket below ends as it should, as if by somebody on the way.
                drop(cut);
            }
            disconnected(&mut events).await;
        }
        assert_eq!(mesh.shutdown().await.received, 4);
        assert!(heard.next_frame().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn half_a_line_is_none_where_this_node_ends_the_connection() {
    for (wire, end) in open_ended() {
        for timeout in [false, true] {
            let mesh = App::new().wire(wire.clone()).start().await.unwrap();
            let mut heard = mesh.reader();
            let mut io = join_wire(&mesh, wire.clone(), 1024).await;
            let peer = mesh.peers().list()[0].clone();
            io.write_all(format!("whole{end}half").as_bytes())
                .await
                .unwrap();
            let frame = soon("the whole one", heard.next_frame()).await.unwrap();
            assert_eq!(frame.payload(), b"whole");
            if !timeout {
                peer.disconnect("enough");
            }
            let reason = peer.closed().await;
            let ours = matches!(reason, DisconnectReason::Disconnected(_));
            let in_vain = matches!(reason, DisconnectReason::FrameTimeout);
            assert_eq!((ours, in_vain), (!timeout, timeout), "{reason}");
            let stats = mesh.shutdown().await;
            assert_eq!(stats.received, 1);
            assert!(heard.next_frame().await.is_none());
            drop(io);
        }
    }
}

/// A line that this node cannot write to its end must not look like one that has ended.
#[tokio::test]
async fn a_line_that_is_torn_by_this_node_ends_with_a_reset() {
    let app = App::new().wire(Wire::lines()).configure(|config| {
        config.patience = Duration::from_millis(200);
        config.slow_floor = 1 << 30;
    });
    let mesh = app.listen("127.0.0.1:0").await.unwrap();
    let mut peer = tokio::net::TcpStream::connect(mesh.local_addrs()[0])
        .await
        .unwrap();
    until("it is connected", || mesh.peers().len() == 1).await;
    let slow = mesh.peers().list()[0].clone();
    // More than the sockets take.
    for _ in 0..32 {
        let _ = mesh.peers().try_broadcast_payload(vec![b'x'; 1 << 20]);
    }
    let reason = soon("the end", slow.closed()).await;
    assert!(matches!(reason, DisconnectReason::Slow), "{reason}");
    let mut bytes = Vec::new();
    let error = soon("the reset", peer.read_to_end(&mut bytes)).await;
    assert_eq!(
        error.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
    mesh.shutdown().await;
}

/// Carries bytes from one to the other, so many each second.
async fn trickle(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, rate: usize) {
    let mut bytes = vec![0; rate / 4];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        let pause =
            Duration::from_secs(1) * u32::try_from(read).unwrap() / u32::try_from(rate).unwrap();
        tokio::time::sleep(pause).await;
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

/// Connects two meshes by a line of so many bytes a second, with `buffer` bytes on the way.
async fn thin(from: &Mesh, to: &Mesh, wire: &Wire, rate: usize, buffer: usize) -> (Peer, Peer) {
    let (near, near_end) = tokio::io::duplex(buffer);
    let (far, far_end) = tokio::io::duplex(8 * 1024);
    let (read, write) = tokio::io::split(near_end);
    let (read_far, write_far) = tokio::io::split(far_end);
    tokio::spawn(trickle(read, write_far, rate));
    tokio::spawn(trickle(read_far, write, rate));
    let (one, two) = tokio::join!(
        from.adopt(near, ConnectionInfo::outbound().wire(wire.clone())),
        to.adopt(far, ConnectionInfo::inbound().wire(wire.clone()))
    );
    (one.expect("a peer"), two.expect("a peer"))
}

#[tokio::test(start_paused = true)]
async fn a_large_frame_gets_through_a_thin_line() {
    const SIZE: usize = 2 * 1024 * 1024;
    // With room for the frame on the way, the sender has nothing more to write long before it has
    // arrived.
    for (wire, buffers) in [
        (Wire::native(), &[64 * 1024, 2 * SIZE][..]),
        (Wire::lines(), &[64 * 1024]),
        (stops(), &[64 * 1024]),
    ] {
        for &buffer in buffers {
            let app = || App::new().max_frame(SIZE);
            let (from, to) = (app().start().await.unwrap(), app().start().await.unwrap());
            let mut heard = to.reader();
            let (one, two) = thin(&from, &to, &wire, 24 * 1024, buffer).await;
            let begun = tokio::time::Instant::now();
            one.send_payload(vec![b'x'; SIZE]).await.unwrap();
            let frame = tokio::select! {
                frame = heard.next_frame() => frame.expect("a frame"),
                reason = one.closed() => panic!("the sender: {reason}"),
                reason = two.closed() => panic!("the receiver: {reason}"),
            };
            assert_eq!(frame.payload().len(), SIZE);
            let took = begun.elapsed().as_secs();
            assert!((85..95).contains(&took), "{took} s");
            assert!(one.is_connected() && two.is_connected());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_reads_a_large_frame_over_a_thin_line_need_not_answer_what_stands_behind_it() {
    const SIZE: usize = 1024 * 1024;
    for idle in [0, 29] {
        let mesh = App::new().start().await.unwrap();
        let (near, far) = tokio::io::duplex(1024);
        let (by_hand, adopted) = tokio::join!(
            ByHand::connect(near),
            mesh.adopt(far, ConnectionInfo::inbound())
        );
        let peer = adopted.unwrap();
        // Says nothing of its own accord, and reads no faster than that.
        let (to_read, read) = tokio::io::duplex(4096);
        let (from_peer, to_peer) = tokio::io::split(by_hand.framed.into_inner());
        let (from_hand, to_hand) = tokio::io::split(to_read);
        tokio::spawn(trickle(from_peer, to_hand, 24 * 1024));
        tokio::spawn(trickle(from_hand, to_peer, 24 * 1024));
        let mut by_hand = ByHand::new(read);
        tokio::time::sleep(Duration::from_secs(idle)).await;

        peer.send_payload(vec![7; SIZE]).await.unwrap();
        let mut answered = 0;
        let reading = async {
            loop {
                // Not through `recv`, which has no time for that.
                let packet = by_hand
                    .framed
                    .next()
                    .await
                    .expect("a frame")
                    .expect("a frame");
                match packet.kind {
                    Kind::Ping => {
                        by_hand.send(Kind::Pong, packet.payload).await;
                        answered += 1;
                    }
                    _ => assert_eq!(packet.payload.len(), SIZE),
                }
                if answered == 2 {
                    return;
                }
            }
        };
        tokio::select! {
            () = reading => {}
            reason = peer.closed() => panic!("{reason}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_sends_much_over_a_thin_line_is_not_taken_for_dead_by_who_hears_nothing_back() {
    const FRAMES: usize = 4000;
    // All of it is on the way long before the receiver has it, and so is what it is asked behind
    // that.
    let (from, to) = (
        App::new().start().await.unwrap(),
        App::new().start().await.unwrap(),
    );
    let mut heard = to.reader();
    let (one, two) = thin(&from, &to, &Wire::native(), 24 * 1024, 8 << 20).await;
    let payloads = std::iter::repeat_n(vec![b'x'; 1000], FRAMES);
    assert_eq!(
        from.broadcast_payloads(payloads).await.unwrap().queued,
        FRAMES
    );
    for _ in 0..FRAMES {
        tokio::select! {
            frame = heard.next_frame() => assert!(frame.is_some()),
            reason = one.closed() => panic!("the sender: {reason}"),
            reason = two.closed() => panic!("the receiver: {reason}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_on_a_line_thinner_than_the_floor_is_given_up_in_bounded_time() {
    const SIZE: usize = 1024 * 1024;
    // On lines, nobody knows how much is still to come.
    for (wire, bounds) in [(Wire::native(), 94..96), (Wire::lines(), 30..62)] {
        for rate in [100, 8 * 1024] {
            let app = || App::new().max_frame(SIZE);
            let (from, to) = (app().start().await.unwrap(), app().start().await.unwrap());
            let (one, two) = thin(&from, &to, &wire, rate, 64).await;
            let begun = tokio::time::Instant::now();
            one.send_payload(vec![b'x'; SIZE]).await.unwrap();
            let reason = two.closed().await;
            assert!(matches!(reason, DisconnectReason::FrameTimeout), "{reason}");
            let took = begun.elapsed().as_secs();
            assert!(bounds.contains(&took), "{wire} at {rate}: {took} s");
        }
    }
}

/// Joins a peer that says that it takes payloads of so many bytes, and returns what this node says
/// of itself.
async fn join_small(mesh: &Mesh, max: u32) -> (ByHand<DuplexStream>, Peer, Hello) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let mut peer = ByHand::new(near);
    let hello = Hello::new(peer.node, "").agent("takes little").max(max);
    let hello = hello.encode().unwrap();
    let introduce = async {
        peer.send(Kind::Hello, hello).await;
        peer.recv().await.expect("a hello")
    };
    let (theirs, joined) = tokio::join!(introduce, mesh.adopt(far, ConnectionInfo::inbound()));
    let theirs = Hello::decode(&theirs.payload).expect("a hello");
    (peer, joined.expect("a peer"), theirs)
}

async fn expect_broadcasts(peer: &mut ByHand<DuplexStream>, expected: &[Bytes]) {
    for expected in expected {
        let packet = peer.recv_frame().await.expect("a frame");
        assert!(matches!(packet.kind, Kind::Broadcast { .. }));
        assert_eq!(packet.payload, expected);
    }
}

/// Payloads around a limit: small and large ones, those that fit and those that do not mixed.
fn around(limit: usize) -> Vec<Bytes> {
    let sizes = [limit, limit + 1, 0, 1, 5000, limit + 3, limit, 70_000, 2];
    sizes.map(|size| Bytes::from(vec![b'x'; size])).to_vec()
}

fn within(limit: usize, payloads: &[Bytes]) -> Vec<Bytes> {
    let fit = payloads.iter().filter(|payload| payload.len() <= limit);
    fit.cloned().collect()
}

#[tokio::test]
async fn a_peer_is_told_what_this_node_takes_and_sent_no_more_than_it_takes_itself() {
    for limit in [10, 6000] {
        let app = App::new().max_frame(100_000);
        let mesh = app.start().await.unwrap();
        let mut all = join(&mesh, 256 * 1024).await;
        let (mut small, peer, theirs) = join_small(&mesh, limit).await;
        assert_eq!(
            (theirs.max, peer.max_payload()),
            (Some(100_000), Some(limit as usize))
        );
        let limit = limit as usize;

        // To it alone: an error that says so.
        let over = vec![b'x'; limit + 1];
        for error in [
            peer.send_payload(over.clone()).await.unwrap_err(),
            peer.try_send_payload(over.clone()).unwrap_err(),
            peer.request_payload(over.clone()).await.unwrap_err(),
        ] {
            assert!(error.is_encode(), "{error}");
            let text = error.report().to_string();
            assert!(
                text.contains(&format!("{limit} bytes, the most that this peer takes")),
                "{text}"
            );
        }
        assert_eq!(mesh.stats().dropped, 0, "it was not accepted");
        peer.send_payload(vec![b'x'; limit]).await.unwrap();
        assert_eq!(small.recv_frame().await.unwrap().payload.len(), limit);

        // To all: one by one, and many at once.
        let payloads = around(limit);
        let fit = within(limit, &payloads);
        let lost = payloads.len() - fit.len();
        for payload in &payloads {
            let sent = mesh.broadcast_payload(payload.clone()).await.unwrap();
            let fits = payload.len() <= limit;
            assert_eq!(
                (sent.queued, sent.dropped),
                (1 + usize::from(fits), usize::from(!fits))
            );
        }
        expect_broadcasts(&mut small, &fit).await;
        expect_broadcasts(&mut all, &payloads).await;
        let sent = mesh.broadcast_payloads(&payloads).await.unwrap();
        assert_eq!(
            (sent.queued, sent.dropped),
            (payloads.len() + fit.len(), lost)
        );
        expect_broadcasts(&mut small, &fit).await;
        expect_broadcasts(&mut all, &payloads).await;

        soon("all is written", mesh.peers().flushed()).await;
        let stats = peer.stats();
        assert_eq!(
            (stats.sent, stats.dropped),
            (1 + 2 * fit.len() as u64, 2 * lost as u64)
        );
        assert_eq!(mesh.peers().len(), 2);
    }
}

#[tokio::test]
async fn a_relay_drops_what_a_peer_does_not_take_for_that_peer_alone() {
    for (flow, late) in [(Flow::Wait, false), (Flow::Drop, false), (Flow::Drop, true)] {
        for limit in [10, 6000] {
            let (frames, mut later) = tokio::sync::mpsc::unbounded_channel();
            // Little enough for the ones that wait to do so.
            let app = App::new().configure(|config| {
                if flow == Flow::Wait {
                    config.outbox = 8192;
                }
            });
            let keep = handle(move |frame: Frame| {
                frames.send(frame).expect("the test waits for it");
                async { Ok(Reply::None) }
            });
            let mesh = if late {
                app.with(keep).start().await
            } else {
                app.with(RelayLayer(flow)).start().await
            };
            let mesh = mesh.unwrap();
            let mut events = mesh.events();
            let mut source = join(&mesh, 256 * 1024).await;
            let mut line = join_wire(&mesh, Wire::lines(), 256 * 1024).await;
            let mut all = join(&mesh, 256 * 1024).await;
            let (mut small, peer, _) = join_small(&mesh, limit).await;
            let limit = limit as usize;
            let payloads = around(limit);
            let fit = within(limit, &payloads);
            let lost = (payloads.len() - fit.len()) as u64;
            let packets = payloads
                .iter()
                .enumerate()
                .map(|(at, payload)| packet(Kind::Broadcast { nonce: at as u64 }, payload.clone()));
            let bytes = on_the_wire(&packets.collect::<Vec<_>>());
            source.framed.get_mut().write_all(&bytes).await.unwrap();
            if late {
                for _ in &payloads {
                    let frame: Frame = soon("a frame", later.recv()).await.unwrap();
                    tokio::task::yield_now().await;
                    assert!(frame.relay(Relay::new(flow)));
                }
            }
            expect_broadcasts(&mut small, &fit).await;
            expect_broadcasts(&mut all, &payloads).await;
            let text = payloads
                .iter()
                .map(|payload| payload.len() + usize::from(!payload.is_empty()));
            read(&mut line, text.sum()).await;
            until("all is counted", || {
                peer.stats().relayed == fit.len() as u64
            })
            .await;
            assert_eq!((peer.stats().dropped, mesh.stats().dropped), (lost, lost));
            assert_eq!(mesh.peers().len(), 4, "nobody is cut off for that");
            drop((source, line, all, small));
            mesh.shutdown().await;
            let mut told = 0;
            while let Some(event) = events.next().await {
                match event {
                    Event::Dropped {
                        peer: who,
                        reason,
                        frames,
                    } => {
                        // What comes within a second of that is told at the end, with the reason of
                        // that.
                        assert_eq!(who, peer);
                        assert!(told > 0 || reason == DropReason::TooLarge, "{reason}");
                        told += frames;
                    }
                    Event::Error { error, .. } => panic!("{error}"),
                    _ => {}
                }
            }
            assert_eq!(told, lost);
        }
    }
}

#[tokio::test]
async fn an_answer_that_the_asker_does_not_take_fails_in_as_many_words_as_it_takes() {
    let answer = handle(|frame: Frame| async move {
        match frame.payload() {
            b"" => Err("there was no question".into()),
            question => Ok(Reply::Payload(Bytes::from(question.repeat(1000)))),
        }
    });
    for (max, words) in [
        (0, &b""[..]),
        (9, b"the reply"),
        (999, b"the reply is too large"),
        (1000, b"ok"),
    ] {
        let mesh = App::new().with(answer.clone()).start().await.unwrap();
        let (mut small, _, _) = join_small(&mesh, max).await;
        small.send(Kind::Request { id: 1 }, "?").await;
        let reply = small.recv_frame().await.expect("a reply");
        let ok = Kind::Reply {
            id: 1,
            status: Status::Ok,
        };
        let failed = Kind::Reply {
            id: 1,
            status: Status::Failed,
        };
        if words == b"ok" {
            assert_eq!((reply.kind, reply.payload.len()), (ok, 1000));
        } else {
            assert_eq!((reply.kind, &reply.payload[..]), (failed, words));
        }
        // Of what failed otherwise it is told as much.
        small.send(Kind::Request { id: 1 }, "").await;
        let reply = small.recv_frame().await.expect("a reply");
        assert_eq!(reply.kind, failed);
        assert!(reply.payload.len() <= max as usize);
        assert_eq!(mesh.peers().len(), 1);
    }
}

#[tokio::test]
async fn nodes_of_different_limits_stay_connected_whatever_is_said() {
    let large = App::new().listen("127.0.0.1:0").await.unwrap();
    let small = App::new().max_frame(1000).start().await.unwrap();
    let mut heard = small.reader();
    let addr = large.local_addrs()[0].to_string();
    let peer = small.connect(&addr).await.unwrap();
    assert_eq!(peer.max_payload(), Some(1024 * 1024));
    until("both are there", || large.peers().len() == 1).await;
    assert_eq!(
        large
            .broadcast_payload(vec![1; 1001])
            .await
            .unwrap()
            .dropped,
        1
    );
    assert_eq!(
        large.broadcast_payload(vec![1; 1000]).await.unwrap().queued,
        1
    );
    let frame = soon("the one that fits", heard.next_frame()).await.unwrap();
    assert_eq!(frame.payload().len(), 1000);
    assert_eq!((large.peers().len(), small.peers().len()), (1, 1));
}
