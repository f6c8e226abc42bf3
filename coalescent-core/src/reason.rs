//! Why a peer is no longer connected, and why frames were dropped.

use std::fmt::{self, Write as _};
use std::io;

use crate::text::{CAUSE_MAX, Escaped, OneLine};

/// Why a peer is no longer connected.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The peer closed the connection.
    Closed,
    /// The peer said why it leaves. The text is the peer's own.
    Bye(String),
    /// The connection broke.
    Io(io::ErrorKind),
    /// The peer broke the rules of its wire.
    Protocol(String),
    /// A frame did not arrive in time.
    FrameTimeout,
    /// The peer did not answer whether it is there.
    NoAnswer,
    /// The peer's outbox was full for too long; see [`Config::patience`](crate::Config::patience).
    Slow,
    /// The peer did more of what it must not than
    /// [`Config::error_budget`](crate::Config::error_budget) allows.
    TooManyErrors,
    /// The peer's stack can't handle any more frames.
    Stack(String),
    /// This node disconnected the peer, with these words.
    Disconnected(String),
    /// This node is shutting down.
    Shutdown,
}

impl DisconnectReason {
    /// One word for it, without the details.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Bye(_) => "bye",
            Self::Io(_) => "io",
            Self::Protocol(_) => "protocol",
            Self::FrameTimeout => "frame_timeout",
            Self::NoAnswer => "no_answer",
            Self::Slow => "slow",
            Self::TooManyErrors => "too_many_errors",
            Self::Stack(_) => "stack",
            Self::Disconnected(_) => "disconnected",
            Self::Shutdown => "shutdown",
        }
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed by the peer"),
            Self::Bye(reason) => write!(f, "the peer left: {}", Escaped(reason)),
            Self::Io(kind) => write!(f, "the connection broke: {kind}"),
            Self::Protocol(what) => write!(f, "protocol error: {what}"),
            Self::FrameTimeout => f.write_str("a frame did not arrive in time"),
            Self::NoAnswer => f.write_str("no answer to a ping"),
            Self::Slow => f.write_str("too slow to take what it is sent"),
            Self::TooManyErrors => f.write_str("too many errors"),
            Self::Stack(error) => {
                f.write_str("its stack failed: ")?;
                write!(OneLine::new(f, CAUSE_MAX), "{error}")
            }
            Self::Disconnected(reason) => write!(f, "disconnected: {reason}"),
            Self::Shutdown => f.write_str("shutting down"),
        }
    }
}

/// Why frames that were accepted for a peer were not written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// The peer had no room, and the frame was not one to wait for.
    Full,
    /// The peer was disconnected before they were written.
    Disconnected,
    /// They cannot stand on the peer's wire: too large, or with a newline in them.
    Unencodable,
    /// A relay could not remember them, so that copies of them would go round for ever. They are
    /// those that this peer sent.
    Refused,
    /// They are larger than what the peer takes; see
    /// [`Peer::max_payload`](crate::Peer::max_payload).
    TooLarge,
}

impl DropReason {
    /// One word for it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Disconnected => "disconnected",
            Self::Unencodable => "unencodable",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "no room",
            Self::Disconnected => "disconnected",
            Self::Unencodable => "does not fit the wire",
            Self::Refused => "more than a relay can remember",
            Self::TooLarge => "larger than the peer takes",
        })
    }
}
