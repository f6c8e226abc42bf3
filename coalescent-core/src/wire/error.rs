use std::borrow::Cow;
use std::error::Error;
use std::{fmt, io};

use super::BoxError;
use crate::transport::foreign::Spoken;

/// The error of reading bytes as frames, or of writing a frame as bytes.
///
/// The kind is private; query it with the `is_*` methods. After a read error the start of the next
/// frame is unknown, so close the connection. A write error concerns a single frame, none of whose
/// bytes were written.
#[derive(Debug)]
pub struct WireError(Box<WireProblem>);

#[derive(Debug)]
enum WireProblem {
    TooLarge {
        limit: usize,
    },
    TooLargeForPeer {
        limit: usize,
    },
    Truncated {
        have: usize,
    },
    Malformed(Cow<'static, str>),
    /// The peer speaks another protocol; this says what to do.
    Foreign(&'static str),
    Newline,
    Unsupported {
        what: &'static str,
        wire: &'static str,
    },
    Io(io::Error),
    Custom(BoxError),
}

impl WireError {
    pub(crate) fn too_large(limit: usize) -> Self {
        Self(Box::new(WireProblem::TooLarge { limit }))
    }

    pub(crate) fn too_large_for_peer(limit: usize) -> Self {
        Self(Box::new(WireProblem::TooLargeForPeer { limit }))
    }

    pub(super) fn truncated(have: usize) -> Self {
        Self(Box::new(WireProblem::Truncated { have }))
    }

    pub(super) fn malformed(what: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(WireProblem::Malformed(what.into())))
    }

    /// Creates the error of a peer that speaks TLS, to a node that does not.
    pub(super) fn tls() -> Self {
        let text = Spoken::Tls.to_plain().unwrap_or("the peer speaks TLS");
        Self(Box::new(WireProblem::Foreign(text)))
    }

    pub(super) fn newline() -> Self {
        Self(Box::new(WireProblem::Newline))
    }

    pub(super) fn unsupported(what: &'static str, wire: &'static str) -> Self {
        Self(Box::new(WireProblem::Unsupported { what, wire }))
    }

    pub(super) fn custom(error: BoxError) -> Self {
        Self(Box::new(WireProblem::Custom(error)))
    }

    /// Returns whether a frame exceeded the limit of its kind, or the size that the peer accepts.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(
            *self.0,
            WireProblem::TooLarge { .. } | WireProblem::TooLargeForPeer { .. }
        )
    }

    /// Returns whether the stream ended in the middle of a frame.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        matches!(*self.0, WireProblem::Truncated { .. })
    }

    /// Returns whether the bytes violate the format, such as a frame that is shorter than its
    /// fields, or the TLS handshake of a peer with an identity on the `lines` wire.
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        matches!(*self.0, WireProblem::Malformed(_) | WireProblem::Foreign(_))
    }

    /// Returns whether a payload contains `\n`, which the `lines` wire cannot carry.
    #[must_use]
    pub fn is_newline(&self) -> bool {
        matches!(*self.0, WireProblem::Newline)
    }

    /// Returns whether the wire cannot carry frames of this kind.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(*self.0, WireProblem::Unsupported { .. })
    }

    /// Returns whether an [`io::Error`] caused this error.
    #[must_use]
    pub fn is_io(&self) -> bool {
        matches!(*self.0, WireProblem::Io(_))
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            WireProblem::TooLarge { limit } => {
                write!(
                    f,
                    "the frame is larger than {limit} bytes, the limit for its kind"
                )
            }
            WireProblem::TooLargeForPeer { limit } => {
                write!(
                    f,
                    "the payload is larger than {limit} bytes, the most that this peer takes"
                )
            }
            WireProblem::Truncated { have } => {
                write!(f, "the stream ended {have} bytes into a frame")
            }
            WireProblem::Malformed(what) => write!(f, "malformed frame: {what}"),
            WireProblem::Foreign(text) => f.write_str(text),
            WireProblem::Newline => f.write_str(
                "the payload contains a newline, which ends a frame on the `lines` wire: \
                 escape it, or use the `native` wire",
            ),
            WireProblem::Unsupported { what, wire } => {
                write!(
                    f,
                    "the `{wire}` wire has no place for {what}: use the `native` wire"
                )
            }
            WireProblem::Io(_) => f.write_str("the connection broke"),
            WireProblem::Custom(_) => f.write_str("the application's own wire codec failed"),
        }
    }
}

impl Error for WireError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &*self.0 {
            WireProblem::Io(error) => Some(error),
            WireProblem::Custom(error) => Some(&**error),
            _ => None,
        }
    }
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        Self(Box::new(WireProblem::Io(error)))
    }
}
