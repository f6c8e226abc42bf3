//! Messages of strangers for an engine that is connected to nobody, for tests on random bytes.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::address::Rules;
use super::engine::{Effect, Engine};
use super::fill::filled;
use super::guard::{Ruling, Scene, judge};
use super::ids::{Key, TopicId};
use super::known::Known;
use super::mirror::{Message, Part, Priority, Swarm};
use super::places::{Forced, Places};
use super::settings::Settings;
use crate::discovery::place::Place;

const TOPIC: TopicId = TopicId([7; 32]);

/// How many nodes speak.
const SPEAKERS: u8 = 8;

/// Gives an engine what `input` says: for each message who speaks, its length, and its bytes
/// without the topic. Returns how many messages were heeded.
///
/// # Panics
///
/// If what the engine then sends is no message, or something grows over its bound.
#[must_use]
pub fn run(input: &[u8]) -> usize {
    let mut dry = Dry::new();
    let mut rest = input;
    let mut heeded = 0;
    while let [speaker, len, behind @ ..] = rest {
        let (frame, behind) = behind.split_at(behind.len().min(usize::from(*len)));
        rest = behind;
        let mut bytes = TOPIC.0.to_vec();
        bytes.extend(frame);
        heeded += usize::from(dry.heard(key(speaker % SPEAKERS + 1), &bytes));
    }
    heeded
}

fn key(number: u8) -> Key {
    let mut key = [0; 32];
    if let Some(first) = key.first_mut() {
        *first = number;
    }
    key
}

struct Dry {
    engine: Engine,
    places: Places,
    known: Known,
    rng: StdRng,
    now: Instant,
}

impl Dry {
    fn new() -> Self {
        let now = Instant::now();
        let settings = Settings::default();
        let mut engine = Engine::new(key(0), &settings, 1);
        engine.join(TOPIC, Vec::new(), now, &mut Vec::new());
        Self {
            engine,
            places: Places::new(settings.active),
            known: Known::default(),
            rng: StdRng::seed_from_u64(1),
            now,
        }
    }

    fn heard(&mut self, from: Key, bytes: &[u8]) -> bool {
        self.now += Duration::from_millis(50);
        let Ok(mut message) = Message::decode(bytes) else {
            return false;
        };
        let me = key(0);
        let mut learned = Vec::new();
        let known = &self.known;
        let mut scene = Scene {
            rules: Rules {
                me: &me,
                keys: false,
                may_dial: &|_| true,
            },
            from,
            place: Place::Loopback,
            listen: None,
            reachable: &|key| known.contains(key),
            tree: Some(true),
            ids: self.places.get_mut(&from).map(|one| &mut one.ids),
        };
        let ruling = judge(&mut scene, &mut message, &mut learned, self.now);
        if ruling != Ruling::Take {
            return false;
        }
        for (key, address) in learned {
            self.known.heard(key, address, Place::Public, self.now);
        }
        if self.known.is_over(1) {
            self.known.prune(1, |_| false);
        }
        assert!(!self.known.is_over(1), "too many addresses are remembered");
        let mut effects = Vec::new();
        self.make_room(from, &mut message, &mut effects);
        self.engine.receive(from, &message, self.now, &mut effects);
        self.engine.fire(self.now, &mut effects);
        self.carry_out(effects);
        true
    }

    fn make_room(&mut self, from: Key, message: &mut Message<'_>, effects: &mut Vec<Effect>) {
        let high = Priority::High;
        let forces = match &message.part {
            Part::Swarm(Swarm::Join(_)) => true,
            Part::Swarm(Swarm::Neighbor { priority, .. }) => *priority == high,
            _ => false,
        };
        if !forces || self.places.contains(&from) {
            return;
        }
        match self.places.force(self.now, &mut self.rng) {
            Forced::Free => {}
            Forced::Instead(one) => self.engine.let_go(TOPIC, one, self.now, effects),
            Forced::Refused => {
                message.part = Part::Swarm(Swarm::Neighbor {
                    priority: Priority::Low,
                    data: None,
                });
            }
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Up(_, key) => self.places.up(key, false, self.now),
                Effect::Down(_, key) => self.places.down(&key),
                Effect::Send { bytes, .. } => {
                    let known = |key: &Key| Some(self.known.get(key)?.0);
                    let (bytes, _) = filled(&key(0), bytes, known);
                    assert!(Message::decode(&bytes).is_ok(), "it sends no message");
                }
                Effect::Received(_) => {}
            }
        }
        let most = Settings::default().active;
        assert!(self.places.len() <= most, "too many neighbours");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_strangers_say_bounds_hold(
            frames in prop::collection::vec((0..SPEAKERS, 0u8..2, 0u8..6, any::<Vec<u8>>()), 0..40),
            junk: Vec<u8>,
        ) {
            let mut input = Vec::new();
            for (speaker, part, kind, fields) in frames {
                let fields = &fields[..fields.len().min(200)];
                input.extend([speaker, fields.len() as u8 + 2, part, kind]);
                input.extend(fields);
            }
            input.extend(junk);
            let _ = run(&input);
        }
    }

    #[test]
    fn what_honest_nodes_say_is_heeded() {
        let address = b"\x01\x0b127.0.0.1:7";
        let mut input = Vec::new();
        for speaker in 0..SPEAKERS {
            // A join, and later a goodbye.
            input.extend([speaker, 2 + address.len() as u8, 0, 0]);
            input.extend(address);
        }
        for speaker in 0..SPEAKERS {
            input.extend([speaker, 4, 0, 5, 1, 0]);
        }
        assert_eq!(run(&input), 2 * usize::from(SPEAKERS));
    }
}
