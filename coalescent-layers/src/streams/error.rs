//! Why a stream failed.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;

/// An error of a stream: it was not opened, or has ended before its time.
///
/// The kind is private; query it with the `is_*` methods. As the error of reading and writing it is
/// inside of an [`io::Error`], of the kind [`ConnectionReset`](io::ErrorKind::ConnectionReset) if
/// either side has reset the stream, and [`ConnectionAborted`](io::ErrorKind::ConnectionAborted)
/// (reading) or [`BrokenPipe`](io::ErrorKind::BrokenPipe) (writing) if the peer has left:
///
/// ```
/// use coalescent::streams::StreamError;
///
/// fn why(error: &std::io::Error) -> Option<&str> {
///     let error = error.get_ref()?.downcast_ref::<StreamError>()?;
///     error.reason()
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamError {
    kind: Kind,
    text: Cow<'static, str>,
    /// Not a part of `text` if it is the peer's.
    reason: Option<Arc<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unsupported,
    Name,
    Refused,
    Reset,
    ResetHere,
    Left,
    Ended,
}

impl StreamError {
    fn new(kind: Kind, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            text: text.into(),
            reason: None,
        }
    }

    pub(super) fn no_plugin() -> Self {
        Self::new(
            Kind::Unsupported,
            "this app has no streams: add them with `.with(Streams::new())`",
        )
    }

    pub(super) fn unregistered() -> Self {
        Self::new(
            Kind::Unsupported,
            "the streams are in the stack, but were added with `.layer`, which does not register \
             them: use `.with(Streams::new())`",
        )
    }

    pub(super) fn no_channel() -> Self {
        Self::new(
            Kind::Unsupported,
            "the peer has no streams: its app must add `Streams`, and its wire be native",
        )
    }

    pub(super) fn name(text: &'static str) -> Self {
        Self::new(Kind::Name, text)
    }

    pub(super) fn no_numbers() -> Self {
        Self::new(Kind::Refused, "this peer has had too many streams")
    }

    pub(super) fn refused(reason: &Arc<str>) -> Self {
        let mut error = Self::new(Kind::Refused, "the peer refused the stream");
        error.reason = Some(Arc::clone(reason));
        error
    }

    pub(super) fn reset(reason: &Arc<str>) -> Self {
        let mut error = Self::new(Kind::Reset, "the peer reset the stream");
        error.reason = Some(Arc::clone(reason));
        error
    }

    pub(super) fn reset_here(reason: &Arc<str>) -> Self {
        let mut error = Self::new(Kind::ResetHere, "the stream was reset here");
        error.reason = Some(Arc::clone(reason));
        error
    }

    pub(super) fn left(why: &str) -> Self {
        Self::new(Kind::Left, format!("the peer has left: {why}"))
    }

    pub(super) fn ended() -> Self {
        Self::new(Kind::Ended, "the stream was shut down before this write")
    }

    /// Returns whether one of the two sides has no streams.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        self.kind == Kind::Unsupported
    }

    /// Returns whether a name is empty, too long, or taken.
    #[must_use]
    pub fn is_name(&self) -> bool {
        self.kind == Kind::Name
    }

    /// Returns whether the peer has refused the stream, for its [`reason`](Self::reason): most
    /// often because nothing there accepts streams of that name.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.kind == Kind::Refused
    }

    /// Returns whether the stream was reset, by the peer or here, for a
    /// [`reason`](StreamError::reason).
    #[must_use]
    pub fn is_reset(&self) -> bool {
        matches!(self.kind, Kind::Reset | Kind::ResetHere)
    }

    /// Returns whether the peer is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.kind == Kind::Left
    }

    /// Returns the reason of a reset or a refusal. Unless the stream was reset here, it comes from
    /// the peer. It may be empty.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Returns the error as one of reading.
    pub(super) fn reading(self) -> io::Error {
        let kind = match self.kind {
            Kind::Left => io::ErrorKind::ConnectionAborted,
            _ => return self.into(),
        };
        io::Error::new(kind, self)
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match &self.reason {
            Some(reason) if !reason.is_empty() => write!(f, ": {}", reason.escape_debug()),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for StreamError {}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        let kind = match error.kind {
            Kind::Unsupported => io::ErrorKind::Unsupported,
            Kind::Name => io::ErrorKind::InvalidInput,
            Kind::Refused => io::ErrorKind::ConnectionRefused,
            Kind::Reset | Kind::ResetHere => io::ErrorKind::ConnectionReset,
            Kind::Left | Kind::Ended => io::ErrorKind::BrokenPipe,
        };
        Self::new(kind, error)
    }
}
