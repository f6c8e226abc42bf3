//! Which handler gets which frame, and what becomes of it then.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use coalescent_core::codec::Codec;
use coalescent_core::{App, AppExt, BoxError, Frame, Message, Peer, Reply, TopicName};
use coalescent_router::extract::{Body, FromFrameParts, State, Topic, Type};
use coalescent_router::{IntoReply, MeshRouterExt, Router, ends};
use serde::{Deserialize, Serialize};
use serde_json::json;
use support::pair::{Pair, courier_layer, encode};
use tower::ServiceExt;

#[derive(Deserialize)]
struct Ping {
    time: u64,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Pong {
    time: u64,
}

async fn ping(Body(ping): Body<Ping>) -> impl IntoReply {
    Message::new("pong", &Pong { time: ping.time })
}

/// A handler that answers with a name, and so says that it was this one.
fn named(name: &'static str) -> (&'static str, &'static str) {
    ("named", name)
}

#[tokio::test]
async fn a_handler_answers_a_message_of_its_type() {
    let pair = Pair::new(Router::new().route("ping", ping)).await;
    let pong = pair.ask(Message::new("ping", &json!({ "time": 7 }))).await;
    let pong = pong.unwrap();
    assert_eq!(pong.kind(), "pong");
    assert_eq!(pong.body::<Pong>().unwrap(), Pong { time: 7 });
    let error = pair.ask(Message::new("pin", &())).await.unwrap_err();
    assert!(error.is_no_answer(), "{error}");
}

#[tokio::test]
async fn a_frame_goes_on_after_its_handler_unless_it_ends_there() {
    let router = Router::new()
        .route("listened to", || async {})
        .route("ended", ends(|| async {}));
    let pair = Pair::new(router).await;
    let mut reader = pair.server.reader();
    for kind in ["ended", "listened to", "unknown"] {
        let payload = encode(&Message::new(kind, &()));
        pair.peer.send_payload(payload).await.unwrap();
    }
    let mut read = Vec::new();
    while read.len() < 2 {
        let frame = reader.next_frame().await.unwrap();
        read.push(frame.message().unwrap().kind().to_owned());
    }
    assert_eq!(read, ["listened to", "unknown"]);
}

#[tokio::test]
async fn the_reply_is_the_handlers_or_that_of_the_services_further_in() {
    let inner = Router::new().fallback(named("inner"));
    let outer = Router::new()
        .route("both", named("outer"))
        .route("silent", || async {})
        .route("ends", ends(|| async {}));
    let app = App::new().layer(courier_layer()).with(outer).with(inner);
    let pair = Pair::start(app).await;
    assert_eq!(pair.ask_text("both").await, "outer");
    assert_eq!(pair.ask_text("silent").await, "inner");
    assert_eq!(pair.ask_text("unknown").await, "inner");
    let error = pair.ask(Message::new("ends", &())).await.unwrap_err();
    assert!(error.is_no_answer(), "{error}");
}

#[tokio::test]
async fn the_fallback_gets_what_has_no_route() {
    async fn unknown(Type(kind): Type) -> impl IntoReply {
        ("unknown", kind)
    }
    for router in [
        Router::new().fallback(unknown),
        Router::new().route("*", unknown),
    ] {
        let pair = Pair::new(router.route("known", named("known"))).await;
        assert_eq!(pair.ask_text("known").await, "known");
        assert_eq!(pair.ask_text("boo").await, "boo");
        assert_eq!(pair.ask_text("*").await, "*");
        assert_eq!(pair.ask_text("").await, "");
    }
}

#[tokio::test]
async fn merged_and_nested_routes_keep_their_order_of_precedence() {
    let chat = Router::new()
        .route("say", named("say"))
        .fallback(named("any chat"))
        .nest(
            "room/",
            Router::new()
                .route("join", named("join"))
                .fallback(named("any room")),
        );
    let router = Router::new()
        .merge(Router::new().route("ping", named("ping")))
        .nest("chat/", chat)
        .nest("mute/", Router::new().route("say", named("mute say")))
        .merge(Router::new().fallback(named("any")));
    let pair = Pair::new(router).await;
    for (kind, handler) in [
        ("ping", "ping"),
        ("chat/say", "say"),
        ("chat/", "any chat"),
        ("chat/sa", "any chat"),
        ("chat/room/join", "join"),
        ("chat/room/leave", "any room"),
        ("chat/room", "any chat"),
        ("mute/say", "mute say"),
        ("mute/sing", "any"),
        ("say", "any"),
    ] {
        assert_eq!(pair.ask_text(kind).await, handler, "{kind}");
    }
}

#[tokio::test]
async fn ten_thousand_routes_each_find_their_handler() {
    let mut router = Router::new();
    for number in 0..10_000 {
        let kind = format!("route {number}");
        router = router.route(&kind, ("named", number));
    }
    let pair = Pair::new(router).await;
    for number in [0, 5_000, 9_999] {
        let reply = pair.ask(Message::new(format!("route {number}"), &()));
        assert_eq!(reply.await.unwrap().body::<u32>().unwrap(), number);
    }
}

#[tokio::test]
async fn routes_come_and_go_while_peers_are_connected() {
    let pair = Pair::new(Router::new().route("old", named("old"))).await;
    assert_eq!(pair.ask_text("old").await, "old");

    pair.server.route("new", named("new")).unwrap();
    assert_eq!(pair.ask_text("new").await, "new");
    let error = pair.server.route("old", named("again")).unwrap_err();
    assert!(error.is_taken(), "{error}");
    assert_eq!(pair.ask_text("old").await, "old");

    let handle = pair.server.router().unwrap();
    let plugin = Router::new()
        .route("plugged", named("plugged"))
        .route("new", named("newer"));
    assert!(handle.merge(plugin).unwrap_err().is_taken());
    let plugged = pair.ask(Message::new("plugged", &())).await;
    assert!(plugged.unwrap_err().is_no_answer(), "all or nothing");

    assert!(handle.remove("new"));
    assert!(!handle.remove("new"));
    pair.server.route("*", named("any")).unwrap();
    assert!(handle.fallback(named("any")).unwrap_err().is_taken());
    assert_eq!(pair.ask_text("new").await, "any");
    assert!(handle.remove("*"));
    let gone = pair.ask(Message::new("new", &())).await.unwrap_err();
    assert!(gone.is_no_answer());
}

#[tokio::test]
async fn routes_need_a_router() {
    let mesh = App::new().start().await.unwrap();
    let error = mesh.route("ping", ping).unwrap_err();
    assert!(error.is_no_router() && !error.is_taken());
    assert!(error.to_string().contains(".with(Router::new())"));
}

#[tokio::test]
async fn a_router_that_was_only_layered_is_told_apart_from_none() {
    let layered = App::new().layer(Router::new().route("ping", ping));
    let mesh = layered.start().await.unwrap();
    for error in [
        mesh.route("pong", ping).unwrap_err(),
        mesh.peers().router().unwrap_err(),
    ] {
        assert!(error.is_no_router() && !error.is_taken());
        let text = error.to_string();
        assert!(
            text.contains("with `.layer`") && text.contains(".with(router)"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn the_first_of_two_routers_is_the_one_of_the_mesh() {
    let first = Router::new();
    let second = Router::new().fallback(named("second"));
    let app = App::new().layer(courier_layer()).with(first).with(second);
    let pair = Pair::start(app).await;
    pair.server.route("new", named("first")).unwrap();
    assert_eq!(pair.ask_text("new").await, "first");
}

#[tokio::test]
async fn a_clone_that_is_changed_is_another_router() {
    let base: Router = Router::new().route("a", named("a"));
    let handle = base.handle();
    let changed = base.clone().route("b", named("b"));
    let pair = Pair::new(base).await;
    assert!(pair.ask(Message::new("b", &())).await.is_err());
    assert_eq!(Pair::new(changed).await.ask_text("b").await, "b");
    // The original's handle still reaches it.
    handle.route("c", named("c")).unwrap();
    assert_eq!(pair.ask_text("c").await, "c");
}

#[tokio::test]
async fn a_handle_reaches_a_router_that_is_changed_afterwards() {
    let router = Router::new();
    let handle = router.handle();
    let pair = Pair::new(router.route("a", named("a"))).await;
    handle.route("b", named("b")).unwrap();
    assert_eq!(pair.ask_text("a").await, "a");
    assert_eq!(pair.ask_text("b").await, "b");
}

#[tokio::test]
async fn a_frame_without_a_message_passes_untouched() {
    let app = App::new().with(Router::new().fallback(named("any")));
    let pair = Pair::start(app).await;
    let mut reader = pair.server.reader();
    let payload = Codec::msgpack().encode(&Message::new("any", &())).unwrap();
    let error = pair.peer.request_payload(payload.clone()).await;
    assert!(error.unwrap_err().is_no_answer());
    let frame = reader.next_frame().await.unwrap();
    assert_eq!(frame.payload(), &payload);
    assert!(frame.message().is_none());
}

/// Takes a number out of the frame, without waiting or after it has waited.
struct Taken<const WAITS: bool>(Option<u8>);

impl<S: Sync, const WAITS: bool> FromFrameParts<S> for Taken<WAITS> {
    type Rejection = Infallible;

    async fn from_frame_parts(frame: &mut Frame, _state: &S) -> Result<Self, Infallible> {
        if WAITS {
            tokio::task::yield_now().await;
        }
        frame.set_payload("another");
        Ok(Self(frame.extensions_mut().remove()))
    }
}

#[tokio::test]
async fn what_an_extractor_changes_the_services_further_in_do_not_see() {
    async fn quick(_: Type, Taken(number): Taken<false>, _: Peer) -> (&'static str, String) {
        ("answer", format!("{number:?}"))
    }
    async fn slow(_: Type, Taken(number): Taken<true>) -> (&'static str, String) {
        ("answer", format!("{number:?}"))
    }
    async fn both(Taken(number): Taken<true>, frame: Frame) -> (&'static str, String) {
        ("answer", format!("{number:?}{:?}", frame.message()))
    }
    let router = Router::new()
        .route("slow", slow)
        .route("both", both)
        .fallback(quick);
    for (kind, expected) in [
        ("slow", "Some(5)"),
        ("both", "Some(5)None"),
        ("quick", "Some(5)"),
    ] {
        let seen = Arc::new(Mutex::new(None));
        let inner = {
            let seen = Arc::clone(&seen);
            tower::service_fn(move |frame: Frame| {
                *seen.lock().unwrap() = Some(frame);
                std::future::ready(Ok::<_, BoxError>(Reply::None))
            })
        };
        let mut frame = support::pair::frame(kind);
        frame.extensions_mut().insert(5_u8);
        let payload = frame.payload().to_vec();
        let reply = tower::Layer::layer(&router, inner).oneshot(frame).await;
        let Ok(Reply::Message(reply)) = reply else {
            panic!("{reply:?}");
        };
        assert_eq!(reply.body::<String>().unwrap(), expected);
        let seen = seen.lock().unwrap().take().expect("the frame went on");
        assert_eq!(seen.payload()[..], payload);
        assert_eq!(seen.extensions().get::<u8>(), Some(&5));
        assert_eq!(seen.message().expect("it has one").kind(), kind);
    }
}

/// A layer that puts frames into the topic that the header `topic` of their message names.
fn topic_layer<S>()
-> impl tower::Layer<S, Service = tower::util::MapRequest<S, fn(Frame) -> Frame>> + Clone {
    fn mark(mut frame: Frame) -> Frame {
        let topic = frame.message().and_then(|message| message.header("topic"));
        if let Some(Ok(topic)) = topic {
            let topic: String = topic;
            frame.extensions_mut().insert(TopicName::from(topic));
        }
        frame
    }
    tower::util::MapRequestLayer::new(mark as fn(Frame) -> Frame)
}

fn in_topic(kind: &str, topic: &str) -> Message {
    Message::new(kind, &()).with_header("topic", &topic)
}

async fn says(pair: &Pair, message: Message) -> String {
    match pair.ask(message).await {
        Ok(reply) => reply.body().unwrap(),
        Err(error) if error.is_no_answer() => "nothing".to_owned(),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn messages_of_a_topic_reach_its_routes_alone() {
    let prices = Router::new()
        .route("tick", named("prices"))
        .nest("old/", Router::new().fallback(named("old prices")));
    let news = Router::new()
        .route("tick", named("news"))
        .fallback(named("other news"));
    let router = Router::new()
        .route("tick", named("mesh"))
        .route("tock", named("mesh"))
        .topic("prices", prices)
        .topic("news", news);
    let app = App::new()
        .layer(courier_layer())
        .layer(topic_layer())
        .with(router.clone());
    let pair = Pair::start(app).await;
    assert_eq!(pair.server.peers().topics().len(), 2);
    let expected = [
        ("tick", "prices", "prices"),
        ("old/tick", "prices", "old prices"),
        ("tock", "prices", "nothing"),
        ("tick", "news", "news"),
        ("tock", "news", "other news"),
        ("tick", "weather", "nothing"),
    ];
    for (kind, topic, name) in expected {
        assert_eq!(says(&pair, in_topic(kind, topic)).await, name);
    }
    assert_eq!(pair.ask_text("tick").await, "mesh");

    // What a topic's router does not take goes to the fallback around it.
    let app = App::new()
        .layer(courier_layer())
        .layer(topic_layer())
        .with(router.fallback(named("fallback")));
    let pair = Pair::start(app).await;
    assert_eq!(says(&pair, in_topic("tock", "prices")).await, "fallback");
    assert_eq!(says(&pair, in_topic("tock", "news")).await, "other news");
    assert_eq!(says(&pair, in_topic("tock", "weather")).await, "nothing");
    assert_eq!(pair.ask_text("what").await, "fallback");
}

#[tokio::test]
async fn layers_and_state_reach_the_routes_of_topics() {
    async fn who(State(name): State<String>, topic: Option<Topic>) -> (&'static str, String) {
        let topic = topic.map_or("the mesh".to_owned(), |topic| topic.to_string());
        ("named", format!("{name} in {topic}"))
    }
    async fn where_in(Topic(topic): Topic) -> (&'static str, String) {
        ("named", topic.to_string())
    }
    let calls = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&calls);
    let count = tower::util::MapRequestLayer::new(move |frame: Frame| {
        *counted.lock().unwrap() += 1;
        frame
    });
    let rooms = Router::new().route("who", who).route("where", where_in);
    let router = Router::new()
        .route("who", who)
        .route("where", where_in)
        .topic("room", rooms)
        .layer(count)
        .with_state("alice".to_owned());
    let app = App::new()
        .layer(courier_layer())
        .layer(topic_layer())
        .with(router);
    let pair = Pair::start(app).await;
    assert_eq!(says(&pair, in_topic("who", "room")).await, "alice in room");
    assert_eq!(pair.ask_text("who").await, "alice in the mesh");
    assert_eq!(says(&pair, in_topic("where", "room")).await, "room");
    assert_eq!(*calls.lock().unwrap(), 3);
    let error = pair.ask(Message::new("where", &())).await.unwrap_err();
    assert!(error.to_string().contains("no topic"), "{error}");
}

#[test]
fn a_topic_has_one_router_and_no_topics_of_its_own() {
    let router: Router = Router::new().topic("a", Router::new().route("x", ()));
    let merged = router
        .clone()
        .merge(Router::new().topic("b", Router::new()));
    assert!(format!("{merged:?}").contains("topics: 2"));
    let error = merged.handle().merge(router.clone()).unwrap_err();
    assert!(
        error.is_taken() && error.to_string().contains("\"a\""),
        "{error}"
    );
    let nested = std::panic::catch_unwind(|| Router::new().topic("c", router));
    assert!(nested.is_err());
}
