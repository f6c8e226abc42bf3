//! A WebSocket as bytes: a text message is a line, and a line is a text message.
//!
//! So a browser is a peer on the `lines` wire like any other, and what is broadcast to all of these
//! is encoded once.

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

/// How many times as long as a line may be a message is read, to be refused with a word. One that
/// is longer is cut off without: what was not read would take the word with it.
pub(crate) const REFUSED_POLITELY: usize = 4;

/// How many messages of a browser are read in a second; more wait in its socket. Other servers pass
/// on what many say, and have no such limit: it would make what some browsers say too fast hold up
/// what all others say.
const MESSAGES_A_SECOND: u32 = 100;

const SECOND: Duration = Duration::from_secs(1);

/// Reads and writes lines over a WebSocket.
pub(crate) struct WebSocketIo {
    websocket: WebSocket,
    /// The longest line, in bytes.
    max: usize,
    /// What the browser said and nobody has read yet.
    said: Bytes,
    /// The beginning of a line to the browser.
    begun: BytesMut,
    /// What the browser is told at the end.
    goodbye: (u16, &'static str),
    pace: Pace,
    /// Nothing more is read.
    ended: bool,
    closing: bool,
}

impl WebSocketIo {
    pub(crate) fn new(websocket: WebSocket, max: usize) -> Self {
        Self {
            websocket,
            max,
            said: Bytes::new(),
            begun: BytesMut::new(),
            goodbye: (close_code::NORMAL, ""),
            pace: Pace::new(),
            ended: false,
            closing: false,
        }
    }

    /// Reads no more, and says why at the end.
    fn end(&mut self, code: u16, why: &'static str) {
        self.goodbye = (code, why);
        self.ended = true;
    }

    fn poll_said(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.said.is_empty() && !self.ended {
            ready!(self.pace.poll_ready(cx));
            let next = ready!(Pin::new(&mut self.websocket).poll_next(cx));
            self.pace.took_one();
            match next {
                Some(Ok(Message::Text(text))) if text.len() > self.max => {
                    self.end(close_code::SIZE, "the message is too large");
                }
                Some(Ok(Message::Text(text))) => self.said = line(&text),
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

/// Holds back what is over so many messages a second.
struct Pace {
    left: u32,
    /// The end of the second that they are left of.
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

    fn took_one(&mut self) {
        let now = Instant::now();
        if now >= self.until.deadline() {
            self.until.as_mut().reset(now + SECOND);
            self.left = MESSAGES_A_SECOND;
        }
        self.left = self.left.saturating_sub(1);
    }
}

/// A message as a line. Between the parts of JSON, and nowhere else in it, a newline is as good as
/// a space.
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
        ready!(self.poll_said(cx));
        let length = self.said.len().min(buf.remaining());
        buf.put_slice(&self.said.split_to(length));
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
            // Nothing is taken before there is room for what it makes.
            match Pin::new(&mut self.websocket).poll_ready(cx) {
                Poll::Pending if rest.len() < bytes.len() => {
                    return Poll::Ready(Ok(bytes.len().saturating_sub(rest.len())));
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(ready) => ready.map_err(io::Error::other)?,
            }
            let (line, more) = rest.split_at(end);
            rest = more.get(1..).unwrap_or_default();
            self.begun.extend_from_slice(line);
            let line = self.begun.split().freeze();
            match Utf8Bytes::try_from(line) {
                Ok(text) => ready!(self.poll_send(cx, Message::Text(text)))?,
                Err(_) => tracing::warn!("a line that is no text is kept from a browser"),
            }
        }
        if self.begun.len().saturating_add(rest.len()) > self.max {
            return Poll::Ready(Err(io::Error::other("a line is too long")));
        }
        self.begun.extend_from_slice(rest);
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
            // It fails where the browser has closed already, and has been answered.
            let _ = ready!(self.poll_send(cx, Message::Close(Some(CloseFrame { code, reason }))));
            self.closing = true;
        }
        let _ = ready!(Pin::new(&mut self.websocket).poll_close(cx));
        Poll::Ready(Ok(()))
    }
}
