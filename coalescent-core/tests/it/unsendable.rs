//! Payloads that cannot be broadcast: an error if nobody could get them, and counted for those who
//! cannot if others can. And waiting for peers.

use bytes::Bytes;
use coalescent_core::connection::ConnectionInfo;
use coalescent_core::transport::Memory;
use coalescent_core::{App, DropReason, Error, Event, Mesh, Sent, Wire, report};
use futures_util::{FutureExt, SinkExt};
use support::soon;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const MAX: usize = 1000;
const BOTH: &str = "two\nlines";

/// Joins a peer on `wire`, which needs no handshake.
async fn join(mesh: &Mesh, wire: Wire) -> DuplexStream {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let info = ConnectionInfo::inbound().wire(wire);
    mesh.adopt(far, info).await.expect("a peer");
    near
}

async fn started() -> Mesh {
    App::new().max_frame(MAX).start().await.expect("it starts")
}

fn sent(queued: usize, dropped: usize) -> Sent {
    let mut sent = Sent::default();
    (sent.queued, sent.dropped) = (queued, dropped);
    sent
}

async fn read(io: &mut DuplexStream, expected: &str) {
    let mut bytes = vec![0; expected.len()];
    soon("so many bytes", io.read_exact(&mut bytes))
        .await
        .expect("so many bytes");
    assert_eq!(bytes, expected.as_bytes());
}

/// Broadcasts `payload` in each way.
async fn in_each_way(mesh: &Mesh, payload: &Bytes) -> [Result<Sent, Error>; 4] {
    [
        mesh.broadcast_payload(payload.clone()).await,
        mesh.broadcast_payloads([payload]).await,
        mesh.peers().try_broadcast_payload(payload.clone()),
        mesh.peers()
            .broadcast_payload_where(payload.clone(), |_| true)
            .await,
    ]
}

#[tokio::test]
async fn what_is_too_large_is_an_error_whoever_is_connected() {
    let mesh = started().await;
    let over = Bytes::from(vec![b'x'; MAX + 1]);
    let mut joined = Vec::new();
    for wires in [vec![], vec![Wire::raw()], vec![Wire::lines()]] {
        for wire in wires {
            joined.push(join(&mesh, wire).await);
        }
        for result in in_each_way(&mesh, &over).await {
            let error = result.unwrap_err();
            assert!(error.is_encode(), "{error}");
            assert!(
                error
                    .report()
                    .to_string()
                    .contains("larger than 1000 bytes"),
                "{error}"
            );
        }
        let all = mesh.peers().len();
        for result in in_each_way(&mesh, &over.slice(1..)).await {
            assert_eq!(result.unwrap(), sent(all, 0));
        }
    }
    mesh.peers().flushed().await;
    assert_eq!((mesh.stats().sent, mesh.stats().dropped), (4 + 8, 0));
}

#[tokio::test]
async fn what_no_wire_of_the_peers_carries_is_an_error_and_counted_for_nobody() {
    let mesh = started().await;
    let mut events = mesh.events();
    let newline = Bytes::from(BOTH);
    for result in in_each_way(&mesh, &newline).await {
        assert_eq!(result.unwrap(), sent(0, 0), "without peers");
    }
    let _lines = [
        join(&mesh, Wire::lines()).await,
        join(&mesh, Wire::lines()).await,
    ];
    for result in in_each_way(&mesh, &newline).await {
        let error = result.unwrap_err();
        assert!(error.is_encode(), "{error}");
        assert!(error.report().to_string().contains("newline"), "{error}");
    }
    assert_eq!((mesh.stats().sent, mesh.stats().dropped), (0, 0));
    while let Some(Some(event)) = events.next().now_or_never() {
        assert!(matches!(event, Event::PeerConnected { .. }), "{event:?}");
    }

    // Another's wire carries it: then it is lost for those two, which is counted.
    let mut raw = join(&mesh, Wire::raw()).await;
    for result in in_each_way(&mesh, &newline).await {
        assert_eq!(result.unwrap(), sent(1, 2));
        read(&mut raw, BOTH).await;
    }
    assert_eq!(mesh.stats().dropped, 8);
    let dropped = async {
        while let Some(event) = events.next().await {
            if let Event::Dropped { reason, .. } = event {
                return reason;
            }
        }
        panic!("no drop was told");
    };
    assert_eq!(soon("a drop", dropped).await, DropReason::Unencodable);

    // Only among those it is for.
    let to_lines = |peer: &coalescent_core::Peer| *peer.wire() == Wire::lines();
    let result = mesh.peers().broadcast_payload_where(newline, to_lines);
    assert!(result.await.unwrap_err().is_encode());
}

#[tokio::test]
async fn of_many_payloads_those_before_the_bad_one_are_sent_and_none_behind_it_is_taken() {
    let mesh = started().await;
    let mut lines = join(&mesh, Wire::lines()).await;
    for bad in [BOTH.to_owned(), "x".repeat(MAX + 1)] {
        let all = ["one".to_owned(), "two".to_owned(), bad, "three".to_owned()];
        let mut all = all.into_iter();
        let error = mesh.broadcast_payloads(all.by_ref()).await.unwrap_err();
        assert!(error.is_encode(), "{error}");
        read(&mut lines, "one\ntwo\n").await;
        assert_eq!(mesh.broadcast_payloads(all).await.unwrap(), sent(1, 0));
        read(&mut lines, "three\n").await;
    }
    assert_eq!(mesh.stats().dropped, 0);
}

#[tokio::test]
async fn a_writer_tells_what_it_cannot_send_and_sends_all_else() {
    let mesh = started().await;
    let mut lines = join(&mesh, Wire::lines()).await;
    let mut writer = mesh.writer();

    let over = Bytes::from(vec![b'x'; MAX + 1]);
    assert!(writer.feed(over).await.unwrap_err().is_encode());
    for text in ["one", BOTH, "two", BOTH, "three"] {
        writer.feed(Bytes::from(text)).await.unwrap();
    }
    let error = SinkExt::flush(&mut writer).await.unwrap_err();
    assert!(error.is_encode(), "{error}");
    read(&mut lines, "one\ntwo\nthree\n").await;
    SinkExt::flush(&mut writer).await.unwrap();
    assert_eq!(writer.sent(), sent(3, 0));

    let error = writer.write_all(BOTH.as_bytes()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    let error = report(&error).to_string();
    assert!(error.contains("newline"), "{error}");
    writer.write_all(b"four").await.unwrap();
    AsyncWriteExt::flush(&mut writer).await.unwrap();
    read(&mut lines, "four\n").await;
    assert_eq!((mesh.stats().sent, mesh.stats().dropped), (4, 0));
}

#[tokio::test]
async fn waiting_for_peers_ends_with_them_or_with_the_mesh() {
    let network = Memory::new();
    let app = || App::new().transport(network.clone());
    let hub = app().listen("hub:1").await.unwrap();
    hub.connected(0).await.unwrap();
    assert!(
        hub.connected(1).now_or_never().is_none(),
        "dropped, and no harm"
    );

    let waiting = tokio::spawn({
        let hub = hub.clone();
        async move { hub.connected(2).await }
    });
    let first = app().seeds(["hub:1"]).start().await.unwrap();
    soon("one", first.connected(1)).await.unwrap();
    soon("one here too", hub.connected(1)).await.unwrap();
    assert!(!waiting.is_finished());
    let second = app().start().await.unwrap();
    second.connect("hub:1").await.unwrap();
    soon("two", waiting).await.unwrap().unwrap();
    assert!(hub.connected(2).now_or_never().is_some());

    let waiting = tokio::spawn({
        let hub = hub.downgrade();
        async move { hub.upgrade().expect("it runs").connected(3).await }
    });
    tokio::task::yield_now().await;
    hub.shutdown().await;
    let error = soon("an end", waiting).await.unwrap().unwrap_err();
    assert!(error.is_closed(), "{error}");
    assert!(hub.connected(1).await.unwrap_err().is_closed());
}
