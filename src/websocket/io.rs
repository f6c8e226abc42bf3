//! A WebSocket as a byte stream, so that its other end is a peer like any other.

use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::{fmt, io};

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::message::{Content, Form, Heard, WebSocketMessage, Wrong, failed, hear, to_io};
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

/// A WebSocket as a byte stream, made by [`WebSocket::io`](super::WebSocket::io).
///
/// # Messages
///
/// Each binary message is a piece of the stream, or each text message a line of it, as the
/// [`WebSocket`](super::WebSocket) says. Pings are answered; at most one answer waits in front of
/// what is written.
///
/// # The end
///
/// A close frame of the other end, or the end of its connection, is the end of the stream.
/// [`shutdown`](tokio::io::AsyncWriteExt::shutdown) writes what is buffered and a close frame, with
/// code 1000. The other end's answer is read by whoever reads on until the end. A message that
/// breaks the rules ends the stream, and closes the WebSocket with a code and a reason: 1009 if it
/// is too large, 1003 if it is of the other kind, 1007 if it is no UTF-8, 1002 if it is no message
/// at all.
///
/// # Backpressure
///
/// One message is read at a time, and the next one once its bytes are taken. What is written waits
/// in the buffer of the library below until the socket has room: a message, and what
/// [`WebSocket::config`](super::WebSocket::config) says, 16 KiB. (Of axum it is 128 KiB, unless its
/// `write_buffer_size` is set.)
///
/// ```
/// use coalescent::connection::ConnectionInfo;
/// use coalescent::websocket::WebSocket;
/// use coalescent::App;
/// use tokio_tungstenite::WebSocketStream;
/// use tokio_tungstenite::tungstenite::protocol::Role;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (alice, bob) = (App::new().start().await?, App::new().start().await?);
/// let (here, there) = tokio::io::duplex(64 * 1024); // in place of sockets
/// let websocket = WebSocket::native();
/// let config = Some(websocket.config());
/// let server = WebSocketStream::from_raw_socket(here, Role::Server, config).await;
/// let client = WebSocketStream::from_raw_socket(there, Role::Client, config).await;
///
/// let (accepted, dialled) = tokio::join!(
///     alice.adopt(websocket.io(server), ConnectionInfo::inbound()),
///     bob.adopt(websocket.io(client), ConnectionInfo::outbound()),
/// );
/// assert_eq!(accepted?.node_id(), Some(bob.id()));
/// assert_eq!(dialled?.node_id(), Some(alice.id()));
/// # Ok(())
/// # }
/// ```
///
/// # Cancel safety
///
/// Reading and writing are cancel safe, as far as tokio's methods for them are: what was read or
/// taken is not lost, for it is held here and not in the future.
pub struct WebSocketIo<S> {
    socket: S,
    form: Form,
    /// Maximum length of a message, in bytes; of a text without its newline.
    max: usize,
    pace: Option<Pace>,
    /// Received bytes that have not been read yet.
    received: Bytes,
    /// The incomplete line being written.
    partial: Vec<u8>,
    /// The code and reason of the close frame, if the other end broke the rules.
    wrong: Option<Wrong>,
    /// An answer to a ping may wait to be written.
    is_pinged: bool,
    /// Set once reading has ended.
    is_ended: bool,
    /// Set once a close frame is on its way.
    is_closing: bool,
    /// How much may still be discarded while the other end closes, in bytes.
    discard: usize,
}

/// Returns the largest message that is read if the largest one that is taken has `max` bytes.
pub(super) fn max_read(max: usize) -> usize {
    max.saturating_add(REFUSED_POLITELY)
}

/// Returns what suits messages of at most `max` bytes.
pub(super) fn config(max: usize) -> WebSocketConfig {
    let most = max_read(max);
    let buffered = max.max(PIECE).saturating_add(WRITE_BUFFER);
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(buffered.saturating_add(CONTROL))
        .max_message_size(Some(most))
        .max_frame_size(Some(most))
}

impl<S> WebSocketIo<S> {
    /// Takes a WebSocket whose handshake is done. `max` is the largest message of the other end, in
    /// bytes, and the longest line of this one.
    pub(super) fn new(socket: S, form: Form, max: usize, pace: Option<u32>) -> Self {
        Self {
            socket,
            form,
            max,
            pace: pace.map(Pace::new),
            received: Bytes::new(),
            partial: Vec::new(),
            wrong: None,
            is_pinged: false,
            is_ended: false,
            is_closing: false,
            discard: max_read(max),
        }
    }

    /// Returns the WebSocket.
    pub fn get_ref(&self) -> &S {
        &self.socket
    }

    fn is_too_long(&self, more: &[u8]) -> bool {
        self.partial.len().saturating_add(more.len()) > self.max
    }
}

impl<S> fmt::Debug for WebSocketIo<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketIo").finish_non_exhaustive()
    }
}

impl<S, M, E> WebSocketIo<S>
where
    S: Stream<Item = Result<M, E>> + Sink<M, Error = E> + Unpin,
    M: WebSocketMessage,
    E: StdError + Send + Sync + 'static,
{
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
                Some(Ok(message)) => hear(message.into_content(), self.form, self.max),
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
                Heard::Wrong(wrong) => {
                    tracing::debug!(code = %wrong.code, why = wrong.why, "a WebSocket is closed");
                    self.wrong = Some(wrong);
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
        }
        Pin::new(&mut self.socket).poll_ready(cx).map_err(to_io)
    }

    fn send(&mut self, message: M) -> io::Result<()> {
        Pin::new(&mut self.socket)
            .start_send(message)
            .map_err(to_io)
    }

    /// Puts the close frame on its way.
    fn poll_close_frame(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_closing {
            if ready!(self.poll_writable(cx)).is_ok() {
                let Wrong { code, why } = self.wrong.unwrap_or(Wrong::NOTHING);
                // It fails if the other end has closed the WebSocket already, and was answered.
                let _ = self.send(M::close(code.into(), why));
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
            piece.extend_from_slice(slice.get(..room).unwrap_or(slice));
        }
        self.send(M::binary(piece.into()))?;
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
            match String::from_utf8(std::mem::take(&mut self.partial)) {
                Ok(text) => self.send(M::text(text))?,
                Err(_) => tracing::warn!("a line that is no text is kept from a WebSocket"),
            }
        }
        if self.is_too_long(rest) {
            return Poll::Ready(Err(io::Error::other("a line is too long")));
        }
        self.partial.extend_from_slice(rest);
        Poll::Ready(Ok(bytes.len()))
    }
}

impl<S, M, E> AsyncRead for WebSocketIo<S>
where
    S: Stream<Item = Result<M, E>> + Sink<M, Error = E> + Unpin,
    M: WebSocketMessage,
    E: StdError + Send + Sync + 'static,
{
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

impl<S, M, E> AsyncWrite for WebSocketIo<S>
where
    S: Stream<Item = Result<M, E>> + Sink<M, Error = E> + Unpin,
    M: WebSocketMessage,
    E: StdError + Send + Sync + 'static,
{
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
                Some(Ok(message)) => match message.into_content() {
                    Content::Binary(bytes) | Content::Text(bytes) => bytes.len(),
                    Content::Close => break,
                    Content::Ping | Content::Nothing => 0,
                },
                Some(Err(_)) | None => break,
            };
            let cost = length.saturating_add(DISCARD_COST);
            self.discard = self.discard.saturating_sub(cost);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
#[path = "io_tests.rs"]
mod tests;
