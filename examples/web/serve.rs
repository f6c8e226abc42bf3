//! Accepting connections and serving HTTP on them, within limits.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

use crate::places::{Place, Places};

/// Timeout for the head of a request, from the end of the previous request.
const HEAD: Duration = Duration::from_secs(5);

/// How long a connection serves requests, unless it becomes a peer. It is then closed after the
/// current response.
const LIFE: Duration = Duration::from_secs(60);

/// Limit of a request's head, in bytes.
const HEAD_MAX: usize = 16 * 1024;

/// Delay after a failed accept, which usually means that file descriptors are exhausted.
const PAUSE: Duration = Duration::from_millis(100);

/// TCP keepalive interval; a lost browser is detected after about three of them.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// The response if there is no free slot, written without waiting.
const NO_PLACE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\nretry-after: 10\r\n\r\n";

/// Serves the site until this future is dropped.
pub(crate) async fn serve(listener: TcpListener, site: Router, places: Places) {
    loop {
        let (socket, addr) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Some(place) = places.take(addr.ip()) else {
            tracing::debug!(%addr, "no place for a connection");
            let _ = socket.try_write(NO_PLACE);
            continue;
        };
        tokio::spawn(serve_one(socket, addr, site.clone(), place));
    }
}

async fn serve_one(socket: TcpStream, addr: SocketAddr, site: Router, place: Place) {
    tune(&socket);
    // Shared, because a connection that becomes a peer keeps its slot after HTTP has ended.
    let place = Arc::new(place);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(addr));
        request.extensions_mut().insert(Arc::clone(&place));
        site.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = sleep(LIFE) => {
            connection.as_mut().graceful_shutdown();
            timeout(HEAD, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = served {
        tracing::debug!(%addr, error = %coalescent::report(&error), "a connection failed");
    }
}

/// Sets socket options, which are optional: failures are ignored.
fn tune(socket: &TcpStream) {
    let _ = socket.set_nodelay(true);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE)
        .with_retries(3);
    let _ = SockRef::from(socket).set_tcp_keepalive(&keepalive);
}
