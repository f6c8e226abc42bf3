use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::smart_relay::seen::source::Sources;

const TTL: u64 = 120_000;

/// A set with room for `pages` pages, and sources of frames.
fn nonces(pages: usize) -> (Nonces, Vec<Source>) {
    let mut sources = Sources::new(TTL);
    let sources = (0..4).map(|_| sources.open(0)).collect();
    (Nonces::new(pages * PAGE_COST, TTL), sources)
}

/// Returns whether a frame is handled and relayed.
fn goes_on(novelty: Novelty) -> bool {
    matches!(novelty, Novelty::New | Novelty::Last)
}

/// Returns a substitute for the hash of a nonce and a payload.
fn identity(nonce: u64, payload: u64) -> u128 {
    let half = |x: u64| u128::from(x.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    half(nonce ^ payload << 32) << 64 | half(nonce.rotate_left(7) ^ payload << 20)
}

impl Nonces {
    fn say(&mut self, source: Source, nonce: u64, clock: u64) -> Novelty {
        self.insert(source, nonce, identity(nonce, 0), clock)
    }

    /// Checks the invariants.
    fn check(&self) {
        let queued: usize = self.sources.iter().map(|pages| pages.queue.len()).sum();
        assert_eq!(queued, self.pages.len() - self.free.len());
        assert!(queued <= self.max_pages);
        assert_eq!(queued, self.index.len() + self.conflicts.len());
        let taken = self.sources.iter().flat_map(|pages| &pages.queue);
        let frames = taken.map(|slot| {
            let page = &self.pages[*slot as usize];
            let known = (0..PAGE).filter(|at| page.tags.get(*at) != 0).count();
            assert_eq!(page.frames as usize, known);
            known
        });
        assert_eq!(frames.sum::<usize>(), self.frames);
        for (key, slot) in &self.index {
            let page = &self.pages[*slot as usize];
            assert!(page.key == *key && !page.conflict);
        }
    }
}

#[test]
fn a_nonce_is_remembered_for_its_time_and_no_longer() {
    let (mut nonces, sources) = nonces(1000);
    assert_eq!(nonces.say(sources[0], 7, 0), Novelty::New);
    assert_eq!(nonces.say(sources[1], 7, 60_000), Novelty::Copy);
    assert_eq!(nonces.say(sources[0], 7, 119_999), Novelty::Copy);
    assert_eq!(nonces.say(sources[1], 7, 120_000), Novelty::New);
    assert_eq!(nonces.say(sources[1], 7, 120_001), Novelty::Copy);
}

#[test]
fn equal_nonces_of_unlike_payloads_are_unlike_frames() {
    let (mut nonces, sources) = nonces(1000);
    for payload in 0..100 {
        let identity = identity(5, payload);
        assert_eq!(nonces.insert(sources[0], 5, identity, 0), Novelty::New);
    }
    for payload in 0..100 {
        let identity = identity(5, payload);
        assert_eq!(nonces.insert(sources[1], 5, identity, 0), Novelty::Copy);
    }
    nonces.check();
}

/// A million frames arrive a second time in the same order.
#[test]
fn a_burst_is_remembered_whole() {
    let (mut nonces, sources) = nonces(200_000);
    for nonce in 0..1_000_000 {
        assert_eq!(nonces.say(sources[0], nonce, nonce / 1000), Novelty::New);
    }
    for nonce in 0..1_000_000 {
        let clock = 1000 + nonce / 1000;
        assert_eq!(nonces.say(sources[1], nonce, clock), Novelty::Copy);
    }
    assert_eq!(nonces.forgotten_young(), 0);
    nonces.check();
}

#[test]
fn a_source_without_copies_forgets_its_own_oldest_and_nobody_elses() {
    let (mut nonces, sources) = nonces(300);
    for nonce in 0..100 {
        assert_eq!(nonces.say(sources[0], nonce, 0), Novelty::New);
    }
    // A flood evicts the flooder's own frames only, and only with consecutive nonces.
    for nonce in 1_000..100_000 {
        assert!(goes_on(nonces.say(sources[1], nonce, 1)));
        nonces.say(sources[2], nonce << 20, 1);
    }
    assert_eq!(nonces.say(sources[2], 1_000 << 20, 2), Novelty::Copy);
    assert_eq!(nonces.say(sources[2], 1 << 60, 2), Novelty::Refused);
    assert!(nonces.forgotten_young() > 0);
    for nonce in 0..100 {
        assert_eq!(nonces.say(sources[3], nonce, 2), Novelty::Copy);
    }
    nonces.check();
}

#[test]
fn where_copies_come_back_the_young_stay_and_the_new_is_refused() {
    let (mut nonces, sources) = nonces(300);
    assert_eq!(nonces.say(sources[0], 0, 0), Novelty::New);
    assert_eq!(nonces.say(sources[1], 0, 0), Novelty::Copy);
    let mut said = HashMap::new();
    for nonce in 0..10_000 {
        let novelty = nonces.say(sources[0], PAGE as u64 + nonce, 1);
        *said.entry(novelty == Novelty::Refused).or_insert(0) += 1;
    }
    assert_eq!(
        said[&false],
        234 * PAGE - PAGE,
        "three quarters of the room"
    );
    assert!(!nonces.has_room(sources[0], YOUNG - 1) && nonces.has_room(sources[2], 1));
    assert!(nonces.has_room(sources[0], YOUNG + 1));
    // Other sources have room.
    assert_eq!(nonces.say(sources[2], 1 << 40, 1), Novelty::New);
    // Accepted frames are known, and refused frames are refused from every source.
    for nonce in 0..said[&false] as u64 {
        assert_eq!(
            nonces.say(sources[1], PAGE as u64 + nonce, 1_000),
            Novelty::Copy
        );
    }
    assert_eq!(
        nonces.say(sources[0], PAGE as u64 + 9_000, 9_000),
        Novelty::Refused
    );
    // Frames too old for copies make room.
    assert_eq!(nonces.forgotten_young(), 0);
    assert_eq!(
        nonces.say(sources[0], PAGE as u64 + 9_000, YOUNG + 1),
        Novelty::New
    );
    nonces.check();
}

#[test]
fn what_this_node_said_is_known_also_when_it_is_forgotten() {
    let (mut nonces, sources) = nonces(10);
    let first = u64::MAX - 500;
    for nonce in 0..2_000 {
        let nonce = first.wrapping_add(nonce);
        assert!(goes_on(nonces.say(Source::NODE, nonce, 0)));
        assert_eq!(nonces.say(sources[0], nonce, 0), Novelty::Copy);
    }
    for nonce in 0..2_000 {
        let nonce = first.wrapping_add(nonce);
        assert_eq!(nonces.say(sources[0], nonce, 1), Novelty::Copy);
    }
    assert!(goes_on(nonces.say(sources[0], first - 1, 1)));
    nonces.check();
}

#[test]
fn those_who_come_and_go_do_not_take_all_the_room() {
    let (mut nonces, sources) = nonces(400);
    let mut places = Sources::new(TTL);
    assert_eq!(nonces.say(sources[0], 1, 0), Novelty::New);
    assert_eq!(nonces.say(sources[1], 1, 0), Novelty::Copy);
    for round in 0..100_u64 {
        let guest = places.open(0);
        let guest = Source { place: 7, ..guest };
        for nonce in 0..1_000 {
            nonces.say(guest, (round << 32 | nonce) << 10, 0);
        }
        nonces.close(guest);
        places.close(guest, 0);
        nonces.check();
    }
    let fresh = (1..1_000_u64).map(|at| nonces.say(sources[3], u64::MAX - (at << 10), 1));
    let taken = fresh.filter(|novelty| goes_on(*novelty)).count();
    assert!(taken >= 30, "as beside one who stays, and not {taken}");
    // No frame of the short-lived sources was evicted, so none can be sent a second time.
    assert_eq!(nonces.forgotten_young(), 0);
    assert_eq!(nonces.say(sources[2], 1 << 10, 1), Novelty::Copy);
    assert_eq!(nonces.say(sources[2], 1, 1), Novelty::Copy);
}

/// Adding to another source's oldest page keeps only that page.
#[test]
fn a_page_that_is_kept_young_keeps_none_of_those_behind_it() {
    let (mut nonces, sources) = nonces(600);
    nonces.say(sources[0], 0, 0);
    let (mut clock, mut refused) = (0, 0);
    for frame in 1..3_000_u64 {
        clock = frame * 500;
        if frame % 200 == 0 {
            nonces.say(sources[1], frame / 200, clock);
        }
        let scattered = |frame: u64| frame << 20;
        refused += u64::from(!goes_on(nonces.say(sources[0], scattered(frame), clock)));
        // So many copies arrive so late that nothing is evicted before it expires.
        if let Some(late) = frame.checked_sub(90) {
            for _ in 0..8 {
                nonces.say(sources[1], scattered(late), clock);
            }
        }
    }
    assert_eq!(refused, 0, "at {clock}");
    nonces.check();
}

#[test]
fn a_frame_that_is_forgotten_is_new_once_more_and_its_neighbours_are_not() {
    let (mut nonces, sources) = nonces(1000);
    for nonce in 0..40 {
        assert!(goes_on(nonces.say(sources[0], nonce, 0)));
    }
    nonces.forget(7, identity(7, 0), 5);
    nonces.forget(8, identity(8, 1), 5);
    nonces.check();
    for nonce in 0..40 {
        let novelty = nonces.say(sources[1], nonce, 10);
        assert_eq!(novelty == Novelty::Copy, nonce != 7, "{nonce}");
    }
    assert_eq!(nonces.say(sources[2], 7, 10), Novelty::Copy);
    // What has expired meanwhile is another frame.
    nonces.forget(7, identity(7, 0), TTL);
    assert_eq!(nonces.say(sources[2], 7, 10), Novelty::Copy);
}

proptest! {
    /// With sufficient room, it behaves like a map from frames to times.
    #[test]
    fn behaves_like_a_map(
        steps in prop::collection::vec((0..3_usize, 0..60_u64, 0..3_u64, 0..400_u64, 0..4_u8), 1..400),
    ) {
        let (mut nonces, sources) = nonces(100_000);
        // Time of the last addition to each page, because its frames expire together.
        let mut pages: HashMap<u64, u64> = HashMap::new();
        let mut known: HashMap<(u64, u64), u64> = HashMap::new();
        let mut clock = 0;
        for (source, nonce, payload, step, forget) in steps {
            clock += step * step;
            let identity = identity(nonce, payload);
            let novelty = nonces.insert(sources[source], nonce, identity, clock);
            let page = pages.get(&(nonce / PAGE as u64)).copied();
            match known.get(&(nonce, payload)) {
                Some(said) if clock - said < TTL => prop_assert_eq!(novelty, Novelty::Copy),
                // Other frames of the page may keep it longer.
                Some(_) if page.is_some_and(|page| clock - page < TTL) => {}
                _ => prop_assert_eq!(novelty, Novelty::New),
            }
            if novelty == Novelty::New {
                known.insert((nonce, payload), clock);
                pages.insert(nonce / PAGE as u64, clock);
            }
            if novelty == Novelty::New && forget == 0 {
                nonces.forget(nonce, identity, 0);
                known.remove(&(nonce, payload));
            }
            nonces.check();
        }
    }
}

#[test]
fn the_queues_give_back_what_a_burst_has_taken_while_others_go_on() {
    let (mut nonces, sources) = nonces(100_000);
    let source = sources[0];
    for number in 0..20_000 {
        nonces.say(source, number * PAGE as u64, 0);
    }
    let taken = nonces.sources[source.place].queue.capacity();
    assert!(taken >= 20_000, "{taken}");
    // There is always a young frame, so the set is never empty.
    for second in 0..400 {
        let nonce = (1 << 40) + second * PAGE as u64;
        nonces.say(source, nonce, 1000 * second);
    }
    let left = nonces.sources[source.place].queue.capacity();
    assert!(left <= 4 * 200, "{left}");
}
