//! What a request asks for, and what becomes of its connection once it is answered.

use coalescent_core::{Admitted, Peer, Wire, report};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
#[cfg(feature = "websocket")]
use tokio_tungstenite::WebSocketStream;
#[cfg(feature = "websocket")]
use tokio_tungstenite::tungstenite::protocol::Role;

use super::PROTOCOL;
#[cfg(feature = "websocket")]
use super::WebSocket;

/// What a request asks for.
pub(super) enum Asked {
    Native,
    /// With the `Sec-WebSocket-Accept` of the answer.
    #[cfg(feature = "websocket")]
    WebSocket(WebSocket, HeaderValue),
}

impl Asked {
    /// Returns whether its bytes can be no TLS.
    pub(super) fn is_without_tls(&self) -> bool {
        match self {
            Self::Native => false,
            #[cfg(feature = "websocket")]
            Self::WebSocket(websocket, _) => !websocket.carries_tls(),
        }
    }

    /// Returns the answer that switches protocols.
    pub(super) fn answer(&self) -> Response<String> {
        match self {
            Self::Native => upgraded(StatusCode::SWITCHING_PROTOCOLS, "", PROTOCOL),
            #[cfg(feature = "websocket")]
            Self::WebSocket(_, accept) => {
                let mut answer = upgraded(StatusCode::SWITCHING_PROTOCOLS, "", "websocket");
                let headers = answer.headers_mut();
                headers.insert(http::header::SEC_WEBSOCKET_ACCEPT, accept.clone());
                answer
            }
        }
    }
}

/// A connection whose answer is on its way.
pub(super) struct Entering {
    pub(super) upgrade: OnUpgrade,
    pub(super) asked: Asked,
    pub(super) admitted: Admitted,
    /// The largest frame of the mesh, in bytes.
    #[cfg_attr(not(feature = "websocket"), expect(dead_code))]
    pub(super) max_frame: usize,
}

impl Entering {
    /// Makes a peer of the connection, once it is upgraded. Reports why its handshake has failed.
    pub(super) async fn enter(self) -> Option<Peer> {
        let io = match self.upgrade.await {
            Ok(io) => TokioIo::new(io),
            Err(error) => {
                tracing::debug!(error = %report(&error), "a connection was not upgraded");
                return None;
            }
        };
        match self.asked {
            Asked::Native => {
                self.admitted
                    .wire(Wire::native())
                    .accept_or_report(io)
                    .await
            }
            #[cfg(feature = "websocket")]
            Asked::WebSocket(websocket, _) => {
                let websocket = websocket.max_frame(self.max_frame);
                let config = Some(websocket.config());
                let socket = WebSocketStream::from_raw_socket(io, Role::Server, config).await;
                let io = websocket.io(socket);
                let admitted = self.admitted.wire(websocket.wire());
                admitted.accept_or_report(io).await
            }
        }
    }
}

/// Returns an answer that names the protocols to upgrade to.
pub(super) fn upgraded(
    status: StatusCode,
    text: &str,
    protocols: &'static str,
) -> Response<String> {
    let mut answer = Response::new(text.to_owned());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(protocols));
    answer
}
