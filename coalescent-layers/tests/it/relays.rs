//! Meshes of nodes that relay.

use std::time::Duration;

use coalescent_core::transport::Memory;
use coalescent_core::{App, AppExt, Mesh, MeshReader, PeerLayer};
use coalescent_layers::{Courier, MeshExt, SmartRelay, Tattletale};
use support::memory::{Lines, boop, heard, node, refuse};
use tokio::time::sleep;
use tower::util::MapRequestLayer;

/// Connects a row of nodes, each made by `app`, between two that do not relay; returns the first,
/// and the read sides of all.
async fn row<L: PeerLayer>(
    between: usize,
    app: impl Fn() -> App<L>,
) -> (Vec<Mesh>, Vec<MeshReader>) {
    let network = Memory::new();
    let mut meshes = vec![node(&network, "first:1", App::new()).await];
    for place in 1..=between {
        let mesh = node(&network, &format!("relay:{}", place + 1), app()).await;
        mesh.connect(&format!("before:{place}")).await.unwrap();
        meshes.push(mesh);
    }
    let last = node(&network, "last:100", App::new()).await;
    last.connect(&format!("before:{}", between + 1))
        .await
        .unwrap();
    meshes.push(last);
    let readers = meshes.iter().map(Mesh::reader).collect();
    (meshes, readers)
}

/// Connects four nodes, each made by `app`, in a circle.
async fn circle<L: PeerLayer>(app: impl Fn() -> App<L>) -> (Vec<Mesh>, Vec<MeshReader>) {
    let network = Memory::new();
    let mut meshes = Vec::new();
    for port in 1..=4 {
        meshes.push(node(&network, &format!("node:{port}"), app()).await);
    }
    for (mesh, next) in meshes.iter().zip([2, 3, 4, 1]) {
        mesh.connect(&format!("next:{next}")).await.unwrap();
    }
    let readers = meshes.iter().map(Mesh::reader).collect();
    (meshes, readers)
}

#[tokio::test(start_paused = true)]
async fn a_frame_goes_through_a_row_of_tattletales() {
    let (meshes, mut readers) = row(3, || App::new().with(Tattletale::new())).await;
    let _ = meshes[0].broadcast_payload("beep").await.unwrap();
    let _ = meshes[4].broadcast_payload("boop").await.unwrap();
    for (place, reader) in readers.iter_mut().enumerate() {
        let mut expected = vec!["beep", "boop"];
        expected.retain(|said| (*said, place) != ("beep", 0) && (*said, place) != ("boop", 4));
        let mut heard = heard(reader).await;
        heard.sort();
        assert_eq!(heard, expected, "at {place}");
    }
    assert_eq!(meshes[2].stats().relayed, 2);
}

/// What a hub made by `app` does with many broadcasts of this ttl: what a subscriber hears, what is
/// read of the hub, and what it has counted.
async fn hub_of<L: PeerLayer>(
    app: App<L>,
    ttl: u8,
    is_read: bool,
) -> (Vec<String>, Vec<String>, u64, u64) {
    let network = Memory::new();
    let hub = node(&network, "hub:1", app).await;
    let mut read = is_read.then(|| hub.reader());
    let subscriber = node(&network, "subscriber:2", App::new()).await;
    let mut reader = subscriber.reader();
    subscriber.connect("hub:1").await.unwrap();
    let publisher = App::new().configure(|config| config.ttl = ttl);
    let publisher = node(&network, "publisher:3", publisher).await;
    publisher.connect("hub:1").await.unwrap();
    let _ = publisher
        .broadcast_payloads((0..MANY).map(|number| number.to_string()))
        .await
        .unwrap();
    let relayed = heard(&mut reader).await;
    let kept = match &mut read {
        Some(read) => heard(read).await,
        None => Vec::new(),
    };
    let stats = hub.stats();
    (relayed, kept, stats.delivered, stats.relayed)
}

const MANY: u64 = 2000;

#[tokio::test(start_paused = true)]
async fn a_tattletale_that_is_all_there_is_does_what_it_does_when_it_is_called() {
    let all: Vec<_> = (0..MANY).map(|number| number.to_string()).collect();
    for is_read in [false, true] {
        let kept = if is_read { all.clone() } else { Vec::new() };
        for (ttl, relayed, count) in [(2, all.clone(), MANY), (1, Vec::new(), 0)] {
            let expected = (relayed, kept.clone(), MANY, count);
            // As a plugin it may be passed over, and as a mere layer it is called with each frame.
            let with = hub_of(App::new().with(Tattletale::new()), ttl, is_read).await;
            assert_eq!(with, expected, "ttl {ttl}, read: {is_read}");
            let called = hub_of(App::new().layer(Tattletale::new()), ttl, is_read).await;
            assert_eq!(called, expected, "called, ttl {ttl}, read: {is_read}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_to_one_node_stays_there_unless_told_otherwise() {
    for direct in [false, true] {
        let relay = || App::new().with(Tattletale::new().direct(direct));
        let (meshes, mut readers) = row(1, relay).await;
        let peer = meshes[0].peers().list()[0].clone();
        peer.send_payload("beep").await.unwrap();
        assert_eq!(heard(&mut readers[1]).await, ["beep"]);
        assert_eq!(heard(&mut readers[2]).await.len(), usize::from(direct));
    }

    let (meshes, mut readers) = circle(|| App::new().with(SmartRelay::new())).await;
    let peer = meshes[0].peers().list()[0].clone();
    for _ in 0..2 {
        peer.send_payload("beep").await.unwrap();
    }
    let mut all = 0;
    for reader in &mut readers {
        all += heard(reader).await.len();
    }
    assert_eq!(all, 2, "twice at one node");

    let (meshes, mut readers) = circle(|| App::new().with(SmartRelay::new().direct(true))).await;
    meshes[0].peers().list()[0]
        .send_payload("beep")
        .await
        .unwrap();
    let mut all = Vec::new();
    for reader in &mut readers {
        all.push(heard(reader).await.len());
    }
    all.sort_unstable();
    // The one it was sent to passes it on as a broadcast of its own, to the author too.
    assert_eq!(all, [1, 1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn in_a_circle_each_broadcast_is_heard_once_by_all_the_others() {
    let (meshes, mut readers) = circle(|| App::new().with(SmartRelay::new())).await;
    for said in ["beep", "beep", "boop"] {
        assert_eq!(meshes[0].broadcast_payload(said).await.unwrap().queued, 2);
    }
    let _ = meshes[2].broadcast_payload("from afar").await.unwrap();
    for (place, reader) in readers.iter_mut().enumerate() {
        let mut heard = heard(reader).await;
        heard.sort();
        let expected: &[&str] = match place {
            0 => &["from afar"],
            2 => &["beep", "beep", "boop"],
            _ => &["beep", "beep", "boop", "from afar"],
        };
        assert_eq!(heard, expected, "at {place}");
    }
    let mut duplicates = 0;
    for mesh in &meshes {
        let stats = mesh.shutdown().await;
        assert_eq!(stats.dropped, 0);
        assert_eq!(stats.received, stats.delivered + stats.duplicates);
        duplicates += stats.duplicates;
    }
    // Of each frame, the two copies meet at the far side or beyond it: two are one too many on a
    // circle of 4.
    assert_eq!(duplicates, 8);
}

#[tokio::test(start_paused = true)]
async fn equal_lines_are_as_many_as_one_peer_says_within_five_seconds() {
    let mesh = node(&Memory::new(), "hub:1", App::new().with(SmartRelay::new())).await;
    let mut reader = mesh.reader();
    let (mut alice, _) = Lines::connect(&mesh).await;
    let (mut bob, _) = Lines::connect(&mesh).await;

    alice.say("beep\nbeep\nboop\n").await;
    assert_eq!(bob.heard().await, ["beep", "beep", "boop"]);
    assert_eq!(heard(&mut reader).await, ["beep", "beep", "boop"]);
    bob.say("beep\nbeep\n").await;
    assert!(alice.heard().await.is_empty(), "they are copies");
    bob.say("beep\n").await;
    assert_eq!(alice.heard().await, ["beep"]);
    assert_eq!(heard(&mut reader).await, ["beep"]);

    sleep(Duration::from_secs(5)).await;
    alice.say("beep\n").await;
    assert_eq!(bob.heard().await, ["beep"]);
    assert_eq!(heard(&mut reader).await, ["beep"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_node_tells_lines_peers_does_not_come_back_to_it() {
    let mesh = node(&Memory::new(), "hub:1", App::new().with(SmartRelay::new())).await;
    let mut reader = mesh.reader();
    let (mut echo, _) = Lines::connect(&mesh).await;
    let (mut bob, _) = Lines::connect(&mesh).await;
    let _ = mesh.broadcast_payload("beep").await.unwrap();
    assert_eq!(echo.heard().await, ["beep"]);
    echo.say("beep\n").await;
    assert_eq!(bob.heard().await, ["beep"], "once, from the hub");
    assert!(heard(&mut reader).await.is_empty());
    assert_eq!(mesh.stats().duplicates, 1);
}

#[tokio::test(start_paused = true)]
async fn a_relay_after_the_rest_passes_on_only_what_was_accepted() {
    macro_rules! through {
        ($relay:expr) => {{
            let (meshes, mut readers) =
                row(1, || App::new().with($relay).layer(refuse("bad"))).await;
            for said in ["good", "bad", "better"] {
                let _ = meshes[0].broadcast_payload(said).await.unwrap();
            }
            assert_eq!(heard(&mut readers[1]).await, ["good", "better"]);
            assert_eq!(meshes[1].peers().len(), 2, "an error is no reason to leave");
            heard(&mut readers[2]).await
        }};
    }
    assert_eq!(through!(Tattletale::new()), ["good", "bad", "better"]);
    assert_eq!(
        through!(Tattletale::new().relay_after()),
        ["good", "better"]
    );
    assert_eq!(through!(SmartRelay::new()), ["good", "bad", "better"]);
    assert_eq!(
        through!(SmartRelay::new().relay_after()),
        ["good", "better"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_relay_outside_the_courier_passes_on_all_and_inside_only_messages() {
    macro_rules! through {
        ($app:expr) => {{
            let (meshes, mut readers) = row(1, || $app).await;
            for said in [r#"{"type":"beep"}"#, "no message"] {
                let _ = meshes[0].broadcast_payload(said).await.unwrap();
            }
            heard(&mut readers[2]).await.len()
        }};
    }
    assert_eq!(
        through!(App::new().with(Tattletale::new()).with(Courier::json())),
        2
    );
    assert_eq!(
        through!(App::new().with(Courier::json()).with(Tattletale::new())),
        1
    );
    assert_eq!(
        through!(App::new().with(SmartRelay::new()).with(Courier::json())),
        2
    );
    assert_eq!(
        through!(App::new().with(Courier::json()).with(SmartRelay::new())),
        1
    );
    let after = SmartRelay::new().relay_after();
    assert_eq!(
        through!(App::new().with(after.clone()).with(Courier::json())),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn rewriting_outside_a_relay_is_relayed_and_inside_is_not() {
    macro_rules! through {
        ($app:expr) => {{
            let (meshes, mut readers) = row(2, || $app).await;
            let _ = meshes[0].broadcast_payload("beep").await.unwrap();
            assert_eq!(
                heard(&mut readers[1]).await,
                ["boop"],
                "either way the node itself"
            );
            heard(&mut readers[3]).await.join(" ")
        }};
    }
    let rewrite = || MapRequestLayer::new(boop);
    assert_eq!(
        through!(App::new().layer(rewrite()).with(Tattletale::new())),
        "boop"
    );
    assert_eq!(
        through!(App::new().with(Tattletale::new()).layer(rewrite())),
        "beep"
    );
    assert_eq!(
        through!(App::new().layer(rewrite()).with(SmartRelay::new())),
        "boop"
    );
    assert_eq!(
        through!(App::new().with(SmartRelay::new()).layer(rewrite())),
        "beep"
    );
}

#[tokio::test(start_paused = true)]
async fn one_node_that_rewrites_outside_its_relay_makes_two_frames_of_one() {
    let started = std::cell::Cell::new(0);
    // The second node of the four rewrites.
    let rewrite = || {
        started.set(started.get() + 1);
        let rewrites = started.get() % 4 == 2;
        MapRequestLayer::new(move |frame| if rewrites { boop(frame) } else { frame })
    };
    macro_rules! heard_in_circle {
        ($app:expr) => {{
            let (meshes, mut readers) = circle($app).await;
            let _ = meshes[0].broadcast_payload("beep").await.unwrap();
            let mut all = Vec::new();
            for reader in &mut readers {
                let mut heard = heard(reader).await;
                heard.sort();
                all.push(heard.join(" "));
            }
            all
        }};
    }
    let inside = heard_in_circle!(|| App::new().with(SmartRelay::new()).layer(rewrite()));
    assert_eq!(inside, ["", "boop", "beep", "beep"]);
    let outside = heard_in_circle!(|| App::new().layer(rewrite()).with(SmartRelay::new()));
    assert_eq!(outside, ["boop", "boop", "beep boop", "beep boop"]);
    // Where all rewrite alike, it is one frame.
    let alike = || MapRequestLayer::new(boop);
    let outside = heard_in_circle!(|| App::new().layer(alike()).with(SmartRelay::new()));
    assert_eq!(outside, ["", "boop", "boop", "boop"]);
}

#[tokio::test(start_paused = true)]
async fn messages_go_round_a_circle_once() {
    let app = || App::new().with(SmartRelay::new()).with(Courier::new());
    let (meshes, mut readers) = circle(app).await;
    for _ in 0..2 {
        let _ = meshes[0].broadcast("beep", &42).await.unwrap();
    }
    for (place, reader) in readers.iter_mut().enumerate() {
        let expected = if place == 0 { 0 } else { 2 };
        assert_eq!(heard(reader).await.len(), expected, "at {place}");
    }
}
