//! What a message of a WebSocket means as bytes of a wire: a decision, without sockets.

use bytes::Bytes;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error};
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

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
    /// The other end breaks the rules: the code and reason of the close frame.
    Wrong(CloseCode, &'static str),
}

/// Judges a message. `max` is the largest one, in bytes; for a line without its end.
pub(super) fn hear(message: Message, form: Form, max: usize) -> Heard {
    match (message, form) {
        (Message::Binary(bytes), Form::Binary) if bytes.len() > max => too_large(),
        (Message::Binary(bytes), Form::Binary) => Heard::Bytes(bytes),
        (Message::Text(text), Form::Text) => {
            let text = text.strip_suffix('\n').unwrap_or(&text);
            let text = text.strip_suffix('\r').unwrap_or(text);
            match text.len() > max {
                true => too_large(),
                false => Heard::Bytes(line(text)),
            }
        }
        (Message::Binary(_), Form::Text) => {
            Heard::Wrong(CloseCode::Unsupported, "only text is understood")
        }
        (Message::Text(_), Form::Binary) => Heard::Wrong(
            CloseCode::Unsupported,
            "only binary messages are understood",
        ),
        (Message::Ping(_), _) => Heard::Ping,
        (Message::Pong(_) | Message::Frame(_), _) => Heard::Nothing,
        (Message::Close(_), _) => Heard::End,
    }
}

/// Judges a failure of reading. `Err` is one of the socket.
pub(super) fn failed(error: Error) -> Result<Heard, std::io::Error> {
    use tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
    match error {
        Error::Io(error) => Err(error),
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Protocol(ResetWithoutClosingHandshake) => Ok(Heard::End),
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Ok(too_large()),
        Error::Utf8(_) => Ok(Heard::Wrong(CloseCode::Invalid, "the text is not UTF-8")),
        _ => Ok(Heard::Wrong(CloseCode::Protocol, "no WebSocket message")),
    }
}

fn too_large() -> Heard {
    Heard::Wrong(CloseCode::Size, "the message is too large")
}

/// Converts a message to a line. Newlines become spaces, which is safe because JSON permits
/// newlines only between tokens.
fn line(text: &str) -> Bytes {
    let mut line = Vec::with_capacity(text.len().saturating_add(1));
    line.extend(text.bytes().map(|byte| match byte {
        b'\n' | b'\r' => b' ',
        byte => byte,
    }));
    line.push(b'\n');
    line.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Heard {
        hear(Message::text(text), Form::Text, 5)
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
        let wrong = |heard| matches!(heard, Heard::Wrong(CloseCode::Unsupported, _));
        assert!(wrong(hear(Message::binary(&b"a"[..]), Form::Text, 5)));
        assert!(wrong(hear(Message::text("a"), Form::Binary, 5)));
        let bytes = hear(Message::binary(&b"hello"[..]), Form::Binary, 5);
        assert_eq!(bytes, Heard::Bytes(Bytes::from_static(b"hello")));
        assert_eq!(
            hear(Message::binary(&b"hello!"[..]), Form::Binary, 5),
            too_large()
        );
    }

    #[test]
    fn control_messages_are_no_bytes() {
        for form in [Form::Binary, Form::Text] {
            assert_eq!(hear(Message::Ping(Bytes::new()), form, 5), Heard::Ping);
            assert_eq!(hear(Message::Pong(Bytes::new()), form, 5), Heard::Nothing);
            assert_eq!(hear(Message::Close(None), form, 5), Heard::End);
        }
    }
}
