//! Whether a peer is still there, asked since a newcomer says that it is that peer: decisions only.

use std::time::Duration;

use tokio::time::Instant;

use crate::node::standing::ANSWER_WITHIN;

/// How much later than promised a poll may come before this process counts as having been stopped
/// meanwhile.
const STALL: Duration = Duration::from_secs(1);

/// A question to one peer, and the time that it has to answer.
///
/// Any byte received is an answer. While the connection holds back reading, an answer may lie
/// unread, and the time rests. The time is short, [`ANSWER_WITHIN`], but never so short that
/// whoever claims a busy peer's number can have it cut off:
///
/// - what was written since the peer was heard may lie before the PING, and is allowed its time at
///   the pace that each peer is allowed;
/// - a peer that has no room for more may hold back its own reading, and then shows that it is
///   there in its own time, the one it has to answer any PING.
///
/// Nor is it ever longer than that.
#[derive(Debug, Default)]
pub(super) struct Challenge(Option<Asked>);

#[derive(Debug)]
struct Asked {
    since: Instant,
    within: Duration,
    reading: bool,
    promised: Option<Instant>,
}

/// What to do about a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing was asked, or it was answered.
    Idle,
    /// Poll again at this instant, or after the next input.
    Wait(Instant),
    /// The peer has not answered in time.
    Dead,
}

/// What was on its way to the peer when it was asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ahead {
    /// Bytes written since anything was received.
    pub(super) unheard: u64,
    /// Whether more waits, for which the socket has no room.
    pub(super) blocked: bool,
}

impl Challenge {
    /// Asks, if that is not so already. Returns whether a PING is to be sent.
    ///
    /// `floor` is the pace of the slowest line that is served, in bytes a second, and `ordinary`
    /// the time to answer any PING.
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

    /// Notes that bytes came. Returns whether that answers a question.
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
    fn silence_is_an_answer_after_a_short_time() {
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
    fn what_is_on_its_way_is_given_its_time_and_no_more_than_any_ping_has() {
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
    fn time_in_which_nobody_read_does_not_count() {
        let now = Instant::now();
        let mut challenge = asked(now, false, Ahead::default());
        assert_eq!(challenge.poll(now + ORDINARY), Verdict::Idle);
        let later = now + 2 * ORDINARY;
        challenge.reading(true, later);
        assert_eq!(challenge.poll(later), Verdict::Wait(later + ANSWER_WITHIN));
        // The process was stopped.
        let woken = later + 3 * ORDINARY;
        assert_eq!(challenge.poll(woken), Verdict::Wait(woken + ANSWER_WITHIN));
    }
}
