//! Turning an HTTP connection into a peer.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse, Response};
use coalescent::Mesh;
use coalescent::upgrade::{Upgrade, WebSocket};

/// Number of messages read from a browser per second; more wait in its socket. Other servers have
/// no such limit because they relay messages of many users, and one fast user would delay all
/// others.
const MESSAGES_A_SECOND: u32 = 100;

/// Marks a peer that is a browser.
#[derive(Clone)]
pub(crate) struct Browser;

/// The state needed to turn connections into peers.
#[derive(Clone)]
pub(crate) struct Joining {
    mesh: Mesh,
    upgrade: Upgrade,
}

impl Joining {
    pub(crate) fn new(mesh: Mesh) -> Self {
        let upgrade = Upgrade::new(&mesh)
            .remote_addr(|extensions| {
                let ConnectInfo(addr) = extensions.get::<ConnectInfo<SocketAddr>>()?;
                Some(*addr)
            })
            .websocket(WebSocket::lines().messages_per_second(MESSAGES_A_SECOND))
            .on_join(|peer, extensions| {
                if let Some(browser) = extensions.get::<Browser>() {
                    peer.set(browser.clone());
                }
            });
        Self { mesh, upgrade }
    }

    pub(crate) fn mesh(&self) -> &Mesh {
        &self.mesh
    }
}

/// Handles a request to upgrade: turns its connection into a peer. The slot of the connection is
/// among the extensions, and so is kept as long as the peer.
pub(crate) async fn join(State(joining): State<Joining>, mut request: Request) -> Response {
    if Upgrade::is_websocket(&request) {
        request.extensions_mut().insert(Browser);
    }
    joining.upgrade.join(request).await.into_response()
}
