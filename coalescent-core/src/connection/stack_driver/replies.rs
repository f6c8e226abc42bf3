//! The replies to a peer, collected while its frames are handled.

use std::fmt;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::node::hooks::BoxFuture;
use crate::node::peer::Peer;
use crate::outbox::{COALESCE_MAX, ChunkList, Count, Refused, frames};
use crate::wire::{Kind, WireError, reply_prefix};

/// The least memory that is allocated for small replies at once.
const BUFFER_MIN: usize = 1024;

/// Replies on their way to the outbox of the peer that sent the requests.
///
/// Small replies are coalesced, so that all replies to one read are one entry of the outbox. Their
/// buffer is used again once they have been written to the socket.
#[derive(Default)]
pub(super) struct Replies {
    list: ChunkList,
    /// How many chunks of the list the outbox has taken in.
    taken: usize,
    /// The bytes of all replies that were added since the list was last empty.
    bytes: usize,
    /// Waits for room in the outbox.
    room: Option<BoxFuture>,
}

impl Replies {
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns how many bytes are on their way.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a frame of this node's own.
    ///
    /// # Errors
    ///
    /// If the frame does not fit the peer's wire.
    pub(super) fn add(&mut self, peer: &Peer, kind: Kind, payload: Bytes) -> Result<(), WireError> {
        if !self.coalesce(peer, kind, &payload) {
            let len = payload.len();
            let chunk = peer.encode_own(kind, payload)?;
            self.list.seal_and_keep_buffer();
            self.list.push(chunk);
            self.bytes += len;
        }
        Ok(())
    }

    /// Adds the reply to the request `id`, if it is small and fits the peer's wire, as most do.
    /// Returns whether it was added.
    #[inline]
    pub(super) fn add_small(&mut self, peer: &Peer, id: u32, payload: &[u8]) -> bool {
        match u16::try_from(payload.len()) {
            Ok(len) if payload.len() <= COALESCE_MAX.min(peer.limit()) => {
                // Only the native wire has requests.
                let prefix = reply_prefix(peer.node().config().ttl, id, len);
                self.append(&prefix, payload, b"");
                true
            }
            _ => false,
        }
    }

    /// Adds a frame if it is small and its framing is known. Returns whether it was added.
    fn coalesce(&mut self, peer: &Peer, kind: Kind, payload: &[u8]) -> bool {
        if payload.len() > COALESCE_MAX {
            return false;
        }
        let Ok(Some(framing)) = peer.framing_own(kind, payload) else {
            return false;
        };
        self.append(framing.prefix(), payload, framing.suffix());
        true
    }

    #[inline]
    fn append(&mut self, prefix: &[u8], payload: &[u8], suffix: &[u8]) {
        let whole = prefix.len() + payload.len() + suffix.len();
        let open = self.list.open();
        if open.room() < whole {
            open.reserve(whole.max(BUFFER_MIN));
        }
        open.append(prefix, payload, suffix, Count::OWN);
        self.bytes += whole;
    }

    /// Pushes the replies to the outbox as far as there is room, on behalf of the connection
    /// `link`. Returns how many were lost because the peer is gone.
    pub(super) fn offer(&mut self, peer: &Peer, link: u64) -> u64 {
        self.list.seal_and_keep_buffer();
        let rest = self.list.chunks().get(self.taken..).unwrap_or_default();
        match peer.outbox().try_push_by(Some(link), rest) {
            Ok(taken) => self.taken += taken,
            Err(Refused::Full) => {}
            Err(Refused::Closed) => return self.lose(),
        }
        if self.taken == self.list.chunks().len() {
            self.clear();
        }
        0
    }

    /// Pushes the replies to the outbox as [`offer`](Self::offer) does. Pending while some wait for
    /// room there.
    pub(super) fn poll_push(&mut self, peer: &Peer, link: u64, cx: &mut Context<'_>) -> Poll<u64> {
        loop {
            let lost = self.offer(peer, link);
            if self.is_empty() {
                self.room = None;
                return Poll::Ready(lost);
            }
            if let Some(room) = &mut self.room {
                if room.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.room = None;
                continue;
            }
            let peer = peer.clone();
            let mut room: BoxFuture = Box::pin(async move {
                let _stuck = peer.stick();
                peer.outbox().moved().await;
            });
            // From now on no room is missed.
            if room.as_mut().poll(cx).is_pending() {
                self.room = Some(room);
            }
        }
    }

    /// Drops the replies that the outbox has not taken in, and returns their number.
    pub(super) fn lose(&mut self) -> u64 {
        self.list.seal_and_keep_buffer();
        let lost = frames(self.list.chunks().get(self.taken..).unwrap_or_default());
        self.clear();
        lost
    }

    fn clear(&mut self) {
        self.list.clear();
        self.taken = 0;
        self.bytes = 0;
    }

    /// Frees the memory that is kept for further replies.
    pub(super) fn fall_idle(&mut self) {
        self.list.shrink();
    }
}

impl fmt::Debug for Replies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies")
            .field("bytes", &self.bytes)
            .field("waiting", &self.room.is_some())
            .finish_non_exhaustive()
    }
}
