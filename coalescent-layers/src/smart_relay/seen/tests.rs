use std::collections::VecDeque;

use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};

use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn identities_differ_by_key_nonce_payload_and_domain() {
    let hasher = Hasher::new(&mut StdRng::seed_from_u64(1));
    let other = Hasher::new(&mut StdRng::seed_from_u64(2));
    let nonce = u64::from_be_bytes(*b"12345678");
    let identity = hasher.identity(Some(nonce), b"beep");
    assert_eq!(identity, hasher.identity(Some(nonce), b"beep"));
    assert_ne!(identity, hasher.identity(Some(nonce + 1), b"beep"));
    assert_ne!(identity, hasher.identity(Some(nonce), b"boop"));
    assert_ne!(identity, hasher.identity(None, b"beep"));
    // The nonce's bytes in front of the content do not make the frame with that nonce.
    assert_ne!(identity, hasher.identity(None, b"12345678beep"));
    assert_ne!(identity, other.identity(Some(nonce), b"beep"));
    assert_ne!(
        Hasher::random().identity(None, b""),
        Hasher::random().identity(None, b"")
    );
    assert_eq!(format!("{hasher:?}"), "Hasher { .. }");
}

#[test]
fn a_nonce_is_remembered_for_its_time_and_no_longer() {
    let start = Instant::now();
    let mut seen = Seen::default();
    assert!(seen.insert(7, Class::Nonce, start));
    assert!(!seen.insert(7, Class::Nonce, start + seconds(60)));
    assert!(!seen.insert(7, Class::Nonce, start + millis(119_999)));
    assert!(seen.insert(7, Class::Nonce, start + seconds(120)));
}

#[test]
fn a_line_repeated_every_four_seconds_is_not_silenced_for_ever() {
    let start = Instant::now();
    let mut seen = Seen::default();
    let said: Vec<bool> = (0..6)
        .map(|n| seen.insert(7, Class::Content, start + seconds(4 * n)))
        .collect();
    assert_eq!(said, [true, false, true, false, true, false]);
}

#[test]
fn a_flood_of_lines_does_not_push_out_nonces() {
    let start = Instant::now();
    let mut seen = Seen::new(100, TTL, CONTENT_TTL);
    assert!(seen.insert(1, Class::Nonce, start));
    for line in 0..10_000 {
        assert!(seen.insert(line, Class::Content, start));
    }
    assert!(!seen.insert(1, Class::Nonce, start + seconds(1)));
    assert_eq!(seen.evicted_young(), 9_900);
}

#[test]
fn the_oldest_makes_room_and_only_a_young_one_is_counted() {
    let start = Instant::now();
    let mut seen = Seen::new(3, TTL, CONTENT_TTL);
    for identity in 0..3 {
        assert!(seen.insert(identity, Class::Nonce, start));
    }
    assert!(seen.insert(3, Class::Nonce, start));
    assert_eq!((seen.len(), seen.evicted_young()), (3, 1));
    assert!(
        seen.insert(0, Class::Nonce, start),
        "the oldest was forgotten"
    );
    assert!(!seen.insert(3, Class::Nonce, start));
    assert_eq!(seen.evicted_young(), 2);
    for identity in 10..13 {
        assert!(seen.insert(identity, Class::Nonce, start + TTL));
    }
    assert_eq!(seen.evicted_young(), 2, "expired ones are no loss");
}

#[test]
fn memory_grows_with_use_and_is_given_back() {
    let start = Instant::now();
    let mut seen = Seen::default();
    assert_eq!(seen.bytes(), 0);
    seen.insert(1, Class::Nonce, start);
    assert_eq!(seen.bytes(), 64 * 28);
    let hasher = Hasher::new(&mut StdRng::seed_from_u64(1));
    for nonce in 0..200_000 {
        seen.insert(hasher.identity(Some(nonce), b""), Class::Nonce, start);
    }
    assert_eq!(seen.len(), CAPACITY);
    assert_eq!(seen.bytes(), CAPACITY * 28);
    seen.insert(1, Class::Nonce, start + TTL);
    assert_eq!((seen.len(), seen.bytes()), (1, 64 * 28));
}

/// Around 49.7 days the clock's lower 32 bits start again, and after the idle time an old age would look young.
#[test]
fn weeks_of_uptime_do_not_confuse_the_ages() {
    let start = Instant::now();
    let wrap = millis(1 << 32);
    let mut seen = Seen::default();
    assert!(seen.insert(1, Class::Nonce, start));
    assert!(seen.insert(2, Class::Nonce, start + wrap - seconds(60)));
    assert!(!seen.insert(2, Class::Nonce, start + wrap + seconds(59)));
    assert!(seen.insert(2, Class::Nonce, start + wrap + seconds(60)));
    // Silent for exactly one turn of the clock.
    assert!(seen.insert(2, Class::Nonce, start + wrap + wrap + seconds(61)));
    assert!(seen.insert(1, Class::Nonce, start + wrap + wrap + seconds(61)));
}

#[test]
fn a_clock_read_before_the_lock_was_taken_is_no_trouble() {
    let start = Instant::now() + seconds(10);
    let mut seen = Seen::default();
    assert!(seen.insert(1, Class::Content, start));
    assert!(seen.insert(2, Class::Content, start - seconds(6)));
    assert!(!seen.insert(1, Class::Content, start - seconds(7)));
    assert!(!seen.insert(2, Class::Content, start + millis(4_999)));
    assert!(seen.insert(2, Class::Content, start + seconds(5)));
}

/// What the window should do, in the simplest way.
struct Model {
    capacity: usize,
    ttl: u64,
    clock: u64,
    entries: VecDeque<(u128, u64)>,
    evicted_young: u64,
}

impl Model {
    fn insert(&mut self, identity: u128, at: u64) -> bool {
        self.clock = self.clock.max(at);
        let (clock, ttl) = (self.clock, self.ttl);
        self.entries.retain(|(_, at)| clock - at < ttl);
        if self.entries.iter().any(|(known, _)| *known == identity) {
            return false;
        }
        if self.entries.len() == self.capacity {
            self.entries.pop_front();
            self.evicted_young += 1;
        }
        self.entries.push_back((identity, clock));
        true
    }
}

/// Identities of which many have one tag, and many crowd the first line of the index and the last.
fn identity() -> impl Strategy<Value = u128> {
    let low = prop_oneof![0..4_u128, Just(u128::from(u32::MAX)), 0..1_000_u128];
    let middle = 0..20_u128;
    let upper = prop_oneof![
        4 => Just(0),
        4 => Just(u128::from(u32::MAX)),
        1 => any::<u32>().prop_map(u128::from),
    ];
    (low, middle, upper).prop_map(|(low, middle, upper)| low | middle << 32 | upper << 96)
}

proptest! {
    #[test]
    fn behaves_like_the_model(
        capacity in prop_oneof![1..6_usize, 60..140_usize],
        ttl in 0..50_u64,
        steps in prop::collection::vec((identity(), 0..30_u64, 0..100_u8), 1..800),
    ) {
        let start = Instant::now();
        let mut seen = Seen::new(capacity, millis(ttl), millis(1));
        let mut model =
            Model { capacity, ttl, clock: 0, entries: VecDeque::new(), evicted_young: 0 };
        let mut at: u64 = 0;
        for (identity, step, chance) in steps {
            match chance {
                0 => at += 1 << 32,
                1..4 => at = at.saturating_sub(step),
                4..20 => at += step,
                _ => {}
            }
            let expected = model.insert(identity, at);
            prop_assert_eq!(seen.insert(identity, Class::Nonce, start + millis(at)), expected);
            prop_assert_eq!(seen.len(), model.entries.len());
            prop_assert_eq!(seen.evicted_young(), model.evicted_young);
            seen.nonces.check();
        }
    }
}
