//! What a payload becomes on a peer's wire: its kind, its ttl, and the memory that it keeps.

use bytes::Bytes;

use crate::node::Node;
use crate::node::by_wire::ByWire;
use crate::node::peer::Peer;
use crate::outbox::{COPY_MAX, Chunk, Count, Refused};
use crate::reason::DropReason;
use crate::wire::{Kind, Wire, WireError};

/// A run is handed on as a slice of its read buffer if it is at least `1 / SHARED_PART` of that
/// buffer; a smaller one is copied, so that it does not keep the rest alive.
pub(crate) const SHARED_PART: usize = 2;

/// Returns the kind that a broadcast of this node has on `wire`.
pub(super) fn own_kind(wire: &Wire, nonce: u64) -> Kind {
    if wire.has_handshake() {
        Kind::Broadcast { nonce }
    } else {
        Kind::Plain
    }
}

/// Returns the kind and ttl that a received frame is relayed with, before the target's wire is
/// known.
///
/// The ttl of a broadcast is lowered. A frame that was sent to this node alone becomes a broadcast
/// of this node.
pub(crate) fn relayed_kind(node: &Node, kind: Kind, ttl: u8, payload: &Bytes) -> (Kind, u8) {
    match kind {
        Kind::Broadcast { .. } => (kind, ttl.saturating_sub(1)),
        Kind::Plain => (kind, 0),
        _ => own_broadcast(node, payload),
    }
}

/// Returns the kind and ttl that a relayed frame has on `wire`. Between wires with and without
/// nonces only the payload is kept, and the frame counts as a broadcast of this node.
fn kind_on(wire: &Wire, node: &Node, kind: Kind, ttl: u8, payload: &Bytes) -> (Kind, u8) {
    match kind {
        Kind::Plain if wire.has_handshake() => own_broadcast(node, payload),
        Kind::Broadcast { .. } if !wire.has_handshake() => {
            node.announce(None, payload);
            (Kind::Plain, 0)
        }
        _ => (kind, ttl),
    }
}

/// Makes `payload` a broadcast of this node, with a nonce of its own, and announces it.
fn own_broadcast(node: &Node, payload: &Bytes) -> (Kind, u8) {
    let nonce = node.next_nonce();
    node.announce(Some(nonce), payload);
    (Kind::Broadcast { nonce }, node.config().ttl)
}

/// Encodes a relayed frame for all peers that speak the wire of `peer`.
///
/// Call it once for each wire, not for each peer: it may draw a nonce, and peers would take the
/// same frame with another nonce for another frame.
///
/// # Errors
///
/// If the wire has no place for the frame.
pub(crate) fn encode_relayed(
    peer: &Peer,
    kind: Kind,
    ttl: u8,
    payload: Bytes,
) -> Result<Chunk, WireError> {
    let (kind, ttl) = kind_on(peer.wire(), peer.node(), kind, ttl, &payload);
    peer.encode(kind, ttl, payload, Count::relayed(1))
}

/// Relays a frame whose call has ended: pushes it to the other peers at once, and drops it for each
/// that has no room.
pub(crate) fn relay_late(from: &Peer, kind: Kind, ttl: u8, payload: &Bytes, buffer: usize) {
    let node = from.node();
    let payload = copy_if_small(payload.clone(), payload, buffer);
    let (kind, ttl) = relayed_kind(node, kind, ttl, &payload);
    let targets = node.targets();
    let mut encoded = ByWire::new();
    for peer in targets.iter().filter(|peer| *peer != from) {
        let encode = || encode_relayed(peer, kind, ttl, payload.clone());
        let reason = match encoded.get_or_make(peer.wire(), encode) {
            Ok(chunk) => match peer.try_push_fitting(std::slice::from_ref(chunk)) {
                Ok(_) => continue,
                Err(Refused::Full) => DropReason::Full,
                Err(Refused::Closed) => DropReason::Disconnected,
            },
            Err(_) => DropReason::Unencodable,
        };
        peer.dropped(reason, 1);
    }
}

/// Copies a payload that lies within `whole`, and is small against the `buffer_len` bytes that it
/// would keep alive there. Payloads that the outbox copies anyway are left as they are.
pub(crate) fn copy_if_small(payload: Bytes, whole: &Bytes, buffer_len: usize) -> Bytes {
    let small = payload.len() > COPY_MAX && payload.len() < buffer_len / SHARED_PART;
    if small && whole.as_ptr_range().contains(&payload.as_ptr()) {
        Bytes::copy_from_slice(&payload)
    } else {
        payload
    }
}
