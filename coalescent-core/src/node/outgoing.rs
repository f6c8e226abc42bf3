//! What a payload is on a peer's wire.

use bytes::Bytes;

use crate::node::Node;
use crate::node::peer::Peer;
use crate::outbox::{COPY_MAX, Chunk, Count, Refused};
use crate::reason::DropReason;
use crate::wire::{Kind, Wire, WireError};

/// A run is handed on as a slice of the buffer it was read into when it is at least this part of
/// it; a smaller one is copied, so that it does not keep the rest alive.
pub(crate) const SHARED_PART: usize = 2;

/// Relays a frame whose call has ended: at once, and dropped where there is no room.
pub(crate) fn relay_late(from: &Peer, kind: Kind, ttl: u8, payload: &Bytes, buffer: usize) {
    let node = from.node();
    let payload = copy_if_small(payload.clone(), payload, buffer);
    let (kind, ttl) = outgoing(node, kind, ttl, &payload);
    // One nonce for all peers of a wire, or they would take one frame for several.
    let mut encoded: Vec<(&Wire, Result<Chunk, WireError>)> = Vec::new();
    for peer in node.targets().iter().filter(|peer| *peer != from) {
        let at = encoded.iter().position(|(wire, _)| *wire == peer.wire());
        let at = at.unwrap_or_else(|| {
            let (kind, ttl) = for_wire(node, peer.wire(), kind, ttl, &payload);
            let chunk = peer.encode(kind, ttl, payload.clone(), Count::relayed(1));
            encoded.push((peer.wire(), chunk));
            encoded.len() - 1
        });
        let reason = match encoded.get(at) {
            Some((_, Ok(chunk))) => match peer.try_push_fitting(std::slice::from_ref(chunk)) {
                Ok(_) => continue,
                Err(Refused::Full) => DropReason::Full,
                Err(Refused::Closed) => DropReason::Disconnected,
            },
            _ => DropReason::Unencodable,
        };
        peer.dropped(reason, 1);
    }
}

/// Copies a payload that lies within `whole`, and is small against the `buffer_len` bytes that it
/// would keep alive there. What the outbox copies anyway is left as it is.
pub(crate) fn copy_if_small(payload: Bytes, whole: &Bytes, buffer_len: usize) -> Bytes {
    let small = payload.len() > COPY_MAX && payload.len() < buffer_len / SHARED_PART;
    if small && whole.as_ptr_range().contains(&payload.as_ptr()) {
        Bytes::copy_from_slice(&payload)
    } else {
        payload
    }
}

/// What a relayed frame goes on as: a broadcast with its ttl lowered, or, if it was sent to this
/// node alone, as a broadcast of this node's own.
pub(crate) fn outgoing(node: &Node, kind: Kind, ttl: u8, payload: &Bytes) -> (Kind, u8) {
    match kind {
        Kind::Broadcast { .. } => (kind, ttl.saturating_sub(1)),
        Kind::Plain => (kind, 0),
        _ => {
            let nonce = node.next_nonce();
            node.announce(Some(nonce), payload);
            (Kind::Broadcast { nonce }, node.config().ttl)
        }
    }
}

/// What a frame is on a peer's wire: where wires differ, the payload is kept, and the rest is new.
pub(crate) fn for_wire(
    node: &Node,
    wire: &Wire,
    kind: Kind,
    ttl: u8,
    payload: &Bytes,
) -> (Kind, u8) {
    match kind {
        Kind::Plain if wire.has_handshake() => {
            let nonce = node.next_nonce();
            node.announce(Some(nonce), payload);
            (Kind::Broadcast { nonce }, node.config().ttl)
        }
        Kind::Broadcast { .. } if !wire.has_handshake() => {
            node.announce(None, payload);
            (Kind::Plain, 0)
        }
        _ => (kind, ttl),
    }
}
