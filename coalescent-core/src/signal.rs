//! A wake-up flag.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A resettable wake-up flag for one waiting task; cheaper than `Notify`.
///
/// Polling tokio's `Notify`, which supports many tasks, costs several times as much, and its wait
/// future takes memory as long as the wait lasts, which here is the lifetime of a connection.
#[derive(Debug, Default)]
pub(crate) struct Signal(Mutex<SignalState>);

#[derive(Debug, Default)]
struct SignalState {
    raised: bool,
    waiter: Option<Waker>,
}

impl Signal {
    fn state(&self) -> MutexGuard<'_, SignalState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the waiting task, or the next one to wait.
    pub(crate) fn raise(&self) {
        let waiter = {
            let mut state = self.state();
            state.raised = true;
            state.waiter.take()
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    /// Returns ready, and resets the flag, if the flag was raised since the last time. If several
    /// tasks poll, only the last one is woken.
    pub(crate) fn poll_raised(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if std::mem::take(&mut state.raised) {
            return Poll::Ready(());
        }
        match &mut state.waiter {
            Some(waiter) => waiter.clone_from(cx.waker()),
            waiter => *waiter = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;

    /// Polls the flag in a task.
    fn raised(signal: &Signal) -> task::Spawn<impl Future<Output = ()>> {
        task::spawn(std::future::poll_fn(|cx| signal.poll_raised(cx)))
    }

    #[test]
    fn a_raised_flag_is_reported_once() {
        let signal = Signal::default();
        let mut wait = raised(&signal);
        assert_pending!(wait.poll());
        signal.raise();
        assert!(wait.is_woken());
        assert_ready!(wait.poll());

        signal.raise();
        signal.raise();
        assert_ready!(raised(&signal).poll());
        assert_pending!(raised(&signal).poll());
    }

    #[test]
    fn the_last_task_to_poll_is_woken() {
        let signal = Signal::default();
        let mut first = raised(&signal);
        let mut last = raised(&signal);
        assert_pending!(first.poll());
        assert_pending!(last.poll());
        signal.raise();
        assert!(last.is_woken() && !first.is_woken());
    }
}
