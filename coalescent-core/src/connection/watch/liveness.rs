//! Whether a peer is still there, and how it learns that we are: decisions only.

use std::time::Duration;

use tokio::time::Instant;

use super::slow::SLOW_FLOOR;

/// How much later than promised a poll may come before this process counts as having been stopped
/// meanwhile.
const STALL: Duration = Duration::from_secs(1);

/// How long silence is borne.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LivenessConfig {
    /// How long a peer is silent before it is sent a PING. `None` on wires that have no PING.
    /// Default: 30 s.
    pub(crate) ping_every: Option<Duration>,
    /// How long a peer may take to send anything after a PING. Default: 20 s.
    pub(crate) answer_within: Duration,
    /// How long a frame may take from its first byte to its last, without the time when we did not
    /// read, and besides what its length takes. `None` on wires whose frames may take any time.
    /// Default: 30 s.
    pub(crate) frame_within: Option<Duration>,
    /// How fast a frame must come, in bytes a second, beyond what comes in `frame_within`, and be
    /// taken while a PING waits behind it. At 0 no length gives a frame any more time than that.
    /// Default: 16 KiB.
    pub(crate) frame_floor: u64,
}

impl LivenessConfig {
    /// How long a frame may take of which `len` bytes are known: all of them where its length
    /// stands before it, else those that have come. Who sends as slowly as it may is done after
    /// what the frame limit takes.
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
    /// Poll again at this instant, or after the next input.
    Wait(Instant),
    /// Poll again after the next input; no time limit runs.
    Idle,
}

/// Why a peer counts as gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum Reason {
    /// Nothing came in the time to answer a PING.
    NoAnswer,
}

/// Watches one connection.
///
/// The connection reads what has arrived, reports it, and then calls [`poll`](Self::poll): after
/// each input, and at each instant that a poll named. In that order an answer that waits in the
/// socket is found before the deadline is.
///
/// - Any byte received counts as life, not only a PONG.
/// - While the connection holds back reading, the peer can't be judged: all its time limits rest.
///   The peer's own PINGs lie unread, too, and its deadline for our answer runs: so we send a PING
///   every half `answer_within` as a sign of life. This goes on until one sign after reading was
///   taken up again, since a connection that reads now and then may have a PING of the peer behind
///   much else in the socket.
/// - A frame that takes long is such a time, too: the peer's PING stands behind it in the stream.
///   So the peer gets the same signs while one is not complete, and a thin line is not given up for
///   a large frame on it.
/// - A PING of our own may wait behind a frame that is being written, and that a thin line takes
///   its time for. Until the PING is written, a peer that takes as much of the frame as it must
///   need not answer.
/// - When this process or machine was stopped for a while, which shows in a poll that comes long
///   after the instant it was promised for, the peer gets its time to answer anew.
#[derive(Debug)]
pub(crate) struct Liveness {
    config: LivenessConfig,
    /// Whether we read from the peer.
    reading: bool,
    /// When bytes came last.
    heard: Instant,
    /// When the time to answer began, if a PING is unanswered.
    asked: Option<Instant>,
    /// What the peer had taken when it was last seen to take enough, while a PING waits to be
    /// written.
    taken: Option<(u64, Instant)>,
    frame: Option<Frame>,
    /// Whether reading was held back at some time since `signed`.
    held: bool,
    /// When the peer had a sign of life last; meaningful if `held`.
    signed: Instant,
    /// What the last poll promised.
    promised: Option<Instant>,
}

/// A frame of which the first byte has come, but not the last.
#[derive(Clone, Copy, Debug)]
struct Frame {
    /// What it has used of its time before `since`.
    spent: Duration,
    since: Instant,
    /// How many bytes of it are known of.
    len: usize,
}

impl Liveness {
    /// Begins to watch a connection that reads.
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

    /// Notes that bytes came, whatever they are.
    pub(crate) fn received(&mut self, now: Instant) {
        self.heard = self.heard.max(now);
        self.asked = None;
        self.taken = None;
    }

    /// Notes that a PING still waits to be written, behind a frame of which the peer has taken a
    /// part: `taken` bytes in all, since the beginning. As long as it takes what it must, its time
    /// to answer has not begun.
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

    /// Notes what was decoded since the last call: whether a frame was `completed`, and where bytes
    /// of one that is not complete are left, how long that one is as far as is known.
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

    /// Tells when the frame that is not complete, if there is one, calls for the next poll: at its
    /// deadline, or for a sign of life.
    pub(crate) fn frame_instant(&self) -> Option<Instant> {
        let instants = [self.frame_deadline(), self.sign_deadline()];
        self.frame.and(instants.into_iter().flatten().min())
    }

    /// Notes that bytes were written to the peer, which are a sign of life. Optional: it spares
    /// PINGs.
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

    /// Takes back the time in which this process was stopped.
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
            // What arrived meanwhile is in the socket; the rest may still be under way.
            frame.spent = spent.min(within.saturating_sub(self.config.answer_within));
            frame.since = now;
        }
    }
}

/// The instant `pause` after `start`; none if it is beyond what the clock can count.
fn after(start: Instant, pause: Duration) -> Option<Instant> {
    start.checked_add(pause)
}

#[cfg(test)]
#[path = "liveness_tests.rs"]
mod tests;
