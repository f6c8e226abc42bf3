//! The reasons why a peer disconnected, and why frames were dropped.

use std::fmt::{self, Write as _};
use std::io;

use crate::text::{CAUSE_MAX, Escaped, OneLine};

/// The reason why a peer is no longer connected.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The peer closed the connection.
    Closed,
    /// The peer left and gave this reason, in its own words.
    Bye(String),
    /// The connection failed.
    Io(io::ErrorKind),
    /// The peer violated the protocol of its wire.
    Protocol(String),
    /// A frame did not arrive completely in time.
    FrameTimeout,
    /// The peer did not answer a ping in time.
    NoAnswer,
    /// The peer's outbox was full for too long; see [`Config::patience`](crate::Config::patience).
    Slow,
    /// The peer committed more offences than [`Config::error_budget`](crate::Config::error_budget)
    /// allows.
    TooManyErrors,
    /// The peer's stack cannot handle any more frames.
    Stack(String),
    /// This node disconnected the peer, with this reason.
    Disconnected(String),
    /// This node is shutting down.
    Shutdown,
}

impl DisconnectReason {
    /// Returns a one-word label, without the details.
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

/// The reason why frames that were accepted for a peer were not written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// The outbox was full, and the frame was sent without waiting for room.
    Full,
    /// The peer disconnected before the frames were written.
    Disconnected,
    /// The peer's wire cannot encode the frames: too large, or containing a newline.
    Unencodable,
    /// A relay could not remember the frames, so copies of them would circulate forever. They are
    /// frames that this peer sent.
    Refused,
    /// The frames are larger than the peer accepts; see
    /// [`Peer::max_payload`](crate::Peer::max_payload).
    TooLarge,
}

impl DropReason {
    /// Returns a one-word label.
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
