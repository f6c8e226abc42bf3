//! Observability of handlers: a span around each call, and its duration as a metric.

#[cfg(feature = "metrics")]
use std::sync::{Arc, OnceLock};
#[cfg(feature = "metrics")]
use std::time::Instant;

use coalescent_core::Frame;
use coalescent_core::wire::Kind;
use tracing::Span;

/// Creates the spans and timers of one route. They are labelled with the name that the route was
/// added under, never with text from a peer, because each new label would use memory forever.
#[derive(Default)]
pub(crate) struct Observer {
    name: Box<str>,
    #[cfg(feature = "metrics")]
    timers: OnceLock<Arc<Timers>>,
}

/// The histograms of one route, registered on first use.
#[cfg(feature = "metrics")]
struct Timers {
    ok: metrics::Histogram,
    failed: metrics::Histogram,
}

#[cfg(feature = "metrics")]
impl Timers {
    fn register(route: &str) -> Arc<Self> {
        const NAME: &str = "coalescent_handler_seconds";
        let text = "From the call of a handler, with the layers of its route, to its end";
        metrics::describe_histogram!(NAME, metrics::Unit::Seconds, text);
        let timer = |outcome: &'static str| metrics::histogram!(NAME, "route" => route.to_owned(), "outcome" => outcome);
        Arc::new(Self {
            ok: timer("ok"),
            failed: timer("failed"),
        })
    }
}

impl Observer {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            #[cfg(feature = "metrics")]
            timers: OnceLock::new(),
        }
    }

    /// Starts observing a call of the handler.
    pub(crate) fn begin(&self, frame: &Frame) -> ObservedCall {
        let span = tracing::debug_span!(
            "handle",
            route = &*self.name,
            peer = %frame.peer().id(),
            frame = kind(frame.kind()),
            bytes = frame.payload().len(),
        );
        ObservedCall {
            span,
            #[cfg(feature = "metrics")]
            timers: Arc::clone(self.timers.get_or_init(|| Timers::register(&self.name))),
            #[cfg(feature = "metrics")]
            at: Instant::now(),
        }
    }
}

/// Returns the name of a frame's kind, as in the documentation of the wire.
fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Data => "data",
        Kind::Broadcast { .. } => "broadcast",
        Kind::Request { .. } => "request",
        Kind::Plain => "plain",
        _ => "other",
    }
}

/// One call of a handler that is being observed.
pub(crate) struct ObservedCall {
    span: Span,
    #[cfg(feature = "metrics")]
    timers: Arc<Timers>,
    #[cfg(feature = "metrics")]
    at: Instant,
}

impl ObservedCall {
    /// Runs a part of the call inside its span.
    #[inline]
    pub(crate) fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        let _entered = (!self.span.is_disabled()).then(|| self.span.enter());
        work()
    }

    /// Records the duration of the finished call.
    #[cfg(feature = "metrics")]
    pub(crate) fn end(&self, ok: bool) {
        let timers = &self.timers;
        let timer = if ok { &timers.ok } else { &timers.failed };
        timer.record(self.at.elapsed().as_secs_f64());
    }

    #[cfg(not(feature = "metrics"))]
    pub(crate) fn end(&self, _ok: bool) {}
}
