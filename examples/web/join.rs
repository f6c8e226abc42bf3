//! Turning an HTTP connection into a peer.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Extension;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{ConnectInfo, Request, State, WebSocketUpgrade};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use coalescent::connection::ConnectionInfo;
use coalescent::upgrade::Upgrade;
use coalescent::{Mesh, Wire};
use tokio::sync::Semaphore;

use crate::places::Place;
use crate::websocket::{REFUSED_POLITELY, WebSocketIo};

/// Limit of browsers. The mesh limits only the connections that it accepts itself, programs that
/// join over HTTP among them.
const MAX_BROWSERS: usize = 256;

/// Marks a peer that is a browser.
#[derive(Clone)]
pub(crate) struct Browser;

/// The state needed to turn connections into peers.
#[derive(Clone)]
pub(crate) struct Joining {
    mesh: Mesh,
    upgrade: Upgrade,
    browsers: Arc<Semaphore>,
}

impl Joining {
    pub(crate) fn new(mesh: Mesh) -> Self {
        Self {
            upgrade: Upgrade::new(&mesh).remote_addr(|extensions| {
                let ConnectInfo(addr) = extensions.get::<ConnectInfo<SocketAddr>>()?;
                Some(*addr)
            }),
            mesh,
            browsers: Arc::new(Semaphore::new(MAX_BROWSERS)),
        }
    }

    pub(crate) fn mesh(&self) -> &Mesh {
        &self.mesh
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
    websocket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: Request,
) -> Response {
    if !is_same_origin(request.headers()) {
        let text = "only pages of this server may join\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    if Upgrade::is_asked(&request) {
        // The slot of the connection is among the extensions, and so is kept as long as the peer.
        return joining.upgrade.join(request).await.into_response();
    }
    let websocket = match websocket {
        Ok(websocket) if request.version() == Version::HTTP_11 => websocket,
        Ok(_) => return upgrade_required(),
        Err(
            WebSocketUpgradeRejection::InvalidConnectionHeader(_)
            | WebSocketUpgradeRejection::InvalidUpgradeHeader(_),
        ) => return upgrade_required(),
        Err(rejection) => return rejection.into_response(),
    };
    let Ok(place) = Arc::clone(&joining.browsers).try_acquire_owned() else {
        let text = "no place for another peer: try again later\n";
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    let max = joining.mesh.peers().config().max_frame;
    let cut = max.saturating_mul(REFUSED_POLITELY);
    let websocket = websocket.max_message_size(cut).max_frame_size(cut);
    websocket.on_upgrade(async move |websocket| {
        let io = WebSocketIo::new(websocket, max);
        let info = ConnectionInfo::inbound().addr(addr).wire(Wire::lines());
        match joining.mesh.adopt(io, info).await {
            Ok(peer) => {
                peer.set(Browser);
                peer.closed().await;
            }
            Err(error) => tracing::warn!(%error, "a browser did not become a peer"),
        }
        drop((place, connection));
    })
}

/// The answer to a request that asks for neither upgrade.
fn upgrade_required() -> Response {
    let headers = [
        (header::CONNECTION, "upgrade"),
        (header::UPGRADE, "coalescent/1, websocket"),
    ];
    let text = "this becomes a peer: ask for an upgrade to coalescent/1 or websocket\n";
    (StatusCode::UPGRADE_REQUIRED, headers, text).into_response()
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
