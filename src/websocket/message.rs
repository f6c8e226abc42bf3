//! Messages of WebSockets, whatever library they come from, and what they mean as bytes of a wire:
//! a decision, without sockets.

use std::error::Error as StdError;
use std::io;

use bytes::Bytes;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};

/// A message of a WebSocket: what [`WebSocketIo`](super::WebSocketIo) needs of it.
///
/// Implemented for the messages of `tokio-tungstenite`, and with the feature `axum` for those of
/// axum. For another library, wrap its message in a type of your own.
///
/// ```
/// use bytes::Bytes;
/// use coalescent::websocket::{Content, WebSocketMessage};
///
/// /// The message of some library.
/// enum Frame {
///     Bytes(Vec<u8>),
///     Text(String),
///     Close(u16),
/// }
///
/// struct Wrapped(Frame);
///
/// impl WebSocketMessage for Wrapped {
///     fn binary(bytes: Bytes) -> Self {
///         Self(Frame::Bytes(bytes.into()))
///     }
///
///     fn text(text: String) -> Self {
///         Self(Frame::Text(text))
///     }
///
///     fn close(code: u16, _reason: &'static str) -> Self {
///         Self(Frame::Close(code))
///     }
///
///     fn into_content(self) -> Content {
///         match self.0 {
///             Frame::Bytes(bytes) => Content::Binary(bytes.into()),
///             Frame::Text(text) => Content::Text(text.into()),
///             Frame::Close(_) => Content::Close,
///         }
///     }
/// }
///
/// assert_eq!(Wrapped::text("beep".into()).into_content(), Content::Text("beep".into()));
/// ```
pub trait WebSocketMessage: Sized {
    /// Makes a binary message.
    fn binary(bytes: Bytes) -> Self;

    /// Makes a text message.
    fn text(text: String) -> Self;

    /// Makes a close frame, with a code as in RFC 6455, section 7.4.
    fn close(code: u16, reason: &'static str) -> Self;

    /// Takes what the message contains.
    fn into_content(self) -> Content;
}

/// What a message contains.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// Bytes.
    Binary(Bytes),
    /// Text: UTF-8.
    Text(Bytes),
    /// A ping, which the library answers once it is flushed.
    Ping,
    /// A close frame, which the library answers.
    Close,
    /// Nothing of interest, such as a pong.
    Nothing,
}

impl WebSocketMessage for Message {
    fn binary(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }

    fn text(text: String) -> Self {
        Self::Text(text.into())
    }

    fn close(code: u16, reason: &'static str) -> Self {
        Self::Close(Some(CloseFrame {
            code: code.into(),
            reason: reason.into(),
        }))
    }

    fn into_content(self) -> Content {
        match self {
            Self::Binary(bytes) => Content::Binary(bytes),
            Self::Text(text) => Content::Text(text.into()),
            Self::Ping(_) => Content::Ping,
            Self::Close(_) => Content::Close,
            Self::Pong(_) | Self::Frame(_) => Content::Nothing,
        }
    }
}

/// How bytes travel in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Binary messages are pieces of a byte stream.
    Binary,
    /// Each text message is a line.
    Text,
}

/// What came of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Bytes(Bytes),
    /// A ping, which the protocol answers once it is flushed.
    Ping,
    Nothing,
    /// The other end has closed the WebSocket, or the connection.
    End,
    /// The other end breaks the rules.
    Wrong(Wrong),
}

/// Why a WebSocket is closed: the code and reason of the close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) code: CloseCode,
    pub(super) why: &'static str,
}

impl Wrong {
    /// The close of a WebSocket that nothing is wrong with.
    pub(super) const NOTHING: Self = Self {
        code: CloseCode::Normal,
        why: "",
    };

    const fn heard(code: CloseCode, why: &'static str) -> Heard {
        Heard::Wrong(Self { code, why })
    }
}

/// Judges a message. `max` is the largest one, in bytes; for a line without its end.
pub(super) fn hear(content: Content, form: Form, max: usize) -> Heard {
    match (content, form) {
        (Content::Binary(bytes), Form::Binary) if bytes.len() > max => too_large(),
        (Content::Binary(bytes), Form::Binary) => Heard::Bytes(bytes),
        (Content::Text(text), Form::Text) => {
            let text = text.strip_suffix(b"\n").unwrap_or(&text);
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            match text.len() > max {
                true => too_large(),
                false => Heard::Bytes(line(text)),
            }
        }
        (Content::Binary(_), Form::Text) => {
            Wrong::heard(CloseCode::Unsupported, "only text is understood")
        }
        (Content::Text(_), Form::Binary) => Wrong::heard(
            CloseCode::Unsupported,
            "only binary messages are understood",
        ),
        (Content::Ping, _) => Heard::Ping,
        (Content::Nothing, _) => Heard::Nothing,
        (Content::Close, _) => Heard::End,
    }
}

/// Judges a failure of reading. `Err` is one of the socket.
pub(super) fn failed(error: impl StdError + Send + Sync + 'static) -> Result<Heard, io::Error> {
    match known(&error) {
        Some(
            Error::ConnectionClosed
            | Error::AlreadyClosed
            | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake),
        ) => Ok(Heard::End),
        Some(Error::Capacity(CapacityError::MessageTooLong { .. })) => Ok(too_large()),
        Some(Error::Utf8(_)) => Ok(Wrong::heard(CloseCode::Invalid, "the text is not UTF-8")),
        Some(Error::Io(_)) | None => Err(to_io(error)),
        Some(_) => Ok(Wrong::heard(CloseCode::Protocol, "no WebSocket message")),
    }
}

/// Converts a failure of writing.
pub(super) fn to_io(error: impl StdError + Send + Sync + 'static) -> io::Error {
    match known(&error) {
        Some(Error::Io(cause)) => io::Error::new(cause.kind(), cause.to_string()),
        Some(
            Error::ConnectionClosed
            | Error::AlreadyClosed
            | Error::Protocol(ProtocolError::SendAfterClosing),
        ) => io::ErrorKind::BrokenPipe.into(),
        _ => io::Error::other(error),
    }
}

/// Returns the error of tungstenite that is, or is wrapped in, an error of a library on top of it.
fn known<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    let mut errors = std::iter::successors(Some(error), |error| (*error).source());
    errors.find_map(|error| error.downcast_ref())
}

fn too_large() -> Heard {
    Wrong::heard(CloseCode::Size, "the message is too large")
}

/// Converts a message to a line. Newlines become spaces, which is safe because JSON permits
/// newlines only between tokens.
fn line(text: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(text.len().saturating_add(1));
    line.extend(text.iter().map(|byte| match byte {
        b'\n' | b'\r' => b' ',
        byte => *byte,
    }));
    line.push(b'\n');
    line.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest message is of 5 bytes.
    fn judge(message: Message, form: Form) -> Heard {
        hear(message.into_content(), form, 5)
    }

    fn text(text: &str) -> Heard {
        judge(Message::text(text), Form::Text)
    }

    #[test]
    fn a_text_is_a_line_with_or_without_its_end() {
        let line = |line: &'static str| Heard::Bytes(Bytes::from_static(line.as_bytes()));
        assert_eq!(text("hello"), line("hello\n"));
        assert_eq!(text("hello\n"), line("hello\n"));
        assert_eq!(text("hello\r\n"), line("hello\n"));
        assert_eq!(text("a\nb\n\n"), line("a b \n"));
        assert_eq!(text(""), line("\n"));
        assert_eq!(text("hello!"), too_large());
    }

    #[test]
    fn messages_of_the_other_kind_are_refused() {
        let wrong =
            |heard| matches!(heard, Heard::Wrong(wrong) if wrong.code == CloseCode::Unsupported);
        assert!(wrong(judge(Message::binary(&b"a"[..]), Form::Text)));
        assert!(wrong(judge(Message::text("a"), Form::Binary)));
        let bytes = judge(Message::binary(&b"hello"[..]), Form::Binary);
        assert_eq!(bytes, Heard::Bytes(Bytes::from_static(b"hello")));
        assert_eq!(
            judge(Message::binary(&b"hello!"[..]), Form::Binary),
            too_large()
        );
    }

    #[test]
    fn control_messages_are_no_bytes() {
        for form in [Form::Binary, Form::Text] {
            assert_eq!(judge(Message::Ping(Bytes::new()), form), Heard::Ping);
            assert_eq!(judge(Message::Pong(Bytes::new()), form), Heard::Nothing);
            assert_eq!(judge(Message::Close(None), form), Heard::End);
        }
    }
}
