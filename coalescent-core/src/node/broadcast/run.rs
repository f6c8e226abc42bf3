//! The frames of a batch for one wire.

use bytes::Bytes;

use super::BATCH;
use crate::node::Node;
use crate::node::outgoing::own_kind;
use crate::node::peer::Peer;
use crate::outbox::{COALESCE_MAX, Chunk, ChunkList, Coalescer, Count};
use crate::wire::{Wire, WireError, broadcast_prefix};

/// Broadcasts of this node, encoded for the peers of one wire.
pub(super) struct Run<'a> {
    /// Any peer of the wire: encodes frames that the wire cannot frame by itself.
    peer: &'a Peer,
    list: ChunkList,
    /// How many frames the wire has no place for, and the error of the last.
    unencodable: u64,
    error: Option<WireError>,
    /// Why the wire cannot carry the payload that was added last, until that is settled.
    refused: Option<WireError>,
}

impl<'a> Run<'a> {
    pub(super) fn new(peer: &'a Peer) -> Self {
        Self {
            peer,
            list: ChunkList::default(),
            unencodable: 0,
            error: None,
            refused: None,
        }
    }

    pub(super) fn wire(&self) -> &Wire {
        self.peer.wire()
    }

    /// Returns the encoded frames. Seal the last ones first.
    pub(super) fn chunks(&self) -> &[Chunk] {
        self.list.chunks()
    }

    /// Returns how many frames the wire has no place for, if any, and the error of the last.
    pub(super) fn failed(&self) -> Option<(&WireError, u64)> {
        let error = self.error.as_ref()?;
        Some((error, self.unencodable))
    }

    /// Adds a frame. Returns whether the wire can carry it; if not, call
    /// [`count_refused`](Self::count_refused) or [`take_refused`](Self::take_refused).
    pub(super) fn add(&mut self, nonce: u64, payload: &Bytes) -> bool {
        if payload.len() <= COALESCE_MAX {
            return self.add_small(nonce, payload);
        }
        self.list.seal();
        self.add_chunk(nonce, payload.clone())
    }

    /// Adds a frame of at most [`COALESCE_MAX`] bytes, within the frame limit of the native wire.
    #[inline]
    pub(super) fn add_quickly(&mut self, node: &Node, ttl: u8, nonce: u64, payload: &[u8]) {
        let len = u16::try_from(payload.len()).unwrap_or(u16::MAX);
        let prefix = broadcast_prefix(ttl, nonce, len);
        let open = open(&mut self.list, node);
        open.append(&prefix, payload, b"", Count::OWN);
    }

    fn add_small(&mut self, nonce: u64, payload: &[u8]) -> bool {
        let node = self.peer.node();
        let kind = own_kind(self.peer.wire(), nonce);
        match self.peer.framing(kind, node.config().ttl, payload) {
            Ok(Some(framing)) => {
                let open = open(&mut self.list, node);
                open.append(framing.prefix(), payload, framing.suffix(), Count::OWN);
                true
            }
            Ok(None) => {
                self.list.seal();
                self.add_chunk(nonce, Bytes::copy_from_slice(payload))
            }
            Err(error) => self.refuse(error),
        }
    }

    fn add_chunk(&mut self, nonce: u64, payload: Bytes) -> bool {
        let kind = own_kind(self.peer.wire(), nonce);
        let ttl = self.peer.node().config().ttl;
        match self.peer.encode(kind, ttl, payload, Count::OWN) {
            Ok(chunk) => {
                self.list.push(chunk);
                true
            }
            Err(error) => self.refuse(error),
        }
    }

    fn refuse(&mut self, error: WireError) -> bool {
        self.refused = Some(error);
        false
    }

    /// Counts the frame that the wire has no place for, if that was the last one.
    pub(super) fn count_refused(&mut self) {
        if let Some(error) = self.refused.take() {
            self.unencodable += 1;
            self.error = Some(error);
        }
    }

    /// Returns why the wire has no place for the last frame, which is not counted then.
    pub(super) fn take_refused(&mut self) -> Option<WireError> {
        self.refused.take()
    }

    /// Makes a chunk of the small frames at the end, and gives their buffer back to the node. Few
    /// frames are copied out of it, so that they do not keep all of it alive.
    pub(super) fn seal_last(&mut self, node: &Node) {
        if self.list.open().is_empty() {
            return;
        }
        let (mut buffer, count) = self.list.open().take();
        let bytes = if buffer.len() < BATCH / 2 {
            let bytes = Bytes::copy_from_slice(&buffer);
            buffer.clear();
            node.run_buffers().keep(buffer.freeze());
            bytes
        } else {
            let bytes = buffer.freeze();
            node.run_buffers().keep(bytes.clone());
            bytes
        };
        self.list.push(Chunk::verbatim(bytes, count));
    }
}

/// Returns the coalescer of a list, with a buffer of the node.
#[inline]
fn open<'a>(list: &'a mut ChunkList, node: &Node) -> &'a mut Coalescer {
    let open = list.open();
    if !open.has_buffer() {
        open.set_buffer(node.run_buffers().take());
    }
    open
}
