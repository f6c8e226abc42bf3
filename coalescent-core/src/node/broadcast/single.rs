//! One payload for all peers.

use bytes::Bytes;

use super::{Sent, check_size, too_large, unencodable};
use crate::error::{Error, report};
use crate::node::Peers;
use crate::node::by_wire::ByWire;
use crate::node::outgoing::own_kind;
use crate::node::peer::Peer;
use crate::outbox::{Chunk, Count, Refused};

impl Peers {
    /// Queues a broadcast for the peers that have room. Returns the peers that have none, with the
    /// frame for each.
    ///
    /// # Errors
    ///
    /// If the payload is too large, or no wire of the peers can carry it.
    pub(super) fn offer(
        &self,
        payload: &Bytes,
        to: impl Fn(&Peer) -> bool,
    ) -> Result<(Sent, Vec<(Peer, Chunk)>), Error> {
        let node = self.node();
        check_size(node, payload.len())?;
        let nonce = node.next_nonces(1);
        let list = self.list();
        if node.is_announced() {
            node.announce(Some(nonce), payload);
            if list.iter().any(|peer| !peer.wire().has_handshake()) {
                node.announce(None, payload);
            }
        }
        let ttl = node.config().ttl;
        let mut sent = Sent::default();
        let mut waiting = Vec::new();
        let mut encoded = ByWire::new();
        // The peers whose wire cannot carry it: told only once it is known that another can.
        let mut without = Vec::new();
        let mut is_carried = false;
        for peer in list.iter().filter(|peer| to(peer)) {
            let kind = own_kind(peer.wire(), nonce);
            let encode = || peer.encode(kind, ttl, payload.clone(), Count::OWN);
            let chunk = match encoded.get_or_make(peer.wire(), encode) {
                Ok(chunk) => chunk,
                Err(_) => {
                    without.push(peer);
                    continue;
                }
            };
            is_carried = true;
            let (fitting, left_out) = peer.fitting(std::slice::from_ref(chunk));
            sent += too_large(peer, left_out);
            if fitting.is_empty() {
                continue;
            }
            match peer.outbox().try_push(&fitting) {
                Ok(_) => sent.queued += 1,
                Err(Refused::Full) => waiting.push((peer.clone(), chunk.clone())),
                Err(Refused::Closed) => sent.dropped += 1,
            }
        }
        for peer in without {
            if let Some(Err(error)) = encoded.get(peer.wire()) {
                if !is_carried {
                    return Err(Error::encode(report(error).to_string()));
                }
                sent += unencodable(node, peer, error, 1);
            }
        }
        Ok((sent, waiting))
    }
}
