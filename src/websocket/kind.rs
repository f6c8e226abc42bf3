//! How WebSockets become byte streams.

use std::num::NonZeroU32;

use coalescent_core::Wire;
use coalescent_core::wire::MAX_PREFIX;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::io::{WebSocketIo, config, max_read};
use super::message::Form;

/// The largest frame, unless told otherwise: 1 MiB, as by default of
/// [`Config::max_frame`](crate::Config::max_frame).
const MAX_FRAME: usize = 1024 * 1024;

/// How WebSockets become peers: on which wire, and how fast they are read.
///
/// | wire | messages | a message |
/// |---|---|---|
/// | [`native`](Self::native) | binary | a piece of the byte stream, of any length |
/// | [`lines`](Self::lines) | text | a line, with or without the newline at its end |
///
/// A message is at most as large as a frame, [`max_frame`](Self::max_frame), and on the native wire
/// 14 bytes larger. One that is larger, or of the other kind, closes the WebSocket with a code and
/// reason: 1009 or 1003. If it is larger by more than 64 KiB, they may not arrive. Newlines within
/// a text become spaces.
///
/// A message takes memory as it comes in, at most twice the largest, also from who has not
/// introduced itself yet. That is more than [`Config::node_bytes`](crate::Config::node_bytes)
/// counts, for each newcomer ([`max_pending`](crate::Config::max_pending)) and each peer that comes
/// by WebSocket: with a smaller `max_frame` it is less.
///
/// Pings are answered. While the mesh does not read, messages wait in the socket; while the other
/// end does not read, they wait in the peer's queue, within its bounds.
///
/// ```
/// use coalescent::Wire;
/// use coalescent::websocket::WebSocket;
///
/// let websocket = WebSocket::lines().messages_per_second(100).max_frame(4096);
/// assert_eq!(websocket.wire(), Wire::lines());
/// // What the library below should read at most.
/// assert!(websocket.max_message() > 4096);
/// assert_eq!(websocket.config().max_message_size, Some(websocket.max_message()));
/// ```
#[derive(Clone, Debug)]
pub struct WebSocket {
    form: Form,
    pace: Option<NonZeroU32>,
    max_frame: usize,
}

impl WebSocket {
    /// Speaks the native wire, in binary messages: for programs whose way to the server lets
    /// WebSockets through, and for pages with the JavaScript client. It is the default.
    #[must_use]
    pub fn native() -> Self {
        Self::of(Form::Binary)
    }

    /// Speaks the lines wire, in text messages: for pages without any client.
    ///
    /// Text cannot carry TLS: an app that has an identity refuses such WebSockets.
    #[must_use]
    pub fn lines() -> Self {
        Self::of(Form::Text)
    }

    fn of(form: Form) -> Self {
        Self {
            form,
            pace: None,
            max_frame: MAX_FRAME,
        }
    }

    /// Sets how many messages are read from each WebSocket in a second, pings included. More wait
    /// in its socket. By default there is no limit; 0 counts as 1.
    #[must_use]
    pub fn messages_per_second(mut self, max: u32) -> Self {
        self.pace = Some(NonZeroU32::new(max).unwrap_or(NonZeroU32::MIN));
        self
    }

    /// Sets the largest payload of a frame, in bytes, if the app has another than by default
    /// (1 MiB); see [`Config::max_frame`](crate::Config::max_frame).
    #[must_use]
    pub fn max_frame(mut self, max: usize) -> Self {
        self.max_frame = max;
        self
    }

    /// Returns the wire to give to [`Mesh::accept_wire`](crate::Mesh::accept_wire).
    #[must_use]
    pub fn wire(&self) -> Wire {
        match self.form {
            Form::Binary => Wire::native(),
            Form::Text => Wire::lines(),
        }
    }

    /// Makes a byte stream of a WebSocket whose handshake is done, such as one of axum or of
    /// tokio-tungstenite.
    ///
    /// Messages are limited here only once the library has read them: give it a limit of its own,
    /// by [`config`](Self::config) or [`max_message`](Self::max_message).
    #[must_use]
    pub fn io<S>(&self, socket: S) -> WebSocketIo<S> {
        let pace = self.pace.map(NonZeroU32::get);
        WebSocketIo::new(socket, self.form, self.max(), pace)
    }

    /// Returns the largest message that the library below should read, in bytes: 64 KiB more than
    /// what is taken, so that what is slightly larger is refused with a reason.
    #[must_use]
    pub fn max_message(&self) -> usize {
        max_read(self.max())
    }

    /// Returns the limits and sizes of buffers that suit, for tokio-tungstenite.
    #[must_use]
    pub fn config(&self) -> WebSocketConfig {
        config(self.max())
    }

    /// Returns the largest message that is taken, in bytes.
    fn max(&self) -> usize {
        match self.form {
            Form::Binary => self.max_frame.saturating_add(MAX_PREFIX),
            Form::Text => self.max_frame,
        }
    }

    /// Returns whether its messages can carry TLS.
    pub(crate) fn carries_tls(&self) -> bool {
        self.form == Form::Binary
    }
}

impl Default for WebSocket {
    fn default() -> Self {
        Self::native()
    }
}
