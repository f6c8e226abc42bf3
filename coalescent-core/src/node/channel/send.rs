//! Sends on channels.

use bytes::Bytes;

use crate::error::Error;
use crate::node::peer::Peer;
use crate::outbox::{Chunk, Refused};
use crate::wire::Kind;

impl Peer {
    /// Returns whether frames can be sent to this peer on `channel`: both sides know it.
    #[must_use]
    pub fn has_channel(&self, channel: &str) -> bool {
        self.channel_index(channel).is_some()
    }

    /// Queues `payload` for the plugin of this peer that has registered `channel`, waiting for
    /// room.
    ///
    /// Frames of channels have room of their own,
    /// [`CHANNEL_OUTBOX`](crate::outbox::CHANNEL_OUTBOX) for each peer, and are written in turns
    /// with other frames. They are in order among themselves, are never relayed, and are counted in
    /// [`Stats::channel_sent`](crate::Stats::channel_sent) instead of
    /// [`sent`](crate::Stats::sent).
    ///
    /// # Errors
    ///
    /// [`is_refused`](Error::is_refused) if one of the two sides has not registered the channel
    /// (see [`has_channel`](Peer::has_channel)), [`is_encode`](Error::is_encode) if the payload is
    /// larger than [`Config::max_frame`](crate::Config::max_frame) or
    /// [`max_payload`](Peer::max_payload), [`is_closed`](Error::is_closed) if the peer is gone.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is done, nothing was queued.
    pub async fn send_on(&self, channel: &str, payload: impl Into<Bytes>) -> Result<(), Error> {
        let chunk = self.encode_on(channel, payload.into())?;
        let pushed = self.outbox().push_channel(&chunk).await;
        pushed.map_err(|_| Error::closed())
    }

    /// Queues `payload` for the plugin of this peer that has registered `channel`, if there is room
    /// now.
    ///
    /// # Errors
    ///
    /// [`is_full`](Error::is_full) if there is no room, and as for [`send_on`](Peer::send_on).
    pub fn try_send_on(&self, channel: &str, payload: impl Into<Bytes>) -> Result<(), Error> {
        let chunk = self.encode_on(channel, payload.into())?;
        match self.outbox().try_push_channel(&chunk) {
            Ok(()) => Ok(()),
            Err(Refused::Full) => Err(Error::full()),
            Err(Refused::Closed) => Err(Error::closed()),
        }
    }

    fn encode_on(&self, channel: &str, payload: Bytes) -> Result<Chunk, Error> {
        let index = self
            .channel_index(channel)
            .ok_or_else(|| Error::no_channel(channel))?;
        self.encode_own(Kind::Channel { index }, payload)
            .map_err(Error::encode)
    }

    /// Returns the index of a channel in this node's list, if the peer has listed it too.
    fn channel_index(&self, channel: &str) -> Option<u8> {
        let listed = self.channels()?;
        let mut own = self.node().hooks().channels.iter();
        let index = own.position(|own| own.name == channel)?;
        let index = listed.lists(index).then_some(index)?;
        u8::try_from(index).ok()
    }
}
