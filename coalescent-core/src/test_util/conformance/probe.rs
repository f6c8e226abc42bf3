//! The innermost service of a check, which observes how it is called.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tower_service::Service;

use crate::frame::Frame;
use crate::stack::reply::Reply;

/// The answer of a probe.
pub(super) const ANSWER: &[u8] = b"the probe's answer";

/// The innermost service, which the layer under test wraps.
///
/// All clones share one permit. Becoming ready takes it; it is released when the call finishes, or
/// when the response future or the ready service is dropped. A clone is not ready. The probe
/// records calls without readiness.
pub struct Probe {
    shared: Shared,
    permit: Option<Permit>,
}

/// The error of a [`Probe`] that is set to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeError;

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the probe was told to fail")
    }
}

impl std::error::Error for ProbeError {}

/// Whether the probe becomes ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    Pending,
    Fails,
}

/// The outcome of the probe's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Reply,
    Fails,
    Never,
}

/// The state that the clones of a probe share with the check.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<ProbeState>>);

struct ProbeState {
    readiness: Readiness,
    answer: Answer,
    /// Whether a service or a call holds the permit.
    taken: bool,
    in_flight: usize,
    called: usize,
    called_unready: usize,
    wakers: Vec<Waker>,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(ProbeState {
            readiness: Readiness::Ready,
            answer: Answer::Reply,
            taken: false,
            in_flight: 0,
            called: 0,
            called_unready: 0,
            wakers: Vec::new(),
        })))
    }

    pub(super) fn probe(&self) -> Probe {
        Probe {
            shared: self.clone(),
            permit: None,
        }
    }

    fn state(&self) -> MutexGuard<'_, ProbeState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut ProbeState) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        for waker in wakers {
            waker.wake();
        }
        result
    }

    pub(super) fn set_readiness(&self, readiness: Readiness) {
        self.change(|state| state.readiness = readiness);
    }

    pub(super) fn set_answer(&self, answer: Answer) {
        self.change(|state| state.answer = answer);
    }

    /// Returns whether a service or a call holds the permit.
    pub(super) fn is_taken(&self) -> bool {
        self.state().taken
    }

    pub(super) fn in_flight(&self) -> usize {
        self.state().in_flight
    }

    pub(super) fn called(&self) -> usize {
        self.state().called
    }

    pub(super) fn called_unready(&self) -> usize {
        self.state().called_unready
    }
}

/// The only permit, released when dropped.
struct Permit(Shared);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.change(|state| state.taken = false);
    }
}

impl Clone for Probe {
    fn clone(&self) -> Self {
        self.shared.probe()
    }
}

impl Service<Frame> for Probe {
    type Response = Reply;
    type Error = ProbeError;
    type Future = ProbeFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProbeError>> {
        if self.permit.is_some() {
            return Poll::Ready(Ok(()));
        }
        let mut state = self.shared.state();
        match state.readiness {
            Readiness::Fails => Poll::Ready(Err(ProbeError)),
            Readiness::Ready if !state.taken => {
                state.taken = true;
                drop(state);
                self.permit = Some(Permit(self.shared.clone()));
                Poll::Ready(Ok(()))
            }
            Readiness::Ready | Readiness::Pending => {
                state.wakers.push(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn call(&mut self, _frame: Frame) -> ProbeFuture {
        let permit = self.permit.take();
        let mut state = self.shared.state();
        state.called += 1;
        state.in_flight += 1;
        if permit.is_none() {
            state.called_unready += 1;
        }
        drop(state);
        ProbeFuture {
            running: Some(Running {
                shared: self.shared.clone(),
                _permit: permit,
            }),
        }
    }
}

/// The response future of a [`Probe`].
pub struct ProbeFuture {
    running: Option<Running>,
}

/// A call that has not finished.
struct Running {
    shared: Shared,
    _permit: Option<Permit>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.change(|state| state.in_flight -= 1);
    }
}

impl Future for ProbeFuture {
    type Output = Result<Reply, ProbeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(running) = &self.running else {
            panic!("a response future was polled after it was done");
        };
        let mut state = running.shared.state();
        let result = match state.answer {
            Answer::Reply => Ok(Reply::Payload(Bytes::from_static(ANSWER))),
            Answer::Fails => Err(ProbeError),
            Answer::Never => {
                state.wakers.push(cx.waker().clone());
                return Poll::Pending;
            }
        };
        drop(state);
        self.running = None;
        Poll::Ready(result)
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe")
            .field("ready", &self.permit.is_some())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ProbeFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeFuture")
            .field("done", &self.running.is_none())
            .finish()
    }
}
