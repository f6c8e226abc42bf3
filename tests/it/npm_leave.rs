//! Peers of the Node original that leave, come back and die, and ours that leave them: an RST from
//! an inbound peer ends the original's whole process, so ours must never send it one.

use std::time::Duration;

use coalescent::{App, AppExt, Courier, DisconnectReason, Mesh, MeshExt, Wire};
use serde_json::json;
use support::mesh::{addr, connected, disconnected, typed};
use support::{Cat, NpmPeer, npm_ready};

/// How much a Node peer writes that ours does not read: more than the read side and the sockets
/// hold.
const UNREAD: usize = 24 * 1024 * 1024;

fn app() -> App {
    App::new().wire(Wire::lines())
}

/// One of ours that has dialled this peer, which therefore is one of its inbound ones.
async fn dial(npm: &NpmPeer) -> Mesh {
    // Time for a Node peer on a busy machine to write all that it has begun to.
    let app = app().configure(|config| config.drain = Duration::from_secs(10));
    let mesh = app.with(Courier::json()).start().await.expect("it starts");
    mesh.connect(&npm.addr()).await.expect("it is there");
    npm.wait("peerConnected");
    mesh
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_peer_that_leaves_and_comes_back_is_dialled_again() {
    if !npm_ready() {
        return;
    }
    let mut npm = NpmPeer::start(&["--use", "courier"]);
    let port = npm.port().to_string();
    let app = app().seeds([npm.addr()]).with(Courier::json());
    let mesh = app.start().await.expect("it starts");
    let mut events = mesh.events();
    let first = connected(&mut events).await;
    npm.wait("peerConnected");

    npm.command("quit");
    let (peer, reason) = disconnected(&mut events).await;
    assert_eq!(peer, first);
    // Its process leaves without a word: the system says FIN for it.
    assert!(matches!(reason, DisconnectReason::Closed), "{reason}");
    npm.process().wait_exit();

    let npm = NpmPeer::start(&["--use", "courier", "--listen", &port]);
    let second = connected(&mut events).await;
    assert_ne!(second, first);
    npm.wait("peerConnected");
    let sent = mesh.broadcast("again", &1).await.expect("a courier");
    assert_eq!(sent.queued, 1);
    assert_eq!(npm.wait_message("again"), json!(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_peer_dials_us_again_when_we_come_back() {
    if !npm_ready() {
        return;
    }
    let mesh = app().with(Courier::json()).listen("127.0.0.1:0").await;
    let mesh = mesh.expect("it listens");
    let ours = addr(&mesh);
    let npm = NpmPeer::start(&["--use", "courier", "--seed", &ours]);
    npm.wait("peerConnected");
    connected(&mut mesh.events()).await;
    mesh.shutdown().await;
    npm.wait("peerDisconnected");

    let mesh = app().with(Courier::json()).listen(&ours).await;
    let mesh = mesh.expect("the address is free again");
    connected(&mut mesh.events()).await;
    npm.wait("peerConnected");
    let sent = mesh.broadcast("again", &1).await.expect("a courier");
    assert_eq!(sent.queued, 1);
    assert_eq!(npm.wait_message("again"), json!(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_peer_that_is_killed_costs_its_own_connection() {
    if !npm_ready() {
        return;
    }
    let mesh = app().with(Courier::json()).listen("127.0.0.1:0").await;
    let mesh = mesh.expect("it listens");
    let (mut events, mut reader) = (mesh.events(), mesh.reader());
    let ours = addr(&mesh);
    let mut killed = NpmPeer::start(&["--use", "courier", "--seed", &ours]);
    let first = connected(&mut events).await;
    let mut other = NpmPeer::start(&["--use", "courier", "--seed", &ours]);
    connected(&mut events).await;

    // Killed with bytes in its socket that it has not read, it sends RST.
    killed.process().signal("STOP");
    let sent = mesh.broadcast("beep", &1).await.expect("a courier");
    assert_eq!(sent.queued, 2);
    assert_eq!(other.wait_message("beep"), json!(1));
    first.flushed().await;
    killed.process().signal("KILL");

    let (peer, reason) = disconnected(&mut events).await;
    assert_eq!(peer, first);
    let reset = std::io::ErrorKind::ConnectionReset;
    assert!(
        matches!(reason, DisconnectReason::Io(kind) if kind == reset),
        "{reason}"
    );
    other.command("broadcast still 2");
    assert_eq!(typed(&mut reader).await, ("still".to_owned(), json!(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_peer_survives_that_we_leave_it() {
    if !npm_ready() {
        return;
    }
    let mut npm = NpmPeer::start(&["--use", "courier"]);

    let mesh = dial(&npm).await;
    mesh.shutdown().await;
    npm.wait("peerDisconnected");
    npm.assert_alive();

    let mesh = dial(&npm).await;
    let peer = mesh.peers().list().first().cloned().expect("it is there");
    peer.disconnect("enough");
    npm.wait("peerDisconnected");
    npm.assert_alive();

    drop(dial(&npm).await);
    npm.wait("peerDisconnected");
    npm.assert_alive();
}

/// Has the Node peer write more to this mesh than it reads, and waits until both are stuck.
async fn flood(npm: &mut NpmPeer, mesh: &Mesh) -> coalescent::MeshReader {
    let reader = mesh.reader();
    let line = format!("broadcast flood \"{}\"", "x".repeat(64 * 1024));
    for _ in 0..UNREAD / line.len() {
        npm.command(&line);
    }
    // It does as it is told in order, so all of it is written when it answers.
    npm.command("peers");
    npm.wait("peers");
    reader
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_peer_survives_that_we_leave_with_its_bytes_unread() {
    if !npm_ready() {
        return;
    }
    let mut npm = NpmPeer::start(&["--use", "courier"]);

    let mesh = dial(&npm).await;
    let reader = flood(&mut npm, &mesh).await;
    mesh.shutdown().await;
    npm.wait("peerDisconnected");
    npm.assert_alive();
    drop(reader);

    let mesh = dial(&npm).await;
    let reader = flood(&mut npm, &mesh).await;
    let peer = mesh.peers().list().first().cloned().expect("it is there");
    peer.disconnect("enough");
    npm.wait("peerDisconnected");
    npm.assert_alive();
    drop(reader);
}

#[test]
fn a_node_peer_survives_a_meshcat_that_is_told_to_leave() {
    if !npm_ready() {
        return;
    }
    for signal in ["TERM", "INT"] {
        let mut npm = NpmPeer::start(&["--use", "courier"]);
        let mut cat = Cat::dial(&npm.addr(), "--wire lines --codec json");
        npm.wait("peerConnected");
        for n in 0..1000 {
            npm.command(&format!("broadcast beep {n}"));
        }
        cat.process().signal(signal);
        cat.left();
        npm.wait("peerDisconnected");
        npm.assert_alive();
    }
}

#[test]
fn a_node_peer_survives_a_line_that_is_too_long_for_us() {
    if !npm_ready() {
        return;
    }
    let mut npm = NpmPeer::start(&["--use", "courier"]);
    let mut cat = Cat::dial(&npm.addr(), "--wire lines --codec json --max-frame 100");
    npm.wait("peerConnected");

    npm.command(&format!("broadcast long \"{}\"", "x".repeat(1024 * 1024)));

    cat.disconnected();
    npm.wait("peerDisconnected");
    npm.assert_alive();
    assert_eq!(cat.stop().delivered, 0);
}
