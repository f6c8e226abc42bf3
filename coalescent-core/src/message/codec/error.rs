use std::error::Error;
use std::fmt::{self, Write as _};

use super::depth::{MAX_DEPTH, ScanError};
use crate::text::{OneLine, truncate};

/// The maximum length of an error text, in bytes. A decoder's message may quote the peer at length.
const TEXT_MAX: usize = 256;

/// How many characters of a decoder's message are kept from its start and from its end. Chosen so
/// that what it quotes from a peer stays within [`Escaped::MAX`](crate::node::event::Escaped::MAX).
const QUOTE_PART: usize = 44;

/// The error of decoding a payload as a message, or of encoding a message.
///
/// The kind is private; query it with the `is_*` methods.
#[derive(Clone)]
pub struct CodecError {
    kind: ErrorKind,
    text: Box<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    TooDeep,
    Envelope,
    Header,
    Body,
    Encode,
}

impl CodecError {
    /// Creates the error of a message that a [`Seal`](super::Seal) cannot seal; it
    /// [`is_encode`](CodecError::is_encode). Of a long text only the start is kept.
    #[must_use]
    pub fn unsealable(why: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Encode, &why)
    }

    pub(crate) fn new(kind: ErrorKind, text: &dyn fmt::Display) -> Self {
        Self {
            kind,
            text: truncate(&text.to_string(), TEXT_MAX).into(),
        }
    }

    /// Creates an error from a decoder's message, which may quote the peer. Long messages lose
    /// their middle, because decoders state at the end what they expected.
    pub(crate) fn quoting(
        kind: ErrorKind,
        before: &dyn fmt::Display,
        error: &dyn fmt::Display,
    ) -> Self {
        let text = error.to_string();
        let mut line = before.to_string();
        let mut out = OneLine::new(&mut line, 2 * QUOTE_PART);
        // Writing to a string cannot fail.
        let _ = out.write_str(&text);
        if out.is_whole() {
            return Self::new(kind, &line);
        }
        let tail = text.char_indices().nth_back(QUOTE_PART - 1);
        let tail = text.get(tail.map_or(0, |(at, _)| at)..).unwrap_or_default();
        line = before.to_string();
        let _ = OneLine::new(&mut line, QUOTE_PART).write_str(&text);
        line.push('…');
        let _ = OneLine::new(&mut line, QUOTE_PART).write_str(tail);
        Self::new(kind, &line)
    }

    /// Converts a failed scan: an error of `kind`, unless the value nests too deep.
    pub(crate) fn scan(kind: ErrorKind, error: ScanError) -> Self {
        match error {
            ScanError::TooDeep => Self::new(
                ErrorKind::TooDeep,
                &format_args!("it nests deeper than allowed (at most {MAX_DEPTH}): flatten it"),
            ),
            ScanError::Truncated => Self::new(kind, &"it ends too early"),
            ScanError::Malformed => Self::new(kind, &"it is no MessagePack"),
        }
    }

    /// Returns whether arrays and maps nest deeper than allowed.
    #[must_use]
    pub fn is_too_deep(&self) -> bool {
        self.kind == ErrorKind::TooDeep
    }

    /// Returns whether the payload is not a valid envelope.
    #[must_use]
    pub fn is_envelope(&self) -> bool {
        self.kind == ErrorKind::Envelope
    }

    /// Returns whether the body is not a valid value, or not of the requested type.
    #[must_use]
    pub fn is_body(&self) -> bool {
        self.kind == ErrorKind::Body
    }

    /// Returns whether a header is not a valid value, or not of the requested type.
    #[must_use]
    pub fn is_header(&self) -> bool {
        self.kind == ErrorKind::Header
    }

    /// Returns whether a value of the application could not be serialized.
    #[must_use]
    pub fn is_encode(&self) -> bool {
        self.kind == ErrorKind::Encode
    }
}

impl fmt::Debug for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodecError")
            .field("kind", &self.kind)
            .field("text", &self.text)
            .finish()
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ErrorKind::TooDeep => write!(f, "message too deep: {}", self.text),
            ErrorKind::Envelope => write!(f, "not a message: {}", self.text),
            ErrorKind::Header => write!(f, "unreadable header: {}", self.text),
            ErrorKind::Body => write!(f, "unreadable body: {}", self.text),
            ErrorKind::Encode => write!(f, "cannot be serialized: {}", self.text),
        }
    }
}

impl Error for CodecError {}
