//! Listening for WebSockets, without a web server.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker, ready};

use coalescent_core::Address;
use coalescent_core::transport::{BoxFuture, BoxIo, Connected, Listener};
use http::header::ORIGIN;
use http::{HeaderMap, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request};
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

use super::error::caused;
use super::transport::{Carried, Ws};

/// What is answered, without waiting, to who is given up before its WebSocket is open.
const NO_PLACE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\
    Content-Length: 26\r\nRetry-After: 10\r\n\r\nno place: try again later\n";

/// How much of a request is read without waiting when it is not answered, in bytes: what is left
/// unread may cost the other end the answer.
const UNREAD: usize = 1024;

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
            connected.io = Box::new(Accepted::new(connected.io, &self.ws, &self.path));
            Ok(connected)
        })
    }
}

/// Performs the handshake, unless the connection is given up meanwhile.
async fn open(
    mut io: BoxIo,
    ws: Ws,
    path: String,
    is_given_up: Arc<AtomicBool>,
) -> io::Result<Carried> {
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
    let config = Some(ws.websocket().config());
    let shaken = {
        let mut handshake = pin!(accept_hdr_async_with_config(&mut io, judge, config));
        poll_fn(|cx| match is_given_up.load(Relaxed) {
            true => Poll::Ready(None),
            false => handshake.as_mut().poll(cx).map(Some),
        })
        .await
    };
    match shaken {
        Some(Ok(_)) => {}
        Some(Err(Error::Io(error))) => return Err(error),
        Some(Err(Error::Protocol(ProtocolError::HandshakeIncomplete))) => {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Some(Err(error)) => {
            return Err(caused(io::ErrorKind::InvalidData, "no WebSocket", error));
        }
        None => {
            turn_away(&mut io);
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
    }
    // A request is followed by nothing until it is answered: none of it is lost with the handshake.
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, config).await;
    Ok(ws.websocket().io(socket))
}

/// Says that there is no place, as far as that takes no time.
fn turn_away(io: &mut BoxIo) {
    let mut cx = Context::from_waker(Waker::noop());
    let _ = Pin::new(&mut *io).poll_write(&mut cx, NO_PLACE);
    let _ = Pin::new(&mut *io).poll_shutdown(&mut cx);
    let mut unread = [0; UNREAD];
    let _ = Pin::new(io).poll_read(&mut cx, &mut ReadBuf::new(&mut unread));
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
struct Accepted {
    state: State,
    is_given_up: Arc<AtomicBool>,
}

enum State {
    Opening(BoxFuture<'static, io::Result<Carried>>),
    Open(Box<Carried>),
    Failed,
}

impl Accepted {
    fn new(io: BoxIo, ws: &Ws, path: &str) -> Self {
        let is_given_up = Arc::default();
        let opening = open(io, ws.clone(), path.to_owned(), Arc::clone(&is_given_up));
        Self {
            state: State::Opening(Box::pin(opening)),
            is_given_up,
        }
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&mut Carried>> {
        if let State::Opening(opening) = &mut self.state {
            match ready!(opening.as_mut().poll(cx)) {
                Ok(io) => self.state = State::Open(Box::new(io)),
                Err(error) => {
                    self.state = State::Failed;
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(match &mut self.state {
            State::Open(io) => Ok(io),
            State::Opening(_) | State::Failed => Err(io::ErrorKind::BrokenPipe.into()),
        })
    }
}

impl Drop for Accepted {
    /// Says so if it is given up before it is open: for want of a place, or after too long a time.
    fn drop(&mut self) {
        if let State::Opening(opening) = &mut self.state {
            self.is_given_up.store(true, Relaxed);
            let _ = opening
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()));
        }
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
        match &mut self.state {
            State::Open(io) => Pin::new(io).poll_shutdown(cx),
            // There is nobody yet to say it to.
            State::Opening(_) | State::Failed => Poll::Ready(Ok(())),
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
