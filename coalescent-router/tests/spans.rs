//! The span that a handler runs in.
//!
//! A binary of its own: tracing decides once per process whether a call site is enabled, so a test
//! without a subscriber on another thread could switch off the span that this test waits for.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use coalescent_core::wire::Kind;
use coalescent_core::{Message, test_util};
use coalescent_router::Router;
use tower::{Service, ServiceExt};
use tracing::field::{Field, Visit};
use tracing::span;
use tracing_subscriber::layer::{Context, SubscriberExt};

async fn nothing() {}

/// The fields of each span named "handle".
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<String>>>);

struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() != "peer" {
            self.0.push_str(&format!(" {}={value:?}", field.name()));
        }
    }
}

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Spans {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, _: &span::Id, _: Context<'_, S>) {
        assert!(attributes.metadata().fields().field("peer").is_some());
        let mut text = attributes.metadata().name().to_owned();
        attributes.record(&mut Text(&mut text));
        self.0.lock().unwrap().push(text);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_handler_runs_in_a_span() {
    let spans = Spans::default();
    let _default =
        tracing::subscriber::set_default(tracing_subscriber::registry().with(spans.clone()));
    let router = Router::new().route("ping", nothing).fallback(nothing);
    let mut service = router.into_service();
    for kind in ["ping", "a peer's own word"] {
        let mut frame = test_util::frame(Kind::Data, "twelve bytes");
        frame.set_message(Message::new(kind, &()));
        service.ready().await.unwrap().call(frame).await.unwrap();
    }
    assert_eq!(
        *spans.0.lock().unwrap(),
        [
            r#"handle route="ping" frame="data" bytes=12"#,
            r#"handle route="*" frame="data" bytes=12"#,
        ]
    );
}
