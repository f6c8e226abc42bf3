use std::{error::Error, fmt};

use super::depth::{MAX_DEPTH, ScanError};
use crate::wire::truncate;

/// The longest text of an error, in bytes. What a decoder says may quote the peer at length.
const TEXT_MAX: usize = 256;

/// Reports why a payload is no message, or a message has no payload.
///
/// Opaque: ask it with the predicates.
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
    pub(crate) fn new(kind: ErrorKind, text: &dyn fmt::Display) -> Self {
        Self {
            kind,
            text: truncate(&text.to_string(), TEXT_MAX).into(),
        }
    }

    /// Judges a failed scan: `kind` is what it was of, unless that is too deep.
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

    /// Tells whether the arrays and maps nest deeper than allowed.
    #[must_use]
    pub fn is_too_deep(&self) -> bool {
        self.kind == ErrorKind::TooDeep
    }

    /// Tells whether the payload is no envelope of a message.
    #[must_use]
    pub fn is_envelope(&self) -> bool {
        self.kind == ErrorKind::Envelope
    }

    /// Tells whether the body is no value of the type that was asked for, or no value at all.
    #[must_use]
    pub fn is_body(&self) -> bool {
        self.kind == ErrorKind::Body
    }

    /// Tells whether a header is no value of the type that was asked for, or no value at all.
    #[must_use]
    pub fn is_header(&self) -> bool {
        self.kind == ErrorKind::Header
    }

    /// Tells whether a value of the application could not be serialized.
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
