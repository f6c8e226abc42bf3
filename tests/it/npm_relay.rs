//! Relaying between peers of the Node original and ours: through ours, and through theirs.

use coalescent::{App, AppExt, Courier, Events, Mesh, MeshExt, SmartRelay, Tattletale, Wire};
use serde_json::json;
use support::mesh::{addr, connected, typed};
use support::{Cat, NpmPeer, npm_ready};

/// One of theirs, connected to us.
async fn join(events: &mut Events, ours: &str, options: &[&str]) -> NpmPeer {
    let npm = NpmPeer::start(&[options, &["--seed", ours]].concat());
    connected(events).await;
    npm.wait("peerConnected");
    npm
}

/// Says something at each of three Node peers around ours, twice: the others hear it, once each
/// time.
async fn around(mesh: Mesh) {
    let mut events = mesh.events();
    let ours = addr(&mesh);
    let mut peers = Vec::new();
    for _ in 0..3 {
        peers.push(join(&mut events, &ours, &["--use", "courier"]).await);
    }
    let mut reader = mesh.reader();
    for speaker in 0..peers.len() {
        for round in ["first", "second"] {
            let body = json!({ "speaker": speaker, "round": round });
            peers[speaker].command(&format!("broadcast beep {body}"));
            for (at, peer) in peers.iter().enumerate() {
                if at != speaker {
                    assert_eq!(peer.wait_message("beep"), body);
                }
            }
            assert_eq!(typed(&mut reader).await, ("beep".to_owned(), body));
        }
    }
    for peer in &mut peers {
        peer.assert_alive();
        let events = peer.process().stdout().all();
        let heard = events.iter().filter(|line| line.contains("\"data\""));
        assert_eq!(heard.count(), 4, "{events:#?}");
    }
    // What is heard is counted a moment later.
    while mesh.stats().relayed < 12 {
        tokio::task::yield_now().await;
    }
    let stats = mesh.stats();
    assert_eq!((stats.received, stats.delivered, stats.relayed), (6, 6, 12));
    assert_eq!((stats.duplicates, stats.dropped), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn node_peers_hear_each_other_through_our_tattletale() {
    if !npm_ready() {
        return;
    }
    let app = App::new().wire(Wire::lines()).with(Tattletale::new());
    let mesh = app.with(Courier::json()).listen("127.0.0.1:0").await;
    around(mesh.expect("it listens")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_peers_hear_each_other_through_our_smart_relay() {
    if !npm_ready() {
        return;
    }
    let app = App::new().wire(Wire::lines()).with(SmartRelay::new());
    let mesh = app.with(Courier::json()).listen("127.0.0.1:0").await;
    around(mesh.expect("it listens")).await;
}

async fn ours() -> Mesh {
    let app = App::new().wire(Wire::lines()).with(SmartRelay::new());
    let mesh = app.with(Courier::json()).listen("127.0.0.1:0").await;
    mesh.expect("it listens")
}

/// Ours – theirs – ours, with this relay of theirs.
async fn through(relay: &str) {
    let (first, last) = (ours().await, ours().await);
    let (mut to_first, mut to_last) = (first.reader(), last.reader());
    let (a, b) = (addr(&first), addr(&last));
    let stack = format!("{relay},courier");
    let mut npm = NpmPeer::start(&["--use", &stack, "--seed", &a, "--seed", &b]);
    connected(&mut first.events()).await;
    connected(&mut last.events()).await;
    npm.wait("peerConnected");
    npm.wait("peerConnected");

    for body in [json!({ "n": 1 }), json!({ "n": 2 })] {
        let sent = first.broadcast("there", &body).await.expect("a courier");
        assert_eq!(sent.queued, 1);
        assert_eq!(
            typed(&mut to_last).await,
            ("there".to_owned(), body.clone())
        );
        assert_eq!(npm.wait_message("there"), body);

        let sent = last.broadcast("back", &body).await.expect("a courier");
        assert_eq!(sent.queued, 1);
        assert_eq!(typed(&mut to_first).await, ("back".to_owned(), body));
    }
    // What it says itself reaches both, and neither sends it back.
    npm.command("broadcast own 3");
    assert_eq!(typed(&mut to_first).await, ("own".to_owned(), json!(3)));
    assert_eq!(typed(&mut to_last).await, ("own".to_owned(), json!(3)));
    npm.assert_alive();
    for mesh in [&first, &last] {
        let stats = mesh.stats();
        assert_eq!((stats.received, stats.sent), (3, 2), "{stats:?}");
        assert_eq!((stats.relayed, stats.duplicates), (0, 0), "{stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ours_hear_each_other_through_their_tattletale() {
    if npm_ready() {
        through("tattletale").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ours_hear_each_other_through_their_smart_relay() {
    if npm_ready() {
        through("smartrelay").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_smart_relay_ends_a_circle_with_two_of_theirs() {
    if !npm_ready() {
        return;
    }
    // Each of the three is connected to both others; their tattletale alone would never stop.
    let mesh = ours().await;
    let mut events = mesh.events();
    let mut reader = mesh.reader();
    let ours = addr(&mesh);
    let mut first = join(&mut events, &ours, &["--use", "smartrelay,courier"]).await;
    let seed = first.addr();
    let options = ["--use", "smartrelay,courier", "--seed", &seed];
    let second = join(&mut events, &ours, &options).await;
    second.wait("peerConnected");
    first.wait("peerConnected");

    first.command("broadcast beep 1");
    assert_eq!(second.wait_message("beep"), json!(1));
    assert_eq!(typed(&mut reader).await, ("beep".to_owned(), json!(1)));
    // Theirs remembers few hashes for each socket, so that a line may come round, and then counts
    // as said again: 64 times at most.
    first.command("broadcast end 2");
    let mut again = 0;
    loop {
        match typed(&mut reader).await {
            (kind, body) if kind == "beep" => {
                assert_eq!(body, json!(1));
                again += 1;
                assert!(again < 64, "it goes round");
            }
            end => break assert_eq!(end, ("end".to_owned(), json!(2))),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn node_peers_and_native_peers_talk_through_one_node() {
    if !npm_ready() {
        return;
    }
    let app = || App::new().with(SmartRelay::new()).with(Courier::json());
    let mesh = app().listen("127.0.0.1:0").await.expect("it listens");
    let lines = mesh.listen_wire("127.0.0.1:0", Wire::lines()).await;
    let lines = lines.expect("it listens").to_string();
    let mut events = mesh.events();
    let mut middle = mesh.reader();
    let native = app().start().await.expect("it starts");
    let mut reader = native.reader();
    native.connect(&addr(&mesh)).await.expect("it is there");
    connected(&mut events).await;
    let mut npm = join(&mut events, &lines, &["--use", "courier"]).await;
    let other = join(&mut events, &lines, &["--use", "courier"]).await;

    let heard = ("beep".to_owned(), json!({ "from": "node" }));
    npm.command(r#"broadcast beep {"from":"node"}"#);
    assert_eq!(typed(&mut reader).await, heard);
    assert_eq!(typed(&mut middle).await, heard);
    assert_eq!(other.wait_message("beep"), heard.1);

    let body = json!({ "from": "native" });
    let sent = native.broadcast("beep", &body).await.expect("a courier");
    assert_eq!(sent.queued, 1);
    assert_eq!(npm.wait_message("beep"), body);
    assert_eq!(other.wait_message("beep"), body);
    assert_eq!(typed(&mut middle).await, ("beep".to_owned(), body));
    assert_eq!(mesh.stats().dropped, 0);
}

#[test]
fn meshcat_talks_to_node_peers() {
    if !npm_ready() {
        return;
    }
    let options = "--wire lines --codec json --reply ping=pong";
    let mut cat = Cat::listen(options);
    let mut npm = NpmPeer::start(&["--use", "courier", "--seed", &cat.addr()]);
    npm.wait("peerConnected");
    cat.connected();

    npm.command(r#"broadcast ping {"time":1}"#);
    assert_eq!(npm.wait_message("pong"), json!({ "time": 1 }));
    cat.hear(r#"ping {"time":1}"#);
    cat.say(r#"beep {"sound": "boop"}"#);
    assert_eq!(npm.wait_message("beep"), json!({ "sound": "boop" }));
    let stats = cat.stop();
    assert_eq!((stats.received, stats.sent, stats.dropped), (1, 2, 0));
    npm.wait("peerDisconnected");
    npm.assert_alive();
}
