//! The error type.

mod ban_left;
mod create;
mod kind;
mod refusal;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::sync::Arc;

pub use refusal::Refusal;

use crate::text::{CAUSE_MAX, OneLine};

/// A boxed error of any type, as layers and handlers return it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error of the mesh, of one of its peers, or of a call through a peer's stack.
///
/// The kind is private, so that kinds can be added without breaking callers; query it with the
/// `is_*` methods. The text says what to do, followed by the causes: on one line, with control
/// characters escaped, and truncated if it is long. [`source`](std::error::Error::source) returns
/// the cause, for programs that inspect it: since the text contains the causes, a report that also
/// prints the sources would repeat them.
///
/// An error is cheap to clone; clones share the cause.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    /// The error's own text, without its causes.
    text: Cow<'static, str>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    /// Whether this is an [offence](Error::offence), or is caused by one.
    offence: bool,
    /// Whether this is caused by a [`Refusal`].
    refusal: bool,
}

/// The beginning of the text of [`ErrorKind::Failed`], before the peer's reason. The wire does not
/// tell a refusal from a failure, so it fits both.
const PEER_FAILED: &str = "the peer did not answer: ";

/// The kind of an [`Error`]. The `is_*` methods describe the kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ErrorKind {
    Config,
    Listen,
    Dial,
    Handshake,
    Unsaid,
    Refused,
    Busy,
    /// By the other side.
    Banned,
    /// By this node.
    OwnBan,
    Itself,
    Plaintext,
    Call,
    Panic,
    Callback,
    Plugin,
    LeftOut,
    Closed,
    Full,
    Timeout,
    Encode,
    Decode,
    NoCourier,
    NoAnswer,
    Failed,
    Penalty,
}

impl Error {
    fn new(kind: ErrorKind, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            text: text.into(),
            source: None,
            offence: false,
            refusal: false,
        }
    }

    fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into().into());
        self
    }

    /// Returns the reason that is sent to a peer whose request failed with this error.
    pub(crate) fn reason(&self) -> String {
        match &self.source {
            Some(source) if self.refusal => match refusal_in(&**source) {
                Some(refusal) => refusal.reason().to_owned(),
                None => source.to_string(),
            },
            Some(source) if self.kind == ErrorKind::Call => source.to_string(),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        // One line contains all causes, since most errors end up in a log or an event.
        let mut source = self.source.as_deref().map(|e| e as &dyn std::error::Error);
        // A handler's error may quote a peer.
        let mut f = OneLine::new(f, CAUSE_MAX);
        while let Some(error) = source {
            write!(f, ": {error}")?;
            // Our own errors have displayed their sources already.
            source = error.source().filter(|_| !error.is::<Self>());
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_deref()
            .map(|e| e as &(dyn std::error::Error + 'static))
    }
}

/// Returns the errors of a chain, beginning with this one.
fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        // The `source` of an I/O error skips the error inside of it, so ask for that one.
        match error.downcast_ref::<std::io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as _),
            None => error.source(),
        }
    })
}

/// Returns the [`Refusal`] that an error is, or is caused by.
fn refusal_in<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Refusal> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// Returns the message of a panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&str>() {
        return text;
    }
    panic
        .downcast_ref::<String>()
        .map_or("no text", String::as_str)
}
