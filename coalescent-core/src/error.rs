//! What can go wrong, and how to tell which.

use std::any::Any;
use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::time::Duration;

use crate::text::{CAUSE_MAX, OneLine};

/// Any error, boxed: what layers and handlers may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error of the mesh, of one of its peers, or of a call through a peer's stack.
///
/// It is opaque, so that causes can be added without breaking anyone; the predicates say what is
/// promised of it. Its text says what to do next, and ends in what caused it: on one line, control
/// characters escaped, and cut where that is long. [`source`](std::error::Error::source) has the
/// cause.
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

    /// Says whom the error is about.
    pub(crate) fn at(mut self, addr: impl fmt::Display) -> Self {
        self.text = format!("{addr}: {}", self.text).into();
        self
    }

    pub(crate) fn handshake(source: impl Into<BoxError>) -> Self {
        Self::new(Kind::Handshake, "the handshake failed").because(source)
    }

    /// A stranger's connection ended before anything came over it.
    pub(crate) fn unsaid(source: impl Into<BoxError>) -> Self {
        Self::new(Kind::Unsaid, "the handshake failed").because(source)
    }

    pub(crate) fn handshake_timeout(after: Duration) -> Self {
        Self::new(Kind::Timeout, format!("no handshake within {after:?}"))
    }

    pub(crate) fn refused(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Refused, text)
    }

    /// The node was dialled at `address`, which stands for `there`, by itself.
    pub(crate) fn itself(address: impl fmt::Display, there: impl fmt::Display) -> Self {
        Self::new(
            Kind::Itself,
            format!("{address}: {there} is this node itself; it is passed over for now"),
        )
    }

    /// Somebody at `there`, for which `address` stands, says what this node says.
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

    /// A call through a peer's stack failed with `source`.
    pub(crate) fn call(source: impl Into<BoxError>) -> Self {
        let source = source.into();
        // An error of ours that came back through a layer is already what it should be.
        match source.downcast::<Self>() {
            Ok(own) => *own,
            Err(source) => Self::unhandled(source),
        }
    }

    fn unhandled(source: BoxError) -> Self {
        let mut error = Self::new(Kind::Call, "a frame could not be handled");
        // Looked for first, since of a long error only its text is kept.
        error.offence = has_offence(&*source);
        error.because(bounded(source))
    }

    /// The error of a frame that its sender must not have sent, such as bytes that are no message:
    /// what a layer fails with, so that it counts against the peer.
    ///
    /// A failed call is nobody's offence unless it fails with this: directly, or with an error that
    /// has it among its [sources](std::error::Error::source), so that it is found under what other
    /// layers make of it. Where the peer sent the frame to this node, it counts towards
    /// [`Config::error_budget`](crate::Config::error_budget). Where it may only have passed it on,
    /// which is so for a broadcast and for all frames of a wire that has no kinds, it does not: who
    /// passed it on need not have been able to know. So a layer need not look at that.
    ///
    /// It is for what no version of the program would have sent. That a handler does not know what
    /// to do with a frame, or has no room for it, is no offence.
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

    /// A callback for events panicked.
    pub(crate) fn callback(panic: &(dyn Any + Send)) -> Self {
        let mut text = "a callback for events panicked, and gets the next one: ".to_owned();
        let _ = OneLine::new(&mut text, CAUSE_MAX).write_str(panic_text(panic));
        Self::new(Kind::Callback, text)
    }

    /// So many errors were not told one by one.
    pub(crate) fn left_out(errors: u64) -> Self {
        Self::new(
            Kind::LeftOut,
            format!("{errors} more errors were left out in a minute"),
        )
    }

    /// Whether nothing had come over a stranger's connection when it ended.
    pub(crate) fn is_unsaid(&self) -> bool {
        self.kind == Kind::Unsaid
    }

    /// What the peer is told whose request failed with this.
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

    /// The error of a verb that needs the courier where none is registered.
    #[must_use]
    pub fn no_courier() -> Self {
        Self::new(
            Kind::NoCourier,
            "no courier is registered: add `.with(Courier::new())` to the app before sending messages",
        )
    }

    /// The error of a call that panicked, from what was caught.
    #[must_use]
    pub fn panicked(panic: &(dyn Any + Send)) -> Self {
        let mut text = "the handling of a frame panicked: ".to_owned();
        // Cut at once: events keep errors, and a panic may quote all of a frame.
        let _ = OneLine::new(&mut text, CAUSE_MAX).write_str(panic_text(panic));
        Self::new(Kind::Panic, text)
    }

    /// The error of a reply that is no message.
    #[must_use]
    pub fn undecodable(source: impl Into<BoxError>) -> Self {
        Self::new(
            Kind::Decode,
            "the reply cannot be decoded; check that both sides have the same codec",
        )
        .because(source)
    }

    /// The error of a message that could not be written as bytes.
    #[must_use]
    pub fn unencodable(source: impl Into<BoxError>) -> Self {
        Self::new(Kind::Encode, "the message cannot be encoded").because(source)
    }

    /// Whether the app's options can't be used as given.
    #[must_use]
    pub fn is_config(&self) -> bool {
        self.kind == Kind::Config
    }

    /// Whether an address could not be listened on.
    #[must_use]
    pub fn is_listen(&self) -> bool {
        self.kind == Kind::Listen
    }

    /// Whether a connection could not be made.
    #[must_use]
    pub fn is_dial(&self) -> bool {
        self.kind == Kind::Dial
    }

    /// Whether the peer did not introduce itself as its wire asks.
    #[must_use]
    pub fn is_handshake(&self) -> bool {
        matches!(self.kind, Kind::Handshake | Kind::Unsaid)
    }

    /// Whether one side refused the other: another network, no place left, a wire that cannot do
    /// this; or this node itself.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self.kind, Kind::Refused | Kind::Itself)
    }

    /// Whether an address that was dialled is this node itself. It is a fact of this moment: a seed
    /// is dialled again, and other addresses of its name are tried.
    #[must_use]
    pub fn is_itself(&self) -> bool {
        self.kind == Kind::Itself
    }

    /// Whether an address beyond loopback was used without an identity and without
    /// `allow_plaintext()`.
    #[must_use]
    pub fn is_plaintext(&self) -> bool {
        self.kind == Kind::Plaintext
    }

    /// Whether a call through a peer's stack failed, by an error or by a panic.
    #[must_use]
    pub fn is_call(&self) -> bool {
        matches!(self.kind, Kind::Call | Kind::Panic)
    }

    /// Whether the handling of a frame panicked.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        self.kind == Kind::Panic
    }

    /// Whether the frame that could not be handled is one that nobody should have made; see
    /// [`offence`](Error::offence) for when that counts against the peer.
    #[must_use]
    pub fn is_offence(&self) -> bool {
        self.offence
    }

    /// Whether a callback for events panicked. Callbacks are not told of this, lest they panic of
    /// it for ever.
    #[must_use]
    pub fn is_callback(&self) -> bool {
        self.kind == Kind::Callback
    }

    /// Whether this stands for errors that were too many to be told one by one; its text has their
    /// number.
    #[must_use]
    pub fn is_left_out(&self) -> bool {
        self.kind == Kind::LeftOut
    }

    /// Whether the peer was gone, or went before it was done.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.kind == Kind::Closed
    }

    /// Whether there was no room in the peer's outbox.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.kind == Kind::Full
    }

    /// Whether a time limit ran out: of dialling, of the handshake, or of a request.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.kind == Kind::Timeout
    }

    /// Whether something could not be written as bytes: a message in the courier's codec, or a
    /// payload on the peer's wire.
    #[must_use]
    pub fn is_encode(&self) -> bool {
        self.kind == Kind::Encode
    }

    /// Whether a reply came that is no message in the courier's codec.
    #[must_use]
    pub fn is_decode(&self) -> bool {
        self.kind == Kind::Decode
    }

    /// Whether a verb of the courier was used without a courier.
    #[must_use]
    pub fn is_no_courier(&self) -> bool {
        self.kind == Kind::NoCourier
    }

    /// Whether the peer's stack made no answer to a request.
    #[must_use]
    pub fn is_no_answer(&self) -> bool {
        self.kind == Kind::NoAnswer
    }

    /// Whether the peer answered a request with a failure.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.kind == Kind::Failed
    }
}

/// How many bytes of a handler's error text are kept: errors wait in the events for their readers.
const MAX_KEPT: usize = 4 * 1024;

/// An error as it is, or, where its text is long, as the beginning of that text.
fn bounded(source: BoxError) -> BoxError {
    let text = source.to_string();
    if text.len() <= MAX_KEPT {
        return source;
    }
    crate::text::truncate(&text, MAX_KEPT).into()
}

/// Whether an error is an [offence](Error::offence), or comes of one.
fn has_offence(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<Error>().is_some_and(|own| own.offence) {
            return true;
        }
        // It names as its source not what was put into it, but the source of that.
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
        // One line has it all, since most errors end in a log or an event.
        let mut source = self.source.as_deref().map(|e| e as &dyn std::error::Error);
        // A handler's error may well say what a peer said.
        let mut f = OneLine::new(f, CAUSE_MAX);
        while let Some(error) = source {
            write!(f, ": {error}")?;
            // One of ours has told its own sources.
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

/// What a panic said.
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
    fn what_a_handler_quotes_of_a_peer_is_one_short_line() {
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

    /// An error that a layer makes of another.
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
    fn an_offence_is_found_under_what_layers_make_of_it() {
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
    fn causes_are_told_in_their_order() {
        let cause = std::io::Error::other(Error::full());
        let error = Error::dial("host:1", cause);
        assert!(
            error
                .to_string()
                .starts_with("cannot connect to host:1: the peer's outbox is full")
        );
    }
}
