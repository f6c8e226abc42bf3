//! Decides whether a connected peer is still there, when a new connection claims to be that peer.
//! Reads no clock.

use std::time::Duration;

use tokio::time::Instant;

use crate::node::standing::ANSWER_WITHIN;

/// If a poll comes later than promised by more than this, the process is taken to have been
/// suspended.
const STALL: Duration = Duration::from_secs(1);

/// A PING to one peer that must be answered soon.
///
/// Any byte received is an answer. While the connection does not read, an answer may lie unread, so
/// the time is stopped. The time is short, [`ANSWER_WITHIN`], but not so short that somebody who
/// claims a busy peer's number can have it disconnected:
///
/// - bytes written since the peer was last heard may lie before the PING, and get their time at the
///   lowest rate that is allowed;
/// - a peer whose socket takes no more may have stopped reading, and gets the time that it has to
///   answer any PING.
///
/// It is never longer than the time for any PING.
#[derive(Debug, Default)]
pub(super) struct Challenge(Option<Asked>);

#[derive(Debug)]
struct Asked {
    since: Instant,
    within: Duration,
    reading: bool,
    promised: Option<Instant>,
}

/// The decision about a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The peer was not asked, or has answered, or is not read from.
    Idle,
    /// Poll again at this instant, or after the next input.
    Wait(Instant),
    /// The peer has not answered in time.
    Dead,
}

/// The bytes on their way to the peer when it was asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ahead {
    /// The number of bytes written since anything was received.
    pub(super) unheard: u64,
    /// Whether more bytes wait that the socket has no room for.
    pub(super) blocked: bool,
}

impl Challenge {
    /// Starts the challenge. Returns false if it runs already.
    ///
    /// `floor` is the lowest rate that is allowed, in bytes a second, and `ordinary` the time to
    /// answer any PING.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        reading: bool,
        ahead: Ahead,
        floor: u64,
        ordinary: Duration,
    ) -> bool {
        if self.0.is_some() {
            return false;
        }
        let on_its_way = ahead.unheard.checked_div(floor).unwrap_or(u64::MAX);
        let needs = ANSWER_WITHIN.saturating_add(Duration::from_secs(on_its_way));
        self.0 = Some(Asked {
            since: now,
            within: if ahead.blocked {
                ordinary
            } else {
                needs.min(ordinary)
            },
            reading,
            promised: None,
        });
        true
    }

    /// Notes that bytes came. Returns whether that answers a challenge.
    pub(super) fn received(&mut self) -> bool {
        self.0.take().is_some()
    }

    /// Notes whether the connection reads from the peer.
    pub(super) fn reading(&mut self, reading: bool, now: Instant) {
        if let Some(asked) = &mut self.0
            && asked.reading != reading
        {
            asked.reading = reading;
            asked.since = now;
            asked.promised = None;
        }
    }

    /// Decides what to do now.
    pub(super) fn poll(&mut self, now: Instant) -> Verdict {
        let Some(asked) = &mut self.0 else {
            return Verdict::Idle;
        };
        if !asked.reading {
            return Verdict::Idle;
        }
        let late = asked
            .promised
            .is_some_and(|at| now.saturating_duration_since(at) > STALL);
        if late {
            asked.since = now;
        }
        let Some(end) = asked.since.checked_add(asked.within) else {
            return Verdict::Idle;
        };
        if now >= end {
            return Verdict::Dead;
        }
        asked.promised = Some(end);
        Verdict::Wait(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDINARY: Duration = Duration::from_secs(20);
    const FLOOR: u64 = 16 * 1024;

    fn asked(now: Instant, reading: bool, ahead: Ahead) -> Challenge {
        let mut challenge = Challenge::default();
        assert!(challenge.ask(now, reading, ahead, FLOOR, ORDINARY));
        assert!(
            !challenge.ask(now, reading, ahead, FLOOR, ORDINARY),
            "once is enough"
        );
        challenge
    }

    #[test]
    fn a_silent_peer_is_dead_after_a_short_time() {
        let now = Instant::now();
        let mut challenge = asked(now, true, Ahead::default());
        let end = now + ANSWER_WITHIN;
        assert_eq!(challenge.poll(now), Verdict::Wait(end));
        assert_eq!(challenge.poll(end), Verdict::Dead);
    }

    #[test]
    fn any_byte_answers_once() {
        let now = Instant::now();
        let mut challenge = asked(now, true, Ahead::default());
        assert!(challenge.received());
        assert!(!challenge.received());
        assert_eq!(challenge.poll(now + ORDINARY), Verdict::Idle);
    }

    #[test]
    fn bytes_under_way_extend_the_time_up_to_that_of_any_ping() {
        let now = Instant::now();
        for (unheard, blocked, within) in [
            (4 * FLOOR, false, ANSWER_WITHIN + Duration::from_secs(4)),
            (1 << 30, false, ORDINARY),
            (0, true, ORDINARY),
        ] {
            let mut challenge = asked(now, true, Ahead { unheard, blocked });
            assert_eq!(challenge.poll(now), Verdict::Wait(now + within));
        }
    }

    #[test]
    fn time_without_reading_does_not_count() {
        let now = Instant::now();
        let mut challenge = asked(now, false, Ahead::default());
        assert_eq!(challenge.poll(now + ORDINARY), Verdict::Idle);
        let later = now + 2 * ORDINARY;
        challenge.reading(true, later);
        assert_eq!(challenge.poll(later), Verdict::Wait(later + ANSWER_WITHIN));
        // The process was suspended.
        let woken = later + 3 * ORDINARY;
        assert_eq!(challenge.poll(woken), Verdict::Wait(woken + ANSWER_WITHIN));
    }
}
