//! Decides whether a peer is still there, and when it must be shown that we are. Reads no clock.

use std::time::Duration;

use tokio::time::Instant;

use super::slow::SLOW_FLOOR;

/// If a poll comes later than promised by more than this, the process is taken to have been
/// suspended.
const STALL: Duration = Duration::from_secs(1);

/// The time limits for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LivenessConfig {
    /// How long a peer is silent before it is sent a PING. `None` on wires that have no PING.
    /// Default: 30 s.
    pub(crate) ping_every: Option<Duration>,
    /// How long a peer may take to send anything after a PING. Default: 20 s.
    pub(crate) answer_within: Duration,
    /// How long a frame may take from its first byte to its last, in addition to the time that its
    /// length takes at `frame_floor`. Time in which we do not read is not counted. `None` on wires
    /// whose frames may take any time. Default: 30 s.
    pub(crate) frame_within: Option<Duration>,
    /// The lowest rate at which a long frame must arrive, in bytes a second, and at which the peer
    /// must take a frame while a PING waits behind it. At 0, every frame must arrive in
    /// `frame_within`. Default: 16 KiB.
    pub(crate) frame_floor: u64,
}

impl LivenessConfig {
    /// Returns how long a frame may take of which `len` bytes are known: its length if that stands
    /// before it, else the bytes that have come.
    fn frame_time(&self, len: usize) -> Option<Duration> {
        let millis = (len as u64)
            .saturating_mul(1000)
            .checked_div(self.frame_floor)
            .unwrap_or(0);
        let within = self.frame_within?;
        Some(within.saturating_add(Duration::from_millis(millis)))
    }
}

impl Default for LivenessConfig {
    fn default() -> Self {
        Self {
            ping_every: Some(Duration::from_secs(30)),
            answer_within: Duration::from_secs(20),
            frame_within: Some(Duration::from_secs(30)),
            frame_floor: SLOW_FLOOR,
        }
    }
}

/// What a connection must do for its liveness now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send a PING, then poll again.
    SendPing,
    /// Close: the peer is gone.
    Dead(Reason),
    /// Close: the peer began a frame and did not end it in time.
    FrameTimeout,
    /// Poll again at this instant, or after the next input if that is earlier.
    Wait(Instant),
    /// Poll again after the next input. No time limit runs.
    Idle,
}

/// Why a peer counts as gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum Reason {
    /// Nothing came in the time to answer a PING.
    NoAnswer,
}

/// The time limits of one connection.
///
/// The connection reads what has arrived, reports it, and then calls [`poll`](Self::poll): after
/// each input, and at each instant that a poll named. In that order, an answer that waits in the
/// socket is found before its deadline expires.
///
/// - Any byte received counts as a sign of life, not only a PONG.
/// - While we do not read, the peer cannot be judged, so all its time limits are stopped. Its own
///   PINGs lie unread while its deadline for our answer runs. So we send a PING every half
///   `answer_within` as a sign of life, up to one after we read again: the peer's PING may lie
///   behind much else in the socket.
/// - The same holds while a long frame arrives, since the peer's PING stands behind it in the
///   stream. So the peer gets the same signs, and a slow line is not given up for a large frame.
/// - Our own PING may wait behind a frame that is being written to a slow line. Until the PING is
///   written, a peer that takes the frame at `frame_floor` need not answer.
/// - When this process or machine was suspended, a poll comes long after the instant that was
///   promised. Then the time to answer begins again.
#[derive(Debug)]
pub(crate) struct Liveness {
    config: LivenessConfig,
    /// Whether we read from the peer.
    reading: bool,
    /// When bytes came last.
    heard: Instant,
    /// When the time to answer began, if a PING is unanswered.
    asked: Option<Instant>,
    /// The bytes that the peer had taken when it was last seen to take enough, while a PING waits
    /// to be written.
    taken: Option<(u64, Instant)>,
    frame: Option<Frame>,
    /// Whether reading was held back at some time since `signed`.
    held: bool,
    /// When the peer was last sent a sign of life. Meaningful if `held`.
    signed: Instant,
    /// The instant for which the last poll promised the next one.
    promised: Option<Instant>,
}

/// A frame that has arrived in part.
#[derive(Clone, Copy, Debug)]
struct Frame {
    /// The part of its time that was used before `since`.
    spent: Duration,
    since: Instant,
    /// How many bytes of it are known; see `frame_time`.
    len: usize,
}

impl Liveness {
    /// Starts the limits of a connection that reads.
    pub(crate) fn new(config: LivenessConfig, now: Instant) -> Self {
        Self {
            config,
            reading: true,
            heard: now,
            asked: None,
            taken: None,
            frame: None,
            held: false,
            signed: now,
            promised: None,
        }
    }

    /// Notes that bytes came, of whatever kind.
    pub(crate) fn received(&mut self, now: Instant) {
        self.heard = self.heard.max(now);
        self.asked = None;
        self.taken = None;
    }

    /// Notes that a PING still waits to be written behind a frame, and that the peer has taken
    /// `taken` bytes since the connection began. While it takes them fast enough, its time to
    /// answer does not begin.
    pub(crate) fn not_asked_yet(&mut self, taken: u64, now: Instant) {
        if self.asked.is_none() {
            return;
        }
        let (before, since) = *self.taken.get_or_insert((taken, now));
        let took = taken.saturating_sub(before);
        let lived = now.saturating_duration_since(since).as_millis();
        let owed = u128::from(self.config.frame_floor) * lived;
        if took > 0 && u128::from(took) * 1000 >= owed {
            self.asked = Some(now);
            self.taken = Some((taken, now));
        }
    }

    /// Notes whether a frame was `completed` since the last call, and the length of the frame that
    /// has arrived in part, as far as it is known, if there is one.
    pub(crate) fn decoded(&mut self, completed: bool, partial: Option<usize>, now: Instant) {
        if completed || partial.is_none() {
            self.frame = None;
        }
        if let Some(len) = partial {
            let frame = self.frame.get_or_insert(Frame {
                spent: Duration::ZERO,
                since: now,
                len,
            });
            frame.len = frame.len.max(len);
        }
    }

    /// Returns when a frame that has arrived in part needs the next poll: at its deadline, or for a
    /// sign of life.
    pub(crate) fn frame_instant(&self) -> Option<Instant> {
        let instants = [self.frame_deadline(), self.sign_deadline()];
        self.frame.and(instants.into_iter().flatten().min())
    }

    /// Notes that the peer was sent a sign of life.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.held = self.held && !self.reading;
        self.signed = now;
    }

    /// Notes whether the connection reads from the peer.
    pub(crate) fn reading(&mut self, reading: bool, now: Instant) {
        if self.reading == reading {
            return;
        }
        self.catch_up(now);
        self.reading = reading;
        if reading {
            self.asked = self.asked.map(|_| now);
        } else if !self.held {
            // Up to here, the peer's PINGs were answered.
            self.held = true;
            self.signed = now;
        }
        if let Some(frame) = &mut self.frame {
            if !reading {
                frame.spent += now.saturating_duration_since(frame.since);
            }
            frame.since = now;
        }
    }

    /// Decides what to do now.
    pub(crate) fn poll(&mut self, now: Instant) -> Action {
        self.catch_up(now);
        let action = self.decide(now);
        self.promised = match action {
            Action::Wait(at) => Some(at),
            _ => None,
        };
        action
    }

    fn decide(&mut self, now: Instant) -> Action {
        let frame = self.frame_deadline();
        if frame.is_some_and(|at| at <= now) {
            return Action::FrameTimeout;
        }
        let answer = self.answer_deadline();
        if answer.is_some_and(|at| at <= now) {
            return Action::Dead(Reason::NoAnswer);
        }
        let silence = self.silence_deadline();
        if silence.is_some_and(|at| at <= now) {
            self.asked = Some(now);
            self.sent(now);
            return Action::SendPing;
        }
        let sign = self.sign_deadline();
        if sign.is_some_and(|at| at <= now) {
            self.sent(now);
            return Action::SendPing;
        }
        let first = [frame, answer, silence, sign].into_iter().flatten().min();
        first.map_or(Action::Idle, Action::Wait)
    }

    fn frame_deadline(&self) -> Option<Instant> {
        let frame = self.frame?;
        let within = self.config.frame_time(frame.len)?;
        if self.reading {
            after(frame.since, within.saturating_sub(frame.spent))
        } else {
            None
        }
    }

    fn answer_deadline(&self) -> Option<Instant> {
        let asked = self.asked?;
        if self.reading {
            after(asked, self.config.answer_within)
        } else {
            None
        }
    }

    fn silence_deadline(&self) -> Option<Instant> {
        let ask = self.reading && self.asked.is_none();
        if ask {
            after(self.heard, self.config.ping_every?)
        } else {
            None
        }
    }

    fn sign_deadline(&self) -> Option<Instant> {
        self.config.ping_every?;
        if self.held || self.frame.is_some() {
            after(self.signed, self.config.answer_within / 2)
        } else {
            None
        }
    }

    /// Discounts the time in which this process was suspended.
    fn catch_up(&mut self, now: Instant) {
        let Some(promised) = self
            .promised
            .take_if(|at| now.saturating_duration_since(*at) > STALL)
        else {
            return;
        };
        self.asked = self.asked.map(|_| now);
        if let (true, Some(frame)) = (self.reading, &mut self.frame)
            && let Some(within) = self.config.frame_time(frame.len)
        {
            let spent = frame.spent + promised.saturating_duration_since(frame.since);
            // Bytes that arrived meanwhile are in the socket; others may still be under way.
            frame.spent = spent.min(within.saturating_sub(self.config.answer_within));
            frame.since = now;
        }
    }
}

/// Returns the instant `pause` after `start`, or `None` if the clock cannot express it.
fn after(start: Instant, pause: Duration) -> Option<Instant> {
    start.checked_add(pause)
}

#[cfg(test)]
#[path = "liveness_tests.rs"]
mod tests;
