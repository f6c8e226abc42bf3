//! The response future: the check, then the inner service.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use coalescent_core::{BoxError, Frame, Refusal, Reply, Verdict};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower_service::Service;

pin_project! {
    /// The response future of [`ValidateService`](super::ValidateService).
    pub struct ResponseFuture<S, C>
    where
        S: Service<Frame>,
    {
        #[pin]
        state: State<S, C, S::Future>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, C, F> {
        // The check runs.
        Checked {
            #[pin]
            check: C,
            waiting: Option<Waiting<S>>,
        },
        // The frame is accepted, and what is further in is not ready for it.
        Accepted {
            waiting: Option<Waiting<S>>,
        },
        Handled {
            #[pin]
            call: F,
        },
        // The inner service is not called. Whoever asks learns why.
        Refused {
            refusal: Option<Refusal>,
        },
    }
}

/// A frame that waits, and the service that it waits for.
struct Waiting<S> {
    frame: Frame,
    inner: S,
    /// Whether `inner` is ready, as it was when the frame came.
    ready: bool,
    within: Duration,
    /// Made when the check has to wait.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S, C> ResponseFuture<S, C>
where
    S: Service<Frame>,
{
    /// The frame is accepted, and handled by this call.
    #[inline]
    pub(super) fn handled(call: S::Future) -> Self {
        Self {
            state: State::Handled { call },
        }
    }

    /// The frame is not accepted.
    pub(super) fn refused(frame: &Frame, verdict: Verdict) -> Self {
        Self {
            state: State::Refused {
                refusal: refusal(frame, verdict),
            },
        }
    }

    /// The check decides about the frame. `inner` is ready for it.
    #[inline]
    pub(super) fn checked(check: C, frame: Frame, inner: S, within: Duration) -> Self {
        let waiting = Some(Waiting {
            frame,
            inner,
            ready: true,
            within,
            timer: None,
        });
        Self {
            state: State::Checked { check, waiting },
        }
    }
}

impl<S, C> Future for ResponseFuture<S, C>
where
    S: Service<Frame, Response = Reply, Error: Into<BoxError>> + Clone,
    C: Future<Output = Verdict>,
{
    type Output = Result<Reply, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProj::Handled { call } => return call.poll(cx).map_err(Into::into),
                StateProj::Refused { refusal } => {
                    return Poll::Ready(match refusal.take() {
                        Some(refusal) => Err(refusal.into()),
                        None => Ok(Reply::None),
                    });
                }
                StateProj::Checked { check, waiting } => {
                    let Some(waits) = waiting else {
                        return Poll::Ready(Ok(Reply::None));
                    };
                    let unwinding = Unwinding(&waits.frame);
                    let polled = check.poll(cx);
                    unwinding.over();
                    let Poll::Ready(verdict) = polled else {
                        ready!(waits.poll_late(cx));
                        return Poll::Ready(waits.too_late());
                    };
                    waits.frame.judge(verdict);
                    if verdict == Verdict::Accept {
                        State::Accepted {
                            waiting: waiting.take(),
                        }
                    } else {
                        let refusal = refusal(&waits.frame, verdict);
                        State::Refused { refusal }
                    }
                }
                StateProj::Accepted { waiting } => {
                    if let Some(waits) = waiting
                        && !waits.ready
                    {
                        ready!(waits.inner.poll_ready(cx)).map_err(Into::into)?;
                    }
                    let Some(Waiting {
                        frame, mut inner, ..
                    }) = waiting.take()
                    else {
                        return Poll::Ready(Ok(Reply::None));
                    };
                    State::Handled {
                        call: inner.call(frame),
                    }
                }
            };
            state.set(next);
        }
    }
}

impl<S: Clone> Waiting<S> {
    /// Returns when the check has taken too long. Others may use what the service was made ready
    /// with meanwhile.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ready {
            crate::release(&mut self.inner);
            self.ready = false;
        }
        let within = self.within;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(within)));
        timer.as_mut().poll(cx)
    }
}

impl<S> Waiting<S> {
    /// The check takes too long.
    fn too_late(&self) -> Result<Reply, BoxError> {
        self.frame.judge(Verdict::Retry);
        Err(format!("no verdict about a frame within {:?}", self.within).into())
    }
}

/// Returns what the sender of a request learns.
fn refusal(frame: &Frame, verdict: Verdict) -> Option<Refusal> {
    frame.is_request().then(|| {
        Refusal::new(match verdict {
            Verdict::Retry => "the request can't be judged now: try again later",
            Verdict::Reject(_) => "the request was rejected",
            _ => "the request was not accepted",
        })
    })
}

/// Ignores a frame whose check panics: a copy would make it panic again.
pub(super) struct Unwinding<'a>(pub(super) &'a Frame);

impl Unwinding<'_> {
    /// The check has not panicked.
    #[inline]
    pub(super) fn over(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unwinding<'_> {
    fn drop(&mut self) {
        self.0.judge(Verdict::Ignore);
    }
}

impl<S, C> fmt::Debug for ResponseFuture<S, C>
where
    S: Service<Frame>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Checked { .. } => "checked",
            State::Accepted { .. } => "accepted",
            State::Handled { .. } => "handled",
            State::Refused { .. } => "refused",
        };
        f.debug_struct("ResponseFuture")
            .field("state", &state)
            .finish_non_exhaustive()
    }
}
