//! Sends on channels.

use bytes::Bytes;

use crate::error::Error;
use crate::node::peer::Peer;
use crate::outbox::{Chunk, Refused};
use crate::wire::{Kind, MAX_PREFIX};

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
        self.push_on(channel, payload.into(), false).await
    }

    /// Queues `payload` as [`send_on`](Peer::send_on) does, and leaves a part of the room to other
    /// frames of channels: for payloads of the application, so that control messages are not
    /// refused for their sake. See [`CHANNEL_BULK`](crate::outbox::CHANNEL_BULK).
    ///
    /// # Errors
    ///
    /// As for [`send_on`](Peer::send_on).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is done, nothing was queued.
    pub async fn send_bulk_on(
        &self,
        channel: &str,
        payload: impl Into<Bytes>,
    ) -> Result<(), Error> {
        self.push_on(channel, payload.into(), true).await
    }

    /// Waits until [`try_send_bulk_on`](Peer::try_send_bulk_on) has room for a payload of `len`
    /// bytes, as far as nobody else takes it first.
    ///
    /// # Errors
    ///
    /// [`is_closed`](Error::is_closed) if the peer is gone.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: waiting changes nothing.
    pub async fn bulk_room(&self, len: usize) -> Result<(), Error> {
        let room = self
            .outbox()
            .bulk_room(len.saturating_add(MAX_PREFIX))
            .await;
        room.map_err(|_| Error::closed())
    }

    /// Counts `frames` of channels as dropped ([`Stats::channel_dropped`](crate::Stats)), which a
    /// plugin had for this peer and could not send.
    pub fn count_channel_dropped(&self, frames: u64) {
        self.channel_dropped(frames);
    }

    async fn push_on(&self, channel: &str, payload: Bytes, bulk: bool) -> Result<(), Error> {
        let chunk = self.encode_on(channel, payload)?;
        let pushed = self.outbox().push_channel(&chunk, bulk).await;
        pushed.map_err(|_| Error::closed())
    }

    /// Queues `payload` for the plugin of this peer that has registered `channel`, if there is room
    /// now.
    ///
    /// # Errors
    ///
    /// [`is_full`](Error::is_full) if there is no room, and as for [`send_on`](Peer::send_on).
    pub fn try_send_on(&self, channel: &str, payload: impl Into<Bytes>) -> Result<(), Error> {
        self.try_push_on(channel, payload.into(), false)
    }

    /// Queues `payload` as [`try_send_on`](Peer::try_send_on) does, and leaves a part of the room
    /// to other frames of channels; see [`send_bulk_on`](Peer::send_bulk_on).
    ///
    /// # Errors
    ///
    /// [`is_full`](Error::is_full) if there is no room, and as for [`send_on`](Peer::send_on).
    pub fn try_send_bulk_on(&self, channel: &str, payload: impl Into<Bytes>) -> Result<(), Error> {
        self.try_push_on(channel, payload.into(), true)
    }

    fn try_push_on(&self, channel: &str, payload: Bytes, bulk: bool) -> Result<(), Error> {
        let chunk = self.encode_on(channel, payload)?;
        match self.outbox().try_push_channel(&chunk, bulk) {
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
