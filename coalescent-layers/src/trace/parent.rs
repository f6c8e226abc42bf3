//! The trace context: a trace id and a span id, and how messages carry them.

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;

use coalescent_core::Message;
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The key of the header that carries the trace context.
pub const TRACEPARENT: &str = "traceparent";

/// The flag bit that says that the trace is recorded.
const SAMPLED: u8 = 1;

thread_local! {
    /// The context of the message that this thread is handling, if any.
    static CURRENT: Cell<Option<TraceParent>> = const { Cell::new(None) };
}

/// A trace and a span in it, in the notation of [W3C Trace Context]: `00-<trace id>-<span
/// id>-<flags>`.
///
/// [W3C Trace Context]: https://www.w3.org/TR/trace-context/
///
/// ```
/// use coalescent::Message;
/// use coalescent::trace::{MessageTraceExt, TraceParent};
///
/// let trace = TraceParent::root(true);
/// let message = Message::new("ping", &()).with_trace_of(&trace);
/// assert_eq!(TraceParent::of(&message), Some(trace));
///
/// let span = trace.child();
/// assert_eq!(span.trace_id(), trace.trace_id());
/// assert_ne!(span.span_id(), trace.span_id());
/// assert_eq!(span.to_string().parse(), Ok(span));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

impl TraceParent {
    /// Begins a trace with random ids. `sampled` requests that all nodes record it.
    #[must_use]
    pub fn root(sampled: bool) -> Self {
        Self {
            trace_id: rand::random::<u128>().max(1),
            span_id: new_span(),
            flags: if sampled { SAMPLED } else { 0 },
        }
    }

    /// Returns a new span of the same trace, with a random id.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            span_id: new_span(),
            ..*self
        }
    }

    /// Reads the context from the headers of a message. Returns `None` if the header is missing or
    /// invalid.
    #[must_use]
    pub fn of(message: &Message) -> Option<Self> {
        message.header(TRACEPARENT).and_then(Result::ok)
    }

    /// Returns the context of the message being handled. It is set inside a
    /// [`TraceContext`](super::TraceContext), in the task that runs the handler. Tasks spawned by
    /// the handler do not inherit it; pass it along.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.get()
    }

    /// Returns the trace id.
    #[must_use]
    pub fn trace_id(&self) -> u128 {
        self.trace_id
    }

    /// Returns the span id.
    #[must_use]
    pub fn span_id(&self) -> u64 {
        self.span_id
    }

    /// Returns whether the trace is recorded.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Makes this the current context until the guard is dropped.
    pub(super) fn enter(self) -> Entered {
        Entered(CURRENT.replace(Some(self)))
    }
}

fn new_span() -> u64 {
    // The standard reserves zero for an invalid id.
    rand::random::<u64>().max(1)
}

/// Restores the previous current context when dropped.
#[derive(Debug)]
pub(super) struct Entered(Option<TraceParent>);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trace_id,
            span_id,
            flags,
        } = self;
        write!(f, "00-{trace_id:032x}-{span_id:016x}-{flags:02x}")
    }
}

impl FromStr for TraceParent {
    type Err = ParseTraceParentError;

    /// Parses the format that [`Display`](fmt::Display) writes. Of later versions of the format,
    /// the known fields are read and the rest is ignored, as the standard requires.
    fn from_str(text: &str) -> Result<Self, ParseTraceParentError> {
        let mut parts = text.split('-');
        let mut next = |digits| hex(parts.next(), digits);
        let (version, trace_id) = (next(2)?, next(32)?);
        let (span_id, flags) = (next(16)?, next(2)?);
        let more = parts.next().is_some();
        if version == 0xff || trace_id == 0 || span_id == 0 || (version == 0 && more) {
            return Err(ParseTraceParentError(()));
        }
        Ok(Self {
            trace_id,
            span_id: u64::try_from(span_id).map_err(|_| ParseTraceParentError(()))?,
            // Unknown flags are dropped.
            flags: u8::try_from(flags & u128::from(SAMPLED)).unwrap_or_default(),
        })
    }
}

/// Parses exactly `digits` lower-case hexadecimal digits.
fn hex(part: Option<&str>, digits: usize) -> Result<u128, ParseTraceParentError> {
    part.filter(|part| part.len() == digits)
        .filter(|part| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
        .and_then(|part| u128::from_str_radix(part, 16).ok())
        .ok_or(ParseTraceParentError(()))
}

/// The error for text that is not a valid `traceparent`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseTraceParentError(());

impl fmt::Display for ParseTraceParentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no traceparent: write 00-, a trace id of 32 hexadecimal digits, -, a span id of 16, - and two digits of flags")
    }
}

impl std::error::Error for ParseTraceParentError {}

impl Serialize for TraceParent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TraceParent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = TraceParent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a traceparent")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<TraceParent, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text).map_err(D::Error::custom)
    }
}

/// Adds a trace context to the headers of a message.
///
/// ```
/// use coalescent::Message;
/// use coalescent::trace::{MessageTraceExt, TraceParent};
///
/// // Outside a handler, this begins a new trace.
/// let message = Message::new("ping", &()).with_trace();
/// assert!(TraceParent::of(&message).is_some());
/// ```
pub trait MessageTraceExt: sealed::Sealed + Sized {
    /// Adds the [current](TraceParent::current) trace context, or a new, sampled one if there is
    /// none.
    #[must_use]
    fn with_trace(self) -> Self {
        let trace = TraceParent::current().unwrap_or_else(|| TraceParent::root(true));
        self.with_trace_of(&trace)
    }

    /// Adds the context `trace`.
    #[must_use]
    fn with_trace_of(self, trace: &TraceParent) -> Self;
}

impl MessageTraceExt for Message {
    fn with_trace_of(self, trace: &TraceParent) -> Self {
        self.with_header(TRACEPARENT, trace)
    }
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for coalescent_core::Message {}
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn invalid_text_is_rejected() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-é4bf92f3577b34da6a3ce929d0e0e47-00f067aa0ba902b7-01",
        ] {
            assert!(text.parse::<TraceParent>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_known_fields_of_a_later_version_are_read() {
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-more";
        let trace: TraceParent = later.parse().unwrap();
        assert_eq!(
            trace.to_string(),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        );
    }

    proptest! {
        #[test]
        fn written_text_parses_to_the_same_context(trace_id in 1_u128.., span_id in 1_u64.., sampled: bool) {
            let trace = TraceParent { trace_id, span_id, flags: u8::from(sampled) };
            prop_assert_eq!(trace.to_string().parse(), Ok(trace));
            let message = Message::new("x", &()).with_trace_of(&trace);
            prop_assert_eq!(TraceParent::of(&message), Some(trace));
        }

        #[test]
        fn no_text_panics(text: String, shape in "[0-9a-g-]{0,60}") {
            let _ = text.parse::<TraceParent>();
            let _ = shape.parse::<TraceParent>();
        }
    }
}
