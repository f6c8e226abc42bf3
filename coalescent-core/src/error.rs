//! The error type.

use std::any::Any;
use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::time::Duration;

use crate::text::{CAUSE_MAX, OneLine};

/// A boxed error of any type, as layers and handlers return it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error of the mesh, of one of its peers, or of a call through a peer's stack.
///
/// The kind is private, so that kinds can be added without breaking callers; query it with the
/// `is_*` methods. The text says what to do, followed by the causes: on one line, with control
/// characters escaped, and truncated if it is long. [`source`](std::error::Error::source) returns
/// the cause.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    text: Cow<'static, str>,
    source: Option<BoxError>,
    offence: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Config,
    Listen,
    Dial,
    Handshake,
    Unsaid,
    Refused,
    Itself,
    Plaintext,
    Call,
    Panic,
    Callback,
    LeftOut,
    Closed,
    Full,
    Timeout,
    Encode,
    Decode,
    NoCourier,
    NoAnswer,
    Failed,
}

impl Error {
    fn new(kind: Kind, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            text: text.into(),
            source: None,
            offence: false,
        }
    }

    fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(crate) fn config(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Config, text)
    }

    pub(crate) fn listen(addr: &str, source: impl Into<BoxError>) -> Self {
        Self::new(Kind::Listen, format!("cannot listen on {addr}")).because(source)
    }

    pub(crate) fn dial(addr: impl fmt::Display, source: impl Into<BoxError>) -> Self {
        Self::new(Kind::Dial, format!("cannot connect to {addr}")).because(source)
    }

    pub(crate) fn dial_timeout(addr: impl fmt::Display, after: Duration) -> Self {
        Self::new(
            Kind::Timeout,
            format!("no connection to {addr} within {after:?}"),
        )
    }

    pub(crate) fn accept(source: std::io::Error) -> Self {
        Self::new(Kind::Listen, "cannot accept connections for now").because(source)
    }

    /// Adds the address to which the error relates.
    pub(crate) fn at(mut self, addr: impl fmt::Display) -> Self {
        self.text = format!("{addr}: {}", self.text).into();
        self
    }

    pub(crate) fn handshake(source: impl Into<BoxError>) -> Self {
        Self::new(Kind::Handshake, "the handshake failed").because(source)
    }

    /// Creates the error of an inbound connection that ended before it sent any byte.
    pub(crate) fn unsaid(source: impl Into<BoxError>) -> Self {
        Self::new(Kind::Unsaid, "the handshake failed").because(source)
    }

    pub(crate) fn handshake_timeout(after: Duration) -> Self {
        Self::new(Kind::Timeout, format!("no handshake within {after:?}"))
    }

    pub(crate) fn refused(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Refused, text)
    }

    /// Creates the error of a node that dialled `address`, resolved to `there`, and reached itself.
    pub(crate) fn itself(address: impl fmt::Display, there: impl fmt::Display) -> Self {
        Self::new(
            Kind::Itself,
            format!("{address}: {there} is this node itself; it is passed over for now"),
        )
    }

    /// Creates the error of a dialled `address`, resolved to `there`, that echoes what this node
    /// sends.
    pub(crate) fn echo(address: impl fmt::Display, there: impl fmt::Display) -> Self {
        Self::new(
            Kind::Handshake,
            format!(
                "{address}: whoever is at {there} introduces itself as this node: an echo, another process \
                 with its key, or this node behind an address that it does not know for its own"
            ),
        )
    }

    pub(crate) fn plaintext(addr: impl fmt::Display) -> Self {
        Self::new(
            Kind::Plaintext,
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
        let mut error = Self::new(Kind::Call, "a frame could not be handled");
        // Checked first, because only the text of a long error is kept.
        error.offence = has_offence(&*source);
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
    /// use coalescent_core::Error;
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

    /// Creates the error of an event callback that panicked.
    pub(crate) fn callback(panic: &(dyn Any + Send)) -> Self {
        let mut text = "a callback for events panicked, and gets the next one: ".to_owned();
        let _ = OneLine::new(&mut text, CAUSE_MAX).write_str(panic_text(panic));
        Self::new(Kind::Callback, text)
    }

    /// Creates the error that stands for this many errors that were not reported individually.
    pub(crate) fn left_out(errors: u64) -> Self {
        Self::new(
            Kind::LeftOut,
            format!("{errors} more errors were left out in a minute"),
        )
    }

    /// Returns whether an inbound connection ended before it sent any byte.
    pub(crate) fn is_unsaid(&self) -> bool {
        self.kind == Kind::Unsaid
    }

    /// Returns the reason that is sent to a peer whose request failed with this error.
    pub(crate) fn reason(&self) -> String {
        match &self.source {
            Some(source) if self.kind == Kind::Call => source.to_string(),
            _ => self.to_string(),
        }
    }

    pub(crate) fn closed() -> Self {
        Self::new(Kind::Closed, "the peer is no longer connected")
    }

    pub(crate) fn full() -> Self {
        Self::new(
            Kind::Full,
            "the peer's outbox is full; wait for room or send less",
        )
    }

    pub(crate) fn encode(source: impl Into<BoxError>) -> Self {
        Self::new(Kind::Encode, "the payload does not fit this peer's wire").because(source)
    }

    pub(crate) fn request_timeout(after: Duration) -> Self {
        Self::new(Kind::Timeout, format!("no reply within {after:?}"))
    }

    pub(crate) fn no_answer() -> Self {
        Self::new(Kind::NoAnswer, "the peer has no answer to this request")
    }

    pub(crate) fn failed(reason: &str) -> Self {
        Self::new(Kind::Failed, format!("the peer failed to answer: {reason}"))
    }

    pub(crate) fn unsupported(text: &'static str) -> Self {
        Self::new(Kind::Refused, text)
    }

    /// Creates the error of a method that needs the courier when none is registered.
    #[must_use]
    pub fn no_courier() -> Self {
        Self::new(
            Kind::NoCourier,
            "no courier is registered: add `.with(Courier::new())` to the app before sending messages",
        )
    }

    /// Creates the error of a call that panicked, from the panic's payload.
    #[must_use]
    pub fn panicked(panic: &(dyn Any + Send)) -> Self {
        let mut text = "the handling of a frame panicked: ".to_owned();
        // Truncated now, because events keep errors, and a panic may quote a whole frame.
        let _ = OneLine::new(&mut text, CAUSE_MAX).write_str(panic_text(panic));
        Self::new(Kind::Panic, text)
    }

    /// Creates the error of a reply that is not a message.
    #[must_use]
    pub fn undecodable(source: impl Into<BoxError>) -> Self {
        Self::new(
            Kind::Decode,
            "the reply cannot be decoded; check that both sides have the same codec",
        )
        .because(source)
    }

    /// Creates the error of a message that cannot be encoded.
    #[must_use]
    pub fn unencodable(source: impl Into<BoxError>) -> Self {
        Self::new(Kind::Encode, "the message cannot be encoded").because(source)
    }

    /// Returns whether the app's options are invalid.
    #[must_use]
    pub fn is_config(&self) -> bool {
        self.kind == Kind::Config
    }

    /// Returns whether listening on an address failed.
    #[must_use]
    pub fn is_listen(&self) -> bool {
        self.kind == Kind::Listen
    }

    /// Returns whether a connection could not be established.
    #[must_use]
    pub fn is_dial(&self) -> bool {
        self.kind == Kind::Dial
    }

    /// Returns whether the peer's handshake was missing or invalid.
    #[must_use]
    pub fn is_handshake(&self) -> bool {
        matches!(self.kind, Kind::Handshake | Kind::Unsaid)
    }

    /// Returns whether one side rejected the other: another network, no free slot, an operation
    /// that the wire does not support, or a connection of this node to itself.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self.kind, Kind::Refused | Kind::Itself)
    }

    /// Returns whether a dialled address leads to this node itself. This may change: seeds are
    /// dialled again, and other addresses of the same name are tried.
    #[must_use]
    pub fn is_itself(&self) -> bool {
        self.kind == Kind::Itself
    }

    /// Returns whether a non-loopback address was used without an identity and without
    /// `allow_plaintext()`.
    #[must_use]
    pub fn is_plaintext(&self) -> bool {
        self.kind == Kind::Plaintext
    }

    /// Returns whether a call through a peer's stack failed, by an error or a panic.
    #[must_use]
    pub fn is_call(&self) -> bool {
        matches!(self.kind, Kind::Call | Kind::Panic)
    }

    /// Returns whether handling a frame panicked.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        self.kind == Kind::Panic
    }

    /// Returns whether the frame that could not be handled should not have been sent; see
    /// [`offence`](Error::offence) for when that counts against the peer.
    #[must_use]
    pub fn is_offence(&self) -> bool {
        self.offence
    }

    /// Returns whether an event callback panicked. Callbacks are not called with such errors, since
    /// they could panic again endlessly.
    #[must_use]
    pub fn is_callback(&self) -> bool {
        self.kind == Kind::Callback
    }

    /// Returns whether this error stands for several that were not reported individually; the text
    /// contains their number.
    #[must_use]
    pub fn is_left_out(&self) -> bool {
        self.kind == Kind::LeftOut
    }

    /// Returns whether the peer had disconnected, or disconnected during the operation.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.kind == Kind::Closed
    }

    /// Returns whether the peer's outbox was full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.kind == Kind::Full
    }

    /// Returns whether a time limit elapsed: of dialling, of the handshake, or of a request.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.kind == Kind::Timeout
    }

    /// Returns whether encoding failed: a message in the courier's codec, or a payload on the
    /// peer's wire.
    #[must_use]
    pub fn is_encode(&self) -> bool {
        self.kind == Kind::Encode
    }

    /// Returns whether a reply is not a valid message in the courier's codec.
    #[must_use]
    pub fn is_decode(&self) -> bool {
        self.kind == Kind::Decode
    }

    /// Returns whether a method of the courier was called without a courier.
    #[must_use]
    pub fn is_no_courier(&self) -> bool {
        self.kind == Kind::NoCourier
    }

    /// Returns whether the peer's stack returned no answer to a request.
    #[must_use]
    pub fn is_no_answer(&self) -> bool {
        self.kind == Kind::NoAnswer
    }

    /// Returns whether the peer reported that a request failed.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.kind == Kind::Failed
    }
}

/// The maximum length of a handler's error text that is kept, in bytes, because errors wait in the
/// event queue.
const MAX_KEPT: usize = 4 * 1024;

/// Returns the error unchanged, or the beginning of its text if that is long.
fn bounded(source: BoxError) -> BoxError {
    let text = source.to_string();
    if text.len() <= MAX_KEPT {
        return source;
    }
    crate::text::truncate(&text, MAX_KEPT).into()
}

/// Returns whether an error is an [offence](Error::offence), or is caused by one.
fn has_offence(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<Error>().is_some_and(|own| own.offence) {
            return true;
        }
        // The `source` of an I/O error skips the error inside of it, so ask for that one.
        next = match error.downcast_ref::<std::io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as _),
            None => error.source(),
        };
    }
    false
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

/// Returns the message of a panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&str>() {
        return text;
    }
    panic
        .downcast_ref::<String>()
        .map_or("no text", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_of_a_peer_are_one_short_line() {
        let said = format!("\x1b[2J\nINFO forged \u{202e}{}", "x".repeat(1 << 20));
        let failed = Error::call(format!("no command {said}"));
        let panicked = Error::panicked(&format!("no command {said}"));
        let stack = crate::DisconnectReason::Stack(format!("no command {said}"));
        for text in [failed.to_string(), panicked.to_string(), stack.to_string()] {
            assert!(
                text.contains("no command \\u{1b}[2J\\nINFO forged \\u{202e}xxx"),
                "{text}"
            );
            assert!(text.len() < CAUSE_MAX + 64, "{}", text.len());
        }
        let debug = format!("{panicked:?}");
        assert!(debug.len() < CAUSE_MAX + 128, "kept: {}", debug.len());
    }

    /// An error with which a layer wraps another one.
    #[derive(Debug)]
    struct Around(BoxError);

    impl fmt::Display for Around {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("around")
        }
    }

    impl std::error::Error for Around {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&*self.0)
        }
    }

    #[test]
    fn an_offence_is_found_inside_errors_of_layers() {
        let offence = || Error::offence("no message");
        assert!(Error::call(offence()).is_offence());
        assert!(Error::call(Around(offence().into())).is_offence());
        assert!(Error::call(Around(Around(offence().into()).into())).is_offence());
        assert!(Error::call(std::io::Error::other(offence())).is_offence());
        let long = Error::offence(Around("x".repeat(1 << 20).into()));
        assert!(Error::call(Around(long.into())).is_offence());

        for other in [
            Error::call("not found"),
            Error::call(Around(Error::call("not found").into())),
            Error::panicked(&"panic"),
            Error::encode("too large"),
            Error::no_courier(),
        ] {
            assert!(!other.is_offence(), "{other}");
            assert!(!Error::call(other).is_offence());
        }
        let told = Error::call(Around(offence().into())).to_string();
        assert!(
            told.ends_with("around: a frame could not be handled: no message"),
            "{told}"
        );
    }

    #[test]
    fn causes_are_displayed_in_order() {
        let cause = std::io::Error::other(Error::full());
        let error = Error::dial("host:1", cause);
        assert!(
            error
                .to_string()
                .starts_with("cannot connect to host:1: the peer's outbox is full")
        );
    }
}
