//! What happens on a mesh: peers that come and go, errors, and what was lost.

use crate::error::Error;
use crate::peer::Peer;
use futures_core::Stream;
use std::fmt::{self, Write as _};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::sync::broadcast;
use tokio_util::sync::ReusableBoxFuture;

pub use crate::throttle::{LINES_PER_NODE, LINES_PER_SOURCE};

/// How many events a slow reader may be behind before it misses the oldest.
pub const EVENT_CAPACITY: usize = 1024;

/// How many characters of an error's causes are shown. They may quote a peer at any length.
pub(crate) const CAUSE_MAX: usize = 512;

/// Something that happened on a mesh. Cheap to clone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The node accepts connections at this address.
    Listening {
        /// The address, with the port that was really taken.
        addr: SocketAddr,
    },
    /// A peer is connected: it has introduced itself and can be written to.
    PeerConnected {
        /// The peer.
        peer: Peer,
    },
    /// A peer is no longer connected.
    PeerDisconnected {
        /// The peer.
        peer: Peer,
        /// Why.
        reason: DisconnectReason,
    },
    /// Something failed: a frame that could not be handled, a dial, a handshake.
    ///
    /// At most [`LINES_PER_SOURCE`] such events come in a minute about those at one address, and
    /// [`LINES_PER_NODE`] about all; the same goes for the lines of the log that are about peers.
    /// An error for which [`is_left_out`](Error::is_left_out) is true says how many more there
    /// were.
    Error {
        /// The peer it is about, where there is one.
        peer: Option<Peer>,
        /// What failed.
        error: Arc<Error>,
    },
    /// Frames that were accepted for a peer and will not be written to it.
    ///
    /// At most one such event comes each second for a peer; the frames of all are in their sum.
    Dropped {
        /// The peer that does not get them.
        peer: Peer,
        /// Why.
        reason: DropReason,
        /// How many since the last such event.
        frames: u64,
    },
    /// The reader of the events was too slow, and missed this many.
    Missed(u64),
}

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
    /// A relay could not remember them, so that copies of them would go round for ever. They are those that
    /// this peer sent.
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

/// Text that came from a peer, escaped and cut to [`Escaped::MAX`] characters when shown.
///
/// ```
/// use coalescent_core::event::Escaped;
///
/// assert_eq!(Escaped("a\x1b[2Jb").to_string(), "a\\u{1b}[2Jb");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl Escaped<'_> {
    /// How many characters are shown at most, with their escapes.
    pub const MAX: usize = 64;
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = 0;
        for char in self.0.chars() {
            let width = if is_plain(char) && char != '\\' {
                1
            } else {
                char.escape_default().count()
            };
            if shown + width > Self::MAX {
                return Ok(());
            }
            shown += width;
            if width == 1 {
                f.write_char(char)?;
            } else {
                write!(f, "{}", char.escape_default())?;
            }
        }
        Ok(())
    }
}

/// Whether a character is shown as it is. Letters of any script stay readable; what moves a cursor or
/// hides text does not.
fn is_plain(char: char) -> bool {
    char == ' ' || (!char.is_control() && !char.is_whitespace() && !hides(char))
}

/// Passes on at most so many characters of text that may quote a peer, such as an error of a handler:
/// escaped as in [`Escaped`], but for backslashes, since most of it is no peer's.
pub(crate) struct OneLine<'a, W> {
    out: &'a mut W,
    /// How many characters may still come; none once something was left out.
    left: Option<usize>,
}

impl<'a, W: fmt::Write> OneLine<'a, W> {
    pub(crate) fn new(out: &'a mut W, max: usize) -> Self {
        Self {
            out,
            left: Some(max),
        }
    }

    /// Whether all that was written was passed on.
    pub(crate) fn is_whole(&self) -> bool {
        self.left.is_some()
    }
}

impl<W: fmt::Write> fmt::Write for OneLine<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            let plain = is_plain(char);
            let width = if plain {
                1
            } else {
                char.escape_default().count()
            };
            self.left = self.left.and_then(|left| left.checked_sub(width));
            if self.left.is_none() {
                return Ok(());
            }
            if plain {
                self.out.write_char(char)?;
            } else {
                write!(self.out, "{}", char.escape_default())?;
            }
        }
        Ok(())
    }
}

/// Whether a character changes how its neighbours are shown: zero-width and bidirectional controls.
fn hides(char: char) -> bool {
    matches!(
        u32::from(char),
        0xAD | 0x61C | 0x180E | 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F | 0xFEFF
            | 0xFFF0..=0xFFFB | 0xE0000..=0xE0FFF
    )
}

/// The events of a mesh, one after another.
///
/// A reader that falls [`EVENT_CAPACITY`] behind does not hold up the mesh: it misses the oldest, and
/// gets [`Event::Missed`] with their number. The stream ends when the mesh has ended.
pub struct Events {
    next: ReusableBoxFuture<'static, (Result<Event, broadcast::error::RecvError>, Receiver)>,
}

type Receiver = broadcast::Receiver<Event>;

async fn receive(mut receiver: Receiver) -> (Result<Event, broadcast::error::RecvError>, Receiver) {
    (receiver.recv().await, receiver)
}

impl Events {
    fn new(receiver: Receiver) -> Self {
        Self {
            next: ReusableBoxFuture::new(receive(receiver)),
        }
    }

    /// Waits for the next event; `None` when the mesh has ended.
    ///
    /// # Cancel safety
    ///
    /// An event is not lost when the wait is dropped.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let (result, receiver) = std::task::ready!(self.next.poll(cx));
        self.next.set(receive(receiver));
        Poll::Ready(match result {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Event::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        })
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// Where events come from: the sending end.
#[derive(Debug)]
pub(crate) struct Sender {
    sender: Mutex<Option<broadcast::Sender<Event>>>,
    /// The first reader's end, kept from the beginning so that it misses nothing.
    first: Mutex<Option<Receiver>>,
}

impl Sender {
    /// Makes the sending end; with `keep`, the first reader gets what came before it.
    ///
    /// What is kept knows peers, and they know where events come from: only for those who
    /// [`end`](Sender::end) this.
    pub(crate) fn new(keep: bool) -> Self {
        let (sender, first) = broadcast::channel(EVENT_CAPACITY);
        Self {
            sender: Mutex::new(Some(sender)),
            first: Mutex::new(keep.then_some(first)),
        }
    }

    /// Tells all readers.
    pub(crate) fn emit(&self, event: Event) {
        if let Some(sender) = &*self.sender.lock().unwrap_or_else(PoisonError::into_inner) {
            // Nobody listening is no failure.
            let _ = sender.send(event);
        }
    }

    /// The events from now on; for the first reader, from the beginning.
    pub(crate) fn subscribe(&self) -> Events {
        let first = self
            .first
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        first.map_or_else(|| self.listen(), Events::new)
    }

    /// The events from now on.
    pub(crate) fn listen(&self) -> Events {
        Events::new(
            match &*self.sender.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(sender) => sender.subscribe(),
                None => broadcast::channel(1).1,
            },
        )
    }

    /// Ends all readers' streams, once they have read what is there.
    pub(crate) fn end(&self) {
        self.sender
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        self.first
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_text_is_short_and_cannot_move_a_cursor() {
        assert_eq!(Escaped("héllo wörld").to_string(), "héllo wörld");
        assert_eq!(
            Escaped("a\nb\u{202e}c\\").to_string(),
            "a\\nb\\u{202e}c\\\\"
        );
        assert_eq!(Escaped(&"x".repeat(1000)).to_string().len(), Escaped::MAX);
        assert!(Escaped(&"\n".repeat(1000)).to_string().chars().count() <= Escaped::MAX);
    }

    #[tokio::test]
    async fn a_slow_reader_learns_what_it_missed() {
        let sender = Sender::new(true);
        let mut events = sender.subscribe();
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        for _ in 0..EVENT_CAPACITY + 10 {
            sender.emit(Event::Listening { addr });
        }
        assert!(matches!(events.next().await, Some(Event::Missed(10))));
        assert!(matches!(events.next().await, Some(Event::Listening { .. })));
        sender.end();
        let mut rest = 0;
        while events.next().await.is_some() {
            rest += 1;
        }
        assert_eq!(rest, EVENT_CAPACITY - 1);
    }
}
