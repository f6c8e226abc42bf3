//! Hands frames in to the stack of a peer.

use bytes::Bytes;

use super::Peer;
use super::handed::{CallsHandler, HandedFrame};
use crate::error::Error;
use crate::wire::WireError;

impl Peer {
    /// Hands a frame in to this peer's stack, as if the peer had sent `payload` to this node alone
    /// ([`Kind::Data`](crate::wire::Kind::Data)). The frame gets these extensions, and no relay
    /// passes it on. A reply to it is dropped, and an error is no offence of the peer: it may have
    /// passed on what another has made. A verdict ([`Frame::judge`](crate::Frame::judge)) counts.
    ///
    /// This is for plugins whose [channel](crate::Registrar::channel) carries what is meant for the
    /// application.
    ///
    /// # Order and room
    ///
    /// What the handler of a channel hands in before it first waits takes the place that the
    /// channel's frame has among the frames of the peer, and counts in
    /// [`Config::read_ahead`](crate::Config::read_ahead). So a stack that is slow holds the
    /// connection back, and nothing is lost. Control frames and replies go on meanwhile.
    ///
    /// What is handed in from elsewhere waits behind the frames that were read, in a queue of
    /// [`HANDED_IN`](crate::HANDED_IN) bytes, and is refused if that is full.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use coalescent::{Extensions, Peer, Plugin, Registrar};
    ///
    /// /// On frames that came on the channel.
    /// #[derive(Clone, Copy, Debug)]
    /// struct Urgent;
    ///
    /// struct UrgentFrames;
    ///
    /// impl Plugin for UrgentFrames {
    ///     fn register(&self, app: &mut Registrar) {
    ///         app.channel("urgent/1", |peer: Peer, payload: Bytes| async move {
    ///             let mut extensions = Extensions::new();
    ///             extensions.insert(Urgent);
    ///             let _ = peer.hand_in(payload, extensions);
    ///         });
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`is_encode`](Error::is_encode) if the payload is larger than
    /// [`Config::max_frame`](crate::Config::max_frame), [`is_full`](Error::is_full) if too much
    /// waits already, [`is_closed`](Error::is_closed) if the peer is gone. Then the frame is
    /// dropped, and not counted.
    pub fn hand_in(
        &self,
        payload: impl Into<Bytes>,
        extensions: http::Extensions,
    ) -> Result<(), Error> {
        let payload = payload.into();
        let limit = self.node().config().max_frame;
        if payload.len() > limit {
            return Err(Error::encode(WireError::too_large(limit)));
        }
        let handed = &self.0.handed;
        handed.push(HandedFrame {
            payload,
            extensions,
        })?;
        if !handed.is_looked_at() {
            self.wake();
        }
        Ok(())
    }

    /// Returns whether frames were handed in that no connection has taken over.
    #[inline]
    pub(crate) fn has_handed(&self) -> bool {
        self.0.handed.any()
    }

    /// Takes the first frame that was handed in.
    pub(crate) fn take_handed(&self) -> Option<HandedFrame> {
        self.0.handed.pop()
    }

    /// Notes that a connection calls a handler of a channel, and looks for frames afterwards.
    pub(in crate::node) fn calls_handler(&self) -> CallsHandler<'_> {
        self.0.handed.calls_handler()
    }

    /// Takes no more frames, since the peer has left. Returns how many are lost.
    pub(super) fn handed_closed(&self) -> u64 {
        self.0.handed.close()
    }
}
