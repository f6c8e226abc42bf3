//! Watches whether the peer is still there, and takes what it is sent.
//!
//! The decisions are in [`liveness`], [`slow`] and [`challenge`], which are given the time.

mod challenge;
mod liveness;
mod slow;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use challenge::{Ahead, Challenge, Verdict};
use liveness::{Action, Liveness, LivenessConfig, Reason};
use slow::{Pressure, SlowGauge};
use tokio::time::{Instant, Sleep, sleep_until};

use super::control::Control;
use crate::node::peer::Peer;
use crate::node::peer::handle::ConnectionHandle;
use crate::reason::DisconnectReason;
use crate::wire::{Kind, Wire};

/// The timers of one connection.
#[derive(Debug)]
pub(super) struct Watchdog {
    peer: Peer,
    control: Arc<Control>,
    handle: Arc<ConnectionHandle>,
    liveness: Liveness,
    gauge: SlowGauge,
    challenge: Challenge,
    /// Whether the connection reads.
    reading: bool,
    /// How many bytes had been written when bytes came last.
    written_when_heard: u64,
    /// Whether to decide in the next poll, before the timer fires.
    due: bool,
    timer: Pin<Box<Sleep>>,
    /// When the timer fires, if it runs.
    waits_until: Option<Instant>,
}

impl Watchdog {
    pub(super) fn new(
        peer: &Peer,
        control: Arc<Control>,
        handle: Arc<ConnectionHandle>,
        now: Instant,
    ) -> Self {
        let config = peer.node().config();
        let wire = peer.wire();
        let liveness = LivenessConfig {
            ping_every: wire.has_handshake().then_some(config.ping_every),
            answer_within: config.answer_within,
            // Raw bytes have no frame that could be incomplete.
            frame_within: (*wire != Wire::raw()).then_some(config.frame_timeout),
            frame_floor: config.slow_floor,
        };
        Self {
            peer: peer.clone(),
            control,
            handle,
            liveness: Liveness::new(liveness, now),
            gauge: SlowGauge::new(config.patience, config.slow_floor, peer.penance()),
            challenge: Challenge::default(),
            reading: true,
            written_when_heard: 0,
            due: true,
            timer: Box::pin(sleep_until(now)),
            waits_until: None,
        }
    }

    /// Notes that bytes came, and what was decoded of them; see [`decoded`](Self::decoded).
    pub(super) fn read(&mut self, completed: bool, partial: Option<usize>, now: Instant) {
        self.liveness.received(now);
        self.written_when_heard = self.peer.counters().bytes_sent();
        let answered = self.challenge.received();
        self.decoded(completed, partial, now);
        if answered {
            self.peer.node().answered(&self.peer);
        }
    }

    /// Notes whether a frame was completed, and the length of the frame that has begun, as far as
    /// it is known, if there is one.
    pub(super) fn decoded(&mut self, completed: bool, partial: Option<usize>, now: Instant) {
        self.liveness.decoded(completed, partial, now);
        let instant = self.liveness.frame_instant();
        self.due |= instant.is_some_and(|at| self.waits_until.is_none_or(|until| at < until));
    }

    /// Notes whether the connection reads.
    #[inline]
    pub(super) fn reading(&mut self, reading: bool, now: Instant) {
        if self.reading == reading {
            return;
        }
        self.reading = reading;
        self.liveness.reading(reading, now);
        self.challenge.reading(reading, now);
        // While we do not read, the peer's pings go unanswered, so we must send our own.
        self.due = true;
    }

    /// Sends a PING when it is time to. Ready once the peer is given up, with the reason.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut now: Instant,
    ) -> Poll<DisconnectReason> {
        loop {
            if !self.poll_due(cx, &mut now) {
                return Poll::Pending;
            }
            self.due = false;
            if let Some(reason) = self.decide(now) {
                return Poll::Ready(reason);
            }
        }
    }

    /// Returns whether it is time to decide. If the timer has fired, it is not earlier than that.
    fn poll_due(&mut self, cx: &mut Context<'_>, now: &mut Instant) -> bool {
        if let Some(until) = self.waits_until
            && self.timer.as_mut().poll(cx).is_ready()
        {
            *now = until.max(*now);
            return true;
        }
        self.due
            || self.peer.outbox().poll_pressed(cx).is_ready()
            || self.handle.poll_asked(cx).is_ready()
    }

    /// Does what is due now, and sets the timer. Returns the reason if the peer is given up.
    fn decide(&mut self, now: Instant) -> Option<DisconnectReason> {
        let alive_until = loop {
            self.take_asks(now);
            self.gauge(now);
            match self.liveness.poll(now) {
                Action::Dead(Reason::NoAnswer) => return Some(DisconnectReason::NoAnswer),
                Action::FrameTimeout => return Some(DisconnectReason::FrameTimeout),
                Action::SendPing => {
                    self.ping(now);
                }
                Action::Wait(at) => break Some(at),
                Action::Idle => break None,
            }
        };
        let quick_until = match self.gauge.check(now, self.peer.outbox().written()) {
            // Handlers that wait for this peer hold back its frames, and so the peer itself if it
            // waits for this node in the same way.
            Pressure::Slow if !self.reading && self.peer.has_stuck_handlers() => {
                return Some(DisconnectReason::MutualWait);
            }
            Pressure::Slow => return Some(DisconnectReason::Slow),
            Pressure::Wait(at) => Some(at),
            Pressure::Idle => None,
        };
        let answer_until = match self.challenge.poll(now) {
            Verdict::Dead => return Some(DisconnectReason::NoAnswer),
            Verdict::Wait(at) => Some(at),
            Verdict::Idle => None,
        };
        let until = [alive_until, quick_until, answer_until];
        self.waits_until = until.into_iter().flatten().min();
        if let Some(until) = self.waits_until {
            self.timer.as_mut().reset(until);
        }
        None
    }

    /// Measures how the peer takes what it is sent.
    fn gauge(&mut self, now: Instant) {
        let outbox = self.peer.outbox();
        let written = outbox.written();
        if outbox.is_pressed() {
            self.gauge.pressed(now, written);
        } else {
            self.gauge.relieved(now, written);
        }
        if self.control.is_waiting() {
            self.liveness.not_asked_yet(written, now);
        }
    }

    /// Returns how much of its patience the peer has used up.
    pub(super) fn spent(&mut self, now: Instant) -> Duration {
        self.gauge.spent(now, self.peer.outbox().written())
    }

    /// Asks the peer what other connections want to know.
    fn take_asks(&mut self, now: Instant) {
        let (alive, tokens) = self.handle.take_asks();
        for token in tokens {
            self.control.push(&self.encode_ping(token));
        }
        if !alive {
            return;
        }
        let sent = self.peer.counters().bytes_sent();
        let asked = self.ping(now);
        let ahead = Ahead {
            unheard: sent.saturating_sub(self.written_when_heard),
            // Without room for a PING, plenty of other answers wait to be read.
            blocked: !asked || self.peer.outbox().used() > 0,
        };
        let config = self.peer.node().config();
        self.challenge.ask(
            now,
            self.reading,
            ahead,
            config.slow_floor,
            config.answer_within,
        );
    }

    /// Queues a PING. Returns false if there is no room for it: then plenty of other answers wait
    /// to be read.
    fn ping(&mut self, now: Instant) -> bool {
        let opaque: [u8; 8] = rand::random();
        let queued = self.control.push(&self.encode_ping(opaque));
        if queued {
            self.control.asked(opaque, now);
        }
        queued
    }

    fn encode_ping(&self, opaque: [u8; 8]) -> Bytes {
        let mut ping = BytesMut::new();
        let max = self.peer.node().config().max_frame;
        let mut codec = self.peer.wire().codec(max);
        // A PING of eight bytes fits every wire that has one.
        let _ = codec.encode(Kind::Ping, 0, &opaque, &mut ping);
        ping.freeze()
    }
}
