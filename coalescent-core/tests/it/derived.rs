//! Layers that make many frames of one.

use std::collections::BTreeSet;

use coalescent_core::wire::{Kind, Status};
use coalescent_core::{App, BoxError, Flow, Frame, Inbox, Mesh, PeerLayer, Reply, test_util};
use support::{ByHand, RelayLayer, handle, join, packet, soon, until};
use tokio::io::DuplexStream;
use tower::{Layer, Service, ServiceExt};

use crate::calls::{PIPE, RELAY, around, deliver, read};

/// How the tests split frames.
#[derive(Clone, Copy, Debug)]
enum How {
    /// All lines in one poll.
    AtOnce,
    /// With a wait before each line.
    Waiting,
    /// As `AtOnce`, and the frame itself goes on as well.
    WithWhole,
}

/// A layer that calls what is inside of it with each line of a frame.
fn split<L>(how: How, inner: L) -> impl PeerLayer
where
    L: Layer<Inbox> + Send + Sync + 'static,
    L::Service: Service<Frame, Response = Reply, Error: Into<BoxError> + Send, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    tower::layer::layer_fn(move |inbox: Inbox| {
        let inner = inner.layer(inbox);
        tower::service_fn(move |frame: Frame| {
            let mut inner = inner.clone();
            async move {
                let mut reply = Reply::None;
                let payload = frame.payload_bytes();
                for line in payload.split(|byte| *byte == b'\n') {
                    if let How::Waiting = how {
                        tokio::task::yield_now().await;
                    }
                    let line = frame.derive(payload.slice_ref(line));
                    let service = inner.ready().await.map_err(Into::into)?;
                    reply = reply.or(service.call(line).await.map_err(Into::into)?);
                }
                if let How::WithWhole = how {
                    let service = inner.ready().await.map_err(Into::into)?;
                    reply = reply.or(service.call(frame).await.map_err(Into::into)?);
                }
                Ok::<_, BoxError>(reply)
            }
        })
    })
}

async fn two_peers(mesh: &Mesh) -> (ByHand<DuplexStream>, ByHand<DuplexStream>) {
    (join(mesh, PIPE).await, join(mesh, PIPE).await)
}

#[tokio::test(start_paused = true)]
async fn each_part_is_relayed_and_read_and_counted_as_a_frame_of_its_own() {
    for how in [How::AtOnce, How::Waiting, How::WithWhole] {
        let layer = split(how, RelayLayer(Flow::Wait));
        let mesh = App::new().layer(layer).start().await.unwrap();
        let mut reader = mesh.reader();
        let (mut source, mut far) = two_peers(&mesh).await;
        let mut expected = Vec::new();
        for nonce in 0..50u64 {
            let whole = format!("{nonce} one\n{nonce} two\n{nonce} two");
            source.send(Kind::Broadcast { nonce }, whole.clone()).await;
            expected.extend(whole.split('\n').map(str::to_owned));
            if let How::WithWhole = how {
                expected.push(whole);
            }
        }
        let mut nonces = BTreeSet::new();
        let mut heard = Vec::new();
        let mut frames = Vec::new();
        for _ in &expected {
            let packet = far.recv_frame().await.expect("a relayed frame");
            let Kind::Broadcast { nonce } = packet.kind else {
                panic!("relayed as {:?}", packet.kind);
            };
            assert_eq!(packet.ttl, sent_ttl() - 1);
            assert!(nonces.insert(nonce), "each has a nonce of its own");
            heard.push(String::from_utf8(packet.payload.to_vec()).unwrap());
            frames.push(String::from_utf8(read(&mut reader).await.payload().to_vec()).unwrap());
        }
        if let How::Waiting = how {
            heard.sort();
            frames.sort();
            expected.sort();
        }
        assert_eq!(heard, expected, "{how:?}");
        assert_eq!(frames, expected, "{how:?}");
        let stats = mesh.stats();
        let count = expected.len() as u64;
        assert_eq!(
            (stats.received, stats.relayed, stats.dropped),
            (count, count, 0),
            "{how:?}"
        );
        assert_eq!(stats.delivered, count);
    }
}

/// The ttl of the broadcasts that the tests send.
fn sent_ttl() -> u8 {
    packet(Kind::Broadcast { nonce: 0 }, "").ttl
}

#[tokio::test(start_paused = true)]
async fn parts_without_a_relay_inside_change_no_counter() {
    let relay_whole = split(How::AtOnce, tower::layer::util::Identity::new());
    let layer = tower::layer::util::Stack::new(relay_whole, RelayLayer(Flow::Wait));
    let mesh = App::new().layer(layer).start().await.unwrap();
    let (mut source, mut far) = two_peers(&mesh).await;
    source.send(Kind::Broadcast { nonce: 1 }, "a\nb\nc").await;
    let heard = far.recv_frame().await.expect("a relayed frame");
    assert_eq!(
        (heard.kind, &heard.payload[..]),
        (Kind::Broadcast { nonce: 1 }, &b"a\nb\nc"[..])
    );
    until("all is delivered", || mesh.stats().delivered == 3).await;
    assert_eq!((mesh.stats().received, mesh.stats().relayed), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn duplicates_and_refused_ones_count_as_received_too() {
    let layer = around(|frame: Frame, _| async move {
        frame.derive("copy").count_duplicate();
        frame.derive("refused").count_refused();
        frame.derive("passed on").relay(RELAY);
        Ok(Reply::None)
    });
    let mesh = App::new().layer(layer).start().await.unwrap();
    let (mut source, mut far) = two_peers(&mesh).await;
    source.send(Kind::Broadcast { nonce: 1 }, "x").await;
    assert_eq!(far.recv_frame().await.unwrap().payload, "passed on");
    let stats = mesh.stats();
    assert_eq!(
        (
            stats.received,
            stats.relayed,
            stats.duplicates,
            stats.dropped
        ),
        (3, 1, 1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_part_is_relayed_once_however_often_that_is_asked_for() {
    let layer = around(|frame: Frame, _| async move {
        let part = frame.derive("part");
        for _ in 0..3 {
            assert!(part.clone().relay(RELAY));
            tokio::task::yield_now().await;
        }
        let other = part.clone();
        tokio::spawn(async move { assert!(other.relay(RELAY)) }).await?;
        Ok(Reply::None)
    });
    let mesh = App::new().layer(layer).start().await.unwrap();
    let (mut source, mut far) = two_peers(&mesh).await;
    for nonce in 0..3 {
        source.send(Kind::Broadcast { nonce }, "x").await;
        assert_eq!(far.recv_frame().await.unwrap().payload, "part");
    }
    until("the calls end", || mesh.stats().received == 3).await;
    assert_eq!(mesh.stats().relayed, 3);
}

#[tokio::test(start_paused = true)]
async fn a_part_can_be_relayed_from_another_task() {
    let layer = around(|frame: Frame, _| async move {
        let parts = ["a", "b"].map(|part| frame.derive(part));
        tokio::spawn(async move {
            for part in parts {
                assert!(part.relay(RELAY));
            }
        })
        .await?;
        Ok(Reply::None)
    });
    let mesh = App::new().layer(layer).start().await.unwrap();
    let (mut source, mut far) = two_peers(&mesh).await;
    source.send(Kind::Broadcast { nonce: 1 }, "x").await;
    for part in ["a", "b"] {
        assert_eq!(far.recv_frame().await.unwrap().payload, part);
    }
    until("it is counted", || mesh.stats().received == 2).await;
    assert_eq!(mesh.stats().relayed, 2);
}

#[tokio::test(start_paused = true)]
async fn parts_of_a_request_are_requests_and_the_layer_chooses_the_reply() {
    let answer = handle(|frame: Frame| async move {
        assert!(frame.is_request() && !frame.relay(RELAY));
        Ok(match frame.payload() {
            b"?" => Reply::None,
            other => Reply::Payload(other.to_vec().into()),
        })
    });
    let mesh = App::new().layer(split(How::Waiting, answer));
    let mesh = mesh.start().await.unwrap();
    let mut peer = join(&mesh, PIPE).await;
    peer.send(Kind::Request { id: 7 }, "?\nsecond\nthird").await;
    let reply = soon("a reply", peer.recv()).await.unwrap();
    let status = Status::Ok;
    assert_eq!(reply.kind, Kind::Reply { id: 7, status });
    assert_eq!(reply.payload, "second");
}

#[tokio::test(start_paused = true)]
async fn parts_of_what_was_sent_to_this_node_alone_are_broadcasts_where_a_relay_says_so() {
    let layer = around(|frame: Frame, mut inbox: Inbox| async move {
        for part in ["a", "b"] {
            let part = frame.derive(part);
            assert!(!part.relay(RELAY));
            assert!(part.relay(RELAY.direct(true)));
            deliver(&mut inbox, part).await?;
        }
        Ok(Reply::None)
    });
    let mesh = App::new().layer(layer).start().await.unwrap();
    let mut reader = mesh.reader();
    let (mut source, mut far) = two_peers(&mesh).await;
    source.send(Kind::Data, "x").await;
    for part in ["a", "b"] {
        let heard = far.recv_frame().await.unwrap();
        assert!(matches!(heard.kind, Kind::Broadcast { .. }));
        assert_eq!(heard.payload, part);
        assert_eq!(read(&mut reader).await.payload(), part.as_bytes());
    }
    assert_eq!((mesh.stats().received, mesh.stats().relayed), (2, 2));
}

#[test]
fn a_derived_frame_keeps_what_layers_attached_but_for_the_message() {
    let mut frame = test_util::frame(Kind::Broadcast { nonce: 3 }, "whole");
    frame.extensions_mut().insert("attached");
    frame.set_message(coalescent_core::Message::new("kind", &1));
    let part = frame.derive("part");
    assert_eq!(part.payload(), b"part");
    assert_eq!(part.extensions().get(), Some(&"attached"));
    assert!(part.message().is_none() && frame.message().is_some());
    assert_eq!((part.ttl(), part.arrived()), (frame.ttl(), frame.arrived()));
    assert_ne!(part.nonce(), frame.nonce());
    assert_eq!(part.clone().nonce(), part.nonce());
}
