//! The reasons why a peer disconnected, and why frames were dropped.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io;

use crate::text::{CAUSE_MAX, Escaped, OneLine};

/// The words of a BYE: the reason that the other side is told when a connection ends.
///
/// Free text, or a reason that programs understand, such as [`Goodbye::BUSY`]. More than 256 bytes
/// are cut off on the wire.
///
/// ```
/// use coalescent::Goodbye;
///
/// assert_eq!(Goodbye::from("busy"), Goodbye::BUSY);
/// assert_eq!(Goodbye::from("see you").to_string(), "see you");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Goodbye(Cow<'static, str>);

impl Goodbye {
    /// There is no place left now. A dialler tries again later.
    pub const BUSY: Self = Self(Cow::Borrowed("busy"));

    /// The peer has misbehaved, and is banned for a while. A dialler is told so.
    pub const BANNED: Self = Self(Cow::Borrowed("banned"));

    /// Returns whether these words tell the other side that it is banned: `banned`, or `banned:`
    /// and a reason.
    #[must_use]
    pub fn is_banned(&self) -> bool {
        say_banned(&self.0)
    }

    /// Returns the words.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns whether the words of a BYE say that the other side is banned.
pub(crate) fn say_banned(words: &str) -> bool {
    let rest = words.strip_prefix(Goodbye::BANNED.as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

impl From<&str> for Goodbye {
    fn from(words: &str) -> Self {
        Self(Cow::Owned(words.to_owned()))
    }
}

impl From<String> for Goodbye {
    fn from(words: String) -> Self {
        Self(Cow::Owned(words))
    }
}

impl From<&String> for Goodbye {
    fn from(words: &String) -> Self {
        Self::from(words.as_str())
    }
}

impl From<Cow<'static, str>> for Goodbye {
    fn from(words: Cow<'static, str>) -> Self {
        Self(words)
    }
}

impl From<Goodbye> for String {
    fn from(words: Goodbye) -> Self {
        words.0.into_owned()
    }
}

impl fmt::Display for Goodbye {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

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
    /// As [`Slow`](Self::Slow), while handlers of this node, or their answers to messages, waited
    /// for room to send to this very peer, whose frames were not read meanwhile: it may have been
    /// waiting for this node in the same way. See ["Answering"](crate::Peer#answering) for what
    /// such handlers do instead.
    MutualWait,
    /// The peer committed more offences than [`Config::error_budget`](crate::Config::error_budget)
    /// allows, and is [banned](crate::Event::Banned).
    TooManyErrors,
    /// The peer was [penalized](crate::Peer::penalize) for more than
    /// [`Config::error_budget`](crate::Config::error_budget) allows, the last time for this reason,
    /// and is [banned](crate::Event::Banned).
    Penalized(String),
    /// The application has [banned](crate::Mesh::ban) the peer, for this reason.
    Banned(String),
    /// The peer's stack cannot handle any more frames.
    Stack(String),
    /// This node disconnected the peer, with this reason.
    Disconnected(String),
    /// This node is shutting down.
    Shutdown,
}

impl DisconnectReason {
    /// Returns whether the peer has no place left for this node now; see [`Goodbye::BUSY`].
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Bye(words) if *words == Goodbye::BUSY.0)
    }

    /// Returns whether the peer did not take what it was sent in time: [`Slow`](Self::Slow) or
    /// [`MutualWait`](Self::MutualWait).
    #[must_use]
    pub fn is_slow(&self) -> bool {
        matches!(self, Self::Slow | Self::MutualWait)
    }

    /// Returns whether this node has been banned by the peer, or the peer by the
    /// [application](crate::Mesh::ban). Of a peer that is banned for its faults, the reason is
    /// that fault.
    #[must_use]
    pub fn is_banned(&self) -> bool {
        match self {
            Self::Bye(words) => say_banned(words),
            reason => matches!(reason, Self::Banned(_)),
        }
    }

    /// Returns the words that the other side is told when this node ends a connection.
    pub(crate) fn goodbye(&self) -> String {
        match self {
            Self::Disconnected(words) if *words == Goodbye::BUSY.0 => words.clone(),
            // Why it failed is the business of this node alone: a cause may name files.
            Self::Stack(_) => "its stack failed".to_owned(),
            reason => reason.to_string(),
        }
    }

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
            Self::MutualWait => "mutual_wait",
            Self::TooManyErrors => "too_many_errors",
            Self::Penalized(_) => "penalized",
            Self::Banned(_) => "banned",
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
            Self::MutualWait => f.write_str(
                "too slow to take what it is sent, while answers of handlers waited to be sent to \
                 it, so that it was not read either: ask with requests, answer with try_send, or \
                 spawn the sending",
            ),
            Self::TooManyErrors => f.write_str("too many errors"),
            Self::Penalized(why) => {
                f.write_str("too many faults, the last one: ")?;
                OneLine::new(f, CAUSE_MAX).write_str(why)
            }
            Self::Banned(why) => {
                f.write_str("banned: ")?;
                OneLine::new(f, CAUSE_MAX).write_str(why)
            }
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
    /// Nobody read the frames in time, in a read side apart from that of the mesh
    /// ([`ReadBy`](crate::ReadBy)). They are frames that this peer sent.
    Unread,
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
            Self::Unread => "unread",
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
            Self::Unread => "not read in time",
            Self::TooLarge => "larger than the peer takes",
        })
    }
}
