//! What the Node original promises and tests, asked of ours: its scenarios, expressed anew.

use coalescent::extract::Body;
use coalescent::prelude::*;
use coalescent::{Direction, Router};
use serde_json::{Value, json};
use support::mesh::{addr, bytes, connected, payload, typed};
use tokio::io::AsyncWriteExt;

async fn listen<L: coalescent::PeerLayer>(app: App<L>) -> Mesh {
    app.listen("127.0.0.1:0").await.expect("it listens")
}

async fn start<L: coalescent::PeerLayer>(app: App<L>) -> Mesh {
    app.start().await.expect("it starts")
}

/// Two that are connected.
async fn pair<L: coalescent::PeerLayer>(first: App<L>, second: App<L>) -> (Mesh, Mesh) {
    let (first, second) = (listen(first).await, start(second).await);
    second.connect(&addr(&first)).await.expect("it is there");
    connected(&mut first.events()).await;
    (first, second)
}

// Simple: send a message and have it received. The app is a duplex stream.
#[tokio::test]
async fn what_one_writes_the_other_reads() {
    let (first, mut second) = pair(App::new(), App::new()).await;
    let mut reader = first.reader();

    second
        .write_all(b"beep boop\n")
        .await
        .expect("it is written");

    assert_eq!(bytes(&mut reader, 10).await, b"beep boop\n");
}

#[tokio::test]
async fn a_stream_is_piped_into_the_app_and_out_of_it() {
    let (first, mut second) = pair(App::new(), App::new()).await;
    let file: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut reader = first.reader();
    let mut source = &file[..];

    let pipe = async {
        let copied = tokio::io::copy(&mut source, &mut second).await;
        assert_eq!(copied.expect("it is written"), 3_000_000);
    };
    let ((), read) = tokio::join!(pipe, bytes(&mut reader, 3_000_000));

    assert!(read == file, "the stream has changed on the way");
}

/// `inbound` dials the relay, and the relay dials `outbound`.
async fn around<L: coalescent::PeerLayer>(relay: App<L>) -> (Mesh, Mesh, Mesh) {
    let outbound = listen(App::new()).await;
    let relay = listen(relay.seeds([addr(&outbound)])).await;
    let mut events = relay.events();
    assert_eq!(
        connected(&mut events).await.direction(),
        Direction::Outbound
    );
    connected(&mut outbound.events()).await;
    let inbound = start(App::new()).await;
    inbound.connect(&addr(&relay)).await.expect("it is there");
    assert_eq!(connected(&mut events).await.direction(), Direction::Inbound);
    (inbound, relay, outbound)
}

/// Relay: an inbound message to outbound peers, and the other way round; the relay reads it too.
async fn relays_both_ways<L: coalescent::PeerLayer>(relay: App<L>) {
    let (mut inbound, relay, mut outbound) = around(relay).await;
    let mut reader = relay.reader();
    let (mut at_inbound, mut at_outbound) = (inbound.reader(), outbound.reader());

    inbound
        .write_all(b"from inbound")
        .await
        .expect("it is written");
    assert_eq!(payload(&mut at_outbound).await, b"from inbound");
    assert_eq!(payload(&mut reader).await, b"from inbound");

    outbound
        .write_all(b"from outbound")
        .await
        .expect("it is written");
    // The first that comes back to either would be what it said itself.
    assert_eq!(payload(&mut at_inbound).await, b"from outbound");
    assert_eq!(payload(&mut reader).await, b"from outbound");
    assert_eq!(relay.stats().relayed, 2);
    assert_eq!(
        (inbound.stats().received, outbound.stats().received),
        (1, 1)
    );
}

#[tokio::test]
async fn tattletale_relays_both_ways() {
    relays_both_ways(App::new().with(Tattletale::new())).await;
}

#[tokio::test]
async fn smart_relay_relays_both_ways() {
    relays_both_ways(App::new().with(SmartRelay::new())).await;
}

#[tokio::test]
async fn smart_relay_relays_no_duplicates() {
    let app = || App::new().with(SmartRelay::new());
    let (first, second) = (listen(app()).await, listen(app()).await);
    let third = listen(app().seeds([addr(&first), addr(&second)])).await;
    second.connect(&addr(&first)).await.expect("it is there");
    for mesh in [&first, &second, &third] {
        let mut events = mesh.events();
        connected(&mut events).await;
        connected(&mut events).await;
    }
    let (mut at_second, mut at_third) = (second.reader(), third.reader());

    // Said twice, it is two messages: what is no duplicate must not be taken for one.
    for _ in 0..2 {
        let sent = first.broadcast_payload("beep").await.unwrap();
        assert_eq!(sent.queued, 2);
    }
    for reader in [&mut at_second, &mut at_third] {
        assert_eq!(payload(reader).await, b"beep");
        assert_eq!(payload(reader).await, b"beep");
    }
    for mesh in [first, second, third] {
        mesh.shutdown().await;
        let stats = mesh.stats();
        assert_eq!(stats.received, stats.delivered + stats.duplicates);
        assert!(stats.delivered == 2 || stats.sent == 4, "{stats:?}");
    }
    assert!(at_second.next_frame().await.is_none());
    assert!(at_third.next_frame().await.is_none());
}

// Messages: parse the message into an object. Broadcasting: to all peers. And `send`, to one.
#[tokio::test]
async fn broadcast_and_send_make_objects_at_the_peers() {
    for courier in [Courier::new(), Courier::json()] {
        let app = || App::new().with(courier.clone());
        let mesh = listen(app()).await;
        let mut events = mesh.events();
        let (mut readers, mut others) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let other = start(app()).await;
            readers.push(other.reader());
            other.connect(&addr(&mesh)).await.expect("it is there");
            others.push((other, connected(&mut events).await));
        }

        let body = json!({ "sound": "boop" });
        let sent = mesh.broadcast("beep", &body).await.expect("a courier");
        assert_eq!(sent.queued, 3);
        others[1].1.send("alone", &1).await.expect("it is queued");
        let sent = mesh.broadcast("end", &Value::Null).await;
        assert_eq!(sent.expect("a courier").queued, 3);

        for (at, reader) in readers.iter_mut().enumerate() {
            assert_eq!(typed(reader).await, ("beep".to_owned(), body.clone()));
            if at == 1 {
                assert_eq!(typed(reader).await, ("alone".to_owned(), json!(1)));
            }
            assert_eq!(typed(reader).await.0, "end");
        }
    }
}

#[tokio::test]
async fn without_a_courier_its_verbs_say_so() {
    let (first, second) = pair(App::new(), App::new()).await;
    let error = first.broadcast("beep", &1).await.expect_err("no courier");
    assert!(error.is_no_courier(), "{error}");
    let peer = &second.peers().list()[0];
    let error = peer.send("beep", &1).await.expect_err("no courier");
    assert!(error.is_no_courier(), "{error}");
}

// Routing: the handler for the type, the default handler for what is unknown; also on a running
// app.
#[tokio::test]
async fn the_router_calls_the_handler_of_the_type() {
    async fn ping(Body(time): Body<u64>) -> impl IntoReply {
        ("pong", time)
    }
    async fn unknown(Type(kind): Type) -> impl IntoReply {
        ("what", kind)
    }
    async fn late() -> impl IntoReply {
        ("later", ())
    }
    let router = || Router::<()>::new();
    let app = |router| App::new().with(Courier::new()).with(router);
    let routes = router().route("ping", ping).route("*", unknown);
    let (first, second) = pair(app(routes), app(router())).await;
    let mut reader = second.reader();
    let peer = &second.peers().list()[0];

    for (kind, reply, body) in [("ping", "pong", json!(7)), ("nope", "what", json!("nope"))] {
        peer.send(kind, &7).await.expect("it is queued");
        assert_eq!(typed(&mut reader).await, (reply.to_owned(), body));
    }
    first.route("late", late).expect("it has a router");
    peer.send("late", &1).await.expect("it is queued");
    assert_eq!(typed(&mut reader).await.0, "later");
}

// A handler has the socket, and can send to it, as `socket.send` in the original's example.
#[tokio::test]
async fn a_handler_sends_to_the_peer_it_hears() {
    async fn ping(peer: Peer, Body(body): Body<Value>) {
        peer.send("pong", &body).await.expect("it is connected");
    }
    let app = |router| App::new().with(Courier::json()).with(router);
    let routes = Router::<()>::new().route("ping", ping);
    let (_first, second) = pair(app(routes), app(Router::new())).await;
    let mut reader = second.reader();
    let sent = second.broadcast("ping", &json!({ "time": 1 })).await;
    assert_eq!(sent.expect("a courier").queued, 1);
    assert_eq!(
        typed(&mut reader).await,
        ("pong".to_owned(), json!({ "time": 1 }))
    );
}
