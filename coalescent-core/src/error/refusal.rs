//! Refusals: answers that say no.

use std::borrow::Cow;
use std::fmt;

/// Refuses a request for a reason that the asker is told, without an error on this node.
///
/// A handler, or a layer, fails with it as with any other error. The peer that asked gets an
/// [`Error`](crate::Error) for which [`is_failed`](crate::Error::is_failed) is true, and reads the
/// reason with [`peer_reason`](crate::Error::peer_reason). Any other error answers a request in the
/// same way, with the error's own text, but is reported as an
/// [`Event::Error`](crate::Event::Error) on this node as well. None of them counts against the peer
/// that asked.
///
/// Three questions to an error are easily confused:
///
/// - [`is_refusal`](crate::Error::is_refusal): on this node, whether it is caused by a `Refusal`.
/// - [`is_failed`](crate::Error::is_failed): at the asker, whether the peer answered a request with
///   a refusal or another error.
/// - [`is_refused`](crate::Error::is_refused): whether one side rejected the other's connection.
///
/// A frame that is no request has nobody to be told: a refusal of it is an error event like any
/// other.
///
/// It is found among the [sources](std::error::Error::source) of an error too, so that layers may
/// wrap it. At most 256 bytes of the reason are sent.
///
/// ```
/// use coalescent::{Frame, Refusal, Reply};
///
/// async fn withdraw(frame: Frame) -> Result<Reply, Refusal> {
///     if frame.payload().len() > 3 {
///         return Err(Refusal::new("at most 999 at a time"));
///     }
///     Ok(Reply::Payload(frame.into_payload()))
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(Cow<'static, str>);

impl Refusal {
    /// Creates a refusal with a reason for the asker.
    #[must_use]
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self(reason.into())
    }

    /// Returns the reason.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}
