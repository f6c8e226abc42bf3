//! The numbers by which the engine knows peers and topics.

use std::fmt;

use coalescent_core::{Address, NodeId, Peer, PeerId, PublicKey};

/// A number of 32 bytes: of a peer, a topic, or a message.
pub(crate) type Key = [u8; 32];

/// The prefix of what the number of a topic is the hash of.
const TOPIC: &[u8] = b"coalescent/topic/1";

/// The number of a topic.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TopicId(pub(crate) Key);

impl TopicId {
    /// Returns the number of the topic `name` of a network. The empty name is that of the mesh
    /// itself.
    pub(crate) fn of(network: &str, name: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(TOPIC).update(network.as_bytes());
        hasher.update(&[0]).update(name.as_bytes());
        Self(*hasher.finalize().as_bytes())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TopicId(")?;
        let mut bytes = self.0.iter().take(4);
        bytes.try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// Returns the number of a node that proves no key.
pub(crate) fn of_node(node: NodeId) -> Key {
    let mut key = [0; 32];
    for (to, from) in key.iter_mut().zip(node.as_bytes()) {
        *to = *from;
    }
    key
}

/// Returns the number of a peer, of what its connection shows. `None` on wires without
/// introductions.
pub(crate) fn of_peer(peer: &Peer) -> Option<Key> {
    match peer.id() {
        PeerId::Key(key) => Some(*key.as_bytes()),
        PeerId::Node(node) => Some(of_node(*node)),
        _ => None,
    }
}

/// Returns an address of the peer `id`: with the key that it must prove there, if all nodes of the
/// network prove `keys`. `None` if nobody can own that key.
pub(crate) fn with_key(address: Address, id: &Key, keys: bool) -> Option<Address> {
    let key = match keys {
        true => Some(PublicKey::from_bytes(*id).ok()?),
        false => None,
    };
    Some(address.with_id(key))
}

/// Returns whether a number can be that of a node of this network, in which either all prove keys
/// or none does.
pub(crate) fn is_possible(key: &Key, keys: bool) -> bool {
    keys || key.iter().skip(16).all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_the_documented_hash() {
        let id = TopicId::of("net", "prices");
        let bytes = b"coalescent/topic/1net\0prices";
        assert_eq!(id.0, *blake3::hash(bytes).as_bytes());
        assert_ne!(id, TopicId::of("net", ""));
        assert_ne!(id, TopicId::of("ne", "prices"));
    }

    #[test]
    fn without_keys_a_number_ends_in_zeros() {
        let mut key = [0; 32];
        key[..16].fill(7);
        assert!(is_possible(&key, false) && is_possible(&key, true));
        key[16] = 1;
        assert!(!is_possible(&key, false) && is_possible(&key, true));
    }
}
