use proptest::prelude::*;

use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn start() -> (Instant, Liveness) {
    let now = Instant::now();
    (now, Liveness::new(LivenessConfig::default(), now))
}

#[test]
fn a_silent_peer_is_asked_then_given_up() {
    let (now, mut live) = start();
    assert_eq!(live.poll(now), Action::Wait(now + seconds(30)));
    assert_eq!(live.poll(now + seconds(30)), Action::SendPing);
    assert_eq!(
        live.poll(now + seconds(30)),
        Action::Wait(now + seconds(50))
    );
    assert_eq!(live.poll(now + seconds(50)), Action::Dead(Reason::NoAnswer));
}

#[test]
fn any_byte_is_a_sign_of_life() {
    let (now, mut live) = start();
    live.poll(now + seconds(30));
    live.received(now + seconds(49));
    assert_eq!(
        live.poll(now + seconds(49)),
        Action::Wait(now + seconds(79))
    );
}

#[test]
fn the_time_of_a_frame_runs_from_its_first_byte() {
    let (now, mut live) = start();
    for second in 0..30 {
        let now = now + seconds(second);
        live.received(now);
        live.decoded(false, Some(1), now);
        // The peer's PING stands behind the rest of the frame, so the peer gets signs of life.
        if second > 0 && second % 10 == 0 {
            assert_eq!(live.poll(now), Action::SendPing);
        }
        assert!(matches!(live.poll(now), Action::Wait(_)));
    }
    assert_eq!(live.poll(now + seconds(30)), Action::FrameTimeout);
    // The end of one frame and the first bytes of the next.
    live.received(now + seconds(30));
    live.decoded(true, Some(1), now + seconds(30));
    assert_eq!(live.poll(now + seconds(59)), Action::SendPing, "a sign");
    assert_eq!(
        live.poll(now + seconds(59)),
        Action::Wait(now + seconds(60))
    );
    live.decoded(true, None, now + seconds(59));
    assert_eq!(
        live.poll(now + seconds(59)),
        Action::Wait(now + seconds(60)),
        "a PING"
    );
}

#[test]
fn the_time_of_a_frame_stops_while_we_do_not_read() {
    let (now, mut live) = start();
    live.decoded(false, Some(1), now);
    live.reading(false, now + seconds(10));
    for sign in 2..60 {
        assert_eq!(live.poll(now + seconds(10 * sign)), Action::SendPing);
        assert_eq!(
            live.poll(now + seconds(10 * sign)),
            Action::Wait(now + seconds(10 * sign + 10))
        );
    }
    live.reading(true, now + seconds(600));
    live.received(now + seconds(600));
    assert_eq!(live.poll(now + seconds(600)), Action::SendPing);
    assert_eq!(
        live.poll(now + seconds(600)),
        Action::Wait(now + seconds(610))
    );
    assert_eq!(live.poll(now + seconds(610)), Action::SendPing);
    assert_eq!(
        live.poll(now + seconds(610)),
        Action::Wait(now + seconds(620))
    );
    assert_eq!(live.poll(now + seconds(620)), Action::FrameTimeout);
}

#[test]
fn the_time_to_answer_begins_again_when_we_read() {
    let (now, mut live) = start();
    assert_eq!(live.poll(now + seconds(30)), Action::SendPing);
    live.reading(false, now + seconds(40));
    assert_eq!(live.poll(now + seconds(50)), Action::SendPing);
    assert_eq!(
        live.poll(now + seconds(51)),
        Action::Wait(now + seconds(60))
    );
    live.reading(true, now + seconds(55));
    assert_eq!(
        live.poll(now + seconds(60)),
        Action::SendPing,
        "one sign more"
    );
    assert_eq!(
        live.poll(now + seconds(60)),
        Action::Wait(now + seconds(75))
    );
    assert_eq!(live.poll(now + seconds(75)), Action::Dead(Reason::NoAnswer));
}

/// The peer's PING may lie behind other bytes, of which we read some now and then.
#[test]
fn signs_continue_when_reading_stops_and_starts() {
    let (now, mut live) = start();
    let mut sign = 0;
    for second in 0..100 {
        let at = now + seconds(second);
        live.reading(second % 3 == 0, at);
        live.received(at);
        if live.poll(at) == Action::SendPing {
            sign = second;
        }
        assert!(second - sign <= 12, "silent for {} s", second - sign);
    }
}

#[test]
fn bytes_that_are_written_replace_signs() {
    let (now, mut live) = start();
    live.reading(false, now);
    for second in 1..100 {
        live.sent(now + seconds(second));
        assert_eq!(
            live.poll(now + seconds(second)),
            Action::Wait(now + seconds(second + 10))
        );
    }
}

#[test]
fn after_a_suspension_the_peer_is_asked_first() {
    let (now, mut live) = start();
    live.poll(now);
    let woken = now + seconds(10_000);
    assert_eq!(live.poll(woken), Action::SendPing);
    assert_eq!(live.poll(woken), Action::Wait(woken + seconds(20)));
    assert_eq!(
        live.poll(woken + seconds(20)),
        Action::Dead(Reason::NoAnswer)
    );
}

#[test]
fn a_suspension_restarts_the_time_to_answer() {
    let (now, mut live) = start();
    live.poll(now + seconds(30));
    live.poll(now + seconds(30));
    let woken = now + seconds(10_000);
    assert_eq!(live.poll(woken), Action::Wait(woken + seconds(20)));
    assert_eq!(
        live.poll(woken + seconds(20)),
        Action::Dead(Reason::NoAnswer)
    );
}

#[test]
fn a_suspension_within_a_frame_leaves_the_frame_time() {
    let (now, mut live) = start();
    live.decoded(false, Some(1), now);
    live.poll(now);
    let woken = now + seconds(10_000);
    live.received(woken);
    live.decoded(false, Some(1), woken);
    assert_eq!(live.poll(woken), Action::SendPing, "a sign");
    assert_eq!(live.poll(woken), Action::Wait(woken + seconds(10)));
    assert_eq!(live.poll(woken + seconds(10)), Action::SendPing);
    assert_eq!(
        live.poll(woken + seconds(10)),
        Action::Wait(woken + seconds(20))
    );
    assert_eq!(live.poll(woken + seconds(20)), Action::FrameTimeout);
}

/// Receives a frame of `len` bytes at `rate` bytes a second, whose length is `known` before or not.
/// Returns after how many seconds it is complete (`Ok`) or given up (`Err`). The peer sends nothing
/// else.
fn dribble(len: usize, rate: usize, known: bool) -> Result<u64, u64> {
    let (now, mut live) = start();
    let mut come = 1;
    for second in 0.. {
        let at = now + seconds(second);
        live.received(at);
        let partial = if known { len } else { come };
        live.decoded(false, Some(partial), at);
        while live.poll(at) == Action::SendPing {}
        if live.poll(at) == Action::FrameTimeout {
            return Err(second);
        }
        come += rate;
        if come >= len {
            return Ok(second + 1);
        }
    }
    unreachable!("it ends")
}

#[test]
fn a_frame_has_the_time_that_its_length_takes_at_the_floor() {
    const KIB: usize = 1024;
    for known in [true, false] {
        for len in [KIB * KIB, 16 * KIB * KIB] {
            // A line at the floor is fast enough.
            for rate in [16 * KIB, 24 * KIB, 1000 * KIB] {
                let done = dribble(len, rate, known);
                assert_eq!(done, Ok(len.div_ceil(rate) as u64), "{rate} {known}");
            }
        }
        // So is a slightly slower one, within the time that every frame has.
        assert_eq!(dribble(KIB * KIB, 12 * KIB, known), Ok(86));
    }
    // Half of the floor is too slow, and is given up when a line at the floor would be done.
    assert_eq!(dribble(KIB * KIB, 8 * KIB, true), Err(94));
    assert_eq!(dribble(KIB * KIB, 8 * KIB, false), Err(60));
    // A large announced length, or a byte a second, gains no more time.
    assert_eq!(dribble(KIB * KIB, 1, true), Err(94));
    assert_eq!(dribble(KIB * KIB, 1, false), Err(31));
}

#[test]
fn the_time_for_a_length_stops_while_we_do_not_read_and_is_0_without_a_floor() {
    let (now, mut live) = start();
    live.decoded(false, Some(16 * 1024 * 30), now);
    live.reading(false, now + seconds(50));
    live.reading(true, now + seconds(500));
    live.received(now + seconds(500));
    while live.poll(now + seconds(509)) == Action::SendPing {}
    assert_eq!(
        live.poll(now + seconds(509)),
        Action::Wait(now + seconds(510))
    );
    assert_eq!(live.poll(now + seconds(510)), Action::FrameTimeout);

    let config = LivenessConfig {
        frame_floor: 0,
        ping_every: None,
        ..LivenessConfig::default()
    };
    let mut live = Liveness::new(config, now);
    live.decoded(false, Some(usize::MAX), now);
    assert_eq!(live.poll(now), Action::Wait(now + seconds(30)));
    let config = LivenessConfig {
        frame_floor: 1,
        ..config
    };
    let mut live = Liveness::new(config, now);
    live.decoded(false, Some(usize::MAX), now);
    assert!(matches!(live.poll(now), Action::Wait(at) if at > now + seconds(1 << 40)));
}

#[test]
fn a_ping_behind_a_frame_need_not_be_answered_while_the_frame_is_taken() {
    // The rate, and for how many seconds the frame is taken until the PING is written.
    for (rate, takes, given_up) in [
        (24 * 1024, 600, 30 + 600 + 20),
        (16 * 1024, 600, 30 + 600 + 20),
        (24 * 1024, 0, 50),
        // Too slow, so the time to answer runs.
        (100, 600, 50),
        (8 * 1024, 600, 50),
    ] {
        let (now, mut live) = start();
        let mut written = 0;
        let mut second = 30;
        assert_eq!(live.poll(now + seconds(second)), Action::SendPing);
        let dead = loop {
            let at = now + seconds(second);
            if second <= 30 + takes {
                live.not_asked_yet(written, at);
            }
            // Polled when it asked to be, not in each step.
            let Action::Wait(until) = live.poll(at) else {
                break second;
            };
            let pause = (until - at).as_secs();
            second += pause;
            written += rate * pause;
        };
        assert!(dead <= given_up && dead + 20 >= given_up, "{rate}: {dead}");
        if rate < 16 * 1024 || takes == 0 {
            assert_eq!(dead, 50, "{rate}");
        }
    }
    // Any byte of the peer still counts.
    let (now, mut live) = start();
    live.poll(now + seconds(30));
    live.not_asked_yet(7, now + seconds(30));
    live.received(now + seconds(40));
    live.not_asked_yet(8, now + seconds(41));
    assert_eq!(
        live.poll(now + seconds(41)),
        Action::Wait(now + seconds(70))
    );
}

/// The sender of a large frame over a slow line hears nothing for that time, and its PING stands
/// behind the frame. It must not give the receiver up.
#[test]
fn the_sender_of_a_slow_frame_gets_signs_of_life() {
    let now = Instant::now();
    let mut sender = Liveness::new(LivenessConfig::default(), now);
    let mut receiver = Liveness::new(LivenessConfig::default(), now);
    for second in 0..1000 {
        let at = now + seconds(second);
        receiver.received(at);
        receiver.decoded(false, Some(16 << 20), at);
        match receiver.poll(at) {
            Action::SendPing => sender.received(at),
            action => assert!(matches!(action, Action::Wait(_)), "{action:?}"),
        }
        // The sender's own PING does not get through.
        assert!(!matches!(sender.poll(at), Action::Dead(_)), "at {second}");
    }
}

#[test]
fn a_wire_without_pings_is_idle() {
    let now = Instant::now();
    let config = LivenessConfig {
        ping_every: None,
        frame_within: None,
        ..LivenessConfig::default()
    };
    let mut live = Liveness::new(config, now);
    live.decoded(false, Some(1), now);
    assert_eq!(live.poll(now), Action::Idle);
    live.reading(false, now);
    assert_eq!(live.poll(now + seconds(999)), Action::Idle);
    let config = LivenessConfig {
        ping_every: Some(Duration::MAX),
        ..config
    };
    assert_eq!(Liveness::new(config, now).poll(now), Action::Idle);
}

proptest! {
    /// Two ends watch each other. `a` reads only now and then, and answers each PING when it reads
    /// that. Neither may give the other up. If `alive` is false, `b` is gone, and `a` must notice
    /// once it reads.
    #[test]
    fn live_peers_are_kept_and_dead_ones_found(
        pauses in prop::collection::vec((0..100_u64, 0..40_u64), 1..30),
        stalls in prop::collection::vec(0..3000_u64, 0..3),
        alive: bool,
    ) {
        let start = Instant::now();
        let mut a = Liveness::new(LivenessConfig::default(), start);
        let mut b = Liveness::new(LivenessConfig::default(), start);
        let mut schedule = pauses.into_iter().flat_map(|(held, read)| [(false, held), (true, read)]);
        let (mut reads, mut left) = (true, 0);
        let (mut unread, mut second, mut end) = (0, 0, None);
        let mut steps = 0;
        while end.is_none_or(|end| steps < end) {
            steps += 1;
            second += 1;
            if stalls.contains(&steps) { second += 500; }
            let now = start + seconds(second);
            if left == 0 {
                match schedule.next() {
                    Some(next) => (reads, left) = next,
                    None => { reads = true; left = u64::MAX; end = Some(steps + 120); }
                }
                a.reading(reads, now);
            }
            left = left.saturating_sub(1);
            if reads && unread > 0 { a.received(now); b.received(now); unread = 0; }
            match a.poll(now) {
                Action::SendPing if alive => { b.received(now); unread += 1; }
                Action::Dead(_) => { prop_assert!(!alive); return Ok(()); }
                Action::FrameTimeout => prop_assert!(false),
                _ => {}
            }
            if alive {
                match b.poll(now) {
                    Action::SendPing => unread += 1,
                    Action::Dead(_) => prop_assert!(false, "the one that holds back was given up"),
                    _ => {}
                }
            }
        }
        prop_assert!(alive, "the dead was not found");
    }
}
