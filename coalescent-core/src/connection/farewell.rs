//! How long a connection that ends waits for its peer to close too.

use std::time::Duration;

use tokio::time::Instant;

use super::handshake::LINGER;

/// How long a peer that has only the goodbye to read may stay silent before the connection is
/// closed: 2 seconds. A peer that is well closes at once.
pub(super) const SILENCE: Duration = Duration::from_secs(2);

/// What was written since the connection began to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Frames, without a goodbye: the wire has none that would tell the peer to close.
    NoGoodbye,
    /// Only a goodbye.
    GoodbyeAlone,
    /// Frames and a goodbye. How fast the peer reads them is not known.
    FramesAndGoodbye,
}

/// Decides until when to wait. Never beyond the deadline of the connection.
#[derive(Debug)]
pub(super) struct Farewell {
    deadline: Instant,
    /// When frames of the peer are no longer handled, so that what it sends then can be discarded.
    last: Instant,
    /// What was written, and how many bytes the peer has sent so far; `None` while that goes on.
    written: Option<(Written, u64)>,
    was_silent: bool,
}

impl Farewell {
    /// Begins at `now`. Up to [`LINGER`] at the end is kept for bytes that are only discarded.
    pub(super) fn new(deadline: Instant, now: Instant) -> Self {
        let left = deadline.saturating_duration_since(now);
        Self {
            deadline,
            last: now + left.saturating_sub(LINGER.min(left / 2)),
            written: None,
            was_silent: false,
        }
    }

    /// Returns until when this node may write.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Takes note that all is written, while the peer has sent `heard` bytes. Returns until when to
    /// handle what it sends.
    pub(super) fn written(&mut self, written: Written, heard: u64, now: Instant) -> Instant {
        self.written = Some((written, heard));
        match written {
            Written::NoGoodbye => self.last.min(now + LINGER),
            Written::GoodbyeAlone => self.last.min(now + SILENCE),
            Written::FramesAndGoodbye => self.last,
        }
    }

    /// Returns until when to go on handling what the peer sends when the time is up that was told
    /// before, or `None` if no longer. The peer has sent `heard` bytes by now.
    pub(super) fn go_on(&mut self, heard: u64, is_handled: bool, now: Instant) -> Option<Instant> {
        match &mut self.written {
            Some((Written::GoodbyeAlone, before)) if now < self.last => {
                if is_handled && heard == *before {
                    self.was_silent = true;
                    return None;
                }
                *before = heard;
                Some(self.last.min(now + SILENCE))
            }
            _ => None,
        }
    }

    /// Returns until when bytes of the peer are discarded, once they are no longer handled. Of one
    /// that was silent no more are expected.
    pub(super) fn discard_until(&self, now: Instant) -> Instant {
        if self.was_silent {
            now
        } else {
            self.deadline.min(now + LINGER)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn after(written: Written, drain: Duration) -> (Farewell, Instant, Instant) {
        let now = Instant::now();
        let mut farewell = Farewell::new(now + drain, now);
        let until = farewell.written(written, 7, now);
        (farewell, now, until)
    }

    #[test]
    fn who_has_only_the_goodbye_to_read_is_not_waited_for_in_silence() {
        let (mut farewell, now, until) = after(Written::GoodbyeAlone, 10 * SECOND);
        assert_eq!(until, now + SILENCE);
        assert_eq!(farewell.go_on(7, true, until), None);
        assert_eq!(farewell.discard_until(until), until);
    }

    #[test]
    fn who_sends_or_is_served_is_waited_for_but_not_for_ever() {
        for (heard, is_handled) in [(0, false), (1, true)] {
            let (mut farewell, now, mut until) = after(Written::GoodbyeAlone, 10 * SECOND);
            let mut sent = 7;
            for _ in 0..4 {
                sent += heard;
                until = farewell.go_on(sent, is_handled, until).expect("more time");
            }
            // The last second is for what is only discarded.
            assert_eq!(until, now + 9 * SECOND);
            assert_eq!(farewell.go_on(sent + heard, is_handled, until), None);
            assert_eq!(farewell.discard_until(until), now + 10 * SECOND);
        }
    }

    #[test]
    fn who_has_frames_to_read_has_the_whole_time() {
        let (mut farewell, now, until) = after(Written::FramesAndGoodbye, 10 * SECOND);
        assert_eq!(until, now + 9 * SECOND);
        assert_eq!(farewell.go_on(7, true, until), None);
        assert_eq!(farewell.discard_until(until), now + 10 * SECOND);
    }

    #[test]
    fn who_knows_no_goodbye_is_waited_for_a_second() {
        let (mut farewell, now, until) = after(Written::NoGoodbye, 10 * SECOND);
        assert_eq!(until, now + LINGER);
        assert_eq!(farewell.go_on(8, false, until), None);
        assert_eq!(farewell.discard_until(until), until + LINGER);
    }

    #[test]
    fn all_is_over_by_the_deadline() {
        let written = [
            Written::NoGoodbye,
            Written::GoodbyeAlone,
            Written::FramesAndGoodbye,
        ];
        for drain in [Duration::ZERO, SECOND / 10, SECOND, 3 * SECOND] {
            for written in written {
                let (mut farewell, now, mut until) = after(written, drain);
                let mut heard = 7;
                while let Some(later) = farewell.go_on(heard, false, until) {
                    assert!(later > until);
                    (until, heard) = (later, heard + 1);
                }
                assert!(until <= now + drain);
                assert!(farewell.discard_until(until) <= now + drain);
            }
        }
    }
}
