//! The messages of the engine, as this crate reads, judges and writes them.
//!
//! The engine keeps the fields of its messages to itself. So these types repeat its encoding, field
//! by field, and a test pins the two to each other.
//!
//! ```text
//!  32 bytes   topic
//!  00         membership
//!    00         Join: data?
//!    01         ForwardJoin: peer, ttl
//!    02         Shuffle: origin, peers, ttl
//!    03         ShuffleReply: peers
//!    04         Neighbor: priority, data?
//!    05         Disconnect: alive, a byte of no meaning
//!  01         broadcast
//!    00         Gossip: message id, content, scope
//!    01         Prune
//!    02         Graft: message id?, round
//!    03         IHave: (message id, round)s
//! ```
//!
//! Numbers, and the lengths of lists and of data, are varints; what may be missing follows a byte
//! that says whether it is there; a peer is its 32 bytes and its data, which may be missing.

use std::fmt;

use bytes::Bytes;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ids::{Key, TopicId};

/// The name of the channel, with its version.
pub const CHANNEL: &str = "overlay/1";

/// The largest message that carries no payload, in bytes: 4 KiB.
pub const MAX_CONTROL: usize = 4096;

/// The largest number of peers that one message names.
pub const MAX_PEERS: usize = 16;

/// The largest number of message ids in one message: as many as fit into [`MAX_CONTROL`].
pub const MAX_IDS: usize = MAX_CONTROL / 33;

/// The longest data of a peer, in bytes: an address as the channel `peers/1` has it.
pub const MAX_DATA: usize = 300;

/// The length of what stands before the fields of a message: its topic and its kind, in bytes.
const HEAD: usize = 32 + 2;

/// How much longer than its payload a message is that carries one, at most.
pub const OVERHEAD: usize = 32 + 2 + 32 + 5 + 4;

/// A message of the engine, and the topic that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Message<'a> {
    pub(crate) topic: Key,
    #[serde(borrow)]
    pub(crate) part: Part<'a>,
}

/// What a message is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Part<'a> {
    /// Who is whose neighbour.
    Swarm(#[serde(borrow)] Swarm<'a>),
    /// What neighbours tell each other.
    Gossip(#[serde(borrow)] Gossip<'a>),
}

/// A message of the membership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Swarm<'a> {
    /// The sender wants to take part.
    Join(#[serde(borrow)] Option<Raw<'a>>),
    /// Somebody else wants to take part.
    ForwardJoin {
        #[serde(borrow)]
        peer: Info<'a>,
        ttl: u16,
    },
    /// A walk on which views are exchanged.
    Shuffle {
        origin: Key,
        #[serde(borrow)]
        nodes: Few<Info<'a>, MAX_PEERS>,
        ttl: u16,
    },
    /// The end of such a walk.
    ShuffleReply {
        #[serde(borrow)]
        nodes: Few<Info<'a>, MAX_PEERS>,
    },
    /// The sender wants to be, or is, a neighbour.
    Neighbor {
        priority: Priority,
        #[serde(borrow)]
        data: Option<Raw<'a>>,
    },
    /// The sender is no neighbour any more, or does not become one.
    Disconnect { alive: bool, respond: bool },
}

/// How much a peer wants to be a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Priority {
    /// It has no other, and is not to be refused.
    High,
    /// It may be refused.
    Low,
}

/// A message of the broadcast trees.
#[allow(clippy::enum_variant_names, reason = "the names of the engine")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Gossip<'a> {
    /// A payload.
    Gossip {
        id: Key,
        #[serde(borrow)]
        content: Raw<'a>,
        scope: Scope,
    },
    /// The sender has got a payload from somebody else first.
    Prune,
    /// The sender wants payloads at once from now on, and this one first.
    Graft { id: Option<Key>, round: u16 },
    /// The sender has these.
    IHave(Few<(Key, u16), MAX_IDS>),
}

/// How far a payload goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Scope {
    /// To all; it has made so many hops.
    Swarm(u16),
    /// To the neighbours of its author.
    Neighbors,
}

/// A peer, and where it can be dialled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Info<'a> {
    pub(crate) id: Key,
    #[serde(borrow)]
    pub(crate) data: Option<Raw<'a>>,
}

/// Bytes that are not looked into.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Raw<'a>(#[serde(borrow)] pub(crate) &'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl fmt::Debug for Raw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0.len())
    }
}

/// A list of at most `MAX` items. A longer one is an error, and no count reserves memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Few<T, const MAX: usize>(pub(crate) Vec<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Few<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T, const MAX: usize>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Items<T, MAX> {
            type Value = Few<T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MAX} items")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut few = Vec::new();
                while let Some(item) = items.next_element()? {
                    if few.len() == MAX {
                        return Err(A::Error::invalid_length(MAX + 1, &self));
                    }
                    few.push(item);
                }
                Ok(Few(few))
            }
        }

        deserializer.deserialize_seq(Items(std::marker::PhantomData))
    }
}

impl<'a> Message<'a> {
    /// Reads a message that spans all of `bytes`.
    ///
    /// # Errors
    ///
    /// If the bytes are no message, have others behind them, or exceed a limit.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (message, rest) = postcard::take_from_bytes::<Self>(bytes)
            .map_err(|_| Malformed("it is no message of the engine"))?;
        if !rest.is_empty() {
            return Err(Malformed("there are bytes behind it"));
        }
        let carries = matches!(message.part, Part::Gossip(Gossip::Gossip { .. }));
        if !carries && bytes.len() > MAX_CONTROL {
            return Err(Malformed("it is over 4 KiB, without a payload"));
        }
        if message.data().any(|data| data.0.len() > MAX_DATA) {
            return Err(Malformed("the address of a peer is over 300 bytes"));
        }
        Ok(message)
    }

    /// Returns the bytes of the message.
    pub(crate) fn encode(&self) -> Bytes {
        encode(self)
    }

    /// Returns what is said about where peers can be dialled.
    fn data(&self) -> impl Iterator<Item = &Raw<'a>> {
        let (one, many) = match &self.part {
            Part::Swarm(Swarm::Join(data) | Swarm::Neighbor { data, .. }) => (data.as_ref(), None),
            Part::Swarm(Swarm::ForwardJoin { peer, .. }) => (peer.data.as_ref(), None),
            Part::Swarm(Swarm::Shuffle { nodes, .. } | Swarm::ShuffleReply { nodes }) => {
                (None, Some(&nodes.0))
            }
            Part::Swarm(Swarm::Disconnect { .. }) | Part::Gossip(_) => (None, None),
        };
        let many = many.into_iter().flatten();
        one.into_iter()
            .chain(many.filter_map(|info| info.data.as_ref()))
    }
}

/// Encodes a message of this crate or of the engine.
pub(crate) fn encode(message: &impl Serialize) -> Bytes {
    // Writing to a vector cannot fail, and every length is known.
    postcard::to_allocvec(message)
        .map(Bytes::from)
        .unwrap_or_default()
}

/// Encodes a message of the engine with its topic.
pub(crate) fn join(topic: TopicId, message: &impl Serialize) -> Bytes {
    encode(&(topic.0, message))
}

/// Returns the topic of an encoded message, and the rest of it.
pub(crate) fn split(bytes: &[u8]) -> Option<(TopicId, &[u8])> {
    let (topic, rest) = bytes.split_first_chunk()?;
    Some((TopicId(*topic), rest))
}

/// Returns the peers that are named in an encoded message of this node's own engine: an answer to
/// a walk, of any length.
pub(crate) fn named(bytes: &[u8]) -> Vec<Key> {
    let nodes = bytes.get(HEAD..).unwrap_or_default();
    let nodes = postcard::from_bytes::<Vec<Info<'_>>>(nodes).unwrap_or_default();
    nodes.into_iter().map(|info| info.id).collect()
}

/// Says why bytes are no [`Message`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a message of the channel {CHANNEL}: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

#[cfg(test)]
#[path = "mirror_tests.rs"]
mod tests;
