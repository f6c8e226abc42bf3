//! Control frames on their way out. They are written before all else that waits.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

/// How many bytes of control frames may wait. A peer that sends pings without reading the answers
/// is disconnected when this is exceeded.
pub const MAX_CONTROL: usize = 4 * 1024;

/// The queue of control frames that one connection writes next.
#[derive(Debug, Default)]
pub(super) struct Control(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    bytes: BytesMut,
    /// Wakes the writer when a frame is queued.
    writer: Option<Waker>,
    /// The payload of the last PING and the time it was queued, until it is answered.
    asked: Option<([u8; 8], Instant)>,
}

impl Control {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an encoded control frame. Returns false if there is no room for it.
    pub(super) fn push(&self, frame: &[u8]) -> bool {
        let mut state = self.state();
        if state.bytes.len() + frame.len() > MAX_CONTROL {
            return false;
        }
        state.bytes.extend_from_slice(frame);
        if let Some(writer) = state.writer.take() {
            drop(state);
            writer.wake();
        }
        true
    }

    /// Notes the payload of the PING that was queued at `now`.
    pub(super) fn asked(&self, ping: [u8; 8], now: Instant) {
        self.state().asked = Some((ping, now));
    }

    /// Returns the round-trip time if `pong`, received at `now`, answers the last PING.
    pub(super) fn answered(&self, pong: &[u8], now: Instant) -> Option<Duration> {
        let mut state = self.state();
        let (_, at) = state.asked.take_if(|(ping, _)| ping == pong)?;
        Some(now.saturating_duration_since(at))
    }

    /// Returns whether frames wait to be taken. They wait for the end of a frame that was written
    /// in part.
    pub(super) fn is_waiting(&self) -> bool {
        !self.state().bytes.is_empty()
    }

    /// Takes all frames that wait. Pending if there are none.
    pub(super) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Bytes> {
        let mut state = self.state();
        if state.bytes.is_empty() {
            match &mut state.writer {
                Some(waker) if waker.will_wake(cx.waker()) => {}
                slot => *slot = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        Poll::Ready(std::mem::take(&mut state.bytes).freeze())
    }
}
