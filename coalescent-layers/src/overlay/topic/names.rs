//! What stands for a payload in the engine, so that the engine keeps no payloads.
//!
//! The engine keeps each payload of a tree for a time, however much that is. So it is not given
//! payloads, but what stands for them: a message whose content is the id of the real one. It names
//! that by the hash of its content, and so by another id than all others do. Messages are
//! translated on their way in and out, and payloads are kept here, within a bound.
//!
//! | | content | id |
//! |---|---|---|
//! | between nodes | nonce and payload | the hash of them |
//! | in the engine | the id between nodes | the hash of that |

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::payload::Content;
use crate::overlay::ids::{Key, TopicId};
use crate::overlay::mirror::{Gossip, Message, Part, Raw, Scope};

/// The most bytes of payloads that the trees of one node keep, to send them to neighbours that ask:
/// 16 MiB. The oldest give way; one is kept however large it is.
pub const TREE_BYTES: usize = 16 * 1024 * 1024;

/// What each payload that is kept counts for in addition to its message, in bytes.
pub const KEPT_COST: usize = 512;

/// How long the trees keep a payload at most: 10 s.
pub const KEPT_FOR: Duration = Duration::from_secs(10);

/// How many payloads that neighbours have announced are remembered until they are there: 16,384, in
/// some 8 MiB.
pub const CLAIMED: usize = 16 * 1024;

/// Of how many neighbours it is remembered that they have announced the same payload.
pub const ANNOUNCERS: usize = 8;

/// How long a payload that was announced is waited for at most.
pub const CLAIMED_FOR: Duration = Duration::from_secs(10);

/// How many payloads the engine is given within [`GIVEN_FOR`]: 131,072. It remembers as much of
/// each as that it has been there, in some 32 MiB.
pub const GIVEN: usize = 128 * 1024;

/// How long the engine remembers a payload: 30 s.
pub const GIVEN_FOR: Duration = Duration::from_secs(30);

/// The translation between the engine and all others.
#[derive(Debug, Default)]
pub(crate) struct Names {
    kept: HashMap<Key, Kept>,
    /// The ids in the engine of those that are kept, oldest first.
    order: VecDeque<(Key, Instant)>,
    /// What they cost.
    bytes: usize,
    /// The payloads that were announced, by their ids in the engine.
    claimed: HashMap<Key, Claim>,
    claims: VecDeque<(Key, Instant)>,
    /// When the engine was given payloads, and how many.
    given: VecDeque<(Instant, usize)>,
    given_sum: usize,
}

/// A payload that is kept.
#[derive(Debug)]
struct Kept {
    /// Its id between nodes.
    id: Key,
    /// The message as it goes on.
    message: Bytes,
}

/// What [`Names::keep`] tells of a payload.
#[derive(Debug)]
pub(crate) struct Taken {
    /// What stands for it in the engine.
    pub(crate) stand_in: Key,
    /// Who has announced it before it was there.
    pub(crate) announcers: Vec<Key>,
}

/// A payload that was announced.
#[derive(Debug)]
struct Claim {
    /// Its id between nodes.
    id: Key,
    /// Who has announced it.
    by: Vec<Key>,
}

/// Returns what stands for a payload in the engine. The same payload may be in several topics.
pub(crate) fn stand_in(topic: TopicId, id: &Key) -> Key {
    *blake3::Hasher::new()
        .update(&topic.0)
        .update(id)
        .finalize()
        .as_bytes()
}

/// Returns the id in the engine: the hash of what stands for the payload.
pub(crate) fn inner_id(topic: TopicId, id: &Key) -> Key {
    id_of_stand_in(&stand_in(topic, id))
}

/// Returns the id in the engine of what stands for a payload.
pub(crate) fn id_of_stand_in(stand_in: &Key) -> Key {
    *blake3::hash(stand_in).as_bytes()
}

impl Names {
    /// Returns whether the engine may be given one more payload.
    pub(crate) fn has_room(&mut self, now: Instant) -> bool {
        self.forget_given(now);
        self.given_sum < GIVEN
    }

    fn forget_given(&mut self, now: Instant) {
        while let Some((at, count)) = self.given.front()
            && now.saturating_duration_since(*at) >= GIVEN_FOR
        {
            self.given_sum = self.given_sum.saturating_sub(*count);
            self.given.pop_front();
        }
    }

    fn note_given(&mut self, now: Instant) {
        self.given_sum = self.given_sum.saturating_add(1);
        match self.given.back_mut() {
            // By the second.
            Some((at, count)) if now.saturating_duration_since(*at) < Duration::from_secs(1) => {
                *count = count.saturating_add(1);
            }
            _ => self.given.push_back((now, 1)),
        }
    }

    /// Keeps a payload that goes on with so many `hops`. It is waited for no more.
    pub(crate) fn keep(
        &mut self,
        topic: TopicId,
        id: &Key,
        content: &Content,
        hops: u16,
        now: Instant,
    ) -> Taken {
        let stand_in = stand_in(topic, id);
        let inner = id_of_stand_in(&stand_in);
        let message = content.encode(topic, id, hops);
        self.note_given(now);
        let claim = self.claimed.remove(&inner);
        let cost = cost(&message);
        let kept = Kept { id: *id, message };
        if self.kept.insert(inner, kept).is_none() {
            self.bytes = self.bytes.saturating_add(cost);
            self.order.push_back((inner, now));
        }
        while self.bytes > TREE_BYTES && self.order.len() > 1 {
            self.drop_oldest();
        }
        Taken {
            stand_in,
            announcers: claim.map(|claim| claim.by).unwrap_or_default(),
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((oldest, _)) = self.order.pop_front()
            && let Some(kept) = self.kept.remove(&oldest)
        {
            self.bytes = self.bytes.saturating_sub(cost(&kept.message));
        }
    }

    /// Translates what a neighbour says into what the engine understands. A payload is to be
    /// [kept](Self::keep) instead.
    pub(crate) fn inward(&mut self, from: &Key, message: &mut Message<'_>, now: Instant) {
        let topic = TopicId(message.topic);
        let Part::Gossip(gossip) = &mut message.part else {
            return;
        };
        match gossip {
            Gossip::Gossip { .. } | Gossip::Prune => {}
            Gossip::Graft { id, .. } => *id = id.as_ref().map(|id| inner_id(topic, id)),
            Gossip::IHave(ids) => ids.0.retain_mut(|(id, _)| {
                let inner = inner_id(topic, id);
                let room = self.claim(from, inner, *id, now);
                *id = inner;
                room
            }),
        }
    }

    /// Remembers a payload that was announced. Returns whether there is room for it.
    fn claim(&mut self, from: &Key, inner: Key, id: Key, now: Instant) -> bool {
        if let Some(Claim { by, .. }) = self.claimed.get_mut(&inner) {
            if by.len() < ANNOUNCERS && !by.contains(from) {
                by.reserve_exact(1);
                by.push(*from);
            }
            return true;
        }
        if self.kept.contains_key(&inner) {
            return true;
        }
        self.forget_claims(now);
        if self.claims.len() >= CLAIMED {
            return false;
        }
        let by = vec![*from];
        self.claimed.insert(inner, Claim { id, by });
        self.claims.push_back((inner, now));
        true
    }

    fn forget_claims(&mut self, now: Instant) {
        while let Some((inner, at)) = self.claims.front() {
            let old = now.saturating_duration_since(*at) >= CLAIMED_FOR;
            if !old && self.claimed.contains_key(inner) {
                break;
            }
            self.claimed.remove(inner);
            self.claims.pop_front();
        }
    }

    /// Returns the message of a payload, by its id in the engine, if it is still kept.
    pub(crate) fn message(&self, inner: &Key) -> Option<Bytes> {
        self.kept.get(inner).map(|kept| kept.message.clone())
    }

    /// Translates what the engine says to a neighbour. `None` if nothing is left to say.
    pub(crate) fn outward(&self, bytes: Bytes) -> Option<Bytes> {
        let Ok(mut message) = Message::decode(&bytes) else {
            return Some(bytes);
        };
        let Part::Gossip(gossip) = &mut message.part else {
            return Some(bytes);
        };
        match gossip {
            Gossip::Prune => return Some(bytes),
            Gossip::Gossip { id, .. } => {
                return self.message(id);
            }
            Gossip::Graft { id: None, .. } => return Some(bytes),
            Gossip::Graft { id: Some(id), .. } => *id = self.claimed.get(id)?.id,
            Gossip::IHave(ids) => {
                ids.0.retain_mut(|(id, _)| {
                    let kept = self.kept.get(id);
                    kept.is_some_and(|kept| {
                        *id = kept.id;
                        true
                    })
                });
                if ids.0.is_empty() {
                    return None;
                }
            }
        }
        Some(message.encode())
    }

    /// Frees the memory of what is too old.
    pub(crate) fn sweep(&mut self, now: Instant) {
        while let Some((_, at)) = self.order.front()
            && now.saturating_duration_since(*at) >= KEPT_FOR
        {
            self.drop_oldest();
        }
        if self.order.is_empty() {
            self.kept = HashMap::new();
            self.order = VecDeque::new();
        }
        self.forget_claims(now);
        if self.claims.is_empty() {
            self.claimed = HashMap::new();
            self.claims = VecDeque::new();
        }
        self.forget_given(now);
    }

    /// Returns how many bytes the payloads that are kept cost.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn cost(message: &Bytes) -> usize {
    message.len().saturating_add(KEPT_COST)
}

/// Returns the message of what stands for a payload in the engine.
pub(crate) fn stub(topic: TopicId, stand_in: &Key, hops: u16) -> Message<'_> {
    Message {
        topic: topic.0,
        part: Part::Gossip(Gossip::Gossip {
            id: id_of_stand_in(stand_in),
            content: Raw(stand_in),
            scope: Scope::Swarm(hops),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::mirror::Few;

    const TOPIC: TopicId = TopicId([7; 32]);
    const NEIGHBOUR: Key = [1; 32];

    fn of(gossip: Gossip<'_>) -> Message<'_> {
        let part = Part::Gossip(gossip);
        Message {
            topic: TOPIC.0,
            part,
        }
    }

    fn keep(names: &mut Names, number: u64, len: usize, now: Instant) -> Key {
        let content = Content::new(number, &vec![0; len]);
        let id = content.id();
        let taken = names.keep(TOPIC, &id, &content, 3, now);
        assert_eq!(taken.stand_in, stand_in(TOPIC, &id));
        id
    }

    #[test]
    fn a_payload_goes_out_as_it_came_whatever_stands_for_it() {
        let (mut names, now) = (Names::default(), Instant::now());
        let content = Content::new(1, b"beep");
        let id = content.id();
        names.keep(TOPIC, &id, &content, 3, now);
        let out = names
            .outward(stub(TOPIC, &stand_in(TOPIC, &id), 3).encode())
            .expect("it is kept");
        assert_eq!(out, content.encode(TOPIC, &id, 3));
        // Announcements and questions name it as all do.
        let announced = of(Gossip::IHave(Few(vec![
            (inner_id(TOPIC, &id), 3),
            ([9; 32], 1),
        ])));
        let out = names.outward(announced.encode()).expect("one is known");
        let expected = of(Gossip::IHave(Few(vec![(id, 3)])));
        assert_eq!(Message::decode(&out), Ok(expected));
        let mut asked = of(Gossip::Graft {
            id: Some(id),
            round: 3,
        });
        names.inward(&NEIGHBOUR, &mut asked, now);
        let id = Some(inner_id(TOPIC, &id));
        assert_eq!(asked, of(Gossip::Graft { id, round: 3 }));
    }

    #[test]
    fn what_was_announced_is_asked_for_by_its_name() {
        let (mut names, now) = (Names::default(), Instant::now());
        let mut told = of(Gossip::IHave(Few(vec![([1; 32], 2)])));
        names.inward(&NEIGHBOUR, &mut told, now);
        let inner = inner_id(TOPIC, &[1; 32]);
        assert_eq!(told, of(Gossip::IHave(Few(vec![(inner, 2)]))));
        let ask = |id| {
            of(Gossip::Graft {
                id: Some(id),
                round: 2,
            })
            .encode()
        };
        assert_eq!(names.outward(ask(inner)), Some(ask([1; 32])));
        assert_eq!(names.outward(ask([5; 32])), None);
        let prune = of(Gossip::Prune).encode();
        assert_eq!(names.outward(prune.clone()), Some(prune));
        names.sweep(now + CLAIMED_FOR);
        assert_eq!(names.outward(ask(inner)), None);
    }

    #[test]
    fn payloads_are_kept_within_a_bound_and_the_oldest_give_way() {
        let (mut names, now) = (Names::default(), Instant::now());
        let len = TREE_BYTES / 10;
        let ids: Vec<_> = (0..30)
            .map(|number| keep(&mut names, number, len, now))
            .collect();
        assert!(names.bytes() <= TREE_BYTES && names.bytes() > TREE_BYTES / 2);
        let has = |names: &Names, id| {
            names
                .outward(stub(TOPIC, &stand_in(TOPIC, id), 3).encode())
                .is_some()
        };
        assert!(!has(&names, &ids[0]) && has(&names, &ids[29]));
        let large = keep(&mut names, 99, 2 * TREE_BYTES, now);
        assert!(has(&names, &large) && !has(&names, &ids[29]));
        names.sweep(now + KEPT_FOR);
        assert_eq!(names.bytes(), 0);
        assert!(!has(&names, &large));
    }

    #[test]
    fn who_has_announced_a_payload_is_told_until_it_is_there() {
        let (mut names, now) = (Names::default(), Instant::now());
        let content = Content::new(1, b"beep");
        let id = content.id();
        let announced = || of(Gossip::IHave(Few(vec![(id, 1)])));
        for number in 0..3 * ANNOUNCERS as u8 {
            names.inward(&[number / 2; 32], &mut announced(), now);
        }
        let all: Vec<Key> = (0..ANNOUNCERS as u8).map(|number| [number; 32]).collect();
        let mut announcers = |topic| names.keep(topic, &id, &content, 0, now).announcers;
        // In one topic alone.
        assert!(announcers(TopicId([8; 32])).is_empty());
        assert_eq!(announcers(TOPIC), all);
        assert!(announcers(TOPIC).is_empty());
        assert!(names.claimed.is_empty());
    }

    #[test]
    fn what_is_announced_and_given_has_a_bound() {
        let (mut names, now) = (Names::default(), Instant::now());
        for number in 0..3 * CLAIMED as u64 {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_be_bytes());
            let mut told = of(Gossip::IHave(Few(vec![(id, 1)])));
            names.inward(&NEIGHBOUR, &mut told, now);
        }
        assert_eq!(
            (names.claims.len(), names.claimed.len()),
            (CLAIMED, CLAIMED)
        );
        for _ in 0..GIVEN {
            assert!(names.has_room(now));
            names.note_given(now);
        }
        assert!(!names.has_room(now));
        assert!(names.has_room(now + GIVEN_FOR));
    }
}
