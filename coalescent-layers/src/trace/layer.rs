//! The layer, its service and its future.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use coalescent_core::event::Escaped;
use coalescent_core::{Frame, Plugin, Reply};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;
use tracing::{Span, field};

use super::{MessageTraceExt, TRACEPARENT, TraceParent};

/// A layer that continues the trace a message belongs to: handlers run as a span of that trace.
///
/// See the [module documentation](super). A message without a trace is passed on unchanged, at the
/// cost of scanning its headers, unless [`begin`](TraceContext::begin) is set.
///
/// ```
/// use coalescent::{App, AppExt, Courier, Error, Frame, PeerExt, Reply, transport::Memory};
/// use coalescent::trace::{TraceContext, TraceParent};
/// use tower::{layer::layer_fn, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let network = Memory::new();
/// # let app = || App::new().transport(network.clone()).with(Courier::new());
/// // Whoever does not belong to a trace begins one here.
/// let answer = layer_fn(|_inner| {
///     service_fn(async |_: Frame| {
///         let traced = TraceParent::current().is_some();
///         Ok::<_, Error>(Reply::from(coalescent::Message::new("traced", &traced)))
///     })
/// });
/// let alice = app().with(TraceContext::new().begin(true)).layer(answer);
/// let alice = alice.listen("alice:1").await?;
/// let bob = app().start().await?;
/// let reply = bob.connect("alice:1").await?.request("ask", &()).await?;
/// assert!(reply.body::<bool>()?);
/// # drop(alice);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "it traces nothing until it is added to an app, with `with`"]
pub struct TraceContext {
    begin: bool,
}

impl TraceContext {
    /// Creates the layer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether to begin a new, sampled trace for each message without one. Default: false.
    pub fn begin(mut self, begin: bool) -> Self {
        self.begin = begin;
        self
    }

    /// Returns the remote parent span, if any, and the span that handles the message here.
    fn of(self, frame: &Frame) -> Option<(Option<TraceParent>, TraceParent)> {
        match TraceParent::of(frame.message()?) {
            Some(parent) => Some((Some(parent), parent.child())),
            None => self.begin.then(|| (None, TraceParent::root(true))),
        }
    }
}

impl Plugin for TraceContext {}

impl<S> Layer<S> for TraceContext {
    type Service = TraceContextService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        TraceContextService {
            inner,
            options: *self,
        }
    }
}

/// The service that [`TraceContext`] puts around one peer's stack.
#[derive(Clone, Debug)]
pub struct TraceContextService<S> {
    inner: S,
    options: TraceContext,
}

impl<S> TraceContextService<S> {
    crate::macros::inner_accessors!(S);
}

impl<S> Service<Frame> for TraceContextService<S>
where
    S: Service<Frame, Response = Reply>,
{
    type Response = Reply;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut frame: Frame) -> Self::Future {
        let Some((parent, here)) = self.options.of(&frame) else {
            return ResponseFuture {
                call: self.inner.call(frame),
                trace: None,
            };
        };
        let span = span(&frame, parent, here);
        frame.extensions_mut().insert(here);
        let call = {
            let _current = here.enter();
            let _entered = span.enter();
            self.inner.call(frame)
        };
        ResponseFuture {
            call,
            trace: Some((here, span)),
        }
    }
}

fn span(frame: &Frame, parent: Option<TraceParent>, here: TraceParent) -> Span {
    let span = tracing::debug_span!(
        "message",
        peer = %frame.peer().id(),
        r#type = frame.message().map(|message| field::display(Escaped(message.kind()))),
        trace_id = field::Empty,
        span_id = field::Empty,
        parent_id = field::Empty,
    );
    if !span.is_disabled() {
        // Padded with zeros, the format that tracing backends use.
        span.record(
            "trace_id",
            field::display(format_args!("{:032x}", here.trace_id())),
        );
        span.record(
            "span_id",
            field::display(format_args!("{:016x}", here.span_id())),
        );
        if let Some(parent) = parent {
            span.record(
                "parent_id",
                field::display(format_args!("{:016x}", parent.span_id())),
            );
        }
    }
    span
}

pin_project! {
    /// The response future of [`TraceContextService`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        call: F,
        trace: Option<(TraceParent, Span)>,
    }
}

impl<F, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Reply, E>>,
{
    type Output = Result<Reply, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some((here, span)) = this.trace else {
            return this.call.poll(cx);
        };
        let _current = here.enter();
        let _entered = span.enter();
        let reply = ready!(this.call.poll(cx))?;
        Poll::Ready(Ok(match reply {
            Reply::Message(answer) if answer.headers().all(|key| key != TRACEPARENT) => {
                Reply::Message(answer.with_trace_of(here))
            }
            reply => reply,
        }))
    }
}
