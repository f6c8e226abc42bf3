//! What the couriers of the Node original make of values: what the README says of it, beside the
//! table of its API.

use coalescent::extract::{Body, RawBody};
use coalescent::prelude::*;
use coalescent::{DisconnectReason, Router};
use serde_json::{Value, json};
use support::mesh::{addr, connected, disconnected, typed};
use support::{NpmPeer, npm_ready};

/// Ours, which listens, and one of theirs that dials it.
async fn pair(options: &[&str]) -> (Mesh, Peer, NpmPeer) {
    let app = App::new().wire(Wire::lines()).with(Courier::json());
    let mesh = app.listen("127.0.0.1:0").await.expect("it listens");
    let mut events = mesh.events();
    let npm = NpmPeer::start(&[options, &["--seed", &addr(&mesh)]].concat());
    let peer = connected(&mut events).await;
    npm.wait("peerConnected");
    (mesh, peer, npm)
}

/// What their courier writes for the value of a JavaScript expression, and ours reads.
async fn said(values: &[(&str, Value)]) {
    let (mesh, _peer, mut npm) = pair(&["--use", "courier"]).await;
    let mut reader = mesh.reader();
    for (expression, body) in values {
        npm.command(&format!("value a {expression}"));
        let heard = typed(&mut reader).await;
        assert_eq!(heard, ("a".to_owned(), body.clone()), "{expression}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn their_courier_carries_no_bytes() {
    if !npm_ready() {
        return;
    }
    said(&[
        (
            "Buffer.from('hi')",
            json!({ "type": "Buffer", "data": [104, 105] }),
        ),
        ("new Uint8Array([104, 105])", json!({ "0": 104, "1": 105 })),
        // What to do instead.
        ("Array.from(Buffer.from('hi'))", json!([104, 105])),
        ("Buffer.from('hi').toString('base64')", json!("aGk=")),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_ours_are_a_list_of_numbers_to_them_and_back() {
    if !npm_ready() {
        return;
    }
    async fn take(Body(bytes): Body<Vec<u8>>) -> impl IntoReply {
        ("taken", bytes.len())
    }
    let app = App::new().wire(Wire::lines()).with(Courier::json());
    let app = app.with(Router::new().route("bytes", take));
    let mesh = app.listen("127.0.0.1:0").await.expect("it listens");
    let mut events = mesh.events();
    let mut npm = NpmPeer::start(&["--use", "courier", "--seed", &addr(&mesh)]);
    let peer = connected(&mut events).await;
    npm.wait("peerConnected");

    peer.send("bytes", &vec![104_u8, 105])
        .await
        .expect("queued");
    assert_eq!(npm.wait_message("bytes"), json!([104, 105]));
    npm.command("value bytes Array.from(Buffer.from('hello'))");
    assert_eq!(npm.wait_message("taken"), json!(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_falsy_is_an_empty_object_to_them() {
    if !npm_ready() {
        return;
    }
    let (_mesh, peer, npm) = pair(&["--use", "courier"]).await;
    for body in [json!(null), json!(0), json!(false), json!("")] {
        peer.send("a", &body).await.expect("queued");
        assert_eq!(npm.wait_message("a"), json!({}), "{body}");
    }
    peer.send("a", &()).await.expect("queued");
    assert_eq!(npm.wait_message("a"), json!({}));
    // Not inside of a body, and not what only looks like it.
    for body in [
        json!([null, 0, false, ""]),
        json!({ "n": 0 }),
        json!("0"),
        json!([]),
    ] {
        peer.send("a", &body).await.expect("queued");
        assert_eq!(npm.wait_message("a"), body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_falsy_is_itself_to_us() {
    if !npm_ready() {
        return;
    }
    said(&[
        ("null", json!(null)),
        ("0", json!(0)),
        ("false", json!(false)),
        ("''", json!("")),
        // No body at all is one without anything in it, as it is to them.
        ("undefined", json!({})),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_json_has_no_form_for_is_left_out_or_null() {
    if !npm_ready() {
        return;
    }
    said(&[
        ("{ x: undefined, y: [undefined] }", json!({ "y": [null] })),
        ("NaN", json!(null)),
        ("-Infinity", json!(null)),
        ("new Date(0)", json!("1970-01-01T00:00:00.000Z")),
        ("new Map([[1, 2]])", json!({})),
        ("{ ['__proto__']: 1 }", json!({ "__proto__": 1 })),
        ("'ö\u{1f980}\\u0000'", json!("ö\u{1f980}\0")),
    ])
    .await;

    let mut npm = NpmPeer::start(&["--use", "courier"]);
    let app = App::new().wire(Wire::lines()).with(Courier::json());
    let mesh = app.seeds([npm.addr()]).start().await.expect("it starts");
    mesh.connected(1).await.expect("it is there");
    npm.wait("peerConnected");
    npm.command("value a 10n");
    let refused = npm.wait("refused");
    assert!(refused.text("error").contains("BigInt"));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_whole_numbers_are_rounded_by_them() {
    if !npm_ready() {
        return;
    }
    let (_mesh, peer, npm) = pair(&["--use", "courier"]).await;
    let exact = 9_007_199_254_740_991_u64; // 2^53 - 1
    peer.send("a", &exact).await.expect("queued");
    assert_eq!(npm.wait_message("a"), json!(exact));
    peer.send("a", &(exact + 2)).await.expect("queued");
    assert_eq!(npm.wait_message("a"), json!(exact + 1));
    peer.send("a", &(exact + 2).to_string())
        .await
        .expect("queued");
    assert_eq!(npm.wait_message("a"), json!("9007199254740993"));
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_surrogate_of_theirs_is_no_body_for_ours() {
    if !npm_ready() {
        return;
    }
    async fn raw(body: RawBody) -> impl IntoReply {
        ("raw", body.bytes.len())
    }
    async fn text(Body(text): Body<String>) -> impl IntoReply {
        ("text", text)
    }
    let app = App::new().wire(Wire::lines()).with(Courier::json());
    let app = app.with(Router::new().route("raw", raw).route("text", text));
    let mesh = app.listen("127.0.0.1:0").await.expect("it listens");
    let mut events = mesh.events();
    let mut npm = NpmPeer::start(&["--use", "courier", "--seed", &addr(&mesh)]);
    let peer = connected(&mut events).await;
    npm.wait("peerConnected");

    npm.command(r"value text '\ud800'");
    support::mesh::error(&mut events).await;
    // It is no text, and nobody's fault: the message came whole, and the peer stays.
    npm.command(r"value raw '\ud800'");
    assert_eq!(npm.wait_message("raw"), json!(r#""\ud800""#.len()));
    npm.command("value text 'whole'");
    assert_eq!(npm.wait_message("text"), json!("whole"));
    assert!(peer.is_connected());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_beyond_our_limit_ends_the_connection() {
    if !npm_ready() {
        return;
    }
    let (mesh, _peer, mut npm) = pair(&["--use", "courier"]).await;
    let mut reader = mesh.reader();
    let mut events = mesh.events();
    npm.command("value a 'x'.repeat(1000000)");
    let (_, body) = typed(&mut reader).await;
    assert_eq!(body.as_str().expect("a text").len(), 1_000_000);

    npm.command("value a 'x'.repeat(1100000)");
    let (_, reason) = disconnected(&mut events).await;
    assert!(matches!(reason, DisconnectReason::Protocol(_)), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn types_that_every_object_has_end_a_process_with_their_router() {
    if !npm_ready() {
        return;
    }
    for kind in ["__proto__", "hasOwnProperty", "valueOf"] {
        let options = ["--use", "courier,router", "--route", "*"];
        let (_mesh, peer, npm) = pair(&options).await;
        peer.send(kind, &1).await.expect("queued");
        npm.wait("crashed");
    }
    // Without the router it is a message like others.
    let (_mesh, peer, npm) = pair(&["--use", "courier"]).await;
    peer.send("__proto__", &1).await.expect("queued");
    assert_eq!(npm.wait_message("__proto__"), json!(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_null_ends_a_process_with_their_courier() {
    if !npm_ready() {
        return;
    }
    let (_mesh, peer, npm) = pair(&["--use", "courier"]).await;
    peer.send_payload("null").await.expect("queued");
    npm.wait("crashed");
}

#[tokio::test(flavor = "multi_thread")]
async fn their_smart_relay_damages_what_repeats_itself() {
    if !npm_ready() {
        return;
    }
    let ours = || App::new().wire(Wire::lines()).with(Courier::json());
    let (first, last) = (
        ours().listen("127.0.0.1:0").await.expect("it listens"),
        ours().listen("127.0.0.1:0").await.expect("it listens"),
    );
    let (a, b) = (addr(&first), addr(&last));
    let npm = NpmPeer::start(&["--use", "smartrelay", "--seed", &a, "--seed", &b]);
    npm.wait("peerConnected");
    npm.wait("peerConnected");
    first.connected(1).await.expect("it is there");
    last.connected(1).await.expect("it is there");
    let mut reader = last.reader();

    // Reads that equal one before are left out, within one message too. How long a read is, is
    // up to the sockets, so it may take more than one message until two are equal.
    let damaged = async {
        for number in 0.. {
            let repeats = format!("{}{number}", "x".repeat(600_000));
            let sent = first.broadcast(&format!("big{number}"), &repeats).await;
            assert_eq!(sent.expect("a courier").queued, 1);
            let (_, body) = typed(&mut reader).await;
            if body.as_str().expect("a text").len() < repeats.len() {
                break;
            }
        }
    };
    support::soon("a damaged message", damaged).await;

    // Text that does not repeat itself arrives whole.
    let numbers: Vec<_> = (0..60_000).map(|n| n.to_string()).collect();
    let text = numbers.join(" ");
    let sent = first.broadcast("big", &text).await.expect("queued");
    assert_eq!(sent.queued, 1);
    assert_eq!(typed(&mut reader).await, ("big".to_owned(), json!(text)));
}
