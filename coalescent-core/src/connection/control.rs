//! Control frames on their way out: they go before all else that waits.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

/// How many bytes of control frames may wait. A peer that sends pings and does not read the answers
/// is disconnected when they have piled up this high.
pub const MAX_CONTROL: usize = 4 * 1024;

/// The control frames that one connection is to write next.
#[derive(Debug, Default)]
pub(super) struct Control(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    bytes: BytesMut,
    writer: Option<Waker>,
    /// The last ping, until it is answered.
    asked: Option<([u8; 8], Instant)>,
}

impl Control {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an encoded control frame. Returns false where too many wait.
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

    /// Notes what the ping said that was queued just now.
    pub(super) fn asked(&self, ping: [u8; 8]) {
        self.state().asked = Some((ping, Instant::now()));
    }

    /// Takes an answer, and tells how long it took, if it is that of the last ping.
    pub(super) fn answered(&self, pong: &[u8]) -> Option<Duration> {
        let mut state = self.state();
        let (_, at) = state.asked.take_if(|(ping, _)| ping == pong)?;
        Some(at.elapsed())
    }

    /// Whether something waits to be taken: behind the rest of a frame, which it must not cut in
    /// two.
    pub(super) fn is_waiting(&self) -> bool {
        !self.state().bytes.is_empty()
    }

    /// Takes all that waits; pending where nothing does.
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
