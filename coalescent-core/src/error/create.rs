//! Creating errors.

use std::any::Any;
use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::time::Duration;

use super::ban_left::BanLeft;
use super::{BoxError, Error, ErrorKind, PEER_FAILED, chain, panic_text, refusal_in};
use crate::reason::{Goodbye, say_banned};
use crate::text::{CAUSE_MAX, Escaped, OneLine, truncate};

/// The maximum length of a handler's error text that is kept, in bytes, because errors wait in the
/// event queue.
const MAX_KEPT: usize = 4 * 1024;

impl Error {
    pub(crate) fn config(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Config, text)
    }

    pub(crate) fn listen(addr: &str, source: impl Into<BoxError>) -> Self {
        Self::new(ErrorKind::Listen, format!("cannot listen on {addr}")).because(source)
    }

    pub(crate) fn dial(addr: impl fmt::Display, source: impl Into<BoxError>) -> Self {
        Self::new(ErrorKind::Dial, format!("cannot connect to {addr}")).because(source)
    }

    pub(crate) fn dial_timeout(addr: impl fmt::Display, after: Duration) -> Self {
        Self::new(
            ErrorKind::Timeout,
            format!("no connection to {addr} within {after:?}"),
        )
    }

    pub(crate) fn accept(source: std::io::Error) -> Self {
        Self::new(ErrorKind::Listen, "cannot accept connections for now").because(source)
    }

    /// Adds the address to which the error relates.
    pub(crate) fn at(mut self, addr: impl fmt::Display) -> Self {
        self.text = format!("{addr}: {}", self.text).into();
        self
    }

    pub(crate) fn handshake(source: impl Into<BoxError>) -> Self {
        Self::new(ErrorKind::Handshake, "the handshake failed").because(source)
    }

    /// Creates the error of an inbound connection that ended before it sent any byte.
    pub(crate) fn unsaid(source: impl Into<BoxError>) -> Self {
        Self::new(ErrorKind::Unsaid, "the handshake failed").because(source)
    }

    /// Creates the error of a peer whose key is not on the allow list.
    pub(crate) fn not_allowed(key: impl fmt::Display) -> Self {
        Self::handshake(format!(
            "the peer {key} is not allowed: add its id to the allow list to accept it"
        ))
    }

    /// Creates the error of a peer that neither finished a TLS handshake nor hung up.
    #[cfg(feature = "tls")]
    pub(crate) fn tls_timeout(after: Duration) -> Self {
        Self::new(
            ErrorKind::Timeout,
            format!(
                "no TLS handshake within {after:?}: if the peer does not speak TLS, give both nodes \
                 an identity, or neither"
            ),
        )
    }

    /// Creates the error of a dialled peer without TLS that closed the connection before it sent
    /// any byte.
    pub(crate) fn unanswered(source: impl Into<BoxError>) -> Self {
        Self::new(
            ErrorKind::Handshake,
            "the peer closed the connection in place of a handshake: if it speaks TLS, give this app \
             an identity; if it speaks another wire, name that one",
        )
        .because(source)
    }

    pub(crate) fn handshake_timeout(after: Duration) -> Self {
        Self::new(ErrorKind::Timeout, format!("no handshake within {after:?}"))
    }

    /// Creates the error of a peer that refused this node with `reason`, in its own words.
    pub(crate) fn refused_by_peer(reason: &str) -> Self {
        let kind = if reason == Goodbye::BUSY.as_str() {
            ErrorKind::Busy
        } else if say_banned(reason) {
            ErrorKind::Banned
        } else {
            ErrorKind::Refused
        };
        Self::new(kind, format!("the peer refused: {}", Escaped(reason)))
    }

    pub(crate) fn refused(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Refused, text)
    }

    /// Creates the error of this node having no place left for now.
    pub(crate) fn busy(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Busy, text)
    }

    /// Creates the error of a connection to somebody whom this node has banned for as long yet.
    pub(crate) fn own_ban(left: Duration) -> Self {
        Self::new(ErrorKind::OwnBan, "this node has banned it").because(BanLeft(left))
    }

    /// Creates the error of a peer that was penalized.
    pub(crate) fn penalty(weight: u32, why: &str) -> Self {
        let mut text = format!("a fault of weight {weight}: ");
        let _ = OneLine::new(&mut text, CAUSE_MAX).write_str(why);
        let mut error = Self::new(ErrorKind::Penalty, text);
        error.offence = true;
        error
    }

    /// Creates the error of a send on a channel that one side does not know.
    pub(crate) fn no_channel(name: &str) -> Self {
        let mut text = "the channel \"".to_owned();
        let _ = OneLine::new(&mut text, CAUSE_MAX).write_str(name);
        text.push_str("\" is not known to both sides: register it with `Registrar::channel`");
        Self::new(ErrorKind::Refused, text)
    }

    /// Creates the error of a hook that panicked.
    pub(crate) fn hook(panic: &(dyn Any + Send)) -> Self {
        let mut text = "a hook panicked: ".to_owned();
        let _ = OneLine::new(&mut text, CAUSE_MAX).write_str(panic_text(panic));
        Self::new(ErrorKind::Panic, text)
    }

    /// Creates the error of a node that dialled `address`, resolved to `there`, and reached itself.
    pub(crate) fn itself(address: impl fmt::Display, there: impl fmt::Display) -> Self {
        Self::new(
            ErrorKind::Itself,
            format!("{address}: {there} is this node itself; it is passed over for now"),
        )
    }

    /// Creates the error of a dialled `address`, resolved to `there`, that echoes what this node
    /// sends.
    pub(crate) fn echo(address: impl fmt::Display, there: impl fmt::Display) -> Self {
        Self::new(
            ErrorKind::Handshake,
            format!(
                "{address}: whoever is at {there} introduces itself as this node: an echo, another process \
                 with its key, or this node behind an address that it does not know for its own"
            ),
        )
    }

    pub(crate) fn plaintext(addr: impl fmt::Display) -> Self {
        Self::new(
            ErrorKind::Plaintext,
            format!(
                "{addr} is not a loopback address: give the app an identity, so that it speaks TLS, \
                 or allow plaintext with `allow_plaintext()`"
            ),
        )
    }

    /// Creates the error of a call through a peer's stack that failed with `source`.
    pub(crate) fn call(source: impl Into<BoxError>) -> Self {
        let source = source.into();
        // One of our errors that a layer passed through keeps its kind.
        match source.downcast::<Self>() {
            Ok(own) => *own,
            Err(source) => Self::unhandled(source),
        }
    }

    fn unhandled(source: BoxError) -> Self {
        let mut error = Self::new(ErrorKind::Call, "a frame could not be handled");
        // Checked first, because only the text of a long error is kept.
        error.offence = has_offence(&*source);
        error.refusal = refusal_in(&*source).is_some();
        error.because(bounded(source))
    }

    /// Creates the error of a frame that its sender should not have sent, such as bytes that are
    /// not a message. A layer that fails with it counts the frame against the peer.
    ///
    /// A failed call is an offence only if it fails with this error, directly or among its
    /// [sources](std::error::Error::source), so that other layers may wrap it. If the peer itself
    /// sent the frame to this node, the offence counts towards
    /// [`Config::error_budget`](crate::Config::error_budget). If the peer may only have relayed it,
    /// as with broadcasts and all frames of a wire without frame kinds, it does not count, because
    /// a relay need not be able to detect it. Layers therefore need not distinguish the two.
    ///
    /// Use it for frames that no version of the program would send. A frame that a handler does not
    /// know or has no room for is not an offence.
    ///
    /// ```
    /// use coalescent::Error;
    ///
    /// let error = Error::offence("the checksum is wrong");
    /// assert!(error.is_offence() && error.is_call());
    /// ```
    #[must_use]
    pub fn offence(source: impl Into<BoxError>) -> Self {
        let mut error = Self::unhandled(source.into());
        error.offence = true;
        error
    }

    /// Creates the error of a hook for dials that panicked.
    pub(crate) fn dial_hook(panic: &(dyn Any + Send)) -> Self {
        let mut text = "a hook for dials panicked, and gets the next one: ".to_owned();
        let _ = OneLine::new(&mut text, CAUSE_MAX).write_str(panic_text(panic));
        Self::new(ErrorKind::Panic, text)
    }

    /// Creates the error of an event callback that panicked.
    pub(crate) fn callback(panic: &(dyn Any + Send)) -> Self {
        let mut text = "a callback for events panicked, and gets the next one: ".to_owned();
        let _ = OneLine::new(&mut text, CAUSE_MAX).write_str(panic_text(panic));
        Self::new(ErrorKind::Callback, text)
    }

    /// Creates the error of a plugin that cannot do its work. The text says what does not work, and
    /// what to do.
    ///
    /// ```
    /// use coalescent::Error;
    ///
    /// let error = Error::plugin("the book cannot be read");
    /// assert!(error.is_plugin());
    /// ```
    #[must_use]
    pub fn plugin(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Plugin, text)
    }

    /// Creates the error that stands for this many errors that were not reported individually.
    pub(crate) fn left_out(errors: u64) -> Self {
        Self::new(
            ErrorKind::LeftOut,
            format!("{errors} more errors were left out in a minute"),
        )
    }

    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the peer is no longer connected")
    }

    /// Creates the error of waiting for something in a mesh that ends.
    #[must_use]
    pub fn ended() -> Self {
        Self::new(ErrorKind::Closed, "the mesh has ended")
    }

    pub(crate) fn full() -> Self {
        Self::new(
            ErrorKind::Full,
            "the peer's outbox is full; wait for room or send less",
        )
    }

    /// Creates the error of a frame that is handed in while too many wait.
    pub(crate) fn handed_full() -> Self {
        Self::new(
            ErrorKind::Full,
            "too many frames that were handed in wait for the peer's stack",
        )
    }

    pub(crate) fn encode(source: impl Into<BoxError>) -> Self {
        Self::new(ErrorKind::Encode, "the payload cannot be sent").because(source)
    }

    pub(crate) fn request_timeout(after: Duration) -> Self {
        Self::new(ErrorKind::Timeout, format!("no reply within {after:?}"))
    }

    pub(crate) fn no_answer() -> Self {
        Self::new(
            ErrorKind::NoAnswer,
            "the peer has no answer to this request",
        )
    }

    /// Creates the error of a request that the peer refused, or failed to answer, for `reason`.
    pub(crate) fn failed(reason: &str) -> Self {
        let mut text = PEER_FAILED.to_owned();
        let _ = OneLine::new(&mut text, CAUSE_MAX).write_str(reason);
        Self::new(ErrorKind::Failed, text)
    }

    pub(crate) fn unsupported(text: &'static str) -> Self {
        Self::new(ErrorKind::Refused, text)
    }

    /// Creates the error of a method that needs the courier when none is registered.
    #[must_use]
    pub fn no_courier() -> Self {
        Self::new(
            ErrorKind::NoCourier,
            "no courier is registered: add `.with(Courier::new())` to the app before sending messages",
        )
    }

    /// Creates the error of a method that needs the courier when it was added without being
    /// registered.
    pub(crate) fn unregistered_courier() -> Self {
        Self::new(
            ErrorKind::NoCourier,
            "the courier is in the stack, but was added with `.layer`, which does not register it: \
             use `.with(Courier::new())`",
        )
    }

    /// Creates the error of a call that panicked, from the panic's payload.
    #[must_use]
    pub fn panicked(panic: &(dyn Any + Send)) -> Self {
        let mut text = "the handling of a frame panicked: ".to_owned();
        // Truncated now, because events keep errors, and a panic may quote a whole frame.
        let _ = OneLine::new(&mut text, CAUSE_MAX).write_str(panic_text(panic));
        Self::new(ErrorKind::Panic, text)
    }

    /// Creates the error of a reply that is not a message.
    #[must_use]
    pub fn undecodable(source: impl Into<BoxError>) -> Self {
        Self::new(
            ErrorKind::Decode,
            "the reply cannot be decoded; check that both sides have the same codec",
        )
        .because(source)
    }

    /// Creates the error of a message that cannot be encoded.
    #[must_use]
    pub fn unencodable(source: impl Into<BoxError>) -> Self {
        Self::new(ErrorKind::Encode, "the message cannot be encoded").because(source)
    }
}

/// Returns the error unchanged, or the beginning of its text if that is long.
fn bounded(source: BoxError) -> BoxError {
    let text = source.to_string();
    if text.len() <= MAX_KEPT {
        return source;
    }
    truncate(&text, MAX_KEPT).into()
}

/// Returns whether an error is an [offence](Error::offence), or is caused by one.
fn has_offence(error: &(dyn std::error::Error + 'static)) -> bool {
    chain(error).any(|error| error.downcast_ref::<Error>().is_some_and(|own| own.offence))
}
