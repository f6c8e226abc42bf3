//! Where the parts of a message are: most are in one piece of bytes.

use std::borrow::Cow;

use bytes::Bytes;

use crate::message::codec::error::ErrorKind;
use crate::message::codec::{CodecError, Format};

/// Where a part is in a message's bytes. Half as large as a range, as messages are moved often.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Nothing.
    pub(crate) const NONE: Self = Self { start: 0, end: 0 };

    /// A body that its sender left out, as only JSON can.
    pub(crate) const LEFT_OUT: Self = Self {
        start: u32::MAX,
        end: u32::MAX,
    };

    /// Refuses bytes that are too many for spans.
    pub(crate) fn check(bytes: &[u8]) -> Result<(), CodecError> {
        if bytes.len() >= u32::MAX as usize {
            return Err(CodecError::new(
                ErrorKind::Envelope,
                &"it is longer than 4 GiB",
            ));
        }
        Ok(())
    }

    /// Names a part of bytes that [`Span::check`] took.
    pub(crate) fn new(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
        }
    }

    /// Finds a part that borrows from bytes that [`Span::check`] took.
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

/// Where what an envelope holds is.
#[derive(Clone, Copy)]
pub(crate) struct Parts {
    pub(crate) kind: Span,
    /// A map that was checked and is not empty; else nothing.
    pub(crate) headers: Span,
    pub(crate) body: Span,
}

/// What few messages have.
#[derive(Clone, Default)]
pub(super) struct Rest {
    /// The type, where the message's bytes do not hold it as it reads.
    pub(super) kind: Option<Box<str>>,
    /// The body as JSON, where that says something else than its MessagePack does, or cannot be.
    pub(super) json: Option<Json>,
    /// The headers, where the application has set some.
    pub(super) headers: Option<Vec<Header>>,
    /// Why the message cannot be encoded: making one does not fail, so that it can be written in
    /// one expression, and sending does.
    pub(super) error: Option<CodecError>,
}

/// A header of the application's, or one that was received with it.
#[derive(Clone)]
pub(super) struct Header {
    pub(super) key: String,
    pub(super) format: Format,
    pub(super) bytes: Bytes,
    /// As [`Rest::json`].
    pub(super) json: Option<Json>,
}

/// A value as JSON on one line, or why it has no such form.
pub(crate) type Json = Result<Bytes, CodecError>;

/// A body or a header, as it is encoded.
#[derive(Clone, Copy)]
pub(crate) struct Value<'a> {
    pub(crate) format: Format,
    pub(crate) bytes: &'a [u8],
    /// Its JSON, where that says something else than the bytes do.
    pub(crate) json: Option<&'a Json>,
}

/// A header of a message, wherever it is kept.
pub(crate) struct Entry<'a> {
    pub(crate) key: Cow<'a, str>,
    pub(crate) value: Value<'a>,
}
