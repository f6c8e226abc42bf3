//! Messages that their authors sign, over nodes that know nothing of signatures.

use std::time::Duration;

use bytes::Bytes;
use coalescent_core::identity::{Identity, PublicKey};
use coalescent_core::test_util::conformance::Conformance;
use coalescent_core::test_util::{self, Recorder};
use coalescent_core::transport::Memory;
use coalescent_core::wire::Kind;
use coalescent_core::{
    App, AppExt, BoxError, Config, Error, Event, Frame, Mesh, Message, PeerLayer, Peers, Plugin,
    Reply,
};
use coalescent_layers::signed::{SIG, author_of};
use coalescent_layers::{Courier, MeshExt, PeerExt, Signed, SmartRelay, Tattletale};
use support::memory::node;
use support::until;
use tower::layer::layer_fn;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

const NETWORK: &str = "net";

/// On paused time: until every task waits.
const QUIET: Duration = Duration::from_millis(200);

fn couriers() -> [Courier; 2] {
    [Courier::new(), Courier::json()]
}

/// A node of its own, whose codec signs.
fn signs(courier: &Courier, identity: &Identity, network: &str) -> Peers {
    let mut config = Config::default();
    config.network = network.to_owned();
    let signs = Signed::new().by(identity.clone());
    Peers::with_plugins(config, [courier as &dyn Plugin, &signs])
}

/// A signed message as a payload.
fn signed(courier: &Courier, identity: &Identity, body: &str) -> Bytes {
    let codec = signs(courier, identity, NETWORK).codec().unwrap();
    codec.encode_body("chat", body).unwrap()
}

fn said(frame: &Frame) -> (Option<PublicKey>, String) {
    let author = frame.author().map(|author| *author.key());
    let message = frame.message().expect("there is a courier");
    (author, message.body().unwrap())
}

/// Connects two nodes without layers by two relays; returns the first and the last.
async fn by_two<L: PeerLayer>(relay: impl Fn() -> App<L>) -> (Mesh, Mesh, [Mesh; 2]) {
    let network = Memory::new();
    let first = node(&network, "first:1", App::new().network(NETWORK)).await;
    let one = node(&network, "relay:2", relay().network(NETWORK)).await;
    one.connect("first:1").await.unwrap();
    let two = node(&network, "relay:3", relay().network(NETWORK)).await;
    two.connect("relay:2").await.unwrap();
    let last = node(&network, "last:4", App::new().network(NETWORK)).await;
    last.connect("relay:3").await.unwrap();
    until("all are connected", || {
        let connected = |mesh: &Mesh, count| mesh.peers().len() == count;
        connected(&first, 1) && connected(&one, 2) && connected(&two, 2) && connected(&last, 1)
    })
    .await;
    (first, last, [one, two])
}

/// Relays of these kinds pass on what is signed, byte for byte; if they check it, nothing else, and
/// nobody pays for that.
async fn check_relays<L: PeerLayer>(courier: &Courier, relay: impl Fn() -> App<L>, checks: bool) {
    let identity = Identity::generate();
    let (first, last, relays) = by_two(relay).await;
    let mut heard = Recorder::of(&last);
    let mut events: Vec<_> = relays.iter().map(Mesh::events).collect();

    let payload = signed(courier, &identity, "hello\n");
    let _ = first.broadcast_payload(payload.clone()).await;
    let frame = heard.expect_frame().await;
    assert_eq!(frame.payload(), payload);
    let message = courier.codec().decode(&payload).unwrap();
    let author = author_of(&message, NETWORK).unwrap().unwrap();
    assert_eq!(*author.key(), identity.id());

    let other = signs(courier, &identity, "another").codec().unwrap();
    let other = other.encode_body("chat", "elsewhere").unwrap();
    let mut forged = signed(courier, &identity, "forged?").to_vec();
    let at = forged.iter().position(|byte| *byte == b'?').unwrap();
    forged[at] = b'!';
    let unsigned = courier.codec().encode_body("chat", "unsigned").unwrap();
    for payload in [other, forged.into(), unsigned, payload] {
        let _ = first.broadcast_payload(payload.clone()).await;
        if checks {
            heard.expect_nothing().await;
        } else {
            assert_eq!(heard.expect_frame().await.payload(), payload);
        }
    }
    heard.expect_nothing().await;
    if checks {
        assert_eq!(relays[0].stats().relayed, 1);
    }
    for events in &mut events {
        while let Ok(Some(event)) = tokio::time::timeout(QUIET, events.next()).await {
            assert!(!matches!(event, Event::Error { .. }), "{event:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_signature_survives_relays_that_know_nothing_of_it() {
    for courier in &couriers() {
        check_relays(courier, || App::new().with(Tattletale::new()), false).await;
        check_relays(courier, || App::new().with(SmartRelay::new()), false).await;
        let parses = || App::new().with(courier.clone()).with(SmartRelay::new());
        check_relays(courier, parses, false).await;
    }
}

#[tokio::test(start_paused = true)]
async fn relays_that_check_pass_on_only_what_is_signed() {
    for courier in &couriers() {
        let checks = || Signed::new().require();
        let inside = || {
            let app = App::new().with(courier.clone()).with(checks());
            app.with(SmartRelay::new())
        };
        check_relays(courier, inside, true).await;
        let after = || {
            let app = App::new().with(SmartRelay::new().relay_after());
            app.with(courier.clone()).with(checks())
        };
        check_relays(courier, after, true).await;
        let after = || {
            let app = App::new().with(Tattletale::new().relay_after());
            app.with(courier.clone()).with(checks())
        };
        check_relays(courier, after, true).await;
    }
}

/// What a node with these options takes of five messages: by Alice, by Bob, by nobody, forged, and
/// by Alice again.
async fn taken(options: impl Fn(Signed, &Identity) -> Signed) -> (Vec<String>, Signed) {
    let courier = Courier::new();
    let (alice, bob) = (Identity::generate(), Identity::generate());
    let layer = options(Signed::new(), &alice);
    let network = Memory::new();
    let app = App::new().network(NETWORK).with(courier.clone());
    let hub = node(&network, "hub:1", app.with(layer.clone())).await;
    let mut heard = Recorder::of(&hub);
    let peer = Recorder::join(&hub).await;

    let first = signed(&courier, &alice, "first");
    let mut forged = signed(&courier, &alice, "forged").to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let unsigned = courier.codec().encode_body("chat", "unsigned").unwrap();
    peer.send_payload(first.clone()).await;
    peer.send_payload(signed(&courier, &bob, "second")).await;
    peer.send_payload(unsigned).await;
    peer.send_payload(forged).await;
    peer.send_payload(first).await;
    record_all(&hub, &mut heard).await;
    let name = |key: PublicKey| match key {
        key if key == alice.id() => "alice",
        key if key == bob.id() => "bob",
        _ => "?",
    };
    let taken = heard.frames().iter().map(|frame| {
        let (author, text) = said(frame);
        format!("{} {text}", author.map_or("-", name))
    });
    (taken.collect(), layer)
}

/// Records all that the node has got.
async fn record_all(mesh: &Mesh, heard: &mut Recorder) {
    until("all arrived", || mesh.stats().received == 5).await;
    tokio::time::sleep(QUIET).await;
    for _ in 0..mesh.stats().delivered {
        heard.expect_frame().await;
    }
    heard.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn the_options_decide_what_is_taken() {
    let (default, layer) = taken(|signed, _| signed).await;
    assert_eq!(default, ["alice first", "bob second", "- unsigned"]);
    let stats = layer.stats();
    assert_eq!((stats.valid, stats.unsigned, stats.invalid), (2, 1, 1));
    assert_eq!((stats.replayed, stats.remembered), (1, 2));

    let (required, layer) = taken(|signed, _| signed.require()).await;
    assert_eq!(required, ["alice first", "bob second"]);
    assert_eq!(layer.stats(), stats);

    let (allowed, layer) = taken(|signed, alice| signed.allow([alice.id()])).await;
    assert_eq!(allowed, ["alice first"]);
    assert_eq!((layer.stats().valid, layer.stats().not_allowed), (1, 1));

    let (nobody, _) = taken(|signed, _| signed.allow([])).await;
    assert!(nobody.is_empty());

    let (all, _) = taken(|signed, _| signed.pass_invalid()).await;
    let expected = [
        "alice first",
        "bob second",
        "- unsigned",
        "- forgee",
        "- first",
    ];
    assert_eq!(all, expected);
}

#[tokio::test(start_paused = true)]
async fn all_that_a_node_says_is_signed() {
    for courier in couriers() {
        let identity = Identity::generate();
        let network = Memory::new();
        let pong = layer_fn(|_inner| {
            service_fn(async |frame: Frame| {
                let message = frame.message().ok_or_else(Error::no_courier)?;
                Ok::<_, BoxError>(match message.kind() {
                    "ping" => Message::new("pong", "pong").into(),
                    _ => Reply::None,
                })
            })
        });
        let app = || App::new().network(NETWORK).with(courier.clone());
        let signs = app().with(Signed::new().by(identity.clone()));
        let alice = node(&network, "alice:1", signs.layer(pong)).await;
        let bob = node(&network, "bob:2", app().with(Signed::new())).await;
        let mut heard = Recorder::of(&bob);
        let to_alice = bob.connect("alice:1").await.unwrap();
        until("connected", || alice.peers().len() == 1).await;
        let to_bob = alice.peers().list()[0].clone();

        let _ = alice.broadcast("chat", "broadcast").await.unwrap();
        let _ = alice.try_broadcast("chat", "try").unwrap();
        let message = Message::new("chat", "message").with_header("hops", &1);
        let _ = alice.broadcast_message(message.clone()).await.unwrap();
        // Said twice: two messages.
        let _ = alice.broadcast_message(message).await.unwrap();
        let many = ["one", "two", "two"];
        let _ = alice.broadcast_all("chat", many).await.unwrap();
        let _ = alice
            .broadcast_to(std::slice::from_ref(&to_bob), "chat", "to")
            .await
            .unwrap();
        to_bob.send("chat", "send").await.unwrap();
        let expected = [
            "broadcast",
            "try",
            "message",
            "message",
            "one",
            "two",
            "two",
            "to",
            "send",
        ];
        for text in expected {
            let frame = heard.expect_frame().await;
            let author = Some(identity.id());
            assert_eq!(said(&frame), (author, text.to_owned()));
        }
        let _ = to_bob.request("chat", "request").await;
        assert_eq!(said(&heard.expect_frame().await).0, Some(identity.id()));
        let mut service = to_bob.clone();
        let request = Message::new("chat", "service");
        let _ = service.ready().await.unwrap().call(request).await;
        assert_eq!(said(&heard.expect_frame().await).0, Some(identity.id()));

        // Replies too, to requests and as messages of their own.
        let reply = to_alice.request("ping", "x").await.unwrap();
        let author = author_of(&reply, NETWORK).unwrap().unwrap();
        assert_eq!(*author.key(), identity.id());
        let _ = bob.broadcast("ping", "x").await.unwrap();
        let frame = heard.expect_frame().await;
        assert_eq!(said(&frame), (Some(identity.id()), "pong".to_owned()));
        heard.expect_nothing().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_of_another_author_keeps_its_signature() {
    let courier = Courier::json();
    let (alice, bob) = (Identity::generate(), Identity::generate());
    let message = courier
        .codec()
        .decode(&signed(&courier, &alice, "mine"))
        .unwrap();
    let codec = signs(&courier, &bob, NETWORK).codec().unwrap();
    let again = codec.decode(&codec.encode(&message).unwrap()).unwrap();
    let author = author_of(&again, NETWORK).unwrap().unwrap();
    assert_eq!(*author.key(), alice.id());
}

#[tokio::test(start_paused = true)]
async fn nobody_makes_a_node_hear_itself() {
    let identity = Identity::generate();
    let layer = Signed::new().by(identity);
    let network = Memory::new();
    let app = App::new().with(Courier::new()).with(layer.clone());
    let alice = node(&network, "alice:1", app).await;
    let mut heard = Recorder::of(&alice);
    let mut echo = Recorder::join(&alice).await;
    until("connected", || alice.peers().len() == 1).await;
    let _ = alice.broadcast("chat", "hello").await.unwrap();
    let payload = echo.expect_frame().await.payload_bytes();
    echo.send_payload(payload).await;
    until("counted", || layer.stats().replayed == 1).await;
    heard.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_without_a_signature_learns_why_nobody_answers() {
    let network = Memory::new();
    let app = || App::new().with(Courier::new());
    let hub = app().with(Signed::new().require());
    let _hub = node(&network, "hub:1", hub).await;
    let asks = node(&network, "asks:2", app()).await;
    let peer = asks.connect("hub:1").await.unwrap();
    let error = peer.request("ping", &1).await.unwrap_err();
    assert!(error.is_failed(), "{error}");
    assert!(
        error.to_string().contains("signed messages only"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_signed_is_not_said() {
    let courier = Courier::new();
    let peers = signs(&courier, &Identity::generate(), NETWORK);
    let long = "k".repeat(65_536);
    let error = peers.try_broadcast(&long, &()).unwrap_err();
    assert!(error.is_encode(), "{error:?}");
    let _ = peers.try_broadcast("short", &()).unwrap();
}

#[test]
#[should_panic(expected = "add the `Courier` first")]
fn signing_needs_a_courier() {
    let signed = Signed::new().by(Identity::generate());
    let _ = App::new().with(signed);
}

#[tokio::test]
async fn a_flood_of_replays_is_bounded() {
    let courier = Courier::new();
    let layer = Signed::new().require();
    let mut config = Config::default();
    config.network = NETWORK.to_owned();
    let peer = test_util::peer(&Peers::new(config));
    let passed = service_fn(async |_: Frame| Ok::<_, BoxError>(Reply::Payload("passed".into())));
    let mut stack = ServiceBuilder::new()
        .layer(courier.clone())
        .layer(layer.clone())
        .service(passed);
    let payload = signed(&courier, &Identity::generate(), "hello");
    let mut passed = 0;
    for nonce in 0..100_000 {
        let frame = test_util::frame_from(&peer, Kind::Broadcast { nonce }, payload.clone());
        let reply = stack.ready().await.unwrap().call(frame).await.unwrap();
        passed += u64::from(matches!(reply, Reply::Payload(_)));
    }
    assert_eq!(passed, 1);
    let stats = layer.stats();
    assert_eq!((stats.replayed, stats.remembered), (99_999, 1));
}

#[tokio::test]
async fn it_is_a_good_layer_and_gives_the_permit_of_what_it_withholds_back() {
    let message = |number: u64| {
        let mut frame = test_util::frame(Kind::Data, "");
        frame.set_message(Message::new("x", &number));
        frame
    };
    let passes = Conformance::new(Signed::new())
        .frames(message)
        .keeps(move |number| {
            let mut frame = message(number);
            let signed = Message::new("x", &number).with_header(SIG, "none");
            frame.set_message(signed);
            frame
        });
    passes.check().await;
    passes.check_clones().await;
}
