//! Which WebSockets become peers, and how.

use std::num::NonZeroU32;

use coalescent_core::Wire;
use coalescent_core::wire::MAX_PREFIX;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;

use super::message::Form;
use super::stream::WebSocketIo;

/// How WebSockets become peers: on which wire, and how fast they are read. Made for
/// [`Upgrade::websocket`](super::Upgrade::websocket).
///
/// | wire | messages | a message |
/// |---|---|---|
/// | [`native`](Self::native) | binary | a piece of the byte stream, of any length |
/// | [`lines`](Self::lines) | text | a line, with or without the newline at its end |
///
/// A message is at most as large as a frame, [`Config::max_frame`](crate::Config::max_frame), and
/// on the native wire 14 bytes larger. One that is larger, or of the other kind, closes the
/// WebSocket with a code and reason: 1009 or 1003. If it is larger by more than 64 KiB, they may
/// not arrive. Newlines within a text become spaces.
///
/// Pings are answered. While the mesh does not read, messages wait in the socket; while the other
/// end does not read, they wait in the peer's queue, within its bounds.
#[derive(Clone, Debug)]
pub struct WebSocket {
    form: Form,
    pace: Option<NonZeroU32>,
}

impl WebSocket {
    /// Speaks the native wire, in binary messages: for programs, whose way to the server lets
    /// WebSockets through and no other upgrade. It is the default.
    #[must_use]
    pub fn native() -> Self {
        Self {
            form: Form::Binary,
            pace: None,
        }
    }

    /// Speaks the lines wire, in text messages: for pages in browsers.
    ///
    /// Text cannot carry TLS: an app that has an identity refuses such WebSockets.
    #[must_use]
    pub fn lines() -> Self {
        Self {
            form: Form::Text,
            pace: None,
        }
    }

    /// Sets how many messages are read from each WebSocket in a second, pings included. More wait
    /// in its socket. By default there is no limit; 0 counts as 1.
    #[must_use]
    pub fn messages_per_second(mut self, max: u32) -> Self {
        self.pace = Some(NonZeroU32::new(max).unwrap_or(NonZeroU32::MIN));
        self
    }

    /// Returns whether its messages can carry TLS.
    pub(super) fn carries_tls(&self) -> bool {
        self.form == Form::Binary
    }

    pub(super) fn wire(&self) -> Wire {
        match self.form {
            Form::Binary => Wire::native(),
            Form::Text => Wire::lines(),
        }
    }

    /// Takes an upgraded connection.
    pub(super) async fn open(
        &self,
        io: TokioIo<Upgraded>,
        max_frame: usize,
    ) -> WebSocketIo<TokioIo<Upgraded>> {
        let max = match self.form {
            Form::Binary => max_frame.saturating_add(MAX_PREFIX),
            Form::Text => max_frame,
        };
        WebSocketIo::new(io, self.form, max, self.pace.map(NonZeroU32::get)).await
    }
}

impl Default for WebSocket {
    fn default() -> Self {
        Self::native()
    }
}
