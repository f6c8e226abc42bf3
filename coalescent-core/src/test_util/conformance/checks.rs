//! The checks of a layer, one method each.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Waker};

use tower_layer::Layer;
use tower_service::Service;

use super::bench::{Bench, Woken, fail, finish, turns};
use super::probe::{ANSWER, Answer, Probe, Readiness, Shared};
use super::{Check, Conformance};
use crate::error::BoxError;
use crate::frame::Frame;
use crate::stack::reply::Reply;

impl<L> Conformance<L>
where
    L: Layer<Probe>,
    L::Service: Service<Frame, Response = Reply, Error: Into<BoxError>>,
{
    pub(super) fn bench(&self, check: Check) -> Option<Bench<'_, L::Service>> {
        if self.without.contains(&check) {
            return None;
        }
        let shared = Shared::new();
        Some(Bench {
            check,
            service: self.layer.layer(shared.probe()),
            shared,
            frames: &self.frames,
            number: 0,
        })
    }

    pub(super) async fn ready_first(&self) {
        let Some(mut bench) = self.bench(Check::ReadyFirst) else {
            return;
        };
        for _ in 0..3 {
            bench.must_be_ready("with what is inside ready").await;
            // Polling again is allowed, and must not take a second permit.
            bench.must_be_ready("when asked twice").await;
            bench.must_handle().await;
        }
    }

    pub(super) async fn readiness(&self) {
        let Some(mut bench) = self.bench(Check::Readiness) else {
            return;
        };
        bench.shared.set_readiness(Readiness::Pending);
        bench.must_be_unready("what is inside").await;

        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let _ = bench.service.poll_ready(&mut Context::from_waker(&waker));
        bench.shared.set_readiness(Readiness::Ready);
        turns().await;
        if !woken.is_woken() {
            bench.fail(
                "its task is not woken when what is inside becomes ready",
                "poll the inner service with the context that was given",
            );
        }
        bench.must_be_ready("after what is inside became so").await;

        bench.shared.set_answer(Answer::Never);
        let mut call = bench.call();
        let _ = finish(&mut call).await;
        bench
            .must_be_unready("what is inside, which is busy with a call,")
            .await;
        drop(call);
        // If the layer's services share a limit, this one would block the next.
        drop(bench);

        let Some(mut bench) = self.bench(Check::Readiness) else {
            return;
        };
        bench.shared.set_readiness(Readiness::Fails);
        if !matches!(bench.ready().await, Some(Err(_))) {
            bench.fail(
                "`poll_ready` does not fail although what is inside does",
                "return the inner error: it says that no frame can be handled any more",
            );
        }
    }

    pub(super) async fn replies(&self) {
        let Some(mut bench) = self.bench(Check::Replies) else {
            return;
        };
        bench.must_be_ready("with what is inside ready").await;
        bench.shared.set_answer(Answer::Never);
        let mut call = bench.call();
        if finish(&mut call).await.is_some() {
            bench.fail(
                "a call is done before what is inside is done with it",
                "wait for the inner call, or leave this check out",
            );
        }
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let _ = call.as_mut().poll(&mut Context::from_waker(&waker));
        bench.shared.set_answer(Answer::Reply);
        turns().await;
        if !woken.is_woken() {
            bench.fail(
                "its task is not woken when the call inside is done",
                "poll the inner future with the context that was given",
            );
        }
        match finish(&mut call).await {
            Some(Ok(Reply::Payload(payload))) if payload == ANSWER => {}
            other => bench.fail(
                &format!(
                    "the reply of what is inside came out as {:?}",
                    other.map(Result::ok)
                ),
                "return the inner reply, or leave this check out where it is meant to be changed",
            ),
        }
    }

    pub(super) async fn errors(&self) {
        let Some(mut bench) = self.bench(Check::Errors) else {
            return;
        };
        bench.shared.set_answer(Answer::Fails);
        bench.must_be_ready("with what is inside ready").await;
        let mut call = bench.call();
        match finish(&mut call).await {
            Some(Err(_)) => {}
            Some(Ok(_)) => bench.fail(
                "an error of what is inside came out as a reply",
                "return the inner error, or leave this check out where it is meant to be handled",
            ),
            None => bench.fail("a call that failed inside is not done", "pass the error on"),
        }
        drop(call);
        bench.shared.set_answer(Answer::Reply);
        bench.must_be_ready("after a call that failed").await;
        bench.must_handle().await;
    }

    pub(super) async fn cancel(&self) {
        let Some(mut bench) = self.bench(Check::Cancel) else {
            return;
        };
        bench.shared.set_answer(Answer::Never);
        for polled in [false, true] {
            bench.must_be_ready("with what is inside ready").await;
            let mut call = bench.call();
            if polled && finish(&mut call).await.is_some() {
                bench.fail(
                    "a call is done before what is inside is done with it",
                    "wait for the inner call, or leave this check out",
                );
            }
            drop(call);
            turns().await;
            let in_flight = bench.shared.in_flight();
            if in_flight > 0 {
                bench.fail(
                    "the call inside goes on although its response future was dropped",
                    "run it in the response future, not in a task of its own",
                );
            }
        }
        bench.shared.set_answer(Answer::Reply);
        bench.must_be_ready("after calls that were dropped").await;
        bench.must_handle().await;
    }

    pub(super) async fn permits(&self) {
        let Some(mut bench) = self.bench(Check::Permits) else {
            return;
        };
        bench.must_be_ready("with what is inside ready").await;
        bench.must_handle().await;
        bench.must_be_free("a call is done").await;

        bench.shared.set_answer(Answer::Never);
        for polled in [false, true] {
            bench.must_be_ready("with what is inside ready").await;
            let mut call = bench.call();
            if polled {
                let _ = finish(&mut call).await;
            }
            drop(call);
            bench.must_be_free("its response future was dropped").await;
        }

        bench.must_be_ready("with what is inside ready").await;
        let Bench {
            check,
            service,
            shared,
            ..
        } = bench;
        drop(service);
        turns().await;
        if shared.is_taken() {
            fail(
                check,
                "a permit is held although the service that was ready is gone",
                "keep what was made ready in the service",
            );
        }
    }

    pub(super) async fn kept(&self) {
        let Some(keeps) = &self.keeps else { return };
        let Some(mut bench) = self.bench(Check::Kept) else {
            return;
        };
        // The kept frame may be a copy of an earlier one.
        bench.must_be_ready("with what is inside ready").await;
        bench.must_handle().await;
        for polled in [true, false] {
            bench.must_be_ready("with what is inside ready").await;
            let called = bench.shared.called();
            let mut call = Box::pin(bench.service.call(keeps(bench.number)));
            let result = if polled {
                finish(&mut call).await
            } else {
                None
            };
            if bench.shared.called() > called {
                bench.fail(
                    "a frame that it was to keep was passed on",
                    "give `keeps` frames that the layer keeps",
                );
            }
            if polled && result.is_none() {
                bench.fail(
                    "the call of a frame that is kept is not done",
                    "answer it, with `Reply::None` or an error",
                );
            }
            drop(call);
            bench.must_be_free("a frame was kept").await;
            bench.must_be_ready("after a frame was kept").await;
            bench.must_handle().await;
        }
    }
}
