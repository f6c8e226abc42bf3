//! The service: asks for a verdict, and passes on inward what is accepted.

use std::fmt;
use std::task::{Context, Poll};
use std::time::Duration;

use coalescent_core::{BoxError, CloneService, Frame, Reply, Verdict};
use tower_service::Service;

use super::check::{Answer, Check};
use super::future::{ResponseFuture, Unwinding};

/// The service that [`Validate`](super::Validate) puts around one peer's stack.
#[derive(Clone)]
pub struct ValidateService<S, C> {
    inner: S,
    check: C,
    within: Duration,
}

impl<S, C> ValidateService<S, C> {
    pub(super) fn new(inner: S, check: C, within: Duration) -> Self {
        Self {
            inner,
            check,
            within,
        }
    }

    crate::macros::inner_accessors!(S);
}

impl<S, C> Service<Frame> for ValidateService<S, C>
where
    S: Service<Frame, Response = Reply, Error: Into<BoxError>> + CloneService,
    C: Check,
{
    type Response = Reply;
    type Error = BoxError;
    type Future = ResponseFuture<S, C::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    #[inline]
    fn call(&mut self, frame: Frame) -> Self::Future {
        let unwinding = Unwinding(&frame);
        let answer = self.check.check(&frame);
        unwinding.over();
        match answer {
            Answer::Now(verdict) => {
                frame.judge(verdict);
                if verdict == Verdict::Accept {
                    return ResponseFuture::handled(self.inner.call(frame));
                }
                crate::release(&mut self.inner);
                ResponseFuture::refused(&frame, verdict)
            }
            Answer::Later(check) => {
                let unready = self.inner.clone();
                let ready = std::mem::replace(&mut self.inner, unready);
                ResponseFuture::checked(check, frame, ready, self.within)
            }
        }
    }
}

impl<S: fmt::Debug, C> fmt::Debug for ValidateService<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValidateService")
            .field("inner", &self.inner)
            .field("within", &self.within)
            .finish_non_exhaustive()
    }
}
