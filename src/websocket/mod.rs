#![doc = include_str!("../../docs/websocket.md")]

#[cfg(feature = "axum")]
mod axum;
mod io;
mod kind;
mod message;
mod pace;

pub use self::io::WebSocketIo;
pub use self::kind::WebSocket;
pub use self::message::{Content, WebSocketMessage};
