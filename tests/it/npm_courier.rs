//! Peers of the Node original with a courier, and ours on the `lines` wire: messages both ways.

use coalescent::Router;
use coalescent::extract::Body;
use coalescent::prelude::*;
use serde_json::{Value, json};
use support::mesh::{addr, connected, payload, typed};
use support::{NpmPeer, npm_ready};
use tokio::io::AsyncWriteExt;

/// One of ours that listens, and one of theirs that dials it.
async fn they_dial(courier: Courier, options: &[&str]) -> (Mesh, Peer, NpmPeer) {
    let app = App::new().wire(Wire::lines()).with(courier);
    let mesh = app.listen("127.0.0.1:0").await.expect("it listens");
    let mut events = mesh.events();
    let ours = addr(&mesh);
    let npm = NpmPeer::start(&[options, &["--seed", &ours]].concat());
    npm.wait("peerConnected");
    let peer = connected(&mut events).await;
    (mesh, peer, npm)
}

/// One of theirs that listens, and one of ours that dials it.
async fn we_dial(courier: Courier, options: &[&str]) -> (Mesh, Peer, NpmPeer) {
    let npm = NpmPeer::start(options);
    let app = App::new().wire(Wire::lines()).with(courier);
    let mesh = app.start().await.expect("it starts");
    let peer = mesh.connect(&npm.addr()).await.expect("it is there");
    npm.wait("peerConnected");
    (mesh, peer, npm)
}

/// Broadcasts and sends both ways.
async fn talk((mesh, peer, mut npm): (Mesh, Peer, NpmPeer)) {
    let mut reader = mesh.reader();
    let body = json!({ "sound": "böop \u{1f980}\n", "n": [1, -2.5, null, true] });

    let sent = mesh.broadcast("beep", &body).await.expect("a courier");
    assert_eq!(sent.queued, 1);
    assert_eq!(npm.wait_message("beep"), body);
    peer.send("alone", &body).await.expect("it is queued");
    assert_eq!(npm.wait_message("alone"), body);

    npm.command(&format!("broadcast beep {body}"));
    assert_eq!(typed(&mut reader).await, ("beep".to_owned(), body.clone()));
    npm.command(&format!("send 0 alone {body}"));
    assert_eq!(typed(&mut reader).await, ("alone".to_owned(), body));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_go_both_ways_where_they_dial_us() {
    if npm_ready() {
        talk(they_dial(Courier::json(), &["--use", "courier"]).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_go_both_ways_where_we_dial_them() {
    if npm_ready() {
        talk(we_dial(Courier::json(), &["--use", "courier"]).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_can_name_the_keys() {
    if !npm_ready() {
        return;
    }
    let courier = Courier::json().type_param("t").body_param("b");
    let theirs = r#"{"typeParam":"t","bodyParam":"b"}"#;
    let options = ["--use", "tap,courier", "--courier", theirs];
    let (mesh, _peer, mut npm) = they_dial(courier, &options).await;
    let mut reader = mesh.reader();

    let sent = mesh.broadcast("beep", &1).await.expect("a courier");
    assert_eq!(sent.queued, 1);
    assert_eq!(npm.wait("tap").text("utf8"), "{\"t\":\"beep\",\"b\":1}\n");

    // It yields its own names to the application.
    npm.command("broadcast beep 2");
    assert_eq!(typed(&mut reader).await, ("beep".to_owned(), json!(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn our_lines_are_theirs_byte_for_byte() {
    if !npm_ready() {
        return;
    }
    let (mesh, _peer, mut npm) = they_dial(Courier::json(), &["--use", "tap,courier"]).await;
    // What they write is known: see the README of tests/npm.
    let line = "{\"type\":\"beep\",\"body\":{\"sound\":\"böop\\u0001\\n\"}}";

    let sent = mesh
        .broadcast("beep", &json!({ "sound": "böop\u{1}\n" }))
        .await;
    assert_eq!(sent.expect("a courier").queued, 1);
    assert_eq!(npm.wait("tap").text("utf8"), format!("{line}\n"));

    let mut reader = mesh.reader();
    npm.command(r#"broadcast beep {"sound":"böop\u0001\n"}"#);
    assert_eq!(payload(&mut reader).await, line.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_application_writes_is_lines_for_both() {
    if !npm_ready() {
        return;
    }
    let (mut mesh, _peer, mut npm) = they_dial(Courier::json(), &["--use", "courier"]).await;
    let mut reader = mesh.reader();

    mesh.write_all(b"{\"type\":\"a\",\"bo")
        .await
        .expect("it is written");
    mesh.write_all(b"dy\":1}\n{\"type\":\"b\"}\n")
        .await
        .expect("it is written");
    assert_eq!(npm.wait_message("a"), json!(1));
    assert_eq!(npm.wait_message("b"), json!({}));

    // One line in two writes, two in one, and a line ending of another system.
    npm.command(r#"write {"type":"a","bo"#);
    npm.command("write dy\":1}");
    npm.command("writehex 0d0a7b2274797065223a2262227d0a0a7b2274797065223a2263227d0a");
    assert_eq!(typed(&mut reader).await, ("a".to_owned(), json!(1)));
    assert_eq!(typed(&mut reader).await, ("b".to_owned(), json!({})));
    assert_eq!(typed(&mut reader).await, ("c".to_owned(), json!({})));
}

async fn double(Body(number): Body<u64>) -> impl IntoReply {
    ("doubled", number * 2)
}

#[tokio::test(flavor = "multi_thread")]
async fn our_router_answers_them() {
    if !npm_ready() {
        return;
    }
    let app = App::new().wire(Wire::lines()).with(Courier::json());
    let app = app.with(Router::<()>::new().route("double", double));
    let mesh = app.listen("127.0.0.1:0").await.expect("it listens");
    let mut npm = NpmPeer::start(&["--use", "courier", "--seed", &addr(&mesh)]);
    npm.wait("peerConnected");
    connected(&mut mesh.events()).await;

    npm.command("broadcast double 21");

    assert_eq!(npm.wait_message("doubled"), json!(42));
}

#[tokio::test(flavor = "multi_thread")]
async fn their_router_answers_us() {
    if !npm_ready() {
        return;
    }
    let options = [
        "--use",
        "courier,router",
        "--route",
        "ping=pong",
        "--route",
        "*=what",
    ];
    let (mesh, peer, npm) = we_dial(Courier::json(), &options).await;
    let mut reader = mesh.reader();
    let ask = async |kind: &str, body: &Value| peer.send(kind, body).await;

    ask("ping", &json!({ "time": 1 }))
        .await
        .expect("it is queued");
    assert_eq!(
        typed(&mut reader).await,
        ("pong".to_owned(), json!({ "time": 1 }))
    );
    ask("unknown", &json!(2)).await.expect("it is queued");
    assert_eq!(typed(&mut reader).await, ("what".to_owned(), json!(2)));
    assert_eq!(npm.wait("routed").text("route"), "ping");
    assert_eq!(npm.wait("routed").text("route"), "*");
}
