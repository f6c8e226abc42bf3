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

/// A set, and a source that brings frames to it.
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
    assert_eq!(seen.insert(source, Some(1), 1, now), Verdict::New);
    for line in 0..10_000 {
        assert_eq!(seen.insert(source, None, line, now), Verdict::New);
    }
    let later = now + seconds(1);
    assert_eq!(seen.insert(source, Some(1), 1, later), Verdict::Copy);
    assert!(seen.forgotten_young() > 9_900);
}

#[test]
fn a_clock_read_before_the_lock_was_taken_is_no_trouble() {
    let (mut seen, one, start) = seen(Limits::default());
    let other = seen.open(start);
    let start = start + seconds(10);
    let mut copy = |source, identity, now| seen.insert(source, None, identity, now);
    assert_eq!(copy(one, 1, start), Verdict::New);
    assert_eq!(copy(one, 2, start - seconds(6)), Verdict::New);
    assert_eq!(copy(other, 1, start - seconds(7)), Verdict::Copy);
    assert_eq!(copy(other, 2, start + millis(4_999)), Verdict::Copy);
    assert_eq!(copy(other, 2, start + seconds(5)), Verdict::New);
}

/// Each bound holds, whoever says what.
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
        // Neighbours, and numbers far apart.
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
