//! Turning an HTTP connection into a peer.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{ConnectInfo, FromRequest, Request, State, WebSocketUpgrade};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use coalescent::connection::ConnectionInfo;
use coalescent::{Mesh, Wire};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::places::Place;
use crate::websocket::{REFUSED_POLITELY, WebSocketIo};

/// Limit of peers that join over HTTP. The mesh limits only the connections that it accepts itself.
const MAX_JOINED: usize = 256;

/// The upgrade that programs request instead of `websocket`: the native wire.
const NATIVE: &str = "coalescent/1";

/// Marks a peer that is a browser.
#[derive(Clone)]
pub(crate) struct Browser;

/// The slots that a peer occupies while it is connected.
struct Kept {
    _peer: OwnedSemaphorePermit,
    _connection: Arc<Place>,
}

/// The state needed to turn connections into peers.
#[derive(Clone)]
pub(crate) struct Joining {
    mesh: Mesh,
    places: Arc<Semaphore>,
}

impl Joining {
    pub(crate) fn new(mesh: Mesh) -> Self {
        Self {
            mesh,
            places: Arc::new(Semaphore::new(MAX_JOINED)),
        }
    }

    pub(crate) fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Turns a connection into a peer and holds its slots until the peer has disconnected.
    async fn adopt(
        self,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        socket: ConnectionInfo,
        browser: bool,
        kept: Kept,
    ) {
        match self.mesh.adopt(io, socket).await {
            Ok(peer) => {
                if browser {
                    peer.set(Browser);
                }
                peer.closed().await;
            }
            Err(error) => tracing::warn!(%error, "a connection over HTTP did not become a peer"),
        }
        drop(kept);
    }
}

/// Handles a request to upgrade: turns its connection into a peer.
///
/// Browsers let any page open a WebSocket to any server, and only report the page's origin. A
/// request with an origin must therefore come from a page of this server. Programs send no origin
/// and are accepted.
pub(crate) async fn join(
    State(joining): State<Joining>,
    ConnectInfo(addr): ConnectInfo<SocketAddr>,
    Extension(connection): Extension<Arc<Place>>,
    request: Request,
) -> Response {
    let headers = request.headers();
    if !is_same_origin(headers) {
        let text = "only pages of this server may join\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    let native = asks_for(headers, &header::UPGRADE, NATIVE);
    let upgrades = request.version() == Version::HTTP_11
        && asks_for(headers, &header::CONNECTION, "upgrade")
        && (native || asks_for(headers, &header::UPGRADE, "websocket"));
    if !upgrades {
        let headers = [
            (header::CONNECTION, "upgrade"),
            (header::UPGRADE, "coalescent/1, websocket"),
        ];
        let text = "this becomes a peer: ask for an upgrade to coalescent/1 or websocket\n";
        return (StatusCode::UPGRADE_REQUIRED, headers, text).into_response();
    }
    let Ok(place) = Arc::clone(&joining.places).try_acquire_owned() else {
        let text = "no place for another peer: try again later\n";
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    let kept = Kept {
        _peer: place,
        _connection: connection,
    };
    let socket = ConnectionInfo::inbound().addr(addr);
    if native {
        upgrade_native(joining, socket, kept, request)
    } else {
        upgrade_websocket(joining, socket, kept, request).await
    }
}

/// Switches the connection to the native wire.
fn upgrade_native(
    joining: Joining,
    socket: ConnectionInfo,
    kept: Kept,
    mut request: Request,
) -> Response {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(io) => {
                let socket = socket.wire(Wire::native());
                joining.adopt(TokioIo::new(io), socket, false, kept).await;
            }
            Err(error) => tracing::debug!(%error, "no upgrade"),
        }
    });
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, NATIVE)];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// Switches the connection to a WebSocket that carries the `lines` wire.
async fn upgrade_websocket(
    joining: Joining,
    socket: ConnectionInfo,
    kept: Kept,
    request: Request,
) -> Response {
    match WebSocketUpgrade::from_request(request, &()).await {
        Ok(upgrade) => {
            let max = joining.mesh.peers().config().max_frame;
            let cut = max.saturating_mul(REFUSED_POLITELY);
            let upgrade = upgrade.max_message_size(cut).max_frame_size(cut);
            upgrade.on_upgrade(move |websocket| {
                let io = WebSocketIo::new(websocket, max);
                joining.adopt(io, socket.wire(Wire::lines()), true, kept)
            })
        }
        Err(rejection) => rejection.into_response(),
    }
}

/// Returns whether a header contains `word` in its comma-separated list.
fn asks_for(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|one| one.trim().eq_ignore_ascii_case(word))
}

/// Returns whether a request comes from a page of this server, or not from a page.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else {
        return true;
    };
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
    // Accept either scheme, because a proxy in front of this server may terminate TLS.
    let of_page = ["http://", "https://"]
        .iter()
        .find_map(|scheme| origin.as_bytes().strip_prefix(scheme.as_bytes()));
    origins.next().is_none()
        && of_page
            .zip(host)
            .is_some_and(|(page, host)| page.eq_ignore_ascii_case(host))
}
