//! What handlers can ask for and return, and what becomes of those that fail.

use bytes::Bytes;
use coalescent_core::codec::{Codec, Format};
use coalescent_core::{
    App, AppExt, BoxError, Frame, Mesh, Message, MessageType, Peer, Peers, Refusal, Reply,
};
use coalescent_router::extract::{
    Body, BodyRejection, Extension, FromRef, Headers, RawBody, Shared, State, Type, ValueRejection,
};
use coalescent_router::middleware::{Next, from_fn, from_fn_with_state};
use coalescent_router::{Handler, IntoReply, Router, Typed, ends};
use support::pair::{Pair, courier_layer, encode, frame, frame_of};
use tower::ServiceExt;
use tower::limit::ConcurrencyLimitLayer;

/// Calls a handler without a mesh.
async fn call<H, T>(handler: H, frame: Frame) -> Result<Reply, BoxError>
where
    H: Handler<T, ()>,
{
    let router = Router::new().fallback(handler);
    router.into_service().oneshot(frame).await
}

/// The body of a handler's message.
async fn text<H, T>(handler: H, frame: Frame) -> String
where
    H: Handler<T, ()>,
{
    match call(handler, frame).await {
        Ok(Reply::Message(message)) => message.body().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn answer(text: impl Into<String>) -> (&'static str, String) {
    ("answer", text.into())
}

#[tokio::test]
async fn each_extractor_has_its_part_of_the_frame() {
    let message = Message::new("greet", "hello").with_header("hops", &3);
    let payload = encode(&message);
    let expected = payload.clone();
    let handler = move |peer: Peer,
                        peers: Peers,
                        mesh: Option<Mesh>,
                        message: Message,
                        Type(kind): Type,
                        headers: Headers,
                        raw: RawBody,
                        payload: Bytes,
                        Body(body): Body<String>,
                        frame: Frame| async move {
        assert_eq!(peer, *frame.peer());
        assert_eq!(peers.node_id(), peer.peers().node_id());
        assert!(mesh.is_none());
        assert_eq!(message.kind(), "greet");
        assert_eq!(kind, "greet");
        assert_eq!(headers.get::<u8>("hops").unwrap().unwrap(), 3);
        assert!(headers.get::<u8>("hop").is_none());
        assert!(headers.contains("hops") && !headers.contains("hop"));
        assert_eq!(raw.format, Format::MessagePack);
        assert_eq!(raw.bytes, message.body_bytes());
        assert_eq!(payload, expected);
        answer(body)
    };
    let mut frame = frame_of(message);
    frame.set_payload(payload.clone());
    frame.set_message(Codec::msgpack().decode(&payload).unwrap());
    assert_eq!(text(handler, frame).await, "hello");
}

#[tokio::test]
async fn sixteen_extractors_are_enough() {
    #[expect(clippy::too_many_arguments, reason = "as many as there can be")]
    async fn all(
        _: Peer,
        _: Peers,
        _: Message,
        _: Type,
        _: Headers,
        _: RawBody,
        _: Bytes,
        _: Body<u8>,
        _: Option<Body<u8>>,
        _: Result<Body<String>, BodyRejection>,
        _: State<()>,
        _: Option<Extension<u8>>,
        _: Option<Shared<u8>>,
        _: Result<Extension<u8>, ValueRejection>,
        _: Option<Mesh>,
        frame: Frame,
    ) -> impl IntoReply {
        answer(frame.message().unwrap().kind())
    }
    assert_eq!(text(all, frame_of(Message::new("all", &1))).await, "all");
}

#[tokio::test]
async fn a_body_of_another_type_fails_the_frame_and_names_both() {
    async fn number(Body(_): Body<u64>) {
        panic!("must not be called");
    }
    let error = call(number, frame_of(Message::new("a\nb", "text")))
        .await
        .unwrap_err();
    let rejection = error.downcast_ref::<BodyRejection>().unwrap();
    assert!(rejection.is_body() && !rejection.is_no_message());
    let text = error.to_string();
    assert!(text.contains("u64") && text.contains("\"a\\nb\""), "{text}");
    coalescent_core::test_util::check_levels(rejection);
}

#[tokio::test]
async fn an_optional_body_is_none_for_nil_and_an_error_for_something_else() {
    async fn number(body: Option<Body<u64>>) -> impl IntoReply {
        answer(body.map_or("none".to_owned(), |body| body.to_string()))
    }
    let nil = frame_of(Message::new("n", &()));
    assert_eq!(text(number, nil).await, "none");
    let json = br#"{"type":"n","body": null }"#;
    let null = Codec::json().decode(&Bytes::from_static(json)).unwrap();
    assert_eq!(text(number, frame_of(null)).await, "none");
    assert_eq!(text(number, frame_of(Message::new("n", &7))).await, "7");
    assert!(
        call(number, frame_of(Message::new("n", "7")))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_result_of_an_extractor_leaves_the_error_to_the_handler() {
    async fn number(body: Result<Body<u64>, BodyRejection>) -> impl IntoReply {
        answer(match body {
            Ok(_) => "ok",
            Err(_) => "error",
        })
    }
    let words = frame_of(Message::new("n", "seven"));
    assert_eq!(text(number, words).await, "error");
}

#[tokio::test]
async fn an_extension_is_the_frames_else_the_peers_else_the_meshs() {
    async fn value(Extension(value): Extension<u8>) -> impl IntoReply {
        answer(value.to_string())
    }
    let mut frame = frame("any");
    let error = call(value, frame.clone()).await.unwrap_err();
    assert!(error.is::<ValueRejection>());
    assert!(error.to_string().contains("`u8`"), "{error}");
    frame.peer().peers().set_shared(3_u8);
    assert_eq!(text(value, frame.clone()).await, "3");
    frame.peer().set(2_u8);
    assert_eq!(text(value, frame.clone()).await, "2");
    frame.extensions_mut().insert(1_u8);
    assert_eq!(text(value, frame.clone()).await, "1");
    let shared = |Shared(value): Shared<u8>| async move { answer(value.to_string()) };
    assert_eq!(text(shared, frame).await, "3");
}

#[tokio::test]
async fn handlers_have_the_state_of_their_router_or_a_part_of_it() {
    #[derive(Clone)]
    struct Name(String);
    #[derive(Clone)]
    struct Whole {
        name: Name,
        age: u8,
    }
    impl FromRef<Whole> for Name {
        fn from_ref(whole: &Whole) -> Self {
            whole.name.clone()
        }
    }
    async fn age(State(whole): State<Whole>) -> impl IntoReply {
        answer(whole.age.to_string())
    }
    async fn name(State(name): State<Name>) -> impl IntoReply {
        answer(name.0)
    }
    async fn number(State(number): State<u64>) -> impl IntoReply {
        answer(number.to_string())
    }
    let whole = Whole {
        name: Name("alice".to_owned()),
        age: 30,
    };
    let router = Router::new()
        .route("age", age)
        .nest("my/", Router::new().route("name", ends(name)))
        .with_state(whole)
        .merge(Router::new().route("number", number).with_state(8_u64));
    let pair = Pair::new(router).await;
    assert_eq!(pair.ask_text("age").await, "30");
    assert_eq!(pair.ask_text("my/name").await, "alice");
    assert_eq!(pair.ask_text("number").await, "8");
}

#[tokio::test]
async fn a_handler_may_return_whatever_can_be_a_reply() {
    let kind = |reply: Result<Reply, BoxError>| match reply {
        Ok(Reply::None) => "none".to_owned(),
        Ok(Reply::Message(message)) => message.kind().to_owned(),
        Ok(Reply::Payload(payload)) => format!("{} bytes", payload.len()),
        Ok(_) => "other".to_owned(),
        Err(error) => error.to_string(),
    };
    let any = || frame("any");
    assert_eq!(kind(call(|| async {}, any()).await), "none");
    assert_eq!(
        kind(call(|| async { Message::new("a", &()) }, any()).await),
        "a"
    );
    assert_eq!(kind(call(|| async { ("b", [1, 2]) }, any()).await), "b");
    let bytes = || async { Bytes::from_static(b"abc") };
    assert_eq!(kind(call(bytes, any()).await), "3 bytes");
    assert_eq!(kind(call(|| async { Reply::None }, any()).await), "none");
    assert_eq!(
        kind(call(|| async { None::<Message> }, any()).await),
        "none"
    );
    let fine = || async { Ok::<_, std::io::Error>(Some(("c", 1))) };
    assert_eq!(kind(call(fine, any()).await), "c");
    let failed = || async { Err::<(), _>("no") };
    assert_eq!(kind(call(failed, any()).await), "no");
    assert_eq!(kind(call(("fixed", 1), any()).await), "fixed");
}

#[tokio::test]
async fn a_handler_that_fails_or_panics_costs_its_own_frame() {
    let router = Router::new()
        .route("fail", || async { Err::<(), _>("out of beeps") })
        .route("panic", || async {
            assert!(std::hint::black_box(false), "out of boops");
        })
        .route("fine", ("fine", "fine"));
    let mut pair = Pair::new(router).await;
    let mut reader = pair.server.reader();

    let error = pair.ask(Message::new("fail", &())).await.unwrap_err();
    assert!(error.is_failed(), "{error}");
    let error = pair.error().await;
    assert!(error.is_call() && !error.is_panic());
    assert!(
        error.report().to_string().contains("out of beeps"),
        "{error}"
    );

    let error = pair.ask(Message::new("panic", &())).await.unwrap_err();
    assert!(error.is_failed(), "{error}");
    let error = pair.error().await;
    assert!(error.is_panic());
    assert!(
        error.report().to_string().contains("out of boops"),
        "{error}"
    );

    assert_eq!(pair.ask_text("fine").await, "fine");
    assert!(pair.peer.is_connected());
    // Neither of the two that failed went on.
    let frame = reader.next_frame().await.unwrap();
    assert_eq!(frame.message().unwrap().kind(), "fine");
}

/// On paused time the request would run out at once where nothing else can happen.
#[tokio::test(start_paused = true)]
async fn a_handler_may_ask_the_peer_whose_frame_it_handles() {
    async fn relay(peer: Peer, Body(kind): Body<String>) -> Result<impl IntoReply, BoxError> {
        let reply = peer
            .request_payload(encode(&Message::new(kind, &())))
            .await?;
        let reply: String = Codec::msgpack().decode(&reply)?.body()?;
        Ok(answer(format!("you said {reply}")))
    }
    let server = App::new()
        .layer(courier_layer())
        .with(Router::new().route("relay", relay));
    let client = App::new()
        .layer(courier_layer())
        .with(Router::new().route("question", ("answer", "42")));
    let pair = Pair::start_both(server, client).await;
    let reply = pair.ask(Message::new("relay", "question")).await.unwrap();
    assert_eq!(reply.body::<String>().unwrap(), "you said 42");
}

#[tokio::test]
async fn middleware_made_of_a_function_sees_the_frame_and_the_reply() {
    async fn shout(
        State(suffix): State<&'static str>,
        Type(kind): Type,
        mut frame: Frame,
        next: Next,
    ) -> Result<Reply, BoxError> {
        frame.extensions_mut().insert(kind.to_uppercase());
        match next.run(frame).await? {
            Reply::Message(message) => {
                let text: String = message.body()?;
                Ok(Message::new(message.kind(), &format!("{text}{suffix}")).into())
            }
            other => Ok(other),
        }
    }
    async fn say(Extension(loud): Extension<String>) -> impl IntoReply {
        answer(loud)
    }
    async fn ask(Extension(loud): Extension<String>) -> impl IntoReply {
        answer(format!("{loud}?"))
    }
    let router = Router::new()
        .route("say", say)
        .layer(from_fn_with_state("!", shout))
        .route("ask", ask);
    let mut pair = Pair::new(router).await;
    assert_eq!(pair.ask_text("say").await, "SAY!");
    // The layer's copy of the frame is not that which goes on.
    assert!(pair.ask(Message::new("ask", &())).await.is_err());
    assert!(pair.error().await.report().to_string().contains("String"));

    let app = App::new()
        .layer(courier_layer())
        .with(from_fn_with_state("...", shout))
        .with(Router::new().route("ask", ask));
    assert_eq!(Pair::start(app).await.ask_text("ask").await, "ASK?...");
}

#[tokio::test]
async fn a_layer_made_of_a_function_is_inferred_where_the_app_starts() {
    async fn pass(frame: Frame, next: Next) -> Result<Reply, BoxError> {
        next.run(frame).await
    }
    let app = App::new()
        .layer(courier_layer())
        .layer(from_fn(pass))
        .with(Router::new().route("ping", ("pong", "pong")));
    assert_eq!(Pair::start(app).await.ask_text("ping").await, "pong");
}

#[tokio::test]
async fn a_middleware_can_pass_on_many_frames_for_one() {
    async fn split(frame: Frame, mut next: Next) -> Result<Reply, BoxError> {
        let payload = frame.payload_bytes();
        let mut reply = Reply::None;
        for line in payload.split(|byte| *byte == b'\n') {
            let line = frame.derive(payload.slice_ref(line));
            reply = reply.or(next.call(line).await?);
        }
        // The frame itself is another one.
        Ok(reply.or(next.run(frame).await?))
    }
    async fn answer_two(frame: Frame, _next: Next) -> Option<Bytes> {
        tokio::task::yield_now().await;
        (frame.payload() == b"2").then(|| Bytes::from("two"))
    }
    // One at a time, so that each call needs a readiness of its own.
    let app = App::new()
        .layer(from_fn(split))
        .layer(ConcurrencyLimitLayer::new(1))
        .layer(from_fn(answer_two));
    let pair = Pair::start(app).await;
    for (question, answer) in [("1\n2\n3", Some("two")), ("2", Some("two")), ("1\n3", None)] {
        let answered = pair.peer.request_payload(question).await;
        assert_eq!(answered.ok().as_deref(), answer.map(str::as_bytes));
    }
}

#[tokio::test]
async fn a_handler_refuses_with_a_reason_for_the_asker_alone() {
    async fn withdraw(Body(amount): Body<u64>) -> Result<impl IntoReply, Refusal> {
        if amount > 100 {
            return Err(Refusal::new("at most 100 at a time"));
        }
        Ok(Message::new("withdrawn", &amount))
    }
    async fn fail() -> Result<(), String> {
        Err("out of paper".to_owned())
    }
    let router = Router::new()
        .route("withdraw", withdraw)
        .route("fail", fail);
    let mut pair = Pair::new(router).await;
    let error = pair.ask(Message::new("withdraw", &101)).await.unwrap_err();
    assert!(error.is_failed(), "{error}");
    assert_eq!(error.peer_reason(), Some("at most 100 at a time"));
    let error = pair.ask(Message::new("fail", &())).await.unwrap_err();
    assert_eq!(error.peer_reason(), Some("out of paper"));
    // The first event is of the second failure: the refusal was none.
    assert!(
        pair.error()
            .await
            .report()
            .to_string()
            .contains("out of paper")
    );
    let answer = pair.ask(Message::new("withdraw", &100)).await.unwrap();
    assert_eq!(answer.body::<u64>().unwrap(), 100);
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Ping(u32);

impl MessageType for Ping {
    const TYPE: &'static str = "ping";
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Pong(u32);

impl MessageType for Pong {
    const TYPE: &'static str = "pong";
}

#[tokio::test]
async fn a_typed_handler_names_its_route_and_its_reply() {
    async fn ping(_peer: Peer, Typed(ping): Typed<Ping>) -> Typed<Pong> {
        Typed(Pong(ping.0 + 1))
    }
    let router = || Router::<()>::new().typed(ping);
    let asked = frame_of(Message::typed(&Ping(1)));
    let Ok(Reply::Message(answer)) = router().into_service().oneshot(asked).await else {
        panic!("no message");
    };
    assert_eq!((answer.kind(), answer.body().unwrap()), ("pong", Pong(2)));

    // So does one that ends, and one that takes the body alone.
    async fn add(_peer: Peer, Body(ping): Body<Ping>) -> Typed<Pong> {
        Typed(Pong(ping.0 + 1))
    }
    for router in [
        Router::<()>::new().typed(ends(ping)),
        Router::new().typed(ends(add)),
        Router::new().typed(add),
        Router::new().typed(|Body(ping): Body<Ping>| async move { Typed(Pong(ping.0 + 1)) }),
    ] {
        let asked = frame_of(Message::typed(&Ping(1)));
        let Ok(Reply::Message(answer)) = router.into_service().oneshot(asked).await else {
            panic!("no message");
        };
        assert_eq!((answer.kind(), answer.body().unwrap()), ("pong", Pong(2)));
    }

    // Messages of another type go past it; those with another body fail there.
    let other = frame_of(Message::new("pang", &Ping(1)));
    assert!(matches!(
        router().into_service().oneshot(other).await,
        Ok(Reply::None)
    ));
    let wrong = frame_of(Message::new("ping", "no number"));
    let error = router().into_service().oneshot(wrong).await.unwrap_err();
    assert!(error.is::<BodyRejection>(), "{error}");

    // Below a prefix, the route is what its prefix makes of it.
    let nested = Router::<()>::new().nest("game/", router());
    let asked = frame_of(Message::new("game/ping", &Ping(5)));
    let Ok(Reply::Message(answer)) = nested.into_service().oneshot(asked).await else {
        panic!("no message");
    };
    assert_eq!(answer.body::<Pong>().unwrap(), Pong(6));
}
