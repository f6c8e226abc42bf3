//! Messages between nodes, and the verbs that send them.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use coalescent_core::codec::{Codec, Format};
use coalescent_core::connection::ConnectionInfo;
use coalescent_core::transport::Memory;
use coalescent_core::{
    App, AppExt, BoxError, Config, Error, Event, Frame, Mesh, MeshReader, Message, PeerLayer,
    Peers, Plugin, Reply, connection, message_type,
};
use coalescent_layers::{Courier, MeshExt, PeerExt, ServiceBuilderExt, SmartRelay};
use serde::{Serialize, Serializer};
use serde_json::json;
use support::memory::{Lines, heard, node};
use support::soon;
use tower::layer::layer_fn;
use tower::{ServiceBuilder, service_fn};

async fn next(reader: &mut MeshReader) -> Message {
    let frame = reader.next_frame().await.expect("the mesh runs");
    frame.message().expect("there is a courier").clone()
}

/// What a message says, as text.
fn said(message: &Message) -> String {
    format!(
        "{} {}",
        message.kind(),
        message.body_to_json_string().unwrap()
    )
}

/// Makes a hub and three peers of it.
async fn star<L: PeerLayer>(app: impl Fn() -> App<L>) -> (Mesh, Vec<Mesh>) {
    let network = Memory::new();
    let hub = node(&network, "hub:1", app()).await;
    let mut others = Vec::new();
    for port in 2..5 {
        let other = node(&network, &format!("other:{port}"), app()).await;
        other.connect("hub:1").await.unwrap();
        others.push(other);
    }
    (hub, others)
}

#[tokio::test(start_paused = true)]
async fn each_verb_reaches_those_it_names() {
    for courier in [
        Courier::new(),
        Courier::json(),
        Courier::json().type_param("t").body_param("b"),
    ] {
        let network = Memory::new();
        let app = || App::new().with(courier.clone());
        let hub = node(&network, "hub:1", app()).await;
        let mut readers = Vec::new();
        let mut others = Vec::new();
        for port in 2..5 {
            let other = node(&network, &format!("other:{port}"), app()).await;
            other.connect("hub:1").await.unwrap();
            readers.push(other.reader());
            others.push(other);
        }
        let peers = hub.peers().list();

        let body = json!({ "sound": "boop" });
        assert_eq!(hub.broadcast("all", &body).await.unwrap().queued, 3);
        assert_eq!(hub.try_broadcast("all", &1).unwrap().queued, 3);
        let with_header = Message::new("all", &2).with_header("from", "hub");
        assert_eq!(hub.broadcast_message(with_header).await.unwrap().queued, 3);
        assert_eq!(hub.peers().broadcast("all", &3).await.unwrap().queued, 3);
        assert_eq!(
            hub.broadcast_except(&peers[..2], "last", &())
                .await
                .unwrap()
                .queued,
            1
        );
        assert_eq!(
            hub.broadcast_to(&peers[..1], "first", &())
                .await
                .unwrap()
                .queued,
            1
        );
        peers[0].send("first", "send").await.unwrap();
        peers[0].try_send("first", "try_send").unwrap();
        let message = Message::new("first", "message").with_header("from", "hub");
        peers[0].send_message(message).await.unwrap();

        for (place, reader) in readers.iter_mut().enumerate() {
            assert_eq!(said(&next(reader).await), r#"all {"sound":"boop"}"#);
            assert_eq!(said(&next(reader).await), "all 1");
            let message = next(reader).await;
            assert_eq!(said(&message), "all 2");
            assert_eq!(message.header::<String>("from").unwrap().unwrap(), "hub");
            assert_eq!(said(&next(reader).await), "all 3");
            let expected: &[&str] = match place {
                0 => &[
                    "first null",
                    r#"first "send""#,
                    r#"first "try_send""#,
                    r#"first "message""#,
                ],
                1 => &[],
                _ => &["last null"],
            };
            for expected in expected {
                assert_eq!(said(&next(reader).await), *expected);
            }
            assert!(
                heard(reader).await.is_empty(),
                "no more than that at {place}"
            );
        }
    }
}

/// Counts how often it is serialized.
struct Counted<'a>(&'a AtomicUsize);

impl Serialize for Counted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.fetch_add(1, Relaxed);
        serializer.serialize_str("counted")
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_is_serialized_once_for_all_peers_and_a_message_once_for_all_broadcasts() {
    let (hub, others) = star(App::new).await;
    hub.set(Arc::new(Codec::msgpack()));
    let count = AtomicUsize::new(0);
    assert_eq!(
        hub.broadcast("beep", &Counted(&count))
            .await
            .unwrap()
            .queued,
        3
    );
    assert_eq!(count.swap(0, Relaxed), 1);

    let message = Message::new("beep", &Counted(&count));
    for _ in 0..2 {
        let _ = hub.broadcast_message(message.clone()).await.unwrap();
    }
    assert_eq!(count.swap(0, Relaxed), 1);
    hub.peers().flushed().await;
    for other in others {
        assert_eq!(other.shutdown().await.received, 3);
    }
}

/// A number, but for 3, which cannot be serialized.
struct NoThree(u32);

impl Serialize for NoThree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            3 => Err(serde::ser::Error::custom("no three")),
            number => serializer.serialize_u32(number),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn many_bodies_are_messages_in_their_order_up_to_one_that_cannot_be_serialized() {
    for courier in [Courier::new(), Courier::json()] {
        let (hub, others) = star(|| App::new().with(courier.clone())).await;
        let mut readers: Vec<MeshReader> = others.iter().map(Mesh::reader).collect();

        // More than one batch.
        let sent = hub.broadcast_all("number", 0..20_000).await.unwrap();
        assert_eq!((sent.queued, sent.dropped), (3 * 20_000, 0));
        let none: [u32; 0] = [];
        assert_eq!(hub.broadcast_all("none", none).await.unwrap().queued, 0);
        let bodies = (0..6).map(NoThree);
        let error = hub.peers().broadcast_all("some", bodies).await.unwrap_err();
        assert!(error.is_encode(), "{error}");
        assert!(error.report().to_string().contains("no three"), "{error}");
        let _ = hub.broadcast("end", &()).await.unwrap();

        for reader in &mut readers {
            for number in 0..20_000 {
                assert_eq!(said(&next(reader).await), format!("number {number}"));
            }
            for expected in ["some 0", "some 1", "some 2", "end null"] {
                assert_eq!(said(&next(reader).await), expected);
            }
        }
        assert_eq!(hub.shutdown().await.sent, 3 * 20_004);
    }
}

#[tokio::test(start_paused = true)]
async fn a_malformed_message_is_an_error_and_the_peer_stays() {
    let network = Memory::new();
    let alice = node(&network, "alice:1", App::new().with(Courier::new())).await;
    let mut events = alice.events();
    let mut reader = alice.reader();
    let bob = node(&network, "bob:2", App::new().with(Courier::new())).await;
    let peer = bob.connect("alice:1").await.unwrap();

    peer.send_payload("no message").await.unwrap();
    peer.send("beep", &1).await.unwrap();

    assert_eq!(said(&next(&mut reader).await), "beep 1");
    let error = loop {
        match events.next().await.expect("the mesh runs") {
            Event::Error { peer, error } => {
                assert_eq!(peer.as_ref(), alice.peers().list().first());
                break error;
            }
            Event::PeerDisconnected { .. } => panic!("the peer is to stay"),
            _ => {}
        }
    };
    assert!(error.is_call() && !error.is_panic());
    assert!(
        error.report().to_string().contains("not a message"),
        "{error}"
    );
    assert!(peer.is_connected());

    // A request that is no message is told so.
    let error = peer.request_payload("no message").await.unwrap_err();
    assert!(
        error.is_failed() && error.report().to_string().contains("not a message"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_courier_each_verb_says_what_to_do() {
    let (hub, _others) = star(App::new).await;
    let peers = hub.peers().list();
    let message = Message::new("beep", &1);
    let errors = [
        hub.broadcast("beep", &1).await.unwrap_err(),
        hub.try_broadcast("beep", &1).unwrap_err(),
        hub.broadcast_except(&[], "beep", &1).await.unwrap_err(),
        hub.broadcast_to(&peers, "beep", &1).await.unwrap_err(),
        hub.broadcast_message(message.clone()).await.unwrap_err(),
        hub.broadcast_all("beep", [1]).await.unwrap_err(),
        hub.peers().broadcast("beep", &1).await.unwrap_err(),
        peers[0].send("beep", &1).await.unwrap_err(),
        peers[0].try_send("beep", &1).unwrap_err(),
        peers[0].send_message(message.clone()).await.unwrap_err(),
        peers[0].request("beep", &1).await.unwrap_err(),
        peers[0].request_message(message).await.unwrap_err(),
    ];
    for error in errors {
        assert!(error.is_no_courier(), "{error}");
        assert!(
            error.report().to_string().contains(".with(Courier::new())"),
            "{error}"
        );
    }
    assert_eq!(hub.shutdown().await.sent, 0);
}

#[tokio::test(start_paused = true)]
async fn a_courier_that_was_only_layered_is_told_apart_from_none() {
    let nested = ServiceBuilder::new().layer(Courier::json());
    for mesh in [
        App::new().layer(Courier::new()).start().await.unwrap(),
        App::new().layer(nested).start().await.unwrap(),
    ] {
        let error = mesh.broadcast("beep", &1).await.unwrap_err();
        assert!(error.is_no_courier(), "{error}");
        let text = error.to_string();
        assert!(text.contains("the courier is in the stack"), "{text}");
        assert!(text.contains("`.with(Courier::new())`"), "{text}");
    }
    // A registered courier needs no layer.
    let mesh = App::new().plugin(Courier::new()).start().await.unwrap();
    assert_eq!(mesh.broadcast("beep", &1).await.unwrap().queued, 0);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_serialized_is_an_error_of_the_verb() {
    struct Broken;
    impl Serialize for Broken {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("broken on purpose"))
        }
    }
    let (hub, _others) = star(App::new).await;
    hub.set(Arc::new(Codec::json()));
    let error = hub.broadcast("beep", &Broken).await.unwrap_err();
    assert!(
        error.is_encode() && error.report().to_string().contains("broken on purpose"),
        "{error}"
    );
    let error = hub
        .broadcast_message(Message::new("beep", &Broken))
        .await
        .unwrap_err();
    assert!(error.is_encode(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_value_arrives_as_it_was_sent_or_fails_at_its_sender() {
    for courier in [Courier::new(), Courier::json()] {
        let network = Memory::new();
        let alice = node(&network, "alice:1", App::new().with(courier.clone())).await;
        let bob = node(&network, "bob:2", App::new().with(courier.clone())).await;
        let mut reader = alice.reader();
        let peer = bob.connect("alice:1").await.unwrap();

        for number in [7, u128::MAX] {
            let _ = bob.broadcast("n", &number).await.unwrap();
            let made = Message::new("n", &number);
            let _ = bob.broadcast_message(made.clone()).await.unwrap();
            peer.send_message(made).await.unwrap();
            for _ in 0..3 {
                let message = next(&mut reader).await;
                assert_eq!(message.body::<u128>().unwrap(), number);
            }
        }
        let pairs = std::collections::BTreeMap::from([((1, 2), 3)]);
        let sent = [
            bob.broadcast("x", &f64::NAN).await.map(drop),
            bob.broadcast_message(Message::new("x", &f64::NAN))
                .await
                .map(drop),
            peer.send("x", &[f32::INFINITY]).await,
            peer.try_send("x", &pairs),
            peer.send_message(Message::new("x", &pairs)).await,
        ];
        if courier.codec().format() == Format::Json {
            for sent in sent {
                let error = sent.unwrap_err();
                assert!(error.is_encode(), "{error}");
            }
        } else {
            assert!(sent.iter().all(Result::is_ok));
            assert!(next(&mut reader).await.body::<f64>().unwrap().is_nan());
        }
    }
}

async fn answer(frame: Frame) -> Result<Reply, BoxError> {
    let message = frame.message().ok_or_else(Error::no_courier)?;
    Ok(match message.kind() {
        "ping" => Message::new("pong", &(message.body::<u64>()? + 1)).into(),
        "raw" => Reply::Payload("no message".into()),
        _ => Reply::None,
    })
}

#[tokio::test(start_paused = true)]
async fn a_request_is_answered_with_a_message() {
    for courier in [Courier::new(), Courier::json()] {
        let network = Memory::new();
        let handler = layer_fn(|_| service_fn(answer));
        let app = App::new().with(courier.clone()).layer(handler);
        let _alice = node(&network, "alice:1", app).await;
        let bob = node(&network, "bob:2", App::new().with(courier)).await;
        let peer = bob.connect("alice:1").await.unwrap();

        assert_eq!(said(&peer.request("ping", &41).await.unwrap()), "pong 42");
        let reply = peer.request_message(Message::new("ping", &1)).await;
        assert_eq!(said(&reply.unwrap()), "pong 2");
        assert!(
            peer.request("silence", &())
                .await
                .unwrap_err()
                .is_no_answer()
        );
        assert!(peer.request("raw", &()).await.unwrap_err().is_decode());
        let error = peer.request("ping", "no number").await.unwrap_err();
        assert!(
            error.is_failed() && error.report().to_string().contains("body"),
            "{error}"
        );

        // Outside of a request, the answer is a message of its own.
        let mut reader = bob.reader();
        let _ = bob.broadcast("ping", &1).await.unwrap();
        assert_eq!(said(&next(&mut reader).await), "pong 2");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_a_courier_is_an_error_that_says_so() {
    let network = Memory::new();
    let handler = layer_fn(|_| {
        service_fn(async |_: Frame| Ok::<_, BoxError>(Message::new("pong", &1).into()))
    });
    let _alice = node(&network, "alice:1", App::new().layer(handler)).await;
    let bob = node(&network, "bob:2", App::new().with(Courier::new())).await;
    let peer = bob.connect("alice:1").await.unwrap();
    let error = peer.request("ping", &1).await.unwrap_err();
    assert!(
        error.is_failed() && error.report().to_string().contains("courier"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn json_on_lines_is_what_others_write_and_read() {
    let handler = layer_fn(|_| service_fn(answer));
    let app = App::new().with(Courier::json()).layer(handler);
    let mesh = node(&Memory::new(), "hub:1", app).await;
    let (mut other, peer) = Lines::connect(&mesh).await;
    let _ = mesh
        .broadcast("beep", &json!({ "sound": "boop" }))
        .await
        .unwrap();
    assert_eq!(
        other.heard().await,
        [r#"{"type":"beep","body":{"sound":"boop"}}"#]
    );
    other
        .say("not json\n{\"body\":41,\"type\":\"ping\"}\n")
        .await;
    assert_eq!(other.heard().await, [r#"{"type":"pong","body":42}"#]);
    assert!(other.is_open().await);
    assert!(peer.request("ping", &1).await.unwrap_err().is_refused());
}

#[tokio::test(start_paused = true)]
async fn a_stack_needs_no_app() {
    let (relay, courier) = (SmartRelay::new(), Courier::new());
    let here = Peers::with_plugins(Config::default(), [&relay as &dyn Plugin, &courier]);
    let there = Peers::new(Config::default());
    there.set_shared(Arc::new(Codec::msgpack()));
    let (left, right) = tokio::io::duplex(64 * 1024);

    let stack = ServiceBuilder::new()
        .layer(relay.clone())
        .layer(courier)
        .service(here.inbox());
    let serving = here.clone();
    tokio::spawn(async move {
        connection::serve(left, stack, &serving, ConnectionInfo::outbound()).await
    });
    let stack = ServiceBuilder::new()
        .smart_relay()
        .catch_panic()
        .courier()
        .service_fn(async |frame: Frame| {
            let boom = frame
                .message()
                .is_some_and(|message| message.kind() == "boom");
            assert!(!boom, "as asked");
            answer(frame).await
        });
    let serving = there.clone();
    let mut events = there.events();
    tokio::spawn(async move {
        connection::serve(right, stack, &serving, ConnectionInfo::inbound()).await
    });
    loop {
        if let Some(Event::PeerConnected { .. }) = events.next().await {
            break;
        }
    }

    let mut connected = here.events();
    while here.is_empty() {
        connected.next().await;
    }
    let peer = here.list()[0].clone();
    assert_eq!(said(&peer.request("ping", &1).await.unwrap()), "pong 2");
    let error = peer.request("boom", &()).await.unwrap_err();
    assert!(
        error.is_failed() && error.report().to_string().contains("as asked"),
        "{error}"
    );
    assert_eq!(said(&peer.request("ping", &2).await.unwrap()), "pong 3");

    // What this node says is in its relay's set.
    assert_eq!(relay.seen().identities, 0);
    let _ = here.broadcast("beep", &1).await.unwrap();
    assert_eq!(relay.seen().identities, 1);
}

#[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
struct Set {
    key: String,
    value: u64,
}

#[derive(Serialize)]
struct Get<'a> {
    key: &'a str,
}

message_type! {
    Set => "set",
    Get<'_> => "get" -> Option<u64>,
}

#[tokio::test(start_paused = true)]
async fn typed_verbs_say_the_type_and_an_answer_has_the_body_that_it_should() {
    let network = Memory::new();
    let handler = layer_fn(|_| {
        service_fn(async |frame: Frame| {
            let message = frame.message().ok_or_else(Error::no_courier)?;
            let key = message.body_to_json_string()?;
            Ok::<_, BoxError>(match () {
                () if message.kind() != "get" => Reply::None,
                () if key.contains("none") => Message::new("value", &()).into(),
                () if key.contains("text") => Message::new("value", "text").into(),
                () if key.contains("bytes") => Reply::Payload("no message".into()),
                () => Message::new("value", &42).into(),
            })
        })
    });
    let app = || App::new().with(Courier::new());
    let hub = node(&network, "hub:1", app().layer(handler)).await;
    let bob = node(&network, "bob:2", app()).await;
    let peer = bob.connect("hub:1").await.unwrap();
    soon("bob", hub.connected(1)).await.unwrap();

    let ask = |key| {
        let peer = &peer;
        async move { peer.ask(&Get { key }).await }
    };
    assert_eq!(ask("some").await.unwrap(), Some(42));
    assert_eq!(ask("none").await.unwrap(), None);
    for key in ["text", "bytes"] {
        let error = ask(key).await.unwrap_err();
        assert!(error.is_decode(), "{key}: {error}");
    }

    let set = |value| Set {
        key: "answer".to_owned(),
        value,
    };
    let mut heard = bob.reader();
    let theirs = hub.peers().list()[0].clone();
    assert_eq!(hub.broadcast_typed(&set(1)).await.unwrap().queued, 1);
    assert_eq!(hub.try_broadcast_typed(&set(2)).unwrap().queued, 1);
    theirs.send_typed(&set(3)).await.unwrap();
    theirs.try_send_typed(&set(4)).unwrap();
    for value in 1..5 {
        let message = next(&mut heard).await;
        assert_eq!(
            (message.kind(), message.body().unwrap()),
            ("set", set(value))
        );
    }
}
