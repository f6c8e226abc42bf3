//! Whether a peer is still there, and takes what it is sent: the clock at the edge of the decisions
//! in [`liveness`](liveness) and [`slow`](slow).

mod liveness;
mod slow;

use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use liveness::{Action, Liveness, LivenessConfig, Reason};
use slow::{Pressure, SlowGauge};
use tokio::time::{Instant, sleep_until};

use super::challenge::{Ahead, Challenge, Verdict};
use super::control::Control;
use crate::node::peer::Peer;
use crate::node::peer::handle::ConnectionHandle;
use crate::reason::DisconnectReason;
use crate::signal::Signal;
use crate::wire::{Kind, Wire};

/// Watches one connection.
#[derive(Debug)]
pub(super) struct Watchdog {
    peer: Peer,
    control: Arc<Control>,
    stop: Arc<ConnectionHandle>,
    state: Mutex<State>,
    /// What `state` knows of whether the connection reads; asked for at each read.
    reading: AtomicBool,
    /// A time limit now runs that ends before the one that is waited for.
    sooner: Signal,
}

#[derive(Debug)]
struct State {
    liveness: Liveness,
    gauge: SlowGauge,
    challenge: Challenge,
    /// What had been written when bytes came last.
    heard_at: u64,
    waits_until: Option<Instant>,
}

impl Watchdog {
    pub(super) fn new(peer: &Peer, control: Arc<Control>, stop: Arc<ConnectionHandle>) -> Self {
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
            stop,
            state: Mutex::new(State {
                liveness: Liveness::new(liveness, Instant::now()),
                gauge: SlowGauge::new(config.patience, config.slow_floor, peer.penance()),
                challenge: Challenge::default(),
                heard_at: 0,
                waits_until: None,
            }),
            reading: AtomicBool::new(true),
            sooner: Signal::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that bytes came, at `now`; and of what was decoded then, as
    /// [`decoded`](Watchdog::decoded).
    pub(super) fn read(&self, completed: bool, partial: Option<usize>, now: Instant) {
        let mut state = self.state();
        state.liveness.received(now);
        state.heard_at = self.peer.counters().bytes_sent();
        let answered = state.challenge.received();
        self.note(state, completed, partial, now);
        if answered {
            self.peer.node().answered(&self.peer);
        }
    }

    /// Notes whether a frame was completed, and where bytes of one that is not are left, how long
    /// that one is as far as is known.
    pub(super) fn decoded(&self, completed: bool, partial: Option<usize>, now: Instant) {
        self.note(self.state(), completed, partial, now);
    }

    fn note(
        &self,
        mut state: MutexGuard<'_, State>,
        completed: bool,
        partial: Option<usize>,
        now: Instant,
    ) {
        state.liveness.decoded(completed, partial, now);
        let instant = state.liveness.frame_instant();
        let sooner = instant.is_some_and(|at| state.waits_until.is_none_or(|until| at < until));
        drop(state);
        if sooner {
            self.sooner.raise();
        }
    }

    /// Notes whether the connection reads from the peer.
    pub(super) fn reading(&self, reading: bool) {
        if self.reading.swap(reading, Relaxed) == reading {
            return;
        }
        let now = Instant::now();
        let mut state = self.state();
        state.liveness.reading(reading, now);
        state.challenge.reading(reading, now);
        drop(state);
        // Holding back makes this node owe the peer signs of life.
        self.sooner.raise();
    }

    /// Waits until the peer is given up, and says why; asks it whether it is there in between.
    ///
    /// # Cancel safety
    ///
    /// Safe: what was found so far is kept.
    pub(super) async fn run(&self) -> DisconnectReason {
        let outbox = self.peer.outbox();
        loop {
            self.ask();
            let now = Instant::now();
            let (action, pressure, challenge) = {
                let mut state = self.state();
                if outbox.is_pressed() {
                    state.gauge.pressed(now, outbox.written());
                } else {
                    state.gauge.relieved(now, outbox.written());
                }
                let pressure = state.gauge.check(now, outbox.written());
                if self.control.is_waiting() {
                    state.liveness.not_asked_yet(outbox.written(), now);
                }
                let action = state.liveness.poll(now);
                (action, pressure, state.challenge.poll(now))
            };
            let alive_until = match action {
                Action::Dead(Reason::NoAnswer) => return DisconnectReason::NoAnswer,
                Action::FrameTimeout => return DisconnectReason::FrameTimeout,
                Action::SendPing => {
                    // Where there is no room for it, plenty of other answers wait to be read.
                    let opaque: [u8; 8] = rand::random();
                    if self.control.push(&self.ping(opaque)) {
                        self.control.asked(opaque);
                    }
                    continue;
                }
                Action::Wait(at) => Some(at),
                Action::Idle => None,
            };
            let quick_until = match pressure {
                Pressure::Slow => return DisconnectReason::Slow,
                Pressure::Wait(at) => Some(at),
                Pressure::Idle => None,
            };
            let answer_until = match challenge {
                Verdict::Dead => return DisconnectReason::NoAnswer,
                Verdict::Wait(at) => Some(at),
                Verdict::Idle => None,
            };
            let until = [alive_until, quick_until, answer_until];
            let until = until.into_iter().flatten().min();
            self.state().waits_until = until;
            // Less to keep than the futures of each, and less to poll.
            let mut wait = pin!(until.map(sleep_until));
            std::future::poll_fn(|cx| {
                let wait = wait.as_mut().as_pin_mut();
                let over = wait.is_some_and(|wait| wait.poll(cx).is_ready())
                    || outbox.poll_pressed(cx).is_ready()
                    || self.sooner.poll_raised(cx).is_ready()
                    || self.stop.poll_asked(cx).is_ready();
                if over { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
    }

    /// How much of its patience the peer has used up.
    pub(super) fn spent(&self) -> Duration {
        let written = self.peer.outbox().written();
        self.state().gauge.spent(Instant::now(), written)
    }

    /// Asks the peer what others want to know of it.
    fn ask(&self) {
        let (alive, tokens) = self.stop.take_asks();
        for token in tokens {
            self.control.push(&self.ping(token));
        }
        if !alive {
            return;
        }
        let sent = self.peer.counters().bytes_sent();
        let mut state = self.state();
        let opaque: [u8; 8] = rand::random();
        let asked = self.control.push(&self.ping(opaque));
        let ahead = Ahead {
            unheard: sent.saturating_sub(state.heard_at),
            // Where there is no room for a PING, plenty of other answers wait to be read.
            blocked: !asked || self.peer.outbox().used() > 0,
        };
        let config = self.peer.node().config();
        let reading = self.reading.load(Relaxed);
        state.challenge.ask(
            Instant::now(),
            reading,
            ahead,
            config.slow_floor,
            config.answer_within,
        );
        drop(state);
        if asked {
            self.control.asked(opaque);
        }
    }

    fn ping(&self, opaque: [u8; 8]) -> Bytes {
        let mut ping = BytesMut::new();
        let max = self.peer.node().config().max_frame;
        // A ping of eight bytes fits every wire that has one.
        let _ = self
            .peer
            .wire()
            .codec(max)
            .encode(Kind::Ping, 0, &opaque, &mut ping);
        ping.freeze()
    }
}
