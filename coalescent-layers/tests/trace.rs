//! One trace over several nodes: the header that a handler sends on, the answer that follows it,
//! the spans it leaves.
//!
//! A binary of its own: tracing decides once per process whether a call site is enabled, so a test
//! without a subscriber on another thread could switch off what these tests wait for.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use coalescent_core::transport::Memory;
use coalescent_core::{App, AppExt, BoxError, Error, Frame, Mesh, Message, Reply};
use coalescent_layers::trace::{MessageTraceExt, TraceParent};
use coalescent_layers::{Courier, MeshExt, PeerExt, TraceContext};
use tower::layer::layer_fn;
use tower::service_fn;
use tracing::field::{Field, Visit};
use tracing::span;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

/// The fields of each span named "message", in the order in which they began.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<(span::Id, Named)>>>);

/// Fields by name.
type Named = HashMap<&'static str, String>;

struct Fields<'a>(&'a mut Named);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl<S> tracing_subscriber::Layer<S> for Spans
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(
        &self,
        attributes: &span::Attributes<'_>,
        id: &span::Id,
        _: tracing_subscriber::layer::Context<'_, S>,
    ) {
        if attributes.metadata().name() == "message" {
            let mut fields = HashMap::new();
            attributes.record(&mut Fields(&mut fields));
            self.0.lock().unwrap().push((id.clone(), fields));
        }
    }

    fn on_record(
        &self,
        id: &span::Id,
        values: &span::Record<'_>,
        _: tracing_subscriber::layer::Context<'_, S>,
    ) {
        let mut spans = self.0.lock().unwrap();
        if let Some((_, fields)) = spans.iter_mut().rev().find(|(other, _)| other == id) {
            values.record(&mut Fields(fields));
        }
    }
}

async fn handle(frame: Frame) -> Result<Reply, BoxError> {
    let message = frame.message().ok_or_else(Error::no_courier)?;
    let here = frame.extensions().get::<TraceParent>().copied();
    assert_eq!(here, TraceParent::current());
    if message.kind() != "ask" {
        return Ok(Reply::None);
    }
    tokio::task::yield_now().await;
    assert_eq!(here, TraceParent::current(), "after a wait, too");
    let mesh = frame.peer().mesh().ok_or_else(Error::no_courier)?;
    let _ = mesh
        .broadcast_message(Message::new("told", &()).with_trace())
        .await?;
    Ok(Message::new("answer", &()).into())
}

async fn node(network: &Memory, addr: &str) -> Mesh {
    App::new()
        .transport(network.clone())
        .with(Courier::new())
        .with(TraceContext::new())
        .layer(layer_fn(|_inner| service_fn(handle)))
        .listen(addr)
        .await
        .unwrap()
}

#[tokio::test(flavor = "current_thread", start_paused = true)]
async fn a_trace_goes_on_from_node_to_node() {
    let spans = Spans::default();
    let subscriber = tracing_subscriber::registry().with(spans.clone());
    let _default = tracing::subscriber::set_default(subscriber);

    let network = Memory::new();
    let alice = node(&network, "alice:1").await;
    let bob = node(&network, "bob:2").await;
    let carol = node(&network, "carol:3").await;
    let (mut heard, mut at_bob) = (carol.events(), bob.events());
    let to_bob = alice.connect("bob:2").await.unwrap();
    carol.connect("bob:2").await.unwrap();

    let begun = TraceParent::root(true);
    let ask = Message::new("ask", &()).with_trace_of(&begun);
    let answer = to_bob.request_message(ask).await.unwrap();

    // The answer names the span that made it.
    let answered = TraceParent::of(&answer).expect("a traced answer");
    assert_eq!(answered.trace_id(), begun.trace_id());
    assert_ne!(answered.span_id(), begun.span_id());
    assert!(answered.is_sampled());

    // What the handler told everyone is the child of that span, at each node.
    let told = |spans: &Spans| {
        let spans = spans.0.lock().unwrap();
        let of = |kind| {
            let spans = spans.iter().map(|(_, fields)| fields.clone());
            spans
                .filter(move |fields| fields.get("type").is_some_and(|is| is == kind))
                .collect::<Vec<_>>()
        };
        (of("ask"), of("told"))
    };
    while told(&spans).1.len() < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let (asks, tolds) = told(&spans);
    let hex = |span: u64| format!("{span:016x}");
    let trace = format!("{:032x}", begun.trace_id());
    assert_eq!(asks.len(), 1);
    assert_eq!(asks[0]["trace_id"], trace);
    assert_eq!(asks[0]["parent_id"], hex(begun.span_id()));
    assert_eq!(asks[0]["span_id"], hex(answered.span_id()));
    for fields in tolds {
        assert_eq!(fields["trace_id"], trace);
        assert_eq!(fields["parent_id"], hex(answered.span_id()));
        assert!(fields.contains_key("peer"));
    }

    // No handler failed, and a message without a trace gets none.
    let silent = to_bob.request("ask", &()).await.unwrap();
    assert_eq!(TraceParent::of(&silent), None);
    for mesh in [&alice, &bob, &carol] {
        mesh.shutdown().await;
    }
    for events in [&mut heard, &mut at_bob] {
        while let Some(event) = events.next().await {
            let failed = matches!(event, coalescent_core::Event::Error { .. });
            assert!(!failed, "{event:?}");
        }
    }
}
