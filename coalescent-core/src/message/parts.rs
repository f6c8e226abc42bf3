//! The parts of a message, and where they are stored. Most are slices of one buffer.

use std::borrow::Cow;

use bytes::Bytes;

use crate::message::codec::error::ErrorKind;
use crate::message::codec::{CodecError, Format};

/// The position of a part in a message's bytes. Half as large as a range, because messages are
/// moved often.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// An empty part.
    pub(crate) const NONE: Self = Self { start: 0, end: 0 };

    /// The body of a message whose sender omitted it, which only JSON allows.
    pub(crate) const LEFT_OUT: Self = Self {
        start: u32::MAX,
        end: u32::MAX,
    };

    /// Rejects buffers that are too long for spans.
    pub(crate) fn check(bytes: &[u8]) -> Result<(), CodecError> {
        if bytes.len() >= u32::MAX as usize {
            return Err(CodecError::new(
                ErrorKind::Envelope,
                &"it is longer than 4 GiB",
            ));
        }
        Ok(())
    }

    /// Creates the span of a part of bytes that passed [`Span::check`].
    pub(crate) fn new(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
        }
    }

    /// Returns the span of a slice that borrows from bytes that passed [`Span::check`].
    pub(crate) fn of(bytes: &[u8], part: &[u8]) -> Self {
        let start = part.as_ptr().addr() - bytes.as_ptr().addr();
        Self::new(start, start + part.len())
    }

    #[inline]
    pub(crate) fn get(self, bytes: &[u8]) -> &[u8] {
        bytes
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// The positions of an envelope's parts.
#[derive(Clone, Copy)]
pub(crate) struct Parts {
    pub(crate) kind: Span,
    /// A validated, non-empty map; otherwise [`Span::NONE`].
    pub(crate) headers: Span,
    pub(crate) body: Span,
}

/// Parts that most messages lack: a type or headers set by the application, or an encoding error.
#[derive(Clone, Default)]
pub(super) struct Extra {
    /// The type, if the message's bytes do not contain it verbatim.
    pub(super) kind: Option<Box<str>>,
    /// The JSON form of the body, if it differs from a translation of the MessagePack form, or the
    /// reason why it has none.
    pub(super) json: Option<Json>,
    /// The headers, if the application has set any.
    pub(super) headers: Option<Vec<Header>>,
    /// The reason why the message cannot be encoded. Creating a message does not fail, so that it
    /// fits into one expression; sending it returns this error.
    pub(super) error: Option<CodecError>,
}

/// A header set by the application, or one that was received with it.
#[derive(Clone)]
pub(super) struct Header {
    pub(super) key: String,
    pub(super) format: Format,
    pub(super) bytes: Bytes,
    /// See [`Extra::json`].
    pub(super) json: Option<Json>,
}

/// A value as one line of JSON, or the reason why it has no JSON form.
pub(crate) type Json = Result<Bytes, CodecError>;

/// An encoded body or header.
#[derive(Clone, Copy)]
pub(crate) struct Value<'a> {
    pub(crate) format: Format,
    pub(crate) bytes: &'a [u8],
    /// The JSON form, if it differs from a translation of `bytes`.
    pub(crate) json: Option<&'a Json>,
}

/// A header of a message, wherever it is stored.
pub(crate) struct Entry<'a> {
    pub(crate) key: Cow<'a, str>,
    pub(crate) value: Value<'a>,
}
