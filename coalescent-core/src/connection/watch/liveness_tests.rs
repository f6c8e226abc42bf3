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
fn any_byte_is_life() {
    let (now, mut live) = start();
    live.poll(now + seconds(30));
    live.received(now + seconds(49));
    assert_eq!(
        live.poll(now + seconds(49)),
        Action::Wait(now + seconds(79))
    );
}

#[test]
fn a_frame_has_its_time_from_its_first_byte_however_it_dribbles() {
    let (now, mut live) = start();
    for second in 0..30 {
        let now = now + seconds(second);
        live.received(now);
        live.decoded(false, Some(1), now);
        // Its own PING stands behind what is left of the frame: it gets signs of life meanwhile.
        if second > 0 && second % 10 == 0 {
            assert_eq!(live.poll(now), Action::SendPing);
        }
        assert!(matches!(live.poll(now), Action::Wait(_)));
    }
    assert_eq!(live.poll(now + seconds(30)), Action::FrameTimeout);
    // The end of one frame and the beginning of the next.
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
fn a_frame_does_not_age_while_nobody_reads() {
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
fn an_unanswered_ping_waits_until_we_read() {
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

/// The peer's PING may lie behind much else that we read now and then.
#[test]
fn signs_go_on_when_reading_stops_and_starts() {
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
fn what_is_written_anyway_is_sign_enough() {
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
fn a_suspension_during_the_time_to_answer_begins_it_anew() {
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
fn a_suspension_within_a_frame_leaves_it_time() {
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

/// The frame's first byte comes at `now`, then `rate` bytes a second. Returns after how many
/// seconds the frame is complete, or else given up. What the peer sends as frames is all that it
/// has to say.
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
fn a_frame_has_the_time_that_its_length_takes_on_a_thin_line() {
    const KIB: usize = 1024;
    for known in [true, false] {
        for len in [KIB * KIB, 16 * KIB * KIB] {
            // As long as the line is no thinner than the floor.
            for rate in [16 * KIB, 24 * KIB, 1000 * KIB] {
                let done = dribble(len, rate, known);
                assert_eq!(done, Ok(len.div_ceil(rate) as u64), "{rate} {known}");
            }
        }
        // A little less is made up for by the time that a short one has.
        assert_eq!(dribble(KIB * KIB, 12 * KIB, known), Ok(86));
    }
    // Half of the floor is too little, and no longer borne than all of it would take.
    assert_eq!(dribble(KIB * KIB, 8 * KIB, true), Err(94));
    assert_eq!(dribble(KIB * KIB, 8 * KIB, false), Err(60));
    // Nor does who announces much, or sends a byte a second, gain anything by it.
    assert_eq!(dribble(KIB * KIB, 1, true), Err(94));
    assert_eq!(dribble(KIB * KIB, 1, false), Err(31));
}

#[test]
fn the_time_for_a_length_rests_while_nobody_reads_and_a_floor_of_0_gives_none() {
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
fn who_takes_a_frame_in_time_need_not_answer_what_waits_behind_it() {
    // Bytes a second, and for how many seconds it takes them: then the PING is written.
    for (rate, takes, given_up) in [
        (24 * 1024, 600, 30 + 600 + 20),
        (16 * 1024, 600, 30 + 600 + 20),
        (24 * 1024, 0, 50),
        // Too little, in time that it does not get.
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
            // Asked when it said that it would be, not at each step.
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
    // Any byte of its own is still the better sign.
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

/// Who sends a large frame over a thin line hears nothing for that long, and what it asks stands
/// behind the frame. It must not give the receiver up.
#[test]
fn the_sender_of_a_frame_that_takes_long_gets_signs_of_life() {
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
        // Its own PING does not get through.
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
    /// Two ends watch each other; `a` reads only now and then, and answers PINGs only when it comes to them. Neither may
    /// give the other up. With `alive` off, `b` is gone, and `a` must notice, once it reads.
    #[test]
    fn the_living_are_kept_and_the_dead_found(
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
