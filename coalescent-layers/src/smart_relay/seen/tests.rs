use rand::SeedableRng;
use rand::rngs::StdRng;

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
    // Content that begins with the bytes of a nonce is not the frame with that nonce.
    assert_ne!(identity, hasher.identity(None, b"12345678beep"));
    assert_ne!(identity, other.identity(Some(nonce), b"beep"));
    assert_ne!(
        Hasher::random().identity(None, b""),
        Hasher::random().identity(None, b"")
    );
    assert_eq!(format!("{hasher:?}"), "Hasher { .. }");
}

/// Returns a set, and a source of frames.
fn seen(limits: Limits) -> (Seen, Source, Instant) {
    let now = Instant::now();
    let mut seen = Seen::new(limits);
    let source = seen.open(now);
    (seen, source, now)
}

#[test]
fn a_flood_of_lines_does_not_push_out_nonces() {
    let (mut seen, source, now) = seen(Limits {
        capacity: 100,
        ..Limits::default()
    });
    assert_eq!(seen.insert(source, Some(1), 1, now), Novelty::New);
    for line in 0..10_000 {
        assert_eq!(seen.insert(source, None, line, now), Novelty::New);
    }
    let later = now + seconds(1);
    assert_eq!(seen.insert(source, Some(1), 1, later), Novelty::Copy);
    assert!(seen.forgotten_young() > 9_900);
}

#[test]
fn a_clock_read_before_the_lock_was_taken_is_no_trouble() {
    let (mut seen, one, start) = seen(Limits::default());
    let other = seen.open(start);
    let start = start + seconds(10);
    let mut copy = |source, identity, now| seen.insert(source, None, identity, now);
    assert_eq!(copy(one, 1, start), Novelty::New);
    assert_eq!(copy(one, 2, start - seconds(6)), Novelty::New);
    assert_eq!(copy(other, 1, start - seconds(7)), Novelty::Copy);
    assert_eq!(copy(other, 2, start + millis(4_999)), Novelty::Copy);
    assert_eq!(copy(other, 2, start + seconds(5)), Novelty::New);
}

/// Returns whether a frame is handled and relayed.
fn goes_on(novelty: Novelty) -> bool {
    matches!(novelty, Novelty::New | Novelty::Last)
}

/// Sends new frames until one is refused, then closes the source. Returns how many were accepted.
fn flood_and_go(seen: &mut Seen, nonced: bool, round: u64, now: Instant) -> usize {
    let hasher = Hasher::new(&mut StdRng::seed_from_u64(round));
    let source = seen.open(now);
    let said = (0..30_000_u64).map(|frame| {
        let nonce = (round << 20 | frame) << 10;
        let identity = hasher.identity(nonced.then_some(nonce), &frame.to_be_bytes());
        seen.insert(source, nonced.then_some(nonce), identity, now)
    });
    let taken = said.take_while(|novelty| goes_on(*novelty)).count();
    seen.close(source, now);
    taken
}

/// A peer that sends a frame, floods, and sends it again, on a new connection each time, is not
/// accepted twice and takes no room from other peers.
#[test]
fn one_who_comes_back_again_and_again_gets_nothing_by_it() {
    for nonced in [true, false] {
        let (mut seen, honest, now) = seen(Limits {
            capacity: 1 << 17,
            ..Limits::default()
        });
        let (other, first) = (seen.open(now), seen.open(now));
        let nonce = |nonce| nonced.then_some(nonce);
        assert_eq!(seen.insert(first, nonce(1), 1, now), Novelty::New);
        assert_eq!(seen.insert(other, nonce(1), 1, now), Novelty::Copy);
        seen.close(first, now);
        let taken: usize = (0..300)
            .map(|round| flood_and_go(&mut seen, nonced, round, now))
            .sum();
        assert!(taken > 10_000, "{taken}");
        let again = seen.open(now);
        let novelty = seen.insert(again, nonce(1), 1, now);
        assert!(!goes_on(novelty), "{novelty:?} with nonces: {nonced}");
        for number in 2..12 {
            let novelty = seen.insert(honest, nonce(number << 50), number.into(), now);
            assert!(goes_on(novelty), "{novelty:?} with nonces: {nonced}");
        }
        assert_eq!(seen.forgotten_young(), 0);
    }
}

/// Every bound holds, no matter who sends what.
#[test]
fn memory_is_bounded_and_is_given_back() {
    let limits = Limits {
        capacity: 1 << 14,
        ..Limits::default()
    };
    let (mut seen, _, now) = seen(limits);
    assert_eq!(seen.bytes(), 0);
    let hasher = Hasher::new(&mut StdRng::seed_from_u64(1));
    let sources: Vec<Source> = (0..8).map(|_| seen.open(now)).collect();
    for nonce in 0..200_000_u64 {
        // Consecutive and scattered nonces.
        for nonce in [nonce, nonce << 40] {
            let identity = hasher.identity(Some(nonce), b"");
            seen.insert(sources[nonce as usize % 8], Some(nonce), identity, now);
        }
        let identity = hasher.identity(None, &nonce.to_be_bytes());
        seen.insert(sources[nonce as usize % 8], None, identity, now);
    }
    let bound = 2 * limits.capacity * FRAME_BYTES;
    assert!(seen.bytes() <= bound, "{} > {bound}", seen.bytes());
    assert!(seen.bytes() > bound / 2);
    let later = now + TTL;
    seen.insert(sources[0], Some(1), 1, later);
    seen.insert(sources[0], None, 1, later);
    assert_eq!(seen.len(), 2);
    assert!(seen.bytes() < 16 * 1024, "{}", seen.bytes());
}
