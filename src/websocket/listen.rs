//! Listening for WebSockets, without a web server.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use coalescent_core::Address;
use coalescent_core::transport::{BoxFuture, BoxIo, Connected, Listener};
use http::header::ORIGIN;
use http::{HeaderMap, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request};

use super::transport::{Carried, Ws};

/// Splits `ws://HOST:PORT/PATH` into the place to listen at, and the path.
pub(super) fn place(addr: &str) -> io::Result<(&str, &str)> {
    let invalid = |text| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    let Some((scheme, rest)) = addr.split_once("://") else {
        return invalid("write ws://HOST:PORT/PATH");
    };
    if !scheme.eq_ignore_ascii_case("ws") {
        return invalid(
            "wss is served by a web server that has a certificate: listen at ws behind it",
        );
    }
    let end = rest.find('/').unwrap_or(rest.len());
    let (at, path) = rest.split_at(end);
    Ok((at, if path.is_empty() { "/" } else { path }))
}

/// Accepts WebSockets at a path.
pub(super) struct WsListener {
    below: Box<dyn Listener>,
    ws: Ws,
    path: String,
}

impl WsListener {
    pub(super) fn new(below: Box<dyn Listener>, ws: Ws, path: &str) -> Self {
        Self {
            below,
            ws,
            path: path.to_owned(),
        }
    }
}

impl Listener for WsListener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.below.local_addr()
    }

    fn address(&self) -> io::Result<Address> {
        let text = format!("ws://{}{}", self.local_addr()?, self.path);
        text.parse().map_err(io::Error::other)
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connected>> {
        Box::pin(async move {
            let mut connected = self.below.accept().await?;
            let opening = open(connected.io, self.ws.clone(), self.path.clone());
            connected.io = Box::new(Accepted::Opening(Box::pin(opening)));
            Ok(connected)
        })
    }
}

/// Performs the handshake.
async fn open(io: BoxIo, ws: Ws, path: String) -> io::Result<Carried> {
    let config = Some(ws.websocket().config());
    // The library names the type of the error.
    #[expect(clippy::result_large_err)]
    let judge = |request: &Request, answer| match judge(request, &ws, &path) {
        Ok(()) => Ok(answer),
        Err((status, text)) => {
            let mut refusal: ErrorResponse = Response::new(Some(format!("{text}\n")));
            *refusal.status_mut() = status;
            Err(refusal)
        }
    };
    let socket = accept_hdr_async_with_config(io, judge, config).await;
    let socket = socket.map_err(|error| match error {
        Error::Io(error) => error,
        Error::Protocol(ProtocolError::HandshakeIncomplete) => io::ErrorKind::UnexpectedEof.into(),
        error => io::Error::new(io::ErrorKind::InvalidData, format!("no WebSocket: {error}")),
    })?;
    Ok(ws.websocket().io(socket))
}

/// Decides whether a request may become a peer; see [`Ws::allow_origin`].
fn judge(request: &Request, ws: &Ws, path: &str) -> Result<(), (StatusCode, &'static str)> {
    if request.uri().path() != path {
        return Err((StatusCode::NOT_FOUND, "the mesh is at another path"));
    }
    if !may_come(request.headers(), ws) {
        return Err((StatusCode::FORBIDDEN, "pages of that origin may not join"));
    }
    Ok(())
}

fn may_come(headers: &HeaderMap, ws: &Ws) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (None, _) => true,
        (Some(origin), None) => ws.allows(origin),
        (Some(_), Some(_)) => false,
    }
}

/// An accepted connection. The handshake is part of the first read or write, so that it takes the
/// place, and the time, of a peer's handshake, and no other newcomer waits for it.
enum Accepted {
    Opening(BoxFuture<'static, io::Result<Carried>>),
    Open(Box<Carried>),
    Failed,
}

impl Accepted {
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&mut Carried>> {
        if let Self::Opening(opening) = self {
            match ready!(opening.as_mut().poll(cx)) {
                Ok(io) => *self = Self::Open(Box::new(io)),
                Err(error) => {
                    *self = Self::Failed;
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(match self {
            Self::Open(io) => Ok(io),
            Self::Opening(_) | Self::Failed => Err(io::ErrorKind::BrokenPipe.into()),
        })
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(self.poll_open(cx)) {
            Ok(io) => Pin::new(io).poll_read(cx, buf),
            // Who hangs up before a request is no error, a health check for example.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(ready!(self.poll_open(cx))?).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(ready!(self.poll_open(cx))?).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(ready!(self.poll_open(cx))?).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Open(io) => Pin::new(io).poll_shutdown(cx),
            // There is nobody yet to say it to.
            Self::Opening(_) | Self::Failed => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_to_listen_at_has_a_path() {
        assert_eq!(place("ws://127.0.0.1:0").unwrap(), ("127.0.0.1:0", "/"));
        assert_eq!(place("WS://[::1]:80/a/b").unwrap(), ("[::1]:80", "/a/b"));
        assert!(place("wss://127.0.0.1:0").is_err());
        assert!(place("127.0.0.1:0").is_err());
    }
}
