//! Layers that change what goes through them.

use coalescent::test_util::MemoryMesh;
use coalescent::{App, AppExt, BoxError, Courier, Frame, Message, Reply, SmartRelay};
use tower::util::{AndThenLayer, MapErrLayer, MapRequestLayer, MapResponseLayer, MapResultLayer};

use super::support::{ask, handle, next_error, node};

fn louder(mut frame: Frame) -> Frame {
    let payload = frame.payload().to_ascii_uppercase();
    frame.set_payload(payload);
    frame
}

fn echo(frame: Frame) -> std::future::Ready<Result<Reply, BoxError>> {
    std::future::ready(match frame.payload() {
        b"fail" => Err("cannot".into()),
        _ => Ok(Reply::Payload(frame.into_payload())),
    })
}

#[tokio::test(start_paused = true)]
async fn a_mapped_request_is_what_layers_further_in_see() {
    let app = App::new()
        .layer(MapRequestLayer::new(louder))
        .layer(handle(echo));
    let (_mesh, alice) = node(app).await;
    assert_eq!(ask(alice.peer(), "hello").await.unwrap(), "HELLO");
}

#[tokio::test(start_paused = true)]
async fn a_mapped_request_is_what_a_relay_further_in_passes_on() {
    async fn heard_behind<L: coalescent::PeerLayer>(build: impl Fn(App) -> App<L>) -> bytes::Bytes {
        let nodes = MemoryMesh::new(3).line().start(|_, app| build(app)).await;
        let mut far = nodes.recorder(2);
        let _ = nodes[0].broadcast_payload("hello").await.unwrap();
        far.expect_frame().await.into_payload()
    }
    let rewrites = || {
        MapRequestLayer::new(|mut frame: Frame| {
            let payload = [frame.payload(), b"!"].concat();
            frame.set_payload(payload);
            frame
        })
    };
    // Each of the two nodes adds one on its way to the read side; only what is outside of the relay
    // travels.
    let outside = heard_behind(|app| app.layer(rewrites()).with(SmartRelay::new())).await;
    assert_eq!(outside, "hello!!");
    let inside = heard_behind(|app| app.with(SmartRelay::new()).layer(rewrites())).await;
    assert_eq!(inside, "hello!");
}

#[tokio::test(start_paused = true)]
async fn a_mapped_response_is_what_the_peer_gets() {
    let app = App::new()
        .with(Courier::new())
        .layer(MapResponseLayer::new(|reply: Reply| {
            reply.or(Reply::Message(Message::new("nothing", &())))
        }));
    let (_mesh, alice) = node(app).await;
    let reply = alice.request("anything", &()).await.unwrap();
    assert_eq!(reply.kind(), "nothing");
}

#[tokio::test(start_paused = true)]
async fn a_mapped_error_is_what_the_event_and_the_peer_say() {
    let app = App::new()
        .layer(MapErrLayer::new(|error: BoxError| {
            BoxError::from(format!("while echoing: {error}"))
        }))
        .layer(handle(echo));
    let (mesh, alice) = node(app).await;
    let mut events = mesh.events();
    let error = ask(alice.peer(), "fail").await.unwrap_err();
    assert!(
        error.to_string().contains("while echoing: cannot"),
        "{error}"
    );
    assert!(
        next_error(&mut events)
            .await
            .contains("while echoing: cannot")
    );
}

#[tokio::test(start_paused = true)]
async fn a_mapped_result_can_answer_in_place_of_an_error() {
    let app = App::new()
        .layer(MapResultLayer::new(|result: Result<Reply, BoxError>| {
            result.or_else(|error| Ok::<_, BoxError>(Reply::Payload(error.to_string().into())))
        }))
        .layer(AndThenLayer::new(|reply: Reply| async move {
            match reply {
                Reply::Payload(payload) if payload == "forbidden" => Err(BoxError::from("no")),
                reply => Ok(reply),
            }
        }))
        .layer(handle(echo));
    let (_mesh, alice) = node(app).await;
    assert_eq!(ask(alice.peer(), "fail").await.unwrap(), "cannot");
    assert_eq!(ask(alice.peer(), "forbidden").await.unwrap(), "no");
    assert_eq!(ask(alice.peer(), "fine").await.unwrap(), "fine");
}
