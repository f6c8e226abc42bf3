//! What the peer is answered, gathered while its frames are handled.

use bytes::{Bytes, BytesMut};

use crate::node::peer::Peer;
use crate::outbox::{Chunk, Count, Refused};
use crate::wire::{Kind, WireError, reply_prefix};

/// Replies up to this many bytes are put together; larger ones keep their own memory. To copy one
/// costs less, up to here, than to write it as slices of its own.
const SMALL_MAX: usize = 4096;

/// What there is room for at least in the buffer that small replies are written to.
const LEAST: usize = 1024;

/// Replies on their way to the outbox of the peer that asked.
///
/// Small ones are written one after another, as they stand on the wire, so that all that come of
/// one read are one entry of the outbox. The buffer is used again once they were written to the
/// socket.
#[derive(Debug, Default)]
pub(super) struct Replies {
    chunks: Vec<Chunk>,
    /// How many of the chunks the outbox has taken.
    taken: usize,
    /// Small replies, behind all chunks, and how many they are.
    open: BytesMut,
    frames: u32,
    /// How many bytes all these are.
    bytes: usize,
}

impl Replies {
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.frames == 0
    }

    /// How many bytes are on their way.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a frame of this node's own.
    ///
    /// # Errors
    ///
    /// Where it does not fit the peer's wire.
    pub(super) fn add(&mut self, peer: &Peer, kind: Kind, payload: Bytes) -> Result<(), WireError> {
        if !self.add_own(peer, kind, &payload) {
            let len = payload.len();
            let chunk = peer.encode_own(kind, payload)?;
            self.seal();
            self.chunks.push(chunk);
            self.bytes += len;
        }
        Ok(())
    }

    /// Adds the answer to the request `id` if it is a small one that fits the peer's wire, which
    /// most are.
    #[inline]
    pub(super) fn add_small(&mut self, peer: &Peer, id: u32, payload: &[u8]) -> bool {
        match u16::try_from(payload.len()) {
            Ok(len) if payload.len() <= SMALL_MAX.min(peer.limit()) => {
                // No other wire has requests.
                let prefix = reply_prefix(peer.node().config().ttl, id, len);
                self.append([&prefix, payload, b""]);
                true
            }
            _ => false,
        }
    }

    fn add_own(&mut self, peer: &Peer, kind: Kind, payload: &[u8]) -> bool {
        if payload.len() > SMALL_MAX {
            return false;
        }
        let Ok(Some(framing)) = peer.framing_own(kind, payload) else {
            return false;
        };
        self.append([framing.prefix(), payload, framing.suffix()]);
        true
    }

    /// Adds the parts of a small frame.
    #[inline]
    fn append(&mut self, parts: [&[u8]; 3]) {
        let whole = parts.iter().map(|part| part.len()).sum::<usize>();
        if self.open.capacity() - self.open.len() < whole {
            self.open.reserve(whole.max(LEAST));
        }
        for part in parts {
            self.open.extend_from_slice(part);
        }
        self.frames += 1;
        self.bytes += whole;
    }

    /// Makes a chunk of the small replies.
    fn seal(&mut self) {
        let own = std::mem::take(&mut self.frames);
        if own > 0 {
            let run = self.open.split().freeze();
            let count = Count { own, relayed: 0 };
            self.chunks.push(Chunk::verbatim(run, count));
        }
    }

    /// Gives them to the outbox, as far as there is room, from the connection `link`. Returns how
    /// many were lost, since the peer is gone.
    pub(super) fn offer(&mut self, peer: &Peer, link: u64) -> u64 {
        self.seal();
        let rest = self.chunks.get(self.taken..).unwrap_or_default();
        match peer.outbox().try_push_by(Some(link), rest) {
            Ok(taken) => self.taken += taken,
            Err(Refused::Full) => {}
            Err(Refused::Closed) => return self.lose(),
        }
        if self.taken == self.chunks.len() {
            self.clear();
        }
        0
    }

    /// Gives them to the outbox, waiting for room. Returns how many were lost, since the peer is
    /// gone.
    ///
    /// # Cancel safety
    ///
    /// Safe: the next call goes on where this one was.
    pub(super) async fn push(&mut self, peer: &Peer) -> u64 {
        self.seal();
        let pushed = peer.outbox().push(&self.chunks, &mut self.taken).await;
        let lost = if pushed.is_err() { self.lose() } else { 0 };
        self.clear();
        lost
    }

    /// Forgets what the outbox has not taken. Returns how many replies that was.
    pub(super) fn lose(&mut self) -> u64 {
        self.seal();
        let rest = self.chunks.get(self.taken..).unwrap_or_default();
        let lost = rest.iter().map(|chunk| chunk.count.total()).sum();
        self.clear();
        lost
    }

    fn clear(&mut self) {
        self.chunks.clear();
        self.taken = 0;
        self.bytes = 0;
    }

    /// Gives back the memory that is kept for replies to come.
    pub(super) fn fall_idle(&mut self) {
        self.chunks.shrink_to_fit();
        if self.frames == 0 {
            self.open = BytesMut::new();
        }
    }
}
