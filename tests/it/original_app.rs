//! What the Node original promises of its app, asked of ours: middleware, plugins, values, peers,
//! seeds, events.

use std::sync::{Arc, Mutex};

use coalescent::prelude::*;
use coalescent::{Direction, DisconnectReason};
use support::mesh::{addr, connected, disconnected, error, event, payload};
use support::soon;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tower::util::MapRequestLayer;

type Seen<T> = Arc<Mutex<Vec<T>>>;

async fn listen<L: coalescent::PeerLayer>(app: App<L>) -> Mesh {
    app.listen("127.0.0.1:0").await.expect("it listens")
}

async fn start<L: coalescent::PeerLayer>(app: App<L>) -> Mesh {
    app.start().await.expect("it starts")
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
            seen.lock().expect("whole").push(*frame.peer().id());
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
    let peer = *first.peers().list()[0].id();
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

    let (mut events, mut reader) = (mesh.events(), mesh.reader());
    for peers in 1..=2 {
        let other = start(App::new()).await;
        other.connect(&addr(&mesh)).await.expect("it is there");
        connected(&mut events).await;
        let _ = other.broadcast_payload("beep").await.unwrap();
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
            _ => mesh.connect(&addr(&other)).await,
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

    let _ = second.broadcast_payload("no message").await.unwrap();

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
    soon("goodbye", peer.closed()).await;
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
