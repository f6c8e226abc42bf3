//! How long handlers take, through the `metrics` facade.

use coalescent_core::wire::Kind;
use coalescent_core::{BoxError, Frame, Message, test_util};
use coalescent_router::Router;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use tower::{Service, ServiceExt};

fn message(kind: &str) -> Frame {
    let mut frame = test_util::frame(Kind::Data, "twelve bytes");
    frame.set_message(Message::new(kind, &()));
    frame
}

async fn fails() -> Result<(), BoxError> {
    tokio::task::yield_now().await;
    Err("no".into())
}

async fn nothing() {}

fn router() -> Router {
    let chat = Router::new().route("say", nothing).fallback(nothing);
    Router::new()
        .route("ping", nothing)
        .route("fail", fails)
        .fallback(nothing)
        .layer(tower::layer::util::Identity::new())
        .nest("chat/", chat)
        .with_state(())
}

async fn call(kinds: &[&str]) {
    let mut service = router().into_service();
    for kind in kinds {
        let _ = service.ready().await.unwrap().call(message(kind)).await;
    }
}

#[test]
fn handlers_are_timed_by_their_route() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(call(&[
            "ping",
            "ping",
            "fail",
            "a peer's own word",
            "another",
            "chat/say",
            "chat/else",
        ]));
    });
    let mut seen: Vec<_> = snapshotter
        .snapshot()
        .into_vec()
        .into_iter()
        .filter_map(|(key, _, _, value)| {
            // The node that the frames come from counts too.
            let DebugValue::Histogram(values) = value else {
                return None;
            };
            let (_, key) = key.into_parts();
            let mut labels = key.labels().map(metrics::Label::value);
            let (route, outcome) = (labels.next()?, labels.next()?);
            (!values.is_empty())
                .then(|| format!("{} {route} {outcome} {}", key.name(), values.len()))
        })
        .collect();
    seen.sort();
    let name = "coalescent_handler_seconds";
    let expected = [
        "* ok 2",
        "chat/* ok 1",
        "chat/say ok 1",
        "fail failed 1",
        "ping ok 2",
    ];
    assert_eq!(seen, expected.map(|rest| format!("{name} {rest}")));
}
