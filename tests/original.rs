//! What the Node original promises and tests, asked of ours: its scenarios, expressed anew.

mod support;

use std::sync::{Arc, Mutex};

use coalescent::{Direction, DisconnectReason, prelude::*};
use serde_json::{Value, json};
use support::mesh::{addr, bytes, connected, disconnected, error, event, payload, typed, within};
use tokio::{io::AsyncWriteExt, net::TcpListener};
use tower::util::MapRequestLayer;

type Seen<T> = Arc<Mutex<Vec<T>>>;

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
        let sent = first.broadcast_payload("beep").await;
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

// Routing: the handler for the type, the default handler for what is unknown; also on a running app.
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

// Middleware is a chain: each sees what the one before made of it, and the app reads the end. Its
// function gets the socket that is current.
#[tokio::test]
async fn middleware_transforms_what_the_app_reads_in_the_order_of_registration() {
    let told: Seen<coalescent::PeerId> = Seen::default();
    let seen = Arc::clone(&told);
    let replace = |from: &'static str, to: &'static str| {
        move |mut frame: Frame| {
            let text = String::from_utf8_lossy(frame.payload()).replace(from, to);
            frame.set_payload(text);
            frame
        }
    };
    let app = App::new()
        .layer(MapRequestLayer::new(replace("beep", "boop")))
        .layer(MapRequestLayer::new(replace("boop", "honk")))
        .layer(MapRequestLayer::new(move |frame: Frame| {
            seen.lock().expect("whole").push(frame.peer().id().clone());
            frame
        }));
    let first = listen(app).await;
    let mut reader = first.reader();
    let mut second = start(App::new()).await;
    second.connect(&addr(&first)).await.expect("it is there");

    second
        .write_all(b"a beep, a boop")
        .await
        .expect("it is written");

    assert_eq!(payload(&mut reader).await, b"a honk, a honk");
    let peer = first.peers().list()[0].id().clone();
    assert_eq!(*told.lock().expect("whole"), [peer]);
}

/// Counts how it is registered, and for whom it is called.
#[derive(Clone, Default)]
struct Counting(Seen<&'static str>);

impl Counting {
    fn note(&self, what: &'static str) {
        self.0.lock().expect("whole").push(what);
    }

    fn noted(&self) -> Vec<&'static str> {
        self.0.lock().expect("whole").clone()
    }
}

impl Plugin for Counting {
    fn register(&self, app: &mut Registrar) {
        self.note("plugin");
        app.insert(42_u64);
        let counting = self.clone();
        app.on_connect(move |peer| {
            counting.note("init");
            async move {
                assert!(peer.mesh().is_some(), "the hook gets the app with the peer");
            }
        });
    }
}

impl<S> tower::Layer<S> for Counting {
    type Service = S;

    fn layer(&self, inner: S) -> S {
        self.note("layer");
        inner
    }
}

// `_plugin(app)` once, when it is registered; `_init(app, socket)` for each peer that connects.
#[tokio::test]
async fn a_plugin_is_applied_on_registration_and_told_of_each_peer() {
    let counting = Counting::default();
    let app = App::new().with(counting.clone());
    assert_eq!(counting.noted(), ["plugin"]);
    let mesh = listen(app).await;
    assert_eq!(mesh.get::<u64>(), Some(42));

    let mut events = mesh.events();
    for peers in 1..=2 {
        let other = start(App::new()).await;
        other.connect(&addr(&mesh)).await.expect("it is there");
        connected(&mut events).await;
        other.broadcast_payload("beep").await;
        let mut reader = mesh.reader();
        assert_eq!(payload(&mut reader).await, b"beep");
        for (what, times) in [("plugin", 1), ("init", peers), ("layer", peers)] {
            let noted = counting.noted();
            let count = noted.iter().filter(|noted| **noted == what).count();
            assert_eq!(count, times, "{what} in {noted:?}");
        }
    }
}

#[tokio::test]
async fn values_are_set_and_got_and_missing_ones_are_none() {
    #[derive(Clone, Debug, PartialEq)]
    struct Handle(&'static str);
    let mesh = start(App::new()).await;
    assert_eq!(mesh.get::<Handle>(), None);
    assert_eq!(mesh.set(Handle("alice")), None);
    assert_eq!(mesh.set(Handle("bob")), Some(Handle("alice")));
    assert_eq!(mesh.clone().get(), Some(Handle("bob")));
}

// Two connections between the same two are one peer.
#[tokio::test]
async fn peers_are_listed_once() {
    let (first, second) = (listen(App::new()).await, listen(App::new()).await);
    let one = first.connect(&addr(&second)).await.expect("it is there");
    connected(&mut second.events()).await;
    let same = first.connect(&addr(&second)).await.expect("it is there");
    let back = second.connect(&addr(&first)).await.expect("it is there");
    assert_eq!(one, same);
    assert_eq!(back.id(), second.peers().list()[0].id());
    assert_eq!((first.peers().len(), second.peers().len()), (1, 1));
}

// It enters the network by its seeds: as many as minPeers says, and never more than maxPeers.
#[tokio::test]
async fn a_node_enters_the_network_by_its_seeds() {
    let seeds = [
        listen(App::new()).await,
        listen(App::new()).await,
        listen(App::new()).await,
    ];
    let addrs = seeds.iter().map(addr).collect::<Vec<_>>();
    let mesh = listen(App::new().seeds(&addrs).min_peers(3)).await;
    let mut events = mesh.events();
    for _ in &addrs {
        assert_eq!(
            connected(&mut events).await.direction(),
            Direction::Outbound
        );
    }
    let mesh = listen(App::new().seeds(&addrs).min_peers(1).max_peers(1)).await;
    connected(&mut mesh.events()).await;
    assert_eq!(mesh.peers().len(), 1);
}

// peerConnected and peerDisconnected, for inbound and outbound peers, with the peer.
#[tokio::test]
async fn events_tell_of_peers_that_come_and_go_either_way() {
    let callback: Seen<String> = Seen::default();
    let seen = Arc::clone(&callback);
    let mesh = listen(App::new().on_event(move |event| {
        if let Event::PeerConnected { peer } = event {
            seen.lock().expect("whole").push(peer.id().to_string());
        }
    }))
    .await;
    let mut events = mesh.events();
    let other = listen(App::new()).await;
    for direction in [Direction::Inbound, Direction::Outbound] {
        match direction {
            Direction::Inbound => other.connect(&addr(&mesh)).await,
            Direction::Outbound => mesh.connect(&addr(&other)).await,
        }
        .expect("it is there");
        let peer = connected(&mut events).await;
        assert_eq!(peer.direction(), direction);
        assert!(peer.is_connected());
        for connected in other.peers().list().iter() {
            connected.disconnect("that will do");
        }
        let (gone, reason) = disconnected(&mut events).await;
        assert_eq!(gone, peer);
        assert!(matches!(reason, DisconnectReason::Bye(_)), "{reason}");
        assert!(!gone.is_connected());
    }
    mesh.shutdown().await;
    assert_eq!(callback.lock().expect("whole").len(), 2);
}

#[tokio::test]
async fn errors_are_events_with_the_peer_and_the_peer_stays() {
    let app = App::new().with(Courier::new());
    let first = listen(app).await;
    let mut events = first.events();
    let second = start(App::new()).await;
    second.connect(&addr(&first)).await.expect("it is there");

    second.broadcast_payload("no message").await;

    let peer = event("error of a peer", &mut events, |event| match event {
        Event::Error { peer, .. } => peer,
        _ => None,
    })
    .await;
    assert!(peer.is_connected());

    // A seed that is not there is an error too, of no peer.
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let nobody = closed.local_addr().expect("its address").to_string();
    drop(closed);
    first.add_seed(&nobody).expect("it is an address");
    assert!(error(&mut events).await.contains(&nobody));
}

// listen, connect, and destroy, which frees the address.
#[tokio::test]
async fn an_address_is_taken_while_the_mesh_runs_and_free_after_it() {
    let first = listen(App::new()).await;
    let ours = addr(&first);
    let error = App::new().listen(&ours).await.expect_err("it is taken");
    assert!(error.is_listen(), "{error}");

    let other = start(App::new()).await;
    let peer = other.connect(&ours).await.expect("it is there");
    connected(&mut first.events()).await;
    first.shutdown().await;
    within("goodbye", peer.closed()).await;
    assert!(
        other
            .connect(&ours)
            .await
            .expect_err("it has ended")
            .is_dial()
    );

    let again = App::new().listen(&ours).await.expect("it is free");
    other.connect(&ours).await.expect("it is there");
    assert_eq!(addr(&again), ours);
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
