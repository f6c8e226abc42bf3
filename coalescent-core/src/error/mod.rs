//! The error type, and the convention for all error types of the workspace.
//!
//! - `Display` shows the error's own level: what failed, and what to do. It never contains the text
//!   of the cause.
//! - [`source`](std::error::Error::source) returns the cause, whose `Display` shows the next level.
//!   A text of another program that has been cut to a bound, as in
//!   [`CodecError`](crate::codec::CodecError), is the error's own.
//! - Whoever shows an error to a person, such as an event or a log line, shows its
//!   [`report`](Error::report): all levels on one line, each once.
//!
//! Each error type with a cause has a test that uses `check_levels`.

mod ban_left;
mod catch;
#[cfg(any(test, feature = "test-util"))]
mod check;
mod create;
mod kind;
mod refusal;
mod report;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

pub(crate) use catch::catch_panic;
#[cfg(any(test, feature = "test-util"))]
pub use check::check_levels;
pub use refusal::Refusal;
pub use report::{Report, report};

/// A boxed error of any type, as layers and handlers return it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error of the mesh, of one of its peers, or of a call through a peer's stack.
///
/// The kind is private, so that kinds can be added without breaking callers; query it with the
/// `is_*` methods.
///
/// [`Display`](fmt::Display) shows what failed, and what to do about it, without the cause, which
/// [`source`](std::error::Error::source) returns. [`report`](Error::report) shows both:
///
/// ```
/// use coalescent::{App, Error};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let error: Error = App::new().listen("127.0.0.1:none").await.unwrap_err();
/// println!("{}", error.report());
/// # }
/// ```
///
/// [`Debug`](fmt::Debug) shows the report too, since a `main` that returns an error prints that;
/// `{:#?}` shows the fields. All other error types of this project follow the same convention for
/// `Display` and `source`; [`report`](fn@crate::report) shows any of them.
///
/// An error is cheap to clone; clones share the cause.
#[derive(Clone)]
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
const PEER_FAILED: &str = "the peer refused or failed the request: ";

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

    /// Displays the error and its causes on one line, with control characters escaped. Long texts
    /// are cut, because causes may quote a peer.
    #[must_use]
    pub fn report(&self) -> Report<'_> {
        report(self)
    }

    /// Returns the reason that is sent to a peer whose request failed with this error: the text of
    /// the handler's error. The causes of a foreign error stay on this node, since they may tell
    /// what is nobody else's business.
    pub(crate) fn reason(&self) -> String {
        match &self.source {
            Some(source) if self.refusal => match refusal_in(&**source) {
                Some(refusal) => refusal.reason().to_owned(),
                None => source.to_string(),
            },
            Some(source) if self.kind == ErrorKind::Call => match own_in(&**source) {
                Some(own) => own.report().to_string(),
                None => source.to_string(),
            },
            _ => self.report().to_string(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            return fmt::Display::fmt(&self.report(), f);
        }
        f.debug_struct("Error")
            .field("kind", &self.kind)
            .field("text", &self.text)
            .field("source", &self.source)
            .field("offence", &self.offence)
            .field("refusal", &self.refusal)
            .finish()
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

/// Returns the error of this type that an error is, or that I/O errors around it hold.
fn own_in<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    chain(error)
        .find(|error| !error.is::<std::io::Error>())
        .and_then(|error| error.downcast_ref())
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
