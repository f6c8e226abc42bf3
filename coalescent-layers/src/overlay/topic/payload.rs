//! Payloads of topics as bytes.
//!
//! ```text
//!  32 bytes   topic
//!  01 00      broadcast, payload
//!  32 bytes   id: the BLAKE3 hash of the content
//!  varint     length of the content
//!   8 bytes   nonce  ┐ the content
//!  ..         payload┘
//!  00         to all
//!  varint     hops so far
//! ```
//!
//! The engine names a payload by its hash. The nonce makes two equal payloads two.

use bytes::{BufMut, Bytes, BytesMut};

use crate::overlay::ids::{Key, TopicId};
use crate::overlay::mirror::{Few, Gossip, Message, OVERHEAD, Part};

/// The length of what stands before the id: the topic, and what the message is.
const HEAD: usize = 32 + 2;

/// The length of the nonce, in bytes.
const NONCE: usize = 8;

/// How many hops a payload of a topic makes at most.
pub const MAX_HOPS: u16 = 128;

/// Returns the largest payload that fits into a frame of `max_frame` bytes.
pub(super) fn largest(max_frame: usize) -> usize {
    max_frame.saturating_sub(OVERHEAD + NONCE)
}

/// What distinguishes a payload of a topic from equal ones: among the
/// [extensions](coalescent_core::Frame::extensions) of the frame that carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TopicNonce(pub u64);

/// The content of a message: a nonce, and the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content(Bytes);

impl Content {
    /// Puts the nonce before the payload.
    pub(super) fn new(nonce: u64, payload: &[u8]) -> Self {
        let mut bytes = BytesMut::with_capacity(NONCE + payload.len());
        bytes.put_u64(nonce);
        bytes.put_slice(payload);
        Self(bytes.freeze())
    }

    /// Returns the content of a message. `None` if there is no room for a nonce.
    pub(super) fn of(content: Bytes) -> Option<Self> {
        (content.len() >= NONCE).then_some(Self(content))
    }

    /// Returns the id of the message.
    pub(super) fn id(&self) -> Key {
        *blake3::hash(&self.0).as_bytes()
    }

    pub(super) fn nonce(&self) -> TopicNonce {
        let nonce = self.0.first_chunk().copied().unwrap_or_default();
        TopicNonce(u64::from_be_bytes(nonce))
    }

    pub(super) fn payload(&self) -> Bytes {
        self.0.slice(NONCE.min(self.0.len())..)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the message of the topic that carries this and has made `hops`.
    pub(super) fn encode(&self, topic: TopicId, id: &Key, hops: u16) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.0.len() + OVERHEAD);
        bytes.put_slice(&topic.0);
        bytes.put_slice(&[1, 0]);
        bytes.put_slice(id);
        put_varint(&mut bytes, self.0.len());
        bytes.put_slice(&self.0);
        bytes.put_u8(0);
        put_varint(&mut bytes, usize::from(hops));
        bytes.freeze()
    }
}

/// Returns the topic of a message, and the id of the payload that it carries.
pub(super) fn id_of(message: &[u8]) -> Option<(TopicId, Key)> {
    let topic = TopicId(*message.first_chunk()?);
    let (_, rest) = message.split_at_checked(HEAD)?;
    Some((topic, *rest.first_chunk()?))
}

/// Returns what tells a neighbour of a tree that there is the payload of `message`, which it was
/// not sent: it asks for it later, unless it gets it from another.
pub(super) fn announcement(message: &[u8]) -> Option<Bytes> {
    let (topic, id) = id_of(message)?;
    // More than 127 take two bytes, and then the last one says too little.
    let hops = message.last().map_or(0, |last| u16::from(last & 0x7f));
    let message = Message {
        topic: topic.0,
        part: Part::Gossip(Gossip::IHave(Few(vec![(id, hops)]))),
    };
    Some(message.encode())
}

fn put_varint(bytes: &mut BytesMut, mut number: usize) {
    while number > 0x7f {
        bytes.put_u8((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.put_u8(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::mirror::{Raw, Scope};

    #[test]
    fn it_is_what_the_engine_writes() {
        for (len, hops) in [
            (0, 0),
            (119, 1),
            (120, 127),
            (20_000, 128),
            (3_000_000, MAX_HOPS),
        ] {
            let content = Content::new(7, &vec![1; len]);
            let (topic, id) = (TopicId([2; 32]), content.id());
            let bytes = content.encode(topic, &id, hops);
            let message = Message {
                topic: topic.0,
                part: Part::Gossip(Gossip::Gossip {
                    id,
                    content: Raw(&content.0),
                    scope: Scope::Swarm(hops),
                }),
            };
            assert_eq!(bytes, message.encode());
            assert_eq!(id_of(&bytes), Some((topic, id)));
            let announced = announcement(&bytes).expect("a payload");
            let announced = Message::decode(&announced).expect("a message");
            let Part::Gossip(Gossip::IHave(Few(ids))) = announced.part else {
                panic!("{announced:?}");
            };
            let told = if hops > 127 { hops >> 7 } else { hops };
            assert_eq!((announced.topic, ids), (topic.0, vec![(id, told)]));
            assert!(bytes.len() <= content.len() + OVERHEAD);
            assert_eq!(largest(bytes.len()).max(len), len);
            assert_eq!(content.payload(), vec![1; len]);
        }
    }

    #[test]
    fn equal_payloads_have_different_ids() {
        let (one, two) = (Content::new(1, b"beep"), Content::new(2, b"beep"));
        assert_ne!(one.id(), two.id());
        assert!(Content::of(Bytes::from_static(b"0123456")).is_none());
        let content = Content::of(Bytes::from_static(b"012345678"));
        let content = content.expect("a content");
        assert_eq!(content.payload(), "8");
        assert_eq!(content.nonce().0.to_be_bytes(), *b"01234567");
    }
}
