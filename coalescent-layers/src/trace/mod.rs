//! Distributed tracing across nodes: W3C trace context in the headers of messages.
//!
//! [`TraceContext`] reads the header `traceparent` of each message. It inserts a [`TraceParent`]
//! for the local span into the frame's extensions, opens a `tracing` span with its ids around the
//! layers and handlers inside it, and makes it the [current](TraceParent::current) context while
//! they run. Messages that handlers send with [`with_trace`](MessageTraceExt::with_trace) carry the
//! context in their header; replies carry it automatically. The spans of all nodes on a message's
//! way thus share one trace id, and each has the previous node's span as its parent.
//!
//! Relays pass the header on unchanged. A node that only relays records no span.
//!
//! # Where it belongs
//!
//! Inside the courier, which parses the messages, and outside the handlers.
//!
//! ```text
//! handlers have a context:
//!     App::new().with(Courier::new()).with(TraceContext::new()).with(router)
//! handlers have none:
//!     App::new().with(TraceContext::new()).with(Courier::new()).with(router)
//! ```
//!
//! # Per peer or shared
//!
//! The layer has no state and no queue. It is ready when its inner service is.
//!
//! # Trust
//!
//! The header is unauthenticated: a peer can join any trace whose id it knows, and can request that
//! all its messages be sampled. If that matters, strip the header or do not add this layer. An
//! invalid header is ignored.
//!
//! # Example
//!
//! ```
//! use coalescent::{
//!     Error, Frame, Message, Reply, TraceContext, test_util,
//!     trace::{MessageTraceExt, TraceParent}, wire::Kind,
//! };
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let stack = ServiceBuilder::new()
//!     .layer(TraceContext::new())
//!     .service(service_fn(async |_: Frame| {
//!         let here = TraceParent::current().expect("the message has a trace");
//!         assert_eq!(here.to_string()[..36], *"00-4bf92f3577b34da6a3ce929d0e0e4736-");
//!         Ok::<_, Error>(Reply::from(Message::new("pong", &())))
//!     }));
//!
//! let there = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
//! let there: TraceParent = there.parse().unwrap();
//! let mut frame = test_util::frame(Kind::Data, "");
//! frame.set_message(Message::new("ping", &()).with_trace_of(&there));
//! let Ok(Reply::Message(pong)) = stack.oneshot(frame).await else { panic!() };
//!
//! // The reply belongs to the same trace.
//! assert_eq!(TraceParent::of(&pong).unwrap().trace_id(), there.trace_id());
//! # }
//! ```

mod layer;
mod parent;

pub use self::layer::{ResponseFuture, TraceContext, TraceContextService};
pub use self::parent::{MessageTraceExt, ParseTraceParentError, TRACEPARENT, TraceParent};
