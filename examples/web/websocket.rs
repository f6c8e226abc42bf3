//! A WebSocket as a byte stream: each text message is a line.
//!
//! A browser is thus a normal peer on the `lines` wire, and a broadcast is encoded once for all
//! browsers.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use bytes::{Buf, Bytes, BytesMut};
use futures_core::Stream;
use futures_sink::Sink;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Messages up to this many times the maximum line length are read in order to reject them with a
/// reason. Longer ones are cut off without a reason, because unread data would discard the close
/// frame.
pub(crate) const REFUSED_POLITELY: usize = 4;

/// Number of messages read from a browser per second; more wait in its socket. Other servers have
/// no such limit because they relay messages of many users, and one fast user would delay all
/// others.
const MESSAGES_A_SECOND: u32 = 100;

const SECOND: Duration = Duration::from_secs(1);

/// Reads and writes lines over a WebSocket.
pub(crate) struct WebSocketIo {
    websocket: WebSocket,
    /// Maximum length of a line, in bytes.
    max: usize,
    /// Received bytes that have not been read yet.
    received: Bytes,
    /// The incomplete line being written to the browser.
    partial: BytesMut,
    /// The code and reason of the close frame.
    goodbye: (u16, &'static str),
    pace: Pace,
    /// Set once reading has ended.
    ended: bool,
    closing: bool,
}

impl WebSocketIo {
    pub(crate) fn new(websocket: WebSocket, max: usize) -> Self {
        Self {
            websocket,
            max,
            received: Bytes::new(),
            partial: BytesMut::new(),
            goodbye: (close_code::NORMAL, ""),
            pace: Pace::new(),
            ended: false,
            closing: false,
        }
    }

    /// Stops reading, and sets the reason for the close frame.
    fn end(&mut self, code: u16, why: &'static str) {
        self.goodbye = (code, why);
        self.ended = true;
    }

    fn poll_received(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.received.is_empty() && !self.ended {
            ready!(self.pace.poll_ready(cx));
            let next = ready!(Pin::new(&mut self.websocket).poll_next(cx));
            self.pace.count();
            match next {
                Some(Ok(Message::Text(text))) if text.len() > self.max => {
                    self.end(close_code::SIZE, "the message is too large");
                }
                Some(Ok(Message::Text(text))) => self.received = line(&text),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_))) | None => self.ended = true,
                Some(Ok(Message::Binary(_))) => {
                    self.end(close_code::UNSUPPORTED, "only text is understood");
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "a WebSocket failed");
                    self.end(close_code::PROTOCOL, "no WebSocket message");
                }
            }
        }
        Poll::Ready(())
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, message: Message) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.websocket).poll_ready(cx)).map_err(io::Error::other)?;
        Poll::Ready(
            Pin::new(&mut self.websocket)
                .start_send(message)
                .map_err(io::Error::other),
        )
    }
}

/// A limit on messages per second.
struct Pace {
    left: u32,
    /// The end of the current second.
    until: Pin<Box<Sleep>>,
}

impl Pace {
    fn new() -> Self {
        Self {
            left: MESSAGES_A_SECOND,
            until: Box::pin(sleep_until(Instant::now() + SECOND)),
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.left == 0 {
            ready!(self.until.as_mut().poll(cx));
        }
        Poll::Ready(())
    }

    fn count(&mut self) {
        let now = Instant::now();
        if now >= self.until.deadline() {
            self.until.as_mut().reset(now + SECOND);
            self.left = MESSAGES_A_SECOND;
        }
        self.left = self.left.saturating_sub(1);
    }
}

/// Converts a message to a line. Newlines become spaces, which is safe because JSON permits
/// newlines only between tokens.
fn line(text: &Utf8Bytes) -> Bytes {
    let mut line = Vec::with_capacity(text.len().saturating_add(1));
    line.extend(text.bytes().map(|byte| match byte {
        b'\n' | b'\r' => b' ',
        byte => byte,
    }));
    line.push(b'\n');
    line.into()
}

impl AsyncRead for WebSocketIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_received(cx));
        let length = self.received.len().min(buf.remaining());
        buf.put_slice(&self.received.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WebSocketIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            // Consume bytes only when the WebSocket has room for the message.
            match Pin::new(&mut self.websocket).poll_ready(cx) {
                Poll::Pending if rest.len() < bytes.len() => {
                    return Poll::Ready(Ok(bytes.len().saturating_sub(rest.len())));
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(ready) => ready.map_err(io::Error::other)?,
            }
            let (line, more) = rest.split_at(end);
            rest = more.get(1..).unwrap_or_default();
            self.partial.extend_from_slice(line);
            let line = self.partial.split().freeze();
            match Utf8Bytes::try_from(line) {
                Ok(text) => ready!(self.poll_send(cx, Message::Text(text)))?,
                Err(_) => tracing::warn!("a line that is no text is kept from a browser"),
            }
        }
        if self.partial.len().saturating_add(rest.len()) > self.max {
            return Poll::Ready(Err(io::Error::other("a line is too long")));
        }
        self.partial.extend_from_slice(rest);
        rest.advance(rest.len());
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.websocket)
            .poll_flush(cx)
            .map_err(io::Error::other)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing {
            let (code, why) = self.goodbye;
            let reason = Utf8Bytes::from_static(why);
            // This fails if the browser has already closed the WebSocket and has been answered.
            let _ = ready!(self.poll_send(cx, Message::Close(Some(CloseFrame { code, reason }))));
            self.closing = true;
        }
        let _ = ready!(Pin::new(&mut self.websocket).poll_close(cx));
        Poll::Ready(Ok(()))
    }
}
