use coalescent_core::identity::Identity;
use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    past: 120_000,
    future: 30_000,
    capacity: 1600,
};

/// A day in 2026.
const START: u64 = 1_780_000_000_000;

fn key(number: u64) -> PublicKey {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    PublicKey::from_bytes(bytes).unwrap()
}

fn stamp(author: u64, at: u64, number: u64) -> Stamp {
    let mut sig = [0; 64];
    sig[..8].copy_from_slice(&number.to_be_bytes());
    Stamp::new(key(author), at, &sig)
}

/// A moment by which no clock has jumped.
fn after(millis: u64) -> Now {
    Now {
        wall: START + millis,
        steady: millis,
    }
}

/// A moment at which the wall clock differs from what it should be.
fn wrong(millis: u64, by: i64) -> Now {
    let wall = after(millis).wall.checked_add_signed(by).unwrap();
    Now {
        wall,
        steady: millis,
    }
}

#[test]
fn a_message_is_taken_once_and_in_time() {
    let mut window = Window::new(LIMITS);
    let now = after(0);
    let mut offer = |at| window.insert(&stamp(1, at, 1), now);
    assert_eq!(offer(START - 120_001), Err(Stale::Late));
    assert_eq!(offer(START - 120_000), Ok(()));
    assert_eq!(offer(START - 120_000), Err(Stale::Replayed));
    assert_eq!(offer(START + 30_000), Ok(()));
    assert_eq!(offer(START + 30_000), Err(Stale::Replayed));
    assert_eq!(offer(START + 30_001), Err(Stale::Early));
    assert_eq!(offer(u64::MAX), Err(Stale::Early));
    assert_eq!(offer(0), Err(Stale::Late));
    assert_eq!(window.insert(&stamp(2, START, 1), now), Ok(()));
    assert_eq!(window.insert(&stamp(1, START, 1), now), Ok(()));
    assert_eq!(window.insert(&stamp(1, START, 2), now), Ok(()));
}

#[test]
fn checking_remembers_nothing() {
    let mut window = Window::new(LIMITS);
    let stamp = stamp(1, START, 1);
    assert_eq!(window.check(&stamp, after(0)), Ok(()));
    assert_eq!(window.check(&stamp, after(0)), Ok(()));
    assert_eq!(window.len(), 0);
}

#[test]
fn what_is_too_old_anyway_is_forgotten() {
    let mut window = Window::new(LIMITS);
    window.insert(&stamp(1, START, 1), after(0)).unwrap();
    window
        .insert(&stamp(1, START + 30_000, 2), after(0))
        .unwrap();
    assert_eq!(
        window.check(&stamp(1, START, 1), after(120_000)),
        Err(Stale::Replayed)
    );
    assert_eq!(
        window.check(&stamp(1, START, 1), after(120_001)),
        Err(Stale::Late)
    );
    assert_eq!(window.len(), 1);
    let _ = window.check(&stamp(1, START, 1), after(150_001));
    assert_eq!((window.len(), window.shares.len()), (0, 0));
}

#[test]
fn one_author_cannot_evict_the_others() {
    let mut window = Window::new(LIMITS);
    window.insert(&stamp(1, START, 1), after(0)).unwrap();
    for number in 0..100_000 {
        let now = after(number / 1000);
        window.insert(&stamp(2, now.wall, number), now).ok();
        assert!(window.len() <= 101);
    }
    assert_eq!(
        window.check(&stamp(1, START, 1), after(1000)),
        Err(Stale::Replayed)
    );
    // What a third says takes as long as ever to arrive.
    assert_eq!(window.check(&stamp(3, START, 1), after(119_000)), Ok(()));
    // The busy author's own old messages cannot be told from replays any more.
    assert_eq!(
        window.check(&stamp(2, START, 1_000_000), after(1000)),
        Err(Stale::Crowded)
    );
}

#[test]
fn many_authors_narrow_the_window_and_let_no_replay_through() {
    let mut window = Window::new(LIMITS);
    let at = |number: u64| after(number / 100);
    let mut taken = 0;
    for number in 0..50_000 {
        let now = at(number);
        taken += u64::from(window.insert(&stamp(number, now.wall, 1), now).is_ok());
        assert!(window.len() <= LIMITS.capacity && window.shares.len() <= LIMITS.capacity);
    }
    // What comes in order of its time is taken, however full the window is.
    assert_eq!(taken, 50_000);
    for number in 0..50_000 {
        let again = window.insert(&stamp(number, at(number).wall, 1), at(50_000));
        assert!(matches!(again, Err(Stale::Replayed | Stale::Crowded)));
    }
}

#[test]
fn messages_from_the_future_cannot_shut_out_those_of_now() {
    let mut window = Window::new(LIMITS);
    for number in 0..100_000 {
        let _ = window.insert(&stamp(number, START + 30_000, 1), after(0));
    }
    assert_eq!(window.len(), LIMITS.capacity / 2);
    for number in 0..5_000 {
        let now = after(1_000 + number);
        // Some are half a second late.
        let at = now.wall - number % 2 * 500;
        assert_eq!(window.insert(&stamp(number, at, 2), now), Ok(()));
        let again = window.check(&stamp(number, at, 2), now);
        assert!(again.is_err(), "{again:?}");
    }
}

#[test]
fn a_flood_of_a_million_replays_takes_no_room() {
    let mut window = Window::new(Limits {
        capacity: CAPACITY,
        ..LIMITS
    });
    let said: Vec<_> = (0..100).map(|n| stamp(n % 3, START, n)).collect();
    for stamp in &said {
        window.insert(stamp, after(0)).unwrap();
    }
    for number in 0..1_000_000 {
        let stamp = &said[number as usize % said.len()];
        let now = after(number / 10);
        assert_eq!(window.insert(stamp, now), Err(Stale::Replayed));
    }
    assert_eq!(window.len(), said.len());
}

#[test]
fn a_flood_of_a_million_messages_takes_bounded_room() {
    let mut window = Window::new(Limits {
        capacity: CAPACITY,
        ..LIMITS
    });
    for number in 0..1_000_000 {
        let now = after(number / 100);
        window
            .insert(&stamp(number % 1000, now.wall, number), now)
            .unwrap();
        assert!(window.len() <= CAPACITY);
    }
    assert_eq!(window.by_author.len(), window.by_age.len());
}

#[test]
fn a_clock_that_goes_ahead_and_comes_back_lets_no_replay_through() {
    const HOUR: i64 = 3_600_000;
    let mut window = Window::new(LIMITS);
    let said = stamp(1, START, 1);
    window.insert(&said, after(0)).unwrap();
    // An hour ahead for a minute, in which messages of the right time are too late.
    let ahead = wrong(1_000, HOUR);
    assert_eq!(window.check(&said, ahead), Err(Stale::Late));
    // This node's own have the wrong time, more than its share of them.
    for number in 0..1_000 {
        let now = wrong(2_000 + number, HOUR);
        window.insert(&stamp(9, now.wall, number), now).unwrap();
    }
    assert_eq!(window.check(&said, after(60_000)), Err(Stale::Replayed));
    // All is as before at once, for this node too.
    let now = after(60_001);
    assert_eq!(window.insert(&stamp(2, now.wall, 1), now), Ok(()));
    assert_eq!(window.insert(&stamp(9, now.wall, 1), now), Ok(()));
}

#[test]
fn a_clock_that_was_ahead_all_along_is_followed() {
    const HOUR: i64 = 3_600_000;
    let mut window = Window::new(LIMITS);
    for number in 0..5_000 {
        let now = wrong(number, HOUR);
        window.insert(&stamp(number, now.wall, 1), now).unwrap();
    }
    let now = after(5_001);
    assert_eq!(window.insert(&stamp(1, now.wall, 1), now), Ok(()));
}

#[test]
fn a_clock_that_is_put_back_a_little_lets_no_replay_through() {
    let mut window = Window::new(LIMITS);
    let old = stamp(1, START, 1);
    window.insert(&old, after(0)).unwrap();
    // Too old, and forgotten.
    assert_eq!(window.check(&old, after(150_000)), Err(Stale::Late));
    assert_eq!(window.len(), 0);
    // By this clock it would be young again.
    let back = wrong(150_001, -60_000);
    assert_eq!(window.check(&old, back), Err(Stale::Crowded));
    assert_eq!(window.insert(&stamp(1, back.wall, 2), back), Ok(()));
}

#[test]
fn real_keys_are_told_apart() {
    let (alice, bob) = (Identity::generate(), Identity::generate());
    let mut window = Window::new(LIMITS);
    for identity in [&alice, &bob] {
        let sig = identity.sign(b"beep");
        let stamp = Stamp::new(identity.id(), START, &sig);
        assert_eq!(window.insert(&stamp, after(0)), Ok(()));
        assert_eq!(window.insert(&stamp, after(1)), Err(Stale::Replayed));
    }
}

proptest! {
    /// Whatever comes, and however the clock is slewed, nothing is taken twice, and room is
    /// bounded.
    #[test]
    fn nothing_is_taken_twice(
        offers in prop::collection::vec((0..5u64, 0..200u64, 0..3u64, 0..400u64, -900..900i64), 1..400),
        capacity in 1..40usize,
    ) {
        let limits = Limits { past: 100_000, future: 30_000, capacity };
        let mut window = Window::new(limits);
        let mut taken = std::collections::HashSet::new();
        let mut steady = 100_000;
        for (author, at, number, later, by) in offers {
            steady += later * 10;
            let now = wrong(steady, by);
            let at = START + at * 1000;
            if window.insert(&stamp(author, at, number), now).is_ok() {
                prop_assert!(taken.insert((author, at, number)));
            }
            prop_assert!(window.len() <= capacity);
            prop_assert_eq!(window.by_author.len(), window.by_age.len());
            let counted: usize = window.shares.values().map(|share| share.count).sum();
            prop_assert_eq!(counted, window.len());
        }
    }
}
