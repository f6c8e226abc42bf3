//! What a node counts through the `metrics` facade.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use coalescent_core::connection::ConnectionInfo;
use coalescent_core::wire::{Kind, Status, Wire};
use coalescent_core::{App, AppExt, BoxError, Config, Flow, Frame, Mesh, Reply};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use support::{ByHand, RelayLayer, handle, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What the recorder has, summed up over its snapshots: taking one sets them back to nothing.
struct Seen {
    snapshotter: Snapshotter,
    values: HashMap<String, f64>,
}

impl Seen {
    /// Looks at a metric, written as Prometheus writes it. A histogram is the number of its values.
    fn get(&mut self, name: &str) -> f64 {
        for (key, _, _, value) in self.snapshotter.snapshot().into_vec() {
            let (_, key) = key.into_parts();
            let labels: Vec<_> = key
                .labels()
                .map(|label| format!("{}={}", label.key(), label.value()))
                .collect();
            let key = if labels.is_empty() {
                key.name().to_owned()
            } else {
                format!("{}{{{}}}", key.name(), labels.join(","))
            };
            let slot = self.values.entry(key).or_default();
            match value {
                DebugValue::Counter(more) => *slot += more as f64,
                DebugValue::Gauge(more) => *slot += more.into_inner(),
                DebugValue::Histogram(more) => *slot += more.len() as f64,
            }
        }
        self.values.get(name).copied().unwrap_or_default()
    }

    async fn reaches(&mut self, name: &str, value: f64) {
        until(name, || self.get(name) == value).await;
        // Neither too few nor, a little later, too many.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(self.get(name), value, "{name}");
    }
}

/// Runs a test on this thread alone, with a recorder of its own, on a paused clock.
fn metered<Fut: Future<Output = ()>>(test: impl FnOnce(Seen) -> Fut) {
    let recorder = DebuggingRecorder::new();
    let seen = Seen {
        snapshotter: recorder.snapshotter(),
        values: HashMap::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    metrics::with_local_recorder(&recorder, || runtime.block_on(test(seen)));
}

async fn join(mesh: &Mesh) -> ByHand<tokio::io::DuplexStream> {
    let (here, there) = tokio::io::duplex(1024 * 1024);
    let (adopted, peer) = tokio::join!(
        mesh.adopt(there, ConnectionInfo::inbound()),
        ByHand::connect(here)
    );
    adopted.expect("a peer");
    peer
}

#[test]
fn frames_and_bytes_are_counted_both_ways() {
    metered(|mut seen| async move {
        let mesh = App::new()
            .with(RelayLayer(Flow::Drop))
            .start()
            .await
            .unwrap();
        let mut alice = join(&mesh).await;
        let mut bob = join(&mesh).await;
        seen.reaches("coalescent_peers{direction=inbound}", 2.0)
            .await;
        assert_eq!(
            seen.get("coalescent_peers_connected_total{direction=inbound}"),
            2.0
        );

        for nonce in 0..100 {
            alice.send(Kind::Broadcast { nonce }, "beep").await;
        }
        alice.send(Kind::Unknown(0x7f), "").await;
        alice.send(Kind::Data, "boop").await;
        for _ in 0..100 {
            assert_eq!(bob.recv_frame().await.unwrap().payload, "beep");
        }
        let sent = mesh.broadcast_payload("from here").await.unwrap();
        assert_eq!(sent.queued, 2);
        mesh.peers().flushed().await;

        seen.reaches("coalescent_frames_received_total", 101.0)
            .await;
        seen.reaches("coalescent_frames_delivered_total", 101.0)
            .await;
        seen.reaches("coalescent_frames_relayed_total", 100.0).await;
        seen.reaches("coalescent_frames_sent_total", 2.0).await;
        seen.reaches("coalescent_frames_unknown_total", 1.0).await;
        assert_eq!(seen.get("coalescent_queued_bytes"), 0.0);

        // Each broadcast stands as 4 + 2 + 8 bytes and its payload; DATA as 4 + 2 and its payload.
        let beeps = 100.0 * (14.0 + 4.0);
        let received = beeps + 6.0 + (6.0 + 4.0);
        let sent = beeps + 2.0 * (14.0 + 9.0);
        seen.reaches("coalescent_received_bytes_total", received)
            .await;
        seen.reaches("coalescent_sent_bytes_total", sent).await;
        let stats = mesh.stats();
        assert_eq!(stats.bytes_received as f64, received);
        assert_eq!(stats.bytes_sent as f64, sent);

        for channels in ["sent", "received", "dropped"] {
            let name = format!("coalescent_channel_frames_{channels}_total");
            assert_eq!(seen.get(&name), 0.0);
        }

        drop(alice);
        seen.reaches("coalescent_peers{direction=inbound}", 1.0)
            .await;
        assert_eq!(
            seen.get("coalescent_peers_disconnected_total{reason=closed}"),
            1.0
        );
        mesh.shutdown().await;
        assert_eq!(seen.get("coalescent_peers{direction=inbound}"), 0.0);
        assert_eq!(
            seen.get("coalescent_peers_disconnected_total{reason=shutdown}"),
            1.0
        );
    });
}

#[test]
fn what_waits_and_what_is_lost_is_counted() {
    metered(|mut seen| async move {
        let mut config = Config::default();
        config.outbox = 64 * 1024;
        config.wire = Wire::lines();
        let mesh = App::from_config(config).start().await.unwrap();
        let (mut slow, there) = tokio::io::duplex(1024);
        let peer = mesh.adopt(there, ConnectionInfo::inbound()).await.unwrap();

        // What the peer does not read waits, and then there is no room.
        while mesh
            .peers()
            .try_broadcast_payload(vec![b'x'; 1000])
            .unwrap()
            .dropped
            == 0
        {}
        let dropped = "coalescent_frames_dropped_total{reason=full}";
        assert_eq!(seen.get(dropped), 1.0);
        assert_eq!(seen.get("coalescent_queued_bytes"), peer.queued() as f64);
        assert!(peer.queued() > 32 * 1024);

        // A frame that its wire has no place for, while that of another peer has.
        let (_other, there) = tokio::io::duplex(64 * 1024);
        let raw = ConnectionInfo::inbound().wire(Wire::raw());
        let other = mesh.adopt(there, raw).await.unwrap();
        let sent = mesh.broadcast_payload("two\nlines").await.unwrap();
        assert_eq!((sent.queued, sent.dropped), (1, 1));
        until("it is written", || other.queued() == 0).await;
        let unencodable = "coalescent_frames_dropped_total{reason=unencodable}";
        assert_eq!(seen.get(unencodable), 1.0);
        assert_eq!(seen.get("coalescent_errors_total"), 1.0);

        // What it reads no longer waits.
        let mut taken = vec![0; 16 * 1024];
        slow.read_exact(&mut taken).await.unwrap();
        until("room", || peer.queued() < 52 * 1024).await;
        assert_eq!(seen.get("coalescent_queued_bytes"), peer.queued() as f64);

        // And what it never will is lost.
        drop(slow);
        peer.closed().await;
        let lost = "coalescent_frames_dropped_total{reason=disconnected}";
        until("lost frames", || seen.get(lost) > 0.0).await;
        assert_eq!(
            seen.get(dropped) + seen.get(unencodable) + seen.get(lost),
            mesh.stats().dropped as f64
        );
        assert_eq!(seen.get("coalescent_queued_bytes"), 0.0);
    });
}

#[test]
fn a_duplicate_is_counted() {
    metered(|mut seen| async move {
        let duplicate = handle(|frame: Frame| async move {
            frame.count_duplicate();
            Ok::<_, BoxError>(Reply::None)
        });
        let mesh = App::new().with(duplicate).start().await.unwrap();
        let mut alice = join(&mesh).await;
        alice.send(Kind::Broadcast { nonce: 1 }, "beep").await;
        seen.reaches("coalescent_frames_duplicate_total", 1.0).await;
    });
}

#[test]
fn round_trips_and_requests_are_timed() {
    metered(|mut seen| async move {
        let mut config = Config::default();
        config.ping_every = Duration::from_secs(5);
        let mesh = App::from_config(config).start().await.unwrap();
        let mut alice = join(&mesh).await;
        let peer = mesh.peers().list()[0].clone();
        assert_eq!(peer.round_trip(), None);

        // After a silence it asks; the peer takes its time.
        let ping = alice.recv().await.unwrap();
        assert_eq!(ping.kind, Kind::Ping);
        tokio::time::sleep(Duration::from_millis(250)).await;
        alice
            .send(Kind::Pong, Bytes::from_static(b"forgery!"))
            .await;
        tokio::time::sleep(Duration::from_millis(250)).await;
        alice.send(Kind::Pong, ping.payload.clone()).await;
        until("an answer", || peer.round_trip().is_some()).await;
        let took = peer.round_trip().unwrap();
        assert!(took >= Duration::from_millis(500), "{took:?}");
        assert!(took < Duration::from_millis(600), "{took:?}");
        // Only the first answer counts.
        alice.send(Kind::Pong, ping.payload).await;
        seen.reaches("coalescent_round_trip_seconds", 1.0).await;

        for (status, outcome) in [(Status::Ok, "ok"), (Status::NoAnswer, "failed")] {
            let (reply, ()) = tokio::join!(peer.request_payload("?"), async {
                let Kind::Request { id } = alice.recv_frame().await.unwrap().kind else {
                    panic!("a request");
                };
                alice.send(Kind::Reply { id, status }, "!").await;
            });
            assert_eq!(reply.is_ok(), status == Status::Ok);
            let name = format!("coalescent_request_seconds{{outcome={outcome}}}");
            assert_eq!(seen.get(&name), 1.0);
        }
    });
}

#[test]
fn a_goodbye_is_a_reason_of_its_own() {
    metered(|mut seen| async move {
        let mesh = App::new().start().await.unwrap();
        let mut alice = join(&mesh).await;
        alice.send(Kind::Bye, "words of the peer's own").await;
        alice.framed.get_mut().shutdown().await.unwrap();
        seen.reaches("coalescent_peers_disconnected_total{reason=bye}", 1.0)
            .await;
    });
}

/// Knows one channel, and drops what comes over it.
struct Deaf;

impl coalescent_core::Plugin for Deaf {
    fn register(&self, app: &mut coalescent_core::Registrar) {
        app.channel("x/1", |_, _| async {});
    }
}

#[test]
fn frames_of_channels_are_counted_apart() {
    metered(|mut seen| async move {
        let network = coalescent_core::transport::Memory::new();
        let app = || App::new().plugin(Deaf).transport(network.clone());
        let alice = app().listen("alice:1").await.unwrap();
        let bob = app().start().await.unwrap();
        let peer = bob.connect("alice:1").await.unwrap();
        for _ in 0..3 {
            peer.send_on("x/1", "beep").await.unwrap();
        }
        until("all have arrived", || alice.stats().channel_received == 3).await;
        bob.shutdown().await;
        alice.shutdown().await;
        seen.reaches("coalescent_channel_frames_sent_total", 3.0)
            .await;
        seen.reaches("coalescent_channel_frames_received_total", 3.0)
            .await;
        assert_eq!(seen.get("coalescent_frames_received_total"), 0.0);
    });
}
