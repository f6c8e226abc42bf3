use std::time::Duration;

use super::super::mirror::{Gossip, Priority};
use super::*;

fn key(number: u32) -> Key {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&number.to_be_bytes());
    key
}

const TOPIC: TopicId = TopicId([9; 32]);
const OTHER: TopicId = TopicId([8; 32]);

fn engine(now: Instant, effects: &mut Vec<Effect>) -> Engine {
    let mut engine = Engine::new(key(0), &Settings::default(), 1);
    engine.join(TOPIC, Vec::new(), now, effects);
    engine
}

fn says(topic: TopicId, swarm: Swarm<'static>) -> Message<'static> {
    of(topic, swarm)
}

fn ups(effects: &[Effect]) -> Vec<(TopicId, Key)> {
    let ups = effects.iter().filter_map(|effect| match effect {
        Effect::Up(topic, key) => Some((*topic, *key)),
        _ => None,
    });
    ups.collect()
}

fn downs(effects: &[Effect]) -> Vec<(TopicId, Key)> {
    let downs = effects.iter().filter_map(|effect| match effect {
        Effect::Down(topic, key) => Some((*topic, *key)),
        _ => None,
    });
    downs.collect()
}

fn sent(effects: &[Effect]) -> Vec<Key> {
    let sent = effects.iter().filter_map(|effect| match effect {
        Effect::Send { to, .. } => Some(*to),
        _ => None,
    });
    sent.collect()
}

/// An engine with five neighbours, 1 to 5, and some that it remembers.
fn full(now: Instant) -> Engine {
    let mut effects = Vec::new();
    let mut engine = engine(now, &mut effects);
    for number in 1..=5 {
        engine.receive(
            key(number),
            &says(TOPIC, Swarm::Join(None)),
            now,
            &mut effects,
        );
    }
    for number in 11..=20 {
        engine.remember(TOPIC, key(number), now, &mut effects);
    }
    assert_eq!(ups(&effects).len(), 5);
    engine
}

#[test]
fn those_that_are_remembered_can_be_asked_for() {
    let now = Instant::now();
    let mut engine = full(now);
    let mut passive = engine.passive(TOPIC, now);
    passive.sort_unstable();
    let expected: Vec<_> = (1..=5).chain(11..=20).map(key).collect();
    assert_eq!(passive, expected, "neighbours fill what is not asked for");
    // Asking changes nothing.
    assert_eq!(engine.passive(TOPIC, now).len(), 15);
    assert!(!engine.passive(TOPIC, now).contains(&NOBODY));
}

#[test]
fn who_is_let_go_is_told_whom_else_to_ask_and_nobody_else_is_asked() {
    let now = Instant::now();
    let mut engine = full(now);
    let mut effects = Vec::new();
    engine.let_go(TOPIC, key(3), now, &mut effects);
    assert_eq!(downs(&effects), [(TOPIC, key(3))]);
    assert_eq!(sent(&effects), [key(3), key(3)], "names, and a goodbye");
    effects.clear();
    engine.receive(key(6), &says(TOPIC, Swarm::Join(None)), now, &mut effects);
    assert_eq!(ups(&effects), [(TOPIC, key(6))]);
    assert_eq!(downs(&effects), [], "there is room for it");
    assert!(engine.passive(TOPIC, now).contains(&key(3)));
}

#[test]
fn a_contact_that_ends_well_stays_one_to_ask_and_one_that_is_lost_does_not() {
    let now = Instant::now();
    for alive in [true, false] {
        let mut engine = full(now);
        engine.gone(key(11), alive, now, &mut Vec::new());
        assert_eq!(engine.passive(TOPIC, now).contains(&key(11)), alive);
    }
}

#[test]
fn a_topic_that_lets_go_of_a_peer_leaves_it_to_others() {
    let now = Instant::now();
    let mut effects = Vec::new();
    let mut engine = engine(now, &mut effects);
    engine.join(OTHER, Vec::new(), now, &mut effects);
    for topic in [TOPIC, OTHER] {
        engine.receive(key(1), &says(topic, Swarm::Join(None)), now, &mut effects);
    }
    assert_eq!(ups(&effects).len(), 2);
    effects.clear();
    engine.receive(key(1), &goodbye(TOPIC), now, &mut effects);
    // The engine would hang up; that it has lost one neighbour is all that is heeded.
    assert_eq!(downs(&effects), [(TOPIC, key(1))]);
    effects.clear();
    engine.receive(key(1), &goodbye(OTHER), now, &mut effects);
    assert_eq!(downs(&effects), [(OTHER, key(1))]);
}

#[test]
fn a_low_request_is_refused_with_names_when_all_places_are_taken() {
    let now = Instant::now();
    let mut engine = full(now);
    let mut effects = Vec::new();
    let low = Swarm::Neighbor {
        priority: Priority::Low,
        data: None,
    };
    engine.receive(key(7), &says(TOPIC, low), now, &mut effects);
    assert_eq!((ups(&effects), downs(&effects)), (vec![], vec![]));
    assert_eq!(sent(&effects), [key(7), key(7)]);
}

/// Returns how many bytes an engine holds more after `change`.
fn growth(engine: &mut Engine, change: impl FnOnce(&mut Engine)) -> i64 {
    allocation_counter::measure(|| change(engine)).bytes_current
}

#[test]
fn peers_that_come_and_go_leave_nothing() {
    let now = Instant::now();
    let mut engine = full(now);
    let mut next = 1000;
    let mut pass = |engine: &mut Engine, count: u32| {
        for number in next..next + count {
            let low = Swarm::Neighbor {
                priority: Priority::Low,
                data: None,
            };
            engine.receive(key(number), &says(TOPIC, low), now, &mut Vec::new());
            engine.remember(TOPIC, key(number), now, &mut Vec::new());
            engine.receive(key(number), &goodbye(TOPIC), now, &mut Vec::new());
            engine.gone(key(number), number % 2 == 0, now, &mut Vec::new());
        }
        next += count;
    };
    pass(&mut engine, 1000);
    let more = growth(&mut engine, |engine| pass(engine, 10_000));
    assert!(more < 4096, "{more} bytes");
}

#[test]
fn what_is_announced_and_never_sent_is_forgotten() {
    let start = Instant::now();
    let mut engine = full(start);
    let mut number = 0;
    // What the guard lets through in two minutes, of one neighbour.
    let mut flood = |engine: &mut Engine, from: Instant| {
        for second in 0..120u64 {
            let now = from + Duration::from_secs(second);
            let ids = (0..250).map(|at| (key(number + at), 0)).collect();
            number += 250;
            let part = Part::Gossip(Gossip::IHave(Few(ids)));
            let topic = TOPIC.0;
            engine.receive(key(1), &Message { topic, part }, now, &mut Vec::new());
            engine.fire(now + Duration::from_millis(500), &mut Vec::new());
            if second % 10 == 0 {
                engine.sweep(now);
            }
        }
        from + Duration::from_secs(120)
    };
    let mut at = start;
    let first = growth(&mut engine, |engine| at = flood(engine, at));
    let more = growth(&mut engine, |engine| at = flood(engine, at));
    // 30,000 ids would take some 5 MB. Those of a second or two are waited for.
    assert!(first < 1536 * 1024, "{first} bytes");
    assert!(more < 64 * 1024, "{more} bytes");
}
