#![doc = include_str!("../../docs/websocket.md")]

#[cfg(feature = "axum")]
mod axum;
mod dial;
mod error;
mod io;
mod kind;
mod listen;
mod message;
mod pace;
#[cfg(feature = "wss")]
mod tls;
mod transport;

pub use self::io::WebSocketIo;
pub use self::kind::WebSocket;
pub use self::message::{Content, WebSocketMessage};
pub use self::transport::Ws;

/// The JavaScript client, an ES module of one file without dependencies, for a server to serve to
/// the pages that are to be peers: with the content type `text/javascript`.
pub const JAVASCRIPT: &str = include_str!("../../js/coalescent.js");
