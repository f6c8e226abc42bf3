//! What can be seen of a handler from outside: a span around it, and the time it takes.

#[cfg(feature = "metrics")]
use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use coalescent_core::Frame;
use coalescent_core::wire::Kind;
use tracing::Span;

/// Watches one route, by the name it was added under: what a peer sends is never a label, since
/// each new one would cost memory for ever.
#[derive(Default)]
pub(crate) struct Watch {
    name: Box<str>,
    #[cfg(feature = "metrics")]
    timers: OnceLock<Arc<Timers>>,
}

/// The handles of one route, registered when it is first used.
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

impl Watch {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            #[cfg(feature = "metrics")]
            timers: OnceLock::new(),
        }
    }

    /// A handler is about to be called.
    pub(crate) fn begin(&self, frame: &Frame) -> Begun {
        let span = tracing::debug_span!(
            "handle",
            route = &*self.name,
            peer = %frame.peer().id(),
            frame = kind(frame.kind()),
            bytes = frame.payload().len(),
        );
        Begun {
            span,
            #[cfg(feature = "metrics")]
            timers: Arc::clone(self.timers.get_or_init(|| Timers::register(&self.name))),
            #[cfg(feature = "metrics")]
            at: Instant::now(),
        }
    }
}

/// The kind of a frame that reaches a handler, as the wire's documentation calls it.
fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Data => "data",
        Kind::Broadcast { .. } => "broadcast",
        Kind::Request { .. } => "request",
        Kind::Plain => "plain",
        _ => "other",
    }
}

/// One call of a handler.
pub(crate) struct Begun {
    span: Span,
    #[cfg(feature = "metrics")]
    timers: Arc<Timers>,
    #[cfg(feature = "metrics")]
    at: Instant,
}

impl Begun {
    /// Does a part of the work.
    #[inline]
    pub(crate) fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        let _entered = (!self.span.is_disabled()).then(|| self.span.enter());
        work()
    }

    /// The handler is done.
    #[cfg(feature = "metrics")]
    pub(crate) fn end(&self, ok: bool) {
        let timers = &self.timers;
        let timer = if ok { &timers.ok } else { &timers.failed };
        timer.record(self.at.elapsed().as_secs_f64());
    }

    #[cfg(not(feature = "metrics"))]
    pub(crate) fn end(&self, _ok: bool) {}
}
