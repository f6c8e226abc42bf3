//! Turning an HTTP connection into a peer.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::ORIGIN;
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
    pub(crate) mesh: Mesh,
    programs: Upgrade,
    pages: Upgrade,
}

impl Joining {
    /// `hosts` are the names of this server.
    pub(crate) fn new(mesh: Mesh, hosts: &[String]) -> Self {
        let upgrade = Upgrade::new(&mesh).hosts(hosts).remote_addr(|extensions| {
            let ConnectInfo(addr) = extensions.get::<ConnectInfo<SocketAddr>>()?;
            Some(*addr)
        });
        let paced = WebSocket::native().messages_per_second(MESSAGES_A_SECOND);
        let pages = upgrade.clone().websocket(paced);
        Self {
            mesh,
            programs: upgrade.websocket(WebSocket::native()),
            pages: pages.on_join(|peer, _| {
                peer.set(Browser);
            }),
        }
    }
}

/// Handles a request to upgrade: turns its connection into a peer. The slot of the connection is
/// among the extensions, and so is kept as long as the peer.
pub(crate) async fn join(State(joining): State<Joining>, request: Request) -> Response {
    // Browsers say where a page is from, and programs do not.
    let upgrade = match request.headers().contains_key(ORIGIN) {
        true => joining.pages,
        false => joining.programs,
    };
    upgrade.join(request).await.into_response()
}
