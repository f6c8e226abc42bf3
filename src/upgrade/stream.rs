//! A WebSocket as a byte stream, so that its other end is a peer like any other.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use futures_sink::Sink;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

use super::message::{Form, Heard, failed, hear};
use super::pace::Pace;

/// How much larger than the limit a message may be to be read and refused with a reason: 64 KiB. A
/// larger one is not read, and what is left unread may cost the other end the reason.
const REFUSED_POLITELY: usize = 64 * 1024;

/// The largest binary message that is written: 16 KiB.
const PIECE: usize = 16 * 1024;

/// Messages are written to the socket once there are so many bytes of them: 16 KiB.
const WRITE_BUFFER: usize = 16 * 1024;

/// How much is read from the socket at once: 4 KiB. It is allocated for each WebSocket.
const READ_BUFFER: usize = 4 * 1024;

/// Room for the heads of messages and for answers to pings, in bytes.
const CONTROL: usize = 1024;

/// What a message costs of the bytes that are discarded while the other end closes, in addition to
/// its length.
const DISCARD_COST: usize = 64;

/// The bytes that are sent over a WebSocket.
pub(super) struct WebSocketIo<S> {
    socket: WebSocketStream<S>,
    form: Form,
    /// Maximum length of a message, in bytes; of a text without its newline.
    max: usize,
    pace: Option<Pace>,
    /// Received bytes that have not been read yet.
    received: Bytes,
    /// The incomplete line being written.
    partial: BytesMut,
    /// The code and reason of the close frame, if the other end broke the rules.
    wrong: Option<(CloseCode, &'static str)>,
    /// An answer to a ping may wait to be written.
    is_pinged: bool,
    /// Set once reading has ended.
    is_ended: bool,
    /// Set once a close frame is on its way.
    is_closing: bool,
    /// How much may still be discarded while the other end closes, in bytes.
    discard: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocketIo<S> {
    /// Takes the server's side of a WebSocket whose handshake is done. `max` is the largest message
    /// of the other end, in bytes, and the longest line of this one.
    pub(super) async fn new(io: S, form: Form, max: usize, pace: Option<u32>) -> Self {
        let most = max.saturating_add(REFUSED_POLITELY);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_write_buffer_size(
                max.max(PIECE)
                    .saturating_add(WRITE_BUFFER)
                    .saturating_add(CONTROL),
            )
            .max_message_size(Some(most))
            .max_frame_size(Some(most));
        Self {
            socket: WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await,
            form,
            max,
            pace: pace.map(Pace::new),
            received: Bytes::new(),
            partial: BytesMut::new(),
            wrong: None,
            is_pinged: false,
            is_ended: false,
            is_closing: false,
            discard: most,
        }
    }

    /// Waits until there are bytes to read, or none will come.
    fn poll_received(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.received.is_empty() && !self.is_ended {
            if let Some(pace) = &mut self.pace {
                ready!(pace.poll_ready(cx));
            }
            let next = ready!(Pin::new(&mut self.socket).poll_next(cx));
            if let Some(pace) = &mut self.pace {
                pace.count();
            }
            let heard = match next {
                Some(Ok(message)) => hear(message, self.form, self.max),
                Some(Err(error)) => {
                    tracing::debug!(%error, "a WebSocket failed");
                    failed(error)?
                }
                None => Heard::End,
            };
            match heard {
                Heard::Bytes(bytes) => self.received = bytes,
                Heard::Ping => self.is_pinged = true,
                Heard::Nothing => {}
                Heard::End => self.is_ended = true,
                Heard::Wrong(code, why) => {
                    tracing::debug!(%code, why, "a WebSocket is closed");
                    self.wrong = Some((code, why));
                    self.is_ended = true;
                    // At once if there is room. Who does not shake hands is not shut down.
                    if self.poll_close_frame(cx).is_ready() {
                        let _ = Pin::new(&mut self.socket).poll_flush(cx);
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until there is room for a message.
    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_pinged {
            // Answers do not pile up in front of messages.
            ready!(Pin::new(&mut self.socket).poll_flush(cx)).map_err(to_io)?;
            self.is_pinged = false;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_ready(cx).map_err(to_io)
    }

    fn send(&mut self, message: Message) -> io::Result<()> {
        Pin::new(&mut self.socket)
            .start_send(message)
            .map_err(to_io)
    }

    /// Puts the close frame on its way.
    fn poll_close_frame(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_closing {
            if ready!(self.poll_writable(cx)).is_ok() {
                let (code, why) = self.wrong.unwrap_or((CloseCode::Normal, ""));
                let reason = Utf8Bytes::from_static(why);
                // It fails if the other end has closed the WebSocket already, and was answered.
                let _ = self.send(Message::Close(Some(CloseFrame { code, reason })));
            }
            self.is_closing = true;
        }
        Poll::Ready(())
    }

    /// Writes the next piece of `slices` as a message.
    fn poll_write_piece<'a>(
        &mut self,
        cx: &mut Context<'_>,
        slices: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Poll<io::Result<usize>> {
        let length = slices
            .clone()
            .fold(0_usize, |sum, slice| sum.saturating_add(slice.len()))
            .min(PIECE);
        if length == 0 {
            return Poll::Ready(Ok(0));
        }
        ready!(self.poll_writable(cx))?;
        let mut piece = Vec::with_capacity(length);
        for slice in slices {
            let room = length.saturating_sub(piece.len());
            piece.extend(slice.iter().take(room));
        }
        self.send(Message::Binary(piece.into()))?;
        Poll::Ready(Ok(length))
    }

    /// Writes each line as a message, and keeps the beginning of the next one.
    fn poll_write_lines(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            // Bytes are taken only when the WebSocket has room for their message.
            match self.poll_writable(cx) {
                Poll::Pending if rest.len() < bytes.len() => {
                    return Poll::Ready(Ok(bytes.len().saturating_sub(rest.len())));
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(ready) => ready?,
            }
            let (line, more) = rest.split_at(end);
            rest = more.get(1..).unwrap_or_default();
            if self.is_too_long(line) {
                return Poll::Ready(Err(io::Error::other("a line is too long")));
            }
            self.partial.extend_from_slice(line);
            match Utf8Bytes::try_from(self.partial.split().freeze()) {
                Ok(text) => self.send(Message::Text(text))?,
                Err(_) => tracing::warn!("a line that is no text is kept from a WebSocket"),
            }
        }
        if self.is_too_long(rest) {
            return Poll::Ready(Err(io::Error::other("a line is too long")));
        }
        self.partial.extend_from_slice(rest);
        Poll::Ready(Ok(bytes.len()))
    }

    fn is_too_long(&self, more: &[u8]) -> bool {
        self.partial.len().saturating_add(more.len()) > self.max
    }
}

fn to_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Protocol(ProtocolError::SendAfterClosing) => io::ErrorKind::BrokenPipe.into(),
        error => io::Error::other(error),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocketIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_received(cx))?;
        let length = self.received.len().min(buf.remaining());
        buf.put_slice(&self.received.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocketIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.form {
            Form::Binary => self.poll_write_piece(cx, std::iter::once(bytes)),
            Form::Text => self.poll_write_lines(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.form {
            Form::Binary => self.poll_write_piece(cx, slices.iter().map(|slice| &**slice)),
            Form::Text => {
                let first = slices.iter().find(|slice| !slice.is_empty());
                self.poll_write_lines(cx, first.map_or(&[], |slice| &**slice))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(to_io)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_close_frame(cx));
        // What cannot be written is no matter any more.
        let _ = ready!(Pin::new(&mut self.socket).poll_flush(cx));
        // The answer is waited for here only if nobody reads: bytes left unread would reset the
        // connection, and cost the other end the reason. The caller limits the time.
        while self.wrong.is_some() && self.discard > 0 {
            let length = match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(message)) if !message.is_close() => message.len(),
                _ => break,
            };
            let cost = length.saturating_add(DISCARD_COST);
            self.discard = self.discard.saturating_sub(cost);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
