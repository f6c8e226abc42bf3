//! Following a message from node to node: W3C trace context in the headers of messages.
//!
//! [`TraceContext`] reads the header `traceparent` of each message. It puts a [`TraceParent`] for
//! what is done here into the frame's extensions, opens a span with its ids around the layers and
//! handlers further in, and makes it the [current](TraceParent::current) one for as long as they
//! run. What they send with [`with_trace`](MessageTraceExt::with_trace) names it in its own header,
//! and what they answer does without being asked. So the spans of all nodes that a message came
//! through have one trace id, each with the one before as its parent.
//!
//! Relays pass the header on as it is. A node that only relays leaves no trace.
//!
//! # Where it belongs
//!
//! Inside the courier, which makes the messages; outside of the handlers.
//!
//! ```text
//! App::new().with(Courier::new()).with(TraceContext::new()).with(router)    handlers have a context
//! App::new().with(TraceContext::new()).with(Courier::new()).with(router)    they have none
//! ```
//!
//! # Per peer or shared
//!
//! It has no state, so there is nothing to share, and nothing that could be full. It is as ready as
//! the inner service.
//!
//! # What a peer says
//!
//! The header is the peer's word: it can join any trace it knows the id of, and ask for all its
//! messages to be sampled. Strip it, or do not add this layer, where that matters. A header that is
//! no `traceparent` is ignored.
//!
//! # Example
//!
//! ```
//! use coalescent_core::{Error, Frame, Message, Reply, test_util, wire::Kind};
//! use coalescent_layers::{TraceContext, trace::{MessageTraceExt, TraceParent}};
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
//! let there: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
//! let mut frame = test_util::frame(Kind::Data, "");
//! frame.set_message(Message::new("ping", &()).with_trace_of(&there));
//! let Ok(Reply::Message(pong)) = stack.oneshot(frame).await else { panic!() };
//!
//! // The answer belongs to the same trace.
//! assert_eq!(TraceParent::of(&pong).unwrap().trace_id(), there.trace_id());
//! # }
//! ```

mod layer;
mod parent;

pub use self::layer::{ResponseFuture, TraceContext, TraceContextService};
pub use self::parent::{MessageTraceExt, ParseTraceParentError, TRACEPARENT, TraceParent};
