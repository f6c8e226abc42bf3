//! A bench for checks: one layer's service around a probe, and the steps that checks consist of.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Wake};

use tower_service::Service;

use super::probe::Shared;
use super::{Check, Frames, TURNS};
use crate::error::{BoxError, report};
use crate::frame::Frame;
use crate::stack::reply::Reply;

/// A layer's service around a probe.
pub(super) struct Bench<'a, S> {
    pub(super) check: Check,
    pub(super) service: S,
    pub(super) shared: Shared,
    pub(super) frames: &'a Frames,
    pub(super) number: u64,
}

impl<S> Bench<'_, S>
where
    S: Service<Frame, Response = Reply, Error: Into<BoxError>>,
{
    pub(super) fn fail(&self, what: &str, advice: &str) -> ! {
        fail(self.check, what, advice)
    }

    /// Waits for readiness and returns the result; `None` if the service does not become ready.
    pub(super) async fn ready(&mut self) -> Option<Result<(), BoxError>> {
        for _ in 0..TURNS {
            let polled = std::future::poll_fn(|cx| Poll::Ready(self.service.poll_ready(cx))).await;
            if let Poll::Ready(result) = polled {
                return Some(result.map_err(Into::into));
            }
            tokio::task::yield_now().await;
        }
        None
    }

    pub(super) async fn must_be_ready(&mut self, when: &str) {
        match self.ready().await {
            Some(Ok(())) => {}
            Some(Err(error)) => self.fail(
                &format!("`poll_ready` fails {when}: {}", report(&*error)),
                "fail only where no frame can be handled any more",
            ),
            None if self.shared.is_taken() => self.fail(
                &format!("it does not become ready {when}: something still holds the permit"),
                "give a permit back by dropping the service that was made ready, or by calling it",
            ),
            None => self.fail(
                &format!("it does not become ready {when}"),
                "forward `poll_ready` to the inner service",
            ),
        }
    }

    pub(super) async fn must_be_unready(&mut self, whose: &str) {
        if let Some(Ok(())) = self.ready().await {
            self.fail(
                &format!("it is ready although {whose} is not"),
                "forward `poll_ready` to the inner service, each time",
            );
        }
    }

    pub(super) fn call(&mut self) -> Pin<Box<S::Future>> {
        self.number += 1;
        Box::pin(self.service.call((self.frames)(self.number)))
    }

    /// Calls the service, which must be ready, with a frame that must reach the probe and be
    /// answered.
    pub(super) async fn must_handle(&mut self) {
        let before = self.shared.called();
        let mut call = self.call();
        let result = finish(&mut call).await;
        self.check_unready();
        match self.shared.called() - before {
            0 => self.fail(
                "a frame that it was to let through did not get inside",
                "call the inner service, or give `frames` that the layer lets through",
            ),
            1 => {}
            _ => self.fail(
                "a frame got inside more than once",
                "call once for each frame",
            ),
        }
        if result.is_none() {
            self.fail(
                "a call is not done although what is inside is done with it",
                "poll the inner future with the context that was given",
            );
        }
    }

    pub(super) fn check_unready(&self) {
        if self.shared.called_unready() > 0 {
            fail(
                Check::ReadyFirst,
                "what is inside was called without having been made ready",
                "call the instance that was polled ready: a clone is not, so put the clone in its place and \
                 move the ready one (`std::mem::replace`)",
            );
        }
    }

    pub(super) async fn must_be_free(&mut self, when: &str) {
        turns().await;
        if self.shared.is_taken() {
            self.fail(
                &format!("a permit is held although {when}"),
                "drop the service that was made ready and not called, and go on with an unready clone",
            );
        }
    }
}

pub(super) fn fail(check: Check, what: &str, advice: &str) -> ! {
    panic!("the layer fails the check of {check}: {what}; {advice}")
}

/// Lets all other tasks run.
pub(super) async fn turns() {
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
}

/// Polls a call until it is done; returns `None` if it does not finish.
pub(super) async fn finish<F: Future>(call: &mut Pin<Box<F>>) -> Option<F::Output> {
    for _ in 0..TURNS {
        let polled = std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
        if let Poll::Ready(result) = polled {
            return Some(result);
        }
        tokio::task::yield_now().await;
    }
    None
}

#[derive(Default)]
pub(super) struct Woken(AtomicBool);

impl Woken {
    pub(super) fn is_woken(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}
