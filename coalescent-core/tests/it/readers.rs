//! The two ends of a mesh with many peers: what is broadcast comes whole and in order on each wire,
//! and what is read comes to one reader.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use coalescent_core::wire::Kind;
use coalescent_core::{App, AppExt, Frame, Mesh, Plugin, Registrar, Sent, Wire};
use support::{ByHand, join, join_wire, on_the_wire, packet, soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec};
use tower::util::MapRequestLayer;

/// How many bytes each direction of a connection holds.
const PIPE: usize = 1024 * 1024;

const MAX_FRAME: usize = 100_000;

/// What the broadcast hook was told.
type Told = Arc<Mutex<Vec<(Option<u64>, Bytes)>>>;

struct Hook(Told);

impl Plugin for Hook {
    fn register(&self, app: &mut Registrar) {
        let told = Arc::clone(&self.0);
        app.on_broadcast(move |nonce, payload| {
            told.lock().unwrap().push((nonce, payload.clone()));
        });
    }
}

/// Small and large payloads, some of them not for the `lines` wire.
fn payloads() -> Vec<Bytes> {
    (0..2000)
        .map(|number| match number % 100 {
            1 => Bytes::new(),
            2 => "a\nb".into(),
            3 => vec![b'x'; MAX_FRAME - 1].into(),
            4 => vec![b'y'; 5000].into(),
            5 => vec![b'z'; MAX_FRAME].into(),
            _ => format!("payload {number}").into(),
        })
        .collect()
}

async fn expect_bytes(io: &mut DuplexStream, expected: &[u8]) {
    let mut read = vec![0; expected.len()];
    soon("what was broadcast", io.read_exact(&mut read))
        .await
        .expect("as many bytes");
    assert!(read == expected, "other bytes than were broadcast");
}

/// Broadcasts [`payloads`] to a peer of each wire, which must get all that its wire can carry.
async fn broadcast_to_each_wire(mesh: &Mesh) -> Sent {
    let mut native = join(mesh, PIPE).await;
    let mut lines = join_wire(mesh, Wire::lines(), PIPE).await;
    let custom = Wire::custom("length-delimited", LengthDelimitedCodec::new);
    let mut custom = join_wire(mesh, custom, PIPE).await;

    let fit = payloads();
    let mut as_lines = Vec::new();
    let mut line_count = 0;
    let mut as_custom = Vec::new();
    for payload in &fit {
        if !payload.contains(&b'\n') {
            // An empty line is no frame: there is nothing to write, and that is done.
            if !payload.is_empty() {
                as_lines.extend_from_slice(payload);
                as_lines.push(b'\n');
            }
            line_count += 1;
        }
        let len = u32::try_from(payload.len()).expect("less than a frame");
        as_custom.extend_from_slice(&len.to_be_bytes());
        as_custom.extend_from_slice(payload);
    }

    let read_native = async {
        let mut nonces = BTreeSet::new();
        for payload in &fit {
            let frame = native.recv_frame().await.expect("a broadcast");
            let Kind::Broadcast { nonce } = frame.kind else {
                panic!("broadcast as {:?}", frame.kind);
            };
            assert_eq!(&frame.payload, payload);
            assert!(nonces.insert(nonce), "a nonce comes twice");
        }
    };
    let (sent, (), (), ()) = tokio::join!(
        mesh.peers().broadcast_payloads(payloads()),
        read_native,
        expect_bytes(&mut lines, &as_lines),
        expect_bytes(&mut custom, &as_custom),
    );
    let sent = sent.unwrap();
    assert_eq!(sent.queued, 2 * fit.len() + line_count);
    assert_eq!(sent.queued + sent.dropped, 3 * payloads().len());
    until("what was read is counted as sent", || {
        mesh.stats().sent == sent.queued as u64
    })
    .await;
    assert_eq!(mesh.stats().dropped, sent.dropped as u64);
    sent
}

/// Takes in all that is there, and gives it out byte by byte.
#[derive(Default)]
struct Bytewise(BytesMut);

impl Decoder for Bytewise {
    type Item = Bytes;
    type Error = io::Error;

    fn decode(&mut self, src: &mut BytesMut) -> io::Result<Option<Bytes>> {
        self.0.unsplit(src.split());
        Ok((!self.0.is_empty()).then(|| self.0.split_to(1).freeze()))
    }
}

impl Encoder<Bytes> for Bytewise {
    type Error = io::Error;

    fn encode(&mut self, payload: Bytes, dst: &mut BytesMut) -> io::Result<()> {
        dst.extend_from_slice(&payload);
        Ok(())
    }
}

#[tokio::test]
async fn a_codec_that_keeps_what_it_has_taken_in_is_asked_for_all_of_it() {
    for read_ahead in [0, 256 * 1024] {
        let app = App::new().configure(|config| config.read_ahead = read_ahead);
        let mesh = app.start().await.expect("it starts");
        let mut reader = mesh.reader();
        let wire = Wire::custom("bytewise", Bytewise::default);
        let mut peer = join_wire(&mesh, wire, PIPE).await;
        let said: Vec<u8> = (0..3000).map(|at| (at % 251) as u8).collect();
        // At once, and nothing behind it that would bring what is left along.
        peer.write_all(&said).await.expect("it is read");
        let mut heard = Vec::new();
        while heard.len() < said.len() {
            let frame = soon("a frame", reader.next_frame()).await;
            heard.extend_from_slice(frame.expect("the mesh runs").payload());
        }
        assert!(heard == said, "other bytes than were said");
    }
}

fn with_little_room() -> App {
    App::new().configure(|config| {
        config.max_frame = MAX_FRAME;
        config.outbox = 70_000;
    })
}

#[tokio::test(start_paused = true)]
async fn broadcasts_come_in_order_on_each_wire_that_can_carry_them() {
    let mesh = with_little_room().start().await.unwrap();
    let _ = broadcast_to_each_wire(&mesh).await;
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_hook_is_told_each_payload_with_a_nonce_and_without() {
    let told = Told::default();
    let app = with_little_room().plugin(Hook(Arc::clone(&told)));
    let mesh = app.start().await.unwrap();
    let _ = broadcast_to_each_wire(&mesh).await;
    let told = told.lock().unwrap();
    let (with, without): (Vec<_>, Vec<_>) = told.iter().partition(|(nonce, _)| nonce.is_some());
    for told in [with, without] {
        assert!(told.iter().map(|(_, payload)| payload).eq(&payloads()));
    }
}

#[tokio::test(start_paused = true)]
async fn an_iterator_that_has_ended_is_not_asked_for_another_payload() {
    let mesh = App::new().start().await.unwrap();
    let mut peer = join(&mesh, PIPE).await;
    // It would go on after its end.
    let payloads = ["one", "bad", "two", "three"];
    let until_bad = payloads
        .into_iter()
        .map_while(|payload| (payload != "bad").then_some(payload));
    let sent = mesh.peers().broadcast_payloads(until_bad).await.unwrap();
    assert_eq!(sent.queued, 1);
    assert_eq!(peer.recv_frame().await.expect("one frame").payload, "one");
}

const PEERS: u64 = 6;
const FRAMES_OF_A_PEER: u64 = 20_000;
const FRAMES_OF_A_WRITE: u64 = 500;

/// Sends this peer's broadcasts, which no other peer has the nonces of.
async fn send_frames(mut peer: ByHand<DuplexStream>, number: u64) -> ByHand<DuplexStream> {
    let first = number * FRAMES_OF_A_PEER;
    for write in 0..FRAMES_OF_A_PEER / FRAMES_OF_A_WRITE {
        let packets: Vec<_> = (0..FRAMES_OF_A_WRITE)
            .map(|at| {
                let nonce = first + write * FRAMES_OF_A_WRITE + at;
                packet(Kind::Broadcast { nonce }, vec![0; (at % 50) as usize])
            })
            .collect();
        let bytes = on_the_wire(&packets);
        let io = peer.framed.get_mut();
        io.write_all(&bytes).await.expect("a node that reads");
    }
    peer
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Steady,
    /// Lets others go first now and then.
    Slow,
    /// Is dropped, and comes back, now and then.
    ComesAndGoes,
}

async fn read_frames(mesh: Mesh, manner: Manner, nonces: mpsc::UnboundedSender<u64>) {
    let mut reader = mesh.reader();
    let mut count = 0_u64;
    while let Some(frame) = reader.next_frame().await {
        let nonce = frame.nonce().expect("a broadcast");
        if nonces.send(nonce).is_err() {
            break;
        }
        count += 1;
        if manner == Manner::ComesAndGoes && count.is_multiple_of(1000) {
            drop(reader);
            tokio::task::yield_now().await;
            reader = mesh.reader();
        }
        if manner == Manner::Slow && count.is_multiple_of(777) {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Takes those that came together together, but not always all of them.
async fn read_together(mesh: Mesh, nonces: mpsc::UnboundedSender<u64>) {
    let mut reader = mesh.reader();
    while let Some(frames) = reader.next_frames().await {
        for frame in frames.take(100) {
            let Kind::Broadcast { nonce } = frame.kind() else {
                panic!("a broadcast, and no {frame:?}");
            };
            if nonces.send(nonce).is_err() {
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_frame_comes_to_one_reader_however_little_room_there_is() {
    for inbox in [1, 2000, 200_000] {
        let app = App::new().configure(|config| config.inbox = inbox);
        let mesh = app.start().await.unwrap();
        // Reads nothing. While it is there, others may come and go, and nothing is discarded.
        let _keeps = mesh.reader();
        let (sender, mut nonces) = mpsc::unbounded_channel();
        let mut tasks = tokio::task::JoinSet::new();
        for manner in [Manner::ComesAndGoes, Manner::Slow, Manner::Steady] {
            tasks.spawn(read_frames(mesh.clone(), manner, sender.clone()));
        }
        tasks.spawn(read_together(mesh.clone(), sender.clone()));
        let mut sending = Vec::new();
        for number in 0..PEERS {
            let peer = join(&mesh, PIPE).await;
            sending.push(tokio::spawn(send_frames(peer, number)));
        }
        let mut seen = BTreeSet::new();
        while (seen.len() as u64) < PEERS * FRAMES_OF_A_PEER {
            let nonce = soon("a frame to read", nonces.recv()).await;
            let nonce = nonce.expect("readers that go on");
            assert!(seen.insert(nonce), "frame {nonce} was read twice");
        }
        for sending in sending {
            sending.await.expect("all was sent");
        }
        assert_eq!(mesh.stats().delivered, PEERS * FRAMES_OF_A_PEER);
    }
}

#[tokio::test]
async fn lines_longer_than_a_buffer_come_whole() {
    for len in [1000, 100_000, 131_200, 200_000, 900_000] {
        let mesh = App::new().start().await.unwrap();
        let mut reader = mesh.reader();
        let mut io = join_wire(&mesh, Wire::lines(), 64 * 1024).await;
        let mut line = vec![b'x'; len];
        line.push(b'\n');
        let written = tokio::spawn(async move {
            io.write_all(&line).await.expect("a node that reads");
            io
        });
        let frame = soon("a line", reader.next_frame()).await;
        assert_eq!(frame.expect("a frame").payload().len(), len);
        drop(written.await.unwrap());
    }
}

#[tokio::test]
async fn frames_are_lent_in_order_as_they_are_and_as_layers_made_them() {
    const FRAMES: u64 = 3000;
    // Some frames stay as they were read, in longer and shorter runs, and some have another
    // payload.
    let changes = |nonce: u64| nonce % 10 == 3 || nonce % 1000 > 900;
    let app = App::new().layer(MapRequestLayer::new(move |mut frame: Frame| {
        if frame.nonce().is_some_and(changes) {
            frame.set_payload("changed");
        }
        frame
    }));
    let mesh = app.start().await.unwrap();
    let mut reader = mesh.reader();
    let mut peer = join(&mesh, PIPE).await;
    let packets: Vec<_> = (0..FRAMES)
        .map(|nonce| packet(Kind::Broadcast { nonce }, nonce.to_string()))
        .collect();
    let bytes = on_the_wire(&packets);
    peer.framed.get_mut().write_all(&bytes).await.unwrap();

    let mut next = 0;
    let mut check = |kind: Kind, payload: &[u8]| {
        let Kind::Broadcast { nonce } = kind else {
            panic!("sent as {kind:?}");
        };
        assert_eq!(nonce, next);
        next += 1;
        let expected = if changes(nonce) {
            "changed".to_owned()
        } else {
            nonce.to_string()
        };
        assert_eq!(payload, expected.as_bytes());
        next
    };
    let mut kept = Vec::new();
    let mut read = 0;
    while read < FRAMES {
        let frames = soon("frames", reader.next_frames()).await;
        let frames = frames.expect("a mesh that goes on");
        assert!(frames.len() > 0);
        // Not all: the rest comes next.
        for frame in frames.take(37) {
            assert_eq!(frame.peer().wire(), &Wire::native());
            read = check(frame.kind(), frame.payload());
            if read.is_multiple_of(7) {
                kept.push((read - 1, frame.into_frame()));
            }
        }
        if read < FRAMES {
            let frame = soon("a frame", reader.next_frame()).await.unwrap();
            read = check(frame.kind(), frame.payload());
        }
    }
    assert!(reader.try_next_frame().is_none());
    for (nonce, frame) in kept {
        assert_eq!(frame.nonce(), Some(nonce));
        assert_eq!(frame.payload() == b"changed", changes(nonce));
    }
    drop(peer);
    mesh.shutdown().await;
    assert!(soon("the end", reader.next_frames()).await.is_none());
}
