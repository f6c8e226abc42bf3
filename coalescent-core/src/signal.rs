//! Waking a task.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Something that one task waits for, again and again, among much else.
///
/// Tokio's `Notify` does this for many tasks. Each time it is polled in vain it costs several times
/// as much as this, and the wait for it takes memory for as long as it lasts, which is here as long
/// as a connection.
#[derive(Debug, Default)]
pub(crate) struct Signal(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    raised: bool,
    waiter: Option<Waker>,
}

impl Signal {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the one who waits, or the next who will.
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

    /// Ready once it was raised since it was last ready. Where several wait, the last to ask is
    /// woken.
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

    /// Waits for it, as a task does.
    fn raised(signal: &Signal) -> task::Spawn<impl Future<Output = ()>> {
        task::spawn(std::future::poll_fn(|cx| signal.poll_raised(cx)))
    }

    #[test]
    fn is_found_raised_once_whether_or_not_it_was_waited_for() {
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
    fn wakes_who_asked_last() {
        let signal = Signal::default();
        let mut first = raised(&signal);
        let mut last = raised(&signal);
        assert_pending!(first.poll());
        assert_pending!(last.poll());
        signal.raise();
        assert!(last.is_woken() && !first.is_woken());
    }
}
