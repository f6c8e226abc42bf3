//! Encoding frames for one peer, and pushing frames that were encoded for all peers of its wire.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};

use super::{Peer, fitting, lock};
use crate::outbox::{Chunk, Count, Refused};
use crate::reason::DropReason;
use crate::wire::{Framing, Kind, WireError};

impl Peer {
    /// Encodes `payload` as a frame of this node for this peer alone.
    pub(crate) fn encode_own(&self, kind: Kind, payload: Bytes) -> Result<Chunk, WireError> {
        self.check_size(kind, payload.len())?;
        self.encode(kind, self.own_ttl(kind), payload, Count::OWN)
    }

    /// Returns the framing of `payload` in a frame of this node for this peer alone, if the wire
    /// has one.
    pub(crate) fn framing_own(
        &self,
        kind: Kind,
        payload: &[u8],
    ) -> Result<Option<Framing>, WireError> {
        self.check_size(kind, payload.len())?;
        self.framing(kind, self.own_ttl(kind), payload)
    }

    /// Encodes `payload` for the wire of this peer, whichever peer it is for.
    pub(crate) fn encode(
        &self,
        kind: Kind,
        ttl: u8,
        payload: Bytes,
        count: Count,
    ) -> Result<Chunk, WireError> {
        if let Some(mut framing) = self.framing(kind, ttl, &payload)? {
            if count.relayed > 0 {
                framing.keep_carriage_return(&payload);
            }
            return Ok(Chunk {
                framing,
                body: payload,
                count,
            });
        }
        let mut encoder = lock(&self.0.encoder);
        let encoder = encoder.get_or_insert_with(|| {
            let mut encoder = self.0.wire.codec(self.0.node.config().max_frame);
            encoder.established();
            Box::new(encoder)
        });
        let mut whole = BytesMut::new();
        encoder.encode(kind, ttl, &payload, &mut whole)?;
        Ok(Chunk::verbatim(whole.freeze(), count))
    }

    /// Returns the framing of `payload` on the wire of this peer, if the wire has one.
    pub(crate) fn framing(
        &self,
        kind: Kind,
        ttl: u8,
        payload: &[u8],
    ) -> Result<Option<Framing>, WireError> {
        let max_frame = self.0.node.config().max_frame;
        self.0.wire.framing(max_frame, kind, ttl, payload)
    }

    fn own_ttl(&self, kind: Kind) -> u8 {
        if kind.is_control() {
            0
        } else {
            self.0.node.config().ttl
        }
    }

    /// Returns the largest payload that may be sent to this peer, in bytes.
    #[inline]
    pub(crate) fn limit(&self) -> usize {
        let own = self.0.node.config().max_frame;
        self.0.max_payload.map_or(own, |max| own.min(max))
    }

    fn check_size(&self, kind: Kind, len: usize) -> Result<(), WireError> {
        match self.0.max_payload {
            Some(max) if len > max && carries_payload(kind) => {
                Err(WireError::too_large_for_peer(max))
            }
            _ => Ok(()),
        }
    }

    /// Returns whether this node may send payloads that this peer does not take.
    #[inline]
    fn takes_less(&self) -> bool {
        self.limit() < self.0.node.config().max_frame
    }

    /// Leaves the frames that are too large for this peer out of `chunks`, which were encoded for
    /// all peers of its wire. Returns the number of these frames too.
    pub(crate) fn fitting<'a>(&self, chunks: &'a [Chunk]) -> (Cow<'a, [Chunk]>, u64) {
        if self.takes_less() {
            fitting::fitting(chunks, self.limit())
        } else {
            (Cow::Borrowed(chunks), 0)
        }
    }

    /// Pushes `chunks` to the outbox as [`Outbox::try_push`](crate::outbox::Outbox::try_push) does.
    /// Frames that are too large for this peer are dropped, and counted.
    #[inline]
    pub(crate) fn try_push_fitting(&self, chunks: &[Chunk]) -> Result<usize, Refused> {
        if !self.takes_less() {
            return self.0.outbox.try_push(chunks);
        }
        let mut taken = 0;
        // One by one, so that no more than one chunk is copied at a time.
        for chunk in chunks {
            let (some, others) = self.fitting(std::slice::from_ref(chunk));
            match self.0.outbox.try_push(&some) {
                Ok(_) => {}
                Err(Refused::Full) if taken > 0 => break,
                Err(refused) => return Err(refused),
            }
            self.dropped(DropReason::TooLarge, others);
            taken += 1;
        }
        Ok(taken)
    }

    /// Pushes `chunks` to the outbox, waiting for room, as
    /// [`Outbox::push`](crate::outbox::Outbox::push) does. Frames that are too large for this peer
    /// are dropped, and counted.
    ///
    /// # Cancel safety
    ///
    /// Chunks dealt with before the future is dropped stay so; `progress` is their number.
    pub(crate) async fn push_fitting(
        &self,
        chunks: &[Chunk],
        progress: &mut usize,
    ) -> Result<(), Refused> {
        if !self.takes_less() {
            return self.0.outbox.push(chunks, progress).await;
        }
        while let Some(chunk) = chunks.get(*progress) {
            let (some, others) = self.fitting(std::slice::from_ref(chunk));
            self.0.outbox.push(&some, &mut 0).await?;
            self.dropped(DropReason::TooLarge, others);
            *progress += 1;
        }
        Ok(())
    }
}

/// Returns whether the receiver's limit of payloads holds for frames of this kind.
fn carries_payload(kind: Kind) -> bool {
    !kind.is_control() || matches!(kind, Kind::Channel { .. })
}
