//! The turns of the bridges of one mesh: who carries a message, and who only looks on.
//!
//! Each bridge says every second that it is there. The one that has been there longest carries;
//! each other one carries what it has not seen cross within [`STANDBY`], once more for each that
//! comes before it. So a bridge that fails costs a delay, and a mistake about who is there costs a
//! copy, which bridges and relays know by its nonce.

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::time::Instant;

use crate::engine::NOTE_MAX;

/// How long a bridge waits for each one before it, until it carries a message itself.
pub const STANDBY: Duration = Duration::from_millis(500);

/// How often a bridge says that it is there.
pub(crate) const BEAT: Duration = Duration::from_secs(1);

/// How long a bridge that says nothing is taken to be there.
pub(crate) const SILENT: Duration = Duration::from_millis(3500);

/// How long a new bridge only listens for others.
pub(crate) const LISTENING: Duration = Duration::from_millis(2500);

/// How many other bridges are known at most; those that come later are passed over.
pub const BRIDGES_MAX: usize = 64;

/// The maximum length of a group's name, in bytes.
pub const GROUP_MAX: usize = NOTE_MAX - 17;

/// The order of a bridge that has none yet.
const NEW: u64 = u64::MAX;

/// The order of a bridge that leaves.
const GONE: u64 = u64::MAX - 1;

/// What a bridge says of itself.
///
/// ```text
///  0        8       16
///  +--------+-------+------------------+
///  | bridge | order | group, as UTF-8  |
///  +--------+-------+------------------+
///    u64 BE   u64 BE
/// ```
#[derive(Debug, PartialEq, Eq)]
struct Beat {
    bridge: u64,
    order: u64,
    group: String,
}

impl Beat {
    fn encode(&self) -> Bytes {
        let mut note = BytesMut::with_capacity(NOTE_MAX);
        note.put_u64(self.bridge);
        note.put_u64(self.order);
        note.put_slice(self.group.as_bytes());
        note.freeze()
    }

    fn decode(mut note: Bytes) -> Option<Self> {
        if note.len() > NOTE_MAX {
            return None;
        }
        let bridge = note.try_get_u64().ok()?;
        let order = note.try_get_u64().ok()?;
        let group = String::from_utf8(note.into()).ok()?;
        Some(Self {
            bridge,
            order,
            group,
        })
    }
}

/// Another bridge.
#[derive(Debug)]
struct Other {
    order: u64,
    same_group: bool,
    heard: Instant,
}

#[derive(Debug)]
pub(crate) struct Turns {
    me: u64,
    group: String,
    order: u64,
    /// Until when this bridge only listens.
    listens_until: Instant,
    next_beat: Instant,
    others: HashMap<u64, Other>,
}

impl Turns {
    pub(crate) fn new(me: u64, group: String, now: Instant) -> Self {
        Self {
            me,
            group,
            order: NEW,
            listens_until: now + LISTENING,
            next_beat: now,
            others: HashMap::new(),
        }
    }

    /// Returns how many bridges of the same mesh carry before this one.
    pub(crate) fn rank(&self) -> u32 {
        let mine = (self.order, self.me);
        let others = self.others.iter().filter(|(_, other)| other.same_group);
        let before = others
            .filter(|(id, other)| (other.order, **id) < mine)
            .count();
        // Others that it has not heard of yet may be there.
        let unsure = usize::from(self.order == NEW && before == 0);
        u32::try_from(before + unsure).unwrap_or(u32::MAX)
    }

    /// Returns the bridges that are there, of whatever mesh.
    pub(crate) fn others(&self) -> impl Iterator<Item = u64> {
        self.others.keys().copied()
    }

    /// Takes a note, and returns which bridge it is from.
    pub(crate) fn heard(&mut self, note: Bytes, now: Instant) -> Option<u64> {
        let beat = Beat::decode(note).filter(|beat| beat.bridge != self.me)?;
        if beat.order == GONE {
            self.others.remove(&beat.bridge);
            return Some(beat.bridge);
        }
        let is_new = !self.others.contains_key(&beat.bridge);
        if is_new && self.others.len() >= BRIDGES_MAX {
            return None;
        }
        if is_new {
            // Greet it, so that it need not wait to know of this one.
            self.next_beat = now;
        }
        self.others.insert(
            beat.bridge,
            Other {
                order: beat.order,
                same_group: beat.group == self.group,
                heard: now,
            },
        );
        Some(beat.bridge)
    }

    /// Notes that the engine cannot be reached: silence means nothing from now on.
    pub(crate) fn back(&mut self, now: Instant) {
        for other in self.others.values_mut() {
            other.heard = now;
        }
        self.next_beat = now;
        if self.order == NEW {
            self.listens_until = now + LISTENING;
        }
    }

    /// Returns the next note to say, if it is time for one.
    pub(crate) fn beat(&mut self, now: Instant) -> Option<Bytes> {
        if self.order == NEW && now >= self.listens_until {
            let orders = self.others.values().filter(|other| other.same_group);
            let last = orders
                .map(|other| other.order)
                .filter(|&order| order < GONE)
                .max();
            self.order = last.map_or(0, |last| last.saturating_add(1).min(GONE - 1));
            self.next_beat = now;
        }
        if now < self.next_beat {
            return None;
        }
        self.next_beat = now + BEAT;
        self.others
            .retain(|_, other| now.duration_since(other.heard) <= SILENT);
        Some(self.note(self.order))
    }

    /// Returns when the next note is to be said.
    pub(crate) fn next_beat(&self) -> Instant {
        match self.order {
            NEW => self.next_beat.min(self.listens_until),
            _ => self.next_beat,
        }
    }

    /// Returns the note of a bridge that leaves.
    pub(crate) fn farewell(&self) -> Bytes {
        self.note(GONE)
    }

    fn note(&self, order: u64) -> Bytes {
        Beat {
            bridge: self.me,
            order,
            group: self.group.clone(),
        }
        .encode()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets bridges hear each other's notes until `until`.
    fn run(bridges: &mut [Turns], now: &mut Instant, until: Instant) {
        while *now < until {
            for speaker in 0..bridges.len() {
                if let Some(note) = bridges[speaker].beat(*now) {
                    for bridge in bridges.iter_mut() {
                        bridge.heard(note.clone(), *now);
                    }
                }
            }
            *now += Duration::from_millis(100);
        }
    }

    #[test]
    fn a_lone_bridge_carries_after_it_has_listened() {
        let mut now = Instant::now();
        let mut bridges = [Turns::new(1, "a".to_owned(), now)];
        assert_eq!(bridges[0].rank(), 1);
        let until = now + LISTENING + BEAT;
        run(&mut bridges, &mut now, until);
        assert_eq!(bridges[0].rank(), 0);
    }

    #[test]
    fn a_newcomer_comes_last() {
        let mut now = Instant::now();
        let mut bridges = vec![Turns::new(9, "a".to_owned(), now)];
        let until = now + LISTENING + BEAT;
        run(&mut bridges, &mut now, until);
        bridges.push(Turns::new(1, "a".to_owned(), now));
        bridges.push(Turns::new(0, "b".to_owned(), now));
        let until = now + LISTENING + BEAT;
        run(&mut bridges, &mut now, until);
        let ranks: Vec<_> = bridges.iter().map(Turns::rank).collect();
        assert_eq!(ranks, [0, 1, 0]);
        let farewell = bridges.remove(0).farewell();
        bridges[0].heard(farewell, now);
        assert_eq!(bridges[0].rank(), 0);
    }

    #[test]
    fn one_that_falls_silent_is_left_out() {
        let mut now = Instant::now();
        let mut bridges = vec![
            Turns::new(1, "a".to_owned(), now),
            Turns::new(2, "a".to_owned(), now),
        ];
        let until = now + LISTENING + BEAT;
        run(&mut bridges, &mut now, until);
        assert_eq!([bridges[0].rank(), bridges[1].rank()], [0, 1]);
        bridges.remove(0);
        let until = now + SILENT + BEAT * 2;
        run(&mut bridges, &mut now, until);
        assert_eq!(bridges[0].rank(), 0);
    }

    #[test]
    fn silence_while_the_engine_is_away_means_nothing() {
        let mut now = Instant::now();
        let mut bridges = vec![
            Turns::new(1, "a".to_owned(), now),
            Turns::new(2, "a".to_owned(), now),
        ];
        let until = now + LISTENING + BEAT;
        run(&mut bridges, &mut now, until);
        now += SILENT * 10;
        bridges[1].back(now);
        bridges[1].beat(now);
        assert_eq!(bridges[1].rank(), 1);
    }

    #[test]
    fn invented_bridges_are_bounded() {
        let now = Instant::now();
        let mut turns = Turns::new(1, "a".to_owned(), now);
        for bridge in 2..1000 {
            let note = Turns::new(bridge, "a".to_owned(), now).farewell();
            assert_eq!(turns.heard(note, now), Some(bridge));
            let note = Turns::new(bridge, "a".to_owned(), now).note(0);
            turns.heard(note, now);
        }
        assert_eq!(turns.others.len(), BRIDGES_MAX);
        for junk in [&b""[..], &[0; 15], &[0xff; 20], &[0; NOTE_MAX + 1]] {
            assert_eq!(turns.heard(Bytes::copy_from_slice(junk), now), None);
        }
    }
}
