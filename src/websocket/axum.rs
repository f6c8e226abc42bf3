//! The messages of axum's WebSockets.

use axum::extract::ws::{CloseFrame, Message};
use bytes::Bytes;

use super::message::{Content, WebSocketMessage};

impl WebSocketMessage for Message {
    fn binary(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }

    fn text(text: String) -> Self {
        Self::Text(text.into())
    }

    fn close(code: u16, reason: &'static str) -> Self {
        Self::Close(Some(CloseFrame {
            code,
            reason: reason.into(),
        }))
    }

    fn into_content(self) -> Content {
        match self {
            Self::Binary(bytes) => Content::Binary(bytes),
            Self::Text(text) => Content::Text(text.into()),
            Self::Ping(_) => Content::Ping,
            Self::Close(_) => Content::Close,
            Self::Pong(_) => Content::Nothing,
        }
    }
}
