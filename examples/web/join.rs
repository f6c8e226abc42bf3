//! From a request to a peer.

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

/// How many peers may come over HTTP at a time. The mesh bounds those that it accepts by itself,
/// not those that it is given.
const MAX_JOINED: usize = 256;

/// What programs ask for, in place of `websocket`: the native wire.
const NATIVE: &str = "coalescent/1";

/// Marks a peer that is a browser.
#[derive(Clone)]
pub(crate) struct Browser;

/// What a peer keeps for as long as it is connected.
struct Kept {
    _peer: OwnedSemaphorePermit,
    _connection: Arc<Place>,
}

/// What making peers takes.
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

    /// Makes a peer of a connection, and keeps its places until it has left.
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

/// Makes a peer of the connection that asks for it.
///
/// A browser lets any page open a WebSocket to anywhere, and says only where the page is from. So a
/// request that says so must come from a page of this server. Programs say nothing, and are let in.
pub(crate) async fn join(
    State(joining): State<Joining>,
    ConnectInfo(addr): ConnectInfo<SocketAddr>,
    Extension(connection): Extension<Arc<Place>>,
    mut request: Request,
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
        return (StatusCode::SWITCHING_PROTOCOLS, headers).into_response();
    }
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

/// Whether one of the words in a header is this one.
fn asks_for(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|one| one.trim().eq_ignore_ascii_case(word))
}

/// Whether a request comes from a page of this server, or from no page.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else {
        return true;
    };
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
    // The scheme may differ: a server in front of this one can have spoken TLS.
    let of_page = ["http://", "https://"]
        .iter()
        .find_map(|scheme| origin.as_bytes().strip_prefix(scheme.as_bytes()));
    origins.next().is_none()
        && of_page
            .zip(host)
            .is_some_and(|(page, host)| page.eq_ignore_ascii_case(host))
}
