//! The JavaScript client in a real browser: with nodes, and with servers that break the rules.

use std::net::SocketAddr;

use axum::response::Html;
use axum::routing::get;
use bytes::{Bytes, BytesMut};
use coalescent::codec::Codec;
use coalescent::extract::Body;
use coalescent::upgrade::{Upgrade, WebSocket};
use coalescent::websocket::JAVASCRIPT;
use coalescent::wire::{Kind, NativeCodec, NodeId, Packet, Status};
use coalescent::{App, AppExt, Courier, Mesh, MeshExt, Message, Peer, PeerExt, Router, SmartRelay};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use support::{Browser, hello, packet, soon, until};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::protocol::Message as WsMessage;
use tokio_util::codec::Encoder;

const PAGE: &str = r#"<!doctype html><title>test</title>
<script type="module">
  import { connect } from "/coalescent.js";
  window.connect = connect;
  window.errors = [];
  window.said = [];
  window.onerror = (message) => errors.push(`uncaught: ${message}`);
  window.onunhandledrejection = (event) => errors.push(`uncaught: ${event.reason}`);
</script>"#;

/// A node that serves the page and the client.
struct Site {
    mesh: Mesh,
    addr: SocketAddr,
    server: JoinHandle<()>,
}

impl Site {
    async fn start(at: &str) -> Self {
        let router = Router::new()
            .route("echo", async |Body(body): Body<Value>| {
                Message::new("echoed", &body)
            })
            .route("fail", async || Err::<(), _>("no such luck"))
            .route("nothing", async || ())
            .route("never", std::future::pending::<()>)
            .route("heard", async || ());
        let app = App::new()
            .with(SmartRelay::new())
            .with(Courier::with_codec(Codec::json()));
        let mesh = app.with(router).start().await.expect("it starts");
        let addr: SocketAddr = at.parse().expect("an address");
        let upgrade = Upgrade::new(&mesh)
            .remote_addr(move |_| Some(SocketAddr::from(([127, 0, 0, 1], 1))))
            .websocket(WebSocket::native());
        let script = [("content-type", "text/javascript")];
        let site = axum::Router::new()
            .route("/", get(async || Html(PAGE)))
            .route("/coalescent.js", get((script, JAVASCRIPT)))
            .route_service("/mesh", upgrade);
        let listener = soon("the port", async {
            loop {
                // Connections of who was there before may still end.
                match TcpListener::bind(addr).await {
                    Ok(listener) => return listener,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        });
        let listener = listener.await;
        let addr = listener.local_addr().expect("an address");
        let server = tokio::spawn(async move {
            axum::serve(listener, site).await.expect("it serves");
        });
        Self { mesh, addr, server }
    }

    async fn stop(self) {
        self.server.abort();
        self.mesh.shutdown().await;
    }

    async fn peer(&self) -> Peer {
        soon("the page", self.mesh.connected(1))
            .await
            .expect("it runs");
        self.mesh.peers().list()[0].clone()
    }
}

fn open(browser: &Browser, site: &Site) {
    browser.open(&format!("http://{}/", site.addr));
    browser.wait("return typeof window.connect", |kind| {
        (kind == "function").then_some(())
    });
}

/// Connects the page to the node.
fn connect(browser: &Browser) {
    let connected = browser.run_until_done(
        "window.peer = connect('/mesh', {
             agent: 'test page', retryMin: 10, retryMax: 100,
             onerror: (error) => errors.push(error.message),
             onmessage: (message) => { said.push(message); },
             onclose: (reason) => said.push({ type: 'lost', body: reason }),
         });
         peer.opened().then(() => done(peer.remote.get('v')));",
    );
    assert_eq!(connected, 1);
}

/// Returns the next messages that no handler of the page has taken.
fn said(browser: &Browser, count: usize) -> Value {
    let script = format!("return said.length >= {count} ? said.splice(0, {count}) : null");
    browser.wait(&script, |said| said.is_array().then(|| said.clone()))
}

#[test]
fn messages_and_answers_go_both_ways() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let runtime = Runtime::new().unwrap();
    let site = runtime.block_on(Site::start("127.0.0.1:0"));
    open(&browser, &site);
    connect(&browser);
    let peer = runtime.block_on(site.peer());
    assert_eq!(peer.agent(), Some("test page"));
    assert_eq!(peer.wire().name(), "native");

    // The page asks. A message may be as large as the node takes it, and no larger.
    let ask = |what: &str| {
        browser.run_until_done(&format!(
            "peer.request({what}).then(
                 (answer) => done([answer.type, answer.body]),
                 (error) => done([error.message, error.answered]),
             );"
        ))
    };
    assert_eq!(
        ask("'echo', { n: [1, 'é', null] }"),
        json!(["echoed", { "n": [1, "é", null] }])
    );
    assert_eq!(ask("'echo'"), json!(["echoed", {}]));
    assert_eq!(ask("'fail'")[1], json!(true));
    assert!(ask("'fail'")[0].as_str().unwrap().contains("no such luck"));
    assert_eq!(ask("'nothing'"), json!(["the node gave no answer", true]));
    assert_eq!(
        ask("'never', 1, { timeout: 20 }"),
        json!([r#"no answer to "never" in 20 ms"#, false])
    );
    // As many bytes as may be, with the answer's type, which is longer.
    let largest = (1 << 20) - r#"{"type":"echoed","body":""}"#.len();
    let length = browser.run_until_done(&format!(
        "peer.request('echo', 'x'.repeat({largest})).then((answer) => done(answer.body.length));"
    ));
    assert_eq!(length, largest);
    let refused = browser
        .run("try { peer.send('x', 'x'.repeat(1 << 20)) } catch (error) { return error.message }");
    assert!(refused.as_str().unwrap().contains("too large"), "{refused}");

    // The node asks.
    browser.run(
        "peer.on('double', (n) => ({ type: 'doubled', body: 2 * n }));
         peer.on('later', async (n) => { await null; return { type: 'done', body: n }; });
         peer.on('throw', () => { throw new Error('out of order'); });
         peer.on('__proto__', (body) => ({ type: '__proto__', body }));
         peer.on('constructor', (body) => { said.push({ type: 'constructor', body }); });",
    );
    runtime.block_on(async {
        let answer = peer.request("double", &21).await.unwrap();
        assert_eq!(
            (answer.kind(), answer.body::<u32>().unwrap()),
            ("doubled", 42)
        );
        let answer = peer.request("later", &1).await.unwrap();
        assert_eq!(answer.kind(), "done");
        let error = peer.request("throw", &1).await.unwrap_err();
        assert!(error.to_string().contains("out of order"), "{error}");
        assert!(peer.request("unknown", &1).await.is_err());
        let body = json!({ "__proto__": { "harm": 1 }, "constructor": 2 });
        let answer = peer.request("__proto__", &body).await.unwrap();
        assert_eq!(answer.kind(), "__proto__");
        assert_eq!(answer.body::<Value>().unwrap(), body);
        peer.send("constructor", &1).await.unwrap();
        let large = "x".repeat((1 << 20) - 100);
        let sent = site.mesh.broadcast("large", &large).await.unwrap();
        assert_eq!(sent.queued, 1);
    });
    assert_eq!(said(&browser, 1)[0]["type"], "unknown");
    assert_eq!(
        said(&browser, 1),
        json!([{ "type": "constructor", "body": 1 }])
    );
    let large = browser.wait("return said[0]?.body.length ?? null", Value::as_u64);
    assert_eq!(large, (1 << 20) - 100);
    said(&browser, 1);
    assert_eq!(browser.run("return ({}).harm ?? null"), Value::Null);
    assert_eq!(
        browser.run("return errors.splice(0)"),
        json!(["out of order"])
    );

    let mut reader = site.mesh.reader();
    // What handlers answer to a message that is no request is a message; equal ones are two.
    runtime.block_on(peer.send("double", &4)).unwrap();
    browser.run("for (const n of [1, 1]) peer.broadcast('heard', n, { from: 'page' });");
    let mut kinds = Vec::new();
    for _ in 0..3 {
        let frame = runtime.block_on(soon("a message", reader.next_frame()));
        let message = frame.unwrap().message().cloned().expect("a message");
        kinds.push((message.kind().to_owned(), message.body::<u32>().unwrap()));
    }
    kinds.sort();
    let heard = |kind: &str, n| (kind.to_owned(), n);
    assert_eq!(
        kinds,
        [heard("doubled", 8), heard("heard", 1), heard("heard", 1)]
    );

    // What is no message is an error, and costs nothing else.
    for payload in ["{", r#"{"body":1}"#, r#"{"type":1}"#, "null", "\u{1}"] {
        runtime.block_on(peer.send_payload(payload)).unwrap();
    }
    runtime.block_on(peer.send_payload(vec![0xff])).unwrap();
    runtime
        .block_on(peer.send_payload("[".repeat(900_000)))
        .unwrap();
    browser.wait("return errors.length", |count| (count == 7).then_some(()));
    assert_eq!(ask("'echo', 1"), json!(["echoed", 1]));

    // It leaves for good.
    browser.run("peer.close()");
    runtime.block_on(soon("its end", peer.closed()));
    let after = browser.run_until_done(
        "peer.opened().catch((error) => done([error.message, peer.connected, said]));",
    );
    let lost = json!([{ "type": "lost", "body": "closed here" }]);
    assert_eq!(after, json!(["the peer is closed", false, lost]));
    runtime.block_on(site.stop());
}

#[test]
fn it_comes_back_when_the_node_does() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let runtime = Runtime::new().unwrap();
    let site = runtime.block_on(Site::start("127.0.0.1:0"));
    let addr = site.addr.to_string();
    open(&browser, &site);
    connect(&browser);
    browser.run("peer.request('never').catch((error) => said.push({ type: error.message }))");
    for _ in 0..2 {
        runtime.block_on(site.peer());
    }
    runtime.block_on(site.stop());
    // It tries again and again meanwhile, and says why it has lost what it waited for.
    let lost = said(&browser, 4);
    let reason = lost[0]["body"].as_str().expect("a reason");
    assert!(reason.starts_with("it said: "), "{lost}");
    assert!(
        lost.as_array()
            .unwrap()
            .iter()
            .any(|said| { said["type"] == format!("the connection was lost: {reason}") }),
        "{lost}"
    );
    let refused = browser.run("try { peer.send('x') } catch (error) { return error.message }");
    assert_eq!(refused, "not connected: wait for opened()");

    let site = runtime.block_on(Site::start(&addr));
    let answer = browser.run_until_done(
        "peer.opened().then(() => peer.request('echo', 'again')).then((answer) => done(answer.body));",
    );
    assert_eq!(answer, "again");
    let peer = runtime.block_on(site.peer());
    // Cut off without a word.
    runtime.block_on(async {
        peer.disconnect("for a test");
        until("it is back", || {
            let list = site.mesh.peers().list();
            list.iter().any(|other| other.id() != peer.id())
        })
        .await;
    });
    assert_eq!(browser.run("return errors"), json!([]));
}

/// What a server sends once a page has connected.
fn frames(packets: impl IntoIterator<Item = Packet>) -> Vec<u8> {
    let mut codec = NativeCodec::new(2 << 20);
    codec.established();
    let mut bytes = BytesMut::new();
    for packet in packets {
        codec.encode(packet, &mut bytes).expect("a frame");
    }
    bytes.to_vec()
}

fn introduction() -> Packet {
    packet(Kind::Hello, hello(NodeId::random(), ""))
}

/// Serves one page after another, each with the messages for it.
async fn misbehave(listener: TcpListener, mut all: Vec<Vec<WsMessage>>) {
    all.reverse();
    while let Some(messages) = all.pop() {
        let (socket, _) = listener.accept().await.expect("a page");
        let mut socket = tokio_tungstenite::accept_async(socket)
            .await
            .expect("a WebSocket");
        for message in messages {
            // The page may have hung up.
            if socket.send(message).await.is_err() {
                break;
            }
        }
        while let Some(Ok(_)) = socket.next().await {}
    }
}

#[test]
fn a_server_that_breaks_the_rules_is_left_and_told_apart() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let runtime = Runtime::new().unwrap();
    let site = runtime.block_on(Site::start("127.0.0.1:0"));
    open(&browser, &site);

    let binary = |bytes: Vec<u8>| vec![WsMessage::binary(bytes)];
    let after_hello = |bytes: &[u8]| binary([&frames([introduction()])[..], bytes].concat());
    let hello_of = |payload: &[u8]| binary(frames([packet(Kind::Hello, payload.to_vec())]));
    let data = |text: &'static str| packet(Kind::Data, Bytes::from_static(text.as_bytes()));
    let reply = Kind::Reply {
        id: 7,
        status: Status::Ok,
    };
    let tolerated = [
        introduction(),
        packet(Kind::Unknown(0x7f), "what is this"),
        packet(Kind::Channel { index: 3 }, "for a plugin"),
        packet(reply, "nobody asked"),
        packet(Kind::Cancel { id: 9 }, ""),
        packet(Kind::Ping, vec![1; 8]),
        packet(Kind::Pong, vec![2; 8]),
        data(r#"{"type":"__proto__","body":{"__proto__":1}}"#),
        packet(Kind::Bye, "that is all"),
    ];
    let in_bytes = frames(tolerated.clone()).into_iter();
    let cases = [
        (vec![WsMessage::text("hello")], "it sends text"),
        (binary(vec![0xff; 4]), "too large"),
        (binary(vec![0; 4]), "too short"),
        (binary(vec![0, 0, 0, 1, 0]), "too short"),
        (binary(frames([data("{}")])), "introduce itself"),
        (
            binary(frames([introduction(), introduction()])),
            "introduce itself",
        ),
        (binary(vec![0, 0, 4, 3, 0x10, 0]), "too large"),
        (
            after_hello(&[0, 0, 0, 5, 1, 32, 0, 0, 0]),
            "shorter than its fields",
        ),
        (
            after_hello(&[0, 0, 0, 3, 3, 0, 0]),
            "shorter than its fields",
        ),
        (after_hello(&[0, 0x10, 0, 0x20, 0, 0]), "too large"),
        // Its introduction: cut off, with counts of what is not there, too deep, no map, another.
        (hello_of(&[0x85, 0xa1, b'v']), "cut off"),
        (hello_of(&[0xdf, 0xff, 0xff, 0xff, 0xff]), "cut off"),
        (hello_of(&[0xdd, 0xff, 0xff, 0xff, 0xff]), "cut off"),
        (hello_of(&[0x91; 1000]), "too deeply"),
        (hello_of(&[0xc1]), "another version"),
        (hello_of(&[0x81, 0xa1, b'v', 2]), "another version"),
        (
            hello_of(&[0x82, 0xa1, b'v', 1, 0xa3, b'n', b'e', b't', 0xa1, b'x']),
            "another network",
        ),
        (binary(frames(tolerated)), "it said: that is all"),
        (
            in_bytes.map(|byte| WsMessage::binary(vec![byte])).collect(),
            "it said: that is all",
        ),
    ];
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let addr = listener.local_addr().unwrap();
    let (messages, reasons): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    runtime.spawn(misbehave(listener, messages));
    for expected in reasons {
        let reason = browser.run_until_done(&format!(
            "const peer = connect('ws://{addr}', {{
                 onmessage: (message) => {{ said.push(message); }},
                 onerror: (error) => errors.push(error.message),
                 onclose: (reason) => {{ peer.close(); done(reason); }},
             }});"
        ));
        assert!(
            reason.as_str().unwrap().contains(expected),
            "{reason}: {expected}"
        );
    }
    let twice = said(&browser, 2);
    for said in twice.as_array().unwrap() {
        assert_eq!(said["type"], "__proto__");
    }
    assert_eq!(browser.run("return errors"), json!([]));

    // Nobody there, and addresses that are none.
    let reason = browser.run_until_done(
        "const peer = connect('ws://127.0.0.1:1', { onclose: (reason) => { peer.close(); done(reason); } });",
    );
    assert_eq!(reason, "the connection ended (1006)");
    for bad in [
        "connect('http://')",
        "connect('/', { network: 'x'.repeat(200) })",
    ] {
        let thrown = browser.run(&format!(
            "try {{ {bad}; return null }} catch (error) {{ return error.message }}"
        ));
        assert!(thrown.is_string(), "{bad}");
    }
}

/// In Node. Not all its versions have a WebSocket: the test brings one, and a clock.
#[test]
fn its_bounds_hold_on_a_clock_of_the_test() {
    if std::env::var_os("COALESCENT_SKIP_NPM").is_some_and(|value| value == "1") {
        eprintln!("skipped, as COALESCENT_SKIP_NPM=1");
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/javascript/bounds.mjs");
    let ran = std::process::Command::new("node").arg(script).output();
    let output = ran.expect("node is missing: install it, or set COALESCENT_SKIP_NPM=1");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
}
