//! What can become of a request: each error tells which, and none costs the connection.

use std::time::Duration;

use bytes::Bytes;
use coalescent::extract::Body;
use coalescent::test_util::Recorder;
use coalescent::wire::{Kind, Status, Wire};
use coalescent::{
    App, AppExt, BoxError, Courier, Error, Message, Peer, PeerExt, Reply, Router, ends,
};
use support::join_as;
use tower::{Service, ServiceExt};

use super::support::{Inside, asked};

/// How many bytes a connection in memory holds.
const PIPE: usize = 64 * 1024;

const SECOND: Duration = Duration::from_secs(1);

/// Asks for "pong", to see that the connection lives.
async fn still_answers(peer: &Peer) {
    let reply = peer
        .request("ping", &())
        .await
        .expect("the connection lives");
    assert_eq!(reply.kind(), "pong");
}

fn router() -> Router {
    Router::new().route("ping", ends(async || Message::new("pong", &())))
}

#[tokio::test(start_paused = true)]
async fn a_request_that_takes_too_long_times_out_and_its_handler_is_dropped() {
    let inside = Inside::default();
    let held = inside.clone();
    let router = router().route(
        "hang",
        ends(async move || {
            let _guard = held.enter();
            std::future::pending::<()>().await;
        }),
    );
    let (_nodes, peer) = asked(router).await;
    let error = peer.request("hang", &()).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    inside.reaches(0).await;
    assert_eq!(inside.most(), 1);

    // A limit of one's own; dropping the wait is enough.
    let hang = tokio::time::timeout(SECOND, peer.request("hang", &()));
    assert!(hang.await.is_err());
    inside.reaches(0).await;
    still_answers(&peer).await;
}

#[tokio::test(start_paused = true)]
async fn many_requests_in_flight_get_each_its_own_reply_in_any_order() {
    let router = router().route(
        "wait",
        ends(async |Body(number): Body<u64>| {
            tokio::time::sleep(Duration::from_millis(100 - number)).await;
            Message::new("waited", &number)
        }),
    );
    let (_nodes, peer) = asked(router).await;
    let order = std::sync::Mutex::new(Vec::new());
    let asks = (0..50u64).map(|number| {
        let (peer, order) = (&peer, &order);
        async move {
            let reply = peer.request("wait", &number).await.unwrap();
            assert_eq!(reply.body::<u64>().unwrap(), number);
            order.lock().unwrap().push(number);
        }
    });
    futures_util::future::join_all(asks).await;
    let reversed: Vec<u64> = (0..50).rev().collect();
    assert_eq!(*order.lock().unwrap(), reversed);
}

async fn panics() {
    panic!("dropped a plate");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_handles_has_no_answer_and_what_fails_says_why() {
    let router = router()
        .route(
            "number",
            ends(async |Body(_): Body<u64>| Message::new("ok", &())),
        )
        .route(
            "fail",
            ends(async || Err::<(), _>(BoxError::from("cannot do that"))),
        )
        .route("panic", ends(panics))
        .route("quiet", ends(async || ()));
    let (_nodes, peer) = asked(router).await;

    let error = peer.request("what is this", &()).await.unwrap_err();
    assert!(error.is_no_answer(), "{error}");
    let error = peer.request("quiet", &()).await.unwrap_err();
    assert!(error.is_no_answer(), "{error}");
    let error = peer.request("number", "a text").await.unwrap_err();
    assert!(error.is_failed(), "{error}");
    let error = peer.request("fail", &()).await.unwrap_err();
    assert!(
        error.is_failed() && error.to_string().contains("cannot do that"),
        "{error}"
    );
    let error = peer.request("panic", &()).await.unwrap_err();
    assert!(
        error.is_failed() && error.to_string().contains("plate"),
        "{error}"
    );
    still_answers(&peer).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_of_the_wrong_type_is_an_error_of_that_body() {
    let router = router()
        .route("text", ends(async || Message::new("text", "no number")))
        .route(
            "bytes",
            ends(async || Reply::Payload(Bytes::from_static(b"no message"))),
        );
    let (_nodes, peer) = asked(router).await;
    let reply = peer.request("text", &()).await.unwrap();
    assert!(reply.body::<u64>().unwrap_err().is_body());
    assert_eq!(reply.body::<String>().unwrap(), "no number");
    let error = peer.request("bytes", &()).await.unwrap_err();
    assert!(error.is_decode(), "{error}");

    // What cannot be written is never sent.
    struct Unwritable;
    impl serde::Serialize for Unwritable {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("will not be written"))
        }
    }
    let error = peer.request("ping", &Unwritable).await.unwrap_err();
    assert!(error.is_encode(), "{error}");
    let error = ask(&peer, Message::new("ping", &Unwritable))
        .await
        .unwrap_err();
    assert!(error.is_encode(), "{error}");
    still_answers(&peer).await;
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_too_large_is_a_failure() {
    let large = router().route(
        "large",
        ends(async || Message::new("large", &vec!["x"; 1000])),
    );
    let app = App::new().max_frame(500).with(Courier::new()).with(large);
    let mesh = app.start().await.unwrap();
    let alice = Recorder::join(&mesh).await;
    let error = alice.request("large", &()).await.unwrap_err();
    assert!(
        error.is_failed() && error.to_string().contains("too large"),
        "{error}"
    );
    assert_eq!(alice.request("ping", &()).await.unwrap().kind(), "pong");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_leaves_fails_what_was_asked_of_it() {
    let inside = Inside::default();
    let held = inside.clone();
    let router = router().route(
        "hang",
        ends(async move || {
            let _guard = held.enter();
            std::future::pending::<()>().await;
        }),
    );
    let (nodes, peer) = asked(router).await;
    let (error, _) = tokio::join!(peer.request("hang", &()), async {
        inside.reaches(1).await;
        nodes[1].abort().await
    });
    let error = error.unwrap_err();
    assert!(error.is_closed(), "{error}");
    peer.closed().await;
    let error = ask(&peer, Message::new("ping", &())).await.unwrap_err();
    assert!(error.is_closed(), "{error}");
}

/// Asks a peer as a service.
async fn ask(peer: &Peer, message: Message) -> Result<Message, Error> {
    peer.clone().oneshot(message).await
}

#[tokio::test(start_paused = true)]
async fn peers_on_wires_without_requests_refuse_them() {
    for wire in [Wire::lines(), Wire::raw()] {
        let app = App::new().wire(wire).with(Courier::json()).with(router());
        let mesh = app.start().await.unwrap();
        let mut alice = Recorder::join(&mesh).await;
        let list = mesh.peers().list();
        let error = list[0].request("ping", &()).await.unwrap_err();
        assert!(error.is_refused(), "{error}");
        assert!(error.to_string().contains("native wire"), "{error}");
        let error = ask(&list[0], Message::new("ping", &())).await.unwrap_err();
        assert!(error.is_refused(), "{error}");
        // A service that is called all the same refuses too.
        let called = list[0].clone().call(Message::new("ping", &())).await;
        assert!(called.unwrap_err().is_refused());
        // What needs no reply is heard as before.
        list[0].send("ping", &()).await.unwrap();
        alice.expect_message("ping").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_without_a_courier_has_no_messages_to_ask_with() {
    let mesh = App::new().start().await.unwrap();
    let _alice = Recorder::join(&mesh).await;
    let list = mesh.peers().list();
    let error = ask(&list[0], Message::new("ping", &())).await.unwrap_err();
    assert!(error.is_no_courier(), "{error}");
    let error = list[0].request("ping", &()).await.unwrap_err();
    assert!(error.is_no_courier(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_nobody_awaits_is_passed_over() {
    let mesh = App::new().with(Courier::new()).start().await.unwrap();
    let mut events = mesh.events();
    let (mut by_hand, peer) = join_as(&mesh, PIPE).await;
    let ok = |id| Kind::Reply {
        id,
        status: Status::Ok,
    };
    // To a question that was never asked.
    by_hand.send(ok(77), "an answer").await;

    // To one whose wait has ended.
    let given_up = tokio::time::timeout(SECOND, peer.request("too late", &()));
    assert!(given_up.await.is_err());
    let Kind::Request { id } = by_hand.recv().await.expect("a frame").kind else {
        panic!("no question");
    };
    assert_eq!(
        by_hand.recv().await.expect("a frame").kind,
        Kind::Cancel { id }
    );
    by_hand.send(ok(id), "late").await;

    // Twice to one that is awaited.
    let answer = async {
        let Kind::Request { id } = by_hand.recv().await.expect("a frame").kind else {
            panic!("no question");
        };
        by_hand.send(ok(id), "first").await;
        by_hand.send(ok(id), "second").await;
    };
    let (reply, ()) = tokio::join!(peer.request_payload("a question"), answer);
    assert_eq!(reply.unwrap(), "first");

    assert!(peer.is_connected());
    let mut heard = Recorder::of(&mesh);
    let payload = coalescent::codec::Codec::msgpack().encode(&Message::new("bye", &()));
    by_hand.send(Kind::Data, payload.unwrap()).await;
    heard.expect_message("bye").await;
    mesh.shutdown().await;
    while let Some(event) = events.next().await {
        assert!(
            !matches!(event, coalescent::Event::Error { .. }),
            "{event:?}"
        );
    }
}
